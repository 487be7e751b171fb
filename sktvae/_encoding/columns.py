"""The plain columns of one table, each read once, and the codecs fitted to them one by one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone

from sktvae._encoding.category import CategoryCodec
from sktvae._encoding.codec import Codec
from sktvae._encoding.key import DropCodec
from sktvae._encoding.relations import Relation
from sktvae._encoding.sample_weight import row_weights
from sktvae._encoding.summary import ColumnSummary
from sktvae._table.column import Column
from sktvae._table.schema import TableSchema


class PlainColumns:
    """The plain columns of a table, each read once: cached if a relation needs them.

    If the table is `partial`, a missing cell is not a value but unknown: relations are learned, and
    hold, in the rows in which all of their columns are known.
    """

    def __init__(
        self, schema: TableSchema, frame: pd.DataFrame, relations: list, partial: bool = False
    ):
        self.schema = schema
        self.frame = frame
        self.partial = partial
        self._kept: dict[int, Any] = {}
        self.relate(relations)

    def relate(self, relations: list) -> None:
        """Encode the targets of these relations by them."""
        self._relation: dict[int, tuple[Relation, list[int]]] = {}
        self._shared: set[int] = set()
        for relation in relations:
            at = positions(self.schema, relation)
            self._relation[at[0]] = relation, at
            self._shared.update(at)

    def share(self, at: Iterable[int]) -> None:
        """Read these columns only once."""
        self._shared.update(at)

    def own(self, i: int) -> Any:
        """Return column `i`, and cache it, because it will be needed again."""
        if i not in self._kept:
            self._kept[i] = self._read(i)
        return self._kept[i]

    def of_relation(self, at: list[int]) -> tuple[list, np.ndarray]:
        """Return the columns of a relation in the rows in which it holds, and these rows."""
        plain = [self.own(i) for i in at]
        rows = np.ones(len(self.frame), dtype=bool)
        if self.partial:
            rows = np.logical_and.reduce([np.asarray(pd.notna(column)) for column in plain])
        return (plain if rows.all() else [rows_of(column, rows) for column in plain]), rows

    def learned(self, i: int, codec: Codec | None) -> Any:
        """Return what the codec of column `i` learns.

        If a relation leaves nothing to learn, it is checked, and the result is None.
        """
        if i in self._relation:
            relation, at = self._relation[i]
            n_targets = len(relation.targets)
            plain, rows = self.of_relation(at)
            learned = relation.encode(plain[:n_targets], plain[n_targets:])
            return learned if learned is None or rows.all() else spread(learned, rows)
        if codec is None:
            return None  # a further target of a relation
        if i in self._shared:
            return self.own(i)
        try:
            return self._read(i)
        except (TypeError, ValueError):
            if isinstance(codec, DropCodec):  # it need not be readable
                return self.frame.iloc[:, i].astype(object)
            raise

    def _read(self, i: int) -> Any:
        return self.schema.columns[i].read(self.frame.iloc[:, i])


@dataclass
class EncodedTable:
    """A table in codes.

    Attributes
    ----------
    heads : list of ndarray of shape (n_samples,)
        One array per head: codes in a small unsigned integer dtype, numbers in float64.
    n_samples : int
    log_density : ndarray of shape (n_samples,) or None
        Log-density of each row given its codes, in nats, if it was asked for.
    weight : ndarray of shape (n_samples,) or None
        Weights of the rows, all positive.
    clipped : list
        Names of the columns with numbers outside the range of `fit`.
    observed : bool ndarray of shape (n_samples, n_columns) or None
        Which cells have a value, if the table is partial.
    """

    heads: list[np.ndarray]
    n_samples: int
    log_density: np.ndarray | None = None
    weight: np.ndarray | None = None
    clipped: list = field(default_factory=list)
    observed: np.ndarray | None = None


@dataclass
class FittedColumn:
    """A fitted codec, the column in codes if asked for, and what a user should know about it."""

    codec: Codec | None
    heads: list[np.ndarray]
    advice: str | None
    forgotten: list = field(default_factory=list)  # categories that the codec does not keep


def fit_column(
    column: Column, codec: Codec | None, plain: Any, weight: np.ndarray | None, encode: bool
) -> FittedColumn:
    """Fit one codec and, if asked, encode its column, which is summarised once."""
    if codec is None:
        return FittedColumn(None, [], None)
    summary = with_name(column.name, codec.summarise, plain, weight)
    fitted = fit_to_summary(column, codec, summary)
    if encode:
        fitted.heads = with_name(column.name, codec.encode, plain).heads
    return fitted


def fit_to_summary(column: Column, codec: Codec, summary: ColumnSummary) -> FittedColumn:
    """Fit one codec to the summary of its column."""
    with_name(column.name, codec.fit_summary, summary)
    forgotten = []
    if isinstance(codec, CategoryCodec):
        kept = set(codec.categories_.tolist())
        forgotten = [value for value in summary.values.tolist() if value not in kept]
    return FittedColumn(codec, [], codec.advice(summary, column.kind), forgotten)


def check_heads(schema: TableSchema, fitted: list[FittedColumn]) -> None:
    """Raise ValueError if no column is learned."""
    if not any(column.codec is not None and column.codec.heads_ for column in fitted):
        raise ValueError(
            f"X has no column to learn: all of {schema.names} are keys or dropped. Add another "
            "column, or choose other codecs: TableEncoder(codecs=...)."
        )


def forgotten_values(
    schema: TableSchema, relations: list[Relation], fitted: list[FittedColumn]
) -> list[list]:
    """Return the categories of each column that are in no category that its codec keeps."""
    forgotten = [column.forgotten for column in fitted]
    for relation in relations:
        if relation.kind != "category":
            continue
        at = positions(schema, relation)
        combinations, codec = forgotten[at[0]], fitted[at[0]].codec
        assert isinstance(codec, CategoryCodec)
        for j, i in enumerate(at):
            kept = {combination[j] for combination in codec.categories_}
            forgotten[i] = list({combination[j] for combination in combinations} - kept)
    return forgotten


def without_dropped(schema: TableSchema, codecs: Sequence[Codec | None]) -> TableSchema:
    """Return the schema without the categories of dropped columns, which their dtypes may list."""
    columns = (
        column.only(()) if isinstance(codec, DropCodec) else column
        for column, codec in zip(schema.columns, codecs, strict=True)
    )
    return replace(schema, columns=tuple(columns))


def rows_that_count(
    frame: pd.DataFrame, sample_weight: Any
) -> tuple[pd.DataFrame, np.ndarray | None]:
    """Return the rows of positive weight, and their weights."""
    weight = row_weights(sample_weight, frame)
    if weight is None or (weight > 0).all():
        return frame, weight
    return frame.loc[weight > 0], weight[weight > 0]


def rows_of(plain: Any, rows: np.ndarray) -> Any:
    """Return some rows of a plain column."""
    return plain[rows].reset_index(drop=True) if isinstance(plain, pd.Series) else plain[rows]


def spread(values: Any, rows: np.ndarray) -> Any:
    """Return the values of some rows in a plain column of all rows, the others missing."""
    is_series = isinstance(values, pd.Series)
    full = np.full(len(rows), None if is_series else np.nan, dtype=object if is_series else float)
    full[rows] = values
    return pd.Series(full) if is_series else full


def with_name(name: Any, function: Any, *arguments: Any) -> Any:
    """Call a function; its ValueErrors say which column they are about."""
    try:
        return function(*arguments)
    except ValueError as error:
        raise ValueError(f"Column {name!r}: {error}") from error


def positions(schema: TableSchema, relation: Relation) -> list[int]:
    """Return the positions of the targets of a relation, then of its sources."""
    known = schema.names
    names = [*relation.targets, *relation.sources]
    absent = [name for name in names if name not in known]
    if absent:
        raise ValueError(f"{relation} names {absent[0]!r}, which is not a column of X: {known}.")
    return [known.index(name) for name in names]


def related_columns(schema: TableSchema, relations: Sequence[Relation]) -> set[int]:
    """Return the positions of the columns that are part of a relation."""
    return {i for relation in relations for i in positions(schema, relation)}


def fit_relations(declared: list, schema: TableSchema, plain: PlainColumns) -> list[Relation]:
    """Return fitted relations, each after those that decode its sources."""
    left: list[Relation] = []
    decided: dict = {}  # target -> relation
    for relation in declared:
        if not isinstance(relation, Relation):
            raise TypeError(
                f"relations holds {relation!r}. It must hold relations such as "
                "LessEqual('begin', 'end')."
            )
        relation = clone(relation)
        at = positions(schema, relation)
        if len(set(at)) < len(at):
            raise ValueError(f"{relation} names a column twice.")
        for name in relation.targets:
            if name in decided:
                raise ValueError(
                    f"Column {name!r} is the target of two relations, {decided[name]} and "
                    f"{relation}. Omit one of them."
                )
            decided[name] = relation
        values, rows = plain.of_relation(at)
        if not rows.any():
            names = [schema.names[i] for i in at]
            raise ValueError(
                f"{relation} ties {names!r} together, but there is no row in which all of them "
                "have a value. Omit the relation."
            )
        n_targets = len(relation.targets)
        relation.fit([schema.columns[i] for i in at], values[:n_targets], values[n_targets:])
        left.append(relation)
    return decoding_order(left)


def decoding_order(relations: list[Relation]) -> list[Relation]:
    """Return the relations, each after those that decode its sources."""
    ordered, left = [], relations
    while left:
        ready = [r for r in left if not any(s in t.targets for t in left for s in r.sources)]
        if not ready:
            raise ValueError(
                f"The relations {left} depend on each other in a cycle. Omit one of them."
            )
        ordered += ready
        left = [r for r in left if r not in ready]
    return ordered
