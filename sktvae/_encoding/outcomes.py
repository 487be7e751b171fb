"""What the codes of one column stand for: probabilities, means and quantiles of its values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sktvae._encoding.category import CategoryCodec
from sktvae._encoding.codec import Codec
from sktvae._encoding.quantile import QuantileCodec


def probabilities(codec: Codec, by_code: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the probability of each category or bin, and that of a missing value.

    Parameters
    ----------
    codec : CategoryCodec or QuantileCodec
    by_code : ndarray of shape (n_rows, n_codes) or (n_rows, n_codes, n_fine_codes)

    Returns
    -------
    present : ndarray of shape (n_rows, n_outcomes)
        See `labels`.
    missing : ndarray of shape (n_rows,)
    """
    n_rows = len(by_code)
    missing = np.zeros(n_rows)
    if codec.missing_:
        last = by_code[:, -1]
        missing = last if last.ndim == 1 else last.sum(axis=1)
        by_code = by_code[:, :-1]
    if isinstance(codec, CategoryCodec):
        return codec.spread(by_code), missing
    if not isinstance(codec, QuantileCodec):
        raise ValueError(
            f"{type(codec).__name__} gives no distribution in closed form, but draws. Use a "
            "CategoryCodec or, for numbers, a QuantileCodec"
        )
    if by_code.ndim == 2:
        return by_code, missing
    bins = codec.bin_of_codes()
    present = np.zeros((n_rows, int(bins.max()) + 1))
    for code in range(by_code.shape[1]):
        for fine in range(by_code.shape[2]):
            present[:, bins[code, fine]] += by_code[:, code, fine]
    return present, missing


def labels(codec: Codec, column: Any) -> pd.Index:
    """Return the label of each outcome: a category, or the interval of a bin."""
    if isinstance(codec, CategoryCodec):
        return pd.Index(list(column.write(codec.outcomes())), dtype=object)
    assert isinstance(codec, QuantileCodec)
    low, high = (_as_ends(column, ends) for ends in codec.bounds_of_bins())
    return pd.IntervalIndex.from_arrays(low, high, closed="both")


def _as_ends(column: Any, plain: np.ndarray) -> Any:
    """Return numbers or times in a dtype that intervals can have."""
    if column.kind == "number":
        return plain.astype("int64") if column.whole else plain
    times = column.write(plain).tolist()
    return pd.to_timedelta(times) if column.kind == "timedelta" else pd.to_datetime(times)


def mean(codec: QuantileCodec, present: np.ndarray) -> np.ndarray:
    """Return the mean of each row's distribution over bins, (n_rows,)."""
    share, _ = codec.shares()
    middle = share * (codec.low_ / 2 + codec.high_ / 2)
    return present @ np.bincount(codec.bins_, middle) / present.sum(axis=1)


def quantile(codec: QuantileCodec, present: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return quantiles of each row's distribution over bins, (n_rows, n_quantiles)."""
    cells, start, stop = codec.pieces()
    share = codec.shares()[0][cells] * (stop - start)
    mass = present[:, codec.bins_[cells]] * share
    until = np.cumsum(mass, axis=1)
    has_mass = until > 0
    row = np.arange(len(present))
    out = np.empty((len(present), len(q)))
    for k, level in enumerate(q):
        target = level * until[:, -1]
        # The lowest quantile is in the first piece that has any mass.
        piece = np.argmax(has_mass & (until >= target[:, None]), axis=1)
        own = mass[row, piece]
        within = np.clip((target - (until[row, piece] - own)) / own, 0, 1)
        cell = cells[piece]
        out[:, k] = codec.numbers_at(cell, start[piece] + within * (stop - start)[piece])
    return out
