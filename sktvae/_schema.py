"""What the user's table looks like, and how to give the same back.

`TableSchema.learn` looks at a table; `Column.read` turns a column into plain values (float64
numbers or categories) and `Column.write` turns plain values into the column again;
`TableSchema.write` makes of them a table of the same container, names, order and dtypes. No
statistics of the data are kept.
"""

import datetime
import numbers
from collections.abc import Hashable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from sktvae._containers import as_frame

# Integers beyond this are not exact in float64, in which all numbers are modelled.
_LARGEST_INTEGER = 2**53
_TIME_KINDS = {"M": "datetime", "m": "timedelta"}  # by the letter of numpy's dtype
_TIME_UNITS = ("D", "h", "m", "s", "ms", "us", "ns")
# Python objects that are no categories, most special first, and the kind of column they make.
_OBJECTS = {
    "integer": (numbers.Integral, "number"),
    "real": ((int, float, np.integer, np.floating), "number"),
    "decimal": (Decimal, "number"),
    "timestamp": (pd.Timestamp, "datetime"),
    "time": (datetime.datetime, "datetime"),
    "date": (datetime.date, "datetime"),
    "span": (pd.Timedelta, "timedelta"),
    "interval": (datetime.timedelta, "timedelta"),
}
_MISSING = {"None": None, "nan": np.nan, "NA": pd.NA, "NaT": pd.NaT}
_FAMILIES = (bool, numbers.Real, complex, Decimal, datetime.datetime, datetime.date, str, bytes)


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
    unit : str or None
        For times, the coarsest of day, hour, ..., nanosecond in which every value is whole.
    objects : str or None
        For Python objects that are modelled as numbers, what they are.
    decimals : int or None
        Of a column of `decimal.Decimal`.
    missing : {"None", "nan", "NA", "NaT"}
        What an object column marks a missing value with.
    categories : tuple or None
        (values, dtype name, ordered) of the category dtype.
    arrow : bytes or None
        The type of a column that pyarrow holds, as a serialised schema.
    """

    name: Hashable
    kind: str
    dtype_name: str
    unit: str | None = None
    objects: str | None = None
    decimals: int | None = None
    missing: str = "None"
    categories: tuple | None = None
    arrow: bytes | None = None

    @property
    def dtype(self):
        if self.arrow is not None:
            import pyarrow as pa

            return pd.ArrowDtype(pa.ipc.read_schema(pa.py_buffer(self.arrow)).field(0).type)
        if self.categories is None:
            return pd.api.types.pandas_dtype(self.dtype_name)
        values, dtype_name, ordered = self.categories
        return pd.CategoricalDtype(pd.Index(list(values), dtype=dtype_name), ordered)

    @property
    def whole(self):
        """Whether the column holds integers only."""
        return self.objects == "integer" or (
            self.kind == "number" and pd.api.types.is_integer_dtype(self.dtype)
        )

    @property
    def limits(self):
        """The least and the largest number that the dtype holds."""
        dtype = getattr(self.dtype, "numpy_dtype", self.dtype)
        if self.kind == "number" and isinstance(dtype, np.dtype) and dtype.kind in "iu":
            bounds = np.iinfo(dtype)
            return max(bounds.min, -_LARGEST_INTEGER), min(bounds.max, _LARGEST_INTEGER)
        return -np.inf, np.inf

    @classmethod
    def learn(cls, name, series):
        dtype = series.dtype
        if isinstance(dtype, pd.ArrowDtype):
            return cls._learn_arrow(name, series)
        dtype_name = _name_of(dtype)
        if isinstance(dtype, pd.CategoricalDtype):
            values = dtype.categories
            categories = (tuple(values), _name_of(values.dtype), dtype.ordered)
            return cls(name, "category", dtype_name, categories=categories)
        if pd.api.types.is_bool_dtype(dtype):
            return cls(name, "category", dtype_name)
        if pd.api.types.is_complex_dtype(dtype):
            raise ValueError(
                f"Complex data not supported: column {name!r} is {dtype}. Give its real and its "
                "imaginary part a column each."
            )
        if pd.api.types.is_numeric_dtype(dtype):
            return cls(name, "number", dtype_name)
        if isinstance(dtype, pd.DatetimeTZDtype) and not _is_named(dtype_name, dtype):
            raise TypeError(
                f"Column {name!r} has the time zone {dtype.tz!r}, which has no name to be kept by. "
                f"Give it one: X[{name!r}].dt.tz_convert('Europe/Paris')."
            )
        if dtype.kind in _TIME_KINDS:
            return cls(name, _TIME_KINDS[dtype.kind], dtype_name, unit=_coarsest_unit(series))
        if pd.api.types.is_object_dtype(dtype):
            return cls._learn_objects(name, series)
        return cls(name, "category", dtype_name)

    @classmethod
    def _learn_arrow(cls, name, series):
        import pyarrow as pa

        kind = series.dtype.pyarrow_dtype
        if pa.types.is_nested(kind):
            raise _nested(name, next(iter(series.dropna()), None), kind)
        arrow = pa.schema([("x", kind)]).serialize().to_pybytes()
        about = {"name": name, "dtype_name": str(series.dtype), "arrow": arrow}
        if pa.types.is_temporal(kind) and not pa.types.is_time(kind):
            letter = "timedelta" if pa.types.is_duration(kind) else "datetime"
            return cls(kind=letter, unit=_coarsest_unit(series), **about)
        if pa.types.is_decimal(kind):
            return cls(kind="number", decimals=max(kind.scale, 0), **about)
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        return cls(kind="number" if number else "category", **about)

    @classmethod
    def _learn_objects(cls, name, series):
        values, absent = series.to_numpy(), series.isna().to_numpy()
        present = values[~absent]
        missing = _word_for(values[absent][0]) if absent.any() else "None"
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
        for objects, (kind, of) in _OBJECTS.items():
            if bool in families or not len(present):
                break
            if not all(isinstance(v, kind) for v in present):
                continue
            if any(getattr(v, "tzinfo", None) is not None for v in present):
                break  # an object for each time zone: kept as they are
            about = {"objects": objects, "missing": missing}
            if of != "number":
                about["unit"] = _coarsest_unit(series)
            elif objects == "decimal":
                about["decimals"] = max(max(-v.as_tuple().exponent, 0) for v in present)
            return cls(name, of, "object", **about)
        return cls(name, "category", "object", missing=missing)

    def read(self, series):
        """Plain values of this column: float64 with NaN, or a Series of categories."""
        if self.kind == "category":
            if pd.api.types.is_object_dtype(series.dtype):
                _check_hashable(self.name, series.to_numpy(), series.isna().to_numpy())
            elif isinstance(series.dtype, pd.ArrowDtype):
                import pyarrow as pa

                return pd.Series(pa.array(series).to_pylist(), dtype=object)
            return series
        if self.kind == "number":
            return self._read_number(series)
        try:
            if self.objects is None and series.dtype != self.dtype:
                series = series.astype(self.dtype)
            ticks, absent, own = _ticks(series)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"Column {self.name!r} was {self.dtype} in fit and is {series.dtype} now ({error})."
            ) from error
        whole, rest = np.divmod(ticks, ticks_in(self.unit, own))
        if np.abs(whole).max(initial=0) > _LARGEST_INTEGER:
            raise ValueError(
                f"Column {self.name!r} has times in {self.unit}, more digits than a float holds. "
                f"Round them: X[{self.name!r}].dt.round('us')."
            )
        return np.where(absent, np.nan, whole + rest / ticks_in(self.unit, own))

    def _read_number(self, series):
        try:
            if self.decimals is not None:
                series = series.astype(object).map(float, na_action="ignore")
            if not pd.api.types.is_numeric_dtype(series.dtype):
                series = pd.to_numeric(series)
            values = series.to_numpy(dtype=float, na_value=np.nan)
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
        exact = self.whole or self.decimals is not None
        largest = np.nanmax(np.abs(values)) if exact and not np.isnan(values).all() else 0
        if largest * 10.0 ** (self.decimals or 0) > _LARGEST_INTEGER:
            what = "integers beyond 2**53" if self.whole else "decimals of more than 15 digits"
            raise ValueError(
                f"Column {self.name!r} has {what}, which a float cannot hold "
                f"exactly. If it is an identifier, drop it or make it text: "
                f"X[{self.name!r}].astype(str)."
            )
        dtype = getattr(series.dtype, "numpy_dtype", series.dtype)
        if isinstance(dtype, np.dtype) and dtype.kind == "f" and dtype.itemsize < 8:
            return _shortest(values, dtype)
        return values

    def write(self, values):
        """A Series as the user had it, from plain values."""
        if self.kind == "category":
            return self._write_categories(np.asarray(values, dtype=object))
        values = np.asarray(values, dtype=float)
        absent = np.isnan(values)
        if self.kind != "number":
            ticks = np.rint(np.where(absent, 0, values)).astype("int64")
            return self._write_times(ticks.astype(f"{self.kind}64[{self.unit}]"), absent)
        if self.decimals is not None:
            objects = [
                _MISSING[self.missing] if gone else Decimal(f"{value:.{self.decimals}f}")
                for value, gone in zip(values, absent, strict=True)
            ]
            return pd.Series(objects, dtype=self.dtype)
        if self.objects:
            plain = np.rint(np.where(absent, 0, values)).astype("int64") if self.whole else values
            plain = plain.astype(object)
            plain[absent] = _MISSING[self.missing]
            return pd.Series(plain, dtype=object)
        if self.whole:
            whole = np.rint(np.where(absent, 0, values))
            self._check_room(whole)
            whole = whole.astype("int64")
            if not absent.any():
                return pd.Series(whole).astype(self.dtype)
            whole = pd.array(whole, dtype="Int64")
            whole[absent] = pd.NA
            return pd.Series(whole).astype(self.dtype)
        if absent.any() and not isinstance(self.dtype, np.dtype):  # NaN is not NA everywhere
            return pd.Series(np.where(absent, None, values.astype(object)), dtype=self.dtype)
        return pd.Series(values).astype(self.dtype)

    def _check_room(self, whole):
        """Raise where the dtype has no room for a number, which would wrap around."""
        least, largest = self.limits
        wrong = whole[(whole < least) | (whole > largest)]
        if len(wrong):
            raise ValueError(
                f"Column {self.name!r} is {self.dtype_name}, and {wrong[0]:.0f} does not go into "
                "it: its keys are used up, or a sum or difference of other columns is beyond it. "
                f"Fit with a wider dtype: X[{self.name!r}].astype('int64')."
            )

    def _write_categories(self, values):
        dtype = self.dtype
        if isinstance(dtype, pd.CategoricalDtype):
            # a label for infrequent categories may be none of the column's own
            labels = pd.unique(values[~pd.isna(values)])
            new = [label for label in labels if label not in dtype.categories]
            if new:
                dtype = pd.CategoricalDtype([*dtype.categories, *new], dtype.ordered)
            return pd.Series(pd.Categorical(values, dtype=dtype))
        absent = pd.isna(values)
        if pd.api.types.is_object_dtype(dtype):
            if absent.any():
                values = values.copy()
                values[absent] = _MISSING[self.missing]
            return pd.Series(values, dtype=object)
        if self.arrow is not None:
            return _arrow_series(values, absent, dtype.pyarrow_dtype)
        return pd.Series(values, dtype=object).astype(dtype)

    def _write_times(self, times, absent):
        if self.objects == "date":
            plain = times.astype("datetime64[D]").astype(object)
        elif self.objects in ("time", "interval"):
            plain = times.astype(f"{self.kind}64[us]").astype(object)
        elif self.objects:
            plain = pd.Series(times).astype(object).to_numpy(copy=True)
        if self.objects:
            plain[absent] = _MISSING[self.missing]
            return pd.Series(plain, dtype=object)
        if self.arrow is not None:
            import pyarrow as pa

            kind = self.dtype.pyarrow_dtype
            own = "ms" if pa.types.is_date64(kind) else getattr(kind, "unit", "D")
            ticks = times.astype(f"{self.kind}64[{own}]").astype("int64")
            return _arrow_series(ticks, absent, kind)
        series = pd.Series(times).where(~absent)
        if isinstance(self.dtype, pd.DatetimeTZDtype):
            series = series.dt.tz_localize("UTC").dt.tz_convert(self.dtype.tz)
        return series.astype(self.dtype)


@dataclass(frozen=True)
class TableSchema:
    """The shape of a table: its container, and its columns in order."""

    container: Any
    columns: tuple[Column, ...]

    @classmethod
    def learn(cls, X):
        """Look at ``X``; an error says what cannot be modelled, and the way out.

        Returns
        -------
        schema : TableSchema
        frame : DataFrame
            ``X`` in pandas.
        """
        frame, container = as_frame(X)
        labels = list(frame.columns)
        twice = frame.columns[frame.columns.duplicated()]
        if len(twice):
            raise ValueError(
                f"X has duplicate column names: {twice[0]!r} stands {labels.count(twice[0])} "
                f"times. Rename them, or keep the first: X.loc[:, ~X.columns.duplicated()]."
            )
        columns = tuple(Column.learn(label, frame[label]) for label in labels)
        return cls(container, columns), frame

    @property
    def names(self):
        return [column.name for column in self.columns]

    @property
    def feature_names(self):
        """Names as scikit-learn keeps them: an array where all are strings, None elsewhere."""
        if self.container.named and all(isinstance(name, str) for name in self.names):
            return np.array(self.names, dtype=object)
        return None

    def conform(self, X, owner="the estimator"):
        """``X`` in pandas, which must have the columns of this schema."""
        frame, container = as_frame(X)
        labels, names = list(frame.columns), self.names
        same = len(labels) == len(names) and all(map(_same_label, labels, names))
        if container.named and self.container.named and not same:
            missing = [n for n in names if n not in labels]
            unseen = [n for n in labels if n not in names]
            text = "The feature names should match those that were passed during fit.\n"
            if unseen:
                text += f"Feature names unseen at fit time: {unseen}.\n"
            if missing:
                text += f"Feature names seen at fit time, yet now missing: {missing}.\n"
            if not (missing or unseen) and len(labels) == len(names):
                first = next(n for n, m in zip(labels, names, strict=True) if n != m)
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

    def write(self, columns):
        """A table as the user had it, from the plain values of all columns."""
        series = [c.write(values) for c, values in zip(self.columns, columns, strict=True)]
        return self.container.write(series, self.names)

    def without(self, positions):
        """The schema of the same table without some columns."""
        columns = tuple(c for i, c in enumerate(self.columns) if i not in positions)
        return TableSchema(self.container.without(positions), columns)


def _family(kind):
    """The class of values that may share a column with values of type ``kind``."""
    for family in _FAMILIES:
        if issubclass(kind, (bool, np.bool_) if family is bool else family):
            return family
    return kind


def _name_of(dtype):
    return f"string[{dtype.storage}]" if str(dtype) == "string" else str(dtype)


def _is_named(name, dtype):
    """Whether the name of a dtype is enough to make it again."""
    try:
        return pd.api.types.pandas_dtype(name) == dtype
    except TypeError:
        return False


def _word_for(missing):
    """Which of `_MISSING` a missing value is."""
    if missing is None or missing is pd.NA or missing is pd.NaT:
        return str(missing).strip("<>")
    return "NaT" if isinstance(missing, np.datetime64 | np.timedelta64) else "nan"


def _same_label(one, other):
    return one is other or one == other or (one != one and other != other)


def _check_hashable(name, values, absent):
    for row in np.flatnonzero(~absent):
        value = values[row]
        if type(value).__hash__ is None:
            raise _nested(name, value, type(value).__name__, f" in row {row}")


def _nested(name, value, kind, where=""):
    return TypeError(
        f"Column {name!r} holds a {kind} ({value!r}{where}); every cell argument must be a string, "
        "a number, a date or another hashable value. Spread it over columns of its own, or drop "
        f"it: X.drop(columns=[{name!r}])."
    )


def _shortest(values, dtype):
    """Numbers of a narrow float dtype with as few decimals as tell them apart.

    0.1 in float32 is 0.10000000149...; the column is meant to hold 0.1.
    """
    out, left = values.copy(), np.ones(len(values), dtype=bool)
    for decimals in range(np.finfo(dtype).precision + 1):
        rounded = np.round(values, decimals)
        with np.errstate(over="ignore"):
            found = left & (rounded.astype(dtype) == values.astype(dtype))
        out[found] = rounded[found]
        left &= ~found
    return out


def _ticks(times):
    """Integers behind a Series of times (0 where missing), which are missing, and their unit."""
    absent = times.isna().to_numpy()
    if isinstance(times.dtype, pd.ArrowDtype):
        import pyarrow as pa

        kind = times.dtype.pyarrow_dtype
        unit = "ms" if pa.types.is_date64(kind) else getattr(kind, "unit", "D")
        ticks = pa.chunked_array(pa.array(times))
        ticks = ticks.cast(pa.int32()) if pa.types.is_date32(kind) else ticks.cast(pa.int64())
        return ticks.fill_null(0).to_numpy().astype("int64"), absent, unit
    if pd.api.types.is_object_dtype(times.dtype):
        values = times.to_numpy(copy=True)
        first = next(iter(values[~absent]), None)
        if isinstance(first, pd.Timestamp):
            times = pd.Series(pd.to_datetime(list(values)))
        elif isinstance(first, pd.Timedelta):
            times = pd.Series(pd.to_timedelta(list(values)))
        else:
            letter = "timedelta64" if isinstance(first, datetime.timedelta) else "datetime64"
            unit = "us" if isinstance(first, datetime.datetime | datetime.timedelta) else "D"
            values[absent] = None
            ticks = values.astype(f"{letter}[{unit}]").astype("int64")
            return np.where(absent, 0, ticks), absent, unit
    if isinstance(times.dtype, pd.DatetimeTZDtype):
        times = times.dt.tz_convert("UTC").dt.tz_localize(None)
    return np.where(absent, 0, times.to_numpy().astype("int64")), absent, _unit(times.dtype)


def _unit(dtype):
    return dtype.unit if hasattr(dtype, "unit") else np.datetime_data(dtype)[0]


def ticks_in(unit, own):
    """How many ticks of the unit `own` make one `unit`; at least one."""
    return max(int(np.timedelta64(1, unit) / np.timedelta64(1, own)), 1)


def _coarsest_unit(series):
    """The coarsest unit in which all times of a Series are whole."""
    ticks, _, own = _ticks(series)
    return next(u for u in _TIME_UNITS if not (ticks % ticks_in(u, own)).any())


def _arrow_series(values, absent, kind):
    """A Series of a pyarrow type, from objects or from the integers behind times."""
    import pyarrow as pa

    if values.dtype == object:
        values = np.where(absent, None, values)
        if pa.types.is_dictionary(kind):
            array = pa.array(values, type=kind.value_type, from_pandas=True).dictionary_encode()
            array = array.cast(kind)
        else:
            array = pa.array(values, type=kind, from_pandas=True)
    else:
        small = pa.int32() if pa.types.is_date32(kind) else pa.int64()
        array = pa.array(values, mask=absent).cast(small).cast(kind)
    return pd.Series(pd.arrays.ArrowExtensionArray(array))
