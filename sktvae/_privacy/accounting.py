"""What a private fit has spent: the ledger, and how much noise the rest of the budget needs.

Privacy loss distributions are composed numerically, by Google's dp-accounting, which rounds them
upwards (Koskela, Jälkö, Honkela 2020; Doroshenko, Ghazi, Kamath, Kumar, Manurangsi 2022).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from sktvae._privacy.settings import MISSING_EXTRA

# A tail of the loss this small is counted as part of delta.
_TAIL = 1e-15
# Noise is looked for between these scales, with this relative tolerance.
_LEAST_SCALE, _LARGEST_SCALE, _TOLERANCE = 0.25, 1e9, 2e-3


@dataclass(frozen=True)
class Spending:
    """One mechanism, applied `times` times.

    Attributes
    ----------
    what : str
        What was measured, in words.
    mechanism : {"discrete Gaussian", "Gaussian"}
    scale : float
        Standard deviation of the noise, relative to how much one row can change the result.
    times : int
    sampling_rate : float
        The probability with which each row takes part each time.
    delta : float
        Probability that is added each time, such as that a key of a single row is revealed.
    """

    what: str
    mechanism: str
    scale: float
    times: int = 1
    sampling_rate: float = 1.0
    delta: float = 0.0

    def loss(self, interval: float) -> Any:
        """The distribution of the privacy loss of one time, rounded upwards to a grid."""
        pld = _pld()
        if self.mechanism == "discrete Gaussian":
            return pld.from_discrete_gaussian_mechanism(
                self.scale, value_discretization_interval=interval
            )
        return pld.from_gaussian_mechanism(
            self.scale,
            value_discretization_interval=interval,
            log_mass_truncation_bound=math.log(_TAIL),
            sampling_prob=self.sampling_rate,
        )


@dataclass
class Ledger:
    """What has been spent so far, one entry per mechanism.

    Attributes
    ----------
    entries : list of Spending
    interval : float
        Privacy losses are rounded upwards to multiples of this: a smaller one finds a lower
        epsilon, and takes longer.
    """

    entries: list[Spending] = field(default_factory=list)
    interval: float = 2e-4

    def epsilon(self, delta: float, further: Spending | None = None) -> float:
        """The epsilon of all entries together, and of a further one, at a total delta.

        It is infinite if delta is too small.
        """
        entries = [*self.entries, *([] if further is None else [further])]
        left = delta - sum(entry.times * entry.delta for entry in entries)
        if not entries or left <= 0:
            return math.inf if entries else 0.0
        total = _composed(tuple(self.entries), self.interval)
        if further is not None:
            loss = further.loss(self.interval).self_compose(further.times)
            total = loss if total is None else total.compose(loss)
        return float(total.get_epsilon_for_delta(left))

    def records(self, delta: float) -> list[dict]:
        """One dict per entry: what it is, and the epsilon that it alone would have."""
        return [
            {
                "measured": entry.what,
                "mechanism": entry.mechanism,
                "noise": entry.scale,
                "times": entry.times,
                "sampling_rate": entry.sampling_rate,
                "epsilon_alone": Ledger([entry], self.interval).epsilon(delta),
                "delta": entry.times * entry.delta,
            }
            for entry in self.entries
        ]


@lru_cache(maxsize=8)
def _composed(entries: tuple[Spending, ...], interval: float) -> Any:
    """The distribution of the privacy loss of several mechanisms; None if there is none."""
    times: Counter = Counter()
    for entry in entries:
        times[replace(entry, what="", times=1, delta=0.0)] += entry.times
    total = None
    for entry, n in times.items():
        loss = entry.loss(interval).self_compose(n)
        total = loss if total is None else total.compose(loss)
    return total


def least_scale(epsilon_of: Callable[[float], float], epsilon: float) -> float:
    """The smallest noise, to within two thousandths, for which an epsilon is not exceeded.

    Parameters
    ----------
    epsilon_of : callable
        Takes a scale of noise; its result falls as the scale grows.
    epsilon : float

    Returns
    -------
    scale : float
        At least a quarter.

    Raises
    ------
    ValueError
        If no noise is enough, since what has been spent already exceeds epsilon.
    """
    low, scale, high, last = _LEAST_SCALE, 1.0, math.inf, None
    while high > (1 + _TOLERANCE) * low:
        found = epsilon_of(scale)
        if found > epsilon:
            low = scale
        else:
            high = scale
            if found > (1 - _TOLERANCE) * epsilon:
                break
        if low > _LARGEST_SCALE:
            raise ValueError(
                f"No amount of noise keeps the fit within epsilon={epsilon:g}. Increase epsilon or "
                "delta."
            )
        # Epsilon is about a power of the noise, at first -1; a little more is on the safe side.
        slope, point = 1.0, (math.log(scale), math.log(max(found, 1e-9)))
        if last is not None and point[0] != last[0] and math.isfinite(last[1] + point[1]):
            slope = min(max((last[1] - point[1]) / (point[0] - last[0]), 0.05), 20.0)
        last = point
        scale *= (1 + _TOLERANCE / 4) * (found / epsilon) ** (1 / slope)
        if not low < scale < high:
            scale = math.sqrt(low * high) if high < math.inf else 2 * low
    return high


def _pld() -> Any:
    try:
        from dp_accounting.pld import privacy_loss_distribution
    except ImportError as error:
        raise ImportError(MISSING_EXTRA) from error
    return privacy_loss_distribution
