"""`QuantileCodec`: numbers <-> bins of equal mass."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from sklearn.utils._param_validation import Interval

from sktvae._encoding.codec import EncodedColumn, NumberCodec
from sktvae._encoding.summary import ColumnSummary
from sktvae._heads import Categorical, Uniform
from sktvae._table.decimals import DecimalGrid


class QuantileCodec(NumberCodec):
    """Encode numbers by bins of equal mass, coarse then fine; keep repeated values exactly.

    The sorted column is cut into `n_bins` coarse bins of equal mass, and each of those into
    `n_subbins` fine bins. A value with as many rows as a bin is a bin of its own. Inside a bin, a
    value that repeats keeps its exact value and mass; between values that occur once, the
    empirical distribution is interpolated, on the column's decimals if it has them, and never
    outside its range. A column with few bins has one head; others have a coarse and a fine one.

    A number that `fit` did not see is encoded by its place among those that it saw; a number beyond
    the range is encoded as the nearest end. For `log_density`, a value that occurs `c` times leaves
    one part in ``c + 1`` of its mass to the unseen values that are encoded as it is, so that the
    likelihood is finite for every number in the range and still sums to one. A missing value, if
    there was none in `fit`, counts as one more row of the heaviest bin.

    Parameters
    ----------
    n_bins : int, default=32
        The number of coarse bins, approximately.
    n_subbins : int, default=16
        The number of fine bins in each coarse bin; 1 for coarse bins alone.
    min_samples_bin : int, default=10
        A bin of several values has at least about this many rows, so that small tables are
        interpolated and not memorised.
    max_knots : int, default=8
        The values of a bin that occur once are summarised by at most this many intervals of
        equal mass.

    Attributes
    ----------
    edges_ : ndarray of shape (n_cells + 1,)
        The column cut into cells: one around each value that repeats, and stretches between them.
    values_ : ndarray of shape (n_cells,)
        The value of a cell that holds one value; NaN for a stretch.
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
    >>> x = np.array([0.0] * 50 + [1.25, 2.5, 3.75, 5.0, 9.0])
    >>> codec = QuantileCodec().fit(x)
    >>> codec.inverse_transform(codec.transform(x[48:]))
    array([0.  , 0.  , 1.25, 2.5 , 3.75, 5.  , 9.  ])
    """

    _parameter_constraints = {
        "n_bins": [Interval(Integral, 1, None, closed="left")],
        "n_subbins": [Interval(Integral, 1, None, closed="left")],
        "min_samples_bin": [Interval(Integral, 1, None, closed="left")],
        "max_knots": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_bins: int = 32,
        n_subbins: int = 16,
        min_samples_bin: int = 10,
        max_knots: int = 8,
    ):
        self.n_bins = n_bins
        self.n_subbins = n_subbins
        self.min_samples_bin = min_samples_bin
        self.max_knots = max_knots

    # Learning

    def _fit(self, summary: ColumnSummary) -> None:
        values, counts = summary.values, summary.counts
        self.missing_ = summary.missing > 0
        self._grid = DecimalGrid.of(values)
        coarse = equal_mass_bins(counts, self.n_bins, self.min_samples_bin)
        fine = np.zeros(len(values), dtype=int)
        if self.n_subbins > 1:
            for run in _runs(coarse):
                fine[run] = equal_mass_bins(counts[run], self.n_subbins, self.min_samples_bin)
        self._cut(summary, _count_changes(coarse, fine))
        n_fine = np.array([fine[run].max() + 1 for run in _runs(coarse)])
        n_bins = int(n_fine.sum())
        if n_fine.max() == 1 or n_bins <= 4 * self.n_bins:
            n_fine = np.ones(n_bins, dtype=int)  # few enough for one head
        self._n_fine = n_fine
        self._first_bin = np.cumsum(n_fine) - n_fine
        self._declare_heads()
        self._reserve()

    def _cut(self, summary: ColumnSummary, bins: np.ndarray) -> None:
        """Make cells: one per value that repeats, and a few stretches per run of the others."""
        values, counts = summary.values, summary.counts
        middles = values[1:] / 2 + values[:-1] / 2
        if self.decimals_ is not None:  # half-units exactly, without rounding errors
            middles = np.round(middles, self.decimals_ + 1)
        middles = np.where(middles > values[:-1], middles, values[1:])  # neighbouring floats
        edges = np.concatenate([values[:1], middles, values[-1:]])
        single = (summary.rows <= 1) & (len(values) > 1)
        run = _count_changes(bins, np.where(single, -1, np.arange(len(values))))
        size = np.bincount(run)
        rank = np.arange(len(run)) - (np.cumsum(size) - size)[run]
        cells = np.minimum(size, self.max_knots)[run]
        cell = _count_changes(run, rank * cells // size[run])
        first = np.flatnonzero(np.diff(cell, prepend=-1))
        self.edges_ = np.append(edges[first], edges[-1])
        self.values_ = np.where(single[first], np.nan, values[first])
        self.mass_ = np.bincount(cell, weights=counts) / counts.sum()
        self.bins_ = bins[first]
        self._low, self._high = values[0], values[-1]
        self._n_present = float(counts.sum())

    def _declare_heads(self) -> None:
        n_bins = int(self._n_fine.sum())
        one_value_each = len(self.bins_) == n_bins and bool(np.isfinite(self.values_).all())
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
        middle = self.edges_[cell] / 2 + self.edges_[cell + 1] / 2
        self._filler = middle if np.isnan(self.values_[cell]) else self.values_[cell]

    @property
    def decimals_(self) -> int | None:
        return self._grid.decimals

    # Mass

    @property
    def _start(self) -> np.ndarray:
        """Mass before each cell, and 1 at the end, of shape (n_cells + 1,)."""
        return np.concatenate([[0.0], np.cumsum(self.mass_)])

    def _bin_span(self, bins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where each bin begins and ends, as cumulative mass."""
        first = np.flatnonzero(np.diff(self.bins_, prepend=-1, append=self.bins_[-1] + 1))
        start = self._start[first]
        return start[bins], start[bins + 1]

    # Encoding

    def _encode(self, column: np.ndarray, log_density: bool) -> EncodedColumn:
        absent = np.isnan(column)
        x = np.clip(np.where(absent, self._filler, column), self._low, self._high)
        cell = np.searchsorted(self.edges_, x, side="right") - 1
        cell = np.clip(cell, 0, len(self.values_) - 1)
        bins = self.bins_[cell]
        coarse = np.searchsorted(self._first_bin, bins, side="right") - 1
        is_missing = absent & self.missing_
        heads = [np.where(is_missing, len(self._n_fine), coarse)]
        if self._has_fine:
            heads.append(np.where(is_missing, 0, bins - self._first_bin[coarse]))
        if self._has_position:
            heads.append(np.where(is_missing, 0.5, self._position(x, cell, bins)))
        encoded = EncodedColumn(heads, refused=self._refuse_missing(absent))
        encoded.is_clipped = bool(((column < self._low) | (column > self._high)).any())
        if not log_density:
            return encoded
        density = np.where(absent, 0.0, np.log(self._density(x, cell, bins)))
        density += self._log_reserved(absent, bins)
        encoded.log_density = density
        return encoded

    def _position(self, x: np.ndarray, cell: np.ndarray, bins: np.ndarray) -> np.ndarray:
        """Return the place of numbers in their bins, in [0, 1], by mass."""
        low, high = self.edges_[cell], self.edges_[cell + 1]
        within = np.full(len(x), 0.5)
        stretch = np.isnan(self.values_[cell]) & (high > low)
        np.divide(x - low, high - low, out=within, where=stretch)
        begin, end = self._bin_span(bins)
        return (self._start[cell] + within * self.mass_[cell] - begin) / (end - begin)

    def _density(self, x: np.ndarray, cell: np.ndarray, bins: np.ndarray) -> np.ndarray:
        """Return the density of numbers given their bins, as the mass of one unit."""
        begin, end = self._bin_span(bins)
        share = self.mass_[cell] / (end - begin)
        size = self._cell_sizes()[cell]
        value = self.values_[cell]
        # A cell around one value: the value, and the others that are encoded as it is.
        others = np.maximum(size if self.decimals_ is None else size - 1, 0)
        count = self.mass_[cell] * self._n_present
        within = np.where(
            x == value,
            np.where(others > 0, count / (count + 1), 1.0),
            1 / ((count + 1) * np.where(others > 0, others, 1.0)),
        )
        stretch = np.isnan(value)
        within[stretch] = 1 / np.where(size > 0, size, 1.0)[stretch]
        return share * within

    def _cell_sizes(self) -> np.ndarray:
        """Return how many numbers of the grid are in each cell; its length if there is no grid."""
        if self.decimals_ is None:
            return np.diff(self.edges_)
        # Cells contain their lower edge and not the upper one; the last one contains both.
        halves = np.rint(2 * self.edges_ / self._grid.step)
        first = np.ceil(halves / 2)
        first[-1] += halves[-1] % 2 == 0
        return np.diff(first)

    # Decoding

    def decode(self, heads: list[np.ndarray], n_samples: int) -> np.ndarray:
        coarse = heads[0].astype(int)
        absent = coarse >= len(self._n_fine)
        coarse = np.where(absent, 0, coarse)
        # A fine code that its coarse bin does not have (only a model that draws the two
        # independently gives one) wraps around.
        fine = heads[1].astype(int) % self._n_fine[coarse] if self._has_fine else 0
        position = heads[-1].astype(float) if self._has_position else 0.5
        bins = self._first_bin[coarse] + fine
        begin, end = self._bin_span(bins)
        place = begin + position * (end - begin)
        cell = np.searchsorted(self._start, place, side="right") - 1
        first = np.searchsorted(self.bins_, bins, side="left")
        last = np.searchsorted(self.bins_, bins, side="right") - 1
        cell = np.clip(cell, first, last)
        within = (place - self._start[cell]) / self.mass_[cell]
        low, high = self.edges_[cell], self.edges_[cell + 1]
        x = np.clip(low + within * (high - low), low, high)
        if self.decimals_ is None:
            x = np.clip(_without_noise(x, high - low), low, high)
        x = np.where(np.isnan(self.values_[cell]), self._grid.round(x), self.values_[cell])
        return np.where(absent, np.nan, np.clip(x, self._low, self._high))


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


def _runs(labels: np.ndarray) -> list[slice]:
    """Return slices over the runs of equal labels."""
    cut = np.flatnonzero(np.diff(labels)) + 1
    return [slice(a, b) for a, b in zip([0, *cut], [*cut, len(labels)], strict=True)]


def _count_changes(*labels: np.ndarray) -> np.ndarray:
    """Return 0 at the start, and one more wherever any of the labels changes."""
    changed = np.zeros(len(labels[0]), dtype=bool)
    for label in labels:
        changed[1:] |= label[1:] != label[:-1]
    return np.cumsum(changed)


def equal_mass_bins(counts: np.ndarray, n_bins: int, min_count: int) -> np.ndarray:
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
    heavy = (counts >= counts.sum() / n_bins) & (counts > 1)
    rest = np.where(heavy, 0, counts)
    total = rest.sum()
    n_rest = int(max(min(n_bins - heavy.sum(), total // min_count), 1))
    middle = np.cumsum(rest) - rest / 2
    part = np.minimum(middle * n_rest // max(total, 1), n_rest - 1).astype(int)
    return _count_changes(np.where(heavy, -1, part), np.cumsum(heavy))
