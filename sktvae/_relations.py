"""Relations between columns that every row keeps, because they are modelled away.

A relation turns the columns that it names into what is left to learn (a difference, one category,
nothing), and back. It works on plain columns, as `Column.read` gives them, and never rejects a row.
"""

from abc import ABC, abstractmethod

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from sktvae._number_codecs import decimals_of
from sktvae._schema import ticks_in


class Relation(BaseEstimator, ABC):
    """What the encoder knows of a relation.

    Attributes
    ----------
    kind : {"number", "category", None}
        Of what the target columns become; None if nothing is left to learn.
    """

    @property
    @abstractmethod
    def targets(self):
        """Names of the columns that are encoded, as the first of them, in another way."""

    @property
    def sources(self):
        """Names of the columns that it takes to decode the targets."""
        return ()

    @abstractmethod
    def fit(self, columns, targets, sources):
        """Learn; raise ValueError where a row does not keep the relation.

        Parameters
        ----------
        columns : list of Column
            Of the targets, then of the sources.
        targets, sources : list of plain columns
        """

    @abstractmethod
    def encode(self, targets, sources):
        """The plain column that is learned in place of the targets."""

    @abstractmethod
    def decode(self, encoded, sources):
        """Plain columns of the targets, a list."""


class LessEqual(Relation):
    """``low <= high`` in every row: `high` is learned as its difference from `low`.

    For two columns of numbers, of dates or of durations. Rows where one of them is missing are
    free. Decoded values of `high` stay on their grid (integers, decimals, days), where that is
    coarser than that of `low` on the next value up; and in their range: above a `low` that is
    beyond it, `high` is missing. (It leaves its range if it was never missing, which needs a `low`
    that leaves its own, as a :class:`SumOf` may.)

    Parameters
    ----------
    low, high : str
        Names of columns.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktvae import LessEqual, TableEncoder
    >>> X = pd.DataFrame({"begin": [1990, 2001, 2010] * 9, "end": [1999, 2001, 2020] * 9})
    >>> encoder = TableEncoder(relations=[LessEqual("begin", "end")]).fit(X)
    >>> encoder.inverse_transform([[0, 1], [2, 0], [0, 2]])
       begin   end
    0   1990  1999
    1   2010  2010
    2   1990  2000
    """

    kind = "number"

    def __init__(self, low, high):
        self.low = low
        self.high = high

    @property
    def targets(self):
        return (self.high,)

    @property
    def sources(self):
        return (self.low,)

    def fit(self, columns, targets, sources):
        upper, lower = columns
        if upper.kind != lower.kind or upper.kind == "category":
            raise ValueError(
                f"LessEqual({self.low!r}, {self.high!r}) needs two columns of numbers, of dates or "
                f"of durations, and they are {lower.kind} and {upper.kind}."
            )
        zones = [isinstance(c.dtype, pd.DatetimeTZDtype) for c in columns]
        if zones[0] != zones[1]:
            raise ValueError(
                f"LessEqual({self.low!r}, {self.high!r}): one has a time zone and the other has "
                "none. Give both one, with dt.tz_localize."
            )
        # one unit of `low` in units of `high`, as a fraction
        self._scale = (1, 1)
        if upper.unit:
            self._scale = ticks_in(lower.unit, upper.unit), ticks_in(upper.unit, lower.unit)
        (high,), low = targets, self._low(sources)
        self._floor = 0.0 if np.isnan(low).all() else np.nanmin(low)
        present = high[~np.isnan(high)]
        self._high_decimals = decimals_of(present)
        both = [self._high_decimals, decimals_of(low[~np.isnan(low)])]
        self._decimals = None if None in both else max(both)
        self._range = (present.min(), present.max()) if len(present) else (-np.inf, np.inf)
        self._may_be_missing = len(present) < len(high)
        self.encode(targets, sources)

    def _low(self, sources):
        return np.asarray(sources[0], dtype=float) * self._scale[0] / self._scale[1]

    def encode(self, targets, sources):
        (high,), low = targets, self._low(sources)
        wrong = np.flatnonzero(high < low)
        if wrong.size:
            raise ValueError(
                f"Row {wrong[0]} breaks LessEqual({self.low!r}, {self.high!r}), as do "
                f"{wrong.size} rows in all: {low[wrong[0]]} > {high[wrong[0]]}. Mend or drop them: "
                f"X[~(X[{self.low!r}] > X[{self.high!r}])]."
            )
        return self._round(high - np.where(np.isnan(low), self._floor, low), self._decimals)

    def decode(self, encoded, sources):
        low = self._low(sources)
        start = np.where(np.isnan(low), self._floor, low)
        high = self._round(start + encoded.astype(float), self._high_decimals)
        high = np.clip(high, *self._range)
        least = low
        if self._high_decimals is not None:
            step = 10.0**-self._high_decimals
            least = self._round(low, self._high_decimals)
            least = self._round(np.where(least < low, least + step, least), self._high_decimals)
        high = np.where(high < least, least, high)
        if self._may_be_missing:  # as it was where low was so high
            high = np.where(high > self._range[1], np.nan, high)
        return [high]

    @staticmethod
    def _round(values, decimals):
        return values if decimals is None else np.round(values, decimals)


class FixedCombinations(Relation):
    """Only combinations of values that were seen: the columns are learned as one category.

    For columns such as city and country. A missing value is a value like others here.

    Parameters
    ----------
    columns : list of str
        Names of columns, two or more.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktvae import FixedCombinations, TableEncoder
    >>> X = pd.DataFrame({"city": ["Oslo", "Rome", "Bari"] * 9, "land": ["N", "I", "I"] * 9})
    >>> encoder = TableEncoder(relations=[FixedCombinations(["city", "land"])]).fit(X)
    >>> encoder.inverse_transform([[0], [1], [2]])
       city land
    0  Bari    I
    1  Oslo    N
    2  Rome    I
    """

    kind = "category"

    def __init__(self, columns):
        self.columns = columns

    @property
    def targets(self):
        return tuple(self.columns)

    def fit(self, columns, targets, sources):
        if len(columns) < 2:
            raise ValueError(f"{self} needs two columns or more.")
        self._numbers = [column.kind != "category" for column in columns]

    def encode(self, targets, sources):
        cells = [pd.Series(column).astype(object) for column in targets]
        cells = [column.where(column.notna(), None) for column in cells]
        out = np.empty(len(cells[0]), dtype=object)
        out[:] = list(zip(*cells, strict=True))
        return pd.Series(out)

    def decode(self, encoded, sources):
        columns = list(zip(*encoded, strict=True)) or [()] * len(self._numbers)
        out = []
        for values, number in zip(columns, self._numbers, strict=True):
            plain = np.empty(len(values), dtype=object)
            plain[:] = values
            out.append(plain.astype(float) if number else plain)
        return out


class SumOf(Relation):
    """``total`` is the sum of `parts` in every row: it is not learned but added up.

    A difference is the same, read the other way: ``gain = price - cost`` is
    ``SumOf("price", ["gain", "cost"])``. The total is missing where, and only where, a part is. It
    may leave the range that it had.

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
    >>> X = pd.DataFrame({"net": [10.5, 20.0] * 9, "tax": [1.5, 2.5] * 9})
    >>> X["gross"] = X["net"] + X["tax"]
    >>> encoder = TableEncoder(relations=[SumOf("gross", ["net", "tax"])]).fit(X)
    >>> encoder.inverse_transform([[0, 1]])
        net  tax  gross
    0  10.5  2.5   13.0
    """

    kind = None

    def __init__(self, total, parts):
        self.total = total
        self.parts = parts

    @property
    def targets(self):
        return (self.total,)

    @property
    def sources(self):
        return tuple(self.parts)

    def fit(self, columns, targets, sources):
        total = columns[0]
        for column in columns:
            if column.kind != "number":
                raise ValueError(
                    f"SumOf({self.total!r}, {self.parts!r}) needs columns of numbers, and "
                    f"{column.name!r} is a {column.kind}."
                )
        if not sources:
            raise ValueError(f"{self} has no parts. Name the columns that add up to the total.")
        decimals = [decimals_of(part[~np.isnan(part)]) for part in sources]
        self._decimals = None if None in decimals else max(decimals)
        if total.whole and self._decimals != 0:
            raise ValueError(
                f"{self.total!r} holds integers, but its parts {self.parts!r} do not: their sums "
                "would not be whole."
            )
        known = [part[~np.isnan(part)] for part in sources]
        ends = [sum(f(part) for part in known if len(part)) for f in (np.min, np.max)]
        if ends[0] < total.limits[0] or ends[1] > total.limits[1]:
            raise ValueError(
                f"Sums of {self.parts!r} can be {ends[0]:.0f} to {ends[1]:.0f}, more than "
                f"{self.total!r} holds as {total.dtype_name}. Make it wider: "
                f"X[{self.total!r}].astype('int64')."
            )
        self._check(targets[0], sources)

    def _check(self, total, parts):
        total_of = self.decode(None, parts)[0]
        near = np.isclose(total, total_of, rtol=1e-9, atol=1e-9, equal_nan=True)
        wrong = np.flatnonzero(~near)
        if wrong.size:
            row = wrong[0]
            raise ValueError(
                f"Row {row} breaks SumOf({self.total!r}, {self.parts!r}), as do {wrong.size} rows "
                f"in all: the parts sum to {total_of[row]} and the total is {total[row]}. Mend or "
                "drop them, or leave the relation out."
            )

    def encode(self, targets, sources):
        self._check(targets[0], sources)

    def decode(self, encoded, sources):
        total = np.sum([np.asarray(part, dtype=float) for part in sources], axis=0)
        return [total if self._decimals is None else np.round(total, self._decimals)]
