"""Conditions that users state on columns, as groups of rows that share what is known of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from sktvae._encoding.limits import Accepted
from sktvae._table.column import Column
from sktvae._table.containers import as_frame
from sktvae._table.schema import TableSchema

_LISTS = (list, tuple, set, frozenset, np.ndarray, pd.Index, pd.Series)


@dataclass
class Group:
    """Rows whose conditions name the same columns.

    Attributes
    ----------
    rows : int ndarray of shape (n_rows,)
        Where they stand in the result.
    known : dict of int to Series of length n_rows
        Values by the position of the column.
    accepted : dict of int to Accepted
        What other columns may hold, in plain values.
    """

    rows: np.ndarray
    known: dict[int, pd.Series]
    accepted: dict[int, Accepted]


def groups_of(
    conditions: Any, schema: TableSchema, n_samples: int, random: np.random.Generator
) -> list[Group]:
    """Return the groups of rows that conditions ask for.

    Parameters
    ----------
    conditions : dict or table
        As in :meth:`sktvae.TVAESynthesizer.sample`.
    schema : TableSchema
    n_samples : int
        A table must have as many rows.
    random : Generator
        It decides which rows get which of several values that are given with shares.

    Raises
    ------
    ValueError, TypeError
        If a condition cannot be understood; the message names the column.
    """
    if isinstance(conditions, Mapping):
        by_column = {schema.position(name): value for name, value in conditions.items()}
        choices = [
            _shared_out(schema.columns[i], value, n_samples, random)
            for i, value in by_column.items()
        ]
        cells = {i: chosen for i, (chosen, _) in zip(by_column, choices, strict=True)}
        options = {i: values for i, (_, values) in zip(by_column, choices, strict=True)}
    else:
        frame, _ = as_frame(conditions)
        frame = frame.reset_index(drop=True)
        by_column = {schema.position(name): frame.iloc[:, k] for k, name in enumerate(frame)}
        cells, options = {}, {}
        for i, column in by_column.items():
            cells[i], options[i] = _distinct_limits(column)
    groups = []
    for combination in product(*(range(len(values)) for values in options.values())):
        rows = np.arange(n_samples)
        for (i, chosen), k in zip(cells.items(), combination, strict=True):
            rows = rows[chosen[rows] == k]
        if not len(rows):
            continue
        group = Group(rows, {}, {})
        for (i, values), k in zip(options.items(), combination, strict=True):
            _add(group, i, schema.columns[i], values[k], by_column[i])
        groups.append(group)
    return groups


_CELL = object()  # in place of an option: the value of the cell


def _add(group: Group, i: int, column: Column, option: Any, cells: Any) -> None:
    """Add one condition to a group."""
    if option is _CELL:
        group.known[i] = cells.iloc[group.rows]
    elif _is_limit(option):
        group.accepted[i] = _accepted(column, option)
    else:
        value = pd.Series([option], dtype=object)
        group.known[i] = value.iloc[np.zeros(len(group.rows), dtype=int)]


def _is_limit(value: Any) -> bool:
    return isinstance(value, (pd.Interval, *_LISTS))


def _distinct_limits(cells: pd.Series) -> tuple[np.ndarray, list]:
    """Return which option each cell of a column is: its value, or one of its ranges and lists."""
    chosen = np.zeros(len(cells), dtype=int)
    options: list[Any] = [_CELL]
    if isinstance(cells.dtype, pd.IntervalDtype) or cells.dtype == object:
        seen: dict[str, int] = {}
        for row, value in enumerate(cells):
            if _is_limit(value):
                chosen[row] = seen.setdefault(repr(value), len(options))
                if chosen[row] == len(options):
                    options.append(value)
    return chosen, options


def _shared_out(
    column: Column, condition: Any, n_samples: int, random: np.random.Generator
) -> tuple[np.ndarray, list]:
    """Return which of the values of a condition each row gets, and these values."""
    if not isinstance(condition, Mapping):
        return np.zeros(n_samples, dtype=int), [condition]
    values, shares = list(condition), np.array(list(condition.values()), dtype=float)
    if not len(shares) or not (shares >= 0).all() or abs(shares.sum() - 1) > 1e-6:
        raise ValueError(
            f"Column {column.name!r}: the shares of a condition must be >= 0 and add up to 1, got "
            f"{condition!r}. For one of several values with the model's own shares, give a list."
        )
    counts = np.floor(shares * n_samples + 1e-9).astype(int)
    left = n_samples - counts.sum()
    remainder = shares * n_samples - counts
    counts[np.argsort(-remainder, kind="stable")[:left]] += 1
    return random.permutation(np.repeat(np.arange(len(values)), counts)), values


def _accepted(column: Column, option: Any) -> Accepted:
    """Return a range or a list in plain values."""
    options = [option] if isinstance(option, pd.Interval) else list(option)
    if not options:
        raise ValueError(f"Column {column.name!r}: the list of values is empty.")
    ranges = [one for one in options if isinstance(one, pd.Interval)]
    values = [one for one in options if not isinstance(one, pd.Interval)]
    if ranges and not column.is_numeric:
        raise ValueError(
            f"Column {column.name!r} is a {column.kind}, so it cannot be in the range {ranges[0]}. "
            "Give a list of values."
        )
    absent = [bool(pd.isna(value)) for value in values]
    present = [value for value, is_absent in zip(values, absent, strict=True) if not is_absent]
    plain = plain_values(column, present)
    ends = plain_values(column, [end for one in ranges for end in (one.left, one.right)])
    closed = [
        (ends[2 * k], ends[2 * k + 1], one.closed) for k, one in enumerate(ranges)
    ]
    return Accepted(plain, closed, any(absent))


def plain_values(column: Column, values: list) -> list:
    """Return values of a column as the codecs see them."""
    if not values:
        return []
    if column.is_numeric:
        infinite = [isinstance(value, float) and np.isinf(value) for value in values]
        finite = [v for v, is_infinite in zip(values, infinite, strict=True) if not is_infinite]
        read = iter(column.read(pd.Series(finite, dtype=object)).tolist() if finite else [])
        return [v if inf else next(read) for v, inf in zip(values, infinite, strict=True)]
    return list(column.read(pd.Series(values, dtype=object)))
