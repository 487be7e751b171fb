"""Everything that touches narwhals, through which polars and other DataFrames are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sktvae._table.column import with_none

_NULLABLE = {"i": "Int", "u": "UInt"}  # pandas' nullable integer dtypes
_NESTED = ("List", "Array", "Struct", "Object", "Unknown")
_TIMES = ("Datetime", "Duration", "Date")
_TOO_WIDE = ("Int128", "UInt128")


@dataclass(frozen=True)
class NarwhalsTable:
    """The container of a polars DataFrame, or of another one that narwhals can make.

    Attributes
    ----------
    backend : str
    dtypes : tuple of (str, tuple)
        Name and arguments of the narwhals dtype of each column.
    has_null : tuple of bool
        Whether a missing value of the column is null (and not NaN).
    """

    backend: str
    dtypes: tuple
    has_null: tuple
    named = True

    @classmethod
    def read(cls, X: Any) -> tuple[pd.DataFrame, NarwhalsTable]:
        """Return a DataFrame of pandas, and the container."""
        import narwhals as nw

        table = nw.from_native(X, eager_only=True)
        columns, dtypes, has_null = {}, [], []
        for name in table.columns:
            series = table[name]
            columns[name] = _to_pandas(series, name)
            dtypes.append(_plain_dtype(series.dtype))
            has_null.append(bool(series.null_count()) or not series.dtype.is_float())
        container = cls(table.implementation.value, tuple(dtypes), tuple(has_null))
        return pd.DataFrame(columns), container

    def write(self, columns: list[pd.Series], names: list) -> Any:
        """Return a DataFrame of the same library."""
        made = [
            _from_pandas(column, str(name), dtype, self.backend, null)
            for column, name, dtype, null in zip(
                columns, names, self.dtypes, self.has_null, strict=True
            )
        ]
        return made[0].to_frame().with_columns(*made[1:]).to_native()

    def without(self, positions: tuple[int, ...]) -> NarwhalsTable:
        """Return the container of the same table without some columns."""
        kept = [i for i in range(len(self.dtypes)) if i not in positions]
        dtypes, has_null = (tuple(v[i] for i in kept) for v in (self.dtypes, self.has_null))
        return NarwhalsTable(self.backend, dtypes, has_null)

    def public(self) -> NarwhalsTable:
        """Return the container without categories, and without what is said of missing values."""
        dtypes = (("Categorical", ()) if name == "Enum" else (name, a) for name, a in self.dtypes)
        return NarwhalsTable(self.backend, tuple(dtypes), (True,) * len(self.has_null))

    def with_booleans(self, names: list) -> NarwhalsTable:
        """Return the container of the same table with columns of booleans after the others."""
        dtypes = self.dtypes + (("Boolean", ()),) * len(names)
        return NarwhalsTable(self.backend, dtypes, self.has_null + (True,) * len(names))


def is_narwhals(X: Any) -> bool:
    """Whether narwhals can read `X`.

    Raises
    ------
    ImportError
        If `X` looks like a DataFrame and narwhals is not installed.
    TypeError
        If `X` is lazy.
    """
    if not any(hasattr(type(X), name) for name in ("columns", "__arrow_c_stream__")):
        return False
    try:
        import narwhals as nw
    except ImportError as error:
        raise ImportError(
            f"A {type(X).__module__}.{type(X).__name__} is read through narwhals, which is not "
            "installed. Install the extra, pip install 'sktvae[polars]', or pass a pandas "
            "DataFrame."
        ) from error
    if isinstance(nw.from_native(X, pass_through=True), nw.LazyFrame):
        raise TypeError(
            f"X is a {type(X).__name__}, whose rows have not been computed. Collect it first: "
            "X.collect()."
        )
    return isinstance(nw.from_native(X, pass_through=True, eager_only=True), nw.DataFrame)


def is_lazy(X: Any) -> bool:
    """Whether `X` is a LazyFrame of polars."""
    return type(X).__module__.startswith("polars") and type(X).__name__ == "LazyFrame"


def frames_of(X: Any, n_rows: int) -> Iterator[Any]:
    """Yield the rows of a polars LazyFrame in DataFrames of about `n_rows` rows, in order."""
    if hasattr(X, "collect_batches"):
        yield from X.collect_batches(chunk_size=n_rows, maintain_order=True)
        return
    start = 0
    while len(frame := X.slice(start, n_rows).collect()):
        yield frame
        start += n_rows


def _plain_dtype(dtype: Any) -> tuple[str, tuple]:
    """Return name and arguments of a narwhals dtype."""
    name = type(dtype).__name__ if not isinstance(dtype, type) else dtype.__name__
    if name == "Datetime":
        return name, (dtype.time_unit, dtype.time_zone)
    if name == "Duration":
        return name, (dtype.time_unit,)
    if name == "Enum":
        return name, (tuple(dtype.categories),)
    if name == "Decimal" and hasattr(dtype, "scale"):
        return name, (dtype.precision, dtype.scale)
    return name, ()


def _check_dtype(series: Any, name: str) -> None:
    """Raise TypeError if a column cannot be modelled, or could not be made again."""
    kind, arguments = _plain_dtype(series.dtype)
    if kind == "Unknown" and series.null_count() == len(series):
        raise TypeError(
            f"Column {name!r} has the type Null, which is not supported. Cast it to the type that "
            "it should have, or drop it."
        )
    if kind in _NESTED:
        first = next(iter(series.drop_nulls().head(1).to_list()), None)
        raise TypeError(
            f"Column {name!r} holds nested or unknown values ({series.dtype}, for instance "
            f"{first!r}). Spread it over columns of its own, or drop it."
        )
    if kind in _TOO_WIDE:
        raise TypeError(
            f"Column {name!r} is {kind}, which is not supported. Cast it to Int64, or to String "
            "if it is an identifier."
        )
    if kind == "Decimal" and not arguments:
        raise TypeError(
            f"Column {name!r} holds decimals, which this version of narwhals cannot restore. "
            "Upgrade it (pip install -U narwhals), or cast the column to Float64."
        )


def _to_pandas(series: Any, name: str) -> pd.Series:
    """Return a narwhals Series as a pandas Series of the nearest kind."""
    import narwhals as nw

    _check_dtype(series, name)
    kind, arguments = _plain_dtype(series.dtype)
    absent = series.is_null().to_numpy().astype(bool)
    if kind in _TIMES:
        unit = arguments[0] if arguments else "D"
        ticks = series.cast(nw.Int32 if kind == "Date" else nw.Int64)
        ticks = ticks.fill_null(0).to_numpy().astype("int64")
        letter = "timedelta64" if kind == "Duration" else "datetime64"
        out = pd.Series(ticks.astype(f"{letter}[{unit}]")).mask(absent)
        zone = arguments[1] if kind == "Datetime" else None
        return out.dt.tz_localize("UTC").dt.tz_convert(zone) if zone else out
    if kind == "Boolean":
        values = series.fill_null(False).to_numpy().astype(bool)
        return pd.Series(pd.arrays.BooleanArray(values, absent) if absent.any() else values)
    if series.dtype.is_integer():
        values = series.fill_null(0).to_numpy()
        if not absent.any():
            return pd.Series(values)
        dtype = f"{_NULLABLE[values.dtype.kind]}{8 * values.dtype.itemsize}"
        return pd.Series(pd.array(values, dtype=dtype)).mask(absent)
    if series.dtype.is_float():
        return pd.Series(np.where(absent, np.nan, series.fill_null(0).to_numpy()))
    if kind in ("String", "Categorical"):
        return pd.Series(series.cast(nw.String).to_list(), dtype="string")
    if kind == "Enum":
        return pd.Series(pd.Categorical(series.cast(nw.String).to_list(), list(arguments[0])))
    return pd.Series(series.to_list(), dtype=object)


def _from_pandas(column: pd.Series, name: str, dtype: tuple, backend: str, null: bool) -> Any:
    """Return a pandas Series as a narwhals Series of a dtype."""
    import narwhals as nw

    kind, arguments = dtype
    absent = column.isna().to_numpy()
    if kind in _TIMES:
        return _new_times(column, name, dtype, backend)
    if isinstance(column.dtype, np.dtype):
        values = column.to_numpy()
    else:
        values = column.astype(object).to_numpy()
    if column.dtype.kind == "f" and not null:
        absent = np.zeros(len(values), dtype=bool)
    narwhals_kind = getattr(nw, kind)
    target = narwhals_kind(*arguments) if arguments else narwhals_kind
    return _new_series(name, values, absent, target, backend)


def _new_times(column: pd.Series, name: str, dtype: tuple, backend: str) -> Any:
    import narwhals as nw

    kind, arguments = dtype
    absent = column.isna().to_numpy()
    unit: Any = arguments[0] if arguments else "s"
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
    letter = "timedelta64" if kind == "Duration" else "datetime64"
    ticks = column.to_numpy().astype(f"{letter}[{unit}]").astype("int64")
    if kind == "Date":
        made = _new_series(name, ticks // 86_400, absent, nw.Int64, backend)
        return made.cast(nw.Int32).cast(nw.Date)
    made = _new_series(name, ticks, absent, nw.Int64, backend)
    if kind == "Duration":
        return made.cast(nw.Duration(unit))
    made = made.cast(nw.Datetime(unit))
    if arguments[1] is None:
        return made
    return made.dt.replace_time_zone("UTC").dt.convert_time_zone(arguments[1])


def _new_series(name: str, values: np.ndarray, absent: np.ndarray, dtype: Any, backend: str) -> Any:
    import narwhals as nw

    if absent.any() or values.dtype == object:
        values = with_none(values, absent).tolist()
    return nw.new_series(name, values, dtype, backend=backend)  # type: ignore[arg-type]
