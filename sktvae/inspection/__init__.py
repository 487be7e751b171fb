"""Pictures of a fitted synthesizer, and a report on a synthetic table.

The Displays need matplotlib (``pip install "sktvae[plot]"``), and `report` needs Jinja2 too
(``pip install "sktvae[report]"``).
"""

from sktvae.inspection._latent import LatentSpaceDisplay
from sktvae.inspection._marginals import MarginalsDisplay
from sktvae.inspection._pairs import PairTrendsDisplay
from sktvae.inspection._report import Report, report
from sktvae.inspection._training import TrainingHistoryDisplay

__all__ = [
    "LatentSpaceDisplay",
    "MarginalsDisplay",
    "PairTrendsDisplay",
    "Report",
    "TrainingHistoryDisplay",
    "report",
]
