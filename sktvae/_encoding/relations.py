"""Relations between columns that hold in every row, because they are modelled away.

A relation turns the columns that it names into what is left to learn (a difference, one category,
nothing), and back. It works on plain columns, and never rejects a drawn row.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from sktvae._encoding.summary import as_objects
from sktvae._table.decimals import DecimalGrid
from sktvae._table.times import ticks_in


class Relation(BaseEstimator, ABC):
    """The interface of a relation.

    Attributes
    ----------
    kind : {"number", "category", None}
        What is learned in place of the targets; None if nothing is left to learn.
    """

    kind: str | None

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        """Return code to paste, such as ``LessEqual('begin', 'end')``."""
        names = list(inspect.signature(type(self)).parameters)
        return f"{type(self).__name__}({', '.join(repr(getattr(self, n)) for n in names)})"

    @property
    @abstractmethod
    def targets(self) -> tuple:
        """Names of the columns that are replaced by one, in the place of the first."""

    @property
    def sources(self) -> tuple:
        """Names of the columns that are needed to decode the targets."""
        return ()

    @abstractmethod
    def fit(self, columns: list, targets: list, sources: list) -> None:
        """Learn from the plain columns. Rows that break the relation are found by `encode`.

        Parameters
        ----------
        columns : list of Column
            Those of the targets, then those of the sources.
        targets, sources : list of plain columns

        Raises
        ------
        ValueError
            If the columns are not of the right kind.
        """

    @abstractmethod
    def encode(self, targets: list, sources: list) -> Any:
        """Return the plain column that is learned in place of the targets.

        Raises
        ------
        ValueError
            If a row breaks the relation.
        """

    @abstractmethod
    def decode(self, encoded: Any, sources: list) -> list:
        """Return the plain columns of the targets."""


class LessEqual(Relation):
    """``low <= high`` in every row: `high` is learned as its difference from `low`.

    The two columns are both numbers, both dates or both durations. Rows in which one of them is
    missing are not restricted. Decoded values of `high` stay on their grid (integers, decimals,
    days) and in their range. If the grid of `high` is coarser than that of `low`, `high` is
    rounded up. If a drawn `low` is above the whole range of `high`, `high` is missing, provided
    that it was ever missing in `fit`. (If it was not, `high` exceeds its range; this happens only
    if `low` exceeds its own range, which the total of a :class:`SumOf` can do.)

    Parameters
    ----------
    low, high : str
        Names of columns.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktvae import LessEqual, TableEncoder
    >>> X = pd.DataFrame({"begin": [1990, 2001, 2010] * 25, "end": [1999, 2001, 2020] * 25})
    >>> encoder = TableEncoder(relations=[LessEqual("begin", "end")]).fit(X)
    >>> encoder.inverse_transform([[0, 1], [2, 0], [0, 2]])
       begin   end
    0   1990  1999
    1   2010  2010
    2   1990  2000
    """

    kind = "number"

    def __init__(self, low: str, high: str):
        self.low = low
        self.high = high

    @property
    def targets(self) -> tuple:
        return (self.high,)

    @property
    def sources(self) -> tuple:
        return (self.low,)

    def fit(self, columns: list, targets: list, sources: list) -> None:
        upper, lower = columns
        if upper.kind != lower.kind or not upper.is_numeric:
            raise ValueError(
                f"LessEqual({self.low!r}, {self.high!r}) needs two columns of numbers, of dates or "
                f"of durations, but {self.low!r} is a {lower.kind} and {self.high!r} is a "
                f"{upper.kind}."
            )
        if getattr(upper, "has_zone", None) != getattr(lower, "has_zone", None):
            raise ValueError(
                f"LessEqual({self.low!r}, {self.high!r}) needs a time zone in both columns or in "
                "neither. Add one with dt.tz_localize."
            )
        self._upper = upper
        # One unit of `low` in units of `high`, as a fraction.
        self._scale = (1, 1)
        if hasattr(upper, "unit"):
            self._scale = ticks_in(lower.unit, upper.unit), ticks_in(upper.unit, lower.unit)
        (high,), low = targets, self._low(sources)
        self._floor = 0.0 if np.isnan(low).all() else float(np.nanmin(low))
        present = high[~np.isnan(high)]
        self._high_grid = DecimalGrid.of(high)
        self._grid = self._high_grid.finest(DecimalGrid.of(low))  # of differences
        self._range = (present.min(), present.max()) if len(present) else (-np.inf, np.inf)
        self._may_be_missing = len(present) < len(high)

    def _low(self, sources: list) -> np.ndarray:
        return np.asarray(sources[0], dtype=float) * self._scale[0] / self._scale[1]

    def encode(self, targets: list, sources: list) -> np.ndarray:
        (high,), low = targets, self._low(sources)
        wrong = np.flatnonzero(high < low)
        if wrong.size:
            shown = self._upper.write(np.array([low[wrong[0]], high[wrong[0]]])).tolist()
            raise ValueError(
                f"LessEqual({self.low!r}, {self.high!r}) does not hold in {wrong.size} row(s), the "
                f"first of which is row {wrong[0]}: {shown[0]} > {shown[1]}. Correct or "
                f"drop them: X[~(X[{self.low!r}] > X[{self.high!r}])]."
            )
        start = np.where(np.isnan(low), self._floor, low)
        with np.errstate(over="ignore"):
            difference = high - start
        wrong = np.flatnonzero(np.isinf(difference))
        if wrong.size:
            raise ValueError(
                f"LessEqual({self.low!r}, {self.high!r}) learns differences, and that of "
                f"{high[wrong[0]]} and {start[wrong[0]]} in row {wrong[0]} is more than a float "
                f"can hold. Rescale both columns, such as X[[{self.low!r}, {self.high!r}]] / 1e10."
            )
        return self._grid.round(difference)

    def decode(self, encoded: Any, sources: list) -> list:
        low = self._low(sources)
        start = np.where(np.isnan(low), self._floor, low)
        high = self._high_grid.round(start + encoded.astype(float))
        high = np.clip(high, *self._range)
        high = np.where(high < low, self._high_grid.ceil(low), high)
        if self._may_be_missing:
            high = np.where(high > self._range[1], np.nan, high)
        return [high]


class FixedCombinations(Relation):
    """Restrict columns to the combinations that occur in `fit`: they are learned as one category.

    This is for columns such as city and country. A missing value counts as a value.

    Parameters
    ----------
    columns : list of str
        Names of columns, two or more.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktvae import FixedCombinations, TableEncoder
    >>> X = pd.DataFrame({"city": ["Oslo", "Rome", "Bari"] * 9, "country": ["N", "I", "I"] * 9})
    >>> encoder = TableEncoder(relations=[FixedCombinations(["city", "country"])]).fit(X)
    >>> encoder.inverse_transform([[0], [1], [2]])
       city country
    0  Bari       I
    1  Oslo       N
    2  Rome       I
    """

    kind = "category"

    def __init__(self, columns: Sequence):
        self.columns = columns

    @property
    def targets(self) -> tuple:
        if isinstance(self.columns, str):
            raise ValueError(
                f"FixedCombinations needs a list of column names, got the text {self.columns!r}."
            )
        return tuple(self.columns)

    def fit(self, columns: list, targets: list, sources: list) -> None:
        if len(columns) < 2:
            raise ValueError(f"{self} needs two columns or more, got {len(columns)}.")
        self._is_numeric = [column.is_numeric for column in columns]

    def encode(self, targets: list, sources: list) -> pd.Series:
        cells = [pd.Series(column).astype(object) for column in targets]
        cells = [column.where(column.notna(), None) for column in cells]
        return pd.Series(as_objects(zip(*cells, strict=True)))

    def decode(self, encoded: Any, sources: list) -> list:
        unknown = (None,) * len(self._is_numeric)  # in a partial table
        rows = [unknown if row is None else row for row in encoded]
        columns = list(zip(*rows, strict=True)) or [()] * len(self._is_numeric)
        plain = [as_objects(values) for values in columns]
        return [
            values.astype(float) if is_numeric else values
            for values, is_numeric in zip(plain, self._is_numeric, strict=True)
        ]


class SumOf(Relation):
    """``total`` is the sum of `parts` in every row: it is computed, not learned.

    A difference is a sum rearranged: ``gain = price - cost`` is
    ``SumOf("price", ["gain", "cost"])``. The total is missing if, and only if, one of the parts
    is. It may exceed the range that it had in `fit`.

    Parameters
    ----------
    total : str
        Name of a column of numbers.
    parts : list of str
        Names of columns of numbers.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktvae import SumOf, TableEncoder
    >>> X = pd.DataFrame({"net": [10.5, 20.0] * 25, "tax": [1.5, 2.5] * 25})
    >>> X["gross"] = X["net"] + X["tax"]
    >>> encoder = TableEncoder(relations=[SumOf("gross", ["net", "tax"])]).fit(X)
    >>> encoder.inverse_transform([[0, 1]])
        net  tax  gross
    0  10.5  2.5   13.0
    """

    kind = None

    def __init__(self, total: str, parts: Sequence):
        self.total = total
        self.parts = parts

    @property
    def targets(self) -> tuple:
        return (self.total,)

    @property
    def sources(self) -> tuple:
        if isinstance(self.parts, str):
            raise ValueError(f"SumOf needs a list of column names, got the text {self.parts!r}.")
        return tuple(self.parts)

    def fit(self, columns: list, targets: list, sources: list) -> None:
        total = columns[0]
        for column in columns:
            if column.kind != "number":
                raise ValueError(
                    f"SumOf({self.total!r}, {self.parts!r}) needs columns of numbers, but "
                    f"{column.name!r} is a {column.kind}."
                )
        if not sources:
            raise ValueError(f"{self} has no parts. Name the columns that add up to the total.")
        self._grid = DecimalGrid.of(sources[0])
        for part in sources[1:]:
            self._grid = self._grid.finest(DecimalGrid.of(part))
        # Sums that were computed in float32 are exact to its precision only.
        self._tolerance = max(1e-9, *(4 * column.storage.float_precision for column in columns))
        if total.whole and self._grid.decimals != 0:
            raise ValueError(
                f"{self.total!r} holds integers, but its parts {self.parts!r} do not: their sums "
                f"would not be integers. Convert the total: X[{self.total!r}].astype(float)."
            )
        known = [part[~np.isnan(part)] for part in sources]
        with np.errstate(over="ignore"):
            ends = [sum(f(part) for part in known if len(part)) for f in (np.min, np.max)]
        if np.isinf(ends).any():
            raise ValueError(
                f"Sums of {self.parts!r} may range from {ends[0]} to {ends[1]}: more than a float "
                f"can hold. Rescale the columns, such as X[{[self.total, *self.parts]!r}] / 1e10."
            )
        if ends[0] < total.limits[0] or ends[1] > total.limits[1]:
            raise ValueError(
                f"Sums of {self.parts!r} range from {ends[0]:.0f} to {ends[1]:.0f}, more than "
                f"{self.total!r} can hold as {total.dtype_name}. Use a wider dtype: "
                f"X[{self.total!r}].astype('int64')."
            )

    def encode(self, targets: list, sources: list) -> None:
        total, expected = targets[0], self.decode(None, sources)[0]
        size = np.sum([np.abs(part) for part in sources], axis=0)
        absolute = 1e-9 + self._tolerance * np.nan_to_num(size)
        near = np.isclose(total, expected, rtol=0, atol=absolute, equal_nan=True)
        wrong = np.flatnonzero(~near)
        if wrong.size:
            row = wrong[0]
            raise ValueError(
                f"SumOf({self.total!r}, {self.parts!r}) does not hold in {wrong.size} row(s), the "
                f"first of which is row {row}: the parts sum to {expected[row]} and the total is "
                f"{total[row]}. Correct or drop them, or omit the relation."
            )

    def decode(self, encoded: Any, sources: list) -> list:
        return [self._grid.round(np.sum([np.asarray(p, dtype=float) for p in sources], axis=0))]
