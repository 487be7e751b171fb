"""The rows that are held out to validate a fit."""

from __future__ import annotations

import torch

from sktvae._model.layout import Batch
from sktvae._training.disk import RowsOnDisk

# More rows than this would make a check slower and not appreciably more precise.
_MOST_HELD_OUT = 50_000


def split(rows: Batch | RowsOnDisk, fraction: float, seed: int) -> tuple[Batch | RowsOnDisk, Batch]:
    """Return training and validation rows, both in random order.

    Parameters
    ----------
    rows : Batch or RowsOnDisk of B rows
        Those on disk are in random order already: the first ones are held out, in memory.
    fraction : float
        Share of the rows that are held out: one row at least, and 50,000 at most.
    seed : int
        Not used for rows on disk.
    """
    n_held_out = max(1, min(int(fraction * rows.n_rows), _MOST_HELD_OUT))
    if isinstance(rows, RowsOnDisk):
        return rows.after(n_held_out), rows.rows(slice(n_held_out))
    order = torch.randperm(rows.n_rows, generator=torch.Generator().manual_seed(seed))
    return rows.take(order[n_held_out:]), rows.take(order[:n_held_out])
