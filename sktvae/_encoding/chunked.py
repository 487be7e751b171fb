"""Fitting an encoder to a table that is read piece by piece, by one process or by several."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from sktvae._encoding.accumulation import ColumnAccumulator, RowSample, row_levels
from sktvae._encoding.category import CategoryCodec
from sktvae._encoding.codec import Codec, NumberCodec
from sktvae._encoding.columns import (
    EncodedTable,
    FittedColumn,
    PlainColumns,
    check_heads,
    fit_relations,
    fit_to_summary,
    forgotten_values,
    positions,
)
from sktvae._encoding.evidence import EvidenceOfSummary
from sktvae._encoding.key import DropCodec
from sktvae._encoding.relations import Relation
from sktvae._encoding.routing import questions, route, warn_about
from sktvae._encoding.summary import ColumnSummary, as_objects
from sktvae._encoding.tie_search import can_be_tied, find_ties, number_sample
from sktvae._table.chunks import Chunks, as_chunks
from sktvae._table.containers import as_frame
from sktvae._table.pieces import SeenTable
from sktvae._table.schema import TableSchema

Gather: TypeAlias = Callable[[Any], list[Any]]


class FitToChunks:
    """What `TableEncoder` does with a table that is read piece by piece: a mixin."""

    def fit_chunks(self, chunks: Iterable[Any], gather: Gather | None = None) -> int:
        """Choose a codec for each column, and fit it, to a table that is read piece by piece.

        The result is that of `fit` on the whole table, except that no relations are suggested. It
        does not depend on where the table is cut into pieces. Beyond 2**20 different numbers or
        2**18 different categories, a column is known by a uniform sample of its rows, see
        `sktvae._encoding.accumulation`.

        Parameters
        ----------
        chunks : iterable of tables
            It is read once, or twice if there are relations.
        gather : callable, default=None
            If several processes fit one table together: it takes an object and returns those of all
            processes, in the order of their ranks. All of them get the same encoder.

        Returns
        -------
        n_rows : int
            The number of rows in `chunks`, those of other processes not included.

        Raises
        ------
        ValueError, TypeError
            If a column cannot be modelled, or the pieces do not have the same columns.
        RuntimeError
            If another process failed.
        """
        self._validate_params()  # type: ignore[attr-defined]
        pieces = chunks if isinstance(chunks, Chunks) else Chunks(lambda: chunks)
        ranks = _Ranks(gather)

        settings = self._settings  # type: ignore[attr-defined]

        def read_own() -> TableAccumulator:
            return _accumulated(pieces, settings, ranks.own)

        tables = ranks.all_of(read_own)
        n_rows = tables[ranks.own].n_rows
        table = _merged(tables)
        seen, summaries = table.seen, [column.summary() for column in table.columns]
        samples = table.samples
        del tables, table
        assert seen is not None
        relations = self._learn_relations(seen.schema, summaries, pieces, ranks)
        self._fit_to_summaries(seen, summaries, relations, samples)
        return n_rows

    def encode_chunks(self, chunks: Iterable[Any]) -> Iterator[EncodedTable]:
        """Encode a table piece by piece.

        Parameters
        ----------
        chunks : iterable of tables

        Yields
        ------
        encoded : EncodedTable
            One per piece.
        """
        for piece in chunks:
            yield self.encode(piece)  # type: ignore[attr-defined]

    def _fit_if_chunks(self, X: Any, sample_weight: Any) -> bool:
        """Fit to a table that is read piece by piece; return False if `X` is a table in memory."""
        chunks = as_chunks(X)
        if chunks is None:
            return False
        if sample_weight is not None:
            raise ValueError(
                "A table that is read piece by piece takes no sample_weight. Repeat rows instead, "
                "or load the table into memory."
            )
        self.fit_chunks(chunks)
        return True

    def _learn_relations(
        self, schema: TableSchema, summaries: list, chunks: Iterable, ranks: _Ranks
    ) -> list[Relation]:
        """Fit relations; replace the summaries of their targets by those of what is learned."""
        declared = self.relations or []  # type: ignore[attr-defined]
        if not declared:
            return []
        relations = fit_relations(declared, schema, _DistinctValues(schema, summaries))
        targets = [positions(schema, relation)[0] for relation in relations]
        found = ranks.all_of(lambda: _learned(chunks, schema, relations, targets, ranks.own))
        for i, parts in zip(targets, zip(*found, strict=True), strict=True):
            for other in parts[1:]:
                parts[0].merge(other)
            summaries[i] = parts[0].summary()
        return relations

    def _fit_to_summaries(
        self, seen: SeenTable, summaries: list, relations: list, samples: list[RowSample]
    ) -> None:
        """Route and fit all columns; set the fitted attributes last."""
        encoder: Any = self
        schema, settings = seen.schema, encoder._settings(seen.frame)
        evidence = [EvidenceOfSummary(summary) for summary in summaries]
        routes = [route(one) for one in questions(schema, evidence, settings, relations)]
        fitted: list[FittedColumn] = Parallel(n_jobs=encoder.n_jobs)(
            delayed(_fit_one)(column, codec, summary)
            for column, codec, summary in zip(
                schema.columns, encoder._seeded(routes), summaries, strict=True
            )
        )
        check_heads(schema, fitted)
        n_rows = round(summaries[0].n_samples)
        warn_about(schema.names, routes, fitted, n_rows, encoder.min_samples)
        schema = schema.without(forgotten_values(schema, relations, fitted))
        ties = {}
        if encoder.ties:
            codecs = [column.codec for column in fitted]
            numbers = {i: samples[i].values for i in can_be_tied(schema, codecs, relations)}
            ties = find_ties(schema, codecs, numbers, encoder.min_samples, n_rows)
        schema = _only_kept(schema, summaries, fitted, relations)
        encoder._keep(schema, routes, fitted, relations, ties=ties)


class TableAccumulator:
    """What is known of a table that is read piece by piece.

    Parameters
    ----------
    rank : int, default=0
        The rank of the process that reads it.

    Attributes
    ----------
    n_rows : int
    seen : SeenTable or None
        Container, names and dtypes; None before the first piece.
    columns : list of ColumnAccumulator
    samples : list of RowSample
        The numbers of each column in the same rows, in which ties are looked for; NaN where a
        column holds none.
    """

    def __init__(self, rank: int = 0):
        self.rank, self.n_rows = rank, 0
        self.seen: SeenTable | None = None
        self.columns: list[ColumnAccumulator] = []
        self.samples: list[RowSample] = []

    def add(self, piece: SeenTable, frame: pd.DataFrame, dropped: Collection[int] = ()) -> None:
        """Add a piece of the table.

        Parameters
        ----------
        piece : SeenTable
        frame : DataFrame
        dropped : collection of int
            The positions of columns that need not be readable.
        """
        self._see(piece, f"the piece that begins with row {self.n_rows}")
        assert self.seen is not None
        levels = row_levels(self.n_rows, len(frame), self.rank)
        for i, seen in enumerate(self.seen.columns):
            try:
                plain = seen.column.read(frame.iloc[:, i])
            except (TypeError, ValueError) as error:
                if i not in dropped:
                    raise _with_row(error, self.n_rows) from error
                plain = _as_far_as_readable(seen.column, frame.iloc[:, i])
            self.columns[i].add(plain, levels)
            is_number = isinstance(plain, np.ndarray)
            self.samples[i].add(plain if is_number else np.full(len(frame), np.nan), levels)
        self.n_rows += len(frame)

    def merge(self, other: TableAccumulator) -> None:
        """Add the rows of another process, whose accumulator is of no use any more."""
        assert self.seen is not None and other.seen is not None
        known = other.seen
        self._see(known, f"the rows of process {other.rank}")
        other._convert_all(known, self.seen)
        for own, its in zip(self.columns, other.columns, strict=True):
            own.merge(its)
        for own_rows, its_rows in zip(self.samples, other.samples, strict=True):
            own_rows.merge(its_rows)
        self.n_rows += other.n_rows

    def compact(self) -> None:
        """Make the accumulator as small as it can be, before it is sent to other processes."""
        for column, sample in zip(self.columns, self.samples, strict=True):
            column.compact()
            sample.compact()

    def _see(self, piece: SeenTable, where: str) -> None:
        """Learn names and dtypes of another piece."""
        if self.seen is None:
            n = len(piece.columns)
            self.seen, self.columns = piece, [ColumnAccumulator(n) for _ in range(n)]
            self.samples = [number_sample(n) for _ in range(n)]
            return
        known, self.seen = self.seen, self.seen.merge(piece, where)
        self._convert_all(known, self.seen)

    def _convert_all(self, known: SeenTable, now: SeenTable) -> None:
        """Convert what is known of the columns to how they are read from now on."""
        for i, (before, after) in enumerate(zip(known.columns, now.columns, strict=True)):
            function = _conversion(before.column, after.column)
            if function is not None:
                self.columns[i].converted(function)
                self.samples[i].values = function(self.samples[i].values)


class _Ranks:
    """The processes that fit one table together."""

    def __init__(self, gather: Gather | None):
        self.gather = gather or (lambda own: [own])
        token = uuid.uuid4().hex
        self.own = self.gather(token).index(token)

    def all_of(self, function: Callable[[], Any]) -> list[Any]:
        """Call a function in each process, and return the results of all.

        If it fails in one of them, it raises an error in all, so that none waits for the others.
        """
        failure: Exception | None = None
        try:
            result = function()
        except Exception as error:
            result, failure = _Failure(f"{type(error).__name__}: {error}"), error
        results = self.gather(result)
        if failure is not None:
            raise failure
        for rank, other in enumerate(results):
            if isinstance(other, _Failure):
                raise RuntimeError(f"The fit failed in process {rank}: {other.message}")
        return results


@dataclass(frozen=True)
class _Failure:
    """The error of another process."""

    message: str


class _DistinctValues(PlainColumns):
    """The distinct values of each column, in place of its rows: enough to fit relations."""

    def __init__(self, schema: TableSchema, summaries: list[ColumnSummary]):
        self.summaries = summaries
        super().__init__(schema, pd.DataFrame(), [])

    def of_relation(self, at: list[int]) -> tuple[list, np.ndarray]:
        columns = []
        for i in at:
            values, missing = self.summaries[i].values, self.summaries[i].missing
            if self.schema.columns[i].is_numeric:
                columns.append(np.append(values.astype(float), [np.nan] * (missing > 0)))
            else:
                columns.append(pd.Series(as_objects([*values, *[None] * (missing > 0)])))
        return columns, np.ones(1, dtype=bool)


def _accumulated(chunks: Iterable[Any], settings: Any, rank: int) -> TableAccumulator:
    """Read the table once.

    Parameters
    ----------
    chunks : iterable of tables
    settings : callable
        Returns the `Settings` of a table with the names and dtypes of the first piece.
    rank : int
    """
    table = TableAccumulator(rank)
    dropped: set[int] = set()
    for piece in chunks:
        frame, container = as_frame(piece)
        seen = SeenTable.of(frame, container)
        if table.seen is None:
            named = settings(seen.frame).named
            dropped = {i for i, (_, codec) in named.items() if isinstance(codec, DropCodec)}
        table.add(seen, frame, dropped)
    table.compact()
    return table


def _merged(tables: list[TableAccumulator]) -> TableAccumulator:
    for other in tables[1:]:
        tables[0].merge(other)
    return tables[0]


def _learned(
    chunks: Iterable[Any], schema: TableSchema, relations: list, targets: list[int], rank: int
) -> list[ColumnAccumulator]:
    """Read the table again, and accumulate what relations make of their targets."""
    columns = [ColumnAccumulator(len(schema.columns)) for _ in targets]
    n_rows = 0
    for piece in chunks:
        plain = PlainColumns(schema, schema.conform(piece), relations)
        n = len(plain.frame)
        levels = row_levels(n_rows, n, rank)
        for i, column in zip(targets, columns, strict=True):
            try:
                learned = plain.learned(i, None)
            except ValueError as error:
                raise _with_row(error, n_rows) from error
            if learned is not None:
                column.add(learned, levels)
        n_rows += n
    for column in columns:
        column.compact()
    return columns


def _only_kept(
    schema: TableSchema, summaries: list, fitted: list[FittedColumn], relations: list[Relation]
) -> TableSchema:
    """Return the schema; category dtypes of sampled columns list only what their codecs keep."""
    columns = list(schema.columns)
    combined = {positions(schema, r)[0]: r for r in relations if r.kind == "category"}
    for i, (summary, one) in enumerate(zip(summaries, fitted, strict=True)):
        if not summary.sampled or not isinstance(one.codec, CategoryCodec):
            continue
        if i not in combined:
            columns[i] = columns[i].only(one.codec.categories_)
            continue
        at = positions(schema, combined[i])
        for j, values in zip(at, zip(*one.codec.categories_, strict=True), strict=True):
            columns[j] = columns[j].only(values)
    return replace(schema, columns=tuple(columns))


def _fit_one(column: Any, codec: Codec | None, summary: ColumnSummary) -> FittedColumn:
    """Fit a codec to the summary of a column that was read piece by piece."""
    if codec is None:
        return FittedColumn(None, [], None)
    if isinstance(codec, NumberCodec) and not len(summary.values):
        raise ValueError(
            f"Column {column.name!r}: {type(codec).__name__} cannot learn a column without values: "
            f"{summary.n_samples:.0f} sample(s), all missing. Drop the column."
        )
    if isinstance(codec, CategoryCodec) and summary.values.dtype != object:
        summary = replace(summary, values=as_objects(summary.values.tolist()))
    return fit_to_summary(column, codec, summary)


def _conversion(before: Any, after: Any) -> Callable | None:
    """Return the function from numbers as they were read to how they are read from now on."""
    if before == after or not (before.is_numeric and after.is_numeric):
        return None
    return lambda plain: before.as_read_by(after, plain)


def _as_far_as_readable(column: Any, series: pd.Series) -> Any:
    """Return a column that is left out of decoded tables, of which only scores need to know."""
    objects = series.astype(object)
    if not column.is_numeric:
        return objects
    plain = pd.to_numeric(objects, errors="coerce").to_numpy(dtype=float)
    return np.where(np.isinf(plain), np.nan, plain)


def _with_row(error: Exception, first_row: int) -> Exception:
    """Return the error of a piece, with the place of the piece in the table."""
    if not first_row:
        return error
    kind = TypeError if isinstance(error, TypeError) else ValueError
    return kind(f"{error} (Rows are counted from row {first_row} of X.)")
