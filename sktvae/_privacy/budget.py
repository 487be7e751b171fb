"""How the budget of a private fit is divided between its steps."""

from __future__ import annotations

import numpy as np

from sktvae._privacy.accounting import Ledger, Spending, least_scale
from sktvae._privacy.mechanisms import private_count
from sktvae._privacy.settings import DifferentialPrivacy

# Standard deviation of the noise of the number of rows, times epsilon.
_NOISE_OF_COUNT = 20.0
# A delta by default is no larger: of a small table, one divided by the rows would promise nothing.
_LARGEST_DELTA = 1e-3
# The share of delta for the keys of histograms whose keys are not known before.
_DELTA_OF_KEYS = 0.1
# Of the grid of the accounting, relative to epsilon.
_RELATIVE_INTERVAL, _INTERVALS = 2e-4, (1e-5, 1e-3)


class Budget:
    """What a fit may spend, and what it has spent.

    Parameters
    ----------
    settings : DifferentialPrivacy
    n_rows : int
        The true number of rows, which is only counted with noise.

    Attributes
    ----------
    n_rows : int
        The noisy number of rows.
    epsilon, delta : float
        The privacy loss that must not be exceeded.
    ledger : Ledger
    """

    def __init__(self, settings: DifferentialPrivacy, n_rows: int):
        self._preprocessing = settings.preprocessing
        self.epsilon = float(settings.epsilon)
        sigma = _NOISE_OF_COUNT / self.epsilon
        self.n_rows = private_count(n_rows, sigma)[0]
        self.delta = float(settings.delta or min(1 / self.n_rows, _LARGEST_DELTA))
        counting = Spending("number of rows", "discrete Gaussian", sigma)
        self.ledger = Ledger(
            [counting], float(np.clip(_RELATIVE_INTERVAL * self.epsilon, *_INTERVALS))
        )

    def for_histograms(self, n_histograms: int, n_with_unknown_keys: int) -> tuple[float, float]:
        """Return the noise of the histograms of all columns, which are to be made at once.

        Parameters
        ----------
        n_histograms : int
        n_with_unknown_keys : int
            How many of them reveal keys that only the table knows.

        Returns
        -------
        sigma : float
            Standard deviation of the noise of each count.
        delta : float
            For each histogram with unknown keys.
        """
        delta = _DELTA_OF_KEYS * self.delta / max(n_with_unknown_keys, 1)
        histogram = lambda sigma: Spending("", "discrete Gaussian", sigma, n_histograms)
        epsilon = self._preprocessing * self.epsilon
        left = self.delta * (1 - _DELTA_OF_KEYS)
        sigma = least_scale(
            lambda s: Ledger([], self.ledger.interval).epsilon(left, histogram(s)), epsilon
        )
        return sigma, delta

    def for_training(self, sampling_rate: float, n_steps: int) -> float:
        """Return the noise multiplier of training, which gets all that is left, and book it.

        Parameters
        ----------
        sampling_rate : float
            The probability with which each row takes part in a step.
        n_steps : int
        """
        step = lambda scale: Spending(
            "gradients of training", "Gaussian", scale, n_steps, sampling_rate
        )
        scale = least_scale(lambda s: self.ledger.epsilon(self.delta, step(s)), self.epsilon)
        self.ledger.entries.append(step(scale))
        return scale

    @property
    def spent(self) -> float:
        """The epsilon that has been spent, at `delta`."""
        return self.ledger.epsilon(self.delta)
