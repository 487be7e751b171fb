"""Do synthetic rows lie where real rows lie, and the other way round?"""

from __future__ import annotations

from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import pairwise_distances
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, validate_params

from sktvae.metrics._features import coordinates
from sktvae.metrics._tables import PlainTable, concat, read_tables

_CONSTRAINTS = {
    "k": [Interval(Integral, 1, None, closed="left")],
    "max_rows": [Interval(Integral, 2, None, closed="left")],
    "random_state": ["random_state"],
}
_SAME = 1e-9  # distances of equal rows differ from zero by rounding


class PrecisionRecall(NamedTuple):
    """What `precision_recall` returns: two shares of rows."""

    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    """What `density_coverage` returns: a mean number of neighbours, and a share of rows."""

    density: float
    coverage: float


@validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
def precision_recall(
    X_real: Any,
    X_synthetic: Any,
    *,
    k: int = 5,
    max_rows: int = 5_000,
    random_state: Any = None,
) -> PrecisionRecall:
    """Share of synthetic rows that look real, and of real rows that could be synthetic.

    A row lies in the region of a table if it is no farther from one of its rows than the k-th
    nearest other row of that table (Kynkäänniemi et al. 2019). Precision is the share of synthetic
    rows in the region of the real ones, recall that of real rows in the region of the synthetic
    ones. Two samples from one source reach less than 1: see :func:`evaluate`. Far outliers inflate
    both; :func:`density_coverage` is more robust.

    Parameters
    ----------
    X_real, X_synthetic : DataFrame or array-like of shape (n_rows, n_columns)
        See :func:`column_shape_score`. Distances are Euclidean; numbers count by their ranks among
        those of both tables, divided by the number of rows; two different categories are 1 apart.
    k : int, default=5
        Which neighbour bounds the region. There must be more rows than `k`.
    max_rows : int, default=5_000
        At most so many rows of each table, and as many of both, are drawn.
    random_state : int, RandomState instance or None, default=None
        Draws the rows.

    Returns
    -------
    shares : PrecisionRecall
        A named tuple ``(precision, recall)`` of numbers in [0, 1].

    References
    ----------
    T. Kynkäänniemi, T. Karras, S. Laine, J. Lehtinen and T. Aila, "Improved precision and recall
    metric for assessing generative models", NeurIPS 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from sktvae.metrics import precision_recall
    >>> rng = np.random.default_rng(0)
    >>> real = rng.normal(size=(500, 2))
    >>> precision, recall = precision_recall(real, real[real[:, 0] > 0], random_state=0)
    >>> bool(precision > 0.95), bool(recall < 0.7)
    (True, True)
    """
    figures = neighbourhoods(X_real, X_synthetic, k, max_rows, random_state)
    return PrecisionRecall(figures[0], figures[1])


@validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
def density_coverage(
    X_real: Any,
    X_synthetic: Any,
    *,
    k: int = 5,
    max_rows: int = 5_000,
    random_state: Any = None,
) -> DensityCoverage:
    """Mean number of real regions that a synthetic row is in, and share of them that have one.

    The region of a real row reaches to its k-th nearest other real row (Naeem et al. 2020). Density
    is the number of regions that a synthetic row lies in, divided by k: about 1 for rows from the
    same source, less if many lie apart from real rows, more if they keep away from the margins.
    Coverage is the share
    of real rows with a synthetic row in their region: about ``1 - 0.5**k`` for as many rows from
    the same source, which is 0.97 for k = 5.

    Parameters
    ----------
    X_real, X_synthetic : DataFrame or array-like of shape (n_rows, n_columns)
        See :func:`precision_recall`.
    k : int, default=5
        Which neighbour bounds a region. There must be more rows than `k`.
    max_rows : int, default=5_000
        At most so many rows of each table, and as many of both, are drawn.
    random_state : int, RandomState instance or None, default=None
        Draws the rows.

    Returns
    -------
    figures : DensityCoverage
        A named tuple ``(density, coverage)``; the coverage lies in [0, 1].

    References
    ----------
    M. F. Naeem, S. J. Oh, Y. Uh, Y. Choi and J. Yoo, "Reliable fidelity and diversity metrics for
    generative models", ICML 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from sktvae.metrics import density_coverage
    >>> rng = np.random.default_rng(0)
    >>> real = rng.normal(size=(500, 2))
    >>> bool(density_coverage(real, 0.3 * real, random_state=0).coverage < 0.9)
    True
    """
    figures = neighbourhoods(X_real, X_synthetic, k, max_rows, random_state)
    return DensityCoverage(figures[2], figures[3])


def neighbourhoods(
    X_real: Any, X_synthetic: Any, k: int, max_rows: int, random_state: Any
) -> np.ndarray:
    """Return precision, recall, density and coverage."""
    parts = _equally_many(X_real, X_synthetic, k, max_rows, random_state)
    _, real, synthetic = coordinates(concat(parts), *parts)
    between = pairwise_distances(synthetic, real)
    return _figures(pairwise_distances(real), pairwise_distances(synthetic), between, k)


def neighbourhoods_by_chance(
    X_real: Any, X_synthetic: Any, k: int, max_rows: int, random_state: Any, n_repeats: int
) -> np.ndarray:
    """Return `neighbourhoods` of the tables as they are, and of all rows divided at random.

    The result has the shape (1 + n_repeats, 4).
    """
    rng = check_random_state(random_state)
    parts = _equally_many(X_real, X_synthetic, k, max_rows, rng)
    n_rows = len(parts[0])
    both = concat(parts)
    apart = pairwise_distances(coordinates(both)[0].astype(np.float32))
    orders = [np.arange(2 * n_rows), *(rng.permutation(2 * n_rows) for _ in range(n_repeats))]
    out = []
    for order in orders:
        one, other = order[:n_rows], order[n_rows:]
        real, synthetic = apart[np.ix_(one, one)], apart[np.ix_(other, other)]
        out.append(_figures(real, synthetic, apart[np.ix_(other, one)], k))
    return np.array(out)


def _equally_many(
    X_real: Any, X_synthetic: Any, k: int, max_rows: int, random_state: Any
) -> list[PlainTable]:
    tables = read_tables(X_real=X_real, X_synthetic=X_synthetic)
    n_rows = min(max_rows, *(len(table) for table in tables))
    if n_rows <= k:
        raise ValueError(
            f"k={k} neighbours need at least {k + 1} rows of each table, got {n_rows}. Pass more "
            "rows, or choose a smaller k."
        )
    rng = check_random_state(random_state)
    return [table.sample(n_rows, rng) for table in tables]


def _figures(real: np.ndarray, synthetic: np.ndarray, between: np.ndarray, k: int) -> np.ndarray:
    """Return the four figures from distances; rows of `between` are synthetic."""
    # The nearest row is the row itself.
    real_radius, synthetic_radius = (
        np.partition(apart, k, axis=1)[:, k] + _SAME for apart in (real, synthetic)
    )
    in_real = between <= real_radius
    precision = in_real.any(axis=1).mean()
    recall = (between <= synthetic_radius[:, None]).any(axis=0).mean()
    density = in_real.sum(axis=1).mean() / k
    return np.array([precision, recall, density, in_real.any(axis=0).mean()])
