"""Codes back to columns as the user had them, and the check of an encoded table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sktvae._encoding.codec import Codec, NumberCodec
from sktvae._encoding.columns import positions, with_name
from sktvae._encoding.key import DropCodec
from sktvae._encoding.relations import Relation
from sktvae._heads import Categorical, Head, Uniform
from sktvae._table.schema import TableSchema


def decoded_columns(
    schema: TableSchema,
    codecs: list[Codec | None],
    relations: list[Relation],
    heads: list[np.ndarray],
    n_samples: int,
    kept: dict[int, tuple[np.ndarray, Any]] | None = None,
    bounds: dict[int, tuple[np.ndarray, np.ndarray]] | None = None,
) -> dict[int, pd.Series]:
    """Decode one array per head to columns as the user had them, by their positions.

    Parameters
    ----------
    schema : TableSchema
    codecs : list of Codec or None
        One per column.
    relations : list of Relation
        Each after those that decode its sources.
    heads : list of ndarray of shape (n_samples,)
    n_samples : int
    kept : dict of int to tuple (mask, plain column), default=None
        What replaces decoded values where the mask is true, by the position of the column.
    bounds : dict of int to tuple of two ndarrays, default=None
        Numbers between which decoded ones are to lie, by the position of the column.

    Returns
    -------
    columns : dict of int to Series
        Without those that are dropped.
    """
    related = related_columns(schema, relations)
    targets = {schema.names.index(t) for r in relations for t in r.targets}
    plain: dict[int, Any] = {}
    series: dict[int, pd.Series] = {}
    start = 0
    for i, (column, codec) in enumerate(zip(schema.columns, codecs, strict=True)):
        if codec is None or isinstance(codec, DropCodec):
            continue
        own = heads[start : start + len(codec.heads_)]
        start += len(own)
        values = with_name(column.name, codec.decode, own, n_samples)
        if isinstance(codec, NumberCodec) and i not in targets:
            values = np.clip(values, *column.limits)  # a range may end a little beyond them
            if bounds and i in bounds:
                values = np.clip(values, *bounds[i])
        if i not in targets:  # else these are what a relation learns
            values = _with_kept(values, i, kept)
        if i in related:
            plain[i] = values
        else:
            series[i] = column.write(values)
    for relation in relations:
        at = positions(schema, relation)
        n_targets = len(relation.targets)
        decoded = relation.decode(plain.get(at[0]), [plain[i] for i in at[n_targets:]])
        for i, values in zip(at[:n_targets], decoded, strict=True):
            plain[i] = _with_kept(values, i, kept)
    for i in plain:
        series[i] = schema.columns[i].write(plain[i])
    return series


def related_columns(schema: TableSchema, relations: list[Relation]) -> set[int]:
    """Return the positions of the columns that are part of a relation."""
    return {i for relation in relations for i in positions(schema, relation)}


def _with_kept(values: Any, i: int, kept: dict | None) -> Any:
    """Return decoded values of column i, with those in place that are to be kept."""
    if not kept or i not in kept:
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
