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
    slack : float, default=0
        Of two models whose losses differ by at most this, the later one is kept.

    Attributes
    ----------
    best : float
        The lowest loss so far.
    """

    def __init__(self, n_iter_no_change: int, tol: float, slack: float = 0.0):
        self.n_iter_no_change, self.tol, self.slack = n_iter_no_change, tol, slack
        self.best = math.inf
        self._n_waited = 0

    def update(self, loss: float) -> bool:
        """Record a loss; return whether its weights are the ones to keep.

        They are if the loss is the lowest so far, whether or not it is lower by `tol`, or higher
        than that by at most `slack`.
        """
        self._n_waited = 0 if loss < self.best - self.tol else self._n_waited + 1
        is_kept = loss < self.best + self.slack
        self.best = min(self.best, loss)
        return is_kept

    @property
    def should_stop(self) -> bool:
        """Whether the last `n_iter_no_change` checks were without an improvement."""
        return self._n_waited >= self.n_iter_no_change
