"""Can a classifier tell synthetic rows from real ones?"""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, validate_params

from sktvae.metrics._features import inputs, prepared
from sktvae.metrics._tables import concat, read_tables


@validate_params(
    {
        "estimator": [
            HasMethods(["fit", "predict_proba"]),
            HasMethods(["fit", "decision_function"]),
            None,
        ],
        "cv": [Interval(Integral, 2, None, closed="left")],
        "max_rows": [Interval(Integral, 4, None, closed="left")],
        "return_std": ["boolean"],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def detection_auc(
    X_real: Any,
    X_synthetic: Any,
    *,
    estimator: Any = None,
    cv: int = 5,
    max_rows: int = 20_000,
    return_std: bool = False,
    random_state: Any = None,
) -> float | tuple[float, float]:
    """AUC of a classifier that tells synthetic rows from real ones; 0.5 is best, 1 is worst.

    This is the classifier two-sample test of Lopez-Paz and Oquab (2017) with the area under the
    ROC curve in place of the accuracy: how often the classifier finds the synthetic one of a
    random pair of a real and a synthetic row. Rows that it is tested on are not those that it was
    fitted on. The AUC is the mean over the folds.

    Parameters
    ----------
    X_real, X_synthetic : DataFrame or array-like of shape (n_rows, n_columns)
        See :func:`column_shape_score`. As many rows of the larger table are drawn as the smaller
        one has. Compare with real rows that the synthesizer was not fitted on if you can.
    estimator : classifier, default=None
        By default :class:`~sklearn.ensemble.HistGradientBoostingClassifier`, which takes missing
        values and categories as they are (beyond the 254 most frequent, all count as one). For
        other classifiers, numbers are standardised, missing ones imputed and marked, and
        categories one-hot encoded.
    cv : int, default=5
        The number of folds.
    max_rows : int, default=20_000
        At most so many rows, real and synthetic together.
    return_std : bool, default=False
        Whether to return the standard error too.
    random_state : int, RandomState instance or None, default=None
        Draws the rows and the folds.

    Returns
    -------
    auc : float
    standard_error : float
        That of Hanley and McNeil (1982, equation 2) for all rows that were tested, enlarged as
        Nadeau and Bengio (2003) do because folds share the rows to fit on: 1.5 times if `cv` is 5.
        Of two tables of one source, nearly all AUCs are within 0.5 plus or minus two of it. It is
        returned if `return_std` is True.

    Notes
    -----
    An AUC below 0.5 means no more than that the classifier cannot tell the rows apart. Where there
    is nothing to learn, chance differences of the rows to fit on are reversed among those that are
    left to test on, and near-copies of real rows mislead the classifier.

    References
    ----------
    D. Lopez-Paz and M. Oquab, "Revisiting classifier two-sample tests", ICLR 2017.

    J. A. Hanley and B. J. McNeil, "The meaning and use of the area under a receiver operating
    characteristic (ROC) curve", Radiology 143 (1982).

    C. Nadeau and Y. Bengio, "Inference for the generalization error", Machine Learning 52 (2003).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from sktvae.metrics import detection_auc
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=1000)
    >>> real = pd.DataFrame({"x": x, "y": x + 0.1 * rng.normal(size=1000)})
    >>> synthetic = real.assign(y=rng.permutation(real["y"]))  # the columns are independent
    >>> bool(detection_auc(real, synthetic, random_state=0) > 0.9)
    True
    """
    real, synthetic = read_tables(X_real=X_real, X_synthetic=X_synthetic)
    rng = check_random_state(random_state)
    n_rows = min(len(real), len(synthetic), max_rows // 2)
    if n_rows < cv:
        raise ValueError(
            f"cv={cv} folds need at least {cv} real and {cv} synthetic rows, got {len(real)} and "
            f"{len(synthetic)}. Pass more rows, or choose a smaller cv."
        )
    parts = [table.sample(n_rows, rng) for table in (real, synthetic)]
    # Categories are numbered by both tables: by one alone, all that it lacks would look the same.
    both = concat(parts)
    X, is_category = inputs(both, both)
    y = np.repeat([0, 1], n_rows)
    if estimator is None:
        estimator = HistGradientBoostingClassifier()
    model = prepared(estimator, is_category, rng.randint(2**31 - 1))
    folds = StratifiedKFold(cv, shuffle=True, random_state=rng.randint(2**31 - 1))
    aucs = []
    for fitted, tested in folds.split(X, y):
        score = decision(model.fit(X[fitted], y[fitted]), X[tested])
        aucs.append(roc_auc_score(y[tested], score))
    auc = float(np.mean(aucs))
    return (auc, cross_validated_error(auc, n_rows, cv)) if return_std else auc


def decision(model: Any, X: np.ndarray) -> np.ndarray:
    """Return a number for each row that is the higher the more it looks like class 1."""
    if hasattr(model, "decision_function"):
        return model.decision_function(X)
    return model.predict_proba(X)[:, 1]


def cross_validated_error(auc: float, n_rows: int, cv: int = 5) -> float:
    """Return the standard error of the mean AUC of folds, with `n_rows` rows of either class.

    Folds share the rows to fit on, which is the correction of Nadeau and Bengio (2003).
    """
    return auc_error(auc, n_rows, n_rows) * float(np.sqrt(1 + cv / (cv - 1)))


def auc_error(auc: float, n_positive: int, n_negative: int) -> float:
    """Return the standard error of an AUC (Hanley and McNeil 1982, equation 2).

    >>> from sktvae.metrics._detection import auc_error
    >>> round(auc_error(0.5, 100, 100), 3)
    0.041
    """
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc)
    variance += (n_positive - 1) * (q1 - auc**2) + (n_negative - 1) * (q2 - auc**2)
    return float(np.sqrt(max(variance, 0) / (n_positive * n_negative)))
