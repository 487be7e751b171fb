"""What a table comes in: pandas, pyarrow, numpy, lists, and what narwhals knows (polars).

`as_frame` gives any of them as a pandas DataFrame, and the container, which makes the same kind of
table from pandas columns. Containers hold plain values, so that a model can be saved with skops.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_array

_NULLABLE = {"i": "Int", "u": "UInt"}  # pandas' dtypes of integers that may be missing
_NESTED = ("List", "Array", "Struct", "Object", "Unknown")


@dataclass(frozen=True)
class PandasTable:
    """A pandas DataFrame."""

    level_names: tuple = (None,)  # of the columns' index
    labels_dtype: str = "object"
    named = True

    def write(self, columns, names):
        frame = pd.concat(columns, axis=1) if columns else pd.DataFrame()
        if len(self.level_names) > 1:
            frame.columns = pd.MultiIndex.from_tuples(names, names=self.level_names)
        else:
            name = self.level_names[0]
            frame.columns = pd.Index(names, dtype=self.labels_dtype, name=name, tupleize_cols=False)
        return frame

    def without(self, positions):
        return self


@dataclass(frozen=True)
class ArrayTable:
    """A 2-D numpy array, or lists of rows, which become one."""

    dtype: str
    named = False

    def write(self, columns, names):
        text = np.dtype(self.dtype).kind in "US"
        out = np.empty((len(columns[0]), len(columns)), dtype=object if text else self.dtype)
        for i, column in enumerate(columns):
            out[:, i] = column.to_numpy()
        if not text:
            return out
        # a text that is wider than all of fit's, as a fresh key may be, is not cut
        made = out.astype(np.dtype(self.dtype).kind)
        return made if made.itemsize > np.dtype(self.dtype).itemsize else out.astype(self.dtype)

    def without(self, positions):
        return self


@dataclass(frozen=True)
class ArrowTable:
    """A pyarrow Table, whose columns pandas holds as they are."""

    schema: bytes
    named = True

    def write(self, columns, names):
        import pyarrow as pa

        schema = pa.ipc.read_schema(pa.py_buffer(self.schema))
        arrays = [pa.array(column) for column in columns]
        arrays = [a.combine_chunks() if isinstance(a, pa.ChunkedArray) else a for a in arrays]
        arrays = [  # pyarrow 16 does not cast to views itself
            a if a.type == kind else pa.array(a.to_pylist(), kind)
            for a, kind in zip(arrays, schema.types, strict=True)
        ]
        return pa.Table.from_arrays(arrays, schema=schema)

    def without(self, positions):
        import pyarrow as pa

        schema = pa.ipc.read_schema(pa.py_buffer(self.schema))
        for i in sorted(positions, reverse=True):
            schema = schema.remove(i)
        return ArrowTable(schema.serialize().to_pybytes())


@dataclass(frozen=True)
class NarwhalsTable:
    """A DataFrame of polars, or another one that narwhals makes.

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

    def write(self, columns, names):
        made = [
            _to_narwhals(column, str(name), dtype, self.backend, null)
            for column, name, dtype, null in zip(
                columns, names, self.dtypes, self.has_null, strict=True
            )
        ]
        return made[0].to_frame().with_columns(*made[1:]).to_native()

    def without(self, positions):
        keep = [i for i in range(len(self.dtypes)) if i not in positions]
        few = lambda values: tuple(values[i] for i in keep)
        return NarwhalsTable(self.backend, few(self.dtypes), few(self.has_null))


def as_frame(X):
    """``X`` as a DataFrame, and the container it came in."""
    if isinstance(X, pd.DataFrame):
        frame, container = X, PandasTable(tuple(X.columns.names), str(X.columns.dtype))
    elif type(X).__module__.startswith("pyarrow"):
        frame, container = _from_arrow(X)
    elif _is_narwhals(X):
        frame, container = _from_narwhals(X)
    else:
        return _from_array(X)
    if any(isinstance(dtype, pd.SparseDtype) for dtype in frame.dtypes):
        raise TypeError("Sparse columns are not supported: use X.sparse.to_dense().")
    if frame.shape[1] == 0:
        raise ValueError(
            f"Found a table with 0 feature(s) (shape={frame.shape}) while a minimum of 1 is "
            "required."
        )
    if len(frame) == 0:
        raise ValueError(
            f"Found an empty table: 0 sample(s) (shape={frame.shape}) while a minimum of 1 is "
            "required."
        )
    return frame, container


def _from_arrow(X):
    import pyarrow as pa

    if not isinstance(X, pa.Table):
        raise TypeError(f"X is a pyarrow {type(X).__name__}. Make it a Table: pyarrow.table(X).")
    container = ArrowTable(X.schema.remove_metadata().serialize().to_pybytes())
    for i, field in enumerate(X.schema):  # pandas holds no views
        if str(field.type) in ("string_view", "binary_view"):
            plain = pa.large_string() if str(field.type) == "string_view" else pa.large_binary()
            X = X.set_column(i, field.name, pa.array(X.column(i).to_pylist(), plain))
    return X.to_pandas(types_mapper=pd.ArrowDtype, ignore_metadata=True), container


def _from_array(X):
    if isinstance(X, np.ma.MaskedArray):
        raise TypeError(
            "X is a masked array, whose masked cells may hold anything. Say that they are missing: "
            "X.astype(float).filled(numpy.nan)."
        )
    if isinstance(X, list | tuple):
        X = _array_of_rows(X)
    array = check_array(X, dtype=None, ensure_all_finite=False)
    frame = pd.DataFrame(array, columns=[f"x{i}" for i in range(array.shape[1])])
    if array.dtype.kind in "US":
        frame = frame.astype(object)
    return frame, ArrayTable(array.dtype.str)


def _array_of_rows(rows):
    """Rows as an object array, cells left as they are though they may be tuples."""
    lengths = {len(row) for row in rows if isinstance(row, list | tuple)}
    if len(lengths) > 1:
        raise ValueError(
            f"The rows have different lengths, {min(lengths)} to {max(lengths)} cells. Give every "
            "row a cell for each column, None where a value is missing."
        )
    if not lengths or not all(isinstance(row, list | tuple) for row in rows):
        return np.array(rows, dtype=object)  # no rows of a table: left to check_array
    out = np.empty((len(rows), lengths.pop()), dtype=object)
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            out[i, j] = value
    return out


def _is_narwhals(X):
    if not any(hasattr(type(X), name) for name in ("columns", "__arrow_c_stream__")):
        return False
    try:
        import narwhals as nw
    except ImportError as error:
        raise ImportError(
            f"A {type(X).__module__}.{type(X).__name__} is read through narwhals, which is not "
            "installed: pip install 'sktvae[polars]', or give a pandas DataFrame."
        ) from error
    if isinstance(nw.from_native(X, pass_through=True), nw.LazyFrame):
        raise TypeError(
            f"X is a {type(X).__name__}, whose rows are not there yet. Collect it: X.collect()."
        )
    return isinstance(nw.from_native(X, pass_through=True, eager_only=True), nw.DataFrame)


def _from_narwhals(X):
    import narwhals as nw

    table = nw.from_native(X, eager_only=True)
    columns, dtypes, has_null = {}, [], []
    for name in table.columns:
        series = table[name]
        columns[name] = _to_pandas(series, name)
        dtypes.append(_plain_dtype(series.dtype))
        has_null.append(bool(series.null_count()) or not series.dtype.is_float())
    frame = pd.DataFrame(columns)
    return frame, NarwhalsTable(table.implementation.value, tuple(dtypes), tuple(has_null))


def _plain_dtype(dtype):
    """Name and arguments of a narwhals dtype."""
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


def _to_pandas(series, name):
    """A pandas Series of the nearest kind, of a narwhals one."""
    import narwhals as nw

    kind, arguments = _plain_dtype(series.dtype)
    if kind in _NESTED:
        first = next(iter(series.drop_nulls().head(1).to_list()), None)
        raise TypeError(
            f"Column {name!r} holds nested or unknown values ({series.dtype}, for instance "
            f"{first!r}). Spread it over columns of its own, or drop it."
        )
    if kind == "Decimal" and not arguments:
        raise TypeError(
            f"Column {name!r} holds decimals, which this narwhals cannot make again. Get a newer "
            "one (pip install 'sktvae[polars]'), or cast the column to Float64."
        )
    absent = series.is_null().to_numpy().astype(bool)
    if kind in ("Datetime", "Duration", "Date"):
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
        out = pd.Series(pd.array(values, dtype=dtype))
        out[absent] = pd.NA
        return out
    if series.dtype.is_float():
        return pd.Series(np.where(absent, np.nan, series.fill_null(0).to_numpy()))
    if kind in ("String", "Categorical"):
        return pd.Series(series.cast(nw.String).to_list(), dtype="string")
    if kind == "Enum":
        return pd.Series(pd.Categorical(series.cast(nw.String).to_list(), list(arguments[0])))
    return pd.Series(series.to_list(), dtype=object)


def _to_narwhals(column, name, dtype, backend, null):
    """A narwhals Series of a dtype, of a pandas one."""
    import narwhals as nw

    kind, arguments = dtype
    absent = column.isna().to_numpy()
    if kind in ("Datetime", "Duration", "Date"):
        unit = arguments[0] if arguments else "s"
        if isinstance(column.dtype, pd.DatetimeTZDtype):
            column = column.dt.tz_convert("UTC").dt.tz_localize(None)
        letter = "timedelta64" if kind == "Duration" else "datetime64"
        ticks = column.to_numpy().astype(f"{letter}[{unit}]").astype("int64")
        if kind == "Date":
            ticks = ticks // 86_400
        made = _new_series(name, ticks, absent, nw.Int64, backend)
        if kind == "Date":
            return made.cast(nw.Int32).cast(nw.Date)
        if kind == "Duration":
            return made.cast(nw.Duration(unit))
        made = made.cast(nw.Datetime(unit))
        if arguments[1] is None:
            return made
        return made.dt.replace_time_zone("UTC").dt.convert_time_zone(arguments[1])
    kind = getattr(nw, kind)
    target = kind(*arguments) if arguments else kind
    if isinstance(column.dtype, np.dtype):
        values = column.to_numpy()
    else:
        values = column.astype(object).to_numpy()
    if column.dtype.kind == "f" and not null:
        absent = np.zeros(len(values), dtype=bool)
    return _new_series(name, values, absent, target, backend)


def _new_series(name, values, absent, dtype, backend):
    import narwhals as nw

    if absent.any() or values.dtype == object:
        values = np.where(absent, None, values.astype(object)).tolist()
    return nw.new_series(name, values, dtype, backend=backend)
