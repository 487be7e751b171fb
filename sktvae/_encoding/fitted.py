"""`FittedTable`: a schema, codecs, relations and ties, and where each column is among the heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sktvae._encoding.columns import related_columns
from sktvae._encoding.key import DropCodec
from sktvae._encoding.relations import Relation
from sktvae._encoding.ties import Tie
from sktvae._heads import Head
from sktvae._table.schema import TableSchema


@dataclass(frozen=True)
class Place:
    """Where a column is found among the heads of an encoded table.

    Attributes
    ----------
    tie : int or None
        The head of its tie, if it has one.
    own : slice
        The heads of its codec.
    """

    tie: int | None
    own: slice


@dataclass(frozen=True)
class FittedTable:
    """All that is needed to encode and to decode a table.

    Attributes
    ----------
    schema : TableSchema
    codecs : sequence of Codec or None
        One per column; None if a relation encodes the column with another.
    relations : sequence of Relation
        Each after those that decode its sources.
    ties : dict of int to Tie
        By the position of the column, in ascending order.
    """

    schema: TableSchema
    codecs: Sequence[Any]
    relations: Sequence[Relation]
    ties: Mapping[int, Tie]

    @property
    def places(self) -> dict[int, Place]:
        """The place of each column that has a codec, by the position of the column."""
        found, start = {}, 0
        for i, codec in enumerate(self.codecs):
            if codec is None:
                continue
            tie = start if i in self.ties else None
            start += i in self.ties
            found[i] = Place(tie, slice(start, start + len(codec.heads_)))
            start = found[i].own.stop
        return found

    @property
    def heads(self) -> list[Head]:
        """The heads of all columns; a tie is before the column's own."""
        heads: list[Head] = []
        for i, codec in enumerate(self.codecs):
            heads += [self.ties[i].head] if i in self.ties else []
            heads += [] if codec is None else codec.heads_
        return heads

    @property
    def related(self) -> set[int]:
        """The positions of the columns that are part of a relation."""
        return related_columns(self.schema, self.relations)

    @property
    def tied(self) -> set[int]:
        """The positions of the columns that are tied, and of those that they are tied to."""
        return {i for tie in self.ties.values() for i in tie.positions}


def encoded_names(fitted: FittedTable) -> list[list[str]]:
    """Return the names of the heads of each column, all of which are unique."""
    taken: set[str] = set()
    names: list[list[str]] = []
    for i, (label, codec) in enumerate(zip(fitted.schema.names, fitted.codecs, strict=True)):
        own = [f"{label}__tie"] if i in fitted.ties else []
        own += [] if codec is None else list(codec.get_feature_names_out([label]))
        for k in range(len(own)):
            while own[k] in taken:
                own[k] = f"{own[k]}_"
            taken.add(own[k])
        names.append(own)
    return names


def described_columns(fitted: FittedTable, reasons: Sequence[str]) -> pd.DataFrame:
    """Return one row per column: what it is, how it is encoded, and why."""
    names = encoded_names(fitted)
    rows = []
    for i, (column, codec) in enumerate(zip(fitted.schema.columns, fitted.codecs, strict=True)):
        rows.append(
            {
                "kind": column.kind,
                "dtype": column.dtype_name,
                "codec": "" if codec is None else type(codec).__name__,
                "encoded_as": ", ".join(names[i]),
                "reason": f"dropped: {reasons[i]}" if isinstance(codec, DropCodec) else reasons[i],
            }
        )
    index = pd.Index(fitted.schema.names, name="column", tupleize_cols=False)
    return pd.DataFrame(rows, index=index)
