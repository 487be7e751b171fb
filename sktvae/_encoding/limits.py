"""`Limit`: the codes, and the positions within them, that satisfy a condition on a column."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Accepted:
    """What a column may hold, in plain values.

    Attributes
    ----------
    values : list
        Categories or numbers.
    ranges : list of tuple (low, high, closed)
        Ranges of numbers; `closed` is "left", "right", "both" or "neither".
    missing : bool
        Whether the value may be missing.
    """

    values: list = field(default_factory=list)
    ranges: list = field(default_factory=list)
    missing: bool = False


@dataclass
class Limit:
    """The part of the mass of each code that a condition accepts.

    Attributes
    ----------
    share : ndarray of shape (n_codes,) or (n_codes, n_fine_codes)
        In [0, 1], by the code of the first head, or by those of the first two heads.
    bins : int ndarray of shape (n_segments,)
        Accepted segments of positions, by the bin that they lie in, in ascending order.
    start, stop : ndarray of shape (n_segments,)
        The ends of each segment, in [0, 1].
    low, high : ndarray of shape (n_segments,)
        The numbers that a segment stands for lie between these; infinite for categories.
    """

    share: np.ndarray
    bins: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def place(self, bins: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return accepted positions, and the numbers between which they lie.

        Parameters
        ----------
        bins : int ndarray of shape (n_samples,)
            The bin of each row, -1 for none.
        u : ndarray of shape (n_samples,)
            Uniform numbers, which choose among the accepted positions of a bin.

        Returns
        -------
        position, low, high : ndarray of shape (n_samples,)
        """
        if not len(self.bins):  # every position of a code that is accepted is accepted
            bound = np.full(len(bins), np.inf)
            return u, -bound, bound
        length = self.stop - self.start
        until = np.cumsum(length)
        first = np.searchsorted(self.bins, bins, side="left")
        last = np.searchsorted(self.bins, bins, side="right") - 1
        inside = last >= first
        first, last = np.where(inside, first, 0), np.where(inside, last, 0)
        before = until[first] - length[first]
        target = before + u * (until[last] - before)
        segment = np.clip(np.searchsorted(until, target, side="right"), first, last)
        within = np.clip(target - (until - length)[segment], 0, length[segment])
        return (
            np.where(inside, self.start[segment] + within, u),
            np.where(inside, self.low[segment], -np.inf),
            np.where(inside, self.high[segment], np.inf),
        )


def merged_ranges(ranges: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the union of closed ranges, in ascending order.

    Examples
    --------
    >>> from sktvae._encoding.limits import merged_ranges
    >>> merged_ranges([(5, 7), (1, 2), (6, 9)])
    [(1, 2), (5, 9)]
    """
    merged: list[tuple[float, float]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return merged
