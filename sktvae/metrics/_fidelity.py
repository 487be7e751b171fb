"""The figures of `evaluate` that say how close synthetic rows are to real ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from sktvae.metrics._coverage import neighbourhoods_by_chance
from sktvae.metrics._detection import cross_validated_error, detection_auc
from sktvae.metrics._features import cut
from sktvae.metrics._judge import CERTAIN, FAIR, GOOD, POOR, UNKNOWN, Figure, judge, listed, unknown
from sktvae.metrics._pairs import all_pairs, compare, trend_scores
from sktvae.metrics._shapes import (
    column_shape_score,
    counts_of,
    lost_categories,
    missing_rate_error,
    rare_category_coverage,
)
from sktvae.metrics._tables import PlainTable, concat

# Losses up to the first number are good, up to the second fair; see benchmarks/judgement.py.
LIMITS = {
    "column_shape_score": (0.03, 0.10),
    "worst_column": (0.07, 0.15),
    "missing_rate_error": (0.02, 0.06),
    "pair_trend_score": (0.04, 0.12),
    "pair_error": (0.03, 0.08),
    "worst_pair": (0.05, 0.10),
    "mutual_information_error": (0.01, 0.03),
    "detection_auc": (0.10, 0.20),
    "precision": (0.05, 0.20),
    "recall": (0.05, 0.20),
    "density": (0.15, 0.40),
    "coverage": (0.05, 0.20),
}
_WORST_INFORMATION = (0.10, 0.25)  # the same, for the worst pair of columns
_CERTAIN_LARGEST = 4.0  # maxima are skewed to the right, and AUCs below 0.5 are usual
_MOST_PAIRS = 5_000
_MOST_NEIGHBOURS = 2_000
_FEW_ROWS = 100  # gradient boosting learns little from fewer
_CERTAIN = 0.01  # probability that any category is called lost by chance
_LARGE = 0.005  # share of real rows of a category whose loss is poor


class Chance:
    """Random divisions of all rows, real and synthetic, into two tables of the same sizes.

    They show what a figure is if both tables come from the same source.
    """

    def __init__(self, real: PlainTable, synthetic: PlainTable, rng: np.random.RandomState):
        self.real, self.synthetic = real, synthetic
        n_rows = len(real) + len(synthetic)
        n_repeats = 10 if n_rows > 10_000 else 20 if n_rows > 1_000 else 40
        self.orders = [rng.permutation(n_rows) for _ in range(n_repeats)]
        self.pairs = all_pairs(real.n_columns)
        if len(self.pairs) > _MOST_PAIRS:
            self.pairs = self.pairs[rng.permutation(len(self.pairs))[:_MOST_PAIRS]]
        self._pooled = concat([real, synthetic])

    def of(self, figure: Callable) -> np.ndarray:
        """Return a figure of two tables for each division."""
        n_real = len(self.real)
        return np.array(
            [
                np.asarray(figure(self._pooled.take(o[:n_real]), self._pooled.take(o[n_real:])))
                for o in self.orders
            ]
        )


def _mean(values: np.ndarray, axis: Any = None) -> np.ndarray:
    """Return the mean without NaN; NaN if there is nothing else."""
    known = ~np.isnan(values)
    total = np.where(known, values, 0).sum(axis=axis)
    return total / np.where(known.any(axis=axis), known.sum(axis=axis), np.nan)


class _Worst(NamedTuple):
    """The column or pair whose error exceeds the usual one most.

    Attributes
    ----------
    position : int
    error : float
    typical : float
        The mean error of the same column or pair by chance.
    spread : float
        The standard deviation of its error by chance.
    margin : float
        By how much the worst column or pair may exceed its usual error by chance.
    """

    position: int
    error: float
    typical: float
    spread: float
    margin: float

    @classmethod
    def of(cls, errors: np.ndarray, usual: np.ndarray) -> _Worst:
        """Find it among errors of shape (n,), where chance gives those of shape (n_repeats, n)."""
        typical = _mean(usual, 0)
        i = int(np.nanargmax(errors - typical))
        largest = np.nanmax(usual - typical, axis=1)
        margin = float(largest.mean() + _CERTAIN_LARGEST * largest.std())
        return cls(i, float(errors[i]), float(typical[i]), float(usual[:, i].std()), margin)

    def judge(self, limits: tuple[float, float]) -> str:
        return judge(self.error - self.typical, self.margin, limits)


def shapes(chance: Chance) -> list[Figure]:
    """Return the figures of column shapes: the mean, and the worst column."""
    names = "column_shape_score", "worst_column"
    function = lambda *tables: column_shape_score(*tables, average=None).to_numpy()
    scores = function(chance.real, chance.synthetic)
    if np.isnan(scores).all():
        return [unknown(name, 1.0, "No column has any values.") for name in names]
    usual = chance.of(function)
    value, means = float(_mean(scores)), _mean(usual, 1)
    verdict = judge(means.mean() - value, CERTAIN * means.std(), LIMITS[names[0]])
    message = (
        f"On average, the real and the synthetic distribution of a column overlap by {value:.1%}; "
        f"those of two samples of one source would overlap by {means.mean():.1%}."
    )
    mean = Figure(names[0], value, float(means.std()), float(means.mean()), 1.0, verdict, message)
    worst = _Worst.of(1 - scores, 1 - usual)
    value, typical = 1 - worst.error, 1 - worst.typical
    message = (
        f"The column that differs most beyond chance is {chance.real.names[worst.position]!r}: the "
        f"overlap is {value:.1%}, and {typical:.1%} would be usual."
    )
    verdict = worst.judge(LIMITS[names[1]])
    return [mean, Figure(names[1], value, worst.spread, typical, 1.0, verdict, message)]


def missing_values(chance: Chance) -> list[Figure]:
    """Return the figure of missing values, which the worst column decides."""
    name = "missing_rate_error"
    function = lambda *tables: missing_rate_error(*tables, average=None).to_numpy()
    errors, usual = function(chance.real, chance.synthetic), chance.of(function)
    worst = _Worst.of(errors, usual)
    if not errors.any():
        message = "Each column has the same share of missing values in both tables."
    elif worst.error <= worst.typical:
        message = "The shares of missing values differ no more than those of one source would."
    else:
        message = (
            "The share of missing values differs most beyond chance in "
            f"{chance.real.names[worst.position]!r}: by {worst.error:.1%}, where "
            f"{worst.typical:.1%} would be usual."
        )
    means = usual.mean(axis=1)
    verdict = worst.judge(LIMITS[name])
    return [
        Figure(name, errors.mean(), float(means.std()), float(means.mean()), 0.0, verdict, message)
    ]


def categories(chance: Chance) -> list[Figure]:
    """Return the figure of categories; those that were not lost by chance decide."""
    name = "rare_category_coverage"
    real, synthetic = chance.real, chance.synthetic
    value = float(rare_category_coverage(real, synthetic))
    if np.isnan(value):
        return [unknown(name, 1.0, "The table has no categories.")]
    usual = chance.of(rare_category_coverage)
    lost = lost_categories(real, synthetic)
    n_categories = sum(
        (counts_of(real, i) > 0).sum() for i in range(real.n_columns) if not real.is_numeric[i]
    )
    certain = lost[lost["p_value"] < _CERTAIN / n_categories]
    message = f"{value:.1%} of the real categories occur among the synthetic rows"
    if len(certain):
        pairs = zip(certain["column"][:3], certain["category"][:3], certain["n_real"], strict=False)
        words = [f"{value!r} of {column!r} ({n} real rows)" for column, value, n in pairs]
        more = f" and {len(certain) - 3} more" if len(certain) > 3 else ""
        message += f", but some were lost and not by chance: {', '.join(words)}{more}."
        largest = certain["n_real"].max() / len(real)
        verdict = POOR if largest > _LARGE else FAIR
    else:
        message += f"; by chance it would be {usual.mean():.1%}."
        verdict = GOOD if len(synthetic) >= _FEW_ROWS else UNKNOWN
    return [Figure(name, value, float(usual.std()), float(usual.mean()), 1.0, verdict, message)]


def trends(chance: Chance) -> list[Figure]:
    """Return the figure of pair trends."""
    name = "pair_trend_score"
    function = lambda one, other: _mean(trend_scores(one, other, chance.pairs))
    value = float(function(chance.real, chance.synthetic))
    if np.isnan(value):
        return [unknown(name, 1.0, "There are no two columns that vary.")]
    usual = chance.of(function)
    verdict = judge(usual.mean() - value, CERTAIN * usual.std(), LIMITS[name])
    message = (
        f"Correlations and contingency tables of two columns agree by {value:.1%} on average; "
        f"those of two samples of one source would agree by {usual.mean():.1%}."
    )
    return [Figure(name, value, float(usual.std()), float(usual.mean()), 1.0, verdict, message)]


def pairs(chance: Chance) -> list[Figure]:
    """Return the figures of two-column histograms: the mean, the worst pair, the dependence."""
    names = "pair_error", "worst_pair", "mutual_information_error"
    if not len(chance.pairs):
        return [unknown(name, 0.0, "The table has one column only.") for name in names]
    function = lambda *tables: compare(cut(*tables), chance.pairs)
    errors, usual = function(chance.real, chance.synthetic), chance.of(function)
    n_rows = min(len(chance.real), len(chance.synthetic))
    n_bins = int(np.clip(np.sqrt(n_rows / 10), 3, 10))
    coarse, usual_coarse = errors, usual
    if n_bins < 10:
        function = lambda *tables: compare(cut(*tables, n_bins=n_bins), chance.pairs)
        coarse, usual_coarse = function(chance.real, chance.synthetic), chance.of(function)
    worst, least_alike = (_Worst.of(coarse[i], usual_coarse[:, i]) for i in (0, 1))
    value, mean, noise = _means(errors[0], usual[:, 0])
    message = (
        f"On average, {value:.1%} of the rows would have to change for a pair of columns to be "
        f"distributed as in the real table; {mean:.1%} between two samples of one source."
    )
    verdict = judge(value - mean, CERTAIN * noise, LIMITS[names[0]])
    out = [Figure(names[0], value, noise, mean, 0.0, verdict, message)]
    message = (
        f"The pair that differs most beyond chance is {_pair(chance, worst)}: {worst.error:.1%} "
        f"of the rows would have to change, and {worst.typical:.1%} would be usual."
    )
    verdict = worst.judge(LIMITS[names[1]])
    out.append(Figure(names[1], worst.error, worst.spread, worst.typical, 0.0, verdict, message))
    value, mean, noise = _means(errors[1], usual[:, 1])
    message = (
        f"The normalised mutual information of two columns is off by {value:.3f} on average, by "
        f"{mean:.3f} between two samples of one source; most for {_pair(chance, least_alike)}, by "
        f"{least_alike.error:.3f}."
    )
    verdicts = (
        judge(value - mean, CERTAIN * noise, LIMITS[names[2]]),
        least_alike.judge(_WORST_INFORMATION),
    )
    verdict = max(verdicts, key=(GOOD, UNKNOWN, FAIR, POOR).index)
    return [*out, Figure(names[2], value, noise, mean, 0.0, verdict, message)]


def _means(errors: np.ndarray, usual: np.ndarray) -> tuple[float, float, float]:
    """Return the mean error, its mean by chance, and its standard deviation by chance."""
    means = usual.mean(axis=1)
    return float(errors.mean()), float(means.mean()), float(means.std())


def _pair(chance: Chance, worst: _Worst) -> str:
    return listed([chance.real.names[i] for i in chance.pairs[worst.position]])


def detection(chance: Chance, rng: np.random.RandomState, max_rows: int) -> list[Figure]:
    """Return the figure of the classifier two-sample test."""
    name = "detection_auc"
    n_rows = min(len(chance.real), len(chance.synthetic))
    if n_rows < 10:
        return [unknown(name, 0.5, f"{n_rows} rows are too few to train a classifier.")]
    auc, error = detection_auc(
        chance.real, chance.synthetic, max_rows=max_rows, return_std=True, random_state=rng
    )
    verdict = judge(auc - 0.5, CERTAIN * error, LIMITS[name])
    if verdict == GOOD and n_rows < _FEW_ROWS:
        verdict = UNKNOWN
    about = f"AUC {auc:.2f} +- {2 * error:.2f}: "
    if is_misled(auc, min(n_rows, max_rows // 2)):
        about = (
            "A classifier cannot tell synthetic from real rows. It does worse than a guess, as it "
            "does if synthetic rows are near-copies of real ones: pass X_holdout to find out."
        )
    elif verdict == UNKNOWN and auc <= 0.5:
        about = f"A classifier can only guess, but {n_rows} rows are too few for it to learn from."
    elif verdict == UNKNOWN:
        about += f"{n_rows} rows are too few to tell."
    elif auc <= 0.5:
        about = (
            "A classifier cannot tell synthetic from real rows: on rows that it has not seen, it "
            "does no better than a guess."
        )
    elif auc - 2 * error <= 0.5:
        about += (
            "a classifier cannot tell synthetic from real rows; indistinguishable at this size."
        )
    elif verdict == GOOD:
        about += "a classifier hardly tells synthetic from real rows."
    else:
        about += f"a classifier tells {auc:.0%} of the pairs of a real and a synthetic row apart."
    return [Figure(name, auc, error, 0.5, 0.5, verdict, about)]


def is_misled(auc: float, n_rows: int) -> bool:
    """Whether an AUC is so far below 0.5 that this is not chance."""
    return 0.5 - auc > _CERTAIN_LARGEST * cross_validated_error(0.5, n_rows)


def regions(chance: Chance, rng: np.random.RandomState) -> list[Figure]:
    """Return precision, recall, density and coverage."""
    names = "precision", "recall", "density", "coverage"
    k = 5
    if min(len(chance.real), len(chance.synthetic)) <= 2 * k:
        message = f"More than {2 * k} rows of each table are needed."
        return [unknown(name, 1.0, message) for name in names]
    values, *usual = neighbourhoods_by_chance(
        chance.real, chance.synthetic, k, _MOST_NEIGHBOURS, rng, n_repeats=5
    )
    means, noises = np.mean(usual, axis=0), np.std(usual, axis=0)
    texts = (
        "{:.1%} of the synthetic rows lie where real rows lie; {:.1%} would be usual.",
        "{:.1%} of the real rows lie where synthetic rows lie; {:.1%} would be usual.",
        "Synthetic rows lie {:.2f} times as densely around real rows as real rows do; "
        "{:.2f} times would be usual.",
        "{:.1%} of the real rows have a synthetic row nearby; {:.1%} would be usual.",
    )
    out = []
    for i, name in enumerate(names):
        loss = abs(means[i] - values[i]) if name == "density" else means[i] - values[i]
        verdict = judge(float(loss), CERTAIN * float(noises[i]), LIMITS[name])
        message = texts[i].format(values[i], means[i])
        value, noise, mean = (float(v[i]) for v in (values, noises, means))
        out.append(Figure(name, value, noise, mean, 1.0, verdict, message))
    return out
