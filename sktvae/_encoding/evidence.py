"""What is known of the values of a column, by which it is routed."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from sktvae._encoding.category import are_texts
from sktvae._encoding.codec import FEWEST_ROWS_FOR_ADVICE
from sktvae._encoding.summary import ColumnSummary

# A column is taken for a key only in a table of at least this many rows.
_FEWEST_KEYS = 50


class Evidence(Protocol):
    """What the rules of routing may ask about the values of a column."""

    @property
    def is_empty(self) -> bool:
        """Whether no value is present."""

    def is_key(self, column: Any) -> bool:
        """Whether the column identifies the rows, see the function `is_key`."""

    def is_nearly_unique(self, min_samples: int) -> bool:
        """Whether the column is text with few repeats, see the function `is_nearly_unique`."""


@dataclass(frozen=True)
class EvidenceOfSeries:
    """A column as the user gave it."""

    series: pd.Series

    @property
    def is_empty(self) -> bool:
        return bool(self.series.isna().all())

    def is_key(self, column: Any) -> bool:
        return is_key(self.series, column)

    def is_nearly_unique(self, min_samples: int) -> bool:
        return is_nearly_unique(self.series, min_samples)


@dataclass(frozen=True)
class EvidenceOfSummary:
    """The summary of a plain column. If it is that of a sample, the column is judged by this."""

    summary: ColumnSummary

    @property
    def is_empty(self) -> bool:
        return not len(self.summary.values)

    def is_key(self, column: Any) -> bool:
        summary = self.summary
        n = summary.n_samples
        if n < _FEWEST_KEYS or column.has_fixed_categories or summary.missing:
            return False
        if (summary.rows > 1).any():
            return False
        if column.kind == "number":
            low, high = summary.values[0], summary.values[-1]
            return bool(column.whole and _are_consecutive(low, high, n, column.limits[1]))
        return column.kind == "category" and are_texts(summary.values[:1])

    def is_nearly_unique(self, min_samples: int) -> bool:
        summary = self.summary
        if summary.n_samples < FEWEST_ROWS_FOR_ADVICE or not len(summary.values):
            return False
        return are_texts(summary.values[:100]) and _repeat_little(summary.rows, min_samples)


def is_key(series: pd.Series, column: Any) -> bool:
    """Whether a column identifies the rows of a table of at least 50 rows.

    It does if it is text, or holds UUIDs, that differ in each row, or if it is a column of
    consecutive integers in any order, with a few gaps at most, and its dtype has room for as many
    new ones in a thousand tables.
    """
    if len(series) < _FEWEST_KEYS or column.has_fixed_categories:
        return False
    if column.kind == "number":
        if not column.whole or series.isna().any():
            return False
        if not series.iloc[:_FEWEST_KEYS].is_unique:
            return False  # as in most columns: the other rows need not be read
        values = column.read(series)
        n, low, high = len(values), values.min(), values.max()
        consecutive = _are_consecutive(low, high, n, column.limits[1])
        return consecutive and len(np.unique(values)) == n
    if column.kind != "category" or not isinstance(series.iloc[0], str | uuid.UUID):
        return False
    start = series.iloc[:_FEWEST_KEYS]
    return bool(start.is_unique and series.is_unique and not series.isna().any())


def is_nearly_unique(series: pd.Series, min_samples: int) -> bool:
    """Whether a column is an identifier or free text, with few repeats.

    It has at least a third as many different texts as rows, or most of its rows have a text that
    fewer than `min_samples` rows have.
    """
    present = series.dropna()
    if len(series) < FEWEST_ROWS_FOR_ADVICE or not len(present):
        return False
    if not are_texts(present.iloc[:100]):
        return False
    return _repeat_little(np.bincount(pd.factorize(present)[0]), min_samples)


def _are_consecutive(low: float, high: float, n: float, largest: float) -> bool:
    """Whether `n` different integers have few gaps, and there is room for more of them."""
    has_room = largest - high >= 1000 * n  # for new keys
    return bool(has_room and high - low < 1.1 * n)


def _repeat_little(rows: np.ndarray, min_samples: int) -> bool:
    """Whether values, of which each has some rows, are many, or rare for the most part."""
    n = rows.sum()
    return bool(len(rows) >= n / 3 or rows[rows < min_samples].sum() > n / 2)
