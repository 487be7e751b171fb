"""Codes back to columns as the user had them, and the check of an encoded table."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sktvae._encoding.category import CategoryCodec
from sktvae._encoding.codec import Codec, NumberCodec
from sktvae._encoding.columns import positions, with_name
from sktvae._encoding.fitted import FittedTable
from sktvae._encoding.key import DropCodec, KeyCodec
from sktvae._encoding.ties import resolve
from sktvae._heads import Categorical, Head, Uniform
from sktvae._table.schema import TableSchema


def decoded_columns(
    fitted: FittedTable,
    heads: list[np.ndarray],
    n_samples: int,
    kept: dict[int, tuple[np.ndarray, Any]] | None = None,
    bounds: dict[int, tuple[np.ndarray, np.ndarray]] | None = None,
    first_row: int = 0,
) -> dict[int, pd.Series]:
    """Decode one array per head to columns as the user had them, by their positions.

    Parameters
    ----------
    fitted : FittedTable
    heads : list of ndarray of shape (n_samples,)
    n_samples : int
    kept : dict of int to tuple (mask, plain column), default=None
        What replaces decoded values where the mask is true, by the position of the column.
    bounds : dict of int to tuple of two ndarrays, default=None
        Numbers between which decoded ones are to lie, by the position of the column.
    first_row : int, default=0
        Where the rows begin in the table that they are part of; keys are counted from there.

    Returns
    -------
    columns : dict of int to Series
        Without those that are dropped.
    """
    series: dict[int, pd.Series] = {}
    for part in parts_to_decode(fitted, heads, n_samples, kept, bounds, first_row):
        series |= part()
    return series


def parts_to_decode(
    fitted: FittedTable,
    heads: list[np.ndarray],
    n_samples: int,
    kept: dict[int, tuple[np.ndarray, Any]] | None = None,
    bounds: dict[int, tuple[np.ndarray, np.ndarray]] | None = None,
    first_row: int = 0,
) -> list[Callable[[], dict[int, pd.Series]]]:
    """Return what `decoded_columns` does, as functions that can be called in any order.

    Each returns columns by their positions: one column, all those of relations, or all tied ones.
    """
    decoding = _Decoding(fitted, n_samples, kept or {}, bounds or {}, first_row)
    related, tied = fitted.related, fitted.tied
    own = {
        i: heads[place.own]
        for i, place in fitted.places.items()
        if not isinstance(fitted.codecs[i], DropCodec)
    }
    parts: list[Callable[[], dict[int, pd.Series]]] = [
        functools.partial(decoding.column, i, own[i]) for i in sorted(own.keys() - related - tied)
    ]
    if related:
        of_relations = {i: own[i] for i in sorted(own.keys() & related)}
        parts.append(functools.partial(decoding.related, of_relations))
    if tied:
        parts.append(functools.partial(decoding.tied, *_of_ties(fitted, heads)))
    return parts


def tied_numbers(
    fitted: FittedTable, heads: list[np.ndarray], n_samples: int
) -> dict[int, np.ndarray]:
    """Return the plain columns that are tied, or that others are tied to, by their positions."""
    return _Decoding(fitted, n_samples, {}, {}, 0).numbers(*_of_ties(fitted, heads))


def _of_ties(
    fitted: FittedTable, heads: list[np.ndarray]
) -> tuple[dict[int, list[np.ndarray]], dict[int, np.ndarray]]:
    """Return the heads of the columns of ties, and those of the ties themselves."""
    places = fitted.places
    own = {i: heads[places[i].own] for i in sorted(fitted.tied)}
    return own, {i: heads[p.tie] for i, p in places.items() if p.tie is not None}


@dataclass
class _Decoding:
    """What the columns of one call share, see `decoded_columns`."""

    fitted: FittedTable
    n_samples: int
    kept: dict[int, tuple[np.ndarray, Any]]
    bounds: dict[int, tuple[np.ndarray, np.ndarray]]
    first_row: int

    @property
    def schema(self) -> TableSchema:
        return self.fitted.schema

    @property
    def codecs(self) -> Sequence[Codec | None]:
        return self.fitted.codecs

    def column(self, i: int, heads: list[np.ndarray]) -> dict[int, pd.Series]:
        """Decode a column that is no part of a relation."""
        series = self._written_by_code(i, heads)
        if series is None:
            series = self.schema.columns[i].write(self._limited(i, self._plain(i, heads)))
        return {i: series}

    def related(self, heads: dict[int, list[np.ndarray]]) -> dict[int, pd.Series]:
        """Decode the columns of all relations."""
        relations = self.fitted.relations
        targets = {self.schema.names.index(t) for r in relations for t in r.targets}
        plain = {i: self._plain(i, own) for i, own in heads.items()}
        for i in plain.keys() - targets:  # the others are what a relation learns
            plain[i] = self._limited(i, plain[i])
        for relation in relations:
            at = positions(self.schema, relation)
            n_targets = len(relation.targets)
            decoded = relation.decode(plain.get(at[0]), [plain[i] for i in at[n_targets:]])
            for i, values in zip(at[:n_targets], decoded, strict=True):
                plain[i] = _with_kept(values, i, self.kept)
        return {i: self.schema.columns[i].write(values) for i, values in plain.items()}

    def tied(
        self, heads: dict[int, list[np.ndarray]], codes: dict[int, np.ndarray]
    ) -> dict[int, pd.Series]:
        """Decode tied columns, and those that they are tied to."""
        plain = self.numbers(heads, codes)
        return {i: self.schema.columns[i].write(values) for i, values in plain.items()}

    def numbers(
        self, heads: dict[int, list[np.ndarray]], codes: dict[int, np.ndarray]
    ) -> dict[int, np.ndarray]:
        """Return the plain columns of `tied`."""
        plain = {i: self._limited(i, self._plain(i, own)) for i, own in heads.items()}
        places = {i: np.asarray(heads[i][-1], dtype=float) for i in codes}
        resolve(self.fitted.ties, self.codecs, codes, places, plain, self.kept, self.bounds)
        return plain

    def _plain(self, i: int, heads: list[np.ndarray]) -> Any:
        codec = self.codecs[i]
        assert codec is not None
        if isinstance(codec, KeyCodec):
            return codec.new_keys(self.first_row, self.n_samples)
        return with_name(self.schema.columns[i].name, codec.decode, heads, self.n_samples)

    def _limited(self, i: int, values: Any) -> Any:
        """Return decoded values within what a column can hold, and with what is to be kept."""
        if isinstance(self.codecs[i], NumberCodec):
            # a range may end a little beyond them
            values = np.clip(values, *self.schema.columns[i].limits)
            if i in self.bounds:
                values = np.clip(values, *self.bounds[i])
        return _with_kept(values, i, self.kept)

    def _written_by_code(self, i: int, heads: list[np.ndarray]) -> pd.Series | None:
        """Write each category once, and return the column; None where this is not possible."""
        codec, column = self.codecs[i], self.schema.columns[i]
        if not isinstance(codec, CategoryCodec) or len(heads) > 1 or i in self.kept:
            return None
        n_codes = codec.heads_[0].n_categories  # type: ignore[union-attr]
        if n_codes > self.n_samples:
            return None
        values = with_name(column.name, codec.decode, [np.arange(n_codes)], n_codes)
        written = column.write(values)
        if written.dtype != column.storage.dtype:  # it depends on which values there are
            return None
        values = written.array.take(heads[0].astype(np.intp))
        return pd.Series(values, dtype=written.dtype, name=written.name)  # objects stay objects


def _with_kept(values: Any, i: int, kept: dict) -> Any:
    """Return decoded values of column i, with those in place that are to be kept."""
    if i not in kept:
        return values
    mask, plain = kept[i]
    return np.where(mask, np.asarray(plain, dtype=values.dtype), values)


def check_encoded(Z: Any, heads: list[Head], names: np.ndarray) -> np.ndarray:
    """Return an encoded table as an array; raise ValueError if a head cannot hold its values."""
    if np.iscomplexobj(Z):
        raise ValueError("Complex data not supported: Z must hold codes and real numbers.")
    Z = np.asarray(Z, dtype=float)
    if Z.ndim != 2 or Z.shape[1] != len(heads):
        raise ValueError(
            f"Expected 2D array with {len(heads)} encoded columns, got shape {Z.shape}. "
            "Reshape your data."
        )
    for name, head, values in zip(names, heads, Z.T, strict=True):
        if isinstance(head, Categorical):
            wrong = ~((values >= 0) & (values < head.n_categories) & (values % 1 == 0))
            what = f"codes 0 to {head.n_categories - 1}"
        elif isinstance(head, Uniform):
            wrong, what = ~((values >= 0) & (values <= 1)), "positions in [0, 1]"
        else:
            wrong, what = np.isinf(values), "finite numbers or NaN"
        if wrong.any():
            raise ValueError(
                f"Encoded column {name!r} must hold {what}, got {values[wrong][0]} in row "
                f"{np.flatnonzero(wrong)[0]}."
            )
    return Z
