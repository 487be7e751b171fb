"""Membership: can an attacker tell which rows a synthesizer was fitted on?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import pairwise_distances_chunked, roc_auc_score, roc_curve
from sklearn.neighbors import KernelDensity
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, StrOptions, validate_params

from sktvae.metrics._detection import auc_error
from sktvae.metrics._features import coordinates, inputs, prepared
from sktvae.metrics._intervals import Z, wilson
from sktvae.metrics._privacy import MAX_ROWS, SAME, closest
from sktvae.metrics._tables import PlainTable, concat, read_tables

_MOST_COMPONENTS = 8
_NEIGHBOURHOODS = (0.02, 0.05, 0.1, 0.2, 0.5)
_METRIC = "manhattan"  # finds more than the Euclidean distance, where few columns were memorised


class MembershipAUC(NamedTuple):
    """What :func:`membership_auc` and :func:`likelihood_membership` return.

    Attributes
    ----------
    auc : float
        How often a training row gets a higher score than a holdout row; a tie counts half.
    standard_error : float
        That of Hanley and McNeil (1982).
    low, high : float
        The 95 % interval of the AUC that follows from it.
    tpr_1 : float
        The share of training rows that are found when 1 % of the holdout rows are falsely taken for
        training rows. It shows attacks that are right about few rows, but are sure of them. With
        fewer than 100 holdout rows it rests on the one that looks most like a training row.
    tpr_1_low, tpr_1_high : float
        Its 95 % interval (Wilson 1927), given the score that separates 1 % of the holdout rows.
    tpr_10, tpr_10_low, tpr_10_high : float
        The same at 10 %.
    """

    auc: float
    standard_error: float
    low: float
    high: float
    tpr_1: float
    tpr_1_low: float
    tpr_1_high: float
    tpr_10: float
    tpr_10_low: float
    tpr_10_high: float


def figures_of(members: np.ndarray, others: np.ndarray) -> MembershipAUC:
    """Return the figures of an attack from the scores of training and of holdout rows.

    >>> import numpy as np
    >>> from sktvae.metrics._membership import figures_of
    >>> figures_of(np.array([3.0, 2.0, 1.0]), np.array([2.0, 0.0])).auc
    0.75
    """
    label = np.repeat([1, 0], [len(members), len(others)])
    score = np.concatenate([members, others])
    auc = float(roc_auc_score(label, score))
    error = auc_error(auc, len(members), len(others))
    false, true, _ = roc_curve(label, score)
    out = [auc, error, max(auc - Z * error, 0.0), min(auc + Z * error, 1.0)]
    for rate in (0.01, 0.10):
        # Between two points of the curve, ties are in a random order. Where several points lie
        # above one another, the last of them is meant.
        last = np.append(np.diff(false) > 0, True)
        found = float(np.interp(rate, false[last], true[last]))
        out += [found, *wilson(found, len(members))]
    return MembershipAUC(*out)


@validate_params(
    {
        "attack": [
            StrOptions(
                {"distance", "distance_ratio", "density_ratio", "classifier", "neighbourhood"}
            )
        ],
        "max_rows": MAX_ROWS,
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def membership_auc(
    X_train: Any,
    X_holdout: Any,
    X_synthetic: Any,
    *,
    attack: str = "distance",
    X_reference: Any = None,
    max_rows: int = 10_000,
    random_state: Any = None,
) -> MembershipAUC:
    """How well an attacker with the synthetic rows tells training rows from holdout rows.

    An AUC of 0.5 is best: the attacker guesses. These attacks see the synthetic rows only; for
    somebody who has the model see :func:`likelihood_membership`.

    Parameters
    ----------
    X_train, X_holdout, X_synthetic : DataFrame or array-like of shape (n_rows, n_columns)
        See :func:`copied_rows`; distances are those of :func:`precision_recall`.
    attack : {"distance", "distance_ratio", "density_ratio", "classifier", "neighbourhood"}, \
            default="distance"
        What the attacker takes for a sign of membership:

        - "distance": a synthetic row is near (Chen et al. 2020).

        The others compare with reference rows, other real rows that the attacker has; distances
        are then sums of absolute differences instead of squared ones:

        - "distance_ratio": the closest synthetic row is nearer than the closest reference row. The
          score is the logarithm of the ratio of the two distances.
        - "density_ratio": synthetic rows are dense where reference rows are not (DOMIAS; van
          Breugel et al. 2023). The densities are kernel estimates in at most eight principal
          components.
        - "classifier": gradient boosting that tells synthetic rows from reference rows takes the
          row for a synthetic one.
        - "neighbourhood": more synthetic than reference rows lie within a small radius (after
          Hilprecht et al. 2019, who count synthetic rows only). The score is the mean, over five
          radii, of the log-ratio of the two shares; within these radii 2 to 50 % of the reference
          rows have a synthetic row.
    X_reference : DataFrame, array-like or None, default=None
        The reference rows, which are in none of the other tables. None takes half of `X_holdout`
        for them, and attacks the other half.
    max_rows : int, default=10_000
        At most so many rows of each table are drawn.
    random_state : int, RandomState instance or None, default=None
        Draws the rows, and the division of `X_holdout`.

    Returns
    -------
    figures : MembershipAUC
        A named tuple: ``auc``, its ``standard_error``, and its 95 % interval from ``low`` to
        ``high``; the true positive rates ``tpr_1`` and ``tpr_10`` at 1 % and 10 % false positives,
        with their intervals.

    Raises
    ------
    ValueError
        If a table has too few rows.

    See Also
    --------
    privacy_attacks : All attacks at once.

    References
    ----------
    B. Hilprecht, M. Härterich and D. Bernau, "Monte Carlo and reconstruction membership inference
    attacks against generative models", PoPETs 2019.

    D. Chen, N. Yu, Y. Zhang and M. Fritz, "GAN-Leaks: A taxonomy of membership inference attacks
    against generative models", CCS 2020.

    B. van Breugel, H. Sun, Z. Qian and M. van der Schaar, "Membership inference attacks against
    synthetic data through overfitting detection", AISTATS 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from sktvae.metrics import membership_auc
    >>> rng = np.random.default_rng(0)
    >>> train, holdout = rng.normal(size=(2, 200, 3))
    >>> noisy = train + 0.01 * rng.normal(size=train.shape)
    >>> bool(membership_auc(train, holdout, noisy, random_state=0).auc > 0.9)
    True
    """
    rng = check_random_state(random_state)
    given = {"X_train": X_train, "X_holdout": X_holdout, "X_synthetic": X_synthetic}
    if X_reference is not None:
        given["X_reference"] = X_reference
    read = read_tables(**given)
    train, holdout, synthetic, *known = (table.sample(max_rows, rng) for table in read)
    if len(train) < 2 or len(holdout) < 2:
        raise ValueError("X_train and X_holdout need at least two rows each.")
    if attack == "distance":
        score = _distance(concat([train, holdout]), synthetic)
    else:
        if known:
            reference = known[0]
        else:
            held = rng.permutation(len(holdout))
            reference, holdout = (holdout.take(half) for half in np.array_split(held, 2))
        if len(reference) < 2:
            raise ValueError(
                f"The attack {attack!r} needs at least two reference rows, got {len(reference)}. "
                "Pass X_reference, or more rows as X_holdout, half of which it takes."
            )
        score = _BY_REFERENCE[attack](concat([train, holdout]), synthetic, reference, rng)
    return figures_of(score[: len(train)], score[len(train) :])


def _distance(rows: PlainTable, synthetic: PlainTable) -> np.ndarray:
    """Return minus the squared distance of rows to the closest synthetic row."""
    points, made = coordinates(rows, synthetic)
    score = -closest(points, made)[0]
    score[score > -SAME] = 0.0
    return score


def _distance_ratio(
    rows: PlainTable, synthetic: PlainTable, reference: PlainTable, rng: Any
) -> np.ndarray:
    """Return the log-ratio of the distances to the closest reference and synthetic row."""
    known, points, made = coordinates(reference, rows, synthetic)
    other, own = (np.log(closest(points, part, _METRIC)[0] + SAME) for part in (known, made))
    return other - own


def _density_ratio(
    rows: PlainTable, synthetic: PlainTable, reference: PlainTable, rng: Any
) -> np.ndarray:
    """Return the log-ratio of two kernel density estimates in principal components."""
    known, points, made = coordinates(reference, rows, synthetic)
    n_components = min(_MOST_COMPONENTS, known.shape[1], len(known))
    components = PCA(n_components, whiten=True, random_state=0).fit(known)
    kept = components.explained_variance_ > 1e-9  # whitening divides by it
    points, made, known = (components.transform(part)[:, kept] for part in (points, made, known))
    if not kept.any():
        return np.zeros(len(points))
    log = [KernelDensity(bandwidth="scott").fit(p).score_samples(points) for p in (made, known)]
    return np.clip(log[0], -1e6, None) - np.clip(log[1], -1e6, None)


def _classifier(
    rows: PlainTable, synthetic: PlainTable, reference: PlainTable, rng: Any
) -> np.ndarray:
    """Return the log-odds that a row is synthetic rather than a reference row."""
    both = concat([synthetic, reference])
    X, is_category = inputs(both, both)
    y = np.repeat([1, 0], [len(synthetic), len(reference)])
    booster = HistGradientBoostingClassifier(max_iter=50, early_stopping=False)
    model = prepared(booster, is_category, rng.randint(2**31 - 1)).fit(X, y)
    return model.decision_function(inputs(both, rows)[0])


def _neighbourhood(
    rows: PlainTable, synthetic: PlainTable, reference: PlainTable, rng: Any
) -> np.ndarray:
    """Return how much denser synthetic rows are than reference rows, within several radii."""
    known, points, made = coordinates(reference, rows, synthetic)
    radii = np.quantile(closest(known, made, _METRIC)[0], _NEIGHBOURHOODS) + SAME
    own, other = (_counts(points, part, radii) for part in (made, known))
    ratio = np.log((own + 1) / len(made)) - np.log((other + 1) / len(known))
    return ratio.mean(axis=1)


def _counts(points: np.ndarray, others: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Return how many other points lie within each radius, (n_points, n_radii)."""
    chunks = pairwise_distances_chunked(
        points, others, metric=_METRIC, reduce_func=lambda d, _: _within(d, radii)
    )
    return np.concatenate(list(chunks))


def _within(distance: np.ndarray, radii: np.ndarray) -> np.ndarray:
    return np.column_stack([(distance <= radius).sum(axis=1) for radius in radii])


_BY_REFERENCE: dict[str, Callable[..., np.ndarray]] = {
    "distance_ratio": _distance_ratio,
    "density_ratio": _density_ratio,
    "classifier": _classifier,
    "neighbourhood": _neighbourhood,
}
ROWS_IN_HAND = ("distance", *_BY_REFERENCE)


@validate_params(
    {
        "estimator": [HasMethods(["score_samples"])],
        "reference": [HasMethods(["score_samples"]), None],
    },
    prefer_skip_nested_validation=True,
)
def likelihood_membership(
    estimator: Any, X_train: Any, X_holdout: Any, *, reference: Any = None
) -> MembershipAUC:
    """How well an attacker with the model tells training rows from holdout rows.

    The attacker takes rows to which the model gives a high likelihood for training rows. Some rows
    are likely under any model of the population; with a reference model, which the attacker fitted
    to other rows, the score is the difference of the two log-likelihoods, and only what the model
    knows beyond the reference model is left (Carlini et al. 2022, with a single reference model).

    Parameters
    ----------
    estimator : object with ``score_samples``
        The fitted model, such as :class:`~sktvae.TVAESynthesizer`. ``score_samples(X)`` gives one
        number per row, which is higher for rows that the model finds likely.
    X_train : DataFrame or array-like of shape (n_train_rows, n_columns)
        The rows that it was fitted on.
    X_holdout : DataFrame or array-like of shape (n_holdout_rows, n_columns)
        Real rows that neither of the models was fitted on.
    reference : object with ``score_samples`` or None, default=None
        A model like `estimator`, fitted to rows that are in neither table.

    Returns
    -------
    figures : MembershipAUC
        See :func:`membership_auc`.

    Raises
    ------
    ValueError
        If a table has fewer than two rows, or a score is not a number.

    References
    ----------
    N. Carlini et al., "Membership inference attacks from first principles", IEEE Symposium on
    Security and Privacy 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.neighbors import KernelDensity
    >>> from sktvae.metrics import likelihood_membership
    >>> rng = np.random.default_rng(0)
    >>> train, holdout, others = rng.normal(size=(3, 200, 3))
    >>> model, reference = (KernelDensity(bandwidth=0.4).fit(rows) for rows in (train, others))
    >>> round(likelihood_membership(model, train, holdout).auc, 2)
    0.55
    >>> round(likelihood_membership(model, train, holdout, reference=reference).auc, 2)
    0.66
    """
    scores = []
    for name, X in (("X_train", X_train), ("X_holdout", X_holdout)):
        score = _scored(estimator, X, name, "estimator")
        if reference is not None:
            score = score - _scored(reference, X, name, "reference")
        scores.append(score)
    return figures_of(*scores)


def _scored(model: Any, X: Any, name: str, parameter: str) -> np.ndarray:
    """Return the scores of a table; a row that is impossible gets a very low one."""
    score = np.asarray(model.score_samples(X), dtype=float)
    if score.ndim != 1 or len(score) < 2:
        raise ValueError(
            f"{parameter}.score_samples must give one number for each row of {name}, which needs "
            f"at least two rows; got an array of shape {score.shape}."
        )
    unknown = np.isnan(score)
    if unknown.any():
        raise ValueError(
            f"{parameter}.score_samples gives NaN for {unknown.sum()} rows of {name}, the first of "
            f"which is row {np.argmax(unknown)}. Drop these rows, or fill their gaps."
        )
    return np.clip(score, -1e300, 1e300)
