"""`QuantileCodec`: numbers <-> bins of equal mass."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from sklearn.utils._param_validation import Interval

from sktvae._encoding.cells import cut_into_cells, fewest_rows, runs
from sktvae._encoding.codec import EncodedColumn, NumberCodec
from sktvae._encoding.limits import Accepted, Limit, merged_ranges
from sktvae._encoding.summary import ColumnSummary
from sktvae._heads import Categorical, Uniform
from sktvae._table.decimals import DecimalGrid

# A column has as many bins as this, if each of them has a few rows.
_FEWEST_BINS = 40


class QuantileCodec(NumberCodec):
    """Encode numbers by bins of equal mass, coarse then fine; keep frequent values exactly.

    The sorted column is cut into `n_bins` coarse bins of equal mass, and each of those into
    `n_subbins` fine bins, as far as the table has rows for them. A value with as many rows as a bin
    is a bin of its own. Inside a bin, a value that stands out from its neighbours keeps its exact
    value and mass; between such values, numbers are drawn from stretches in which all are equally
    likely, on the column's decimals if it has them. A column with few bins has one head; others
    have a coarse and a fine one.

    Nothing that the codec keeps is the value of a few rows: a value that is kept exactly has at
    least `min_samples` rows, an edge is the mean of as many values, and the ends of the range are
    not the smallest and the largest number, but follow from the rows next to them. Values between
    exact ones that are fewer are encoded as the nearest of these.

    A number that `fit` did not see is encoded by its place among those that it saw; a number beyond
    the range is encoded as the nearest end. For `log_density`, a cell of `c` rows leaves one part
    in ``c + 1`` of its mass to the numbers that are encoded by it but never drawn, so that the
    likelihood is finite for every number in the range and still sums to one. A missing value, if
    there was none in `fit`, counts as one more row of the heaviest bin.

    Parameters
    ----------
    n_bins : int, default=32
        The number of coarse bins, at most.
    n_subbins : int, default=16
        The number of fine bins in each coarse bin, at most; 1 for coarse bins alone.
    min_samples_bin : int, default=50
        A bin has at least about this many rows, or a 40th of all rows if this is less, so that
        small tables are interpolated and not memorised.
    min_samples : int, default=3
        The least number of rows that a value or an edge must rest on to be kept. With 1 there is no
        such protection: the smallest and the largest number are kept, any number that repeats may
        be, and edges lie halfway between two rows.

    Attributes
    ----------
    low_, high_ : ndarray of shape (n_cells,)
        The ends of each cell; both are the same in a cell that holds a single value.
    mass_ : ndarray of shape (n_cells,)
        Share of the rows in each cell.
    bins_ : ndarray of shape (n_cells,)
        The bin, in ascending order, that each cell belongs to.
    decimals_ : int or None
        Decimals of the column; None if they are more than a float can hold.
    heads_ : tuple of Head
    missing_ : bool

    Examples
    --------
    >>> import numpy as np
    >>> from sktvae import QuantileCodec
    >>> x = np.append(np.zeros(50), np.arange(50) + 0.25)
    >>> codec = QuantileCodec().fit(x)
    >>> codec.inverse_transform(codec.transform(x[48:53]))
    array([0.  , 0.  , 0.25, 1.25, 2.25])
    """

    _parameter_constraints = {
        "n_bins": [Interval(Integral, 1, None, closed="left")],
        "n_subbins": [Interval(Integral, 1, None, closed="left")],
        "min_samples_bin": [Interval(Integral, 1, None, closed="left")],
        "min_samples": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_bins: int = 32,
        n_subbins: int = 16,
        min_samples_bin: int = 50,
        min_samples: int = 3,
    ):
        self.n_bins = n_bins
        self.n_subbins = n_subbins
        self.min_samples_bin = min_samples_bin
        self.min_samples = min_samples

    # Learning

    def _fit(self, summary: ColumnSummary) -> None:
        values, counts = summary.values, summary.counts
        self.missing_ = summary.missing > 0
        self._grid = DecimalGrid.of(values)
        coarse, labels = self._bins(counts)
        labels = merge_light(labels, summary.rows, fewest_rows(self.min_samples))
        cells = cut_into_cells(summary, labels, self._grid, self.min_samples)
        self.low_, self.high_, self._cells = cells.low, cells.high, cells
        self.mass_ = np.bincount(cells.find(values), counts, len(cells.low)) / counts.sum()
        labels_left, self.bins_ = np.unique(cells.bins, return_inverse=True)
        self._n_present = float(counts.sum())
        self._low, self._high = cells.low.min(), cells.high.max()
        beyond = (values < self._low) | (values > self._high)
        self._share_beyond = float(summary.mass[beyond].sum() / summary.mass.sum())
        first = np.flatnonzero(np.diff(labels, prepend=-1))
        n_fine = np.unique(coarse[first[labels_left]], return_counts=True)[1]
        n_bins = len(labels_left)
        if n_fine.max() == 1 or n_bins <= 4 * self.n_bins:
            n_fine = np.ones(n_bins, dtype=int)  # few enough for one head
        self._n_fine = n_fine
        self._first_bin = np.cumsum(n_fine) - n_fine
        self._declare_heads()
        self._reserve()

    def _bins(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the coarse bin of each value, and its bin counted over all coarse bins."""
        least = self._rows_per_bin(counts.sum())
        coarse = equal_mass_bins(counts, self.n_bins, least)
        fine = np.zeros(len(counts), dtype=int)
        if self.n_subbins > 1:
            for run in runs(coarse):
                fine[run] = equal_mass_bins(counts[run], self.n_subbins, least)
        return coarse, _count_changes(coarse, fine)

    def _rows_per_bin(self, n_rows: float) -> float:
        """Return the least number of rows in a bin: fewer in a table that has few."""
        return min(self.min_samples_bin, max(n_rows / _FEWEST_BINS, 4 * self.min_samples))

    def _declare_heads(self) -> None:
        n_bins = int(self._n_fine.sum())
        one_value_each = len(self.bins_) == n_bins and bool((self.low_ == self.high_).all())
        self._has_fine = bool(self._n_fine.max() > 1)
        self._has_position = not one_value_each
        n_coarse = len(self._n_fine)
        self.heads_ = (Categorical(n_coarse + self.missing_, n_ordered=n_coarse),)
        if self._has_fine:
            n_fine = int(self._n_fine.max())
            self.heads_ += (Categorical(n_fine, n_ordered=n_fine, refines=True),)
        self.heads_ += (Uniform(),) * self._has_position
        self._head_names = ("coarse", "fine") if self._has_fine else ("",)
        self._head_names += ("position",) * self._has_position

    def _reserve(self) -> None:
        """Choose the number that an unseen missing value is encoded as: one of the heaviest bin."""
        mass = np.bincount(self.bins_, weights=self.mass_)
        self._unseen_code = int(np.argmax(mass))
        self._unseen_rows = float(mass[self._unseen_code] * self._n_present)
        cell = int(np.argmax(np.where(self.bins_ == self._unseen_code, self.mass_, -1)))
        self._filler = self.low_[cell] / 2 + self.high_[cell] / 2

    @property
    def decimals_(self) -> int | None:
        return self._grid.decimals

    # Mass

    def shares(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the share of each cell in the mass of its bin, and that of the cells before it."""
        share = self.mass_ / np.bincount(self.bins_, weights=self.mass_)[self.bins_]
        until = np.cumsum(share)
        first = np.searchsorted(self.bins_, self.bins_, side="left")
        return share, until - share - (until - share)[first]

    @property
    def is_exact(self) -> bool:
        """Whether each code is a single number."""
        return not self._has_position

    def keeps(self, x: np.ndarray) -> np.ndarray:
        """Return whether each number is one that is kept exactly, since it is frequent."""
        return self._cells.exactly(x)[0]

    def cdf(self, x: np.ndarray) -> np.ndarray:
        """Return the share of the rows below each number, in [0, 1]; NaN if it is missing."""
        present = ~np.isnan(x)
        inside = np.clip(np.where(present, x, self._filler), self._low, self._high)
        cell = self._cells.find(inside)
        mass, until = self.mass_of_bins()
        bins = self.bins_[cell]
        share = until[bins] + self._position(inside, cell) * mass[bins]
        return np.where(present, share, np.nan)

    def quantile(self, share: np.ndarray) -> np.ndarray:
        """Return the numbers below which there are shares of the rows; the inverse of `cdf`."""
        mass, until = self.mass_of_bins()
        bins = np.searchsorted(until, share, side="right") - 1
        bins = np.clip(np.where(np.isnan(share), 0, bins), 0, len(mass) - 1)
        position = np.clip((share - until[bins]) / mass[bins], 0, 1)
        return np.where(np.isnan(share), np.nan, self._numbers_in(bins, position))

    def mass_of_bins(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the share of each bin in all rows, and that of the bins before it."""
        mass = np.bincount(self.bins_, self.mass_) / self.mass_.sum()
        return mass, np.cumsum(mass) - mass

    # Encoding

    def _encode(self, column: np.ndarray, log_density: bool) -> EncodedColumn:
        absent = np.isnan(column)
        x = np.clip(np.where(absent, self._filler, column), self._low, self._high)
        cell = self._cells.find(x)
        bins = self.bins_[cell]
        coarse = np.searchsorted(self._first_bin, bins, side="right") - 1
        is_missing = absent & self.missing_
        heads = [np.where(is_missing, len(self._n_fine), coarse)]
        if self._has_fine:
            heads.append(np.where(is_missing, 0, bins - self._first_bin[coarse]))
        if self._has_position:
            heads.append(np.where(is_missing, 0.5, self._position(x, cell)))
        encoded = EncodedColumn(heads, refused=self._refuse_missing(absent))
        n_beyond = ((column < self._low) | (column > self._high)).sum()
        encoded.is_clipped = bool(n_beyond > np.ceil(self._share_beyond * len(column)))
        if not log_density:
            return encoded
        density = np.where(absent, 0.0, np.log(self._density(x, cell)))
        density += self._log_reserved(absent, bins)
        encoded.log_density = density
        return encoded

    def _position(self, x: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """Return the place of numbers in their bins, in [0, 1], by mass."""
        low, high = self.low_[cell], self.high_[cell]
        within = np.full(len(x), 0.5)
        np.divide(x / 2 - low / 2, high / 2 - low / 2, out=within, where=high / 2 > low / 2)
        share, before = self.shares()
        # Rounding errors must not move a number into the cell next to its own.
        margin = np.minimum(4 * np.spacing(self.bins_ + 1.0), share / 4)
        place = before[cell] + np.clip(within, 0, 1) * share[cell]
        lowest = np.where(before > 0, before + margin, 0.0)
        highest = np.where(before + share < 1 - 1e-12, before + share - margin, 1.0)
        return np.clip(place, lowest[cell], highest[cell])

    def _density(self, x: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """Return the density of numbers given their bins, as the mass of one unit."""
        is_exact, _ = self._cells.exactly(x)
        part = self._cells.part_of(x)
        home = self._cells.parts[part]  # the cell of the numbers around x
        share, _ = self.shares()
        size, beside = self._sizes()
        size, beside = size[home], beside[part]
        count = self.mass_[home] * self._n_present
        kept = np.where(beside > 0, count / (count + 1), 1.0)
        drawn = (self.low_[home] <= x) & (x <= self.high_[home]) | (beside == 0)
        with np.errstate(over="ignore"):  # of the smallest numbers that there are
            others = (1 - kept) / np.where(beside > 0, beside, 1.0)
            density = share[home] * np.where(drawn, kept / size, others)
        density = np.clip(density, np.finfo(float).tiny, np.finfo(float).max)
        apart = is_exact & (cell != home)
        density[apart] += share[cell[apart]]
        if self.decimals_ is None:
            density[apart] = share[cell[apart]]
        return density

    def _sizes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return how many numbers each cell stands for, and how many others are encoded by it.

        They are numbers of the grid, or lengths if there is no grid; the size of a single value is
        1. The first result has one entry per cell, the second one per part of the line.
        """
        single = self.low_ == self.high_
        lowest, highest = np.argmin(self.low_), np.argmax(self.high_)
        half = 0.0 if self.decimals_ is None else self._grid.step / 2
        low = self._low - half * single[lowest]
        high = self._high + half * single[highest]
        edges = np.concatenate([[low], self._cells.edges, [high]])
        with np.errstate(over="ignore"):
            size, span = (
                np.minimum(x, np.finfo(float).max) for x in (self.high_ - self.low_, np.diff(edges))
            )
            if self.decimals_ is None:
                beside = span - size[self._cells.parts]
                # Between neighbouring floats there is nothing.
                beside[beside <= 4 * np.spacing(np.maximum(np.abs(edges[1:]), 1e-300))] = 0
                size = np.where(single, 1.0, size)
            else:
                size = np.where(single, 1.0, np.maximum(np.rint(size / self._grid.step), 1))
                beside = np.rint(span / self._grid.step) - size[self._cells.parts]
        largest = np.finfo(float).max
        return np.minimum(size, largest), np.clip(beside, 0, largest)

    # Conditions

    def limit(self, accepted: Accepted) -> Limit:
        ranges = [self._closed(*one) for one in accepted.ranges]
        ranges += [(value, value) for value in accepted.values]
        ranges = [(low, high) for low, high in ranges if self._low <= low <= high <= self._high]
        parts = [self._segments(*one) for one in merged_ranges(ranges)]
        segments = np.concatenate([np.empty((5, 0)), *parts], axis=1)
        segments = segments[:, np.lexsort((segments[1], segments[0]))]
        bins, start, stop, low, high = segments
        bins = bins.astype(int)
        n_bins = int(self._n_fine.sum())
        share = np.minimum(np.bincount(bins, stop - start, n_bins), 1.0)
        share[share > 1 - 1e-9] = 1.0
        n_codes = len(self._n_fine) + self.missing_
        if not self._has_fine:
            table = np.full(n_codes, float(accepted.missing))
            table[:n_bins] = share
        else:
            bins_of_codes = self.bin_of_codes()
            table = np.full((n_codes, bins_of_codes.shape[1]), float(accepted.missing))
            table[: len(bins_of_codes)] = share[bins_of_codes]
        return Limit(table, bins, start, stop, low, high)

    def bin_of_codes(self) -> np.ndarray:
        """Return the bin of each pair of a coarse and a fine code, (n_coarse, n_fine)."""
        fine = np.arange(int(self._n_fine.max())) % self._n_fine[:, None]  # as in `bins_of`
        return self._first_bin[:, None] + fine

    def bounds_of_bins(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the smallest and the largest number that each bin stands for."""
        half = 0.0 if self.decimals_ is None else self._grid.step / 2
        inwards = np.where(self.low_ < self.high_, half, 0.0)
        first = np.searchsorted(self.bins_, np.arange(self.bins_[-1] + 1), side="left")
        low = np.minimum.reduceat(self.low_ + inwards, first)
        high = np.maximum.reduceat(self.high_ - inwards, first)
        return self.rounded(low), self.rounded(high)

    @property
    def ends(self) -> tuple[float, float]:
        low, high = self.bounds_of_bins()
        return float(low.min()), float(high.max())

    def pieces(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the cells in ascending order, cut where a single value lies within another cell.

        Returns
        -------
        cells : int ndarray of shape (n_pieces,)
        start, stop : ndarray of shape (n_pieces,)
            The part of the cell that a piece is, in [0, 1].
        """
        low, high = self.low_ * self._scale, self.high_ * self._scale
        length = np.where(low < high, high - low, 1.0)
        singles = low[low == high]
        cut = (singles > low[:, None]) & (singles < high[:, None])
        cells, which = np.nonzero(cut)
        at = (singles[which] - low[cells]) / length[cells]
        n_cells = len(length)
        owner = np.concatenate([np.arange(n_cells), cells])
        start = np.concatenate([np.zeros(n_cells), at])
        order = np.lexsort((start, owner))
        owner, start = owner[order], start[order]
        stop = np.where(np.diff(owner, append=-1) == 0, np.roll(start, -1), 1.0)
        middle = low[owner] + (start + stop) / 2 * (high - low)[owner]
        ascending = np.argsort(middle, kind="stable")
        return owner[ascending], start[ascending], stop[ascending]

    @property
    def _scale(self) -> float:
        """By what numbers are multiplied so that no difference is more than a float can hold."""
        return 0.25 if max(abs(self._low), abs(self._high)) > 1e300 else 1.0

    def rounded(self, x: np.ndarray) -> np.ndarray:
        """Return numbers on the column's grid, if it has one."""
        return x if self.decimals_ is None else self._grid.round(x)

    def _closed(self, low: float, high: float, closed: str) -> tuple[float, float]:
        """Return the smallest and the largest number of a range; if it has none, low > high."""
        from_low = closed in ("left", "both") or low < self._low
        to_high = closed in ("right", "both") or high > self._high
        low, high = max(low, self._low), min(high, self._high)
        if self.decimals_ is None:
            smallest = low if from_low else np.nextafter(low, np.inf)
            largest = high if to_high else np.nextafter(high, -np.inf)
        else:
            smallest, largest = self._grid.ceil(np.array([low, high]))
            if smallest == low and not from_low:
                smallest = self._grid.round(np.array([low + self._grid.step]))[0]
            if largest > high or not to_high:
                largest = self._grid.round(np.array([largest - self._grid.step]))[0]
        return float(smallest), float(largest)

    def _segments(self, low: float, high: float) -> np.ndarray:
        """Return bin, start, stop, low and high of what numbers of a closed range are encoded as.

        Without a grid, a single number stands for a range as short as a 10^-9th of the column's.
        """
        scale = self._scale
        half = 0.5e-9 * (self._high * scale - self._low * scale)
        if self.decimals_ is not None:
            half = self._grid.step / 2 * scale
        elif high > low:
            half = 0.0
        single = self.low_ == self.high_
        lows = self.low_ * scale
        length = np.where(single, 1.0, self.high_ * scale - lows)
        with np.errstate(over="ignore"):  # by far beyond a short cell
            start = np.clip((low * scale - half - lows) / length, 0, 1)
            stop = np.clip((high * scale + half - lows) / length, 0, 1)
        is_in = (low <= self.low_) & (self.low_ <= high)
        start, stop = np.where(single, 0.0, start), np.where(single, is_in, stop)
        cells = np.flatnonzero(stop > start)
        if not len(cells):  # no cell stands for it; its numbers are encoded by their neighbours
            cells = self._cells.find(np.clip([low / 2 + high / 2], self._low, self._high))
            start[cells], stop[cells] = 0.5, 0.5 + 1e-6
        share, before = self.shares()
        ends = before[cells] + share[cells] * np.array([start[cells], stop[cells]])
        bounds = np.array([[low], [high]]) + np.zeros(len(cells))
        return np.concatenate([self.bins_[None, cells], ends, bounds])

    def bins_of(self, heads: list[np.ndarray]) -> np.ndarray:
        coarse = heads[0].astype(int)
        absent = coarse >= len(self._n_fine)
        coarse = np.where(absent, 0, coarse)
        # A fine code that its coarse bin does not have (only a model that draws the two
        # independently gives one) wraps around.
        fine = heads[1].astype(int) % self._n_fine[coarse] if self._has_fine else 0
        return np.where(absent, -1, self._first_bin[coarse] + fine)

    # Decoding

    def decode(self, heads: list[np.ndarray], n_samples: int) -> np.ndarray:
        position = heads[-1].astype(float) if self._has_position else 0.5
        bins = self.bins_of(heads)
        absent = bins < 0
        return np.where(absent, np.nan, self._numbers_in(np.where(absent, 0, bins), position))

    def _numbers_in(self, bins: np.ndarray, position: np.ndarray | float) -> np.ndarray:
        """Return the numbers at places in [0, 1] of bins, by mass."""
        share, before = self.shares()
        cell = np.searchsorted(self.bins_ + before, bins + position, side="right") - 1
        first = np.searchsorted(self.bins_, bins, side="left")
        last = np.searchsorted(self.bins_, bins, side="right") - 1
        cell = np.clip(cell, first, last)
        within = np.clip((position - before[cell]) / share[cell], 0, 1)
        return self.numbers_at(cell, within)

    def numbers_at(self, cell: np.ndarray, within: np.ndarray) -> np.ndarray:
        """Return the numbers at places in [0, 1] of cells, on the column's grid, if it has one."""
        low, high = self.low_[cell], self.high_[cell]
        x = low * (1 - within) + high * within
        x = np.clip(x, low, high)
        if self.decimals_ is None:
            x = np.clip(_without_noise(x, np.minimum(high / 2 - low / 2, 1e300)), low, high)
        else:
            half = np.where(high > low, self._grid.step / 2, 0)
            x = np.clip(self._grid.round(x), low + half, high - half)
            x = self._grid.round(x)
        return np.where(low == high, low, x)


def _without_noise(x: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Return numbers without the digits that rounding errors have made.

    Interpolation in a cell of this length is exact to 13 of its digits, and a float to 15.
    """
    magnitude = lambda v: np.ceil(np.log10(np.clip(np.abs(v), 1e-100, 1e100)))
    digits = np.minimum(13 - magnitude(length), 15 - magnitude(x))
    # 10**-digits is not exact as a float, while 10**digits is up to 22.
    up, down = 10.0 ** np.maximum(digits, 0), 10.0 ** np.maximum(-digits, 0)
    usual = (length > 1e-100) & (length < 1e100) & (np.abs(x) < 1e100)
    return np.where(usual, np.rint(np.where(usual, x, 0) * up / down) * down / up, x)


def _count_changes(*labels: np.ndarray) -> np.ndarray:
    """Return 0 at the start, and one more wherever any of the labels changes."""
    changed = np.zeros(len(labels[0]), dtype=bool)
    for label in labels:
        changed[1:] |= label[1:] != label[:-1]
    return np.cumsum(changed)


def merge_light(labels: np.ndarray, rows: np.ndarray, least: float) -> np.ndarray:
    """Merge each run of labels that has too few rows with the lighter of its neighbours.

    Parameters
    ----------
    labels : int ndarray of shape (n_values,)
        0, 1, ..., not decreasing.
    rows : ndarray of shape (n_values,)
    least : float

    Returns
    -------
    labels : int ndarray of shape (n_values,)

    Examples
    --------
    >>> import numpy as np
    >>> from sktvae._encoding.quantile import merge_light
    >>> merge_light(np.array([0, 1, 1, 2]), np.array([1, 3, 3, 5]), least=5)
    array([0, 0, 0, 1])
    """
    while True:
        totals = np.bincount(labels, rows)
        i = int(np.argmin(totals))
        if totals[i] >= least or len(totals) == 1:
            return labels
        before = totals[i - 1] if i else np.inf
        after = totals[i + 1] if i + 1 < len(totals) else np.inf
        labels = labels - (labels >= (i if before <= after else i + 1))


def equal_mass_bins(counts: np.ndarray, n_bins: int, min_count: float) -> np.ndarray:
    """Cut sorted values into at most about `n_bins` bins of equal mass.

    A value that is as heavy as a bin is a bin of its own, and so separates its neighbours; the
    others are cut into equal masses of at least `min_count` rows, never within a value.

    Parameters
    ----------
    counts : ndarray of shape (n_values,)
        The number of rows of each value, in the order of the values.
    n_bins, min_count : int

    Returns
    -------
    bins : ndarray of shape (n_values,)
        0, 1, ..., not decreasing.

    Examples
    --------
    >>> import numpy as np
    >>> from sktvae._encoding.quantile import equal_mass_bins
    >>> equal_mass_bins(np.array([1, 1, 9, 1, 1]), n_bins=4, min_count=2)
    array([0, 0, 1, 2, 2])
    """
    total = counts.sum()
    n_bins = int(max(min(n_bins, total // min_count), 1))
    heavy = (counts >= total / n_bins) & (counts > 1)
    rest = np.where(heavy, 0, counts)
    total = rest.sum()
    n_rest = int(max(min(n_bins - heavy.sum(), total // min_count), 1))
    middle = np.cumsum(rest) - rest / 2
    part = np.minimum(middle * n_rest // max(total, 1), n_rest - 1).astype(int)
    return _count_changes(np.where(heavy, -1, part), np.cumsum(heavy))
