"""What synthetic rows give away about the rows that the synthesizer was fitted on."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, validate_params

from sktvae.metrics._features import coordinates
from sktvae.metrics._tables import PlainTable, concat, read_tables

MAX_ROWS = [Interval(Integral, 2, None, closed="left")]
SAME = 1e-6  # squared distances of equal rows differ from zero by rounding
_NEAR = 0.05  # a guess of a number is right if its rank is off by at most so much


@dataclass(frozen=True)
class CopiedRows:
    """What `copied_rows` returns.

    Attributes
    ----------
    share : float
        The share of synthetic rows that equal a training row.
    share_equal_size : float
        The same for as many training rows as `holdout_share` is about; NaN without a holdout.
    holdout_share : float
        The share of synthetic rows that equal a holdout row; NaN without a holdout.
    duplicate_share : float
        The share of training rows that equal another training row: how many copies new real rows
        would show.
    independent_share : float
        The share of rows that equal a training row if each column of the training rows is shuffled:
        how many copies the columns alone explain, for instance in a table of few categories.
    rows : int ndarray
        The positions of the synthetic rows that equal a training row.
    train_rows : int ndarray
        For each of them, the position of the first training row that it equals.
    """

    share: float
    share_equal_size: float
    holdout_share: float
    duplicate_share: float
    independent_share: float
    rows: np.ndarray
    train_rows: np.ndarray


@validate_params({"random_state": ["random_state"]}, prefer_skip_nested_validation=True)
def copied_rows(
    X_train: Any, X_synthetic: Any, X_holdout: Any = None, *, random_state: Any = None
) -> CopiedRows:
    """Find synthetic rows that equal a training row in every column.

    A copy is not a leak by itself: in a table of few categories new people equal old ones. Compare
    the share with what holdout rows show, or without a holdout with `duplicate_share` and
    `independent_share`.

    Parameters
    ----------
    X_train, X_synthetic : DataFrame or array-like of shape (n_rows, n_columns)
        See :func:`column_shape_score`. `X_train` are the rows that the synthesizer was fitted on.
    X_holdout : DataFrame, array-like or None, default=None
        Real rows that it was not fitted on.
    random_state : int, RandomState instance or None, default=None
        Draws as many training rows as there are holdout rows, or the other way round, and
        shuffles the columns.

    Returns
    -------
    copies : CopiedRows

    Examples
    --------
    >>> import pandas as pd
    >>> from sktvae.metrics import copied_rows
    >>> train = pd.DataFrame({"age": [31, 54, 47], "weight": [70.5, 82.0, None]})
    >>> synthetic = pd.DataFrame({"age": [47, 50], "weight": [None, 82.0]})
    >>> copies = copied_rows(train, synthetic, random_state=0)
    >>> copies.share, copies.rows.tolist(), copies.train_rows.tolist()
    (0.5, [0], [2])
    """
    given = {"X_train": X_train, "X_synthetic": X_synthetic}
    if X_holdout is not None:
        given["X_holdout"] = X_holdout
    train, synthetic, *holdout = read_tables(**given)
    rng = check_random_state(random_state)
    shuffled = PlainTable(
        train.names,
        train.is_numeric,
        [column[rng.permutation(len(train))] for column in train.columns],
        train.categories,
    )
    own, made, mixed, *held = identities([train, synthetic, shuffled, *holdout])
    distinct, positions = np.unique(own, return_index=True)
    found = pd.Index(distinct).get_indexer(made)
    rows = np.flatnonzero(found >= 0)
    equal_size = held_share = np.nan
    if held:
        k = min(len(own), len(held[0]))
        equal_size, held_share = (
            float(np.isin(made, rng.permutation(ids)[:k]).mean()) for ids in (own, held[0])
        )
    return CopiedRows(
        share=len(rows) / len(made),
        share_equal_size=equal_size,
        holdout_share=held_share,
        duplicate_share=float(pd.Series(own).duplicated(keep=False).mean()),
        independent_share=float(np.isin(mixed, own).mean()),
        rows=rows,
        train_rows=positions[found[rows]],
    )


def identities(tables: Sequence[PlainTable]) -> list[np.ndarray]:
    """Return a number for each row, which two rows share if they are equal in every column."""
    pooled = concat(tables)
    ids = np.zeros(len(pooled), np.int64)
    for column in pooled.columns:
        codes, values = pd.factorize(column, use_na_sentinel=False)
        ids = pd.factorize(ids * len(values) + codes)[0]
    return np.split(ids, np.cumsum([len(table) for table in tables])[:-1])


class ClosestRecordShare(NamedTuple):
    """What `closest_record_share` returns."""

    share: float
    standard_error: float


@validate_params(
    {"max_rows": MAX_ROWS, "random_state": ["random_state"]}, prefer_skip_nested_validation=True
)
def closest_record_share(
    X_train: Any,
    X_synthetic: Any,
    X_holdout: Any,
    *,
    max_rows: int = 10_000,
    random_state: Any = None,
) -> ClosestRecordShare:
    """Share of synthetic rows that are closer to a training row than to any holdout row.

    As many training rows as holdout rows are compared, so that 0.5 means that synthetic rows are no
    closer to the rows that the synthesizer saw than to others, and 1 that all of them are. A tie
    counts half.

    Parameters
    ----------
    X_train, X_synthetic, X_holdout : DataFrame or array-like of shape (n_rows, n_columns)
        See :func:`copied_rows`; distances are those of :func:`precision_recall`.
    max_rows : int, default=10_000
        At most so many rows of each table are drawn.
    random_state : int, RandomState instance or None, default=None
        Draws the rows.

    Returns
    -------
    share : ClosestRecordShare
        A named tuple ``(share, standard_error)``. The standard error is that of the share if
        training and holdout rows are interchangeable: it is exact for a random division of both
        into two parts, given the synthetic rows.

    References
    ----------
    M. Platzer and T. Reutterer, "Holdout-based empirical assessment of mixed-type synthetic data",
    Frontiers in Big Data 4 (2021).

    Examples
    --------
    >>> import numpy as np
    >>> from sktvae.metrics import closest_record_share
    >>> rng = np.random.default_rng(0)
    >>> train, holdout = rng.normal(size=(2, 200, 3))
    >>> noisy = train + 0.01 * rng.normal(size=train.shape)
    >>> bool(closest_record_share(train, noisy, holdout, random_state=0).share > 0.9)
    True
    """
    rng = check_random_state(random_state)
    train, synthetic, holdout = read_tables(
        X_train=X_train, X_synthetic=X_synthetic, X_holdout=X_holdout
    )
    n_rows = min(len(train), len(holdout), max_rows)
    train, holdout = train.sample(n_rows, rng), holdout.sample(n_rows, rng)
    points = coordinates(concat([train, holdout]), synthetic.sample(max_rows, rng))
    both, rows = points
    (near, nearest), (other, other_nearest) = (
        closest(rows, part) for part in np.split(both, [n_rows])
    )
    tied = np.abs(near - other) <= SAME
    closer = np.where(tied, 0.5, near < other)
    # How many synthetic rows each real row attracts; labels of the real rows are exchangeable.
    attracted = np.bincount(nearest, closer, 2 * n_rows)
    attracted += np.bincount(other_nearest + n_rows, 1 - closer, 2 * n_rows)
    spread = attracted.var() * n_rows * (2 * n_rows / (2 * n_rows - 1)) / 2
    return ClosestRecordShare(float(closer.mean()), float(np.sqrt(spread) / len(rows)))


def closest(
    rows: np.ndarray, others: np.ndarray, metric: str = "sqeuclidean"
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distance to the closest of other points, and which it is."""
    search = NearestNeighbors(n_neighbors=1, algorithm="brute", metric=metric).fit(others)
    distance, nearest = search.kneighbors(rows)
    return distance[:, 0], nearest[:, 0]


class AttributeInference(NamedTuple):
    """What `attribute_inference` returns.

    Attributes
    ----------
    train, holdout : float
        The share of right guesses about training rows and about holdout rows.
    advantage : float
        The first less the second: what the synthesizer gives away about its training rows beyond
        what holds for everybody.
    standard_error : float
        That of the advantage.
    """

    train: float
    holdout: float
    advantage: float
    standard_error: float


@validate_params(
    {"max_rows": MAX_ROWS, "random_state": ["random_state"]}, prefer_skip_nested_validation=True
)
def attribute_inference(
    X_train: Any,
    X_synthetic: Any,
    X_holdout: Any,
    *,
    sensitive: Hashable,
    known: Sequence[Hashable] | None = None,
    max_rows: int = 10_000,
    random_state: Any = None,
) -> AttributeInference:
    """How well an attacker guesses a sensitive column of a person from the others.

    The attacker knows some columns of a person, looks for the synthetic row that is most like it in
    these, and reads the sensitive value there. What works for holdout rows too is knowledge about
    everybody, not a leak; the advantage for training rows is (Giomi et al. 2023).

    Parameters
    ----------
    X_train, X_synthetic, X_holdout : DataFrame or array-like of shape (n_rows, n_columns)
        See :func:`copied_rows`; distances are those of :func:`precision_recall`.
    sensitive : hashable
        The column to guess. A guess of a category, or of a missing value, must be equal to be
        right. That of a number or a time is right if its rank among the real values differs by at
        most 5 % of the rows.
    known : sequence of hashable or None, default=None
        The columns that the attacker knows; by default all others.
    max_rows : int, default=10_000
        At most so many rows of each table are drawn.
    random_state : int, RandomState instance or None, default=None
        Draws the rows.

    Returns
    -------
    figures : AttributeInference
        A named tuple ``(train, holdout, advantage, standard_error)``; an advantage of 0 is best.

    References
    ----------
    M. Giomi, F. Boenisch, C. Wehmeyer and B. Tasnádi, "A unified framework for quantifying privacy
    risk in synthetic data", PoPETs 2023.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from sktvae.metrics import attribute_inference
    >>> rng = np.random.default_rng(0)
    >>> people = pd.DataFrame({"x": rng.normal(size=400), "y": rng.choice(["a", "b"], 400)})
    >>> train, holdout = people[:200], people[200:]
    >>> leak = attribute_inference(train, train, holdout, sensitive="y", random_state=0)
    >>> leak.train, bool(leak.holdout < 0.65)
    (1.0, True)
    """
    rng = check_random_state(random_state)
    read = read_tables(X_train=X_train, X_synthetic=X_synthetic, X_holdout=X_holdout)
    train, synthetic, holdout = (table.sample(max_rows, rng) for table in read)
    secret = train.position(sensitive, "sensitive")
    columns = [i for i in range(train.n_columns) if i != secret]
    if known is not None:
        columns = [train.position(name, "known") for name in known]
    if not columns or secret in columns:
        raise ValueError(
            f"The attacker must know at least one column other than {sensitive!r}; got "
            f"known={known!r}."
        )
    reference = concat([train, holdout])
    _, *points = coordinates(*(t.select(columns) for t in (reference, train, holdout, synthetic)))
    right = []
    for table, rows in zip((train, holdout), points[:2], strict=True):
        guess = synthetic.take(closest(rows, points[2])[1])
        right.append(is_right(table, guess, reference, secret))
    own, other = (float(part.mean()) for part in right)
    variance = own * (1 - own) / len(train) + other * (1 - other) / len(holdout)
    return AttributeInference(own, other, own - other, float(np.sqrt(variance)))


def is_right(table: PlainTable, guess: PlainTable, reference: PlainTable, i: int) -> np.ndarray:
    """Return which values of column `i` were guessed."""
    truth, guessed = table.columns[i], guess.columns[i]
    if not table.is_numeric[i]:
        return truth == guessed
    present = np.sort(reference.columns[i][~reference.missing(i)])
    low = np.searchsorted(present, np.fmin(truth, guessed), side="right")
    high = np.searchsorted(present, np.fmax(truth, guessed), side="left")
    near = high - low <= _NEAR * len(present)
    absent, none_guessed = table.missing(i), guess.missing(i)
    return np.where(absent | none_guessed, absent & none_guessed, near)
