"""The tables that are compared, read to plain columns that share their categories."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sktvae._table.column import Column
from sktvae._table.containers import as_frame
from sktvae._table.schema import TableSchema

# In a shorter table, values may differ by chance.
_FEWEST_IDENTIFIERS = 50


@dataclass(frozen=True)
class PlainTable:
    """A table of which each column is an array of numbers.

    Attributes
    ----------
    names : list
        The labels of the columns, those of the real table and in its order.
    is_numeric : bool ndarray of shape (n_columns,)
        Whether a column holds numbers or times, rather than categories.
    columns : list of ndarray of shape (n_rows,)
        float64, NaN where missing, for numbers and times; else int64 codes, -1 where missing.
    categories : list
        The values behind the codes, shared by all tables that are read together; None for numbers
        and times.
    """

    names: list
    is_numeric: np.ndarray
    columns: list[np.ndarray]
    categories: list[np.ndarray | None]

    def __len__(self) -> int:
        return len(self.columns[0])

    @property
    def n_columns(self) -> int:
        return len(self.names)

    def n_categories(self, i: int) -> int:
        """Return how many categories column `i` has in all tables that were read together."""
        values = self.categories[i]
        return 0 if values is None else len(values)

    def take(self, rows: np.ndarray) -> PlainTable:
        """Return some of the rows."""
        columns = [column[rows] for column in self.columns]
        return PlainTable(self.names, self.is_numeric, columns, self.categories)

    def sample(self, n_rows: int, rng: np.random.RandomState) -> PlainTable:
        """Return `n_rows` rows in random order, or the table itself if it has no more."""
        if len(self) <= n_rows:
            return self
        return self.take(rng.permutation(len(self))[:n_rows])

    def missing(self, i: int) -> np.ndarray:
        """Return in which rows column `i` has no value."""
        return np.isnan(self.columns[i]) if self.is_numeric[i] else self.columns[i] < 0

    def position(self, name: Hashable, parameter: str) -> int:
        """Return the position of a column; raise ValueError if there is none of this name."""
        if name not in self.names:
            raise ValueError(
                f"{parameter}={name!r} is not a column of the tables. Choose one of {self.names!r}."
            )
        return self.names.index(name)

    def without(self, position: int) -> PlainTable:
        """Return the table without one column."""
        return self.select([i for i in range(self.n_columns) if i != position])

    def select(self, kept: list[int]) -> PlainTable:
        """Return the table of some of the columns."""
        return PlainTable(
            [self.names[i] for i in kept],
            self.is_numeric[kept],
            [self.columns[i] for i in kept],
            [self.categories[i] for i in kept],
        )


def concat(tables: Sequence[PlainTable]) -> PlainTable:
    """Return the rows of tables that were read together, one after the other."""
    first = tables[0]
    columns = [np.concatenate(parts) for parts in zip(*(t.columns for t in tables), strict=True)]
    return PlainTable(first.names, first.is_numeric, columns, first.categories)


def identifiers(table: PlainTable) -> list[int]:
    """Return the positions of columns that name rows: no two rows share a value.

    They are texts and other categories, and whole numbers with few gaps, such as row numbers. What
    identifies rows follows no distribution, and new rows have new identifiers.
    """
    return [
        i
        for i, values in enumerate(table.columns)
        if len(table) >= _FEWEST_IDENTIFIERS
        and not table.missing(i).any()
        and len(np.unique(values)) == len(values)
        and (not table.is_numeric[i] or _is_counted(values))
    ]


def _is_counted(values: np.ndarray) -> bool:
    """Whether numbers are whole, and fill half of their range or more."""
    return bool(
        (values == np.floor(values)).all() and values.max() / 2 - values.min() / 2 < len(values)
    )


def read_tables(**tables: Any) -> tuple[PlainTable, ...]:
    """Read tables of the same columns.

    Parameters
    ----------
    **tables : DataFrame or array-like of shape (n_rows, n_columns)
        By the names that messages call them. The first decides which columns are numbers, times
        and categories, as `TVAESynthesizer` does. Columns are matched by name, in any order, and by
        position where a table has no names. Tables of this function are returned as they are.

    Returns
    -------
    tables : tuple of PlainTable

    Raises
    ------
    ValueError
        If the columns differ, or one holds infinite values.
    TypeError
        If a column holds values of another kind than the same column of the first table.
    """
    if all(isinstance(table, PlainTable) for table in tables.values()):
        return tuple(tables.values())
    (first, X), *others = tables.items()
    frame, container = as_frame(X)
    schema = TableSchema.learn(frame, container)
    frames = {first: frame}
    for name, other in others:
        frames[name] = _aligned(as_frame(other), schema, first, name)
    columns: list[list[np.ndarray]] = [[] for _ in frames]
    categories: list[np.ndarray | None] = []
    for i, column in enumerate(schema.columns):
        series = {name: one.iloc[:, i] for name, one in frames.items()}
        read = _read_numbers if column.is_numeric else _read_categories
        parts, values = read(column, series, first)
        for own, part in zip(columns, parts, strict=True):
            own.append(part)
        categories.append(values)
    is_numeric = np.array([column.is_numeric for column in schema.columns])
    return tuple(PlainTable(schema.names, is_numeric, own, categories) for own in columns)


def _aligned(read: tuple[pd.DataFrame, Any], schema: TableSchema, first: str, name: str) -> Any:
    """Return a table with its columns in the order of the first table."""
    frame, container = read
    names, labels = schema.names, list(frame.columns)
    if not (container.named and schema.container.named):
        if len(labels) != len(names):
            raise ValueError(
                f"{name} has {len(labels)} columns and {first} has {len(names)}. Pass tables of "
                "the same columns."
            )
        return frame
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise ValueError(f"{name} has two columns named {twice[0]!r}. Rename or drop one of them.")
    lacking = [label for label in names if label not in labels]
    surplus = [label for label in labels if label not in names]
    if lacking or surplus:
        found = [f"it lacks {lacking!r}"] if lacking else []
        found += [f"{surplus!r} are not in {first}"] if surplus else []
        raise ValueError(
            f"The columns of {name} are not those of {first}: {'; '.join(found)}. Drop or add "
            "columns, so that both tables have the same."
        )
    places = {label: i for i, label in enumerate(labels)}
    return frame.iloc[:, [places[label] for label in names]]


def _read_numbers(
    column: Column, series: dict[str, pd.Series], first: str
) -> tuple[list[np.ndarray], None]:
    """Return a column of numbers or times of each table as floats."""
    read: Callable = column.read
    parts = []
    for name, one in series.items():
        try:
            parts.append(np.asarray(read(one), dtype=float))
        except TypeError as error:
            raise TypeError(
                f"Column {column.name!r} holds {column.kind}s in {first}, but {name} has "
                f"{one.dtype} with values such as {_example(one)!r}. Convert it to the same kind."
            ) from error
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return parts, None


def _read_categories(
    column: Column, series: dict[str, pd.Series], first: str
) -> tuple[list[np.ndarray], np.ndarray]:
    """Return a column of each table as codes, and the values behind the codes."""
    codes_of: dict[Hashable, int] = {}
    parts = []
    families: set[str] = set()
    for name, one in series.items():
        codes, values = pd.factorize(column.read(one).astype(object))
        own = {_family(value) for value in values}
        if families and own and not families & own:
            raise TypeError(
                f"Column {column.name!r} holds categories such as {next(iter(codes_of))!r} in "
                f"{first}, but values such as {values[0]!r} in {name}, which never equal them. "
                "Convert it to the same type."
            )
        families |= own
        table = np.array([codes_of.setdefault(v, len(codes_of)) for v in values], dtype=np.int64)
        parts.append(np.append(table, -1)[codes])  # code -1, of missing values, finds the last
    made = np.empty(len(codes_of), dtype=object)
    made[:] = list(codes_of)
    return parts, made


def _family(value: Any) -> str:
    """Return the name of the types of which values can be equal to `value`."""
    if isinstance(value, numbers.Number | np.bool_):
        return "number"
    return "text" if isinstance(value, str) else type(value).__name__


def _example(series: pd.Series) -> Any:
    return next(iter(series.dropna()), None)
