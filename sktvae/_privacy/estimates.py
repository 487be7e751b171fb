"""Counts from noisy counts: the best linear estimate, without noise, not negative."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm


class Estimate:
    """The best linear estimate of counts from noisy sums of some of them.

    Parameters
    ----------
    n : int
        The number of counts.
    """

    def __init__(self, n: int):
        self._precision, self._weighted = np.zeros((n, n)), np.zeros(n)

    def add(self, sums: np.ndarray, noisy: np.ndarray | float, variance: float) -> None:
        """Take note of noisy sums.

        Parameters
        ----------
        sums : ndarray of shape (n_sums, n)
            1 where a count is part of a sum, else 0.
        noisy : ndarray of shape (n_sums,) or float
        variance : float
            Of the noise.
        """
        self._precision += sums.T @ sums / variance
        self._weighted += sums.T @ np.atleast_1d(noisy) / variance

    def solve(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the counts and the covariance of their errors."""
        covariance = np.linalg.inv(self._precision)
        return covariance @ self._weighted, covariance


def denoised(counts: np.ndarray, sigma: float) -> np.ndarray:
    """Return noisy counts with the Haar coefficients that may be noise set to zero.

    A smooth stretch becomes a few even steps, and what stands out is kept, as in Donoho and
    Johnstone (1994), "Ideal spatial adaptation by wavelet shrinkage".

    Parameters
    ----------
    counts : ndarray of shape (n,)
    sigma : float
        Standard deviation of the noise of each count.

    Returns
    -------
    counts : ndarray of shape (n,)

    Examples
    --------
    >>> import numpy as np
    >>> from sktvae._privacy.estimates import denoised
    >>> denoised(np.array([1.0, 3.0, 98.0, 102.0]), sigma=5.0).round(6)
    array([  2.,   2., 100., 100.])
    """
    size = 1 << max(len(counts) - 1, 0).bit_length()
    sums = np.append(counts, np.full(size - len(counts), counts.mean()))
    least = sigma * norm.isf(0.005 / size)  # noise is as large in one of 100 columns
    details = []
    while len(sums) > 1:
        detail = (sums[::2] - sums[1::2]) / np.sqrt(2)
        details.append(np.where(np.abs(detail) > least, detail, 0.0))
        sums = (sums[::2] + sums[1::2]) / np.sqrt(2)
    for detail in reversed(details):
        sums = np.column_stack([sums + detail, sums - detail]).ravel() / np.sqrt(2)
    return sums[: len(counts)]


def on_simplex(counts: np.ndarray, total: float) -> np.ndarray:
    """Return the nearest counts that are not negative and have this sum.

    Parameters
    ----------
    counts : ndarray of shape (n,)
    total : float
        If it is not positive, the counts are all zero.
    Examples
    --------
    >>> import numpy as np
    >>> from sktvae._privacy.estimates import on_simplex
    >>> on_simplex(np.array([5.0, -3.0, 9.0]), 10.0)
    array([3., 0., 7.])
    """
    if total <= 0:
        return np.zeros(len(counts))
    descending = np.sort(counts)[::-1]
    excess = (np.cumsum(descending) - total) / np.arange(1, len(counts) + 1)
    return np.maximum(counts - excess[np.flatnonzero(descending > excess)[-1]], 0.0)
