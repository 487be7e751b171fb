"""Columns held by numpy and pandas dtypes, by the category dtype, or as Python objects.

Columns that pyarrow holds are in `sktvae._table.arrow`.
"""

from __future__ import annotations

import datetime
import numbers
import sys
from collections.abc import Hashable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from sktvae._table import arrow
from sktvae._table.column import Storage, with_none

_NULLABLE = {"i": "Int", "u": "UInt"}
_MISSING = {"None": None, "nan": np.nan, "NA": pd.NA, "NaT": pd.NaT}
# Python types that are not categories, the most specific first.
_PYTHON_TYPES = {
    "int": numbers.Integral,
    "float": (int, float, np.integer, np.floating),
    "Decimal": Decimal,
    "Timestamp": pd.Timestamp,
    "datetime": datetime.datetime,
    "date": datetime.date,
    "Timedelta": pd.Timedelta,
    "timedelta": datetime.timedelta,
}
# Values of two of these types may not share a column.
_FAMILIES = (bool, numbers.Real, complex, Decimal, datetime.datetime, datetime.date, str, bytes)


@dataclass(frozen=True)
class DtypeStorage(Storage):
    """A numpy dtype, or a pandas dtype that its name identifies."""

    name: str

    @property
    def dtype(self) -> Any:
        return pd.api.types.pandas_dtype(self.name)

    def public(self, nullable: bool) -> Storage:
        dtype, name = self.dtype, self.name
        if nullable and not self.can_hold_missing:
            name = (
                "boolean" if dtype.kind == "b" else f"{_NULLABLE[dtype.kind]}{8 * dtype.itemsize}"
            )
        # A pickle shows which equal texts are one object, and so how the name was come by.
        return replace(self, name=sys.intern(name))

    def hold(self, values: np.ndarray, absent: np.ndarray) -> pd.Series:
        dtype = self.dtype
        if values.dtype.kind in "mM":
            series = pd.Series(values).where(~absent)
            if isinstance(dtype, pd.DatetimeTZDtype):
                series = series.dt.tz_localize("UTC").dt.tz_convert(dtype.tz)
        elif values.dtype.kind == "i" and absent.any():
            series = pd.Series(pd.array(values, dtype="Int64")).mask(absent)
        elif values.dtype.kind == "f" and absent.any() and not isinstance(dtype, np.dtype):
            series = pd.Series(with_none(values, absent))  # NaN is not NA
        else:
            series = pd.Series(values)
        return series.astype(dtype)


@dataclass(frozen=True)
class CategoricalStorage(Storage):
    """The category dtype of pandas.

    Attributes
    ----------
    values : tuple
        The categories in their order.
    values_dtype : str
        The name of their dtype.
    ordered : bool
    """

    values: tuple
    values_dtype: str
    ordered: bool

    @property
    def dtype(self) -> pd.CategoricalDtype:
        values = pd.Index(list(self.values), dtype=self.values_dtype)
        return pd.CategoricalDtype(values, self.ordered)

    def hold(self, values: np.ndarray, absent: np.ndarray) -> pd.Series:
        dtype = self.dtype
        # The label for infrequent categories may be none of the column's own categories.
        labels = pd.unique(values[~absent])
        new = [label for label in labels if label not in dtype.categories]
        if new:
            dtype = pd.CategoricalDtype([*dtype.categories, *new], dtype.ordered)
        return pd.Series(pd.Categorical(values, dtype=dtype))


@dataclass(frozen=True)
class ObjectStorage(Storage):
    """Python objects in an object column.

    Attributes
    ----------
    python_type : str or None
        The common type of all values if they are numbers or times, else None.
    missing : {"None", "nan", "NA", "NaT"}
        The marker of a missing value.
    """

    python_type: str | None = None
    missing: str = "None"

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(object)

    def public(self, nullable: bool) -> Storage:
        return replace(self, missing="nan")

    def hold(self, values: np.ndarray, absent: np.ndarray) -> pd.Series:
        if self.python_type == "date":
            values = values.astype("datetime64[D]")
        elif self.python_type in ("datetime", "timedelta"):
            values = values.astype(f"{values.dtype.kind}8[us]")
        elif self.python_type in ("Timestamp", "Timedelta"):
            values = pd.Series(values).astype(object).to_numpy()
        objects = values.astype(object)  # a copy
        objects[absent] = _MISSING[self.missing]
        return pd.Series(objects, dtype=object)


def storage_of(name: Hashable, series: pd.Series) -> Storage:
    """Return how a Series holds its values.

    Raises
    ------
    TypeError, ValueError
        If the values cannot be modelled: nested or mixed types, complex numbers, a time zone
        without a name.
    """
    dtype = series.dtype
    if isinstance(dtype, pd.ArrowDtype):
        return arrow.ArrowStorage.of(name, series)
    if isinstance(dtype, pd.CategoricalDtype):
        values = dtype.categories
        return CategoricalStorage(tuple(values), _name_of(values.dtype), bool(dtype.ordered))
    if pd.api.types.is_complex_dtype(dtype):
        raise ValueError(
            f"Complex data not supported: column {name!r} is {dtype}. Put the real and the "
            "imaginary part into a column each."
        )
    if isinstance(dtype, pd.DatetimeTZDtype) and not _is_named(_name_of(dtype), dtype):
        raise TypeError(
            f"Column {name!r} has the time zone {dtype.tz!r}, which has no name and so cannot be "
            f"restored. Convert it to a named zone: X[{name!r}].dt.tz_convert('Europe/Paris')."
        )
    if pd.api.types.is_object_dtype(dtype):
        return _object_storage(name, series)
    return DtypeStorage(_name_of(dtype))


def _object_storage(name: Hashable, series: pd.Series) -> ObjectStorage:
    values, absent = series.to_numpy(), series.isna().to_numpy()
    check_hashable(name, values, absent)
    missing = _marker(values[absent][0]) if absent.any() else "None"
    present = values[~absent]
    families: dict = {}
    for value in present:
        families.setdefault(_family(type(value)), value)
    if len(families) > 1:
        two = [f"{v!r} ({type(v).__name__})" for v in families.values()][:2]
        raise TypeError(
            f"Column {name!r} has mixed types: {' and '.join(two)}. Convert it to one type first, "
            f"for instance X[{name!r}] = X[{name!r}].astype(str)."
        )
    if complex in families:
        raise ValueError(f"Complex data not supported: column {name!r} holds {present[0]!r}.")
    if bool in families or not len(present):
        return ObjectStorage(None, missing)
    for python_type, types in _PYTHON_TYPES.items():
        if all(isinstance(value, types) for value in present):
            if any(getattr(value, "tzinfo", None) is not None for value in present):
                break  # every value may have a time zone of its own: they are categories
            return ObjectStorage(python_type, missing)
    return ObjectStorage(None, missing)


def objects_of(name: Hashable, series: pd.Series) -> pd.Series:
    """Return the values of a Series as categories: hashable, and not held by Arrow."""
    if isinstance(series.dtype, pd.ArrowDtype):
        return arrow.objects_of(series)
    if pd.api.types.is_object_dtype(series.dtype):
        check_hashable(name, series.to_numpy(), series.isna().to_numpy())
    return series


def check_hashable(name: Hashable, values: np.ndarray, absent: np.ndarray) -> None:
    """Raise TypeError if a value that is present is not hashable."""
    for row in np.flatnonzero(~absent):
        value = values[row]
        if type(value).__hash__ is None:
            raise arrow.nested_error(name, value, type(value).__name__, f" in row {row}")


def _family(python_type: type) -> type:
    """Return the class of values that may share a column with values of `python_type`."""
    for family in _FAMILIES:
        if issubclass(python_type, (bool, np.bool_) if family is bool else family):
            return family
    return python_type


def _name_of(dtype: Any) -> str:
    return f"string[{dtype.storage}]" if str(dtype) == "string" else str(dtype)


def _is_named(name: str, dtype: Any) -> bool:
    """Whether the dtype can be made again from its name."""
    try:
        return bool(pd.api.types.pandas_dtype(name) == dtype)
    except TypeError:
        return False


def _marker(missing: Any) -> str:
    """Return the key of `_MISSING` that stands for a missing value."""
    if missing is None or missing is pd.NA or missing is pd.NaT:
        return str(missing).strip("<>")
    return "NaT" if isinstance(missing, np.datetime64 | np.timedelta64) else "nan"
