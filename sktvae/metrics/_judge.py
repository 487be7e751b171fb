"""From a figure and what chance gives to a verdict."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

GOOD, FAIR, POOR, UNKNOWN = "good", "fair", "poor", "unknown"
CERTAIN = 3.0  # a loss of so many standard errors is not chance


@dataclass(frozen=True)
class Figure:
    """One row of the table that `evaluate` returns."""

    name: str
    value: float
    standard_error: float
    chance: float
    best: float
    verdict: str
    message: str


def judge(loss: float, margin: float, limits: tuple[float, float]) -> str:
    """Return a verdict.

    Parameters
    ----------
    loss : float
        How much worse the figure is than it would be for real rows.
    margin : float
        Up to which loss it may be chance: three standard errors.
    limits : tuple of (float, float)
        Losses up to the first are good, up to the second fair.

    Returns
    -------
    verdict : {"good", "fair", "poor", "unknown"}
        "unknown" if a poor table could look like this one by chance, because there are too few
        rows.

    Examples
    --------
    >>> from sktvae.metrics._judge import judge
    >>> judge(0.3, 0.03, (0.1, 0.2)), judge(0.15, 0.03, (0.1, 0.2)), judge(0.15, 0.3, (0.1, 0.2))
    ('poor', 'fair', 'unknown')
    """
    if np.isnan(loss) or np.isnan(margin):
        return UNKNOWN
    if loss <= max(margin, limits[0]):
        return UNKNOWN if margin > limits[1] else GOOD
    return FAIR if loss <= limits[1] else POOR


def unknown(name: str, best: float, message: str) -> Figure:
    """Return a figure that could not be computed, and why."""
    return Figure(name, np.nan, np.nan, np.nan, best, UNKNOWN, message)


def listed(names: list) -> str:
    """Return labels as they are written in a sentence.

    >>> from sktvae.metrics._judge import listed
    >>> listed(["age", "sex", "income"])
    "'age', 'sex' and 'income'"
    """
    words = [repr(name) for name in names]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
