"""Conditions that users state on columns, as groups of rows that share what is known of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sized
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd

from sktvae._encoding.limits import Accepted
from sktvae._encoding.seen import check_held
from sktvae._table.column import Column
from sktvae._table.containers import as_frame
from sktvae._table.schema import TableSchema

_MUTABLE_LISTS = (list, set, np.ndarray, pd.Index, pd.Series)
_LISTS = (*_MUTABLE_LISTS, tuple, frozenset, range)


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
    slack : float, default=0
        How far known numbers may be beyond the range of `fit`, see `check_seen`. Rows of a table
        may hold the extremes of `fit` itself, which are not kept.
    """

    rows: np.ndarray
    known: dict[int, pd.Series]
    accepted: dict[int, Accepted]
    slack: float = 0.0

    def part(self, which: np.ndarray) -> Group:
        """Return some of the rows, by their positions in the group."""
        known = {i: values.iloc[which] for i, values in self.known.items()}
        return Group(self.rows[which], known, self.accepted, self.slack)


def n_rows_wanted(n_samples: Any, conditions: Any) -> int:
    """Return the number of rows to be drawn.

    Parameters
    ----------
    n_samples : int or None
        None is the number of rows of a table of conditions, and else 1.
    conditions : dict, table or None

    Raises
    ------
    ValueError
        If a number is not an integer >= 0, or is not that of the rows of the table.
    """
    is_integer = isinstance(n_samples, Integral) and not isinstance(n_samples, bool)
    if n_samples is not None and not (is_integer and n_samples >= 0):
        raise ValueError(f"n_samples must be an integer >= 0, got {n_samples!r}.")
    if conditions is None or isinstance(conditions, Mapping):
        return 1 if n_samples is None else int(n_samples)
    if not isinstance(conditions, Sized):
        as_frame(conditions)  # says what is not a table
    n_rows = len(conditions)
    if n_samples is not None and n_samples != n_rows:
        raise ValueError(
            f"The table of conditions has {n_rows} rows, one for each row that is wanted, but "
            f"n_samples={n_samples}. Omit n_samples, or repeat rows of the table."
        )
    return n_rows


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
        See `n_rows_wanted`.
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
        slack = 0.0
    else:
        if not n_samples:
            return []
        by_column = _columns_of(conditions, schema)
        cells, options, slack = {}, {}, 1.0
        for i, column in by_column.items():
            cells[i], options[i] = _distinct_limits(schema.columns[i], column)
    choice = np.stack([np.zeros(n_samples, dtype=int), *cells.values()], axis=1)
    different, which = np.unique(choice, axis=0, return_inverse=True)
    groups = []
    for k, picked in enumerate(different[:, 1:]):
        group = Group(np.flatnonzero(which == k), {}, {}, slack)
        for (i, values), pick in zip(options.items(), picked, strict=True):
            _add(group, i, schema.columns[i], values[pick], by_column[i])
        groups.append(group)
    return groups


def parts_of(
    conditions: Mapping,
    schema: TableSchema,
    n_samples: int,
    batch_size: int,
    random: np.random.Generator,
) -> Iterator[dict]:
    """Yield the conditions of batches of rows, so that shares hold in all rows together.

    Each batch gets as many rows of each value as a part of the rows in random order would have.

    Parameters
    ----------
    conditions : dict
    schema : TableSchema
    n_samples, batch_size : int
    random : Generator
    """
    left = {
        name: _counts(schema.columns[schema.position(name)], value, n_samples)
        for name, value in conditions.items()
        if isinstance(value, Mapping)
    }
    for start in range(0, n_samples, batch_size):
        size = min(batch_size, n_samples - start)
        part = dict(conditions)
        for name, counts in left.items():
            drawn = random.multivariate_hypergeometric(counts, size, method="marginals")
            left[name] = counts - drawn
            part[name] = dict(zip(conditions[name], (drawn / size).tolist(), strict=True))
        yield part


_CELL = object()  # in place of an option: the value of the cell


def _columns_of(table: Any, schema: TableSchema) -> dict[int, pd.Series]:
    """Return the columns of a table of conditions by their positions in `fit`."""
    frame, _ = as_frame(table)
    by_column: dict[int, pd.Series] = {}
    for k, name in enumerate(frame):
        i = schema.position(name)
        if i in by_column:
            raise ValueError(f"The table of conditions has two columns {name!r}. Drop one of them.")
        by_column[i] = frame.iloc[:, k]
    return by_column


def _add(group: Group, i: int, column: Column, option: Any, cells: Any) -> None:
    """Add one condition to a group."""
    if option is _CELL:
        group.known[i] = cells.iloc[group.rows]
    elif isinstance(option, _LISTS) or _is_range(column, option):
        group.accepted[i] = _accepted(column, option)
    else:
        value = pd.Series([option], dtype=object)
        group.known[i] = value.iloc[np.zeros(len(group.rows), dtype=int)]


def _is_range(column: Column, value: Any) -> bool:
    """Whether a value is a range, and not a category that happens to be an interval."""
    return isinstance(value, pd.Interval) and column.is_numeric


def _distinct_limits(column: Column, cells: pd.Series) -> tuple[np.ndarray, list]:
    """Return which option each cell of a column is: its value, or one of its ranges and lists."""
    chosen = np.zeros(len(cells), dtype=int)
    options: list[Any] = [_CELL]
    values = getattr(cells.dtype, "categories", cells)  # `pandas.cut` returns categories
    if not isinstance(values.dtype, pd.IntervalDtype) and values.dtype != object:
        return chosen, options
    # Hashable lists may be categories themselves.
    lists = _LISTS if column.is_numeric else _MUTABLE_LISTS
    seen: dict[Any, int] = {}
    for row, value in enumerate(cells):
        if isinstance(value, lists):
            key: Any = (type(value), tuple(value))
        elif _is_range(column, value):
            key = value
        else:
            continue
        chosen[row] = seen.setdefault(key, len(options))
        if chosen[row] == len(options):
            options.append(value)
    return chosen, options


def _shared_out(
    column: Column, condition: Any, n_samples: int, random: np.random.Generator
) -> tuple[np.ndarray, list]:
    """Return which of the values of a condition each row gets, and these values."""
    if not isinstance(condition, Mapping):
        return np.zeros(n_samples, dtype=int), [condition]
    counts = _counts(column, condition, n_samples)
    return random.permutation(np.repeat(np.arange(len(counts)), counts)), list(condition)


def _counts(column: Column, condition: Mapping, n_samples: int) -> np.ndarray:
    """Return how many rows get each of the values that are given with shares."""
    is_number = all(isinstance(share, Real) for share in condition.values())
    shares = np.array(list(condition.values()) if is_number else [], dtype=float)
    if not len(shares) or not (shares >= 0).all() or abs(shares.sum() - 1) > 1e-6:
        raise ValueError(
            f"Column {column.name!r}: the shares of a condition must be >= 0 and add up to 1, got "
            f"{condition!r}. For one of several values with the model's own shares, give a list."
        )
    wanted = shares / shares.sum() * n_samples
    counts = np.floor(wanted + 1e-9).astype(int)
    left = n_samples - counts.sum()
    remainder = wanted - counts
    counts[np.argsort(-remainder, kind="stable")[:left]] += 1
    return counts


def _accepted(column: Column, option: Any) -> Accepted:
    """Return a range or a list in plain values."""
    options = [option] if isinstance(option, pd.Interval) else list(option)
    if not options:
        raise ValueError(f"Column {column.name!r}: the list of values is empty.")
    ranges = [one for one in options if _is_range(column, one)]
    values = [one for one in options if not _is_range(column, one)]
    absent = [pd.api.types.is_scalar(value) and bool(pd.isna(value)) for value in values]
    present = [value for value, is_absent in zip(values, absent, strict=True) if not is_absent]
    plain = plain_values(column, present)
    check_held(column, plain, present)
    return Accepted(plain, [_plain_range(column, one) for one in ranges], any(absent))


def _plain_range(column: Column, given: pd.Interval) -> tuple[float, float, str]:
    """Return the ends of a range of a column of numbers or times, and which of them it holds."""
    is_infinite = lambda end: isinstance(end, Real) and math.isinf(end)
    low, high = (
        float(end if is_infinite(end) else plain_values(column, [end])[0])
        for end in (given.left, given.right)
    )
    return low, high, given.closed


def plain_values(column: Column, values: list) -> list:
    """Return values of a column as the codecs see them."""
    return list(column.read(pd.Series(values, dtype=object))) if values else []
