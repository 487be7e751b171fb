"""What the report says: of each figure what it means, and of all of them a verdict."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sktvae.inspection._drawing import percent

VERDICTS = ("poor", "fair", "unknown", "good")  # the first of them that a figure has counts
SECTIONS = {
    "rows": "Whole rows",
    "columns": "Single columns",
    "pairs": "Pairs of columns",
    "use": "Use in place of the real rows",
    "privacy": "Copies and privacy",
}


@dataclass(frozen=True)
class Explanation:
    """How the report presents one figure of :func:`sktvae.metrics.evaluate`.

    Attributes
    ----------
    section : {"rows", "columns", "pairs", "use", "privacy"}
    title : str
    meaning : str
        What it measures, in a sentence or two.
    is_share : bool
        Whether it is written in percent.
    """

    section: str
    title: str
    meaning: str
    is_share: bool = True


EXPLANATIONS = {
    "detection_auc": Explanation(
        "rows",
        "Detection by a classifier (AUC)",
        "How often a classifier picks the synthetic row out of a random pair of a real and a "
        "synthetic one. 0.5 is a guess, and less means no more than that it can only guess; 1 "
        "means that it is always right.",
        is_share=False,
    ),
    "precision": Explanation(
        "rows",
        "Precision",
        "The share of synthetic rows that lie in a region where real rows lie. A low one means "
        "rows that no real table would have.",
    ),
    "recall": Explanation(
        "rows",
        "Recall",
        "The share of real rows that lie in a region where synthetic rows lie. A low one means "
        "that kinds of rows are missing.",
    ),
    "density": Explanation(
        "rows",
        "Density",
        "How densely synthetic rows lie around real ones. Far above what chance gives, they crowd "
        "in the middle; far below, they are strewn too widely.",
        is_share=False,
    ),
    "coverage": Explanation(
        "rows",
        "Coverage",
        "The share of real rows with a synthetic row nearby.",
    ),
    "column_shape_score": Explanation(
        "columns",
        "Distributions of columns, mean",
        "How far the real and the synthetic distribution of a column overlap, on average "
        "(one minus the Kolmogorov-Smirnov statistic or the total variation).",
    ),
    "worst_column": Explanation(
        "columns",
        "Distribution of the worst column",
        "The same, for the column that differs most from what chance gives.",
    ),
    "missing_rate_error": Explanation(
        "columns",
        "Missing values",
        "The mean difference of the shares of missing values. The worst column decides.",
    ),
    "rare_category_coverage": Explanation(
        "columns",
        "Categories kept",
        "The share of all categories of the real table that occur among the synthetic rows. Rare "
        "ones are lost by chance, frequent ones are not.",
    ),
    "pair_trend_score": Explanation(
        "pairs",
        "Pair trends, mean",
        "How alike the correlations of two numbers, and the two-way tables of other pairs, are.",
    ),
    "pair_error": Explanation(
        "pairs",
        "Joint distribution of two columns, mean error",
        "The share of rows that would have to change for two columns to be distributed as in the "
        "real table.",
    ),
    "worst_pair": Explanation(
        "pairs",
        "Joint distribution of the worst pair, error",
        "The same, for the pair that differs most from what chance gives.",
    ),
    "mutual_information_error": Explanation(
        "pairs",
        "Strength of dependence, mean error",
        "By how much the strength of the dependence of two columns differs, on a scale from 0 "
        "(independent) to 1 (each determines the other).",
        is_share=False,
    ),
    "utility_score": Explanation(
        "use",
        "Prediction on real rows",
        "The score on real rows of a model that learned from synthetic rows; under “By chance” "
        "stands that of a model that learned from real rows.",
        is_share=False,
    ),
    "copied_rows": Explanation(
        "privacy",
        "Exact copies",
        "The share of synthetic rows that equal a real row in every column.",
    ),
    "closest_record_share": Explanation(
        "privacy",
        "Closer to the real than to the holdout rows",
        "The share of synthetic rows that are closer to a real row than to any holdout row. More "
        "than half means that rows were memorised.",
    ),
    "membership_auc": Explanation(
        "privacy",
        "Membership attack (AUC)",
        "How well somebody who has the synthetic rows guesses who was in the real table. 0.5 is a "
        "guess.",
        is_share=False,
    ),
}


def explanation_of(name: str) -> Explanation:
    """Return how a figure is presented; one that has no entry is shown under its own name."""
    plain = Explanation("rows", name.replace("_", " "), "", is_share=False)
    return EXPLANATIONS.get(name, plain)


def written(name: str, value: float) -> str:
    """Return the value of a figure as text.

    >>> from sktvae.inspection._words import written
    >>> written("detection_auc", 0.5134), written("coverage", 0.971), written("coverage", None)
    ('0.513', '97.1 %', 'not known')
    """
    if value is None or np.isnan(value):
        return "not known"
    return f"{100 * value:.1f} %" if explanation_of(name).is_share else f"{value:.3f}"


def overall(verdicts: pd.Series) -> str:
    """Return the verdict on several figures: the worst of them; "unknown" if all are."""
    found = set(verdicts)
    worst = next((v for v in VERDICTS if v in found), "unknown")
    return "good" if worst == "unknown" and "good" in found else worst


@dataclass(frozen=True)
class Judgement:
    """A verdict in words.

    Attributes
    ----------
    verdict : {"good", "fair", "poor", "unknown"}
    headline : str
        One sentence.
    reasons : tuple of str
        Sentences on what is wrong, the worst first.
    """

    verdict: str
    headline: str
    reasons: tuple[str, ...]


def judge_fidelity(figures: pd.DataFrame) -> Judgement:
    """Return the verdict on how real the synthetic rows look."""
    own = figures[[explanation_of(name).section != "privacy" for name in figures.index]]
    verdict = overall(own["verdict"])
    faults = pd.concat([own[own["verdict"] == v] for v in ("poor", "fair")])
    detection = figures.loc["detection_auc"]
    is_known = detection["verdict"] != "unknown"
    if not is_known and verdict == "good":
        verdict = "unknown"
    auc = "a classifier does no better than a guess"
    if "near-copies" in detection["message"]:
        auc = "a classifier does worse than a guess, as it does with near-copies of real rows"
    elif detection["value"] > 0.5:
        auc = f"a classifier reaches an AUC of {detection['value']:.2f}, and 0.50 is a guess"
    what = {
        "good": "cannot be told from real ones",
        "fair": "can sometimes be told from real ones",
        "poor": "can be told from real ones",
    }.get(detection["verdict"], "")
    if (
        detection["verdict"] == "good"
        and detection["value"] - 2 * detection["standard_error"] > 0.5
    ):
        what = "can hardly be told from real ones"
    headline = f"The synthetic rows {what}: {auc}."
    if not is_known:
        headline = (
            "There are too few rows to say whether synthetic rows can be told from real ones."
        )
    others = [name for name in faults.index if name != "detection_auc"]
    if detection["verdict"] == "good" and others:
        headline = (
            f"The synthetic rows {what} as a whole ({auc}), but they differ in some respects."
        )
    order = [*others, *(["detection_auc"] if "detection_auc" in faults.index else [])]
    order = sorted(order, key=lambda name: VERDICTS.index(faults.loc[name, "verdict"]))
    return Judgement(verdict, headline, tuple(faults.loc[name, "message"] for name in order))


def judge_privacy(figures: pd.DataFrame, has_holdout: bool) -> Judgement:
    """Return the verdict on rows that look copied."""
    own = figures[[explanation_of(name).section == "privacy" for name in figures.index]]
    verdict = overall(own["verdict"])
    faults = pd.concat([own[own["verdict"] == v] for v in ("poor", "fair")])
    reasons = tuple(faults["message"])
    if "copied_rows" in faults.index:
        copies = faults.loc["copied_rows"]
        what = "Rows look copied" if copies["verdict"] == "poor" else "Some rows may be copied"
        headline = (
            f"{what}: {percent(copies['value'])} of the synthetic rows equal a real row, and "
            f"{percent(copies['chance'])} would be usual."
        )
    elif reasons:
        headline = (
            "Rows look memorised: the synthetic ones are closer to the real rows than chance."
        )
    elif verdict == "good" and has_holdout:
        headline = "Nothing shows that real rows were copied or memorised. This is not a proof."
    elif verdict == "good":
        verdict = "unknown"
        headline = (
            "No more synthetic rows equal a real row than is usual. Whether rows were memorised "
            "cannot be judged without a holdout: real rows that the synthesizer has not seen."
        )
    else:
        headline = "There is too little to go by to say whether rows were copied or memorised."
    return Judgement(verdict, headline, reasons)
