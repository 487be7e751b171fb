"""Summaries of columns that are read piece by piece: exact, or of a uniform sample of rows.

A codec has to know which values repeat, and how often: values that stand out keep their mass, and
what is kept rests on several rows. A sketch of quantiles, such as KLL (Karnin, Lang and Liberty
2016), does not say this; the counts of all distinct values do, and so does a sample of rows. So
the distinct values of a column are counted as long as there are not too many of them, and beyond
that the column is known by a sample of its rows, and by its exact ends. The sample is chosen by a
hash of the number of each row. It is therefore the same for all columns, and does not depend on
where the table is cut into pieces.

The share of a stretch of numbers among the rows is exact to 0.1 % (its standard error is at most
0.0007 with 2**19 rows), while a bin of a codec holds 0.2 % of the rows or more. In a table of 1,000
columns, of which each is known by 2**15 rows at least, it is exact to 0.3 %.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from sktvae._encoding.summary import ColumnSummary, as_objects, sorted_order

# Numbers: the most distinct values that are counted, and the most rows in the sample.
MOST_NUMBERS = 2**20
# Categories, whose values take more memory.
MOST_CATEGORIES = 2**18
# Tables of more columns than this count fewer values of each, down to this share.
_COLUMNS_IN_FULL, _LEAST_SHARE = 64, 1 / 16
# So many of the lowest and of the highest numbers of a column are always known.
ROWS_IN_TAIL = 1000
# Summaries of pieces wait until they have as many values as this, or as there are already.
_FEWEST_WAITING = 2**16


def row_levels(first: int, n_rows: int, rank: int = 0) -> np.ndarray:
    """Return the level of each row: a row in `2**k` has level `k` or more.

    Parameters
    ----------
    first : int
        The number of the first row in the table (of this rank).
    n_rows : int
    rank : int, default=0
        The rank of the process that reads the rows.

    Returns
    -------
    levels : uint8 ndarray of shape (n_rows,)
        They follow from the numbers of the rows by the hash of SplitMix64 (Steele, Lea and Flood
        2014).
    """
    with np.errstate(over="ignore"):
        x = np.arange(first + 1, first + n_rows + 1, dtype=np.uint64)
        x = (x + (np.uint64(rank) << np.uint64(44))) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return (64 - np.frexp(x.astype(float))[1]).clip(0, 64).astype(np.uint8)


def share_of_limits(n_columns: int) -> float:
    """Return by how much less of each column is kept in a table of many columns."""
    return min(1.0, max(_COLUMNS_IN_FULL / n_columns, _LEAST_SHARE))


class RowSample:
    """The values of the rows of the highest levels, at most `limit` of them.

    Attributes
    ----------
    values : ndarray of shape (n_sampled,)
    level : int
        All rows of at least this level are in the sample.
    """

    def __init__(self, limit: int, dtype: Any):
        self.limit, self.level, self._n = limit, 0, 0
        self._values, self._levels = np.empty(0, dtype), np.empty(0, np.uint8)

    @property
    def values(self) -> np.ndarray:
        return self._values[: self._n]

    @values.setter
    def values(self, values: np.ndarray) -> None:
        self._values, self._levels = values, self._levels[: self._n]

    def takes(self, levels: np.ndarray) -> np.ndarray:
        """Return which rows belong to the sample as far as is known."""
        return levels >= self.level

    def add(self, values: np.ndarray, levels: np.ndarray) -> None:
        """Add the rows of a piece that belong to the sample."""
        kept = levels >= self.level
        self._append(values[kept], levels[kept])
        if self._n > self.limit:
            self._thin()

    def merge(self, other: RowSample) -> None:
        """Add the rows of another sample."""
        self.level = max(self.level, other.level)
        self._keep(self._levels[: self._n] >= self.level)
        self.add(other.values, other._levels[: other._n])

    def compact(self) -> None:
        """Give back memory that is not needed as long as no row comes in."""
        self._values = self._values[: self._n].copy()
        self._levels = self._levels[: self._n].copy()

    def _append(self, values: np.ndarray, levels: np.ndarray) -> None:
        n = self._n + len(values)
        if n > len(self._values):
            room = max(n, min(2 * len(self._values), self.limit), 64)
            for name in ("_values", "_levels"):
                old = getattr(self, name)
                new = np.empty(room, old.dtype)
                new[: self._n] = old[: self._n]
                setattr(self, name, new)
        self._values[self._n : n], self._levels[self._n : n] = values, levels
        self._n = n

    def _thin(self) -> None:
        levels = self._levels[: self._n]
        at_least = np.bincount(levels, minlength=66)[::-1].cumsum()[::-1]
        self.level = int(np.argmax(at_least <= self.limit))
        self._keep(levels >= self.level)

    def _keep(self, rows: np.ndarray) -> None:
        n = int(rows.sum())
        for array in (self._values, self._levels):
            array[:n] = array[: self._n][rows]
        self._n = n


class _Numbers:
    """What is known of the numbers of a column that are present."""

    def __init__(self, share: float) -> None:
        self.n_rows = 0
        self.counted: tuple[np.ndarray, np.ndarray] | None = np.empty(0), np.empty(0)
        self.sample = RowSample(int(share * MOST_NUMBERS), float)
        self.low, self.high = (np.empty(0), np.empty(0)), (np.empty(0), np.empty(0))
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self._n_waiting = 0

    def add(self, values: np.ndarray, levels: np.ndarray) -> None:
        """Add the numbers of a piece, and the levels of their rows."""
        self.n_rows += len(values)
        self.sample.add(values, levels)
        if self.counted is None:
            self._add_to_tails(values + 0.0, np.ones(len(values)))
            return
        distinct, rows = np.unique(values + 0.0, return_counts=True)  # there is no -0.0
        self._wait(distinct, rows.astype(float))

    def merge(self, other: _Numbers) -> None:
        """Add the numbers that another process has read."""
        self.n_rows += other.n_rows
        self.sample.merge(other.sample)
        for one in (self, other):
            one.settle()
        if other.counted is not None and self.counted is not None:
            self._wait(*other.counted)
            self.settle()
            return
        for one in (self, other):
            one._stop_counting()
        for values, rows in (other.low, other.high):
            self._add_to_tails(values, rows)

    def converted(self, function: Any) -> None:
        """Apply an increasing function to all numbers."""
        self.settle()
        if self.counted is not None:
            self.counted = function(self.counted[0]), self.counted[1]
        self.sample.values = function(self.sample.values)
        self.low, self.high = ((function(v), rows) for v, rows in (self.low, self.high))

    def settle(self) -> None:
        """Count what is waiting."""
        if not self._waiting or self.counted is None:
            return
        self.counted = _totals([self.counted, *self._waiting])
        self._waiting, self._n_waiting = [], 0
        if len(self.counted[0]) > self.sample.limit:
            self._stop_counting()

    def compact(self) -> None:
        self.settle()
        self.sample.compact()

    def summary(self, n_missing: int) -> ColumnSummary:
        self.settle()
        if self.counted is not None:
            values, rows = self.counted
            return ColumnSummary(values, rows, float(n_missing), rows)
        (low, low_rows), (high, high_rows) = self.low, self.high
        beyond = high > low[-1]  # in a small table the ends may overlap
        high, high_rows = high[beyond], high_rows[beyond]
        sampled = self.sample.values
        inner = (sampled > low[-1]) & (sampled < high.min(initial=np.inf))
        values, rows = np.unique(sampled[inner], return_counts=True)
        n_inner = self.n_rows - low_rows.sum() - high_rows.sum()
        counts = rows * (n_inner / max(rows.sum(), 1))
        return ColumnSummary(
            np.concatenate([low, values, high]),
            np.concatenate([low_rows, counts, high_rows]),
            float(n_missing),
            np.concatenate([low_rows, rows.astype(float), high_rows]),
            sampled=True,
        )

    def _wait(self, values: np.ndarray, rows: np.ndarray) -> None:
        assert self.counted is not None
        self._waiting.append((values, rows))
        self._n_waiting += len(values)
        if self._n_waiting >= max(len(self.counted[0]), _FEWEST_WAITING):
            self.settle()

    def _stop_counting(self) -> None:
        if self.counted is not None:
            values, rows = self.counted
            self.counted = None
            self._add_to_tails(values, rows)

    def _add_to_tails(self, values: np.ndarray, rows: np.ndarray) -> None:
        """Add numbers to the lowest and to the highest ones, each of which is complete."""
        for name, sign in (("low", 1), ("high", -1)):
            own, own_rows = getattr(self, name)
            if own_rows.sum() >= ROWS_IN_TAIL:
                near = sign * values <= sign * own[-1 if sign > 0 else 0]
                if not near.any():
                    continue
                new = values[near], rows[near]
            else:
                new = values, rows
            own, own_rows = _totals([(own, own_rows), new])
            own, own_rows = own[::sign], own_rows[::sign]
            n = int(np.searchsorted(np.cumsum(own_rows), ROWS_IN_TAIL)) + 1
            setattr(self, name, (own[:n][::sign].copy(), own_rows[:n][::sign].copy()))


class _Categories:
    """What is known of the categories of a column that are present."""

    def __init__(self, share: float) -> None:
        self.n_rows = 0
        self.is_counted = True
        self.sample = RowSample(int(share * MOST_CATEGORIES), np.int32)
        self.longest: str | None = None  # the longest text, for keys that go on after it
        self._index: dict = {}  # the position of each value
        self._rows = np.zeros(64)

    def add(self, column: pd.Series, levels: np.ndarray) -> None:
        """Add the categories of a piece, and the levels of their rows."""
        self.n_rows += len(column)
        if not self.is_counted:
            self._lengthen(column)
            taken = self.sample.takes(levels)
            column, levels = column[taken], levels[taken]
        codes, values = pd.factorize(column)
        places = self._places(as_objects(values))
        if self.is_counted:
            np.add.at(self._rows, places, np.bincount(codes, minlength=len(places)))
        self.sample.add(places[codes], levels)
        self._limit()

    def merge(self, other: _Categories) -> None:
        """Add the categories that another process has read."""
        self.n_rows += other.n_rows
        if not other.is_counted:
            self._stop_counting()
            self._lengthen([other.longest])
        if not self.is_counted:
            self._lengthen(other._index)
        places = self._places(other._index)
        if self.is_counted:
            np.add.at(self._rows, places, other._rows[: len(places)])
        other.sample.values = places[other.sample.values]
        self.sample.merge(other.sample)
        self._limit()

    def compact(self) -> None:
        self.sample.compact()
        self._rows = self._rows[: len(self._index)].copy()

    def summary(self, n_missing: int) -> ColumnSummary:
        if self.longest is not None:
            self._places([self.longest])
        values = as_objects(self._index)
        order = sorted_order(values)
        if self.is_counted:
            rows = self._rows[order]
            return ColumnSummary(values[order], rows, float(n_missing), rows)
        rows = np.bincount(self.sample.values, minlength=len(values)).astype(float)
        counts = rows * (self.n_rows / rows.sum())
        if self.longest in self._index:
            i = self._index[self.longest]
            rows[i], counts[i] = max(rows[i], 1), max(counts[i], 1)
        kept = order[rows[order] > 0]
        values, rows, counts = values[kept], rows[kept], counts[kept]
        return ColumnSummary(values, counts, float(n_missing), rows, sampled=True)

    def _places(self, values: Any) -> np.ndarray:
        """Return the position of each value, which is new if the value is."""
        index = self._index
        places = [index.setdefault(value, len(index)) for value in values]
        if len(index) > len(self._rows) and self.is_counted:
            self._rows = np.append(self._rows, np.zeros(len(index)))
        return np.array(places, dtype=np.int32)

    def _limit(self) -> None:
        """Forget values that are in no row of the sample, if there are too many values."""
        if self.is_counted and len(self._index) > self.sample.limit:
            self._stop_counting()
        elif len(self._index) > 2 * self.sample.limit:
            self._forget()

    def _stop_counting(self) -> None:
        if self.is_counted:
            self.is_counted, self._rows = False, np.empty(0)
            self._lengthen(self._index)
            self._forget()

    def _lengthen(self, values: Iterable) -> None:
        """Find the longest text, and among texts as long the last one in alphabetical order."""
        texts = [value for value in values if isinstance(value, str)]
        texts += [] if self.longest is None else [self.longest]
        length = max(map(len, texts), default=0)
        self.longest = max((text for text in texts if len(text) == length), default=None)

    def _forget(self) -> None:
        kept, codes = np.unique(self.sample.values, return_inverse=True)
        values = as_objects(self._index)[kept]
        self._index = {value: i for i, value in enumerate(values)}
        self.sample.values = codes.astype(np.int32)


class ColumnAccumulator:
    """The summary of a column that is read piece by piece; see the module.

    Its result does not depend on where the column is cut into pieces.

    Parameters
    ----------
    n_columns : int, default=1
        The number of columns of the table. If there are more than 64, fewer values of each are
        counted, so that all of them together fit in memory.

    Examples
    --------
    >>> import numpy as np
    >>> from sktvae._encoding.accumulation import ColumnAccumulator, row_levels
    >>> column = ColumnAccumulator()
    >>> column.add(np.array([2.0, np.nan]), row_levels(0, 2))
    >>> column.add(np.array([1.0, 2.0]), row_levels(2, 2))
    >>> summary = column.summary()
    >>> summary.values, summary.counts, summary.missing
    (array([1., 2.]), array([1., 2.]), 1.0)
    """

    def __init__(self, n_columns: int = 1) -> None:
        self.n_missing = 0
        self._share = share_of_limits(n_columns)
        self._present: _Numbers | _Categories | None = None  # nothing so far

    def add(self, plain: Any, levels: np.ndarray) -> None:
        """Add a piece of a plain column, and the level of each row.

        Categories and numbers do not go together.
        """
        present = ~np.asarray(pd.isna(plain), dtype=bool)
        n_present = int(present.sum())
        self.n_missing += len(present) - n_present
        if not n_present:
            return
        if n_present < len(present):
            plain, levels = plain[present], levels[present]
        is_category = isinstance(plain, pd.Series)
        if self._present is None:
            self._present = (_Categories if is_category else _Numbers)(self._share)
        self._present.add(plain, levels)

    def merge(self, other: ColumnAccumulator) -> None:
        """Add the rows of another accumulator, which is of no use any more."""
        self.n_missing += other.n_missing
        if self._present is None:
            self._present = other._present
        elif other._present is not None:
            self._present.merge(other._present)  # type: ignore[arg-type]

    def converted(self, function: Any) -> None:
        """Apply an increasing function to all numbers."""
        if isinstance(self._present, _Numbers):
            self._present.converted(function)

    def compact(self) -> None:
        """Make the accumulator as small as it can be, before it is sent to other processes."""
        if self._present is not None:
            self._present.compact()

    def summary(self) -> ColumnSummary:
        """Return the summary of all rows that were added."""
        if self._present is None:
            nothing = np.empty(0)
            return ColumnSummary(nothing, nothing, float(self.n_missing), nothing)
        return self._present.summary(self.n_missing)


def _totals(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct values of several parts, in ascending order, and their rows."""
    values, rows = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.argsort(values, kind="stable")  # merges runs that are sorted already
    values, rows = values[order], rows[order]
    if not len(values):
        return values, rows
    first = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
    return values[first], np.add.reduceat(rows, first)
