"""Everything that touches pyarrow: its tables, and pandas columns of its types.

Numbers of Arrow types are read through pandas, in `sktvae._table.numbers`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sktvae._table.column import Storage, with_none


def is_arrow(X: Any) -> bool:
    """Whether `X` is an object of pyarrow, which need not be installed."""
    return type(X).__module__.startswith("pyarrow")


def is_dataset(X: Any) -> bool:
    """Whether `X` is a dataset of pyarrow."""
    return is_arrow(X) and hasattr(X, "scanner") and hasattr(X, "schema")


def tables_of(dataset: Any, n_rows: int) -> Iterator[Any]:
    """Yield the rows of a dataset in Tables of `n_rows` to twice as many rows, in order.

    No more than a few batches are read ahead, so that the memory needed is constant.
    """
    import pyarrow as pa

    options = {}
    if getattr(getattr(dataset, "format", None), "default_extname", None) == "parquet":
        # Buffers are kept until a file has been read to its end: the file would be in memory.
        from pyarrow.dataset import ParquetFragmentScanOptions

        options["fragment_scan_options"] = ParquetFragmentScanOptions(pre_buffer=False)
    scanner = dataset.scanner(batch_size=n_rows, batch_readahead=1, fragment_readahead=1, **options)
    waiting: list = []
    n_waiting = 0
    for batch in scanner.to_batches():
        waiting.append(batch)
        n_waiting += len(batch)
        if n_waiting >= n_rows:
            yield pa.Table.from_batches(waiting)
            waiting, n_waiting = [], 0
    if n_waiting:
        yield pa.Table.from_batches(waiting)


@dataclass(frozen=True)
class ArrowTable:
    """The container of a pyarrow Table, whose columns pandas holds by their Arrow types.

    Attributes
    ----------
    schema : bytes
        The serialised schema.
    """

    schema: bytes
    named = True

    @classmethod
    def read(cls, X: Any) -> tuple[pd.DataFrame, ArrowTable]:
        """Return a Table as a DataFrame, and its container."""
        import pyarrow as pa

        if not isinstance(X, pa.Table):
            way_out = "X.to_table()" if is_dataset(X) else "pyarrow.table(X)"
            raise TypeError(f"X is a pyarrow {type(X).__name__}. Convert it to a Table: {way_out}.")
        container = cls(X.schema.remove_metadata().serialize().to_pybytes())
        for i, field in enumerate(X.schema):
            check_type(field.name, field.type, X.column(i).to_pylist)
            if str(field.type) in ("string_view", "binary_view"):  # pandas holds no views
                plain = pa.large_string() if "string" in str(field.type) else pa.large_binary()
                X = X.set_column(i, field.name, pa.array(X.column(i).to_pylist(), plain))
        return X.to_pandas(types_mapper=pd.ArrowDtype, ignore_metadata=True), container

    def write(self, columns: list[pd.Series], names: list) -> Any:
        """Return a Table of these columns."""
        import pyarrow as pa

        schema = pa.ipc.read_schema(pa.py_buffer(self.schema))
        arrays = [pa.array(column) for column in columns]
        arrays = [a.combine_chunks() if isinstance(a, pa.ChunkedArray) else a for a in arrays]
        arrays = [  # pyarrow 16 does not cast to views itself
            a if a.type == kind else pa.array(a.to_pylist(), kind)
            for a, kind in zip(arrays, schema.types, strict=True)
        ]
        return pa.Table.from_arrays(arrays, schema=schema)

    def without(self, positions: tuple[int, ...]) -> ArrowTable:
        """Return the container of the same table without some columns."""
        import pyarrow as pa

        schema = pa.ipc.read_schema(pa.py_buffer(self.schema))
        for i in sorted(positions, reverse=True):
            schema = schema.remove(i)
        return ArrowTable(schema.serialize().to_pybytes())

    def with_booleans(self, names: list) -> ArrowTable:
        """Return the container of the same table with columns of booleans after the others."""
        import pyarrow as pa

        schema = pa.ipc.read_schema(pa.py_buffer(self.schema))
        for name in names:
            schema = schema.append(pa.field(name, pa.bool_()))
        return ArrowTable(schema.serialize().to_pybytes())


@dataclass(frozen=True)
class ArrowStorage(Storage):
    """A pandas column of an Arrow type.

    Attributes
    ----------
    schema : bytes
        The type, as the serialised schema of one field.
    meaning : {"number", "datetime", "timedelta", "category"}
        What values of the type are.
    scale : int or None
        Decimals of a decimal type; negative for multiples of a power of ten.
    """

    schema: bytes
    meaning: str
    scale: int | None = None

    @classmethod
    def of(cls, name: Hashable, series: pd.Series) -> ArrowStorage:
        import pyarrow as pa

        kind = series.dtype.pyarrow_dtype
        check_type(name, kind, lambda: series.dropna().tolist())
        schema = pa.schema([("x", kind)]).serialize().to_pybytes()
        if pa.types.is_duration(kind):
            return cls(schema, "timedelta")
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            return cls(schema, "datetime")
        if pa.types.is_decimal(kind):
            return cls(schema, "number", kind.scale)
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        return cls(schema, "number" if number else "category")

    @property
    def dtype(self) -> pd.ArrowDtype:
        import pyarrow as pa

        return pd.ArrowDtype(pa.ipc.read_schema(pa.py_buffer(self.schema)).field(0).type)

    def hold(self, values: np.ndarray, absent: np.ndarray) -> pd.Series:
        import pyarrow as pa

        kind = self.dtype.pyarrow_dtype
        if values.dtype.kind in "mM":
            unit = unit_of(kind)
            ticks = values.astype(f"{values.dtype.kind}8[{unit}]").astype("int64")
            narrow = pa.int32() if pa.types.is_date32(kind) else pa.int64()
            array = pa.array(ticks, mask=absent).cast(narrow).cast(kind)
        elif values.dtype.kind in "if":
            array = pa.array(values.astype(kind.to_pandas_dtype()), mask=absent).cast(kind)
        elif pa.types.is_dictionary(kind):
            values = with_none(values, absent)
            array = pa.array(values, type=kind.value_type, from_pandas=True).dictionary_encode()
            array = array.cast(kind)
        else:
            array = pa.array(with_none(values, absent), type=kind, from_pandas=True)
        return pd.Series(pd.arrays.ArrowExtensionArray(array))


def check_type(name: Hashable, kind: Any, values: Any) -> None:
    """Raise TypeError if columns of an Arrow type cannot be modelled.

    Parameters
    ----------
    name : hashable
        The label of the column.
    kind : pyarrow.DataType
    values : callable
        Returns the values of the column; called for the message only.
    """
    import pyarrow as pa

    if pa.types.is_run_end_encoded(kind):
        raise TypeError(
            f"Column {name!r} is run-end encoded ({kind}). Decode it first: "
            "pyarrow.compute.run_end_decode(X[column])."
        )
    if pa.types.is_nested(kind):
        present = [value for value in values() if value is not None]
        raise nested_error(name, present[0] if present else None, kind)
    if pa.types.is_interval(kind) or isinstance(kind, pa.BaseExtensionType):
        raise TypeError(
            f"Column {name!r} has the Arrow type {kind}, which is not supported. Cast it to text "
            "or to a number, or drop it."
        )


def nested_error(name: Hashable, value: Any, kind: Any, where: str = "") -> TypeError:
    """Return the error for cells that hold lists, dicts or other values that cannot be hashed."""
    # scikit-learn's estimator checks require the words "argument must be a string".
    return TypeError(
        f"Column {name!r} holds a {kind} ({value!r}{where}); every cell argument must be a string, "
        "a number, a date or another hashable value. Spread it over columns of its own, or drop "
        f"it: X.drop(columns=[{name!r}])."
    )


def type_names(schema: bytes) -> list[str]:
    """Return the names of the types of a serialised schema."""
    import pyarrow as pa

    return [str(field.type) for field in pa.ipc.read_schema(pa.py_buffer(schema))]


def ticks_of(series: pd.Series) -> tuple[np.ndarray, str]:
    """Return the integers behind a Series of Arrow times (0 if missing), and their unit."""
    import pyarrow as pa

    kind = series.dtype.pyarrow_dtype
    ticks = pa.chunked_array(pa.array(series))
    ticks = ticks.cast(pa.int32()) if pa.types.is_date32(kind) else ticks.cast(pa.int64())
    return ticks.fill_null(0).to_numpy().astype("int64"), unit_of(kind)


def objects_of(series: pd.Series) -> pd.Series:
    """Return a Series of Arrow values as Python objects, missing ones as None or as NaN.

    Texts come as the category dtype, so that each different text is made only once.
    """
    import pyarrow as pa

    array = pa.chunked_array(pa.array(series)).combine_chunks()
    kind = array.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return pd.Series(array.to_pylist(), dtype=object)
    if isinstance(array, pa.ChunkedArray):  # as pyarrow has it if there is no chunk
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], kind)
    encoded = array.dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy()
    texts = pd.Index(encoded.dictionary.to_pylist(), dtype=object)
    return pd.Series(pd.Categorical.from_codes(codes, texts))


def unit_of(kind: Any) -> str:
    """Return numpy's word for the unit of an Arrow type of times."""
    import pyarrow as pa

    return "ms" if pa.types.is_date64(kind) else getattr(kind, "unit", "D")
