"""Ties: numbers that often follow from a number of an earlier column, or are very near it.

A bill is often paid in full, and then two columns of amounts are equal to the cent; two shares
often add up to one. Codes tell only that both numbers are in certain bins, so that drawn rows would
hardly ever be so. A tied column therefore has one more head, before its own, which says which
earlier column its number follows from, or how near it is to one, if this is so. When rows are
decoded, the number is computed. `tie_search.py` looks for ties.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sktvae._encoding.quantile import QuantileCodec
from sktvae._heads import Categorical

# The ends of the intervals of distances that have a code of their own. The distance of two numbers
# is the share of the rows of the tied column that have a number in between.
_ENDS = 2.0 ** -np.arange(6, 12)
_INTERVALS = np.concatenate([-_ENDS, [0.0], _ENDS[::-1]])
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
        """Return what follows from numbers of the column; infinity if this is too large."""
        with np.errstate(over="ignore"):
            return numbers if self.is_equal else self.shift + self.sign * numbers

    def backwards(self, numbers: np.ndarray) -> np.ndarray:
        """Return the numbers of the column from which others follow; infinity if too large."""
        with np.errstate(over="ignore"):
            return numbers if self.is_equal else self.sign * (numbers - self.shift)

    def holds(self, own: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Return in which rows a number follows from that of the column."""
        if self.is_equal:
            return own == numbers
        with np.errstate(over="ignore"):
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
    can_be_missing : bool, default=False
        Whether one of these columns has missing values. That a number does not follow because it,
        or the other one, is missing then has a code of its own: it is not drawn where a missing
        cell is imputed.
    """

    column: int
    sources: tuple[Source, ...]
    near: int | None = None
    can_be_missing: bool = False

    @property
    def head(self) -> Categorical:
        """Code 0 is "none of them", code k + 1 is ``sources[k]``, then there are intervals.

        The last code is "none of them, and one is missing", if this can be.
        """
        return Categorical(1 + len(self.sources) + self._n_intervals + self.can_be_missing)

    @property
    def _n_intervals(self) -> int:
        return 0 if self.near is None else len(_INTERVALS) - 1

    def intervals(self, codes: np.ndarray) -> np.ndarray:
        """Return the interval of distances that each code stands for, -1 for none."""
        interval = np.asarray(codes).astype(int) - len(self.sources) - 1
        return np.where((interval >= 0) & (interval < self._n_intervals), interval, -1)

    def says_missing(self, codes: np.ndarray) -> np.ndarray:
        """Return which codes say that a number is missing."""
        return (codes == 1 + len(self.sources) + self._n_intervals) & self.can_be_missing

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
        if self.can_be_missing:
            is_missing = np.logical_or.reduce([np.isnan(one) for one in numbers])
            codes[is_missing & (codes == 0)] = 1 + len(self.sources) + self._n_intervals
        return codes


# Decoding


def that_follow(
    ties: Mapping[int, Tie],
    codecs: Sequence[Any],
    kept: Mapping[int, tuple[np.ndarray, Any]],
    i: int,
) -> list[tuple[int, int, np.ndarray]]:
    """Return what the numbers of column i may follow from in rows that are partly known.

    Parameters
    ----------
    ties : dict of int to Tie
    codecs : sequence of Codec or None
    kept : dict of int to tuple (mask, plain column)
        What is known of each column, by its position.
    i : int

    Returns
    -------
    follow : list of tuple (position, code, numbers)
        If the tie of the column at the position has this code, column i holds these numbers; NaN
        where they are not known, or none that the column could hold.
    """
    found = []
    for j, tie in ties.items():
        for k, source in enumerate(tie.sources):
            other = source.column if i == j else j
            if i in (j, source.column) and other in kept:
                computed = source.forwards if i == j else source.backwards
                wanted = computed(_known(*kept[other]))
                found.append((j, k + 1, _possible(codecs[i], wanted, source.tolerance)))
        if tie.near is None or i not in (j, tie.near):
            continue
        other = tie.near if i == j else j
        if other in kept:
            cdf = codecs[j].cdf(_known(*kept[other]))
            for k, middle in enumerate((_INTERVALS[1:] + _INTERVALS[:-1]) / 2):
                share = cdf + middle if i == j else cdf - middle
                wanted = codecs[i].rounded(codecs[j].quantile(share))
                found.append((j, len(tie.sources) + k + 1, _possible(codecs[i], wanted, 0.0)))
    return found


def contradicted(
    ties: Mapping[int, Tie],
    codecs: Sequence[Any],
    codes: Mapping[int, np.ndarray],
    kept: Mapping[int, tuple[np.ndarray, Any]],
) -> np.ndarray:
    """Return the rows in which codes that were drawn contradict the numbers that are known.

    The network knows the bins of numbers, but not which of them are equal, unless all columns of a
    tie are known. If two columns follow from a third that is not known, being equal to each other
    says that both do so in this row, and not being equal says that one of them does not. The same
    holds if one of the two follows from the third, and the third from the other.

    Parameters
    ----------
    ties : dict of int to Tie
    codecs : sequence of Codec or None
    codes : dict of int to ndarray of shape (n_samples,)
        Of the heads of the ties, by the position of the column.
    kept : dict of int to tuple (mask, plain column)
        What is known of each column, by its position.

    Returns
    -------
    rows : int ndarray
    """
    plain = {i: _known(*kept[i]) for tie in ties.values() for i in tie.positions if i in kept}
    n_rows = len(next(iter(codes.values()), ()))
    nobody, wrong = np.zeros(n_rows, dtype=bool), np.zeros(n_rows, dtype=bool)
    implied = _implied_by_sources(ties, codes, plain, kept)
    for j, tie in ties.items():
        if j not in plain:
            continue
        own = plain[j]
        is_rare = ~np.isnan(own) & ~codecs[j].keeps(own)  # frequent numbers are equal by chance
        is_said: dict[int, np.ndarray] = {}
        for k, source in enumerate(tie.sources):
            is_said[source.column] = is_said.get(source.column, nobody) | (codes[j] == k + 1)
        for k, source in enumerate(tie.sources):
            i, said = source.column, codes[j] == k + 1
            numbers = source.backwards(own)
            if i in plain:
                holds = source.holds(own, plain[i])
                wrong |= said & ~holds & ~np.isnan(own) & ~np.isnan(plain[i])
                wrong |= is_rare & holds & ((codes[j] == 0) | (codes[j] > k + 1))
                numbers = np.where(kept[i][0], np.nan, numbers)  # also if it is known to be missing
            for other, by, other_numbers, other_said in implied.setdefault(i, []):
                if other == j:  # x and -x
                    continue
                with np.errstate(over="ignore", invalid="ignore"):
                    apart = np.abs(numbers - other_numbers)  # NaN unless both are known
                tolerance, both = max(source.tolerance, by.tolerance), said & other_said
                wrong |= both & (apart > tolerance)
                past = by.column if other == i else other  # j may follow from it without i
                follows = both | is_said.get(past, nobody) | tie.says_missing(codes[j])
                wrong |= is_rare & (apart <= tolerance) & ~follows
            implied[i].append((j, source, numbers, said))
    return np.flatnonzero(wrong)


def _implied_by_sources(
    ties: Mapping[int, Tie],
    codes: Mapping[int, np.ndarray],
    plain: Mapping[int, np.ndarray],
    kept: Mapping[int, tuple[np.ndarray, Any]],
) -> dict[int, list[tuple[int, Source, np.ndarray, np.ndarray]]]:
    """Return what numbers that are not known would be if they follow from known ones.

    Returns
    -------
    implied : dict of int to list of tuple (position, source, numbers, said)
        By the position of the column; the first of each tuple is that of the column whose tie says
        in which rows this is so.
    """
    implied: dict[int, list[tuple[int, Source, np.ndarray, np.ndarray]]] = {}
    for i, tie in ties.items():
        for k, source in enumerate(tie.sources):
            if source.column in plain:
                numbers = source.forwards(plain[source.column])
                if i in plain:
                    numbers = np.where(kept[i][0], np.nan, numbers)
                implied.setdefault(i, []).append((i, source, numbers, codes[i] == k + 1))
    return implied


def _known(rows: np.ndarray, plain: np.ndarray) -> np.ndarray:
    return np.where(rows, plain, np.nan)


def _possible(codec: Any, wanted: np.ndarray, tolerance: float) -> np.ndarray:
    """Return numbers on the grid of a column; NaN where the column cannot hold them."""
    low, high = codec.ends
    wanted = np.where(np.isinf(wanted), np.nan, wanted)
    on_grid = codec.rounded(wanted)
    can_be = (low <= on_grid) & (on_grid <= high) & (np.abs(on_grid - wanted) <= tolerance)
    return np.where(can_be, on_grid, np.nan)


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
        on_grid = _possible(codec, wanted, tolerance)
        can_be = np.abs(codec.cdf(on_grid) - codec.cdf(drawn)) <= _NEAR  # not if one is NaN
        if to in self.bounds:
            low, high = (ends[rows] for ends in self.bounds[to])
            can_be &= (low <= on_grid) & (on_grid <= high)
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
        interval = tie.intervals(codes)
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
