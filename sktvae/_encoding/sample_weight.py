"""Validation of `sample_weight`."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import _check_sample_weight


def row_weights(sample_weight: Any, X: Any) -> np.ndarray | None:
    """Return valid weights of rows, or None.

    Weights are numbers of repetitions: a row of weight 2 stands for two rows. Positive weights with
    a mean below one are scaled to a mean of one, so that probabilities can be passed.

    Parameters
    ----------
    sample_weight : array-like of shape (n_samples,) or None
    X : sized
        The rows.

    Raises
    ------
    ValueError
        If the weights are negative, all zero, or not one per row.
    """
    if sample_weight is None:
        return None
    weight = _check_sample_weight(sample_weight, np.empty((len(X), 1)), dtype=np.float64)
    if (weight < 0).any():
        row = int(np.flatnonzero(weight < 0)[0])
        raise ValueError(f"sample_weight must be >= 0, got {weight[row]} in row {row}.")
    n_positive = int((weight > 0).sum())
    if not n_positive:
        raise ValueError("sample_weight must be > 0 in at least one row, got zero in all rows.")
    return weight * max(1.0, n_positive / weight.sum())
