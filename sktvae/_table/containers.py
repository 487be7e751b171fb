"""What a table comes in: pandas, pyarrow, numpy, lists, and what narwhals knows (polars).

`as_frame` returns any of them as a pandas DataFrame, together with the container, which makes the
same kind of table from pandas columns. Containers hold plain values, so that models can be saved
with skops.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_array

from sktvae._table.arrow import ArrowTable, is_arrow
from sktvae._table.narwhals import NarwhalsTable, is_narwhals


@dataclass(frozen=True)
class PandasTable:
    """The container of a pandas DataFrame.

    Attributes
    ----------
    level_names : tuple
        Names of the levels of the columns' index.
    labels_dtype : str
        The dtype of the columns' index.
    """

    level_names: tuple = (None,)
    labels_dtype: str = "object"
    named = True

    def write(self, columns: list[pd.Series], names: list) -> pd.DataFrame:
        """Return a DataFrame of these columns."""
        frame = pd.concat(columns, axis=1) if columns else pd.DataFrame()
        if len(self.level_names) > 1:
            frame.columns = pd.MultiIndex.from_tuples(names, names=self.level_names)
        else:
            name = self.level_names[0]
            frame.columns = pd.Index(names, dtype=self.labels_dtype, name=name, tupleize_cols=False)
        return frame

    def without(self, positions: tuple[int, ...]) -> PandasTable:
        """Return the container of the same table without some columns."""
        return self

    def with_booleans(self, names: list) -> PandasTable:
        """Return the container of the same table with columns of booleans after the others."""
        return self if self.labels_dtype == "str" else replace(self, labels_dtype="object")


@dataclass(frozen=True)
class ArrayTable:
    """The container of a 2-D numpy array, or of lists of rows, which come back as an array."""

    dtype: str
    named = False

    def public(self) -> ArrayTable:
        """Return the container without the length of the longest text."""
        kind = np.dtype(self.dtype).kind
        return replace(self, dtype=np.dtype(f"{kind}1").str) if kind in "US" else self

    def write(self, columns: list[pd.Series], names: list) -> np.ndarray:
        """Return an array of these columns."""
        is_text = np.dtype(self.dtype).kind in "US"
        out = np.empty((len(columns[0]), len(columns)), dtype=object if is_text else self.dtype)
        for i, column in enumerate(columns):
            out[:, i] = column.to_numpy()
        if not is_text:
            return out
        # A new key may be longer than every text that `fit` saw; it must not be truncated.
        made = out.astype(np.dtype(self.dtype).kind)
        return made if made.itemsize > np.dtype(self.dtype).itemsize else out.astype(self.dtype)

    def without(self, positions: tuple[int, ...]) -> ArrayTable:
        """Return the container of the same table without some columns."""
        return self

    def with_booleans(self, names: list) -> ArrayTable:
        """Return the container of the same table with columns of booleans after the others."""
        return self if np.dtype(self.dtype).kind in "biufO" else ArrayTable("O")


def as_frame(X: Any) -> tuple[pd.DataFrame, Any]:
    """Return a table as a DataFrame, and the container it came in.

    Raises
    ------
    ValueError, TypeError
        If `X` is not a table, is empty, or is of a kind that is not supported.
    """
    if isinstance(X, pd.DataFrame):
        frame = X
        container: Any = PandasTable(tuple(X.columns.names), str(X.columns.dtype))
    elif is_arrow(X):
        frame, container = ArrowTable.read(X)
    elif is_narwhals(X):
        frame, container = NarwhalsTable.read(X)
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


def missing_cells(frame: pd.DataFrame) -> np.ndarray:
    """Return which cells of a table have no value: bool, (n_rows, n_columns).

    NaN counts as missing, also in pandas' nullable and Arrow columns of floats, where it is not NA.
    """
    absent = frame.isna().to_numpy(copy=True)
    for i, dtype in enumerate(frame.dtypes):
        if not isinstance(dtype, np.dtype) and pd.api.types.is_float_dtype(dtype):
            values = frame.iloc[:, i].to_numpy(dtype=float, na_value=np.nan)
            absent[:, i] = np.isnan(values)
    return absent


def _from_array(X: Any) -> tuple[pd.DataFrame, ArrayTable]:
    if isinstance(X, np.ma.MaskedArray):
        raise TypeError(
            "X is a masked array, whose masked cells may hold anything. Mark them as missing: "
            "X.astype(float).filled(numpy.nan)."
        )
    _refuse_records(X)
    if isinstance(X, list | tuple):
        X = _array_of_rows(X)
    array = check_array(X, dtype=None, ensure_all_finite=False)
    names = [f"x{i}" for i in range(array.shape[1])]
    if array.dtype.kind in "USO":  # as objects: pandas would infer a dtype of its own for text
        frame = pd.DataFrame(
            {name: pd.Series(list(array[:, i]), dtype=object) for i, name in enumerate(names)}
        )
    else:
        frame = pd.DataFrame(array, columns=names)
    return frame, ArrayTable(array.dtype.str)


def _refuse_records(X: Any) -> None:
    """Raise TypeError for records and single columns, which pandas makes a table of."""
    what = None
    if type(X) is dict:  # some sparse matrices are subclasses
        what = "a dict"
    elif isinstance(X, np.ndarray) and X.dtype.names:
        what = "a structured array"
    elif isinstance(X, list | tuple) and X and isinstance(X[0], dict):
        what = "a list of dicts"
    if what:
        raise TypeError(f"X is {what}. Convert it to a table: pandas.DataFrame(X).")
    if isinstance(X, list | tuple) and X and hasattr(X[0], "columns"):
        way_out = ": pandas.concat(X)" if isinstance(X[0], pd.DataFrame) else ""
        raise TypeError(
            "X is a list of tables, which only fit takes. Pass one at a time, or all of them as "
            f"one{way_out}."
        )
    if isinstance(X, pd.Series):
        raise ValueError(
            "Expected 2D array, got a pandas Series. Use X.to_frame() if it is a column, or "
            "X.to_frame().T if it is a row."
        )


def _array_of_rows(rows: list | tuple) -> np.ndarray:
    """Return rows as an object array, whose cells may be tuples."""
    lengths = {len(row) for row in rows if isinstance(row, list | tuple)}
    if len(lengths) > 1:
        raise ValueError(
            f"The rows have different lengths, {min(lengths)} to {max(lengths)} cells. Give every "
            "row one cell per column, with None where a value is missing."
        )
    if not lengths or not all(isinstance(row, list | tuple) for row in rows):
        return np.array(rows, dtype=object)  # not rows of a table: check_array says so
    out = np.empty((len(rows), lengths.pop()), dtype=object)
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            out[i, j] = value
    return out
