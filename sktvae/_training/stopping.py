"""When to stop: the best loss so far, and the patience left."""

from __future__ import annotations

import math


class EarlyStopping:
    """Follow a loss from check to check.

    Parameters
    ----------
    n_iter_no_change : int
        Stop after so many consecutive checks without an improvement.
    tol : float
        A loss improves if it is lower than the best one by more than this.

    Attributes
    ----------
    best : float
        The lowest loss so far.
    """

    def __init__(self, n_iter_no_change: int, tol: float):
        self.n_iter_no_change, self.tol = n_iter_no_change, tol
        self.best = math.inf
        self._n_waited = 0

    def update(self, loss: float) -> bool:
        """Record a loss; return whether it is the lowest so far.

        A loss may be the lowest, and its weights the ones to keep, without being lower by `tol`.
        """
        self._n_waited = 0 if loss < self.best - self.tol else self._n_waited + 1
        lowest = loss < self.best
        self.best = min(self.best, loss)
        return lowest

    @property
    def should_stop(self) -> bool:
        """Whether the last `n_iter_no_change` checks were without an improvement."""
        return self._n_waited >= self.n_iter_no_change
