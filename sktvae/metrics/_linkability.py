"""Linkability: do synthetic rows connect what is known of a person in two places?"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from scipy.special import gammaln
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, validate_params

from sktvae.metrics._features import coordinates
from sktvae.metrics._intervals import PrivacyRisk, risk_of
from sktvae.metrics._privacy import MAX_ROWS
from sktvae.metrics._tables import PlainTable, concat, read_tables


@validate_params(
    {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "max_rows": MAX_ROWS,
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def linkability(
    X_train: Any,
    X_synthetic: Any,
    X_holdout: Any,
    *,
    columns: tuple[Sequence[Hashable], Sequence[Hashable]] | None = None,
    n_neighbors: int = 1,
    max_rows: int = 10_000,
    random_state: Any = None,
) -> PrivacyRisk:
    """How well synthetic rows tell that two records belong to the same person.

    The attacker has two tables of the same people without a common key, one with the columns A and
    one with the columns B, and links a record of the first to one of the second if both are near
    the same synthetic row. An attack on a person succeeds if the synthetic rows that are nearest to
    the person by A and those that are nearest by B have a row in common. What works for people whom
    the synthesizer has not seen is no leak: columns that depend on each other can be linked by
    anybody.

    Parameters
    ----------
    X_train, X_synthetic, X_holdout : DataFrame or array-like of shape (n_rows, n_columns)
        See :func:`copied_rows`; distances are those of :func:`precision_recall`.
    columns : tuple of two sequences of hashable or None, default=None
        The columns A and B, which must not overlap. None divides all columns at random into two
        halves.
    n_neighbors : int, default=1
        How many of the nearest synthetic rows are compared. Of synthetic rows that are equally
        near, some are drawn.
    max_rows : int, default=10_000
        At most so many rows of each table are drawn.
    random_state : int, RandomState instance or None, default=None
        Draws the rows and the columns.

    Returns
    -------
    risk : PrivacyRisk
        A named tuple: ``attack_rate``, ``baseline_rate`` (of rows that are drawn at random in place
        of the nearest ones), ``control_rate``, ``risk``, its 95 % interval from ``low`` to
        ``high``, and ``n_attacks``.

    Raises
    ------
    ValueError
        If the columns overlap, or one of the sets is empty.

    See Also
    --------
    singling_out, attribute_inference, membership_auc

    References
    ----------
    M. Giomi, F. Boenisch, C. Wehmeyer and B. Tasnádi, "A unified framework for quantifying privacy
    risk in synthetic data", PoPETs 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from sktvae.metrics import linkability
    >>> rng = np.random.default_rng(0)
    >>> train, holdout, other = rng.normal(size=(3, 200, 6))
    >>> bool(linkability(train, train, holdout, random_state=0).risk > 0.9)
    True
    >>> bool(abs(linkability(train, other, holdout, random_state=0).risk) < 0.1)
    True
    """
    rng = check_random_state(random_state)
    read = read_tables(X_train=X_train, X_synthetic=X_synthetic, X_holdout=X_holdout)
    train, synthetic, holdout = (table.sample(max_rows, rng) for table in read)
    halves = _halves(train, columns, rng)
    k = min(n_neighbors, len(synthetic))
    reference = concat([train, holdout])
    nearest = [_nearest((train, holdout), synthetic, reference, half, k, rng) for half in halves]
    rates = []
    for by_a, by_b in zip(*nearest, strict=True):
        shared = (by_a[:, :, None] == by_b[:, None, :]).any(axis=(1, 2))
        rates.append((float(shared.mean()), len(shared)))
    return risk_of(rates[0], rates[1], _by_chance(len(synthetic), k))


def _halves(
    table: PlainTable, columns: Any, rng: np.random.RandomState
) -> tuple[list[int], list[int]]:
    """Return the positions of the columns A and B."""
    if columns is None:
        if table.n_columns < 2:
            raise ValueError("linkability needs tables of two columns or more, got 1.")
        order = rng.permutation(table.n_columns)
        middle = table.n_columns // 2
        return sorted(order[:middle]), sorted(order[middle:])
    try:
        one, two = columns
    except (TypeError, ValueError) as error:
        raise ValueError(
            "columns must be two lists of column names, such as (['age', 'sex'], ['income']), got "
            f"{columns!r}."
        ) from error
    a, b = ([table.position(name, "columns") for name in half] for half in (one, two))
    if not a or not b or set(a) & set(b):
        raise ValueError(
            f"The two sets of columns must not be empty and must not overlap, got {columns!r}."
        )
    return a, b


def _nearest(
    tables: tuple[PlainTable, ...],
    synthetic: PlainTable,
    reference: PlainTable,
    columns: list[int],
    k: int,
    rng: np.random.RandomState,
) -> list[np.ndarray]:
    """Return the positions of the k nearest synthetic rows of each row, by some columns."""
    order = rng.permutation(len(synthetic))  # the search takes the first of rows equally near
    shuffled = synthetic.take(order)
    parts = (table.select(columns) for table in (reference, shuffled, *tables))
    _, made, *points = coordinates(*parts)
    search = NearestNeighbors(n_neighbors=k, algorithm="brute", metric="sqeuclidean").fit(made)
    return [order[search.kneighbors(rows, return_distance=False)] for rows in points]


def _by_chance(n_rows: int, k: int) -> float:
    """Return how often two random sets of `k` of `n_rows` rows have one in common."""
    if 2 * k > n_rows:
        return 1.0
    log_none = 2 * gammaln(n_rows - k + 1) - gammaln(n_rows - 2 * k + 1) - gammaln(n_rows + 1)
    return float(-np.expm1(log_none))
