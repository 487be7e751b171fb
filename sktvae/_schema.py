"""What the user's table looks like, and how to give the same back.

`TableSchema.learn` looks at a table; `read` turns such a table into plain columns (float64 numbers
or categories); `write` turns plain columns into a table of the same container, column names, order
and dtypes. No statistics of the data are kept here.
"""

import numbers
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_array

# Integers beyond this are not exact in float64, in which all numbers are modelled.
_LARGEST_INTEGER = 2**53
_TIME_KINDS = {"M": "datetime", "m": "timedelta"}  # by the letter of numpy's dtype
_TIME_UNITS = ("D", "h", "m", "s", "ms", "us", "ns")


@dataclass(frozen=True)
class Column:
    """One column as the user has it.

    Attributes
    ----------
    name : hashable
        The label; ``x0``, ``x1``, ... where the table has none.
    kind : {"number", "category", "datetime", "timedelta"}
        Everything but "category" is modelled as a float64 number.
    dtype_name : str
        As found, and as given back; `dtype` is the dtype itself. Plain values are kept, and not
        pandas objects, so that a model can be saved with skops too.
    categories : tuple or None
        (values, dtype name, ordered) of the category dtype.
    unit : str or None
        For times, the coarsest of day, hour, ..., nanosecond in which every value is whole.
    integer : bool
        Whether an object column of numbers holds integers only.
    missing : object
        What an object column marks a missing value with.
    """

    name: Hashable
    kind: str
    dtype_name: str
    unit: str | None = None
    integer: bool = False
    missing: Any = None
    categories: tuple | None = None

    @property
    def dtype(self):
        if self.categories is None:
            return pd.api.types.pandas_dtype(self.dtype_name)
        values, dtype_name, ordered = self.categories
        return pd.CategoricalDtype(pd.Index(list(values), dtype=dtype_name), ordered)

    @classmethod
    def learn(cls, name, series):
        dtype, dtype_name = series.dtype, str(series.dtype)
        if isinstance(dtype, pd.CategoricalDtype):
            values = dtype.categories
            categories = (tuple(values), str(values.dtype), dtype.ordered)
            return cls(name, "category", dtype_name, categories=categories)
        if pd.api.types.is_bool_dtype(dtype):
            return cls(name, "category", dtype_name)
        if pd.api.types.is_complex_dtype(dtype):
            raise ValueError(f"Complex data not supported: column {name!r} is {dtype}.")
        if pd.api.types.is_numeric_dtype(dtype):
            return cls(name, "number", dtype_name)
        if dtype.kind in _TIME_KINDS:
            return cls(name, _TIME_KINDS[dtype.kind], dtype_name, unit=_coarsest_unit(series))
        if pd.api.types.is_object_dtype(dtype):
            return cls._learn_objects(name, series)
        return cls(name, "category", dtype_name)

    @classmethod
    def _learn_objects(cls, name, series):
        values, absent = series.to_numpy(), series.isna().to_numpy()
        present = values[~absent]
        missing = values[absent][0] if absent.any() else None
        _check_hashable(name, values, absent)
        families = {}
        for value in present:
            families.setdefault(_family(type(value)), value)
        if len(families) > 1:
            some = " and ".join(f"{v!r} ({type(v).__name__})" for v in list(families.values())[:2])
            raise TypeError(
                f"Column {name!r} has mixed types: {some}. Make it one type first, for instance "
                f"X[{name!r}] = X[{name!r}].astype(str)."
            )
        if complex in families:
            raise ValueError(f"Complex data not supported: column {name!r} holds {present[0]!r}.")
        if numbers.Real in families:
            integer = all(isinstance(v, numbers.Integral) for v in present)
            return cls(name, "number", "object", integer=integer, missing=missing)
        return cls(name, "category", "object", missing=missing)

    def read(self, series):
        """Plain values of this column: float64 with NaN, or a Series of categories."""
        if self.kind == "category":
            if pd.api.types.is_object_dtype(series.dtype):
                _check_hashable(self.name, series.to_numpy(), series.isna().to_numpy())
            return series
        if self.kind == "number":
            return self._read_number(series)
        try:
            times = series.astype(self.dtype)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"Column {self.name!r} was {self.dtype} in fit and is {series.dtype} now ({error})."
            ) from error
        absent = times.isna().to_numpy()
        whole, rest = np.divmod(np.where(absent, 0, _ticks(times)), _ticks_in(self.unit, times))
        if np.abs(whole).max(initial=0) > _LARGEST_INTEGER:
            raise ValueError(
                f"Column {self.name!r} has times in {self.unit}, more digits than a float holds. "
                f"Round them: X[{self.name!r}].dt.round('us')."
            )
        return np.where(absent, np.nan, whole + rest / _ticks_in(self.unit, times))

    def _read_number(self, series):
        try:
            values = pd.to_numeric(series).to_numpy(dtype=float, na_value=np.nan)
        except (TypeError, ValueError) as error:
            bad = next((v for v in series if isinstance(v, str)), None)
            raise TypeError(
                f"Column {self.name!r} was a number in fit and holds {bad!r} now. Give it numbers, "
                f"or fit with it as a category: X[{self.name!r}].astype(str)."
            ) from error
        infinite = np.flatnonzero(np.isinf(values))
        if infinite.size:
            raise ValueError(
                f"Column {self.name!r} has an infinite value ({values[infinite[0]]} in row "
                f"{infinite[0]}). Replace it by a finite value or by NaN, which is modelled as "
                f"missing: X[{self.name!r}].replace([numpy.inf, -numpy.inf], numpy.nan)."
            )
        whole = pd.api.types.is_integer_dtype(self.dtype) or self.integer
        if whole and np.nanmax(np.abs(values), initial=0) > _LARGEST_INTEGER:
            raise ValueError(
                f"Column {self.name!r} has integers beyond 2**53, which a float cannot hold "
                f"exactly. If it is an identifier, drop it or make it text: "
                f"X[{self.name!r}].astype(str)."
            )
        return values

    def write(self, values):
        """A Series as the user had it, from plain values."""
        dtype = self.dtype
        if self.kind == "category":
            values = np.asarray(values, dtype=object)
            if isinstance(dtype, pd.CategoricalDtype):
                # a label for infrequent categories may be none of the column's own
                labels = pd.unique(values[~pd.isna(values)])
                new = [label for label in labels if label not in dtype.categories]
                if new:
                    dtype = pd.CategoricalDtype([*dtype.categories, *new], dtype.ordered)
                return pd.Series(pd.Categorical(values, dtype=dtype))
            if pd.api.types.is_object_dtype(dtype):
                absent = pd.isna(values)
                if absent.any():
                    values = values.copy()
                    values[absent] = self.missing
                return pd.Series(values, dtype=object)
            return pd.Series(values, dtype=object).astype(dtype)
        values = np.asarray(values, dtype=float)
        absent = np.isnan(values)
        if self.kind != "number":
            ticks = np.rint(np.where(absent, 0, values)).astype("int64")
            stamp = pd.Series(ticks.astype(f"{self.kind}64[{self.unit}]"))
            stamp = stamp.where(~absent)
            if isinstance(dtype, pd.DatetimeTZDtype):
                stamp = stamp.dt.tz_localize("UTC").dt.tz_convert(dtype.tz)
            return stamp.astype(dtype)
        if pd.api.types.is_object_dtype(dtype):
            plain = np.rint(np.where(absent, 0, values)).astype("int64") if self.integer else values
            plain = plain.astype(object)
            plain[absent] = self.missing
            return pd.Series(plain, dtype=object)
        if pd.api.types.is_integer_dtype(dtype):
            whole = pd.array(np.rint(np.where(absent, 0, values)).astype("int64"), dtype="Int64")
            whole[absent] = pd.NA
            return pd.Series(whole).astype(dtype)
        return pd.Series(values).astype(dtype)


@dataclass(frozen=True)
class TableSchema:
    """The shape of a table: its container, and its columns in order."""

    container: str
    columns: tuple[Column, ...]
    dtype: str | None = None  # of a numpy array
    named: bool = False  # whether the user named the columns

    @classmethod
    def learn(cls, X):
        """Look at ``X``; an error says what cannot be modelled, and the way out."""
        frame, container, dtype = _as_frame(X)
        labels = list(frame.columns)
        twice = frame.columns[frame.columns.duplicated()]
        if len(twice):
            raise ValueError(
                f"X has duplicate column names: {twice[0]!r} stands {labels.count(twice[0])} "
                f"times. Rename them, or keep the first: X.loc[:, ~X.columns.duplicated()]."
            )
        for label in labels:
            if len(frame) and frame[label].isna().all():
                raise ValueError(
                    f"Column {label!r} has only missing values, so there is nothing to learn. "
                    f"Drop it: X.drop(columns=[{label!r}])."
                )
        columns = tuple(Column.learn(label, frame[label]) for label in labels)
        return cls(container, columns, dtype, container == "pandas")

    @property
    def names(self):
        return [column.name for column in self.columns]

    @property
    def feature_names(self):
        """Names as scikit-learn keeps them: an array where all are strings, None elsewhere."""
        if self.named and all(isinstance(name, str) for name in self.names):
            return np.array(self.names, dtype=object)
        return None

    def read(self, X, owner="the estimator"):
        """Plain columns of ``X``, which must have the columns of this schema.

        Returns
        -------
        columns : list of (float64 array or Series of categories), each of shape (n_samples,)
        """
        frame = self._conform(X, owner)
        return [c.read(frame.iloc[:, i]) for i, c in enumerate(self.columns)]

    def write(self, columns):
        """A table as the user had it, from plain columns."""
        series = [c.write(values) for c, values in zip(self.columns, columns, strict=True)]
        if self.container == "pandas":
            frame = pd.concat(series, axis=1) if series else pd.DataFrame()
            frame.columns = _labels(self.names)
            return frame
        out = np.empty((len(series[0]), len(series)), dtype=self.dtype)
        for i, values in enumerate(series):
            out[:, i] = values.to_numpy()
        return out

    def _conform(self, X, owner):
        frame, container, _ = _as_frame(X, min_samples=1)
        labels, names = list(frame.columns), self.names
        if container == "pandas" and self.named and labels != names:
            missing = [n for n in names if n not in labels]
            unseen = [n for n in labels if n not in names]
            text = "The feature names should match those that were passed during fit.\n"
            if unseen:
                text += f"Feature names unseen at fit time: {unseen}.\n"
            if missing:
                text += f"Feature names seen at fit time, yet now missing: {missing}.\n"
            if not (missing or unseen):
                first = next(n for n, m in zip(labels, names, strict=False) if n != m)
                text += (
                    "Feature names must be in the same order as they were in fit; "
                    f"{first!r} is the first out of place.\n"
                )
            if len(labels) != len(names):
                text += (
                    f"X has {len(labels)} features, but {owner} is expecting "
                    f"{len(names)} features as input.\n"
                )
            raise ValueError(text + f"Select them: X[{names!r}].")
        if len(labels) != len(names):
            raise ValueError(
                f"X has {len(labels)} features, but {owner} is expecting {len(names)} "
                "features as input."
            )
        return frame


def _as_frame(X, min_samples=1):
    """``X`` as a DataFrame, the container it came in, and the dtype of a numpy array."""
    if isinstance(X, pd.DataFrame):
        if any(isinstance(dtype, pd.SparseDtype) for dtype in X.dtypes):
            raise TypeError("Sparse columns are not supported: use X.sparse.to_dense().")
        if len(X) < min_samples:
            raise ValueError(
                f"Found an empty table: {len(X)} sample(s) (shape={X.shape}) while a minimum of "
                f"{min_samples} is required."
            )
        if X.shape[1] == 0:
            raise ValueError(
                f"Found a table with 0 feature(s) (shape={X.shape}) while a minimum of 1 is "
                "required."
            )
        return X, "pandas", None
    if isinstance(X, list | tuple):
        X = np.array(X, dtype=object)
    array = check_array(X, dtype=None, ensure_all_finite=False, ensure_min_samples=min_samples)
    frame = pd.DataFrame(array, columns=[f"x{i}" for i in range(array.shape[1])])
    if array.dtype.kind in "US":
        frame = frame.astype(object)
    return frame, "numpy", array.dtype.str


def _labels(names):
    if names and all(isinstance(n, tuple) for n in names):
        return pd.MultiIndex.from_tuples(names)
    return pd.Index(names)


def _family(kind):
    """The class of values that may share a column with values of type ``kind``."""
    for family in (bool, numbers.Real, complex):
        if issubclass(kind, np.bool_ if family is bool else family) or kind is family:
            return family
    return kind


def _check_hashable(name, values, absent):
    for row in np.flatnonzero(~absent):
        value = values[row]
        if type(value).__hash__ is None:
            raise TypeError(
                f"Column {name!r} holds a {type(value).__name__} ({value!r} in row {row}); every "
                "cell argument must be a string, a number, a date or another hashable value. "
                f"Spread it over columns of its own, or drop it: X.drop(columns=[{name!r}])."
            )


def _ticks(times):
    """Integers behind a Series of times, in the unit of its dtype; missing ones are arbitrary."""
    if isinstance(times.dtype, pd.DatetimeTZDtype):
        times = times.dt.tz_convert("UTC").dt.tz_localize(None)
    return times.to_numpy().astype("int64")


def _ticks_in(unit, times):
    """How many ticks of a Series' own dtype make one `unit`; at least one."""
    own = times.dtype.unit if hasattr(times.dtype, "unit") else np.datetime_data(times.dtype)[0]
    return max(int(np.timedelta64(1, unit) / np.timedelta64(1, own)), 1)


def _coarsest_unit(series):
    """The coarsest unit in which all times of a Series are whole."""
    ticks = _ticks(series[series.notna()])
    return next(u for u in _TIME_UNITS if not (ticks % _ticks_in(u, series)).any())
