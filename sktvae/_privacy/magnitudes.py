"""Where the numbers of a column are, and how many decimals they have, from a noisy histogram."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from sktvae._privacy.mechanisms import Histograms
from sktvae._table.decimals import LARGEST_INTEGER

# Numbers are told apart by the power of two below them, from 2**-64 to 2**63.
_LOWEST_OCTAVE, _N_OCTAVES = -64, 128
# Numbers with more decimals than this are taken to be continuous.
MOST_DECIMALS = 7
N_DECIMALS = MOST_DECIMALS + 2  # the classes of decimals
# The coarser grid of decimals is chosen if at most this share of the rows is off it.
_OFF_GRID = 0.02


@dataclass(frozen=True)
class Magnitudes:
    """Where the numbers of a column are, roughly.

    Attributes
    ----------
    octaves : dict of (int, int) -> float
        The noisy number of rows by sign (-1 or 1) and power of two, where it is not only noise.
    fineness : int
        The class of decimals (or of units of time) that most rows need, at most.
    every : ndarray of shape (2, n_octaves)
        The noisy number of rows by sign (1 or -1) and power of two, wherever.
    variance : float
        Of each of them.
    """

    octaves: dict[tuple[int, int], float]
    fineness: int
    every: np.ndarray
    variance: float

    def of(self, low: float, high: float) -> float | None:
        """Return the noisy number of rows of an octave; None if this is not a whole one."""
        negative = low < 0
        if negative:
            low, high = -high, -low
        octave = int(np.log2(low)) if low > 0 and high == 2 * low else _N_OCTAVES
        at = octave - _LOWEST_OCTAVE
        is_inside = 0 < at < _N_OCTAVES - 1 and low == 2.0**octave
        return float(self.every[int(negative), at]) if is_inside else None


def count_magnitudes(
    histograms: Histograms, name: Hashable, values: np.ndarray, fineness: np.ndarray, n_fine: int
) -> Magnitudes:
    """Return the magnitudes of numbers, with noise.

    Parameters
    ----------
    histograms : Histograms
    name : hashable
    values : ndarray of shape (n_samples,)
        NaN where missing.
    fineness : int ndarray of shape (n_samples,)
        The class of decimals of each number, 0 to `n_fine` - 1; a higher one is finer.
    n_fine : int
    """
    present, zero = ~np.isnan(values), values == 0
    octave = np.frexp(np.where(present & ~zero, values, 1.0))[1] - 1 - _LOWEST_OCTAVE
    octave = np.clip(octave, 0, _N_OCTAVES - 1) + _N_OCTAVES * (values < 0)
    n_bins = 2 * _N_OCTAVES * n_fine
    bins = np.where(present, np.where(zero, n_bins, octave * n_fine + fineness), n_bins + 1)
    noisy = histograms.of_bins(name, "magnitudes", bins, n_bins + 2)[:n_bins]
    noisy = noisy.reshape(2, _N_OCTAVES, n_fine)
    found = _found(noisy, histograms.sigma)
    has_class = found.any(axis=(0, 1))
    signs, octaves = np.nonzero(found.sum(axis=2))
    return Magnitudes(
        {
            (-1 if s else 1, int(o) + _LOWEST_OCTAVE): float(found[s, o].sum())
            for s, o in zip(signs.tolist(), octaves.tolist(), strict=True)
        },
        _finest(found.sum(axis=(0, 1))),
        noisy[:, :, has_class].sum(axis=2),
        has_class.sum() * histograms.sigma**2,
    )


def _found(noisy: np.ndarray, sigma: float) -> np.ndarray:
    """Return counts of octaves that are not only noise, and 0.0 for all others.

    Octaves that are significant only together with their neighbours are found too.
    """
    found = np.zeros_like(noisy)
    for width in (1, 2, 4, 8):
        left = np.where(found > 0, 0.0, noisy)
        windows = np.lib.stride_tricks.sliding_window_view(left, width, axis=1)
        # So large a normal number is among so many in one of 500 columns.
        least = sigma * np.sqrt(width) * norm.isf(0.0005 / windows[..., 0].size)
        for sign, start, fine in np.argwhere(windows.sum(axis=-1) > least):
            own = left[sign, start : start + width, fine]
            found[sign, start : start + width, fine] += np.where(own > sigma, own, 0.0) * (
                found[sign, start : start + width, fine] == 0
            )
    return found


def count_fineness(
    histograms: Histograms, name: Hashable, fineness: np.ndarray, absent: np.ndarray, n_fine: int
) -> int:
    """Return the class of decimals that most rows need, at most, with noise."""
    bins = np.where(absent, n_fine, fineness)
    noisy = histograms.of_bins(name, "decimals", bins, n_fine + 1)[:n_fine]
    return _finest(np.where(noisy >= 3 * histograms.sigma, noisy, 0.0))


def _finest(counts: np.ndarray) -> int:
    beyond = counts.sum() - np.cumsum(counts)
    return int(np.argmax(beyond <= _OFF_GRID * counts.sum()))


def decimals_of(values: np.ndarray) -> np.ndarray:
    """Return how many decimals each number has, 0 to 7, or 8 for more; 0 if it is missing."""
    needed = np.full(len(values), MOST_DECIMALS + 1)
    for decimals in reversed(range(MOST_DECIMALS + 1)):
        needed[on_grid(values, decimals)] = decimals
    needed[np.isnan(values)] = 0
    return needed


def on_grid(values: np.ndarray, decimals: int) -> np.ndarray:
    """Return which numbers have so many decimals, at most; whole ones may be of any size."""
    small = np.abs(values) * 10.0**decimals <= LARGEST_INTEGER
    return (small | (decimals == 0)) & (np.round(values, decimals) == values)
