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
from sktvae.metrics._tables import identifiers, read_tables


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


def shown_columns(
    real: pd.DataFrame, synthetic: pd.DataFrame, columns: Sequence[Hashable] | None
) -> list[Hashable]:
    """Return `shared_columns`; by default without identifiers, unless there is nothing else."""
    names = shared_columns(real, synthetic, columns)
    if columns is not None:
        return names
    (table,) = read_tables(real=real[names])
    left_out = identifiers(table)
    return [name for i, name in enumerate(names) if i not in left_out] or names


def frames_of(real: Any, synthetic: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return both tables as DataFrames, matched by position where only one has names.

    Raises ValueError if a name occurs twice in one.
    """
    frames = as_frame(real)[0], named_like(real, synthetic)
    for what, frame in zip(("real", "synthetic"), frames, strict=True):
        twice = frame.columns[frame.columns.duplicated()]
        if len(twice):
            raise ValueError(
                f"The {what} table has two columns {twice[0]!r}. Rename them, or keep the first of "
                "each: X.loc[:, ~X.columns.duplicated()]."
            )
    return frames


def named_like(first: Any, other: Any) -> pd.DataFrame:
    """Return a table as a DataFrame, with the names of the first if only that one has names."""
    frame, container = as_frame(other)
    names, named = as_frame(first)[0].columns, as_frame(first)[1].named
    if named and not container.named and len(names) == frame.shape[1]:
        frame = frame.set_axis(names, axis=1)
    return frame


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
