"""Cutting a sorted column of numbers into cells, each of which rests on several rows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sktvae._encoding.summary import ColumnSummary
from sktvae._table.decimals import DecimalGrid

# A difference counts if it is larger than this many of its standard deviations.
_SIGNIFICANT = 3.0


@dataclass
class Cells:
    """Single values and stretches of numbers, in bins.

    A number that is kept exactly belongs to the cell of that value; any other number, to the part
    of the line that it lies in.

    Attributes
    ----------
    low, high : ndarray of shape (n_cells,)
        The numbers that a cell stands for. In a cell that holds one value, both are that value;
        otherwise, if there is a decimal grid, both lie half a unit off it.
    bins : int ndarray of shape (n_cells,)
        The bin that each cell belongs to, not decreasing.
    edges : ndarray of shape (n_parts - 1,)
        Where the line is cut into parts; an edge belongs to the part above it.
    parts : int ndarray of shape (n_parts,)
        The cell of each part.
    exact : ndarray of shape (n_exact,)
        The values that are kept exactly, in ascending order.
    exact_cells : int ndarray of shape (n_exact,)
        Their cells.
    """

    low: np.ndarray
    high: np.ndarray
    bins: np.ndarray
    edges: np.ndarray
    parts: np.ndarray
    exact: np.ndarray
    exact_cells: np.ndarray

    def part_of(self, x: np.ndarray) -> np.ndarray:
        """Return the part of the line that each number lies in."""
        return np.searchsorted(self.edges, x, side="right")

    def find(self, x: np.ndarray) -> np.ndarray:
        """Return the cell of each number."""
        cell = self.parts[self.part_of(x)]
        is_exact, exact_cell = self.exactly(x)
        return np.where(is_exact, exact_cell, cell)

    def exactly(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return whether each number is kept exactly, and the cell of that value."""
        if not len(self.exact):
            return np.zeros(len(x), dtype=bool), np.zeros(len(x), dtype=int)
        at = np.minimum(np.searchsorted(self.exact, x), len(self.exact) - 1)
        return self.exact[at] == x, self.exact_cells[at]


@dataclass
class _Piece:
    """A cell in the making: a stretch of values that are not kept exactly, or one that is."""

    bin: int
    values: np.ndarray
    rows: np.ndarray
    mass: np.ndarray  # of each value; what `rows` are a sample of, if they are one
    is_exact: bool
    low: float = np.nan  # NaN: not yet known
    high: float = np.nan

    def mean_and_spread(self) -> tuple[float, float]:
        share = self.mass / self.mass.sum()
        mean = float(share @ self.values)
        deviation = self.values - mean
        if np.isinf(deviation).any():  # what is further apart than a float can hold
            return mean, np.finfo(float).max
        largest = np.abs(deviation).max() or 1.0  # so that no square is too large or too small
        return mean, float(largest * np.sqrt(share @ np.square(deviation / largest)))


def fewest_rows(min_samples: int) -> int:
    """Return how many rows a cell needs, so that `min_samples` are left once edges are averaged."""
    return max(2 * min_samples - 2, min_samples)


@np.errstate(over="ignore")  # ends beyond the largest float are put back to it
def cut_into_cells(
    summary: ColumnSummary, bins: np.ndarray, grid: DecimalGrid, min_samples: int
) -> Cells:
    """Cut a column into cells.

    A value is kept exactly if at least `min_samples` rows have it and it is more frequent than
    chance would make it among its neighbours in the bin. The other values of a bin make stretches
    inside which numbers are taken to be equally likely; a stretch is halved as long as its halves
    differ significantly in density and rest on enough rows. The edge between two stretches is the
    mean of the `min_samples` values around it. Where there is no stretch beyond a stretch, it ends
    as far from its mean as its inner edge does, but not beyond zero if no value is.

    Parameters
    ----------
    summary : ColumnSummary
    bins : int ndarray of shape (n_values,)
        The bin of each value: 0, 1, ..., not decreasing.
    grid : DecimalGrid
    min_samples : int
        The least number of rows that a value or an edge rests on. With 1, the smallest and the
        largest number are kept.

    Returns
    -------
    cells : Cells
    """
    pieces, others = [], []
    for b, run in enumerate(runs(bins)):
        own, beside = _pieces_of_a_bin(b, summary, run, grid, min_samples)
        pieces += own
        others += beside
    _place_edges(pieces, grid, min_samples)
    _place_ends(pieces, grid, min_samples)
    pieces = [piece for piece in pieces if piece.is_exact or piece.low < piece.high]
    edges = [_edge(a, b, grid) for a, b in pairwise(pieces)]
    for piece in others:  # an edge may have put it into the next bin
        piece.bin = pieces[int(np.searchsorted(edges, piece.low, side="right"))].bin
    every = sorted([*pieces, *others], key=lambda piece: (piece.bin, piece.low, piece.high))
    place = {id(piece): i for i, piece in enumerate(every)}
    exact = sorted((p for p in every if p.is_exact), key=lambda piece: piece.low)
    return Cells(
        low=np.array([piece.low for piece in every]),
        high=np.array([piece.high for piece in every]),
        bins=np.array([piece.bin for piece in every]),
        edges=np.array(edges, dtype=float),
        parts=np.array([place[id(piece)] for piece in pieces]),
        exact=np.array([piece.low for piece in exact], dtype=float),
        exact_cells=np.array([place[id(piece)] for piece in exact], dtype=int),
    )


def _pieces_of_a_bin(
    b: int, summary: ColumnSummary, run: slice, grid: DecimalGrid, min_samples: int
) -> tuple[list[_Piece], list[_Piece]]:
    """Return the pieces that divide the range of a bin, and the exact values on top of them."""
    own, own_rows, own_mass = summary.values[run], summary.rows[run], summary.mass[run]
    kept = _stands_out(own, own_rows, own_mass, grid, min_samples)
    exact = [
        _Piece(b, own[[i]], own_rows[[i]], own_mass[[i]], True, own[i], own[i])
        for i in np.flatnonzero(kept)
    ]
    rest, rest_rows, rest_mass = own[~kept], own_rows[~kept], own_mass[~kept]
    if exact and rest_rows.sum() < fewest_rows(min_samples):
        return exact, []  # the few other values are encoded as the nearest of these
    stretches = [
        _Piece(b, rest[part], rest_rows[part], rest_mass[part], False)
        for part in _halved(rest, rest_rows, fewest_rows(min_samples), rest_mass)
    ]
    return stretches, exact


def _stands_out(
    values: np.ndarray, rows: np.ndarray, mass: np.ndarray, grid: DecimalGrid, min_samples: int
) -> np.ndarray:
    """Return which values of a bin are more frequent than chance would make them."""
    expected = np.zeros(len(rows))
    if grid.decimals is not None:
        n_others = np.rint((values[-1] - values[0]) / grid.step)
        expected = (mass.sum() - mass) / max(n_others, 1) * _share_sampled(rows, mass)
    # Twice the root of a Poisson count has a standard deviation of about 1, however small it is.
    significant = 2 * (np.sqrt(rows) - np.sqrt(expected)) > _SIGNIFICANT
    return (rows >= max(min_samples, 2)) & (significant | (expected == 0))


def _share_sampled(rows: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """Return the share of the rows of each value that was looked at: 1 without sampling."""
    return np.divide(rows, mass, out=np.ones(len(rows)), where=mass > 0)


def _halved(
    values: np.ndarray, rows: np.ndarray, least: int, mass: np.ndarray | None = None
) -> list[slice]:
    """Cut values in two, and again, where the halves differ significantly in density."""
    mass = rows if mass is None else mass
    # The number of rows that would have the variance of a mass is its square, divided by this.
    squares = mass / _share_sampled(rows, mass)
    (rows_to, total, squares_to), (rows_before, before, squares_before) = zip(
        *((np.cumsum(x), np.cumsum(x) - x) for x in (rows, mass, squares)), strict=True
    )

    def cut(a: int, b: int) -> list[slice]:
        n = total[b - 1] - before[a]
        n_rows = rows_to[b - 1] - rows_before[a]
        middle = a + int(np.searchsorted(total[a:b], before[a] + n / 2, side="left")) + 1
        if n_rows < 2 * least or middle >= b:
            return [slice(a, b)]
        rows_below = rows_to[middle - 1] - rows_before[a]
        if rows_below < least or n_rows - rows_below < least:
            return [slice(a, b)]
        below = total[middle - 1] - before[a]
        edge = values[middle - 1] / 2 + values[middle] / 2
        length = values[b - 1] / 2 - values[a] / 2
        if not length:  # a half of the smallest float is 0
            return [slice(a, b)]
        place = (edge / 2 - values[a] / 2) / length
        # Were all values equally likely, the place would have a beta distribution.
        share = below / n
        effective = n * (n / (squares_to[b - 1] - squares_before[a]))
        deviation = np.sqrt(share * (1 - share) / (effective + 1))
        if abs(place - share) <= _SIGNIFICANT * deviation:
            return [slice(a, b)]
        return cut(a, middle) + cut(middle, b)

    return [part for a, b in _sampled_alike(rows, mass, least) for part in cut(a, b)]


def _sampled_alike(rows: np.ndarray, mass: np.ndarray, least: int) -> list[tuple[int, int]]:
    """Return stretches of values of which all rows are known, or a sample, but not both.

    A stretch with fewer than `least` rows belongs to the one before it.
    """
    if not len(rows):
        return []
    ends: list[tuple[int, int]] = []
    for run in runs(rows == mass):
        if ends and min(rows[run].sum(), rows[slice(*ends[-1])].sum()) < least:
            ends[-1] = ends[-1][0], run.stop
        else:
            ends.append((run.start, run.stop))
    return ends


def _place_edges(pieces: list[_Piece], grid: DecimalGrid, min_samples: int) -> None:
    """Put an edge between each two adjacent stretches: the mean of the values around it."""
    n_below = max(min_samples // 2, 1)
    n_above = max(min_samples - n_below, 1)
    lowest = -np.inf
    for a, b in pairwise(pieces):
        if a.is_exact or b.is_exact:
            continue
        below = np.repeat(a.values[-n_below:], np.minimum(a.rows[-n_below:], n_below).astype(int))
        above = np.repeat(b.values[:n_above], np.minimum(b.rows[:n_above], n_above).astype(int))
        around = np.concatenate([below[-n_below:], above[:n_above]])
        edge = float((around / len(around)).sum())
        if grid.decimals is not None:
            edge = _between(edge, grid)
        elif min_samples == 1 and edge <= a.values[-1]:
            edge = float(b.values[0])  # neighbouring floats
        a.high = b.low = lowest = max(edge, lowest)


def _place_ends(pieces: list[_Piece], grid: DecimalGrid, min_samples: int) -> None:
    """Choose the ends of stretches that have no stretch beyond them."""
    half = 0.0 if grid.decimals is None else grid.step / 2
    largest = np.finfo(float).max
    for i, piece in enumerate(pieces):
        if piece.is_exact or not (np.isnan(piece.low) or np.isnan(piece.high)):
            continue
        low, high = piece.low, piece.high
        if len(piece.values) == 1 and np.isnan(low) and np.isnan(high):
            piece.low = piece.high = float(piece.values[0])
            piece.is_exact = True
            continue
        floor, ceiling = _limits(pieces, i, half)
        mean, spread = piece.mean_and_spread()
        if min_samples == 1:
            low = piece.values[0] - half if np.isnan(low) else low
            high = piece.values[-1] + half if np.isnan(high) else high
        elif np.isnan(low) and np.isnan(high):
            low, high = mean - np.sqrt(3) * spread, mean + np.sqrt(3) * spread
        elif np.isnan(low):
            low = mean - (high - mean)
        else:
            high = mean + (mean - low)
        if grid.decimals is not None:
            low = -_between(-low, grid) if np.isnan(piece.low) and min_samples > 1 else low
            high = _between(high, grid) if np.isnan(piece.high) and min_samples > 1 else high
        low, high = max(low, floor, -largest), min(high, ceiling, largest)
        if half and low >= high:  # at least one number of the grid
            low, high = (low, low + 2 * half) if np.isnan(piece.high) else (high - 2 * half, high)
        piece.low, piece.high, piece.is_exact = low, high, low == high


def _limits(pieces: list[_Piece], i: int, half: float) -> tuple[float, float]:
    """Return how far a stretch may reach.

    Not beyond an exact value that is next to it, nor beyond zero if none of its values is.
    """
    piece, floor, ceiling = pieces[i], -np.inf, np.inf
    if piece.values[0] >= 0:
        floor = half if piece.values[0] > 0 else -half
    if piece.values[-1] <= 0:
        ceiling = -half if piece.values[-1] < 0 else half
    if i > 0 and np.isnan(piece.low):
        floor = max(floor, _beyond(pieces[i - 1].high, half, np.inf))
    if i + 1 < len(pieces) and np.isnan(piece.high):
        ceiling = min(ceiling, _beyond(pieces[i + 1].low, half, -np.inf))
    return floor, ceiling


def _edge(a: _Piece, b: _Piece, grid: DecimalGrid) -> float:
    """Return where the numbers that belong to a piece end and those of the next one begin."""
    half = 0.0 if grid.decimals is None else grid.step / 2
    if a.is_exact and b.is_exact:
        middle = a.low / 2 + b.low / 2
        if grid.decimals is not None:
            return _between(middle, grid)
        return middle if middle > a.low else b.low
    if a.is_exact:
        return _beyond(a.low, half, np.inf)
    if b.is_exact:
        return b.low - half
    return b.low


def _beyond(value: float, half: float, direction: float) -> float:
    """Return the nearest edge beyond a value: half a unit away, or the next float."""
    if half:
        return value + half if direction > 0 else value - half
    return float(np.nextafter(value, direction)) if direction > 0 else value


def _between(x: float, grid: DecimalGrid) -> float:
    """Return the middle between the two neighbours on the grid that a number lies between."""
    between = float(np.round((np.floor(x / grid.step) + 0.5) * grid.step, (grid.decimals or 0) + 1))
    return between if np.isfinite(between) else x  # as numbers that are so large are rounded


def runs(labels: np.ndarray) -> list[slice]:
    """Return slices over the runs of equal labels."""
    cut = np.flatnonzero(np.diff(labels)) + 1
    return [slice(a, b) for a, b in zip([0, *cut], [*cut, len(labels)], strict=True)]
