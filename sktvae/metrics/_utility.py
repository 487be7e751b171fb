"""Does a model that is fitted on synthetic rows predict real ones?"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import is_classifier
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import get_scorer, roc_auc_score
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, validate_params

from sktvae.metrics._features import inputs, prepared
from sktvae.metrics._tables import PlainTable, read_tables


class Utility(NamedTuple):
    """What `utility_score` returns.

    Attributes
    ----------
    synthetic : float
        The score on real test rows of a model that was fitted on synthetic rows.
    real : float
        The score of the same model, fitted on real rows.
    scoring : str
        What the scores are; higher is better.
    """

    synthetic: float
    real: float
    scoring: str


@validate_params(
    {
        "estimator": [HasMethods(["fit", "predict"]), None],
        "scoring": [str, callable, None],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def utility_score(
    X_real: Any,
    X_synthetic: Any,
    X_test: Any,
    *,
    target: Hashable,
    estimator: Any = None,
    scoring: Any = None,
    random_state: Any = None,
) -> Utility:
    """Score a model that is fitted on synthetic rows, and one fitted on real rows, on real rows.

    "Train on synthetic, test on real" (Esteban et al. 2017): if the synthetic rows are to replace
    the real ones in an analysis, the first score should be nearly as good as the second.

    Parameters
    ----------
    X_real, X_synthetic : DataFrame or array-like of shape (n_rows, n_columns)
        The rows to fit on; see :func:`column_shape_score`.
    X_test : DataFrame or array-like of shape (n_test_rows, n_columns)
        Real rows that neither `X_real` nor the synthesizer's training rows contain.
    target : hashable
        The column to predict from the others. Rows in which it is missing are left out.
    estimator : classifier or regressor, default=None
        By default gradient boosting of histograms: a classifier if the target holds categories
        or two distinct numbers, else a regressor. See :func:`detection_auc` for what is put in
        front of other estimators.
    scoring : str, callable or None, default=None
        A name or a scorer of scikit-learn. By default "roc_auc" for two classes, "roc_auc_ovr"
        (the mean over all classes against the rest) for more, and "r2" for regressors.
        Use "neg_root_mean_squared_error" for an error in the unit of the column.
    random_state : int, RandomState instance or None, default=None
        For estimators whose own `random_state` is None.

    Returns
    -------
    scores : Utility
        A named tuple ``(synthetic, real, scoring)``. A score is NaN if the rows that the model is
        fitted on, or the test rows, have fewer than two classes. A class of the test rows that the
        model never saw has the probability 0.

    References
    ----------
    C. Esteban, S. L. Hyland and G. Rätsch, "Real-valued (medical) time series generation with
    recurrent conditional GANs", 2017.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from sktvae.metrics import utility_score
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=900)
    >>> table = pd.DataFrame({"x": x, "y": np.where(x + rng.normal(size=900) > 0, "yes", "no")})
    >>> real, synthetic, test = table[:300], table[300:600], table[600:]
    >>> scores = utility_score(real, synthetic, test, target="y", random_state=0)
    >>> scores.scoring, bool(abs(scores.synthetic - scores.real) < 0.1)
    ('roc_auc', True)
    """
    tables = {"X_real": X_real, "X_synthetic": X_synthetic, "X_test": X_test}
    name, (synthetic, real) = transfer(tables, target, estimator, scoring, random_state)
    return Utility(synthetic, real, name)


def transfer(
    tables: dict[str, Any], target: Hashable, estimator: Any, scoring: Any, random_state: Any
) -> tuple[str, list[float]]:
    """Score models of some tables on the table ``X_test``.

    Parameters
    ----------
    tables : dict of str to table
        By name; the first decides the kinds of columns. There is one model for each but the table
        ``X_test``, in the reverse order.

    Returns
    -------
    scoring : str
    scores : list of float
    """
    read = dict(zip(tables, read_tables(**tables), strict=True))
    first = next(iter(read.values()))
    if first.n_columns < 2:
        raise ValueError("The tables have one column only; there is nothing to predict it from.")
    position = first.position(target, "target")
    for name, table in read.items():
        read[name] = table.take(np.flatnonzero(~table.missing(position)))
        if len(read[name]) == 0:
            raise ValueError(f"Every value of the target {target!r} is missing in {name}.")
    first, test = next(iter(read.values())), read.pop("X_test")
    if estimator is None:
        two = len(np.unique(first.columns[position])) == 2
        is_number = bool(first.is_numeric[position]) and not two
        # Early stopping would need two rows of each class.
        classifier = HistGradientBoostingClassifier(early_stopping=False)
        estimator = HistGradientBoostingRegressor() if is_number else classifier
    elif not (first.is_numeric[position] or is_classifier(estimator)):
        raise ValueError(
            f"The target {target!r} holds categories: estimator must be a classifier, got "
            f"{estimator!r}."
        )
    if scoring is None:
        scoring = _usual_scoring(estimator, test.columns[position])
    seed = check_random_state(random_state).randint(2**31 - 1)
    task = _Task(position, estimator, seed, scoring)
    return task.name, [task.score(table, test) for table in reversed(read.values())]


def _usual_scoring(estimator: Any, y_test: np.ndarray) -> str:
    if not is_classifier(estimator):
        return "r2"
    return "roc_auc" if len(np.unique(y_test)) <= 2 else "roc_auc_ovr"


class _Task:
    """A column to predict, by an estimator, judged by a score."""

    def __init__(self, position: int, estimator: Any, seed: int, scoring: Any):
        self.position = position
        self.estimator = estimator
        self.seed = seed
        self.scoring = scoring

    @property
    def name(self) -> str:
        if isinstance(self.scoring, str):
            return self.scoring
        return getattr(self.scoring, "__name__", repr(self.scoring))

    def score(self, train: PlainTable, test: PlainTable) -> float:
        """Fit on one table and score on another."""
        y, y_test = train.columns[self.position], test.columns[self.position]
        if is_classifier(self.estimator) and min(len(np.unique(y)), len(np.unique(y_test))) < 2:
            return np.nan
        features = train.without(self.position)
        X, is_category = inputs(features, features)
        X_test, _ = inputs(features, test.without(self.position))
        model = prepared(self.estimator, is_category, self.seed).fit(X, y)
        if self.scoring in ("roc_auc", "roc_auc_ovr"):
            return _one_against_rest(model, X_test, y_test)
        scorer = get_scorer(self.scoring) if isinstance(self.scoring, str) else self.scoring
        return float(scorer(model, X_test, y_test))


def _one_against_rest(model: Any, X: np.ndarray, y: np.ndarray) -> float:
    """Return the AUC of each class of `y` against the others, and the mean over the classes.

    Unlike scikit-learn's, it takes test rows without some of the classes, and the other way round.
    """
    proba = model.predict_proba(X)
    column = {label: i for i, label in enumerate(model.classes_)}
    classes = np.unique(y)
    aucs = []
    for label in classes[-1:] if len(classes) == 2 else classes:
        score = proba[:, column[label]] if label in column else np.zeros(len(y))
        aucs.append(roc_auc_score(y == label, score))
    return float(np.mean(aucs))
