"""Histograms with noise, by OpenDP: the only place where counts of private rows get noise.

Each row counts in exactly one bin, so that a row more or less changes one count by one. The noise
is discrete Gaussian (Canonne, Kamath, Steinke 2020), drawn exactly from the operating system's
entropy: there are no floating-point numbers that could betray a count, and there is no seed.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from sktvae._privacy.settings import MISSING_EXTRA


@dataclass(frozen=True)
class Release:
    """The record of one noisy histogram.

    Attributes
    ----------
    column : hashable
        The name of the column; None for the whole table.
    what : str
        What was counted.
    mechanism : {"discrete Gaussian", "discrete Gaussian, threshold"}
    sigma : float
        Standard deviation of the noise of each count.
    rho : float
        Privacy loss in terms of zero-concentrated differential privacy, as OpenDP's privacy map
        gives it for one row more or less.
    delta : float
        The probability that the key of a single row is released, at most.
    """

    column: Hashable
    what: str
    mechanism: str
    sigma: float
    rho: float
    delta: float = 0.0


@dataclass
class Histograms:
    """Noisy histograms of one table, and the record of them.

    Parameters
    ----------
    sigma : float
        Standard deviation of the noise of each count.
    delta : float
        For each histogram with unknown keys: the probability, at most, that a key which a single
        row has is released.

    Attributes
    ----------
    n_rows : int or None
        If it is set, every histogram must count so many rows.
    releases : list of Release

    Examples
    --------
    >>> import numpy as np
    >>> from sktvae._privacy.mechanisms import Histograms
    >>> histograms = Histograms(sigma=1.0, delta=1e-6)
    >>> counts = histograms.of_bins("age", "decades", np.array([0, 0, 2]), n_bins=3)
    >>> counts.shape, histograms.releases[0].rho
    ((3,), 0.5)
    """

    sigma: float
    delta: float
    n_rows: int | None = None
    releases: list[Release] = field(default_factory=list)

    def of_bins(self, column: Hashable, what: str, bins: np.ndarray, n_bins: int) -> np.ndarray:
        """Return the noisy number of rows in each of the bins that were known before.

        Parameters
        ----------
        column : hashable
        what : str
        bins : int ndarray of shape (n_samples,)
            The bin of each row, 0 to `n_bins` - 1.
        n_bins : int

        Returns
        -------
        counts : float64 ndarray of shape (n_bins,)
            Integers, which may be negative.
        """
        self._check(bins)
        noisy, rho = _noisy(np.bincount(bins, minlength=n_bins), self.sigma)
        self.releases.append(Release(column, what, "discrete Gaussian", self.sigma, rho))
        return noisy

    def of_keys(
        self, column: Hashable, what: str, keys: np.ndarray, apart: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """Return the keys with many rows, and their noisy numbers of rows.

        Parameters
        ----------
        column : hashable
        what : str
        keys : int64 ndarray of shape (n_samples,)
            The key of each row, which may be any integer.
        apart : bool ndarray of shape (n_samples,), default=None
            Rows that count in a bin of their own, which is known before, and not by their keys. A
            row is in one of the two parts, so that counting both costs no more than one of them.

        Returns
        -------
        keys : int64 ndarray of shape (n_keys,)
            Those whose noisy count reaches the threshold, in ascending order.
        counts : float64 ndarray of shape (n_keys,)
        n_apart : float
            The noisy number of rows `apart`; 0.0 if it is None.
        """
        self._check(keys)
        n_apart, spent = 0.0, 0.0
        if apart is not None:
            noisy, spent = _noisy(np.array([np.count_nonzero(apart)]), self.sigma)
            n_apart, keys = float(noisy[0]), keys[~apart]
        values, counts = np.unique(keys, return_counts=True)
        # A few rows less for each key, if it has as many: a row still changes one count by one, and
        # the many keys of single rows, which are hardly ever released, take no time.
        spared = int(self.sigma / 20)
        values, counts = values[counts > spared], counts[counts > spared] - spared
        measurement, rho, delta = _threshold_measurement(float(self.sigma), float(self.delta))
        found = measurement(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        released = np.array(sorted(found), dtype=np.int64)
        self.releases.append(
            Release(
                column,
                what,
                "discrete Gaussian, threshold",
                self.sigma,
                max(rho, spent),
                delta,
            )
        )
        noisy_counts = [found[key] + spared for key in released.tolist()]
        return released, np.array(noisy_counts, dtype=float), n_apart

    def _check(self, of_rows: np.ndarray) -> None:
        if self.n_rows not in (None, len(of_rows)):
            raise RuntimeError(f"A histogram of {len(of_rows)} rows in a table of {self.n_rows}.")


def private_count(n_rows: int, sigma: float) -> tuple[int, Release]:
    """Return the noisy number of rows, at least 1, and the record of it.

    Parameters
    ----------
    n_rows : int
    sigma : float
        Standard deviation of the noise.
    """
    noisy, rho = _noisy(np.array([n_rows]), sigma)
    release = Release(None, "number of rows", "discrete Gaussian", float(sigma), rho)
    return max(int(noisy[0]), 1), release


def noisy_integers(values: np.ndarray, deviation: float) -> np.ndarray:
    """Return integers with discrete Gaussian noise, drawn exactly.

    Parameters
    ----------
    values : int64 ndarray of shape (n,)
    deviation : float
        The standard deviation of the noise of each.

    Returns
    -------
    noisy : float64 ndarray of shape (n,)
    """
    return _noisy(values, deviation)[0]


def _opendp() -> Any:
    """Return OpenDP's prelude, which says what is missing if OpenDP is."""
    try:
        import opendp.prelude as dp
    except ImportError as error:
        raise ImportError(MISSING_EXTRA) from error
    dp.enable_features("contrib")
    return dp


def _noisy(counts: np.ndarray, sigma: float) -> tuple[np.ndarray, float]:
    """Return counts with noise, and what OpenDP says that this costs."""
    dp = _opendp()
    space = dp.vector_domain(dp.atom_domain(T=dp.i64)), dp.l2_distance(T=dp.i64)
    measurement = dp.m.make_gaussian(*space, scale=float(sigma))
    return np.array(measurement(counts.tolist()), dtype=float), measurement.map(1)


@lru_cache(maxsize=16)
def _threshold_measurement(sigma: float, delta: float) -> tuple[Any, float, float]:
    """Return the measurement of the lowest threshold that costs at most `delta`, and its cost."""
    dp = _opendp()
    counts = dp.map_domain(dp.atom_domain(T=dp.i64), dp.atom_domain(T=dp.i64))
    metric = dp.l02inf_distance(dp.absolute_distance(T=dp.i64))
    one_row = (1, 1, 1)  # one key changes, by one

    def make(threshold: int) -> Any:
        return dp.m.make_gaussian_threshold(counts, metric, scale=sigma, threshold=threshold)

    def suffices(threshold: int) -> bool:
        return bool(make(threshold).map(one_row)[1] <= delta)

    low, high = 1, 2
    while not suffices(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    measurement = make(high)
    rho, spent = measurement.map(one_row)
    return measurement, rho, spent
