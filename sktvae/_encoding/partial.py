"""Rows of which some columns are known: in codes, within limits, and back to a table."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from sktvae._encoding.category import CategoryCodec
from sktvae._encoding.codec import Codec
from sktvae._encoding.columns import positions, rows_of, spread, with_name
from sktvae._encoding.conditions import Group
from sktvae._encoding.encoder import TableEncoder
from sktvae._encoding.key import DropCodec, KeyCodec
from sktvae._encoding.limits import Accepted, Limit
from sktvae._encoding.relations import Relation
from sktvae._encoding.seen import accepted_of, check_held, check_not_empty, check_seen, listed
from sktvae._encoding.ties import Tie
from sktvae._heads import Categorical, Gaussian
from sktvae._table.column import Column


@dataclass
class KnownRows:
    """Rows in codes, as far as they are known.

    Attributes
    ----------
    heads : list of ndarray of shape (n_rows,)
        Arbitrary, but valid, where the variable is not recorded.
    recorded : bool ndarray of shape (n_rows, n_variables)
        Whether each variable is known; a variable is a column that is encoded, or a tie.
    kept : dict of int to tuple (mask, plain column)
        What is known of each column, by its position.
    """

    heads: list[np.ndarray]
    recorded: np.ndarray
    kept: dict[int, tuple[np.ndarray, Any]] = field(default_factory=dict)

    @property
    def n_rows(self) -> int:
        return len(self.recorded)


def variables_of(encoder: TableEncoder) -> dict[int, int]:
    """Return the first head of each column that is encoded, by the column's position."""
    return {
        i: place.own.start
        for i, place in encoder.fitted.places.items()
        if place.own.stop > place.own.start
    }


def recorded_variables(encoder: TableEncoder, observed: np.ndarray) -> np.ndarray:
    """Return which variables are known in each row.

    Parameters
    ----------
    encoder : TableEncoder
    observed : bool ndarray of shape (n_rows, n_columns)
        Which cells are known. What a relation or a tie learns is known if all of its columns are.

    Returns
    -------
    recorded : bool ndarray of shape (n_rows, n_variables)
    """
    fitted = encoder.fitted
    related = {at[0]: at for at in (positions(fitted.schema, r) for r in fitted.relations)}
    recorded = []
    for i in variables_of(encoder):
        if i in fitted.ties:
            recorded.append(observed[:, fitted.ties[i].positions].all(axis=1))
        recorded.append(observed[:, related.get(i, [i])].all(axis=1))
    return np.stack(recorded, axis=1)


def known_rows(
    encoder: TableEncoder, frame: pd.DataFrame, observed: np.ndarray, slack: float | None = None
) -> KnownRows:
    """Encode the observed cells of a table.

    Parameters
    ----------
    encoder : TableEncoder
    frame : DataFrame of shape (n_rows, n_columns)
        With the columns of `fit`.
    observed : bool ndarray of shape (n_rows, n_columns)
        Other cells are not read.
    slack : float, default=None
        With a number, categories that the encoder does not keep raise an error, and so do numbers
        that a column cannot hold, or that are further beyond the range of `fit` than this many of
        its lengths.

    Raises
    ------
    ValueError
        If a value cannot be encoded, or if a relation holds only some of its columns.
    """
    schema, n_rows = encoder.schema_, len(frame)
    plain = {
        i: schema.columns[i].read(frame.iloc[:, i])
        for i in range(len(schema.columns))
        if observed[:, i].any() and not isinstance(encoder.codecs_[i], KeyCodec | DropCodec)
    }
    related = {positions(schema, r)[0]: r for r in encoder.relations_}
    if slack is not None:
        for i, values in plain.items():
            rows = observed[:, i]
            check_held(schema.columns[i], rows_of(values, rows), frame.iloc[rows, i].tolist())
    known = KnownRows([], np.zeros((n_rows, 0), dtype=bool))
    known.kept = {i: (observed[:, i], values) for i, values in plain.items()}
    recorded = []
    for i, codec in enumerate(encoder.codecs_):
        rows = observed[:, i]
        values = plain.get(i)
        if i in related:
            rows, values = _of_relation(encoder, related[i], plain, observed, frame.index)
        if codec is None or not codec.heads_:
            continue
        if i in encoder.fitted.ties:
            tied = _of_tie(encoder.fitted.ties[i], codec, plain, observed)
            known.heads.append(tied[0])
            recorded.append(tied[1])
        name = schema.names[i]
        if values is not None and slack is not None:
            own = rows_of(values, rows)
            with_name(name, _check_known, codec, own, schema.columns[i], related.get(i), slack)
        known.heads += with_name(name, _encode_rows, codec, values, rows)
        recorded.append(rows)
    known.recorded = np.stack(recorded, axis=1)
    return known


def _of_relation(
    encoder: TableEncoder, relation: Relation, plain: dict, observed: np.ndarray, index: pd.Index
) -> tuple[np.ndarray, Any]:
    """Return the rows in which what a relation learns is known, and the column that it learns."""
    at = positions(encoder.schema_, relation)
    n_targets = len(relation.targets)
    rows = np.asarray(observed[:, at].all(axis=1))
    partly = observed[:, at[:n_targets]].any(axis=1) & ~rows
    if partly.any():
        names = [encoder.schema_.names[i] for i in at]
        raise ValueError(
            f"{relation} ties {names!r} together, and in row {index[partly][0]} only some "
            "of them are known. Give all of them, or fit without the relation."
        )
    if not rows.any():
        return rows, None
    columns = [rows_of(plain[i], rows) for i in at]
    learned = relation.encode(columns[:n_targets], columns[n_targets:])
    return rows, None if learned is None else spread(learned, rows)


def _of_tie(
    tie: Tie, codec: Any, plain: dict[int, np.ndarray], observed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes of a tie, and in which rows all of its columns are known."""
    rows = np.asarray(observed[:, tie.positions].all(axis=1))
    codes = np.zeros(len(rows), dtype=np.int64)
    if rows.any():
        codes[rows] = tie.encode([plain[k][rows] for k in tie.positions], codec)
    return codes, rows


def _encode_rows(codec: Codec, plain: Any, rows: np.ndarray) -> list[np.ndarray]:
    """Encode some rows of a column; the others hold the code 0."""
    heads = [
        np.zeros(len(rows), dtype=np.int64)
        if isinstance(head, Categorical)
        else np.full(len(rows), np.nan if isinstance(head, Gaussian) else 0.5)
        for head in codec.heads_
    ]
    if rows.any():
        encoded = codec.encode(rows_of(plain, rows))
        if encoded.refused:
            raise ValueError(encoded.refused)
        for head, codes in zip(heads, encoded.heads, strict=True):
            head[rows] = codes
    return heads


def _check_known(
    codec: Codec, plain: Any, column: Column, relation: Relation | None, slack: float
) -> None:
    """Raise ValueError if what a codec learns is new to it."""
    if relation is None:
        return check_seen(codec, accepted_of(plain), column, slack)
    try:
        check_seen(codec, accepted_of(plain), slack=slack)
    except ValueError as error:
        what = "combination" if relation.kind == "category" else "difference"
        raise ValueError(f"{relation} learns a {what}, and {error}") from error


# Conditions


def frame_of(encoder: TableEncoder, group: Group) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a table with the columns of `fit`, and which of its cells a group knows."""
    schema, n_rows = encoder.schema_, len(group.rows)
    unknown = pd.Series(np.full(n_rows, None), dtype=object)
    columns = [
        group.known[i].reset_index(drop=True) if i in group.known else unknown
        for i in range(len(schema.columns))
    ]
    observed = np.zeros((n_rows, len(columns)), dtype=bool)
    observed[:, list(group.known)] = True
    return pd.concat(columns, axis=1), observed


def check_can_condition(encoder: TableEncoder, i: int) -> None:
    """Raise ValueError if nothing can be learned of a column."""
    codec, name = encoder.codecs_[i], encoder.schema_.names[i]
    if isinstance(codec, KeyCodec | DropCodec):
        what = "a key, whose values are made up" if isinstance(codec, KeyCodec) else "dropped"
        raise ValueError(
            f"Column {name!r} is {what}, so the model knows nothing about it that it could be "
            "conditioned on. Leave it out, or choose another codec for it: "
            "encoder=TableEncoder(codecs=...)."
        )


def uniform_groups(encoder: TableEncoder, group: Group) -> list[Group]:
    """Divide a group so that each part knows one value of a column whose combinations are limited.

    Such a column is one of a relation that learns combinations of columns, not all of which the
    group knows.
    """
    partly: set[int] = set()
    for relation in encoder.relations_:
        if relation.kind == "category":
            targets = positions(encoder.schema_, relation)
            known = [i for i in targets if i in group.known]
            partly.update(known if len(known) < len(targets) else [])
    if not partly:
        return [group]
    codes = [pd.factorize(group.known[i].astype(object))[0] for i in sorted(partly)]
    _, part = np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)
    return [group.part(np.flatnonzero(part == k)) for k in range(part.max() + 1)]


def limits_of(encoder: TableEncoder, group: Group) -> tuple[Group, dict[int, Limit]]:
    """Return a group without what its limits already say, and the limit of each column.

    Parameters
    ----------
    encoder : TableEncoder
    group : Group
        One of `uniform_groups`.
    """
    limits = {}
    accepted, known = dict(group.accepted), dict(group.known)
    for i in [*known, *accepted]:
        check_can_condition(encoder, i)
    for relation in encoder.relations_:
        at = positions(encoder.schema_, relation)
        targets = at[: len(relation.targets)]
        is_stated = [i in known or i in accepted for i in targets]
        if relation.kind == "category":
            if any(is_stated) and not all(i in known for i in targets):
                limits[targets[0]] = _combinations(encoder, relation, targets, group)
                for i in targets:
                    known.pop(i, None)
                    accepted.pop(i, None)
        elif any(is_stated) and not all(i in known for i in at):
            names = [encoder.schema_.names[i] for i in at]
            raise ValueError(
                f"Column {names[0]!r} follows from {relation}, so a condition on it needs one "
                f"value for each of {names!r}. Give them, or fit without the relation."
            )
    for i, one in accepted.items():
        limits[i] = _limit(encoder, i, one)
    return replace(group, known=known, accepted=accepted), limits


def _limit(encoder: TableEncoder, i: int, accepted: Accepted) -> Limit:
    """Return the limit of a column that no relation encodes."""
    codec, column = encoder.codecs_[i], encoder.schema_.columns[i]
    assert codec is not None
    with_name(column.name, check_seen, codec, accepted, column)
    limit = with_name(column.name, codec.limit, accepted)
    check_not_empty(limit, accepted, column)
    return limit


def _combinations(
    encoder: TableEncoder, relation: Relation, targets: list[int], group: Group
) -> Limit:
    """Return the limit of a column of combinations, of which some parts are stated."""
    codec = encoder.codecs_[targets[0]]
    assert isinstance(codec, CategoryCodec)
    combinations = list(codec.categories_)
    names = []
    for k, i in enumerate(targets):
        if i not in group.known and i not in group.accepted:
            continue
        column = encoder.schema_.columns[i]
        stated = group.accepted.get(i)
        if stated is None:
            stated = accepted_of(column.read(group.known[i].iloc[:1]))
        names.append(column.name)
        kept = {c[k] for c in codec.categories_ if not _is_missing(c[k])}
        unseen = [value for value in stated.values if value not in kept]
        if unseen:
            raise ValueError(
                f"Column {column.name!r}: {listed(unseen)} is in no combination of {relation} that "
                f"fit saw and keeps; it saw {listed(sorted(kept, key=repr))}."
            )
        combinations = [c for c in combinations if _accepts(stated, c[k])]
    if not combinations:
        raise ValueError(
            f"No combination of {relation} that fit saw and keeps satisfies the conditions on "
            f"{listed(names)}."
        )
    return codec.limit(Accepted(combinations))


def _accepts(stated: Accepted, value: Any) -> bool:
    if _is_missing(value):
        return stated.missing
    return value in stated.values or any(
        (low < value or (low == value and closed in ("left", "both")))
        and (value < high or (high == value and closed in ("right", "both")))
        for low, high, closed in stated.ranges
    )


def _is_missing(value: Any) -> bool:
    """Whether a part of a combination is missing."""
    return value is None or value != value


def present_shares(encoder: TableEncoder) -> dict[int, np.ndarray]:
    """Return shares that exclude missing values, by the first head of each column that has any."""
    combined = {
        positions(encoder.schema_, relation)[0]
        for relation in encoder.relations_
        if relation.kind == "category"
    }
    shares = {}
    for i, first in variables_of(encoder).items():
        codec: Any = encoder.codecs_[i]
        head = codec.heads_[0]
        if not isinstance(head, Categorical):
            continue
        share = np.ones(head.n_categories)
        if codec.missing_:
            share[-1] = 0.0
        if i in combined:
            complete = [c for c in codec.categories_ if not any(map(_is_missing, c))]
            if complete:
                share = share * codec.limit(Accepted(complete)).share
        if not share.all() and share.any():
            shares[first] = share
    for i, tie in encoder.fitted.ties.items():
        head = encoder.fitted.places[i].tie
        assert head is not None
        if tie.can_be_missing:
            shares[head] = 1.0 - tie.says_missing(np.arange(tie.head.n_categories))
    return shares


def place_within(
    encoder: TableEncoder, heads: list[np.ndarray], limits: dict[int, Limit]
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Move positions to where limits accept them; return the bounds of each limited column.

    Parameters
    ----------
    encoder : TableEncoder
    heads : list of ndarray of shape (n_rows,)
        Changed in place.
    limits : dict of int to Limit
        By the position of the column.
    """
    bounds = {}
    first = variables_of(encoder)
    for i, limit in limits.items():
        codec = encoder.codecs_[i]
        assert codec is not None
        own = slice(first[i], first[i] + len(codec.heads_))
        bins = codec.bins_of(heads[own])
        has_position = not isinstance(codec.heads_[-1], Categorical)
        u = heads[own][-1] if has_position else np.full(len(bins), 0.5)
        position, low, high = limit.place(bins, u)
        if has_position:
            heads[own.stop - 1] = position
        bounds[i] = low, high
    return bounds
