"""Figures of single columns: shapes, missing values, categories."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils._param_validation import StrOptions, validate_params

from sktvae.metrics._tables import PlainTable, read_tables

AVERAGE = {"average": [StrOptions({"mean"}), None]}


@validate_params(AVERAGE, prefer_skip_nested_validation=True)
def column_shape_score(
    X_real: Any, X_synthetic: Any, *, average: str | None = "mean"
) -> float | pd.Series:
    """How alike the distributions of each column are; 1 is best, 0 is worst.

    For numbers and times it is one minus the Kolmogorov-Smirnov statistic, the largest difference
    between the two distribution functions. For categories it is one minus the total variation,
    half the sum of the absolute differences of the shares. **Missing values are left out**, as in
    the Column Shapes of SDMetrics, whose values this function gives; `missing_rate_error` is about
    them.

    Parameters
    ----------
    X_real, X_synthetic : DataFrame or array-like of shape (n_rows, n_columns)
        Tables of pandas, polars or pyarrow, or arrays. Columns are matched by name. Those of
        `X_real` decide what is a number, a time or a category, as in
        :class:`~sktvae.TVAESynthesizer`.
    average : {"mean", None}, default="mean"
        Whether to return the mean over the columns, or each column's score.

    Returns
    -------
    score : float or Series of shape (n_columns,)
        In [0, 1]. A column that has no values in either table scores NaN and is left out of the
        mean; one that has none in one of them scores 0.

    Raises
    ------
    ValueError, TypeError
        If the columns of the tables differ, or hold different kinds of values.

    References
    ----------
    F. J. Massey, "The Kolmogorov-Smirnov test for goodness of fit", JASA 46 (1951).

    Examples
    --------
    >>> import pandas as pd
    >>> from sktvae.metrics import column_shape_score
    >>> real = pd.DataFrame({"age": [20, 30, 40, 50], "smoker": ["no", "no", "no", "yes"]})
    >>> synthetic = pd.DataFrame({"age": [20, 30, 40, 90], "smoker": ["no", "no", "yes", "yes"]})
    >>> column_shape_score(real, synthetic)
    0.75
    >>> column_shape_score(real, synthetic, average=None)
    age       0.75
    smoker    0.75
    dtype: float64
    """
    real, synthetic = read_tables(X_real=X_real, X_synthetic=X_synthetic)
    return averaged([_shape(real, synthetic, i) for i in range(real.n_columns)], real, average)


def averaged(values: Any, table: PlainTable, average: str | None) -> float | pd.Series:
    """Return one value per column as a Series, or their mean without NaN."""
    series = pd.Series(
        np.asarray(values, dtype=float), pd.Index(table.names, dtype=object, tupleize_cols=False)
    )
    return series if average is None else float(series.mean())


def _shape(real: PlainTable, synthetic: PlainTable, i: int) -> float:
    one, other = (table.columns[i][~table.missing(i)] for table in (real, synthetic))
    if not len(one) or not len(other):
        return np.nan if len(one) == len(other) else 0.0
    if real.is_numeric[i]:
        return 1 - _kolmogorov_smirnov(one, other)
    shares = [
        np.bincount(codes, minlength=real.n_categories(i)) / len(codes) for codes in (one, other)
    ]
    return 1 - variation(*shares)


def _kolmogorov_smirnov(one: np.ndarray, other: np.ndarray) -> float:
    """Return the largest difference of two empirical distribution functions.

    It is the statistic of `scipy.stats.ks_2samp`, which spends most of its time on a p-value.
    """
    one, other = np.sort(one), np.sort(other)
    steps = np.concatenate([one, other])
    below = [np.searchsorted(part, steps, side="right") / len(part) for part in (one, other)]
    return float(np.abs(below[0] - below[1]).max())


def variation(one: np.ndarray, other: np.ndarray) -> float:
    """Return the total variation between two distributions over the same cells."""
    return min(float(np.abs(one - other).sum()) / 2, 1.0)  # the sum may exceed 2 by rounding


@validate_params(AVERAGE, prefer_skip_nested_validation=True)
def missing_rate_error(
    X_real: Any, X_synthetic: Any, *, average: str | None = "mean"
) -> float | pd.Series:
    """How far apart the shares of missing values are; 0 is best, 1 is worst.

    Parameters
    ----------
    X_real, X_synthetic : DataFrame or array-like of shape (n_rows, n_columns)
        See :func:`column_shape_score`.
    average : {"mean", None}, default="mean"
        Whether to return the mean over the columns, or each column's error.

    Returns
    -------
    error : float or Series of shape (n_columns,)
        The absolute difference of the shares of missing values, in [0, 1].

    Examples
    --------
    >>> import pandas as pd
    >>> from sktvae.metrics import missing_rate_error
    >>> real = pd.DataFrame({"weight": [None, 81.0, 64.0, 77.0]})
    >>> synthetic = pd.DataFrame({"weight": [None, None, 64.0, 77.0]})
    >>> missing_rate_error(real, synthetic)
    0.25
    """
    real, synthetic = read_tables(X_real=X_real, X_synthetic=X_synthetic)
    errors = [
        abs(real.missing(i).mean() - synthetic.missing(i).mean()) for i in range(real.n_columns)
    ]
    return averaged(errors, real, average)


@validate_params(AVERAGE, prefer_skip_nested_validation=True)
def rare_category_coverage(
    X_real: Any, X_synthetic: Any, *, average: str | None = "mean"
) -> float | pd.Series:
    """Which share of the real categories occurs among the synthetic rows; 1 is best.

    All categories count the same, so that rare ones decide. (The share of the *rows* whose
    category occurs is nearly 1 for every table.) Missing values are no category.
    `lost_categories` lists the categories, and says of which chance alone would have lost.

    Parameters
    ----------
    X_real, X_synthetic : DataFrame or array-like of shape (n_rows, n_columns)
        See :func:`column_shape_score`.
    average : {"mean", None}, default="mean"
        Whether to return the mean over the columns of categories, or each column's coverage.

    Returns
    -------
    coverage : float or Series of shape (n_columns,)
        In [0, 1]; NaN for numbers and times, for columns without values, and as the mean of a
        table without categories.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktvae.metrics import rare_category_coverage
    >>> real = pd.DataFrame({"city": ["Bonn", "Rome", "Oslo", "Rome"]})
    >>> rare_category_coverage(real, real.head(2).copy())
    0.6666666666666666
    """
    real, synthetic = read_tables(X_real=X_real, X_synthetic=X_synthetic)
    coverage = []
    for i in range(real.n_columns):
        if real.is_numeric[i]:
            coverage.append(np.nan)
            continue
        kept = counts_of(real, i) > 0
        found = counts_of(synthetic, i)[kept] > 0
        coverage.append(found.mean() if len(found) else np.nan)
    return averaged(coverage, real, average)


def counts_of(table: PlainTable, i: int) -> np.ndarray:
    """Return how often each category of column `i` occurs."""
    codes = table.columns[i]
    return np.bincount(codes[codes >= 0], minlength=table.n_categories(i))


def lost_categories(X_real: Any, X_synthetic: Any) -> pd.DataFrame:
    """List the real categories that no synthetic row has, the most frequent first.

    Parameters
    ----------
    X_real, X_synthetic : DataFrame or array-like of shape (n_rows, n_columns)
        See :func:`column_shape_score`.

    Returns
    -------
    lost : DataFrame
        One row per lost category. `column` and `category` say which; `n_real` is the number of real
        rows that have it, and `n_expected` the number of synthetic rows that should. `p_value` is
        the probability that all `n_real` of them are real if all rows, real and synthetic, are
        divided at random, so that a small value means that the category was not lost by chance.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktvae.metrics import lost_categories
    >>> real = pd.DataFrame({"city": ["Bonn", "Rome", "Oslo", "Rome"] * 10})
    >>> lost_categories(real, real[real["city"] != "Rome"])
      column category  n_real  n_expected   p_value
    0   city     Rome      20        10.0  0.000033
    """
    real, synthetic = read_tables(X_real=X_real, X_synthetic=X_synthetic)
    n_real, n_synthetic = len(real), len(synthetic)
    lines = []
    for i in map(int, np.flatnonzero(~real.is_numeric)):
        values = real.categories[i]
        counts = counts_of(real, i)
        for code in np.flatnonzero((counts > 0) & (counts_of(synthetic, i) == 0)):
            lines.append((real.names[i], values[code], counts[code]))  # type: ignore[index]
    lost = pd.DataFrame(lines, columns=["column", "category", "n_real"])
    lost = lost.astype({"column": object, "category": object, "n_real": int})
    lost["n_expected"] = lost["n_real"] * (n_synthetic / n_real)
    left = n_real - np.arange(lost["n_real"].max() if len(lost) else 0)
    chances = np.cumprod(left / (left + n_synthetic))  # of 1, 2, ... rows that are all real
    lost["p_value"] = chances[lost["n_real"].to_numpy() - 1]
    return lost.sort_values("n_real", ascending=False, kind="stable", ignore_index=True)
