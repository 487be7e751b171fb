"""The columns that two tables share, read as plain columns by the kinds of the real table."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sktvae._table.column import Column
from sktvae._table.containers import as_frame
from sktvae._table.schema import learn_column


@dataclass(frozen=True)
class PairedColumn:
    """One column of the real and of the synthetic table.

    Attributes
    ----------
    column : Column
        The kind of the column, learned from the real table.
    real, synthetic : ndarray or Series
        Plain columns: float64 with NaN, or a Series of hashable values.
    """

    column: Column
    real: Any
    synthetic: Any


def shared_columns(
    real: pd.DataFrame, synthetic: pd.DataFrame, columns: Sequence[Hashable] | None = None
) -> list[Hashable]:
    """Return the names of the columns to compare, by default all that both tables have.

    Raises
    ------
    ValueError
        If a column is named that a table lacks, or if the tables share none.
    """
    if columns is None:
        names = [name for name in real.columns if name in synthetic.columns]
        if not names:
            raise ValueError(
                f"The tables share no column: the real one has {list(real.columns)!r}, the "
                f"synthetic one {list(synthetic.columns)!r}."
            )
        return names
    for table, frame in (("real", real), ("synthetic", synthetic)):
        for name in columns:
            if name not in frame.columns:
                raise ValueError(
                    f"Column {name!r} is not in the {table} table, whose columns are "
                    f"{list(frame.columns)!r}."
                )
    return list(columns)


def frames_of(real: Any, synthetic: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return both tables as DataFrames; raise ValueError if a name occurs twice in one."""
    frames = as_frame(real)[0], as_frame(synthetic)[0]
    for what, frame in zip(("real", "synthetic"), frames, strict=True):
        twice = frame.columns[frame.columns.duplicated()]
        if len(twice):
            raise ValueError(
                f"The {what} table has two columns {twice[0]!r}. Rename them, or keep the first of "
                "each: X.loc[:, ~X.columns.duplicated()]."
            )
    return frames


def paired_columns(
    real: Any, synthetic: Any, columns: Sequence[Hashable] | None = None
) -> list[PairedColumn]:
    """Return the columns that two tables share, in the order of `columns` or of the real table.

    Raises
    ------
    ValueError, TypeError
        If a column is named that a table lacks, or if one cannot be read.
    """
    one, two = frames_of(real, synthetic)
    pairs = []
    for name in shared_columns(one, two, columns):
        column = learn_column(name, one[name])
        pairs.append(PairedColumn(column, column.read(one[name]), _read(column, two[name])))
    return pairs


def _read(column: Column, series: pd.Series) -> Any:
    try:
        return column.read(series)
    except TypeError as error:
        raise TypeError(
            f"Column {column.name!r} is a {column.kind} in the real table, and {series.dtype} in "
            f"the synthetic one. Convert one of them. ({error})"
        ) from error


def distinct_present(values: np.ndarray) -> np.ndarray:
    """Return the sorted distinct numbers of a plain column without its missing values."""
    return np.unique(values[~np.isnan(values)])
