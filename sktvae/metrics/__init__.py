"""Figures that judge synthetic rows: fidelity, utility and privacy; scorers for searches.

`evaluate` computes all of them and says in words what they mean. Each function takes tables of
pandas, polars or pyarrow, or arrays; their columns are matched by name, and those of the first
decide what is a number, a time or a category.
"""

from sktvae.metrics._attacks import privacy_attacks
from sktvae.metrics._coverage import (
    DensityCoverage,
    PrecisionRecall,
    density_coverage,
    precision_recall,
)
from sktvae.metrics._detection import detection_auc
from sktvae.metrics._evaluate import evaluate
from sktvae.metrics._intervals import PrivacyRisk
from sktvae.metrics._linkability import linkability
from sktvae.metrics._membership import MembershipAUC, likelihood_membership, membership_auc
from sktvae.metrics._pairs import mutual_information_error, pair_error, pair_trend_score
from sktvae.metrics._privacy import (
    AttributeInference,
    ClosestRecordShare,
    CopiedRows,
    attribute_inference,
    closest_record_share,
    copied_rows,
)
from sktvae.metrics._scorers import (
    SynthesisScorer,
    fidelity_scorer,
    make_synthesis_scorer,
    utility_scorer,
)
from sktvae.metrics._shapes import (
    column_shape_score,
    lost_categories,
    missing_rate_error,
    rare_category_coverage,
)
from sktvae.metrics._singling_out import singling_out
from sktvae.metrics._utility import Utility, utility_score

__all__ = [
    "AttributeInference",
    "ClosestRecordShare",
    "CopiedRows",
    "DensityCoverage",
    "MembershipAUC",
    "PrecisionRecall",
    "PrivacyRisk",
    "SynthesisScorer",
    "Utility",
    "attribute_inference",
    "closest_record_share",
    "column_shape_score",
    "copied_rows",
    "density_coverage",
    "detection_auc",
    "evaluate",
    "fidelity_scorer",
    "likelihood_membership",
    "linkability",
    "lost_categories",
    "make_synthesis_scorer",
    "membership_auc",
    "missing_rate_error",
    "mutual_information_error",
    "pair_error",
    "pair_trend_score",
    "precision_recall",
    "privacy_attacks",
    "rare_category_coverage",
    "singling_out",
    "utility_score",
    "utility_scorer",
]
