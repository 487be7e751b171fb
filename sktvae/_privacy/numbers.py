"""A private summary of a column of numbers, from four noisy histograms.

The first one, of magnitudes, finds the powers of two between which the numbers lie, and their
decimals; the second one finds frequent values; the third one cuts where there are numbers into
cells of about equal mass; and the fourth one cuts these again, finer where there are more numbers.
Each is a function of the noisy results of those before it. Declared bounds replace the first.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from sktvae._encoding.cells import runs
from sktvae._encoding.summary import ColumnSummary
from sktvae._privacy.estimates import Estimate, denoised, on_simplex
from sktvae._privacy.magnitudes import (
    MOST_DECIMALS,
    N_DECIMALS,
    Magnitudes,
    count_fineness,
    decimals_of,
    on_grid,
)
from sktvae._privacy.mechanisms import Histograms

# Values of continuous columns that may be frequent have at most as many decimals as this.
_DECIMALS_OF_ATOMS = 4
# The number of cells of the third histogram, and of the fourth one at most.
_N_CELLS, _MOST_CELLS = 512, 512
# Octaves that are looked at beyond those in which numbers were found.
_BEYOND = 2
# A cell is empty if its count is not so many of its standard deviations above zero: inside the
# octaves in which numbers were found, and beyond them.
_SIGNIFICANT, _SIGNIFICANT_BEYOND = 3.0, 4.0
# A summary stands for at most as many rows as this.
_MOST_ROWS = 20_000


@dataclass(frozen=True)
class Known:
    """What is known of a column of numbers without looking at it.

    Attributes
    ----------
    name : hashable
    low, high : float
        Limits of the dtype or, if they are declared, of what is kept of the numbers.
    is_bounded : bool
        Whether the limits were declared.
    decimals : int or None
        Of every number; None if they have to be found.
    can_be_missing : bool
    has_unit : bool
        Whether they count units of time, which have to be found.
    """

    name: Hashable
    low: float
    high: float
    is_bounded: bool
    decimals: int | None
    can_be_missing: bool
    has_unit: bool = False

    @property
    def is_short(self) -> bool:
        """Whether there are so few possible values that each of them can be counted."""
        few = self.decimals is not None and self.n_values <= _MOST_CELLS
        return few and not self.has_unit

    @property
    def n_values(self) -> float:
        return (self.high - self.low) * 10.0 ** (self.decimals or 0) + 1

    def plan(self) -> list[tuple[str, bool]]:
        """Return what will be counted, and whether by unknown keys."""
        if self.is_short:
            return [("values", False)]
        first = [("magnitudes", False)]
        if self.is_bounded:
            is_found = self.decimals is not None and not self.has_unit
            first = [] if is_found else [("decimals", False)]
        return [*first, ("frequent values", True), ("cells", False), ("finer cells", False)]


def summarise_numbers(
    histograms: Histograms, known: Known, values: np.ndarray, found: Magnitudes | None, scale: float
) -> tuple[ColumnSummary, bool]:
    """Return the private summary of a column of numbers, and whether something was learned.

    Parameters
    ----------
    histograms : Histograms
    known : Known
    values : ndarray of shape (n_samples,)
        NaN where missing.
    found : Magnitudes or None
        None if the column has bounds.
    scale : float
        What the unit of the magnitudes is in that of the values.
    """
    values = np.clip(values, known.low, known.high)
    if known.is_short:
        return _summarise_short(histograms, known, values)
    decimals = known.decimals
    if decimals is None:
        if found is None:
            fineness = count_fineness(
                histograms, known.name, decimals_of(values), np.isnan(values), N_DECIMALS
            )
        else:
            fineness = found.fineness
        decimals = fineness if fineness <= MOST_DECIMALS else None
    line = _Line(histograms, known, decimals, scale)
    line.find_atoms(values)
    if found is None:
        segments = [(known.low, known.high + line.step, 1.0)]
    else:
        segments = _segments(found.octaves, scale, known.low, known.high + line.step)
    line.cut(segments, values, found)
    line.cut_again(values, found)
    summary = line.summary()
    learned = line.mass.any() if found is None else found.octaves or len(line.atoms)
    return summary, bool(learned)


def _summarise_short(
    histograms: Histograms, known: Known, values: np.ndarray
) -> tuple[ColumnSummary, bool]:
    """Summarise a column of few possible values, each of which is counted."""
    step, n = 10.0 ** -(known.decimals or 0), round(known.n_values)
    numbers = np.round(known.low + step * np.arange(n), known.decimals or 0)
    absent = np.isnan(values)
    nearest = np.rint((np.where(absent, known.low, values) - known.low) / step).astype(int)
    noisy = histograms.of_bins(known.name, "values", np.where(absent, n, nearest), n + 1)
    counts = denoised(noisy[:n], histograms.sigma) if n > 16 else noisy[:n]
    counts = on_simplex(counts, noisy[:n].sum())
    missing = _missing(noisy[n], histograms.sigma, known)
    if not counts.any():
        counts = np.ones(n)
    return _summary(numbers, counts, missing, np.zeros(n, dtype=bool)), True


def _missing(noisy: float, deviation: float, known: Known) -> float:
    """Return the number of missing values; none if they may be noise."""
    return float(noisy) if known.can_be_missing and noisy > 3 * deviation else 0.0


def _summary(
    values: np.ndarray, counts: np.ndarray, missing: float, is_atom: np.ndarray
) -> ColumnSummary:
    """Return a summary in which frequent values rest on several rows, and others on about one."""
    kept = counts > 0
    values, counts, is_atom = values[kept], counts[kept], is_atom[kept]
    values, at = np.unique(values + 0.0, return_inverse=True)  # no -0.0
    counts = np.bincount(at, counts, len(values))
    rows = np.maximum(np.rint(counts * min(1.0, _MOST_ROWS / counts.sum())), 1.0)
    atoms = np.bincount(at, is_atom, len(values)) > 0
    rows[atoms] = np.maximum(rows[atoms], 3.0)
    return ColumnSummary(values, counts, missing, rows)


def _segments(
    octaves: dict[tuple[int, int], float], scale: float, lowest: float, highest: float
) -> list[tuple[float, float, float]]:
    """Return adjacent segments of the line and the share of the numbers in each, ascending."""
    total = sum(octaves.values())
    sides: dict[int, list[tuple[float, float, float]]] = {}
    for sign in (-1, 1):
        own = [octave for s, octave in octaves if s == sign]
        if own:
            sides[sign] = [
                (scale * 2.0**o, scale * 2.0 ** (o + 1), octaves.get((sign, o), 0.0) / total)
                for o in range(min(own) - _BEYOND, max(own) + _BEYOND + 1)
            ]
    below = [(-high, -low, share) for low, high, share in reversed(sides.get(-1, []))]
    above = sides.get(1, [])
    start = below[-1][1] if below else 0.0
    stop = above[0][0] if above else 0.0
    middle = [(start, stop, 0.0)] if start < stop else []
    cut = [
        (max(low, lowest), min(high, highest), share)
        for low, high, share in [*below, *middle, *above]
    ]
    return [segment for segment in cut if segment[0] < segment[1]]


class _Line:
    """The line of numbers, cut into cells and single values, with noisy counts.

    Attributes
    ----------
    decimals : int or None
    atoms : ndarray of shape (n_atoms,)
        Frequent values, in ascending order, which count by themselves.
    edges : ndarray of shape (n_cells + 1,)
        Where the cells begin and end; if there is a grid of decimals, halfway between its numbers.
    mass : ndarray of shape (n_cells,)
        How many rows the cells have, with noise.
    atom_mass : ndarray of shape (n_atoms,)
    """

    def __init__(self, histograms: Histograms, known: Known, decimals: int | None, scale: float):
        self.histograms, self.known, self.decimals, self.scale = histograms, known, decimals, scale
        self.atoms, self.edges = np.empty(0), np.empty(0)
        self.mass: np.ndarray = np.empty(0)
        self.atom_mass: np.ndarray = np.empty(0)
        self._missing: list[float] = []

    @property
    def step(self) -> float:
        """The distance between neighbours on the grid; 0.0 if there is none."""
        return 0.0 if self.decimals is None else 10.0**-self.decimals

    def find_atoms(self, values: np.ndarray) -> None:
        """Find frequent values; they are on the grid, or have few decimals if there is none."""
        decimals = _DECIMALS_OF_ATOMS if self.decimals is None else self.decimals
        absent = np.isnan(values)
        may_be = on_grid(values, decimals) & ~absent
        keys = np.where(may_be, values + 0.0, np.nan)  # 0.0 in place of -0.0
        keys = np.where(np.isnan(keys), np.nan, keys).view(np.int64)  # one kind of NaN
        found, counts, _ = self.histograms.of_keys(self.known.name, "frequent values", keys)
        atoms = found.view(np.float64)
        is_atom = ~np.isnan(atoms)
        order = np.argsort(atoms[is_atom])
        self.atoms, self._frequent = atoms[is_atom][order], counts[is_atom][order]

    def cut(
        self,
        segments: list[tuple[float, float, float]],
        values: np.ndarray,
        found: Magnitudes | None,
    ) -> None:
        """Cut segments into cells of about equal mass, and count."""
        ends = [segments[0][0]] if segments else [0.0]
        for low, high, share in segments:
            n = max(int(2 ** np.round(np.log2(max(share * _N_CELLS, 1)))), 1)
            ends += np.linspace(low, high, self._at_most(low, high, n) + 1)[1:].tolist()
        if self.decimals is not None and np.abs(ends).max() > 2.0**51 * self.step:
            self.decimals = None  # a float cannot hold a half of the step
        self.edges = self._on_grid(np.array(ends))
        self._segments = segments
        starts = self._on_grid(np.array([low for low, *_ in segments] or [0.0]))
        self._starts = np.searchsorted(self.edges, starts)
        self._counts, self._atom_counts = self._count("cells", values)
        self.mass = np.maximum(self._smooth(found), 0.0)

    def _smooth(self, found: Magnitudes | None) -> np.ndarray:
        """Return the counts without what may be noise, segment by segment."""
        estimate = Estimate(len(self._counts) + len(self.atoms))
        each = np.eye(len(self._counts) + len(self.atoms))
        counts = np.append(self._counts, self._atom_counts)
        estimate.add(each, counts, self.histograms.sigma**2)
        if found is not None:
            self._add_octaves(estimate, found)
        counts = estimate.solve()[0][: len(self._counts)]
        inner = self._starts[(self._starts > 0) & (self._starts < len(counts))]
        parts = np.split(counts, np.unique(inner))
        return np.concatenate([denoised(part, self.histograms.sigma) for part in parts])

    def cut_again(self, values: np.ndarray, found: Magnitudes | None) -> None:
        """Cut by mass, as finely as the noise allows, count again, and reconcile all counts."""
        sigma, n = self.histograms.sigma, self.mass.sum()
        n_cells = np.clip(0.5 * (n / sigma) ** (2 / 3), 1, _MOST_CELLS)
        cells = self._cells_of(n / n_cells)
        parts = [
            self._on_grid(np.linspace(self.edges[a], self.edges[b], k + 1)) for a, b, k in cells
        ]
        self.edges = np.concatenate([parts[0][:1], *(part[1:] for part in parts)])
        counts, atom_counts = self._count("finer cells", values)
        n_cells, n_atoms = len(counts), len(self.atoms)
        estimate = Estimate(n_cells + n_atoms)
        each = np.eye(n_cells + n_atoms)
        estimate.add(each, np.append(counts, atom_counts), sigma**2)
        estimate.add(each[n_cells:], self._atom_counts, sigma**2)
        estimate.add(each[n_cells:], self._frequent, sigma**2)
        start = 0
        for (a, b, _), part in zip(cells, parts, strict=True):
            stop = start + len(part) - 1
            sums = each[start:stop].sum(axis=0, keepdims=True)
            estimate.add(sums, self._counts[a:b].sum(), (b - a) * sigma**2)
            start = stop
        before, covariance = estimate.solve()
        present, stretches = self._present(before[:n_cells], covariance[:n_cells, :n_cells])
        if found is not None:
            self._add_octaves(estimate, found)
        counts, _ = estimate.solve()
        self.atom_mass, counts = np.maximum(counts[n_cells:], 0.0), counts[:n_cells]
        total, widths = counts.sum(), np.diff(self.edges)
        for own in stretches:
            counts[own] = counts[own].sum() * widths[own] / widths[own].sum()
        self.mass = np.where(present, np.maximum(counts, 0.0), 0.0)
        self.mass *= max(total, 0.0) / max(self.mass.sum(), 1e-300)

    def _present(
        self, counts: np.ndarray, covariance: np.ndarray
    ) -> tuple[np.ndarray, list[slice]]:
        """Return which cells are not empty, and stretches of cells that only together are not."""
        middle = self.edges[:-1] / 2 + self.edges[1:] / 2
        segment = np.searchsorted([low for low, *_ in self._segments[1:]], middle, side="right")
        shares = np.array([share for *_, share in self._segments] or [1.0])
        least = np.where(shares[segment] > 0, _SIGNIFICANT, _SIGNIFICANT_BEYOND)
        present = counts >= least * np.sqrt(np.diag(covariance))
        stretches = []
        for own in runs(2 * segment + present):
            deviation = np.sqrt(covariance[own, own].sum())
            if not present[own.start] and counts[own].sum() >= least[own.start] * deviation:
                stretches.append(own)
        for own in stretches:
            present[own] = True
        return present, stretches

    def _add_octaves(self, estimate: Estimate, found: Magnitudes) -> None:
        """Add what was found of magnitudes to an estimate of cells and atoms."""
        numbers = np.append(self.edges[:-1] / 2 + self.edges[1:] / 2, self.atoms)
        for low, high, _ in self._segments[1:-1]:
            count = found.of(low / self.scale, high / self.scale)
            if count is not None:
                # Minus a power of two belongs to the octave below it, and the other one above.
                is_in = (
                    (low <= numbers) & (numbers < high)
                    if low > 0
                    else ((low < numbers) & (numbers <= high))
                )
                estimate.add(is_in[None].astype(float), count, found.variance)

    def _cells_of(self, mass: float) -> list[tuple[int, int, int]]:
        """Return runs of cells of about this mass: first, last + 1, the number of parts."""
        with np.errstate(over="ignore"):
            density = np.minimum(self.mass / np.diff(self.edges), 1e300)
        out: list[tuple[int, int, int]] = []
        start = 0
        for i, own in enumerate(self.mass):
            if start < i and (
                i in self._starts
                or self.mass[start:i].sum() + own / 2 > mass
                or not density[i] / 3 <= density[start:i].mean() <= 3 * density[i]
            ):
                out.append((start, i, 1))
                start = i
            n_parts = int(np.round(own / mass)) if mass > 0 else 1
            if n_parts > 1:
                if start < i:
                    out.append((start, i, 1))
                n_parts = self._at_most(self.edges[i], self.edges[i + 1], n_parts)
                out.append((i, i + 1, n_parts))
                start = i + 1
        if start < len(self.mass):
            out.append((start, len(self.mass), 1))
        return out

    def _at_most(self, low: float, high: float, n: int) -> int:
        """Return the number of parts of a stretch: no more than it has numbers."""
        return n if not self.step else int(np.clip(np.rint((high - low) / self.step), 1, n))

    def _on_grid(self, edges: np.ndarray) -> np.ndarray:
        """Return edges halfway between numbers of the grid, or as they are without one."""
        if self.decimals is None:
            edges = np.unique(edges)
            one = max(1.0, 4 * np.spacing(np.abs(edges[0])))
            return edges if len(edges) > 1 else edges[0] + np.array([0.0, one])
        whole = np.unique(np.ceil(np.round(edges / self.step - 1e-6, 3)))
        whole = whole if len(whole) > 1 else whole[0] + np.array([0.0, 1.0])
        return (whole - 0.5) * self.step

    def _count(self, what: str, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the noisy counts of cells and of atoms; that of missing values is kept."""
        absent, n = np.isnan(values), len(self.edges) - 1
        x = np.where(absent, 0.0, values)
        bins = np.searchsorted(self.edges[1:-1], x, side="right")
        if len(self.atoms):
            at = np.minimum(np.searchsorted(self.atoms, x), len(self.atoms) - 1)
            bins = np.where(self.atoms[at] == x, n + at, bins)
        n_bins = n + len(self.atoms)
        noisy = self.histograms.of_bins(
            self.known.name, what, np.where(absent, n_bins, bins), n_bins + 1
        )
        self._missing.append(float(noisy[n_bins]))
        return noisy[:n], noisy[n:n_bins]

    def summary(self) -> ColumnSummary:
        """Return the summary: each cell spread over numbers in it, and the frequent values."""
        total = max(self.mass.sum() + self.atom_mass.sum(), 1.0)
        values, counts = [self.atoms], [self.atom_mass]
        curves = self._curves()
        for i in np.flatnonzero(self.mass > 0):
            rows = self.mass[i] * min(1.0, _MOST_ROWS / total)
            numbers, shares = self._spread(self.edges[i], self.edges[i + 1], rows, curves[i])
            values.append(numbers)
            counts.append(self.mass[i] * shares)
        is_atom = np.arange(sum(map(len, values))) < len(self.atoms)
        missing = _missing(
            float(np.mean(self._missing)), self.histograms.sigma / np.sqrt(2), self.known
        )
        every, mass = np.concatenate(values), np.concatenate(counts)
        if not (mass > 0).any():  # nothing was found
            every, mass, is_atom = self._anything(), np.ones(1), np.ones(1, dtype=bool)
        every = np.clip(every, self.known.low, self.known.high)
        return _summary(every, mass, missing, is_atom)

    def _anything(self) -> np.ndarray:
        """Return a number that the column may hold."""
        middle = self.edges[0] / 2 + self.edges[-1] / 2 if self.known.is_bounded else 0.0
        middle = np.round(middle, self.decimals or 0)
        return np.clip([middle], self.known.low, self.known.high)

    def _curves(self) -> np.ndarray:
        """Return the share of each cell's mass below 0, 1/16, ..., 1 of its length.

        The cumulative mass is interpolated by a monotone cubic (Fritsch and Butland 1984), so that
        a cell has more mass at the side on which its neighbour has more.
        """
        even = np.linspace(0, 1, 17)
        largest = np.abs(self.edges).max() or 1.0
        edges, total = self.edges / largest, np.append(0.0, np.cumsum(self.mass))
        if (np.diff(edges) <= 0).any():  # neighbouring floats
            return np.tile(even, (len(self.mass), 1))
        at = edges[:-1, None] + np.diff(edges)[:, None] * even
        with np.errstate(all="ignore"):
            curves = PchipInterpolator(edges, total)(at) - total[:-1, None]
            curves = np.clip(curves / self.mass[:, None], 0, 1)
        curves = np.where(np.isfinite(curves).all(axis=1, keepdims=True), curves, even)
        curves[:, 0], curves[:, -1] = 0.0, 1.0
        return np.maximum.accumulate(curves, axis=1)

    def _spread(
        self, low: float, high: float, rows: float, curve: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return about as many numbers as rows, between two edges, and the share of each."""
        n, even = max(round(rows), 1), np.linspace(0, 1, len(curve))
        # Not halfway: a decimal grid must not be found where there is none.
        place = np.interp((np.arange(n) + 0.4999371) / n, curve, even)
        numbers: np.ndarray = low + place * (high - low)
        if self.decimals is None:
            return numbers, np.full(n, 1 / n)
        n_points = int(min(np.rint((high - low) / self.step), 1e15))
        if n_points <= n:
            numbers = low + self.step * (np.arange(n_points) + 0.5)
            shares = np.diff(np.interp(np.arange(n_points + 1) / n_points, even, curve))
        else:
            numbers = np.clip(numbers, low + self.step / 2, high - self.step / 2)
            shares = np.full(n, 1 / n)
        return np.round(numbers, self.decimals), shares
