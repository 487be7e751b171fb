"""`TableSchema`: what the user's table looks like, so that the same can be given back."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from sktvae._table.categories import CategoryColumn
from sktvae._table.column import Column
from sktvae._table.containers import ArrayTable, as_frame
from sktvae._table.narwhals import NarwhalsTable
from sktvae._table.numbers import NumberColumn
from sktvae._table.storage import ObjectStorage, storage_of
from sktvae._table.times import TimeColumn

# A column is of the first kind that recognises it; `CategoryColumn` takes every column.
KINDS: tuple[type[Column], ...] = (NumberColumn, TimeColumn, CategoryColumn)


@dataclass(frozen=True)
class TableSchema:
    """The container of a table, and its columns in order.

    It keeps no values of the table but the categories of dtypes that list them.
    """

    container: Any
    columns: tuple[Column, ...]

    @classmethod
    def learn(cls, frame: pd.DataFrame, container: Any) -> TableSchema:
        """Return the schema of a table, as `as_frame` returns it.

        Raises
        ------
        ValueError, TypeError
            If the table or one of its columns cannot be modelled.
        """
        labels = list(frame.columns)
        twice = frame.columns[frame.columns.duplicated()]
        if len(twice):
            raise ValueError(
                f"X has duplicate column names: {twice[0]!r} occurs {labels.count(twice[0])} "
                "times. Rename the columns, or keep the first of each: "
                "X.loc[:, ~X.columns.duplicated()]."
            )
        columns = tuple(learn_column(label, frame.iloc[:, i]) for i, label in enumerate(labels))
        return cls(container, columns)

    @property
    def names(self) -> list:
        """The labels of the columns."""
        return [column.name for column in self.columns]

    @property
    def feature_names(self) -> np.ndarray | None:
        """The names as scikit-learn keeps them: an array if all are strings, else None."""
        if self.container.named and all(isinstance(name, str) for name in self.names):
            return np.array(self.names, dtype=object)
        return None

    def position(self, name: Hashable) -> int:
        """Return the position of a column; raise ValueError if there is none of this name."""
        for i, own in enumerate(self.names):
            if _same_label(own, name):
                return i
        raise ValueError(
            f"Column {name!r} is not one of those that were passed to fit: {self.names!r}."
        )

    def without(self, categories: list[list]) -> TableSchema:
        """Return the schema with these categories taken from the dtype of each column."""
        columns = (
            column.without(values) for column, values in zip(self.columns, categories, strict=True)
        )
        return replace(self, columns=tuple(columns))

    def public(self, dropped: Collection[int] = ()) -> TableSchema:
        """Return the schema without what it says about the values but names and dtypes.

        Categories of dtypes that list them are still there, see `Column.only`.

        Parameters
        ----------
        dropped : collection of int
            The positions of columns that are left out, of which only the names are kept.
        """
        container, nullable = self.container, isinstance(self.container, NarwhalsTable)
        if isinstance(container, NarwhalsTable | ArrayTable):
            container = container.public()
        columns = (
            CategoryColumn(c.name, ObjectStorage()) if i in dropped else c.public(nullable)
            for i, c in enumerate(self.columns)
        )
        return TableSchema(container, tuple(columns))

    def conform(self, X: Any, owner: str = "the estimator") -> pd.DataFrame:
        """Return a table as a DataFrame; raise ValueError if its columns are not those of `fit`.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
        owner : str
            The estimator's name, for the message.
        """
        frame, container = as_frame(X)
        labels, names = list(frame.columns), self.names
        same = len(labels) == len(names) and all(map(_same_label, labels, names))
        if container.named and self.container.named and not same:
            raise ValueError(_mismatch(labels, names, owner))
        if len(labels) != len(names):
            raise ValueError(
                f"X has {len(labels)} features, but {owner} is expecting {len(names)} "
                "features as input."
            )
        return frame

    def assemble(self, series: dict[int, pd.Series]) -> Any:
        """Return a table as the user had it.

        Parameters
        ----------
        series : dict of int -> Series
            The written columns by their positions; columns that are not there are left out.
        """
        absent = tuple(i for i in range(len(self.columns)) if i not in series)
        kept = sorted(series)
        names = [self.columns[i].name for i in kept]
        return self.container.without(absent).write([series[i] for i in kept], names)


def learn_column(name: Hashable, series: pd.Series) -> Column:
    """Return the column that describes a Series."""
    storage = storage_of(name, series)
    recognised = (kind.recognise(name, series, storage) for kind in KINDS)
    return next(column for column in recognised if column is not None)


def _same_label(one: Any, other: Any) -> bool:
    return bool(one is other or one == other or (one != one and other != other))


def _mismatch(labels: list, names: list, owner: str) -> str:
    """Return the message for columns that are not those of `fit`."""
    missing = [n for n in names if n not in labels]
    unseen = [n for n in labels if n not in names]
    text = "The feature names should match those that were passed during fit.\n"
    if unseen:
        text += f"Feature names unseen at fit time: {unseen}.\n"
    if missing:
        text += f"Feature names seen at fit time, yet now missing: {missing}.\n"
    if not (missing or unseen) and len(labels) == len(names):
        first = next(n for n, m in zip(labels, names, strict=True) if n != m)
        text += (
            "Feature names must be in the same order as they were in fit; "
            f"{first!r} is the first out of place.\n"
        )
    if len(labels) != len(names):
        text += (
            f"X has {len(labels)} features, but {owner} is expecting {len(names)} "
            "features as input.\n"
        )
    if missing:
        return text + f"Add them, or fit on the columns that there are: {labels!r}."
    return text + f"Select them: X[{names!r}]."
