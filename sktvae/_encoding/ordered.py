"""One number per column of rows in codes, for models that know nothing of codes, such as trees."""

from __future__ import annotations

import numpy as np

from sktvae._encoding.decoding import tied_numbers
from sktvae._encoding.fitted import FittedTable
from sktvae._encoding.quantile import QuantileCodec
from sktvae._heads import Uniform


def ordered_codes(fitted: FittedTable, heads: list[np.ndarray], n_samples: int) -> np.ndarray:
    """Return one number per column, which orders numbers and tells categories apart.

    Rows that decode to the same table have the same numbers, although ties allow that they have
    other codes: those of tied columns follow from the numbers that they decode to. None of them
    tells more of a value than its bin. This does not hold for columns of a `ModeCodec`.

    Parameters
    ----------
    fitted : FittedTable
    heads : list of ndarray of shape (n_samples,)
    n_samples : int

    Returns
    -------
    codes : float32 ndarray of shape (n_samples, n_codes)
        The bin of each number, the code of each category and of each tie, and what other codecs
        encode. NaN where a number is missing.
    """
    plain = tied_numbers(fitted, heads, n_samples)
    codes = []
    for i, place in fitted.places.items():
        codec, own = fitted.codecs[i], heads[place.own]
        if i in plain:
            own = codec.encode(plain[i], log_density=False).heads
        if place.tie is not None:
            tie = fitted.ties[i]
            codes.append(tie.encode([plain[k] for k in tie.positions], codec))
        if isinstance(codec, QuantileCodec):
            bins = codec.bins_of(own)
            codes.append(np.where(bins < 0, np.nan, bins))
        else:
            kept = zip(codec.heads_, own, strict=True)
            codes += [values for head, values in kept if not isinstance(head, Uniform)]
    if not codes:
        return np.empty((n_samples, 0), dtype=np.float32)
    return np.stack(codes, axis=1, dtype=np.float32, casting="same_kind")
