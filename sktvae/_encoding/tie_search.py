"""The search for ties: which columns often follow from earlier ones, or are near them.

Each column is compared with all before it. That most pairs have nothing to do with each other is
seen by counting, which is fast; only the others are looked at more closely.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from sktvae._encoding.accumulation import RowSample, row_levels, share_of_limits
from sktvae._encoding.columns import related_columns
from sktvae._encoding.quantile import QuantileCodec
from sktvae._encoding.relations import Relation
from sktvae._encoding.ties import Source, Tie
from sktvae._table.column import Column
from sktvae._table.schema import TableSchema

# Rows among which ties are looked for; fewer in a table of many columns.
_MOST_ROWS = 2**14
# Numbers must be equal in at least this share of the rows, and so many times as often as if the two
# columns were independent of each other. If a number follows by a constant instead, this must hold
# in at least the second share.
_LEAST_SHARE, _LEAST_LIFT = 0.01, 3
_LEAST_SHARE_OF_SHIFTS = 0.1
# The fewest rows of the table, and of those that are looked at, that a tie may rest on; there must
# be more of those that are near, which have more codes. With fewer, the model would know its
# training rows from others (docs/benchmarks.md, "Ties").
_FEWEST_ROWS, _FEWEST_SEEN, _TIMES_AS_MANY_NEAR = 150, 20, 4
_MOST_SOURCES = 4
# Values that are more frequent than this do not count: the network learns each of them.
_FREQUENT = 0.05
# Pairs of rows by which shifts are looked for, and the fewest in a table of many columns.
_N_PAIRS, _FEWEST_PAIRS = 4000, 1000
# Rounding errors of computed numbers, relative to the length of their column's range.
_ROUNDING = 2e-9
# A column is near another one if their distance is at most this in at least that share of the rows.
_CLOSE, _LEAST_CLOSE = 1 / 256, 0.05
# The rows in which candidates are compared first, the fewest of these in a table of many columns,
# and how many candidates are then compared in all rows.
_SCREENED_ROWS, _FEWEST_SCREENED, _N_SCREENED = 500, 100, 3
# Numbers that are compared at once, so that they stay in the cache of the processor.
_AT_ONCE = 2**16


def number_sample(n_columns: int, dtype: Any = float) -> RowSample:
    """Return an empty sample of the rows in which ties are looked for.

    Which rows it takes follows from their levels alone, so that samples of several columns are of
    the same rows.
    """
    return RowSample(int(share_of_limits(n_columns) * _MOST_ROWS), dtype)


def ties_of(
    frame: pd.DataFrame,
    schema: TableSchema,
    codecs: Sequence[Any],
    relations: Sequence[Relation],
    min_samples: int,
    weight: np.ndarray | None,
) -> dict[int, Tie]:
    """Return the ties of a table in memory, see `find_ties`."""
    sample = number_sample(len(codecs), np.int64)
    sample.add(np.arange(len(frame)), row_levels(0, len(frame)))
    rows = sample.values
    numbers = {
        i: schema.columns[i].read(frame.iloc[rows, i])
        for i in can_be_tied(schema, codecs, relations)
    }
    seen = None if weight is None else weight[rows]
    return find_ties(schema, codecs, numbers, min_samples, len(frame), seen)


def can_be_tied(
    schema: TableSchema, codecs: Sequence[Any], relations: Sequence[Relation]
) -> list[int]:
    """Return the positions of columns of numbers or times that are part of no relation.

    If each code is one number, codes tell which numbers are equal, and there is no tie.
    """
    related = related_columns(schema, relations)
    return [
        i
        for i, (column, codec) in enumerate(zip(schema.columns, codecs, strict=True))
        if column.is_numeric
        and isinstance(codec, QuantileCodec)
        and i not in related
        and not codec.is_exact
    ]


@np.errstate(over="ignore", invalid="ignore")  # differences of numbers near the largest float
def find_ties(
    schema: TableSchema,
    codecs: Sequence[Any],
    numbers: Mapping[int, np.ndarray],
    min_samples: int,
    n_rows: int,
    weight: np.ndarray | None = None,
) -> dict[int, Tie]:
    """Return ties, by the position of the tied column.

    Parameters
    ----------
    schema : TableSchema
    codecs : list of codec or None
        Fitted, one per column.
    numbers : dict of int to ndarray of shape (n_sampled,)
        The plain columns that can be tied, in the same rows, none of which has weight 0.
    min_samples : int
        The fewest rows that a tie may rest on; it is 150 at least.
    n_rows : int
        Of the table.
    weight : ndarray of shape (n_sampled,), default=None
        How many rows each of them counts for.
    """
    alike: dict[tuple, list[int]] = {}
    for i in sorted(numbers):
        if len(numbers[i]):
            alike.setdefault(_unit(schema.columns[i]), []).append(i)
    n_pairs = max(_FEWEST_PAIRS, int(share_of_limits(len(schema.columns)) * _N_PAIRS))
    ties = {}
    for (kind, *_), at in alike.items():
        table = np.stack([numbers[i] for i in at])
        mass = np.ones(table.shape[1]) if weight is None else weight
        pairs = np.random.default_rng(0).integers(0, table.shape[1], (2, n_pairs))
        fewest = max(_FEWEST_ROWS, min_samples) * table.shape[1] / n_rows
        fewest = max(_FEWEST_SEEN, fewest)
        search = _Search(table, [codecs[i] for i in at], mass, fewest, pairs)
        for k in range(1, len(at)):
            sources, near = search.found(k, shifts=kind == "number")
            if sources or near is not None:
                sources = [replace(source, column=at[source.column]) for source in sources]
                tie = Tie(at[k], tuple(sources), None if near is None else at[near])
                gaps = any(codecs[i].missing_ for i in tie.positions)
                ties[at[k]] = replace(tie, can_be_missing=gaps)
    return dict(sorted(ties.items()))


def _unit(column: Column) -> tuple:
    """Return what is the same in two columns if equal plain numbers stand for equal values."""
    return column.kind, getattr(column, "unit", None), getattr(column, "has_zone", None)


class _Search:
    """Columns among which ties are looked for.

    Parameters
    ----------
    table : ndarray of shape (n_columns, n_rows)
        The plain columns.
    codecs : list of QuantileCodec
    weight : ndarray of shape (n_rows,)
    fewest : float
        The fewest of these rows that a tie may rest on.
    pairs : int ndarray of shape (2, n_pairs)
        Random pairs of rows.
    """

    def __init__(
        self,
        table: np.ndarray,
        codecs: Sequence[QuantileCodec],
        weight: np.ndarray,
        fewest: float,
        pairs: np.ndarray,
    ):
        self.table, self.codecs, self.weight, self.fewest = table, codecs, weight, fewest
        self.pairs = pairs
        self.steps = table[:, pairs[0]] - table[:, pairs[1]]
        self.lengths = np.abs(self.steps)

    def found(self, k: int, shifts: bool) -> tuple[list[Source], int | None]:
        """Return from which columns before column k its numbers follow, and which one is near.

        Parameters
        ----------
        k : int
        shifts : bool
            Whether numbers may follow by a constant.
        """
        mass = self._mass_of_rare(k)
        candidates = self._equal(k, mass) + (self._shifts(k) if shifts else [])
        chosen = self._best(k, candidates, mass)
        for source in chosen:
            mass[source.holds(self.table[k], self.table[source.column])] = 0.0
        return chosen, self._nearest(k, mass)

    def _mass_of_rare(self, k: int) -> np.ndarray:
        """Return the weights of the rows that count: 0 where a number is missing or frequent.

        The network learns by itself when a number and its source are both at a frequent value.
        """
        own, weight = self.table[k], self.weight
        _, which = np.unique(own, return_inverse=True)
        frequency = np.bincount(which, weight)[which] / weight.sum()
        return np.where(~np.isnan(own) & (frequency <= _FREQUENT), weight, 0.0)

    def _equal(self, k: int, mass: np.ndarray) -> list[Source]:
        """Return the columns that have the same number in so many rows that count."""
        own = np.where(mass > 0, self.table[k], np.nan)
        n_equal = _counts(lambda block: self.table[block] == own, k, len(own))
        return [Source(int(j)) for j in np.flatnonzero(n_equal >= self.fewest)]

    def _shifts(self, k: int) -> list[Source]:
        """Return how numbers may follow from others, other than by being equal.

        If a number is ``shift + sign * x`` in a share of the rows, the same shift is found in two
        random rows with the square of this probability.
        """
        low, high = self.codecs[k].ends
        tolerance = _ROUNDING * (high - low)
        far = self.lengths[k] > tolerance
        if not far.any():
            return []
        least = _LEAST_SHARE_OF_SHIFTS**2 * np.count_nonzero(far) / 2
        length = np.where(far, self.lengths[k], np.nan)
        shortest, longest = length - 2 * tolerance, length + 2 * tolerance
        same_length = lambda block: (
            (self.lengths[block] >= shortest) & (self.lengths[block] <= longest)
        )
        others = np.flatnonzero(_counts(same_length, k, len(length)) >= least)
        found = []
        for sign in (1, -1):
            for j in others:
                same = far & (np.abs(self.steps[k] - sign * self.steps[j]) <= tolerance)
                if np.count_nonzero(same) < least:
                    continue
                rows = self.pairs[0, same]
                shift = _most_frequent(self.table[k, rows] - sign * self.table[j, rows], tolerance)
                if sign < 0 or abs(shift) > tolerance:
                    found.append(Source(int(j), sign, float(f"{shift:.9g}"), tolerance))
        return found

    def _best(self, k: int, candidates: list[Source], mass: np.ndarray) -> list[Source]:
        """Return the sources from which numbers follow most often, each in rows that are left.

        The one value that is there most often if a source holds does not count.
        """
        if not candidates:
            return []
        own = self.table[k]
        values, which = np.unique(own, return_inverse=True)
        holds = np.stack([s.holds(own, self.table[s.column]) for s in candidates], axis=1)
        least = np.where([s.is_equal for s in candidates], _LEAST_SHARE, _LEAST_SHARE_OF_SHIFTS)
        least = least * self.weight.sum()
        chosen: list[Source] = []
        while len(chosen) < _MOST_SOURCES:
            n_tied = mass @ holds
            n_rows = (mass > 0) @ holds.astype(float)
            n_tied[(n_tied < least) | (n_rows < self.fewest)] = 0.0
            best = int(np.argmax(n_tied))
            if not n_tied[best]:
                break
            by_value = np.bincount(which, mass * holds[:, best], len(values))
            chance = self._chance(k, candidates[best], mass)
            if by_value.sum() - by_value.max() >= max(least[best], _LEAST_LIFT * chance):
                chosen.append(candidates[best])
                holds &= ~holds[:, [best]]
            holds[:, best] = False
        return chosen

    def _chance(self, k: int, source: Source, mass: np.ndarray) -> float:
        """Return in how many rows a source would hold if the columns were independent."""
        own, other = self.table[k], source.forwards(self.table[source.column])
        if source.tolerance:
            own, other = (np.round(x / (4 * source.tolerance)) for x in (own, other))
        values, which = np.unique(own, return_inverse=True)
        of_own = np.bincount(which, mass, len(values))
        place = np.searchsorted(values, other).clip(max=len(values) - 1)
        is_shared = values[place] == other
        of_other = np.bincount(place[is_shared], self.weight[is_shared], len(values))
        return float(of_own @ of_other / self.weight.sum())

    def _nearest(self, k: int, mass: np.ndarray) -> int | None:
        """Return which other column has nearly the same number most often, if this is often."""
        rows = np.flatnonzero(mass)
        if not len(rows):
            return None
        own, codec = self.table[k], self.codecs[k]
        n_screened = max(_FEWEST_SCREENED, int(share_of_limits(k) * _SCREENED_ROWS))
        some = rows[:: max(1, len(rows) // n_screened)]
        ranks = np.sort(own[rows])
        few = _Neighbours(ranks, own[some], 2 * _CLOSE * len(ranks))
        n_close_in_some = np.count_nonzero(few.hold(self.table[:k, some]), axis=1)
        # Shares of all rows that have a number; twice as wide again, as cells are not even.
        many = _Neighbours(ranks, own[rows], 4 * _CLOSE * np.count_nonzero(~np.isnan(own)))
        least = _LEAST_CLOSE * self.weight.sum()
        shuffled = np.random.default_rng(0).permutation(rows)
        found, most = None, 0.0
        for j in np.argsort(-n_close_in_some, kind="stable")[:_N_SCREENED]:
            other = self.table[j]
            if mass[rows] @ many.hold(other[rows]) < least:
                continue
            is_close = _is_close(codec, own[rows], other[rows])
            by_chance = _is_close(codec, own[rows], other[shuffled])
            n_close = float(mass[rows] @ is_close)
            enough = max(least, _LEAST_LIFT * float(mass[rows] @ by_chance), most)
            if n_close >= enough and is_close.sum() >= _TIMES_AS_MANY_NEAR * self.fewest:
                found, most = int(j), n_close
        return found


@dataclass
class _Neighbours:
    """Between which numbers others have a rank that differs by at most so much.

    Parameters
    ----------
    ranks : ndarray of shape (n_ranks,)
        Sorted numbers.
    own : ndarray of shape (n,)
        Those whose neighbours are meant, among the ranks.
    distance : float
        Of the ranks.
    """

    ranks: np.ndarray
    own: np.ndarray
    distance: float

    def __post_init__(self) -> None:
        place, most = np.searchsorted(self.ranks, self.own), int(self.distance)
        ends = np.concatenate([[-np.inf], self.ranks, [np.inf]])
        self.above = ends[np.maximum(place - most, 0)]
        self.up_to = ends[np.minimum(place + most + 1, len(ends) - 1)]

    def hold(self, others: np.ndarray) -> np.ndarray:
        """Return where other numbers, (..., n), are neighbours, but not equal."""
        return (self.above < others) & (others <= self.up_to) & (others != self.own)


def _counts(compare: Callable[[slice], np.ndarray], k: int, n_rows: int) -> np.ndarray:
    """Return in how many rows each of the first k columns compares, block by block."""
    size = max(1, _AT_ONCE // n_rows)
    counts = np.zeros(k, dtype=np.intp)
    for start in range(0, k, size):
        block = slice(start, min(start + size, k))
        counts[block] = np.count_nonzero(compare(block), axis=1)
    return counts


def _most_frequent(numbers: np.ndarray, tolerance: float) -> float:
    """Return the number that is there most often, up to rounding errors."""
    numbers = np.sort(numbers)
    starts = np.flatnonzero(np.diff(numbers, prepend=-np.inf) > tolerance)
    runs = np.diff(np.append(starts, len(numbers)))
    return float(np.median(numbers[starts[runs.argmax()] :][: runs.max()]))


def _is_close(codec: QuantileCodec, own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return in which rows two numbers are near each other, but not equal."""
    return (np.abs(codec.cdf(own) - codec.cdf(other)) <= _CLOSE) & (own != other)
