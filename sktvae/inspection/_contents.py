"""What a fitted synthesizer holds of each column, and on how many training rows it rests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from sktvae._table.containers import as_frame

_COLUMNS = ["kind", "codec", "keeps", "n_values", "rests_on", "n_missing"]


def contents_of(estimator: Any, X_train: Any) -> pd.DataFrame:
    """Return what the model holds of each column of its training table.

    Parameters
    ----------
    estimator : object
        If it has no ``encoder_``, the result is empty.
    X_train : DataFrame or array-like of shape (n_rows, n_columns)
        The rows that it was fitted on.

    Returns
    -------
    contents : DataFrame
        One row per column, whose name is the index:

        - ``kind``, ``codec``: those of ``encoder_.columns_``;
        - ``keeps``: what is kept, in words, also of which other columns its numbers often follow
          from or are near, and in how many training rows;
        - ``n_values``: how many values are kept exactly;
        - ``rests_on``: on how many training rows that rests at least: the least number of rows
          which have a value that is kept, or which a share or a mean was computed from; NaN if
          nothing is kept, or if it is not known;
        - ``n_missing``: how many training rows have no value, if the share of them is kept.
    """
    encoder = getattr(estimator, "encoder_", None)
    if encoder is None:
        return pd.DataFrame(columns=_COLUMNS, index=pd.Index([], name="column"))
    frame = as_frame(X_train)[0]
    schema = encoder.schema_
    plain = {column.name: column.read(frame.iloc[:, i]) for i, column in enumerate(schema.columns)}
    relations = {name: one for one in encoder.relations_ for name in one.targets}
    ties = {schema.names[i]: tie for i, tie in encoder.fitted.ties.items()}
    rows = []
    for name, codec, about in zip(
        schema.names, encoder.codecs_, encoder.columns_.itertuples(), strict=True
    ):
        relation = relations.get(name)
        if codec is None:
            kept = f"nothing of its own: it follows from {relation}", 0, np.nan, np.nan
        else:
            kept = _kept(codec, _learned(plain, name, relation))
        if name in ties:
            kept = _with_tie(kept, ties[name], codec, schema.names, plain)
        rows.append(dict(zip(_COLUMNS, (about.kind, about.codec, *kept), strict=True)))
    index = pd.Index(schema.names, name="column", tupleize_cols=False)
    return pd.DataFrame(rows, index=index, columns=_COLUMNS)


def _learned(plain: dict, name: Any, relation: Any) -> Any:
    """Return the plain column that a codec learned: the column, or what a relation makes of it."""
    if relation is None:
        return plain[name]
    parts = ([plain[one] for one in names] for names in (relation.targets, relation.sources))
    return relation.encode(*parts)


def _kept(codec: Any, values: Any) -> tuple[str, int, float, float]:
    """Return what a codec keeps: the last four columns of the contents."""
    for attribute, describe in _BY_ATTRIBUTE.items():
        if hasattr(codec, attribute):
            words, n_values, rests_on = describe(codec, values)
            break
    else:
        return "nothing", 0, np.nan, np.nan
    if not getattr(codec, "missing_", False):
        return words, n_values, rests_on, np.nan
    return f"{words}; the share of missing values", n_values, rests_on, float(pd.isna(values).sum())


def _with_tie(
    kept: tuple[str, int, float, float], tie: Any, codec: Any, names: list, plain: dict
) -> tuple[str, int, float, float]:
    """Return what is kept of a column and of how its numbers follow from others.

    The report holds no numbers of the table, so the constant of a tie is not told.
    """
    words, n_values, rests_on, n_missing = kept
    codes = tie.encode([plain[names[i]] for i in tie.positions], codec)
    found = [
        (f"{_follows(source)} {names[source.column]!r}", int((codes == k + 1).sum()))
        for k, source in enumerate(tie.sources)
    ]
    if tie.near is not None:
        found.append((f"is near {names[tie.near]!r}", int((tie.intervals(codes) >= 0).sum())))
    for what, n_rows in found:
        words += f"; that it {what} in {_count(n_rows, 'row', 'rows')}"
    rests_on = np.nanmin([rests_on, *(n_rows for _, n_rows in found)])
    return words, n_values, float(rests_on), n_missing


def _follows(source: Any) -> str:
    if source.is_equal:
        return "equals"
    if source.sign < 0:
        return "is a constant minus" if source.shift else "is minus"
    return "is a constant plus"


def _categories(codec: Any, values: Any) -> tuple[str, int, float]:
    counts = pd.Series(values).value_counts()
    kept = codec.categories_
    rests_on = [float(counts.get(value, 0)) for value in kept]
    words = _count(len(kept), "category", "categories")
    return f"{words} and their shares", len(kept), min(rests_on, default=np.nan)


def _cells(codec: Any, values: Any) -> tuple[str, int, float]:
    low, high = np.asarray(codec.low_), np.asarray(codec.high_)
    present = np.asarray(values, dtype=float)
    present = present[~np.isnan(present)]
    exact = np.unique(low[low == high])
    rests_on = [float((present == value).sum()) for value in exact]
    # A stretch between values that are kept exactly may hold one row of its share at least.
    rests_on += list(np.rint(np.asarray(codec.mass_)[low < high] * len(present)))
    extremes, n_rows = _extremes(codec, present)
    words = _count(len(exact), "exact value", "exact values") if len(exact) else "no exact value"
    stretches = _count(int((low < high).sum()), "interval", "intervals")
    words += f"; the ends and shares of {stretches}{extremes}" if (low < high).any() else extremes
    return words, len(exact), min([*rests_on, n_rows], default=np.nan)


def _modes(codec: Any, values: Any) -> tuple[str, int, float]:
    present = np.asarray(values, dtype=float)
    smallest = float(np.rint(np.min(codec.weights_) * (~np.isnan(present)).sum()))
    modes = _count(len(codec.means_), "mode", "modes")
    words = f"means, spreads and shares of {modes}; a range, whose ends are means of two numbers"
    return words, 0, min(smallest, 2.0)


def _extremes(codec: Any, present: np.ndarray) -> tuple[str, float]:
    """Return whether the ends of the range are extremes that are kept, and how many rows have one.

    With protection, the range follows from the outermost interval, and if an end of it equals an
    extreme this is a coincidence.
    """
    if getattr(codec, "min_samples", 1) > 1 or not len(present):
        return "", np.inf
    pairs = zip(codec.ends, (present.min(), present.max()), strict=True)
    n_rows = [float((present == extreme).sum()) for end, extreme in pairs if end == extreme]
    return ("; the extremes of the column" if n_rows else ""), min(n_rows, default=np.inf)


def _key(codec: Any, values: Any) -> tuple[str, int, float]:
    if getattr(codec, "start_", 1) == 1:
        return "the form of the keys", 0, np.nan
    return "the form of the keys, and the largest number in them", 1, 1.0


def _count(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"


# By which attribute a codec is known, and how what it keeps is described.
_BY_ATTRIBUTE: dict[str, Callable[[Any, Any], tuple[str, int, float]]] = {
    "categories_": _categories,
    "mass_": _cells,
    "means_": _modes,
    "form_": _key,
}


def n_parameters(estimator: Any) -> dict[str, int]:
    """Return how many numbers the networks of a synthesizer hold, by what they are for."""
    any_order = getattr(estimator, "any_order_", None)
    networks = {
        "the network": getattr(estimator, "vae_", None),
        "the network behind conditions": getattr(any_order, "network", None),
    }
    return {
        name: int(sum(np.prod(tuple(one.shape)) for one in network.parameters()))
        for name, network in networks.items()
        if network is not None and hasattr(network, "parameters")
    }
