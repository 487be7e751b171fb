"""The device that the network computes on."""

from __future__ import annotations

import torch


def resolve_device(device: str | torch.device) -> torch.device:
    """Return a torch device.

    Parameters
    ----------
    device : str or torch.device
        "auto" is a CUDA device if there is one, else the CPU.

    Raises
    ------
    ValueError
        If the device cannot be used here; the message lists those that can.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
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
