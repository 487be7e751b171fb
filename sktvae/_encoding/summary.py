"""`ColumnSummary`: everything that a codec learns about a column."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class ColumnSummary:
    """The distinct values of a column and how many rows have each of them.

    It does not depend on the order of the rows. Codecs learn from nothing else. Of a table that is
    read piece by piece, `sktvae._encoding.accumulation` makes it.

    Attributes
    ----------
    values : ndarray of shape (n_values,)
        Distinct values that are present, float64 for numbers and objects for categories, in
        ascending order; values that cannot be compared are in the order of their representations.
    counts : float64 ndarray of shape (n_values,)
        The number of rows of each value, or the sum of their weights.
    missing : float
        The number of rows without a value, or the sum of their weights.
    rows : float64 ndarray of shape (n_values,)
        The number of rows of each value: as `counts` if the weights are integers, which stand for
        repeated rows, and else the number of records. It says whether a value repeats.
    sampled : bool
        Whether values are those of a sample of rows, so that `rows` are some of the rows of each
        value (all of them at the ends of a column of numbers), and `counts` are estimates.

    Examples
    --------
    >>> import numpy as np
    >>> from sktvae._encoding.summary import ColumnSummary
    >>> one = ColumnSummary.of_numbers(np.array([2.0, 1.0, np.nan, 2.0]))
    >>> one.values, one.counts, one.missing
    (array([1., 2.]), array([1., 2.]), 1.0)
    """

    values: np.ndarray
    counts: np.ndarray
    missing: float
    rows: np.ndarray
    sampled: bool = False

    @classmethod
    def of_numbers(cls, column: np.ndarray, weight: np.ndarray | None = None) -> ColumnSummary:
        """Summarise float64 numbers, NaN where missing."""
        absent = np.isnan(column)
        if weight is None:
            values, records = np.unique(column[~absent], return_counts=True)
            counts = records.astype(float)
            return cls(values, counts, float(absent.sum()), counts)
        values, codes = np.unique(column[~absent], return_inverse=True)
        counts = np.bincount(codes, weight[~absent], minlength=len(values))
        rows = counts if _are_integers(weight) else np.bincount(codes, minlength=len(values))
        return cls(values, counts, float(weight[absent].sum()), rows.astype(float))

    @classmethod
    def of_categories(cls, column: pd.Series, weight: np.ndarray | None = None) -> ColumnSummary:
        """Summarise hashable values."""
        codes, values = pd.factorize(column)
        values = as_objects(values)
        order = sorted_order(values)
        weight = np.ones(len(codes)) if weight is None else weight
        present = codes >= 0
        counts = np.bincount(codes[present], weight[present], minlength=len(values))
        rows = np.bincount(codes[present], minlength=len(values)).astype(float)
        rows = counts if _are_integers(weight) else rows
        return cls(values[order], counts[order], float(weight[~present].sum()), rows[order])

    @property
    def n_samples(self) -> float:
        """The number of rows, or the sum of their weights."""
        return float(self.counts.sum() + self.missing)

    @property
    def mass(self) -> np.ndarray:
        """What each value weighs among its neighbours: its rows, or their estimated number."""
        return self.counts if self.sampled else self.rows

    @property
    def looked_at(self) -> np.ndarray:
        """How often each value was found among the rows that were looked at."""
        return self.rows if self.sampled else self.counts

    def at_ranks(self, ranks: Any, counts: np.ndarray | None = None) -> np.ndarray:
        """Return the numbers at these ranks of the sorted column, without missing ones.

        Parameters
        ----------
        ranks : array-like
            From 0 on.
        counts : ndarray of shape (n_values,), default=None
            How often each value occurs; None is `self.counts`.
        """
        counts = self.counts if counts is None else counts
        at = np.searchsorted(np.cumsum(counts), ranks, side="right")
        return self.values[np.minimum(at, len(self.values) - 1)]


def estimated_richness(rows: np.ndarray) -> float:
    """Estimate how many different values there are, those included that did not occur.

    The bias-corrected estimator of Chao (1984): as many as were observed, and
    ``f1 (f1 - 1) / (2 (f2 + 1))`` more, where ``f1`` and ``f2`` values occurred once and twice.

    Parameters
    ----------
    rows : ndarray of shape (n_values,)
        How often each value occurred.

    Examples
    --------
    >>> import numpy as np
    >>> from sktvae._encoding.summary import estimated_richness
    >>> estimated_richness(np.array([9, 7, 5])), estimated_richness(np.array([1, 1, 1, 2]))
    (3.0, 5.5)
    """
    once, twice = (rows <= 1).sum(), ((rows > 1) & (rows <= 2)).sum()
    return float(len(rows) + once * (once - 1) / (2 * (twice + 1)))


def _are_integers(weight: np.ndarray) -> bool:
    return bool((weight == np.rint(weight)).all())


def as_objects(values: Iterable) -> np.ndarray:
    """Return an object array of any values, tuples included."""
    values = list(values)
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def sorted_order(values: np.ndarray) -> np.ndarray:
    """Return the order of the values of a summary, ascending or by their representations."""
    try:
        return np.argsort(values, kind="stable")
    except TypeError:
        names = [f"{type(value).__name__} {value!r}" for value in values]
        return np.argsort(np.array(names, dtype=object), kind="stable")
