"""`SeenTable`: what is known of a table of which some pieces have been seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from sktvae._table.arrow import ArrowTable, type_names
from sktvae._table.column import Column
from sktvae._table.containers import ArrayTable, PandasTable
from sktvae._table.narwhals import NarwhalsTable
from sktvae._table.numbers import NumberColumn
from sktvae._table.schema import TableSchema, learn_column
from sktvae._table.storage import ObjectStorage
from sktvae._table.times import UNITS, TimeColumn

# The type of Python objects of two types that are numbers, or times, of one kind.
_COMMON_TYPE = {
    frozenset(["int", "float"]): "float",
    frozenset(["Timestamp", "datetime"]): "datetime",
    frozenset(["Timedelta", "timedelta"]): "timedelta",
}


@dataclass(frozen=True)
class SeenColumn:
    """A column of which some pieces have been seen.

    Attributes
    ----------
    column : Column
    sample : Series
        A value that is present and a missing one, of those that there are, in the dtype of the
        column.
    has_value, has_missing : bool
        Whether there is a value that is present, and one that is missing.
    """

    column: Column
    sample: pd.Series
    has_value: bool
    has_missing: bool

    @classmethod
    def of(cls, column: Column, series: pd.Series) -> SeenColumn:
        absent = series.isna().to_numpy(dtype=bool)
        has_value, has_missing = not absent.all(), bool(absent.any())
        rows = [int(np.argmin(absent))] * has_value + [int(np.argmax(absent))] * has_missing
        sample = series.iloc[rows].reset_index(drop=True)
        return cls(column, sample, has_value, has_missing)

    def merge(self, other: SeenColumn, where: str) -> SeenColumn:
        """Return what is known of the column once another piece of it has been seen.

        The dtype becomes what `pandas.concat` makes of both, except that a piece without a value
        leaves the dtype as it is if this has a place for missing values, and that category dtypes
        have the categories of both.

        Parameters
        ----------
        other : SeenColumn
        where : str
            Where the other piece is, for the message.

        Raises
        ------
        TypeError
            If the pieces hold values of different kinds.
        """
        if self._tells_as_much_as(other):
            return self
        storage = None
        if self.column.storage == other.column.storage:
            storage, sample = self.column.storage, _concat(self.sample, other.sample)
        elif self._leaves(other):
            storage, sample = other.column.storage, other.sample
        elif other._leaves(self):
            storage, sample = self.column.storage, self.sample
        else:
            sample = _concat(self.sample, other.sample)
        has_value = self.has_value or other.has_value
        has_missing = self.has_missing or other.has_missing
        try:
            column = learn_column(self.column.name, sample)
        except (TypeError, ValueError) as error:
            raise self._mismatch(other, where) from error
        for one in (self, other):
            if one.has_value and (one.column.kind != column.kind or self._loses(one, column)):
                raise self._mismatch(other, where)
        if storage is not None:
            column = replace(column, storage=storage)
        column = self._completed(column, other, where)
        return SeenColumn(column, _first_of_each(sample), has_value, has_missing)

    def _tells_as_much_as(self, other: SeenColumn) -> bool:
        """Whether nothing new is seen in the other piece, as in most pieces of a table."""
        if self.column != other.column or other.has_value > self.has_value:
            return False
        if other.has_missing > self.has_missing:
            return False
        types = {type(one.sample.tolist()[0]) for one in (self, other) if one.has_value}
        return len(types) == 1 or not isinstance(self.column.storage, ObjectStorage)

    def _leaves(self, other: SeenColumn) -> bool:
        """Whether this piece, which has no value, leaves the dtype of the other as it is."""
        storage = other.column.storage
        is_object = isinstance(storage, ObjectStorage)  # pandas knows what marks a missing value
        return not self.has_value and other.has_value and storage.can_hold_missing and not is_object

    def _loses(self, one: SeenColumn, column: Column) -> bool:
        """Whether numbers would be read differently in the common dtype."""
        precision = one.column.storage.float_precision
        return isinstance(column, NumberColumn) and precision > column.storage.float_precision

    def _completed(self, column: Column, other: SeenColumn, where: str) -> Column:
        """Return the column with what follows from all values of both pieces."""
        seen = [one.column for one in (self, other) if one.has_value]
        if isinstance(column, NumberColumn):
            numbers = [one for one in seen if isinstance(one, NumberColumn)]
            decimals = [one.decimals for one in numbers if one.decimals is not None]
            if decimals and column.decimals is not None:
                column = replace(column, decimals=max(decimals))
            column = replace(column, whole=all(one.whole for one in numbers) and column.whole)
        elif isinstance(column, TimeColumn):
            units = [one.unit for one in seen if isinstance(one, TimeColumn)]
            column = replace(column, unit=max(units, key=UNITS.index, default=column.unit))
        if isinstance(column.storage, ObjectStorage):
            column = replace(column, storage=self._objects(column.storage, other, where))
        return column

    def _objects(self, storage: ObjectStorage, other: SeenColumn, where: str) -> ObjectStorage:
        """Return how Python objects of both pieces are held."""
        types = [_type_of(one.column) for one in (self, other) if one.has_value]
        python_type = types[0] if types else None
        if len(set(types)) > 1:
            python_type = _COMMON_TYPE.get(frozenset(types))  # type: ignore[arg-type]
            if python_type is None:
                raise self._mismatch(other, where)
        return replace(storage, python_type=python_type)

    def _mismatch(self, other: SeenColumn, where: str) -> TypeError:
        name = self.column.name
        one, two = (_described(seen) for seen in (self, other))
        return TypeError(
            f"Column {name!r} holds {one} in the first pieces of X and {two} in {where}. Give all "
            f"pieces one dtype: in pandas, read_csv(..., dtype={{{name!r}: ...}}) or "
            f"piece[{name!r}].astype(...); or leave the column out."
        )


@dataclass(frozen=True)
class SeenTable:
    """A table of which some pieces have been seen.

    Attributes
    ----------
    container : object
        See `sktvae._table.containers`.
    columns : tuple of SeenColumn
    """

    container: Any
    columns: tuple[SeenColumn, ...]

    @classmethod
    def of(cls, frame: pd.DataFrame, container: Any) -> SeenTable:
        """Return what is known from one piece, as `as_frame` returns it."""
        schema = TableSchema.learn(frame, container)
        seen = (SeenColumn.of(c, frame.iloc[:, i]) for i, c in enumerate(schema.columns))
        return cls(container, tuple(seen))

    @property
    def schema(self) -> TableSchema:
        return TableSchema(self.container, tuple(seen.column for seen in self.columns))

    @property
    def frame(self) -> pd.DataFrame:
        """One row of the table, with names and dtypes, by which columns are selected."""
        out = pd.concat([seen.sample.iloc[:1] for seen in self.columns], axis=1)
        names = [seen.column.name for seen in self.columns]
        out.columns = (
            pd.MultiIndex.from_tuples(names, names=self.container.level_names)
            if len(getattr(self.container, "level_names", [None])) > 1
            else pd.Index(names, tupleize_cols=False)
        )
        return out

    def merge(self, other: SeenTable, where: str) -> SeenTable:
        """Return what is known once another piece has been seen.

        Parameters
        ----------
        other : SeenTable
        where : str
            Where the other piece is, for the message.

        Raises
        ------
        ValueError, TypeError
            If the pieces have different columns, or are of different kinds.
        """
        names, labels = self.schema.names, other.schema.names
        container = self.container
        if labels != names and (container.named or len(labels) != len(names)):
            raise ValueError(
                f"X has the columns {names!r} in the first pieces and {labels!r} in {where}. Give "
                "every piece the same columns in the same order."
            )
        if other.container != container:
            container = _common_container(container, other.container, names, where)
        pairs = zip(self.columns, other.columns, strict=True)
        return SeenTable(container, tuple(one.merge(two, where) for one, two in pairs))


def _concat(one: pd.Series, other: pd.Series) -> pd.Series:
    """Return both samples in the dtype that pandas gives them together."""
    union = _union(one.dtype, other.dtype)
    if union is not None:
        one, other = one.astype(union), other.astype(union)
    return pd.concat([one, other], ignore_index=True)


def _union(one: Any, other: Any) -> pd.CategoricalDtype | None:
    """Return the dtype with the categories of two category dtypes that have no order."""
    if not all(isinstance(dtype, pd.CategoricalDtype) for dtype in (one, other)):
        return None
    if one.ordered or other.ordered or one.categories.dtype != other.categories.dtype:
        return None
    new = other.categories[~other.categories.isin(one.categories)]
    return pd.CategoricalDtype(one.categories.append(new))


def _first_of_each(sample: pd.Series) -> pd.Series:
    """Return the first value that is present and the first one that is missing."""
    absent = sample.isna().to_numpy(dtype=bool)
    rows = [*np.flatnonzero(~absent)[:1], *np.flatnonzero(absent)[:1]]
    return sample.iloc[rows].reset_index(drop=True)


def _type_of(column: Column) -> str | None:
    """Return the type of the Python objects that the values of a column become."""
    if isinstance(column.storage, ObjectStorage):
        return column.storage.python_type
    if isinstance(column, NumberColumn):
        return "int" if column.whole else "float"
    if isinstance(column, TimeColumn):
        return "Timestamp" if column.meaning == "datetime" else "Timedelta"
    return None


def _described(seen: SeenColumn) -> str:
    if not seen.has_value:
        return f"no value ({seen.column.dtype_name})"
    example = seen.sample[seen.sample.notna()].tolist()[0]
    return f"{example!r} ({seen.column.dtype_name})"


def _common_container(one: Any, other: Any, names: Sequence, where: str) -> Any:
    """Return the container of two pieces of a table, of which each has its own."""
    if type(one) is type(other):
        if isinstance(one, PandasTable) and one.level_names == other.level_names:
            return one
        if isinstance(one, ArrayTable):
            kinds = {np.dtype(container.dtype).kind for container in (one, other)}
            if kinds <= set("biuf") or len(kinds) == 1:
                return ArrayTable(np.result_type(one.dtype, other.dtype).str)
        if isinstance(one, NarwhalsTable) and one.backend == other.backend:
            _check_types(names, one.dtypes, other.dtypes, where)
            null = zip(one.has_null, other.has_null, strict=True)
            return replace(one, has_null=tuple(a or b for a, b in null))
        if isinstance(one, ArrowTable):
            _check_types(names, type_names(one.schema), type_names(other.schema), where)
            return one
    raise TypeError(
        f"The first pieces of X are of another kind ({_kind(one)}) than {where} ({_kind(other)}). "
        "Convert all pieces to one kind of table."
    )


def _check_types(names: Sequence, one: Sequence, other: Sequence, where: str) -> None:
    for name, first, second in zip(names, one, other, strict=True):
        if first != second:
            raise TypeError(
                f"Column {name!r} is {_shown(first)} in the first pieces of X and "
                f"{_shown(second)} in {where}. Cast it to one type in all pieces."
            )


def _shown(dtype: Any) -> str:
    return dtype if isinstance(dtype, str) else f"{dtype[0]}{dtype[1] or ''}"


def _kind(container: Any) -> str:
    return type(container).__name__.removesuffix("Table").lower()
