"""Figures of pairs of columns."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import entr
from sklearn.utils._param_validation import validate_params

from sktvae.metrics._features import Cells, cut
from sktvae.metrics._shapes import AVERAGE, variation
from sktvae.metrics._tables import PlainTable, read_tables

_MOST_DENSE = 2**20  # cells of a two-way table


@validate_params(AVERAGE, prefer_skip_nested_validation=True)
def pair_trend_score(
    X_real: Any, X_synthetic: Any, *, average: str | None = "mean"
) -> float | pd.DataFrame:
    """How alike the relations of each two columns are, as SDMetrics measures it; 1 is best.

    For two columns of numbers or times it is one minus half the absolute difference of their
    Pearson correlations, each over the rows in which neither value is missing. For other pairs it
    is one minus the total variation between the two contingency tables, in which missing values
    are a value of their own and numbers lie in ten bins of equal width **of each table's own
    range**, as in SDMetrics (which counts missing numbers with the largest one). One outlier can
    therefore move every bin, and a correlation sees nothing but straight lines;
    :func:`pair_error` has neither weakness.

    Parameters
    ----------
    X_real, X_synthetic : DataFrame or array-like of shape (n_rows, n_columns)
        See :func:`column_shape_score`.
    average : {"mean", None}, default="mean"
        Whether to return the mean over all pairs of columns, or each pair's score.

    Returns
    -------
    score : float or DataFrame of shape (n_columns, n_columns)
        In [0, 1]. The DataFrame is symmetric, with NaN on the diagonal. A pair of which one column
        is constant in either table has no correlation: it is NaN and left out of the mean.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktvae.metrics import pair_trend_score
    >>> real = pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0], "y": [1.0, 2.0, 3.0, 4.0]})
    >>> pair_trend_score(real, real.assign(y=real["y"].to_numpy()[::-1]))
    0.0
    """
    real, synthetic = read_tables(X_real=X_real, X_synthetic=X_synthetic)
    pairs = all_pairs(real.n_columns)
    return _averaged(trend_scores(real, synthetic, pairs), real, average)


@validate_params(AVERAGE, prefer_skip_nested_validation=True)
def pair_error(
    X_real: Any, X_synthetic: Any, *, average: str | None = "mean"
) -> float | pd.DataFrame:
    """How far apart the joint distributions of each two columns are; 0 is best, 1 is worst.

    It is the total variation between the two histograms of a pair: the share of rows that would
    have to move to another cell. Numbers and times are cut at the deciles of the real column,
    categories beyond the hundred most frequent share a cell, those that the real column lacks share
    another, and missing values have one too. Any kind of dependence shows. Two tables from the same
    source differ as well, the more so the fewer rows they have: judge the error beside that of
    other real rows, as :func:`evaluate` does.

    Parameters
    ----------
    X_real, X_synthetic : DataFrame or array-like of shape (n_rows, n_columns)
        See :func:`column_shape_score`.
    average : {"mean", None}, default="mean"
        Whether to return the mean over all pairs of columns, or each pair's error.

    Returns
    -------
    error : float or DataFrame of shape (n_columns, n_columns)
        In [0, 1]. The DataFrame is symmetric, with NaN on the diagonal; the mean is NaN if there is
        only one column.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktvae.metrics import pair_error
    >>> real = pd.DataFrame({"x": ["a", "a", "b", "b"], "y": ["c", "c", "d", "d"]})
    >>> pair_error(real, real.assign(y=["c", "d", "c", "d"]))
    0.5
    """
    real, synthetic = read_tables(X_real=X_real, X_synthetic=X_synthetic)
    return _averaged(distances(cut(real, synthetic), all_pairs(real.n_columns)), real, average)


@validate_params(AVERAGE, prefer_skip_nested_validation=True)
def mutual_information_error(
    X_real: Any, X_synthetic: Any, *, average: str | None = "mean"
) -> float | pd.DataFrame:
    """How differently each two columns depend on each other; 0 is best, 1 is worst.

    It is the absolute difference of their normalised mutual information, which is 0 for
    independent columns and 1 if each determines the other (Strehl and Ghosh 2002, divided by the
    mean of the two entropies). Columns are cut into cells as in :func:`pair_error`, which, unlike
    this figure, also sees errors of single columns.

    Parameters
    ----------
    X_real, X_synthetic : DataFrame or array-like of shape (n_rows, n_columns)
        See :func:`column_shape_score`. Mutual information is overestimated from few rows: use as
        many synthetic rows as real ones.
    average : {"mean", None}, default="mean"
        Whether to return the mean over all pairs of columns, or each pair's error.

    Returns
    -------
    error : float or DataFrame of shape (n_columns, n_columns)
        In [0, 1]. The DataFrame is symmetric, with NaN on the diagonal.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktvae.metrics import mutual_information_error
    >>> real = pd.DataFrame({"x": ["a", "a", "b", "b"], "y": ["c", "c", "d", "d"]})
    >>> mutual_information_error(real, real.assign(y=["c", "d", "c", "d"]))
    1.0
    """
    real, synthetic = read_tables(X_real=X_real, X_synthetic=X_synthetic)
    errors = compare(cut(real, synthetic), all_pairs(real.n_columns))[1]
    return _averaged(errors, real, average)


def all_pairs(n_columns: int) -> np.ndarray:
    """Return the positions of each two columns: int, (n_pairs, 2)."""
    return np.column_stack(np.triu_indices(n_columns, 1))


def distances(cells: Cells, pairs: np.ndarray) -> np.ndarray:
    """Return the total variation of each of some pairs of columns between two tables."""
    return np.array([variation(one, other) for one, other in _histograms(cells, pairs)])


def compare(cells: Cells, pairs: np.ndarray) -> np.ndarray:
    """Return the total variation, and the absolute difference of the normalised mutual information.

    The result has the shape (2, n_pairs).
    """
    out = np.empty((2, len(pairs)))
    for k, (one, other) in enumerate(_histograms(cells, pairs)):
        out[0, k] = variation(one, other)
        out[1, k] = abs(_normalised_information(one) - _normalised_information(other))
    return out


def trend_scores(real: PlainTable, synthetic: PlainTable, pairs: np.ndarray) -> np.ndarray:
    """Return the pair trends of pairs of columns."""
    scores = np.full(len(pairs), np.nan)
    numeric = real.is_numeric[pairs].all(axis=1)
    scores[~numeric] = 1 - distances(_equal_width(real, synthetic), pairs[~numeric])
    if numeric.any():
        kept = np.unique(pairs[numeric])
        one, other = (_correlations(table, kept) for table in (real, synthetic))
        places = tuple(np.searchsorted(kept, pairs[numeric]).T)
        scores[numeric] = 1 - np.abs(one - other)[places] / 2
    return scores


def _histograms(cells: Cells, pairs: np.ndarray) -> Iterator[list[np.ndarray]]:
    """Yield the shares of rows in the cells of two columns, in each of two tables.

    They are two-way tables; where these would be huge, as for two columns of identifiers, they are
    arrays of the cells that are not empty.
    """
    columns = [np.ascontiguousarray(part.T) for part in cells.parts]
    for i, j in pairs:
        shape: tuple[int, ...] = (int(cells.sizes[i]), int(cells.sizes[j]))
        keys = [part[i] * shape[1] + part[j] for part in columns]
        if shape[0] * shape[1] > _MOST_DENSE:
            used, both = np.unique(np.concatenate(keys), return_inverse=True)
            keys, shape = np.split(both, [len(keys[0])]), (len(used),)
        n_cells = math.prod(shape)
        yield [np.bincount(key, minlength=n_cells).reshape(shape) / len(key) for key in keys]


def _normalised_information(joint: np.ndarray) -> float:
    """Return the mutual information of a two-way table over the mean of the entropies."""
    entropies = entr(joint.sum(axis=1)).sum() + entr(joint.sum(axis=0)).sum()
    mutual = entropies - entr(joint).sum()
    return float(np.clip(2 * mutual / entropies, 0, 1)) if entropies > 1e-12 else 0.0


def _equal_width(real: PlainTable, synthetic: PlainTable) -> Cells:
    """Cut numbers into ten bins of equal width of the own range; categories stay as they are."""
    parts = [np.empty((len(table), real.n_columns), np.int64) for table in (real, synthetic)]
    sizes = np.empty(real.n_columns, np.int64)
    for i, numeric in enumerate(real.is_numeric):
        for part, table in zip(parts, (real, synthetic), strict=True):
            values, absent = table.columns[i], table.missing(i)
            if numeric:
                values = np.digitize(values, _edges(values[~absent]))
            part[:, i] = np.where(absent, -1, values)
        both = np.concatenate([part[:, i] for part in parts])
        used, codes = np.unique(both, return_inverse=True)
        sizes[i] = len(used)
        parts[0][:, i], parts[1][:, i] = np.split(codes, [len(real)])
    return Cells(parts, sizes)


def _edges(values: np.ndarray) -> np.ndarray:
    """Return the edges of ten bins of equal width; some coincide where numbers hardly differ."""
    if not len(values):
        return np.zeros(0)
    low, high = values.min(), values.max()
    if low == high:
        low, high = low - 0.5, high + 0.5
    return 2 * np.linspace(low / 2, high / 2, 11)  # the range itself may be too large for a float


def _correlations(table: PlainTable, numeric: np.ndarray) -> np.ndarray:
    """Return Pearson correlations over the rows in which both columns have values."""
    frame = pd.DataFrame({i: table.columns[i] for i in numeric})
    if len(frame) < 2 or frame.isna().to_numpy().any():
        return frame.corr(min_periods=2).to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):  # a constant column
        return np.atleast_2d(np.corrcoef(frame.to_numpy(), rowvar=False))


def _averaged(values: np.ndarray, table: PlainTable, average: str | None) -> Any:
    """Return the values of `all_pairs` as a symmetric DataFrame, or their mean without NaN."""
    if average is None:
        labels = pd.Index(table.names, dtype=object, tupleize_cols=False)
        matrix = np.full((table.n_columns, table.n_columns), np.nan)
        first, second = all_pairs(table.n_columns).T
        matrix[first, second] = matrix[second, first] = values
        return pd.DataFrame(matrix, labels, labels)
    return float(np.nanmean(values)) if np.isfinite(values).any() else np.nan
