"""Columns of numbers."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import pandas as pd

from sktvae._table.column import Column, Storage
from sktvae._table.decimals import LARGEST_INTEGER, shortest_decimals


@dataclass(frozen=True)
class NumberColumn(Column):
    """Integers, floats or decimals; the plain column holds them as float64.

    Attributes
    ----------
    whole : bool
        Whether the column can hold integers only.
    decimals : int or None
        The number of decimals of a column of `decimal.Decimal` values, else None.
    """

    whole: bool = False
    decimals: int | None = None

    @property
    def kind(self) -> str:
        return "number"

    @classmethod
    def recognise(cls, name: Hashable, series: pd.Series, storage: Storage) -> Column | None:
        python_type = storage.python_type
        if python_type == "Decimal":
            exponents = [value.as_tuple().exponent for value in series.dropna()]
            finite = [-e for e in exponents if isinstance(e, int)]  # "F", "n" of inf and NaN
            return cls(name, storage, decimals=max([0, *finite]))
        if python_type in ("int", "float"):
            return cls(name, storage, whole=python_type == "int")
        if storage.meaning == "number":
            return cls(name, storage, storage.integer_limits is not None, storage.scale)
        is_number = pd.api.types.is_numeric_dtype(series.dtype)
        if storage.meaning is None and is_number and not pd.api.types.is_bool_dtype(series.dtype):
            return cls(name, storage, storage.integer_limits is not None)
        return None

    @property
    def limits(self) -> tuple[float, float]:
        if self.storage.integer_limits is None:
            return self.storage.float_limits
        low, high = self.storage.integer_limits
        return max(low, -LARGEST_INTEGER), min(high, LARGEST_INTEGER)

    def read(self, series: pd.Series) -> np.ndarray:
        values = self._floats(series)
        infinite = np.flatnonzero(np.isinf(values))
        if infinite.size:
            raise ValueError(
                f"Column {self.name!r} has an infinite value ({values[infinite[0]]} in row "
                f"{infinite[0]}). Replace it by a finite value or by NaN, which is modelled as "
                f"missing: X[{self.name!r}].replace([numpy.inf, -numpy.inf], numpy.nan)."
            )
        exact = self.whole or self.decimals is not None
        largest = np.nanmax(np.abs(values)) if exact and not np.isnan(values).all() else 0
        if largest * 10.0 ** max(self.decimals or 0, 0) > LARGEST_INTEGER:
            what = "integers beyond 2**53" if self.whole else "decimals of more than 15 digits"
            raise ValueError(
                f"Column {self.name!r} has {what}, which a float cannot hold exactly. If it is an "
                f"identifier, drop it or convert it to text: X[{self.name!r}].astype(str)."
            )
        dtype = getattr(series.dtype, "numpy_dtype", series.dtype)
        if isinstance(dtype, np.dtype) and dtype.kind == "f" and dtype.itemsize < 8:
            return shortest_decimals(values, dtype)
        return values

    def _floats(self, series: pd.Series) -> np.ndarray:
        if series.isna().all():  # whatever the dtype
            return np.full(len(series), np.nan)
        try:
            if pd.api.types.is_complex_dtype(series.dtype):
                raise TypeError("it holds complex numbers")
            if self.decimals is not None:
                series = series.astype(object).map(float, na_action="ignore")
            if not pd.api.types.is_numeric_dtype(series.dtype):
                if any(hasattr(v, "year") or hasattr(v, "days") for v in series.dropna()):
                    raise TypeError("it holds times")
                series = pd.to_numeric(series)
            return series.to_numpy(dtype=float, na_value=np.nan)
        except (TypeError, ValueError) as error:
            present = series.dropna()
            bad = next((v for v in present if isinstance(v, str)), next(iter(present), None))
            raise TypeError(
                f"Column {self.name!r} was a number in fit and holds {bad!r} now. Convert it to "
                f"numbers, or fit with it as a category: X[{self.name!r}].astype(str)."
            ) from error

    def write(self, plain: np.ndarray) -> pd.Series:
        values = np.asarray(plain, dtype=float)
        absent = np.isnan(values)
        if self.decimals is not None:
            rounded = np.round(values, self.decimals)
            text = f"{{:.{max(self.decimals, 0)}f}}"
            objects = np.empty(len(values), dtype=object)
            objects[~absent] = [Decimal(text.format(value)) for value in rounded[~absent]]
            return self.storage.hold(objects, absent)
        if not self.whole:
            return self.storage.hold(values, absent)
        whole = np.rint(np.where(absent, 0, values))
        self._check_limits(whole)
        return self.storage.hold(whole.astype("int64"), absent)

    def _check_limits(self, whole: np.ndarray) -> None:
        """Raise ValueError if the dtype cannot hold a number, which would wrap around."""
        low, high = self.limits
        wrong = whole[(whole < low) | (whole > high)]
        if len(wrong):
            raise ValueError(
                f"Column {self.name!r} is {self.dtype_name}, which cannot hold {wrong[0]:.0f}: "
                "there is no room for more keys, or a sum or difference of other columns exceeds "
                f"its range. Fit with a wider dtype: X[{self.name!r}].astype('int64')."
            )
