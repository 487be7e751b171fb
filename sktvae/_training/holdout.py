"""The rows that are held out to validate a fit."""

from __future__ import annotations

import torch

from sktvae._model.layout import Batch

# More rows than this would make a check slower and not appreciably more precise.
_MOST_HELD_OUT = 50_000


def split(rows: Batch, fraction: float, seed: int) -> tuple[Batch, Batch]:
    """Return training and validation rows, both in random order.

    Parameters
    ----------
    rows : Batch of B rows
    fraction : float
        Share of the rows that are held out: one row at least, and 50,000 at most.
    seed : int
    """
    order = torch.randperm(rows.n_rows, generator=torch.Generator().manual_seed(seed))
    n_held_out = max(1, min(int(fraction * rows.n_rows), _MOST_HELD_OUT))
    return rows.take(order[n_held_out:]), rows.take(order[:n_held_out])
