"""The device that the network computes on."""

from __future__ import annotations

import math

import torch

# Below so many cells (rows times variables), "auto" is the CPU: to begin with a GPU takes seconds,
# and operations on few rows end before the next one has been started. Both limits are guesses, and
# have not been measured (docs/sizes.md).
FEWEST_CELLS_TO_FIT = 100_000
FEWEST_CELLS_TO_PASS = 2_000_000  # once through a fitted network, to be drawn or scored


def resolve_device(
    device: str | torch.device, n_cells: float = math.inf, fewest: int = FEWEST_CELLS_TO_FIT
) -> torch.device:
    """Return a torch device.

    Parameters
    ----------
    device : str or torch.device
        "auto" is a CUDA device if there is one and enough for it to do, else the CPU.
    n_cells : float, default=inf
        Rows times variables; matters to "auto" alone.
    fewest : int, default=FEWEST_CELLS_TO_FIT
        With fewer cells, "auto" is the CPU.

    Raises
    ------
    ValueError
        If the device cannot be used here; the message lists those that can.

    Examples
    --------
    >>> from sktvae._device import resolve_device
    >>> resolve_device("auto", n_cells=1000)
    device(type='cpu')
    """
    if isinstance(device, str) and device == "auto":
        has_gain = n_cells >= fewest and torch.cuda.is_available()
        return torch.device("cuda" if has_gain else "cpu")
    available = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        available.append("mps")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device={str(device)!r} cannot be used here ({reason}). Use 'auto' or one of "
            f"{available}."
        ) from error
    return resolved
