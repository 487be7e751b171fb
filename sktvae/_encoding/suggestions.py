"""Relations that hold in every row of a table, found by a cheap scan; suggested, never applied.

A few rows reject almost every candidate. What is left is checked on all rows, by the relation's
own code, so that a suggestion can always be used. It is made only if independent columns with the
same values would break the relation: that every age is below every year of birth says nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from sktvae._encoding.columns import decoding_order
from sktvae._encoding.evidence import is_key
from sktvae._encoding.relations import FixedCombinations, LessEqual, Relation, SumOf
from sktvae._encoding.routing import MAX_CATEGORIES
from sktvae._table.containers import as_frame
from sktvae._table.schema import TableSchema

# A smaller table suggests nothing: what holds in it may hold by chance.
_FEWEST_ROWS = 100
# The rows by which candidates are rejected.
_SAMPLE_ROWS = 500
_SAMPLE_ROWS_OF_SUMS = 12
# The parts of a sum are looked for among so many columns of numbers around it.
_MOST_SUMMANDS = 80
# LessEqual: independent columns would break it in at least this share of the rows.
_LEAST_BROKEN = {"number": 0.1, "datetime": 0.02, "timedelta": 0.02}
# LessEqual: a number with fewer different values is a code or a flag.
_FEWEST_NUMBERS = 10
# FixedCombinations: a number with more different values is a quantity.
_MOST_CODES = 100
# FixedCombinations: most rows have a category of the finer column that is at least so frequent.
_FEWEST_PER_CATEGORY = 10


def suggest_relations(X: Any) -> list[Relation]:
    """Find relations between columns that hold in every row of a table.

    A model learns them only nearly, unless they are declared: some patients leave before they are
    admitted. What is found is a suggestion: look at it, and pass what is meant to hold to
    ``TableEncoder(relations=[...])``. The relations can all be declared together.

    Parameters
    ----------
    X : DataFrame or array-like of shape (n_samples, n_features)
        A table of fewer than 100 rows gives no suggestions.

    Returns
    -------
    relations : list of relation
        Not fitted. ``print`` shows them as code to paste.

        - :class:`~sktvae.LessEqual`, of two columns of times, or of two columns of numbers that
          come close to each other, if it would often be broken by chance;
        - :class:`~sktvae.FixedCombinations`, of a column and those that it determines (a city and
          its country), if the finer column repeats its values often;
        - :class:`~sktvae.SumOf`, of two parts or of neighbouring columns, up to rounding errors; a
          column with one part is a copy of it.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from sktvae import suggest_relations
    >>> rng = np.random.default_rng(0)
    >>> city = rng.choice(["Bari", "Oslo", "Rome"], 500)
    >>> net, tax = rng.integers(1, 100, 500), rng.integers(1, 20, 500)
    >>> X = pd.DataFrame({"city": city, "net": net, "tax": tax, "gross": net + tax})
    >>> X["country"] = X["city"].map({"Bari": "I", "Oslo": "N", "Rome": "I"})
    >>> suggest_relations(X)
    [SumOf('gross', ['net', 'tax']), FixedCombinations(['city', 'country'])]
    """
    frame, container = as_frame(X)
    return scan(TableSchema.learn(frame, container), frame)


@np.errstate(over="ignore", invalid="ignore")  # sums of numbers near the largest float
def scan(
    schema: TableSchema,
    frame: pd.DataFrame,
    columns: Sequence[int] | None = None,
    categories: Collection[int] = (),
) -> list[Relation]:
    """Return what `suggest_relations` does.

    Parameters
    ----------
    schema : TableSchema
    frame : DataFrame
    columns : sequence of int, default=None
        Positions of the columns that may be related; None for all.
    categories : collection of int
        Positions of columns that are categories although they hold numbers.
    """
    if len(frame) < _FEWEST_ROWS:
        return []
    table = _Scan(schema, frame, range(len(schema.columns)) if columns is None else columns)
    table.numbers = [i for i in table.numbers if i not in categories]
    found: list[Relation] = []
    targets: set[int] = set()
    for candidates in (table.sums, table.combinations, table.orders):
        for relation, at in candidates(targets):
            n_targets = len(relation.targets)
            if not targets.intersection(at[:n_targets]) and _can_follow(found, relation):
                found.append(relation)
                targets.update(at[:n_targets])
    return found


def warnings_about(
    frame: pd.DataFrame, schema: TableSchema, suggestions: list[Relation]
) -> Iterator[str]:
    """Yield what a user should know of times: that they are in order, or in a dropped index."""
    in_order = [
        relation
        for relation in suggestions
        if isinstance(relation, LessEqual)
        and schema.columns[schema.position(relation.low)].kind == "datetime"
    ]
    if in_order:
        first = in_order[0]
        yield (
            f"Column {first.low!r} is nowhere later than {first.high!r}, but samples may break "
            "this. If it is meant to hold, declare it: encoder=TableEncoder(relations=["
            f"{', '.join(map(repr, in_order))}]). If it is not, name a codec for one of the "
            f"columns: TableEncoder([('time', QuantileCodec(), [{first.high!r}])])."
        )
    if isinstance(frame.index, pd.DatetimeIndex | pd.PeriodIndex | pd.TimedeltaIndex):
        yield (
            f"The index of X holds times (the first is {frame.index[0]}). It is dropped, and rows "
            "are taken to be independent: a time series loses its order. X.reset_index() keeps the "
            "times as a column, and X.reset_index(drop=True) silences this warning."
        )


def _can_follow(found: list[Relation], relation: Relation) -> bool:
    try:
        decoding_order([*found, relation])
    except ValueError:
        return False
    return True


class _Scan:
    """Candidates of each relation in one table.

    Attributes
    ----------
    columns : list of int
        Positions of the columns that are looked at.
    numbers, codes : list of int
        Those that can be ordered and summed; those that can be combined.
    few : dict of int to plain column
        Some rows of them.
    """

    def __init__(self, schema: TableSchema, frame: pd.DataFrame, columns: Sequence[int]):
        self.schema = schema
        self.frame = frame
        at = np.unique(np.linspace(0, len(frame) - 1, _SAMPLE_ROWS).astype(int))
        self._few_rows = frame.iloc[at]
        self._cache: dict[int, Any] = {}
        self.few: dict[int, Any] = {}
        for i in columns:
            try:
                if not is_key(frame.iloc[:, i], schema.columns[i]):
                    self.few[i] = schema.columns[i].read(self._few_rows.iloc[:, i])
            except (TypeError, ValueError):
                continue  # `fit` says what is wrong with the column
        self.numbers = [
            i for i in self.few if schema.columns[i].is_numeric and not np.isnan(self.few[i]).all()
        ]

    def all(self, i: int) -> Any:
        """Return column `i`, which has survived the look at a few rows."""
        if i not in self._cache:
            self._cache[i] = self.schema.columns[i].read(self.frame.iloc[:, i])
        return self._cache[i]

    def _name(self, i: int) -> Any:
        return self.schema.columns[i].name

    def _holds(self, relation: Relation, at: list[int]) -> bool:
        """Whether a relation, with columns at these positions, can be declared."""
        n_targets = len(relation.targets)
        plain = [self.all(i) for i in at]
        try:
            relation.fit([self.schema.columns[i] for i in at], plain[:n_targets], plain[n_targets:])
            relation.encode(plain[:n_targets], plain[n_targets:])
        except ValueError:
            return False
        return True

    # Sums

    def sums(self, taken: set[int]) -> Iterator[tuple[Relation, list[int]]]:
        """Yield totals, each with its first parts that fit."""
        at = [i for i in self.numbers if self.schema.columns[i].kind == "number"]
        at = [i for i in at if (np.nan_to_num(self.few[i]) != 0).any()]
        if len(at) < 2:
            return
        values = np.array([self.few[i] for i in at])
        known = ~np.isnan(values).any(axis=0)
        if known.sum() < _SAMPLE_ROWS_OF_SUMS:
            return
        values = values[:, known]
        for j in reversed(range(len(at))):  # a total, or a copy, usually stands behind its parts
            total = at[j]
            for parts in _summands(values, j):
                own = [at[k] for k in parts]
                names = [self._name(i) for i in own]
                relation = SumOf(self._name(total), names)
                if self._all_count(own) and self._holds(relation, [total, *own]):
                    yield SumOf(self._name(total), names), [total, *own]
                    break

    def _all_count(self, parts: list[int]) -> bool:
        """Whether each part of a sum matters in more than a few rows."""
        return all(np.nan_to_num(self.all(i) != 0).mean() > 0.01 for i in parts)

    # Combinations

    @cached_property
    def codes(self) -> dict[int, np.ndarray]:
        """Codes of some rows, of the columns that can be combined."""
        codes = {}
        for i, plain in self.few.items():
            if self.schema.columns[i].kind in ("number", "category"):
                code, values = pd.factorize(pd.Series(plain), use_na_sentinel=False)
                most = _MOST_CODES if i in self.numbers else MAX_CATEGORIES
                if 1 < len(values) <= min(most, len(plain) / 3):
                    codes[i] = code
        return codes

    def combinations(self, taken: set[int]) -> Iterator[tuple[Relation, list[int]]]:
        """Yield columns with those that they determine, the finest first."""
        at = [i for i in self.codes if i not in taken]
        if len(at) < 2:
            return
        codes = np.array([self.codes[i] for i in at])
        candidates = []
        for j, finer in enumerate(at):
            first = np.unique(codes[j], return_index=True)[1][codes[j]]
            same = (codes[:, first] == codes).all(axis=1)
            coarser = [at[k] for k in np.flatnonzero(same) if k != j]
            if coarser:
                candidates.append((finer, coarser))
        candidates.sort(key=lambda c: -self._all_codes(c[0]).max(initial=0))
        used: set[int] = set()
        for finer, coarser in candidates:
            left = [i for i in coarser if i not in used]
            held = [i for i in left if finer not in used and self._determines(finer, i)]
            if held:
                together = sorted([finer, *held])
                used.update(together)
                yield FixedCombinations([self._name(i) for i in together]), together

    def _all_codes(self, i: int) -> np.ndarray:
        return pd.factorize(pd.Series(self.all(i)), use_na_sentinel=False)[0]

    def _determines(self, finer: int, coarser: int) -> bool:
        """Whether a column determines another in all rows, and does so in enough of them."""
        a, b = self._all_codes(finer), self._all_codes(coarser)
        rows = np.bincount(a)
        numbers = [k for k in (finer, coarser) if k in self.numbers]
        if len(rows) > MAX_CATEGORIES or any(_n_values(self.all(k)) > _MOST_CODES for k in numbers):
            return False
        first = np.unique(a, return_index=True)[1]
        if not np.array_equal(b[first[a]], b):
            return False
        if rows[rows >= _FEWEST_PER_CATEGORY].sum() < 0.9 * len(a):
            return False
        # The probability that each category of `finer` has one of `coarser` by chance.
        share = np.bincount(b) / len(b)
        distinct, times = np.unique(rows, return_counts=True)
        chance = np.array([np.log((share**n).sum()) for n in np.minimum(distinct, 100)])
        return bool((times * chance).sum() < -30)

    # Orders

    def orders(self, taken: set[int]) -> Iterator[tuple[Relation, list[int]]]:
        """Yield, for each column, the nearest one that is never above it."""
        below: dict[int, list[int]] = {}
        for kind in _LEAST_BROKEN:
            at = [i for i in self.numbers if self.schema.columns[i].kind == kind]
            at = [i for i in at if len(np.unique(self.few[i])) >= _FEWEST_NUMBERS]
            few = np.array([self._scaled(i, self.few[i]) for i in at])
            for low, values in zip(at, few, strict=True):
                never_above = ~(values > few).any(axis=1)
                for k in np.flatnonzero(never_above):
                    high = at[k]
                    if high != low and high not in taken and self._is_below(low, high):
                        below.setdefault(high, []).append(low)
        for high, lows in below.items():
            # Of a <= b <= c, only a <= b and b <= c.
            near = [i for i in lows if not any(i in below.get(k, []) for k in lows if k != i)]
            if near:
                low = min(near, key=lambda i: self._gap(i, high))
                yield LessEqual(self._name(low), self._name(high)), [high, low]

    def _scaled(self, i: int, plain: np.ndarray) -> np.ndarray:
        """Return times in seconds, and numbers as they are."""
        unit = getattr(self.schema.columns[i], "unit", None)
        return plain if unit is None else plain * (np.timedelta64(1, unit) / np.timedelta64(1, "s"))

    def _is_below(self, low: int, high: int) -> bool:
        """Whether `low` is nowhere above `high`, and this is not a matter of their ranges."""
        one, other = self.schema.columns[low], self.schema.columns[high]
        if getattr(one, "has_zone", None) != getattr(other, "has_zone", None):
            return False
        a, b = self._scaled(low, self.all(low)), self._scaled(high, self.all(high))
        known = ~np.isnan(a) & ~np.isnan(b)
        enough = max(_FEWEST_ROWS, 0.2 * len(a))
        a, b = a[known], b[known]
        if len(a) < enough or not (a <= b).all() or (a == b).all():
            return False
        broken = 1 - np.searchsorted(np.sort(a), b, side="right").mean() / len(a)
        if broken < max(_LEAST_BROKEN[one.kind], 20 / len(a)):
            return False
        # Times are in one unit. Numbers of one unit that bound each other come close, or meet.
        return one.kind != "number" or _touch(a, b)

    def _gap(self, low: int, high: int) -> float:
        a, b = self._scaled(low, self.all(low)), self._scaled(high, self.all(high))
        return float(np.nanmean(b - a))


def _n_values(plain: np.ndarray) -> int:
    return len(np.unique(plain[~np.isnan(plain)]))


def _touch(low: np.ndarray, high: np.ndarray) -> bool:
    """Whether numbers meet in more than a few rows; where nothing is counted, all numbers are 0."""
    values, times = np.unique(high, return_counts=True)
    usual = values[times.argmax()]
    apart = (high != usual) & (high != 0)
    return bool(apart.sum() >= _FEWEST_ROWS and (low == high)[apart].mean() > 0.005)


def _summands(values: np.ndarray, total: int) -> Iterator[list[int]]:
    """Yield the positions of columns that sum to another one in some rows.

    Parameters
    ----------
    values : ndarray of shape (n_columns, n_rows)
    total : int
        The position of the sum.
    """
    first = max(0, min(total - _MOST_SUMMANDS // 2, len(values) - _MOST_SUMMANDS))
    others = [k for k in range(len(values)) if k != total][first : first + _MOST_SUMMANDS]
    rows = np.argsort(-np.abs(values[total]), kind="stable")[:_SAMPLE_ROWS_OF_SUMS]
    # Large sums, and as many rows from anywhere: zeros tell nothing.
    rows = np.union1d(rows, np.linspace(0, values.shape[1] - 1, _SAMPLE_ROWS_OF_SUMS).astype(int))
    few, wanted = values[:, rows], values[total, rows]
    scale = 1e-6 * (1 + np.abs(few).max(axis=1))
    is_near = lambda sums, some: np.abs(sums - wanted[some]) <= scale[total]
    parts, all_rows, start = few[others], slice(None), slice(4)
    for j in np.flatnonzero(is_near(parts, all_rows).all(axis=1)):
        yield [others[j]]
    begin = parts[:, start]
    for length, sums in (2, begin[:, None] + begin), (3, _sums_of_runs(begin)):
        near = is_near(sums, start).all(axis=2)
        for i, j in np.argwhere(np.triu(near, length - 1)):
            found = [i, j] if length == 2 else list(range(i, j + 1))
            if is_near(parts[found].sum(axis=0), all_rows).all():
                yield [others[k] for k in found]


def _sums_of_runs(parts: np.ndarray) -> np.ndarray:
    """Return the sums of columns i to j, both included, at [i, j] where i <= j."""
    before = np.cumsum(np.vstack([np.zeros_like(parts[:1]), parts]), axis=0)
    return before[None, 1:] - before[:-1, None]
