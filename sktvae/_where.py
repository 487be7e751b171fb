"""Conditions on columns written as text: the `--where` of the command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

from sktvae._files import CsvFormat

# A value of a list: one in double quotes, which may hold "|", or all up to the next "|".
_PART = re.compile(r'(?:^|\|)("[^"]*"(?=\||$)|[^|]*)')


class WhereError(ValueError):
    """A condition that cannot be understood; the message says why."""


def conditions_of(model: Any, where: Sequence[str], form: CsvFormat) -> dict:
    """Return the conditions that texts such as "age=30..50" state.

    Parameters
    ----------
    model : TVAESynthesizer
    where : sequence of str
    form : CsvFormat
        How the columns are written.

    Raises
    ------
    WhereError
        If a text cannot be understood.
    """
    conditions: dict = {}
    columns = {str(c.name): i for i, c in enumerate(model.encoder_.schema_.columns)}
    for text in where:
        # A name may hold the sign "=": the longest name that fits.
        fits = [name for name in columns if text.startswith(name + "=")]
        if not fits:
            name, sign, _ = text.partition("=")
            known = ", ".join(map(repr, columns))
            why = f"the model has no column {name!r}, only {known}" if sign else "it has no '='"
            raise WhereError(f"{text!r}: {why}.")
        name = max(fits, key=len)
        if name in conditions:
            raise WhereError(f"{name!r} is given twice. Join values with |.")
        column = model.encoder_.schema_.columns[columns[name]]
        conditions[column.name] = _allowed(model, columns[name], text[len(name) + 1 :], form)
    return conditions


def _allowed(model: Any, i: int, text: str, form: CsvFormat) -> Any:
    """Return the condition that a text states on column `i`."""
    column = model.encoder_.schema_.columns[i]
    parts = _PART.findall(text)
    if len(parts) > 1:
        return [_allowed(model, i, part, form) for part in parts]
    if len(text) > 1 and text[0] == text[-1] == '"':
        return _value(model, i, text[1:-1], form)
    if not text:
        return None
    low, sign, high = text.partition("..")
    if not (sign and column.is_numeric):
        return _value(model, i, text, form)
    if not (low and high):
        raise WhereError(f"the range {text!r} of {column.name!r} needs two ends, such as 30..50.")
    ends = _value(model, i, low, form), _value(model, i, high, form)
    if not ends[0] <= ends[1]:  # also if one is NaN
        raise WhereError(f"the range {text!r} is empty.")
    return pd.Interval(*ends, closed="both")


def _value(model: Any, i: int, text: str, form: CsvFormat) -> Any:
    """Return the value of column `i` that a text stands for."""
    column = model.encoder_.schema_.columns[i]
    how = form.columns.get(str(column.name), "")
    try:
        if column.kind == "number":
            dotted = text.replace(form.decimal, ".")
            return int(dotted) if dotted.lstrip("-").isdigit() else float(dotted)
        if column.kind == "datetime":
            time = _time(text, how)
            zone = column.storage.dtype.tz if column.has_zone else None
            return time.tz_localize(zone) if zone is not None and time.tz is None else time
        if column.kind == "timedelta":
            return pd.Timedelta(text)
    except ValueError as error:
        raise WhereError(
            f"{text!r} is not a {column.kind}, which column {column.name!r} holds."
        ) from error
    known = categories_of(model, i)
    same = [v for v in known if str(v) == text] or [
        v for v in known if isinstance(v, bool) and str(v).lower() == text.lower()
    ]
    return same[0] if same else text


def categories_of(model: Any, i: int) -> list:
    """Return the categories of column `i` that the model knows."""
    encoder = model.encoder_
    name = encoder.schema_.names[i]
    for relation in encoder.relations_:
        if relation.kind == "category" and name in relation.targets:  # of combinations
            codec = encoder.codecs_[encoder.schema_.position(relation.targets[0])]
            k = relation.targets.index(name)
            return list(dict.fromkeys(combination[k] for combination in codec.categories_))
    return list(getattr(encoder.codecs_[i], "categories_", []))


def _time(text: str, how: str) -> Any:
    """Return a time that is written as the column is, or else in ISO 8601."""
    try:
        return pd.to_datetime(text, format=how if "%" in how else "ISO8601")
    except ValueError:
        return pd.to_datetime(text, format="ISO8601")
