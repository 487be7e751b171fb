"""Columns of dates, datetimes and durations."""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from sktvae._table import arrow
from sktvae._table.column import Column, Storage
from sktvae._table.decimals import LARGEST_INTEGER

UNITS = ("D", "h", "m", "s", "ms", "us", "ns")
_LARGEST_TICKS = 2**63 - 1  # the integers behind times
_MEANINGS = {"M": "datetime", "m": "timedelta"}  # by the letter of numpy's dtype
_PYTHON_TYPES = {
    "Timestamp": "datetime",
    "datetime": "datetime",
    "date": "datetime",
    "Timedelta": "timedelta",
    "timedelta": "timedelta",
}


@dataclass(frozen=True)
class TimeColumn(Column):
    """Points in time or durations; the plain column counts them in `unit`, as float64.

    Attributes
    ----------
    meaning : {"datetime", "timedelta"}
    unit : {"D", "h", "m", "s", "ms", "us", "ns"}
        The coarsest unit in which every value that `fit` saw is whole.
    """

    meaning: str = "datetime"
    unit: str = "s"

    @property
    def kind(self) -> str:
        return self.meaning

    @classmethod
    def recognise(cls, name: Hashable, series: pd.Series, storage: Storage) -> Column | None:
        meaning = _meaning(series, storage)
        return cls(name, storage, meaning, _coarsest_unit(series)) if meaning else None

    @property
    def has_zone(self) -> bool:
        """Whether the column is a dtype with a time zone."""
        return isinstance(self.storage.dtype, pd.DatetimeTZDtype)

    def public(self, nullable: bool = False) -> Column:
        # A float cannot count the nanoseconds since 1970 exactly.
        super().public(nullable)  # refuses Python objects
        dtype = self.storage.dtype
        is_arrow = isinstance(dtype, pd.ArrowDtype)
        own = arrow.unit_of(dtype.pyarrow_dtype) if is_arrow else self._own_unit
        unit = min(own, "us", key=UNITS.index)
        return replace(self, storage=self.storage.public(nullable), unit=unit)

    @property
    def _own_unit(self) -> str:
        dtype = self.storage.dtype
        if isinstance(dtype, pd.ArrowDtype):
            return getattr(dtype.pyarrow_dtype, "unit", "us")
        return "us" if pd.api.types.is_object_dtype(dtype) else _unit(dtype)

    @property
    def limits(self) -> tuple[float, float]:
        own = self._own_unit
        largest = min(_LARGEST_TICKS // ticks_in(self.unit, own), LARGEST_INTEGER)
        if self.meaning == "timedelta" or own == "ns":
            return -largest, largest
        first, beyond = (
            int(np.datetime64(day).astype(f"datetime64[{self.unit}]").astype("int64"))
            for day in ("0001-01-01", "10000-01-01")
        )
        return max(-largest, first), min(largest, beyond - 1)

    def read(self, series: pd.Series) -> np.ndarray:
        if series.isna().all():  # whatever the dtype
            return np.full(len(series), np.nan)
        try:
            series = self._as_times(series)
            ticks, absent, own = _ticks(series)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"Column {self.name!r} was {self.dtype_name} in fit and is {series.dtype} now "
                f"({error}). Convert it: pandas.to_{self.meaning}(X[{self.name!r}])."
            ) from error
        whole, rest = np.divmod(ticks, ticks_in(self.unit, own))
        self._check_size(whole)
        return np.where(absent, np.nan, whole + rest / ticks_in(self.unit, own))

    def as_read_by(self, other: Column, plain: np.ndarray) -> np.ndarray:
        if not isinstance(other, TimeColumn) or other.unit == self.unit:
            return plain
        plain = plain * ticks_in(self.unit, other.unit)
        other._check_size(plain[~np.isnan(plain)])
        return plain

    def _check_size(self, ticks: np.ndarray) -> None:
        """Raise ValueError if a float cannot count so many units exactly."""
        if np.abs(ticks).max(initial=0) > LARGEST_INTEGER:
            coarser = UNITS[max(UNITS.index(self.unit) - 1, 0)]
            raise ValueError(
                f"Column {self.name!r} has times in {self.unit} that are too far from 1970, or too "
                "long, to be counted exactly by a float. Round them to a coarser unit: "
                f"pandas.to_{self.meaning}(X[{self.name!r}]).dt.floor({coarser!r})."
            )

    def _as_times(self, series: pd.Series) -> pd.Series:
        """Return a Series of times; text is parsed, and anything else raises TypeError."""
        letter = getattr(series.dtype, "kind", "O")
        if _MEANINGS.get(letter) == self.meaning:
            times = series
        elif letter == "O" and not series.dropna().map(lambda v: isinstance(v, str)).any():
            present = series.dropna()
            types: tuple[type, ...] = (datetime.date, np.datetime64)
            if self.meaning == "timedelta":
                types = (datetime.timedelta, np.timedelta64)
            if not present.map(lambda value: isinstance(value, types)).all():
                raise TypeError(f"it holds {present.iloc[0]!r}")
            times = series
        elif letter == "O" or pd.api.types.is_string_dtype(series.dtype):
            times = _parse(series, self.meaning)
        else:
            raise TypeError("numbers are not times")
        is_converted_later = self.storage.dtype == object or isinstance(
            self.storage, arrow.ArrowStorage
        )
        if not is_converted_later and times.dtype != self.storage.dtype:
            times = times.astype(self.storage.dtype)
        return times

    def write(self, plain: np.ndarray) -> pd.Series:
        values = np.asarray(plain, dtype=float)
        absent = np.isnan(values)
        ticks = np.rint(np.where(absent, 0, values)).astype("int64")
        return self.storage.hold(ticks.astype(f"{self.meaning}64[{self.unit}]"), absent)


def ticks_in(unit: str, tick: str) -> int:
    """Return how many ticks of the unit `tick` make one `unit`; at least one.

    >>> from sktvae._table.times import ticks_in
    >>> ticks_in("h", "s"), ticks_in("s", "h")
    (3600, 1)
    """
    ratio = np.timedelta64(1, unit) / np.timedelta64(1, tick)  # type: ignore[call-overload]
    return max(int(ratio), 1)


def _parse(text: pd.Series, meaning: str) -> pd.Series:
    if meaning == "timedelta":
        return pd.to_timedelta(text)
    with warnings.catch_warnings():  # pandas warns before it fails to infer the format
        warnings.simplefilter("ignore", UserWarning)
        return pd.to_datetime(text)


def _meaning(series: pd.Series, storage: Storage) -> str | None:
    """Return "datetime" or "timedelta", or None if a Series holds no times."""
    if storage.meaning is not None:
        return storage.meaning if storage.meaning in _MEANINGS.values() else None
    return _PYTHON_TYPES.get(storage.python_type or "") or _MEANINGS.get(
        getattr(series.dtype, "kind", "O")
    )


def _ticks(times: pd.Series) -> tuple[np.ndarray, np.ndarray, str]:
    """Return the integers behind a Series of times (0 if missing), the mask of missing values,
    and the unit of the integers."""
    absent = times.isna().to_numpy()
    if isinstance(times.dtype, pd.ArrowDtype):
        ticks, unit = arrow.ticks_of(times)
        return ticks, absent, unit
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


def _unit(dtype: Any) -> str:
    return dtype.unit if hasattr(dtype, "unit") else np.datetime_data(dtype)[0]


def units_of(series: pd.Series) -> np.ndarray:
    """Return the position in `UNITS` of the coarsest unit in which each time is whole.

    Missing values have position 0.
    """
    ticks, _, own = _ticks(series)
    units = np.full(len(ticks), len(UNITS) - 1)
    for i in reversed(range(len(UNITS))):
        units[ticks % ticks_in(UNITS[i], own) == 0] = i
    return units


def _coarsest_unit(series: pd.Series) -> str:
    """Return the coarsest unit in which all times of a Series are whole."""
    ticks, _, own = _ticks(series)
    return next(u for u in UNITS if not (ticks % ticks_in(u, own)).any())
