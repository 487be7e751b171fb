"""Whether conditions are within what `fit` saw, and within what a column can hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sktvae._encoding.category import CategoryCodec
from sktvae._encoding.codec import Codec, NumberCodec
from sktvae._encoding.limits import Accepted, Limit
from sktvae._table.column import Column
from sktvae._warnings import warn_user


def check_seen(
    codec: Codec, accepted: Accepted, column: Column | None = None, slack: float = 0.0
) -> None:
    """Raise ValueError if a category, a number, a whole range or a missing value is new to a codec.

    Parameters
    ----------
    codec : Codec
    accepted : Accepted
    column : Column, default=None
        It says how numbers are written in messages; None for those that a relation makes.
    slack : float, default=0
        How far beyond the range of `fit` numbers may be, in lengths of the range; there is a
        warning if they are.
    """
    if accepted.missing and not codec.missing_:
        raise ValueError("no value was missing in fit. Give a value, or a list of values")
    if isinstance(codec, CategoryCodec):
        known = codec.outcomes()
        unseen = sorted(set(accepted.values).difference(known), key=repr)
        if unseen:
            raise ValueError(
                f"{listed(unseen)} is not among the categories that fit saw and keeps: "
                f"{listed(known)}. Choose among these"
            )
    elif isinstance(codec, NumberCodec):
        _check_range(codec, accepted, column, slack)


def _check_range(
    codec: NumberCodec, accepted: Accepted, column: Column | None, slack: float
) -> None:
    least, largest = codec.ends
    margin = slack * (largest - least)
    as_ranges = [(value, value) for value in accepted.values]
    for low, high in as_ranges + [(low, high) for low, high, _ in accepted.ranges]:
        if low <= largest and high >= least:
            continue
        ends = [_written(column, end) for end in (low, high, least, largest)]
        what = ends[0] if low == high else f"the range from {ends[0]} to {ends[1]}"
        text = f"{what} is outside the range that fit learned, {ends[2]} to {ends[3]}"
        if low > largest + margin or high < least - margin:
            raise ValueError(f"{text}. Stay within it, or fit on rows beyond it")
        name = "" if column is None else f"Column {column.name!r}: "
        warn_user(f"{name}{text}, and counts as the nearest end of it for the other columns.")


def accepted_of(plain: Any) -> Accepted:
    """Return what stands for all values of a column in `check_seen`."""
    absent = np.asarray(pd.isna(plain))
    present = plain[~absent]
    missing = bool(absent.any())
    if isinstance(plain, pd.Series):
        return Accepted(list(pd.unique(present)), missing=missing)
    return Accepted([present.min(), present.max()] if len(present) else [], missing=missing)


def check_held(column: Column, plain: Any, values: list) -> None:
    """Raise ValueError if a column would not hold numbers or times exactly.

    Parameters
    ----------
    column : Column
    plain : plain column
    values : list
        The same as the user gave them, for the message.
    """
    if not column.is_numeric:
        return
    plain = np.asarray(plain, dtype=float)
    present = np.flatnonzero(~np.isnan(plain))
    if not len(present):
        return
    held = column.write(np.clip(plain[present], *column.limits))
    tolerance = 4 * column.storage.float_precision
    wrong = np.flatnonzero(~np.isclose(column.read(held), plain[present], tolerance, 0))
    if len(wrong):
        unit = f" in units of 1 {column.unit}" if hasattr(column, "unit") else ""
        raise ValueError(
            f"Column {column.name!r} is {column.dtype_name}{unit} and cannot hold "
            f"{values[present[wrong[0]]]!r}; the nearest value that it can hold is "
            f"{held.iloc[wrong[0]]}."
        )


def check_not_empty(limit: Limit, accepted: Accepted, column: Column) -> None:
    """Raise ValueError if a column of numbers or times has no value within a range."""
    if limit.share.any():
        return
    low, high, _ = accepted.ranges[0]
    steps = f"whole {column.unit}" if hasattr(column, "unit") else "the decimals that fit saw"
    raise ValueError(
        f"Column {column.name!r} has no value between {_written(column, low)} and "
        f"{_written(column, high)}: it holds {steps}. Give a wider range."
    )


def listed(values: Any, most: int = 8) -> str:
    """Return the first few of some values, for a message.

    Examples
    --------
    >>> from sktvae._encoding.seen import listed
    >>> listed(["a", "b", "c"], most=2)
    "'a', 'b', ... (3 in all)"
    """
    values = list(values)
    text = ", ".join(repr(value) for value in values[:most])
    return text + (f", ... ({len(values)} in all)" if len(values) > most else "")


def _written(column: Column | None, number: float) -> str:
    """Return a plain number as the user would write it."""
    if column is None or column.kind == "number" or np.isinf(number):
        return f"{number:.15g}"
    return str(column.write(np.clip([number], *column.limits)).iloc[0])
