"""Pictures of a fitted synthesizer, and reports: on a synthetic table, and on privacy.

The Displays need matplotlib (``pip install "sktvae[plot]"``), and the pages of the reports need
Jinja2 too (``pip install "sktvae[report]"``).
"""

from sktvae.inspection._latent import LatentSpaceDisplay
from sktvae.inspection._marginals import MarginalsDisplay
from sktvae.inspection._pairs import PairTrendsDisplay
from sktvae.inspection._privacy_report import PrivacyReport, privacy_report
from sktvae.inspection._report import Report, report
from sktvae.inspection._training import TrainingHistoryDisplay

__all__ = [
    "LatentSpaceDisplay",
    "MarginalsDisplay",
    "PairTrendsDisplay",
    "PrivacyReport",
    "Report",
    "TrainingHistoryDisplay",
    "privacy_report",
    "report",
]
