"""Scorers for `GridSearchCV(scoring=...)` that judge an estimator by the rows that it samples."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable
from numbers import Integral
from typing import Any

from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from sktvae.metrics._coverage import density_coverage, precision_recall
from sktvae.metrics._detection import detection_auc
from sktvae.metrics._pairs import mutual_information_error, pair_error, pair_trend_score
from sktvae.metrics._shapes import column_shape_score, missing_rate_error, rare_category_coverage
from sktvae.metrics._utility import transfer


def _detection_auc(
    X_real: Any, X_synthetic: Any, *, random_state: Any = None, **kwargs: Any
) -> float:
    """Return the AUC, or one minus it: far below 0.5 it tells of near-copies."""
    auc = detection_auc(X_real, X_synthetic, random_state=random_state, **kwargs)
    return max(auc, 1 - auc)


def _precision(X_real: Any, X_synthetic: Any, *, random_state: Any = None, **kwargs: Any) -> float:
    return precision_recall(X_real, X_synthetic, random_state=random_state, **kwargs).precision


def _recall(X_real: Any, X_synthetic: Any, *, random_state: Any = None, **kwargs: Any) -> float:
    return precision_recall(X_real, X_synthetic, random_state=random_state, **kwargs).recall


def _coverage(X_real: Any, X_synthetic: Any, *, random_state: Any = None, **kwargs: Any) -> float:
    return density_coverage(X_real, X_synthetic, random_state=random_state, **kwargs).coverage


def _utility(X_real: Any, X_synthetic: Any, *, random_state: Any, **task: Any) -> float:
    """Score on `X_real` a model that is fitted on `X_synthetic`."""
    tables = {"X_test": X_real, "X_synthetic": X_synthetic}
    return transfer(tables, **task, random_state=random_state)[1][0]


# Whether a greater value is better.
_METRICS: dict[str, tuple[Callable, bool]] = {
    "column_shape_score": (column_shape_score, True),
    "pair_trend_score": (pair_trend_score, True),
    "pair_error": (pair_error, False),
    "mutual_information_error": (mutual_information_error, False),
    "missing_rate_error": (missing_rate_error, False),
    "rare_category_coverage": (rare_category_coverage, True),
    "detection_auc": (_detection_auc, False),
    "precision": (_precision, True),
    "recall": (_recall, True),
    "coverage": (_coverage, True),
}


class SynthesisScorer:
    """A scorer that compares rows that an estimator samples with real rows.

    Made by :func:`make_synthesis_scorer`, :func:`fidelity_scorer` or :func:`utility_scorer`.
    """

    def __init__(
        self,
        metric: Callable,
        greater_is_better: bool,
        n_samples: int | None,
        random_state: int,
        parameters: dict[str, Any],
    ):
        self.metric = metric
        self.greater_is_better = greater_is_better
        self.n_samples = n_samples
        self.random_state = random_state
        self.parameters = parameters

    def __call__(self, estimator: Any, X: Any, y: Any = None) -> float:
        """Return the score of an estimator on real rows; greater is better.

        Parameters
        ----------
        estimator : object
            A fitted estimator with ``sample(n_samples, random_state=...)``.
        X : DataFrame or array-like of shape (n_rows, n_columns)
            Real rows.
        y : object, default=None
            Ignored.

        Returns
        -------
        score : float
        """
        if not hasattr(estimator, "sample"):
            raise TypeError(
                f"{estimator!r} has no method `sample`. This scorer is for synthesizers, such as "
                "sktvae.TVAESynthesizer."
            )
        n_samples = self.n_samples if self.n_samples is not None else len(X)
        synthetic = estimator.sample(n_samples, random_state=self.random_state)
        value = float(self.metric(X, synthetic, **self.parameters))
        return value if self.greater_is_better else -value

    def __repr__(self) -> str:
        # A callable object, or a function with some arguments fixed, has no name.
        words = [getattr(self.metric, "__name__", repr(self.metric)).strip("_")]
        words += [f"{name}={value!r}" for name, value in self.parameters.items()]
        return f"SynthesisScorer({', '.join(words)}, n_samples={self.n_samples!r})"


_CONSTRAINTS = {
    "n_samples": [Interval(Integral, 1, None, closed="left"), None],
    "random_state": [Interval(Integral, 0, None, closed="left")],
}


@validate_params(
    {"metric": [callable], "greater_is_better": ["boolean"], **_CONSTRAINTS},
    prefer_skip_nested_validation=True,
)
def make_synthesis_scorer(
    metric: Callable,
    *,
    greater_is_better: bool = True,
    n_samples: int | None = None,
    random_state: int = 0,
    **kwargs: Any,
) -> SynthesisScorer:
    """Make a scorer from a figure of two tables.

    Parameters
    ----------
    metric : callable
        ``metric(X_real, X_synthetic, **kwargs)`` returns a number. To be pickled, and so used with
        ``n_jobs``, it must be a function of a module.
    greater_is_better : bool, default=True
        Whether a greater number is better; otherwise the scorer returns it with the sign changed.
    n_samples : int or None, default=None
        How many rows to sample; by default as many as there are rows to be scored on.
    random_state : int, default=0
        The seed of the sample, and of `metric` if it has a parameter `random_state`. Each candidate
        of a search is given the same.
    **kwargs : object
        Further parameters of `metric`.

    Returns
    -------
    scorer : SynthesisScorer
        Called as ``scorer(estimator, X, y=None)``.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sktvae import TVAESynthesizer
    >>> from sktvae.metrics import make_synthesis_scorer, pair_error
    >>> flowers = load_iris().data
    >>> scorer = make_synthesis_scorer(pair_error, greater_is_better=False, n_samples=100)
    >>> scorer(TVAESynthesizer(epochs=2, random_state=0).fit(flowers), flowers) < 0
    True
    """
    if "random_state" in inspect.signature(metric).parameters:
        kwargs = {"random_state": random_state} | kwargs
    return SynthesisScorer(metric, greater_is_better, n_samples, random_state, kwargs)


@validate_params(
    {"metric": [StrOptions(set(_METRICS))], **_CONSTRAINTS}, prefer_skip_nested_validation=True
)
def fidelity_scorer(
    metric: str = "detection_auc",
    *,
    n_samples: int | None = None,
    random_state: int = 0,
    **kwargs: Any,
) -> SynthesisScorer:
    """Make a scorer of how close sampled rows are to real ones; greater is better.

    Parameters
    ----------
    metric : str, default="detection_auc"
        The figure: "column_shape_score", "pair_trend_score", "pair_error",
        "mutual_information_error", "missing_rate_error", "rare_category_coverage", "detection_auc",
        "precision", "recall" or "coverage". Errors and AUCs, of which less is better, are returned
        with the sign changed; an AUC below 0.5, as of near-copies, counts as one minus it.
    n_samples : int or None, default=None
        How many rows to sample; by default as many as there are rows to be scored on.
    random_state : int, default=0
        The seed of the sample and of the figure.
    **kwargs : object
        Further parameters of the figure, such as `estimator` of :func:`detection_auc`.

    Returns
    -------
    scorer : SynthesisScorer
        Called as ``scorer(estimator, X, y=None)``.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sktvae import TVAESynthesizer
    >>> from sktvae.metrics import fidelity_scorer
    >>> search = GridSearchCV(
    ...     TVAESynthesizer(epochs=2, conditional=False, random_state=0),
    ...     {"embedding_dim": [2, 4]},
    ...     scoring=fidelity_scorer("pair_error"),
    ...     cv=2,
    ... ).fit(load_iris().data)
    >>> bool(search.best_score_ < 0)
    True
    """
    function, greater_is_better = _METRICS[metric]
    return make_synthesis_scorer(
        function,
        greater_is_better=greater_is_better,
        n_samples=n_samples,
        random_state=random_state,
        **kwargs,
    )


@validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
def utility_scorer(
    target: Hashable,
    *,
    estimator: Any = None,
    scoring: Any = None,
    n_samples: int | None = None,
    random_state: int = 0,
) -> SynthesisScorer:
    """Make a scorer of how well a model that is fitted on sampled rows predicts real ones.

    Parameters
    ----------
    target : hashable
        The column to predict from the others; the table that is scored on contains it.
    estimator, scoring : object, default=None
        See :func:`utility_score`.
    n_samples : int or None, default=None
        How many rows to sample; by default as many as there are rows to be scored on. Give the
        number that you will use: models of more rows predict better.
    random_state : int, default=0
        The seed of the sample and of the estimator.

    Returns
    -------
    scorer : SynthesisScorer
        Called as ``scorer(estimator, X, y=None)``.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sktvae import TVAESynthesizer
    >>> from sktvae.metrics import utility_scorer
    >>> flowers = load_iris(as_frame=True).frame.astype({"target": "category"})
    >>> scorer = utility_scorer("target", n_samples=100)
    >>> scorer(TVAESynthesizer(epochs=2, random_state=0).fit(flowers), flowers) <= 1
    True
    """
    return make_synthesis_scorer(
        _utility,
        n_samples=n_samples,
        random_state=random_state,
        target=target,
        estimator=estimator,
        scoring=scoring,
    )
