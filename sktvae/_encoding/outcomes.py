"""What the codes of one column stand for: probabilities, means and quantiles of its values."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sktvae._encoding.category import CategoryCodec
from sktvae._encoding.codec import Codec
from sktvae._encoding.quantile import QuantileCodec


def probabilities(codec: Codec, by_code: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the probability of each category or bin, and that of a missing value.

    Parameters
    ----------
    codec : CategoryCodec or QuantileCodec
    by_code : ndarray of shape (n_rows, n_codes) or (n_rows, n_codes, n_fine_codes)

    Returns
    -------
    present : ndarray of shape (n_rows, n_outcomes)
        See `labels`.
    missing : ndarray of shape (n_rows,)
    """
    n_rows = len(by_code)
    missing = np.zeros(n_rows)
    if codec.missing_:
        last = by_code[:, -1]
        missing = last if last.ndim == 1 else last.sum(axis=1)
        by_code = by_code[:, :-1]
    if isinstance(codec, CategoryCodec):
        return codec.spread(by_code), missing
    if not isinstance(codec, QuantileCodec):
        raise ValueError(
            f"{type(codec).__name__} gives no distribution in closed form, but draws. Use a "
            "CategoryCodec or, for numbers, a QuantileCodec"
        )
    if by_code.ndim == 2:
        return by_code, missing
    bins = codec.bin_of_codes()
    present = np.zeros((n_rows, int(bins.max()) + 1))
    for code in range(by_code.shape[1]):
        for fine in range(by_code.shape[2]):
            present[:, bins[code, fine]] += by_code[:, code, fine]
    return present, missing


def labels(codec: Codec, column: Any) -> pd.Index:
    """Return the label of each outcome: a category, or the interval of a bin."""
    if isinstance(codec, CategoryCodec):
        return pd.Index(list(column.write(codec.outcomes())), dtype=object)
    assert isinstance(codec, QuantileCodec)
    low, high = (_as_ends(column, ends) for ends in codec.bounds_of_bins())
    return pd.IntervalIndex.from_arrays(low, high, closed="both")


def _as_ends(column: Any, plain: np.ndarray) -> Any:
    """Return numbers or times in a dtype that intervals can have."""
    if column.kind == "number":
        return plain.astype("int64") if column.whole else plain
    times = column.write(plain).tolist()
    return pd.to_timedelta(times) if column.kind == "timedelta" else pd.to_datetime(times)


@dataclass
class Atoms:
    """Single numbers that have a probability of their own, since they follow from other columns.

    Attributes
    ----------
    numbers, mass : ndarray of shape (n_rows, n_atoms)
    """

    numbers: np.ndarray
    mass: np.ndarray


def with_atoms(
    present: np.ndarray, left: np.ndarray, follow: list[tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, Atoms]:
    """Return distributions of numbers that may follow from other columns.

    Parameters
    ----------
    present : ndarray of shape (n_rows, n_bins)
        The probability of each bin.
    left : ndarray of shape (n_rows, n_bins)
        The same, given that the number does not follow from another one.
    follow : list of tuple (numbers, probability), both of shape (n_rows,)
        What it may follow from; NaN where this is not known. If a row has a number twice, the
        larger probability counts.

    Returns
    -------
    present : ndarray of shape (n_rows, n_bins)
        Without the atoms.
    atoms : Atoms
    """
    numbers = np.stack([one for one, _ in follow], axis=1)
    mass = np.stack([probability for _, probability in follow], axis=1)
    mass[np.isnan(numbers)] = 0.0
    numbers = np.where(np.isnan(numbers), 0.0, numbers)
    for k, j in itertools.combinations(range(len(follow)), 2):
        same = numbers[:, j] == numbers[:, k]
        mass[same, k], mass[same, j] = np.maximum(mass[same, k], mass[same, j]), 0.0
    total = mass.sum(axis=1, keepdims=True)
    mass /= np.maximum(total, 1.0)
    rest = np.where(total > 0, np.maximum(1 - total, 0.0) * left, present)
    return rest, Atoms(numbers, mass)


def mean(codec: QuantileCodec, present: np.ndarray, atoms: Atoms | None = None) -> np.ndarray:
    """Return the mean of each row's distribution over bins and atoms, (n_rows,)."""
    share, _ = codec.shares()
    middle = share * (codec.low_ / 2 + codec.high_ / 2)
    total = present @ np.bincount(codec.bins_, middle)
    mass = present.sum(axis=1)
    if atoms is not None:
        total += (atoms.numbers * atoms.mass).sum(axis=1)
        mass += atoms.mass.sum(axis=1)
    return total / mass


def quantile(
    codec: QuantileCodec, present: np.ndarray, q: np.ndarray, atoms: Atoms | None = None
) -> np.ndarray:
    """Return quantiles of each row's distribution over bins and atoms, (n_rows, n_quantiles)."""
    cells, start, stop = codec.pieces()
    share = codec.shares()[0][cells] * (stop - start)
    mass = present[:, codec.bins_[cells]] * share
    until = np.cumsum(mass, axis=1)
    has_mass = until > 0
    row = np.arange(len(present))
    if atoms is None:
        atoms = Atoms(*np.empty((2, len(present), 0)))
    low, high = codec.low_[cells], codec.high_[cells]
    ends = (low * (1 - place) + high * place for place in (start, stop))
    below = _below(atoms, mass, *ends)
    total = until[:, -1] + atoms.mass.sum(axis=1)
    out = np.empty((len(present), len(q)))
    for k, level in enumerate(q):
        target = level * total
        over = below + atoms.mass < (target - 1e-12 * total)[:, None]
        left = np.minimum(target - (atoms.mass * over).sum(axis=1), until[:, -1])
        # The lowest quantile is in the first piece that has any mass.
        piece = np.argmax(has_mass & (until >= left[:, None]), axis=1)
        own = mass[row, piece]
        within = np.full(len(own), 0.5)
        np.divide(left - (until[row, piece] - own), own, out=within, where=own > 0)
        within = np.clip(within, 0, 1)
        cell = cells[piece]
        out[:, k] = codec.numbers_at(cell, start[piece] + within * (stop - start)[piece])
        is_reached = (below < target[:, None]) | (below == 0)  # the lowest quantile may be an atom
        rows, atom = np.nonzero(is_reached & ~over & (atoms.mass > 0))
        out[rows, k] = atoms.numbers[rows, atom]
    return out


def _below(atoms: Atoms, mass: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return the mass of what is below each atom, (n_rows, n_atoms).

    Parameters
    ----------
    atoms : Atoms
    mass : ndarray of shape (n_rows, n_pieces)
    low, high : ndarray of shape (n_pieces,)
        The ends of the pieces.
    """
    below = np.zeros_like(atoms.mass)
    length = np.where(high / 2 > low / 2, high / 2 - low / 2, 1.0)
    for k, numbers in enumerate(atoms.numbers.T):
        at = numbers[:, None]
        with np.errstate(over="ignore"):  # by far beyond a short piece
            part = np.where(high > low, np.clip((at / 2 - low / 2) / length, 0, 1), at > low)
        below[:, k] = (part * mass).sum(axis=1) + (atoms.mass * (atoms.numbers < at)).sum(axis=1)
    return below
