"""The figures of `evaluate` about utility and privacy."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from sktvae.metrics._detection import auc_error
from sktvae.metrics._judge import CERTAIN, Figure, judge, unknown
from sktvae.metrics._membership import membership_auc
from sktvae.metrics._privacy import closest_record_share, copied_rows
from sktvae.metrics._tables import PlainTable
from sktvae.metrics._utility import utility_score

# Losses up to the first number are good, up to the second fair; see benchmarks/judgement.py.
LIMITS = {
    "utility_score": (0.10, 0.30),  # of what the columns say about the target
    "copied_rows": (0.003, 0.01),
    "closest_record_share": (0.02, 0.05),
    "membership_auc": (0.02, 0.05),
}
_CHANCE_LEVEL = {"roc_auc": 0.5, "roc_auc_ovr": 0.5, "r2": 0.0}
_MANY_CLASSES = 4
_TEST_SHARE = 0.25


def utility(
    real: PlainTable,
    synthetic: PlainTable,
    holdout: PlainTable | None,
    target: Hashable,
    rng: np.random.RandomState,
) -> list[Figure]:
    """Return the figure of utility, on holdout rows or else on some of the real rows."""
    name = "utility_score"
    where = "rows that were held out"
    if holdout is None:
        order = rng.permutation(len(real))
        n_test = int(np.ceil(_TEST_SHARE * len(real)))
        real, holdout = real.take(order[n_test:]), real.take(order[:n_test])
        where = "real rows (which the synthesizer may have seen: pass X_holdout)"
    if len(real) < 20 or len(holdout) < 10 or len(synthetic) < 20:
        return [unknown(name, 1.0, "There are too few rows to fit and test a model.")]
    made, usual, scoring = utility_score(
        real,
        synthetic,
        holdout,
        target=target,
        estimator=_quick(real, real.position(target, "target")),
        random_state=rng,
    )
    if np.isnan(made):
        return [unknown(name, 1.0, f"{target!r} has a single value in one of the tables.")]
    level = _CHANCE_LEVEL[scoring]
    gained = usual - level
    noise = 0.5 / np.sqrt(len(holdout)) * np.sqrt(max(1 - usual, 0.01))
    if gained <= CERTAIN * noise:
        message = (
            f"The other columns say too little about {target!r} to judge: {scoring} {usual:.3f}."
        )
        return [Figure(name, made, noise, usual, 1.0, "unknown", message)]
    verdict = judge((usual - made) / gained, CERTAIN * noise / gained, LIMITS[name])
    message = (
        f"A model of {target!r} that learned from synthetic rows reaches {scoring} {made:.3f} on "
        f"{where}, and one that learned from real rows {usual:.3f}."
    )
    return [Figure(name, made, noise, usual, 1.0, verdict, message)]


def _quick(real: PlainTable, position: int) -> HistGradientBoostingClassifier | None:
    """Return a classifier that grows fewer trees for many classes; None if there are few.

    Boosting grows a tree for each class in each iteration.
    """
    n_classes = real.n_categories(position)
    if n_classes <= _MANY_CLASSES:
        return None
    return HistGradientBoostingClassifier(
        max_iter=max(10, 300 // n_classes), learning_rate=0.3, early_stopping=False
    )


def copies(
    real: PlainTable,
    synthetic: PlainTable,
    holdout: PlainTable | None,
    rng: np.random.RandomState,
) -> list[Figure]:
    """Return the figure of copied rows, against those that chance explains."""
    name = "copied_rows"
    found = copied_rows(real, synthetic, holdout, random_state=rng)
    by_chance = max(found.duplicate_share, found.independent_share)
    if holdout is not None and found.share_equal_size > 0:
        # The share among holdout rows, at the number of training rows.
        by_chance = max(by_chance, found.holdout_share * found.share / found.share_equal_size)
    by_chance = min(by_chance, 1.0)
    n = len(synthetic)
    variance = by_chance * (1 - by_chance) * (1 / n + 1 / len(real))
    noise = float(max(np.sqrt(variance), 1 / min(n, len(real))))
    verdict = judge(found.share - by_chance, CERTAIN * noise, LIMITS[name])
    message = (
        f"{found.share:.1%} of the synthetic rows ({len(found.rows)} of {n}) equal a real row in "
        f"every column; {by_chance:.1%} would be usual for rows that the synthesizer has not seen."
    )
    return [Figure(name, found.share, noise, by_chance, by_chance, verdict, message)]


def closest(
    real: PlainTable,
    synthetic: PlainTable,
    holdout: PlainTable | None,
    rng: np.random.RandomState,
) -> list[Figure]:
    """Return the figures that compare training rows with holdout rows."""
    names = "closest_record_share", "membership_auc"
    if holdout is None or min(len(real), len(holdout), len(synthetic)) < 2:
        message = "It takes real rows that the synthesizer has not seen: pass X_holdout."
        return [unknown(name, 0.5, message) for name in names]
    max_rows = 5_000
    share, error = closest_record_share(
        real, synthetic, holdout, max_rows=max_rows, random_state=rng
    )
    verdict = judge(share - 0.5, CERTAIN * error, LIMITS[names[0]])
    message = (
        f"{share:.1%} +- {2 * error:.1%} of the synthetic rows are closer to a row that the "
        "synthesizer has seen than to one that it has not; 50 % would be usual."
    )
    if verdict == "unknown":
        message += " There are too few rows to tell."
    first = Figure(names[0], share, error, 0.5, 0.5, verdict, message)
    attack = membership_auc(real, holdout, synthetic, max_rows=max_rows, random_state=rng)
    # The error of an AUC of 0.5: that of 1, as a few rows may have by chance, is 0.
    error = auc_error(0.5, min(len(real), max_rows), min(len(holdout), max_rows))
    verdict = judge(attack.auc - 0.5, CERTAIN * error, LIMITS[names[1]])
    message = (
        f"AUC {attack.auc:.2f} +- {2 * attack.standard_error:.2f} of an attacker who guesses, by "
        "the distance to the synthetic rows, which rows the synthesizer has seen."
    )
    if verdict == "unknown":
        message += " There are too few rows to tell."
    second = Figure(names[1], attack.auc, attack.standard_error, 0.5, 0.5, verdict, message)
    return [first, second]
