"""Intervals of shares, and of the risk that two shares give."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

Z = 1.959963984540054  # 95 % of a normal distribution lie within so many standard deviations


def wilson(share: float, n: float, z: float = Z) -> tuple[float, float]:
    """Return the interval of a share of `n` (Wilson 1927); 95 % by default.

    >>> from sktvae.metrics._intervals import wilson
    >>> low, high = wilson(0.5, 100)
    >>> round(low, 3), round(high, 3)
    (0.404, 0.596)
    """
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(float(middle - half), 0.0), min(float(middle + half), 1.0)


class PrivacyRisk(NamedTuple):
    """What :func:`singling_out` and :func:`linkability` return.

    Attributes
    ----------
    attack_rate : float
        The share of attacks on training rows that succeed.
    baseline_rate : float
        The share that would succeed without the synthetic rows, by guessing. An attack that is no
        better than this has failed, which does not mean that every attack must.
    control_rate : float
        The share of the same attacks that succeed on rows which the synthesizer has not seen: what
        holds for everybody.
    risk : float
        ``(attack_rate - control_rate) / (1 - control_rate)``: of the attacks that do not succeed on
        others, the share that succeeds on training rows. 0 is best, 1 is worst, and chance may make
        it negative.
    low, high : float
        A 95 % interval of the risk.
    n_attacks : int
        How many attacks were made on training rows.
    """

    attack_rate: float
    baseline_rate: float
    control_rate: float
    risk: float
    low: float
    high: float
    n_attacks: int


def risk_of(
    attack: tuple[float, float], control: tuple[float, float], baseline: float, z: float = Z
) -> PrivacyRisk:
    """Return the risk of an attack from the rates of success and the numbers of attempts.

    The distances from both rates to the ends of their Wilson intervals are added up in squares, as
    Newcombe (1998, method 10) does for a difference of rates.
    """
    (own, n_attacks), (other, n_control) = attack, control
    if not n_attacks or not n_control or other >= 1:
        return PrivacyRisk(own, baseline, other, np.nan, np.nan, np.nan, int(n_attacks))
    own_low, own_high = wilson(own, n_attacks, z)
    other_low, other_high = wilson(other, n_control, z)
    # How much the risk changes with either rate.
    by_own, by_other = 1 / (1 - other), (1 - own) / (1 - other) ** 2
    below = np.hypot(by_own * (own - own_low), by_other * (other_high - other))
    above = np.hypot(by_own * (own_high - own), by_other * (other - other_low))
    risk = (own - other) / (1 - other)
    low, high = float(risk - below), min(float(risk + above), 1.0)
    return PrivacyRisk(own, baseline, other, risk, low, high, int(n_attacks))
