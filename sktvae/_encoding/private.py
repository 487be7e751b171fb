"""Fitting codecs to private summaries: from the table itself come only names and dtypes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import pandas as pd

from sktvae._encoding.category import CategoryCodec
from sktvae._encoding.codec import Codec
from sktvae._encoding.columns import (
    EncodedTable,
    FittedColumn,
    PlainColumns,
    check_heads,
    with_name,
)
from sktvae._encoding.key import DropCodec, KeyCodec
from sktvae._encoding.quantile import QuantileCodec
from sktvae._encoding.routing import PRIVATE_RULES, Route
from sktvae._encoding.summary import ColumnSummary
from sktvae._table.column import Column
from sktvae._table.containers import as_frame, missing_cells
from sktvae._table.schema import TableSchema


class ColumnSummaries(Protocol):
    """What a private fit learns from: `sktvae._privacy.summaries.PrivateSummaries`."""

    def begin(self, learned: list[tuple[Column, Codec]], n_rows: int) -> None:
        """Take note of the columns that are learned, and of their codecs, before any of them."""

    def refine(self, column: Column, codec: Codec, series: pd.Series) -> Column:
        """Return the column with what has to be learned before it can be read."""

    def summarise(self, column: Column, codec: Codec, plain: Any) -> ColumnSummary:
        """Return a private summary of a plain column."""

    def finish(self) -> None:
        """Check that all was done, and warn about columns of which little was learned."""


def check_learnable(schema: TableSchema, relations: list, routes: list[Route]) -> None:
    """Raise ValueError if a column cannot be learned from a private summary."""
    if relations:
        name = getattr(relations[0], "targets", [None])[0]
        raise ValueError(
            f"Column {name!r} has the relation {relations[0]}, which is learned from single rows; "
            "a private fit takes no relations. Omit it, and drop a column that follows from others."
        )
    for column, decision in zip(schema.columns, routes, strict=True):
        if isinstance(decision.codec, KeyCodec):
            raise ValueError(
                f"Column {column.name!r} has a KeyCodec, which learns from single rows. For a "
                f"private fit drop the column: TableEncoder([('keys', 'drop', [{column.name!r}])])."
            )


class FitPrivately:
    """What `TableEncoder` learns from private summaries of a table: a mixin."""

    def columns_to_learn(self, X: Any) -> list[tuple[Column, Codec]]:
        """Return the columns that a private fit learns, and their codecs, which are not fitted.

        They follow from the names and the dtypes of the table, and not from its rows.
        """
        _, schema, routes = self._routed_privately(X)
        codecs = [decision.codec for decision in routes]
        return [
            (column, codec)
            for column, codec in zip(schema.columns, codecs, strict=True)
            if codec is not None and not isinstance(codec, DropCodec)
        ]

    def _routed_privately(self, X: Any) -> tuple[pd.DataFrame, TableSchema, list[Route]]:
        """Return a table, and what follows of it from names and dtypes."""
        encoder: Any = self
        frame, container = as_frame(X)
        named = encoder._settings(frame).named
        dropped = [i for i, (_, codec) in named.items() if isinstance(codec, DropCodec)]
        schema = TableSchema.learn(frame, container).public(dropped)
        routes = encoder._route(frame, schema, [], PRIVATE_RULES)
        check_learnable(schema, encoder.relations or [], routes)
        return frame, schema, routes

    def _fit_privately(
        self, X: Any, sample_weight: Any, partial: bool, private: ColumnSummaries
    ) -> EncodedTable:
        """Fit to private summaries, and encode."""
        encoder: Any = self
        if sample_weight is not None:
            raise ValueError("A private fit takes no sample_weight: every row counts once.")
        frame, schema, routes = self._routed_privately(X)
        codecs = list(encoder._seeded(routes))
        schema, fitted = fit_privately(schema, frame, codecs, private)
        encoder._keep(schema, routes, fitted)
        heads = [head for column in fitted for head in column.heads]
        return EncodedTable(heads, len(frame), observed=~missing_cells(frame) if partial else None)


def fit_privately(
    schema: TableSchema, frame: pd.DataFrame, codecs: list, private: ColumnSummaries
) -> tuple[TableSchema, list[FittedColumn]]:
    """Fit each codec to the private summary of its column, and encode the column.

    Parameters
    ----------
    schema : TableSchema
        What names and dtypes say, see `TableSchema.public`.
    frame : DataFrame
    codecs : list of Codec
        Not fitted.
    private : ColumnSummaries

    Returns
    -------
    schema : TableSchema
        With what the summaries say.
    fitted : list of FittedColumn
    """
    is_learned = [not isinstance(codec, DropCodec) for codec in codecs]
    pairs = list(zip(schema.columns, codecs, strict=True))
    private.begin([pair for pair, yes in zip(pairs, is_learned, strict=True) if yes], len(frame))
    columns = [
        private.refine(column, codec, frame.iloc[:, i]) if is_learned[i] else column
        for i, (column, codec) in enumerate(pairs)
    ]
    plain = PlainColumns(replace(schema, columns=tuple(columns)), frame, [])
    fitted = []
    for i, codec in enumerate(codecs):
        name, values = columns[i].name, plain.learned(i, codec)
        if isinstance(codec, QuantileCodec):
            codec.set_params(min_samples=1)  # no row is behind a private summary; keep to its ends
        summary = _NOTHING
        if is_learned[i]:
            summary = with_name(name, private.summarise, columns[i], codec, values)
        with_name(name, codec.fit_summary, summary)
        fitted.append(FittedColumn(codec, with_name(name, codec.encode, values).heads, None))
        kept = codec.categories_.tolist() if isinstance(codec, CategoryCodec) else []
        columns[i] = columns[i].only(kept)
    private.finish()
    check_heads(schema, fitted)
    return replace(schema, columns=tuple(columns)), fitted


_NOTHING = ColumnSummary(np.empty(0, dtype=object), np.empty(0), 0.0, np.empty(0))
