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

    Summaries of parts of a table can be merged, and do not depend on the order of the rows. Codecs
    learn from nothing else.

    Attributes
    ----------
    values : ndarray of shape (n_values,)
        Distinct values that are present, float64 for numbers and objects for categories, in
        ascending order; values that cannot be compared are in the order of their representations.
    counts : float64 ndarray of shape (n_values,)
        The number of rows of each value, or the sum of their weights.
    missing : float
        The number of rows without a value, or the sum of their weights.

    Examples
    --------
    >>> import numpy as np
    >>> from sktvae._encoding.summary import ColumnSummary
    >>> one = ColumnSummary.of_numbers(np.array([2.0, 1.0, np.nan, 2.0]))
    >>> one.values, one.counts, one.missing
    (array([1., 2.]), array([1., 2.]), 1.0)
    >>> one.merge(one).counts
    array([2., 4.])
    """

    values: np.ndarray
    counts: np.ndarray
    missing: float

    @classmethod
    def of_numbers(cls, column: np.ndarray, weight: np.ndarray | None = None) -> ColumnSummary:
        """Summarise float64 numbers, NaN where missing."""
        absent = np.isnan(column)
        if weight is None:
            values, counts = np.unique(column[~absent], return_counts=True)
            return cls(values, counts.astype(float), float(absent.sum()))
        values, codes = np.unique(column[~absent], return_inverse=True)
        counts = np.bincount(codes, weight[~absent], minlength=len(values))
        return cls(values, counts, float(weight[absent].sum()))

    @classmethod
    def of_categories(cls, column: pd.Series, weight: np.ndarray | None = None) -> ColumnSummary:
        """Summarise hashable values."""
        codes, values = pd.factorize(column)
        values = as_objects(values)
        order = _sorted_order(values)
        weight = np.ones(len(codes)) if weight is None else weight
        present = codes >= 0
        counts = np.bincount(codes[present], weight[present], minlength=len(values))
        return cls(values[order], counts[order], float(weight[~present].sum()))

    @property
    def n_samples(self) -> float:
        """The number of rows, or the sum of their weights."""
        return float(self.counts.sum() + self.missing)

    def merge(self, other: ColumnSummary) -> ColumnSummary:
        """Return the summary of the rows of both."""
        missing = self.missing + other.missing
        values = np.concatenate([self.values, other.values])
        counts = np.concatenate([self.counts, other.counts])
        if values.dtype == object:
            both = self.of_categories(pd.Series(values, dtype=object), counts)
        else:
            both = self.of_numbers(values, counts)
        return ColumnSummary(both.values, both.counts, missing)

    def at_ranks(self, ranks: Any) -> np.ndarray:
        """Return the numbers at these ranks (from 0) of the sorted column, without missing ones."""
        at = np.searchsorted(np.cumsum(self.counts), ranks, side="right")
        return self.values[np.minimum(at, len(self.values) - 1)]


def as_objects(values: Iterable) -> np.ndarray:
    """Return an object array of any values, tuples included."""
    values = list(values)
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def _sorted_order(values: np.ndarray) -> np.ndarray:
    try:
        return np.argsort(values, kind="stable")
    except TypeError:
        names = [f"{type(value).__name__} {value!r}" for value in values]
        return np.argsort(np.array(names, dtype=object), kind="stable")
