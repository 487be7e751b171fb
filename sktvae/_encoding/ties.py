"""Ties: numbers that often follow from a number of an earlier column, or are very near it.

A bill is often paid in full, and then two columns of amounts are equal to the cent; two shares
often add up to one. Codes tell only that both numbers are in certain bins, so that drawn rows would
hardly ever be so. A tied column therefore has one more head, before its own, which says which
earlier column its number follows from, or how near it is to one, if this is so. When rows are
decoded, the number is computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from sktvae._encoding.accumulation import RowSample, row_levels, share_of_limits
from sktvae._encoding.columns import related_columns
from sktvae._encoding.quantile import QuantileCodec
from sktvae._encoding.relations import Relation
from sktvae._heads import Categorical, Head
from sktvae._table.column import Column
from sktvae._table.schema import TableSchema

# Rows among which ties are looked for; fewer in a table of many columns.
_MOST_ROWS = 2**14
# Numbers must be equal in at least this share of the rows, in at least so many rows, and so many
# times as often as if the two columns were independent of each other. If a number follows by a
# constant instead, this must hold in at least the second share.
_LEAST_SHARE, _FEWEST_ROWS, _LEAST_LIFT = 0.01, 20, 3
_LEAST_SHARE_OF_SHIFTS = 0.1
_MOST_SOURCES = 4
# Values that are more frequent than this do not count: the network learns each of them.
_FREQUENT = 0.05
# Pairs of rows by which shifts are looked for, and the fewest in a table of many columns.
_N_PAIRS, _FEWEST_PAIRS = 4000, 1000
# Rounding errors of computed numbers, relative to the length of their column's range.
_ROUNDING = 2e-9
# The ends of the intervals of distances that have a code of their own. The distance of two numbers
# is the share of the rows of the tied column that have a number in between.
_ENDS = 2.0 ** -np.arange(6, 12)
_INTERVALS = np.concatenate([-_ENDS, [0.0], _ENDS[::-1]])
# A column is near another one if their distance is at most this in at least that share of the rows.
_CLOSE, _LEAST_CLOSE = 1 / 256, 0.05
# The rows in which candidates are compared first, the fewest of these in a table of many columns,
# and how many candidates are then compared in all rows.
_SCREENED_ROWS, _FEWEST_SCREENED, _N_SCREENED = 500, 100, 3
# A number is replaced only if its distance from the new one is at most this.
_NEAR = 0.1


@dataclass(frozen=True)
class Source:
    """Where a number follows from: it is ``shift + sign * x`` for the number x of a column.

    Attributes
    ----------
    column : int
        The position of the column.
    sign : {1, -1}
    shift : float
    tolerance : float
        By how much computed numbers may differ; 0 for equal ones.
    """

    column: int
    sign: int = 1
    shift: float = 0.0
    tolerance: float = 0.0

    @property
    def is_equal(self) -> bool:
        """Whether the number is the same."""
        return self.sign == 1 and not self.shift

    def forwards(self, numbers: np.ndarray) -> np.ndarray:
        """Return what follows from numbers of the column."""
        return numbers if self.is_equal else self.shift + self.sign * numbers

    def backwards(self, numbers: np.ndarray) -> np.ndarray:
        """Return the numbers of the column from which others follow."""
        return numbers if self.is_equal else self.sign * (numbers - self.shift)

    def holds(self, own: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Return in which rows a number follows from that of the column."""
        if self.is_equal:
            return own == numbers
        return np.abs(own - self.forwards(numbers)) <= self.tolerance

    def label(self, name: Any) -> Any:
        """Return what a user sees: a name, or such as "1 - name"."""
        if self.is_equal:
            return name
        if self.sign < 0:
            return f"{self.shift:.9g} - {name}" if self.shift else f"-{name}"
        return f"{name} {'+' if self.shift > 0 else '-'} {abs(self.shift):.9g}"


@dataclass(frozen=True)
class Tie:
    """A column whose numbers often follow from those of others, or are near those of another.

    Attributes
    ----------
    column : int
        Its position.
    sources : tuple of Source
        All of them before the column; the first that holds counts.
    near : int, default=None
        The position of a column, before this one, that often has nearly the same number.
    """

    column: int
    sources: tuple[Source, ...]
    near: int | None = None

    @property
    def head(self) -> Head:
        """Code 0 is "none of them", code k + 1 is ``sources[k]``, others are intervals."""
        n_intervals = 0 if self.near is None else len(_INTERVALS) - 1
        return Categorical(1 + len(self.sources) + n_intervals)

    @property
    def positions(self) -> list[int]:
        """The positions of the columns that are needed to encode the tie."""
        near = [] if self.near is None else [self.near]
        return [self.column, *(source.column for source in self.sources), *near]

    def encode(self, numbers: Sequence[np.ndarray], codec: QuantileCodec) -> np.ndarray:
        """Return the code of each row.

        Parameters
        ----------
        numbers : list of ndarray of shape (n_samples,)
            The plain columns of `positions`.
        codec : QuantileCodec
            That of the column itself.
        """
        own, *others = numbers
        codes = np.zeros(len(own), dtype=np.uint8)
        if self.near is not None:
            distance = codec.cdf(own) - codec.cdf(others[-1])
            interval = np.searchsorted(_INTERVALS, distance, side="right")
            is_near = (interval > 0) & (interval < len(_INTERVALS))  # NaN is beyond all
            codes[is_near] = len(self.sources) + interval[is_near]
        for k in reversed(range(len(self.sources))):
            codes[self.sources[k].holds(own, others[k])] = k + 1
        return codes


# Finding


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
    return find_ties(schema, codecs, numbers, min_samples, None if weight is None else weight[rows])


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


def find_ties(
    schema: TableSchema,
    codecs: Sequence[Any],
    numbers: Mapping[int, np.ndarray],
    min_samples: int,
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
        The fewest rows that a tie may rest on; it is 20 at least.
    weight : ndarray of shape (n_sampled,), default=None
        How many rows each of them counts for.
    """
    at = sorted(numbers)
    n_rows = len(numbers[at[0]]) if at else 0
    if len(at) < 2 or not n_rows:
        return {}
    table = np.stack([numbers[i] for i in at], axis=1)
    weight = np.ones(n_rows) if weight is None else weight
    n_pairs = max(_FEWEST_PAIRS, int(share_of_limits(len(schema.columns)) * _N_PAIRS))
    pairs = np.random.default_rng(0).integers(0, n_rows, (2, n_pairs))
    fewest = max(_FEWEST_ROWS, min_samples)
    ties = {}
    for k in range(1, len(at)):
        own, others = table[:, k], table[:, :k]
        column = schema.columns[at[k]]
        is_alike = np.array([_same_unit(column, schema.columns[i]) for i in at[:k]])
        candidates = [Source(int(j)) for j in np.flatnonzero(is_alike)]
        low, high = codecs[at[k]].ends
        tolerance = _ROUNDING * (high - low)
        shifts = _shifts(own, others, pairs, tolerance)
        candidates += [s for s in shifts if is_alike[s.column] and column.kind == "number"]
        mass = _mass_of_rare(own, weight)
        chosen = _best(own, others, candidates, mass, weight, fewest)
        for source in chosen:
            mass[source.holds(own, others[:, source.column])] = 0.0
        alike = others if is_alike.all() else others[:, is_alike]
        near = _nearest(own, alike, codecs[at[k]], mass, _LEAST_CLOSE * weight.sum(), fewest)
        if chosen or near is not None:
            sources = tuple(replace(source, column=at[source.column]) for source in chosen)
            position = None if near is None else at[np.flatnonzero(is_alike)[near]]
            ties[at[k]] = Tie(at[k], sources, position)
    return ties


def _mass_of_rare(own: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the weights of the rows that count: 0 where a number is missing or frequent.

    The network learns by itself when a number and its source are both at a frequent value.
    """
    _, which = np.unique(own, return_inverse=True)
    frequency = np.bincount(which, weight)[which] / weight.sum()
    return np.where(~np.isnan(own) & (frequency <= _FREQUENT), weight, 0.0)


def _best(
    own: np.ndarray,
    others: np.ndarray,
    candidates: list[Source],
    mass: np.ndarray,
    weight: np.ndarray,
    fewest: int,
) -> list[Source]:
    """Return the sources from which numbers follow most often, each in rows that are left.

    The one value that is there most often if a source holds does not count.
    """
    if not candidates:
        return []
    values, which = np.unique(own, return_inverse=True)
    holds = np.stack([s.holds(own, others[:, s.column]) for s in candidates], axis=1)
    least = np.where([s.is_equal for s in candidates], _LEAST_SHARE, _LEAST_SHARE_OF_SHIFTS)
    least = least * weight.sum()
    chosen: list[Source] = []
    while len(chosen) < _MOST_SOURCES:
        n_tied = mass @ holds
        n_tied[(n_tied < least) | ((mass > 0) @ holds.astype(float) < fewest)] = 0.0
        best = int(np.argmax(n_tied))
        if not n_tied[best]:
            break
        by_value = np.bincount(which, mass * holds[:, best], len(values))
        chance = _chance(own, candidates[best], others, mass, weight)
        if by_value.sum() - by_value.max() >= max(least[best], _LEAST_LIFT * chance):
            chosen.append(candidates[best])
            holds &= ~holds[:, [best]]
        holds[:, best] = False
    return chosen


def _nearest(
    own: np.ndarray,
    others: np.ndarray,
    codec: QuantileCodec,
    mass: np.ndarray,
    least: float,
    fewest: int,
) -> int | None:
    """Return which other column has nearly the same number most often, if this is often."""
    rows = np.flatnonzero(mass)
    if not len(rows) or not others.shape[1]:
        return None
    n_screened = max(_FEWEST_SCREENED, int(share_of_limits(others.shape[1]) * _SCREENED_ROWS))
    some = rows[:: max(1, len(rows) // n_screened)]
    ranks = np.sort(own[rows])
    at, to = own[some].reshape(-1, 1), others[some]
    distance = np.abs(np.searchsorted(ranks, to) - np.searchsorted(ranks, at)) / len(ranks)
    share_close = ((distance <= 2 * _CLOSE) & (to != at)).mean(axis=0)
    shuffled = np.random.default_rng(0).permutation(rows)
    found, most = None, 0.0
    for j in np.argsort(-share_close, kind="stable")[:_N_SCREENED]:
        is_close = _is_close(codec, own[rows], others[rows, j])
        by_chance = _is_close(codec, own[rows], others[shuffled, j])
        n_close = float(mass[rows] @ is_close)
        enough = max(least, _LEAST_LIFT * float(mass[rows] @ by_chance), most)
        if n_close >= enough and is_close.sum() >= fewest:
            found, most = int(j), n_close
    return found


def _is_close(codec: QuantileCodec, own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return in which rows two numbers are near each other, but not equal."""
    return (np.abs(codec.cdf(own) - codec.cdf(other)) <= _CLOSE) & (own != other)


def _shifts(
    own: np.ndarray, others: np.ndarray, pairs: np.ndarray, tolerance: float
) -> list[Source]:
    """Return how numbers may follow from others, other than by being equal.

    If a number is ``shift + sign * x`` in a share of the rows, the same shift is found in two
    random rows with the square of this probability.
    """
    one, other = pairs
    step = own[one] - own[other]
    one, other, step = (values[np.abs(step) > tolerance] for values in (one, other, step))
    if not len(step):
        return []
    steps = others[one] - others[other]
    found = []
    for sign in (1, -1):
        same = np.abs(step[:, None] - sign * steps) <= tolerance
        for j in np.flatnonzero(same.sum(axis=0) >= _LEAST_SHARE_OF_SHIFTS**2 * len(step) / 2):
            shifts = np.sort(own[one[same[:, j]]] - sign * others[one[same[:, j]], j])
            starts = np.flatnonzero(np.diff(shifts, prepend=-np.inf) > tolerance)
            runs = np.diff(np.append(starts, len(shifts)))
            shift = float(np.median(shifts[starts[runs.argmax()] :][: runs.max()]))
            if sign < 0 or abs(shift) > tolerance:
                found.append(Source(int(j), sign, float(f"{shift:.9g}"), tolerance))
    return found


def _same_unit(one: Column, other: Column) -> bool:
    """Whether equal plain numbers stand for equal values."""
    unit = lambda column: (getattr(column, "unit", None), getattr(column, "has_zone", None))
    return one.kind == other.kind and unit(one) == unit(other)


def _chance(
    own: np.ndarray, source: Source, others: np.ndarray, mass: np.ndarray, weight: np.ndarray
) -> float:
    """Return in how many rows a source would hold if the columns were independent."""
    other = source.forwards(others[:, source.column])
    if source.tolerance:
        own, other = (np.round(x / (4 * source.tolerance)) for x in (own, other))
    values, which = np.unique(own, return_inverse=True)
    of_own = np.bincount(which, mass, len(values))
    place = np.searchsorted(values, other).clip(max=len(values) - 1)
    is_shared = values[place] == other
    of_other = np.bincount(place[is_shared], weight[is_shared], len(values))
    return float(of_own @ of_other / weight.sum())


# Decoding


def resolve(
    ties: Mapping[int, Tie],
    codecs: Sequence[Any],
    codes: Mapping[int, np.ndarray],
    places: Mapping[int, np.ndarray],
    plain: dict[int, np.ndarray],
    kept: Mapping[int, tuple[np.ndarray, Any]],
    bounds: Mapping[int, tuple[np.ndarray, np.ndarray]],
) -> None:
    """Let decoded numbers follow from others where ties say so.

    A number is never replaced by one so far from it that it would not fit the other columns. What a
    known or a bounded number follows from is computed from it, and then all others.

    Parameters
    ----------
    ties : dict of int to Tie
    codecs : sequence of Codec or None
    codes, places : dict of int to ndarray of shape (n_samples,)
        Of the heads of the ties, and where a number is in its bin, by the position of the column.
    plain : dict of int to ndarray of shape (n_samples,)
        Decoded columns; changed in place.
    kept, bounds : dict
        See `decoded_columns`.
    """
    known = {i: kept[i][0] if i in kept else np.zeros(len(plain[i]), dtype=bool) for i in plain}
    fixed = {i: rows.copy() for i, rows in known.items()}
    for i in fixed.keys() & bounds.keys():
        fixed[i] |= (bounds[i][0] > -np.inf) | (bounds[i][1] < np.inf)
    numbers = _Numbers(codecs, plain, bounds)
    for i, tie in reversed(list(ties.items())):
        for source, rows in _rows_of_sources(tie, codes[i]):
            rows = rows[fixed[i][rows] & ~fixed[source.column][rows]]
            wanted = source.backwards(plain[i][rows])
            numbers.write(source.column, wanted, source.tolerance, rows)
            fixed[source.column][rows] = True
        if tie.near is not None:
            rows = np.flatnonzero(fixed[i] & ~fixed[tie.near])
            rows = numbers.bring_near(tie, codes[i], places[i], rows, backwards=True)
            fixed[tie.near][rows] = True
    for i, tie in ties.items():
        for source, rows in _rows_of_sources(tie, codes[i]):
            rows = rows[~known[i][rows]]
            wanted = source.forwards(plain[source.column][rows])
            numbers.write(i, wanted, source.tolerance, rows)
        if tie.near is not None:
            numbers.bring_near(tie, codes[i], places[i], np.flatnonzero(~known[i]))


def _rows_of_sources(tie: Tie, codes: np.ndarray) -> list[tuple[Source, np.ndarray]]:
    """Return each source of a tie, and the rows that have its code."""
    return [(source, np.flatnonzero(codes == k + 1)) for k, source in enumerate(tie.sources)]


@dataclass
class _Numbers:
    """Decoded columns in which numbers are replaced by those that follow from others."""

    codecs: Sequence[Any]
    plain: dict[int, np.ndarray]
    bounds: Mapping[int, tuple[np.ndarray, np.ndarray]]

    def write(self, to: int, wanted: np.ndarray, tolerance: float, rows: np.ndarray) -> None:
        """Write numbers into some rows of a column, where the column and its bounds allow it."""
        codec, drawn = self.codecs[to], self.plain[to][rows]
        on_grid = codec.rounded(wanted)
        low, high = codec.ends
        can_be = (low <= on_grid) & (on_grid <= high) & (np.abs(on_grid - wanted) <= tolerance)
        if to in self.bounds:
            low, high = (ends[rows] for ends in self.bounds[to])
            can_be &= (low <= on_grid) & (on_grid <= high)
        can_be &= np.abs(codec.cdf(on_grid) - codec.cdf(drawn)) <= _NEAR
        self.plain[to][rows[can_be]] = on_grid[can_be]

    def bring_near(
        self,
        tie: Tie,
        codes: np.ndarray,
        places: np.ndarray,
        rows: np.ndarray,
        backwards: bool = False,
    ) -> np.ndarray:
        """Bring a number as near to another as its code says, if it is not already.

        Parameters
        ----------
        tie : Tie
        codes, places : ndarray of shape (n_samples,)
            See `resolve`.
        rows : int ndarray
            Those in which this may be done.
        backwards : bool, default=False
            Whether the other number is replaced.

        Returns
        -------
        rows : int ndarray
            Those of the rows that have the code of an interval.
        """
        assert tie.near is not None
        interval = codes.astype(int) - len(tie.sources) - 1
        rows = rows[interval[rows] >= 0]
        low, high = _INTERVALS[interval[rows]], _INTERVALS[interval[rows] + 1]
        cdf = self.codecs[tie.column].cdf
        own, other = cdf(self.plain[tie.column][rows]), cdf(self.plain[tie.near][rows])
        is_off = (own - other < low) | (own - other > high)
        distance = low + places[rows] * (high - low)
        to, share = (tie.near, own - distance) if backwards else (tie.column, other + distance)
        wanted = self.codecs[to].rounded(self.codecs[tie.column].quantile(share))
        self.write(to, wanted[is_off], 0.0, rows[is_off])
        return rows
