"""The codecs of numbers: `QuantileCodec` and `ModeCodec`."""

import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture
from sklearn.utils._param_validation import Interval

from sktvae._codecs import Codec
from sktvae._heads import Categorical, Gaussian, Uniform

_MAX_DECIMALS = 15


class _NumberCodec(Codec):
    """What the codecs of numbers share: the decimals and the resolution of the column."""

    def _fit(self, column):
        values = column.to_numpy(dtype=float, na_value=np.nan)
        present = np.sort(values[~np.isnan(values)])
        self.missing_ = len(present) < len(values)
        self.decimals_ = decimals_of(present)
        self._fit_sorted(present)

    def _transform(self, column):
        values = column.to_numpy(dtype=float, na_value=np.nan)
        absent = np.isnan(values)
        return self._encode(np.where(absent, self._filler, values), absent)

    @property
    def _step(self):
        """Size of one unit in the last decimal; 1 for a column that has no grid of decimals."""
        return 1.0 if self.decimals_ is None else 10.0**-self.decimals_

    def _round(self, values):
        return values if self.decimals_ is None else np.round(values, self.decimals_)


class ModeCodec(_NumberCodec):
    """Mode-specific normalisation: the mode a number belongs to, and its position in the mode.

    A variational Bayesian Gaussian mixture finds the modes of the column; a number `x` in the mode
    of mean `m` and standard deviation `s` becomes the code of the mode and ``(x - m) / (4 s)``,
    clipped to [-1, 1] (Xu et al. 2019, section 4.2). Two departures from the paper: `x` belongs
    to its most probable mode where the paper draws one, so that `transform` is deterministic; and
    decoded values are rounded to the decimals of the column and kept within its range.

    The range is the mean of the two smallest and of the two largest numbers, so that no number
    that occurs only once is kept in the fitted codec.

    Parameters
    ----------
    n_components : int, default=10
        Upper limit to the number of modes.
    weight_threshold : float, default=0.005
        Modes of a smaller weight are left out.
    max_samples : int, default=1500
        Numbers that the mixture is fitted on; more are subsampled, evenly over their ranks.
    random_state : int, RandomState instance or None, default=None
        For the start of the mixture.

    Attributes
    ----------
    means_, scales_ : ndarray of shape (n_modes,)
        Centre of each mode, and four standard deviations of it.
    weights_ : ndarray of shape (n_modes,)
    decimals_ : int or None
        Decimals of the column; None when they are more than a float holds.
    heads_ : tuple of Head
    missing_ : bool

    Examples
    --------
    >>> import numpy as np
    >>> from sktvae import ModeCodec
    >>> x = np.array([0.1, 0.2, 0.3, 10.1, 10.2, 10.3] * 20)
    >>> codec = ModeCodec(random_state=0).fit(x)
    >>> Z = codec.transform(x[:4])
    >>> codec.inverse_transform(Z)
    array([ 0.1,  0.2,  0.3, 10.1])
    """

    _head_names = ("mode", "value")
    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "weight_threshold": [Interval(Real, 0, 1, closed="left")],
        "max_samples": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self, n_components=10, weight_threshold=0.005, max_samples=1500, random_state=None
    ):
        self.n_components = n_components
        self.weight_threshold = weight_threshold
        self.max_samples = max_samples
        self.random_state = random_state

    def _fit_sorted(self, x):
        self._low, self._high = x[:2].mean(), x[-2:].mean()
        ranks = np.linspace(0, len(x) - 1, min(len(x), self.max_samples)).astype(int)
        some = np.resize(x[ranks], max(len(ranks), 2))  # the mixture wants two
        centre, spread = some.mean(), some.std()
        spread = spread if spread > 0 else 1.0
        mixture = BayesianGaussianMixture(
            n_components=min(self.n_components, len(np.unique(some))),
            weight_concentration_prior=0.001,
            init_params="k-means++",
            tol=1e-3,
            max_iter=60,
            random_state=self.random_state,
        )
        with warnings.catch_warnings():
            # The modes are a way of writing numbers, not a result: converged or not will do.
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(((some - centre) / spread)[:, None])
        least = min(self.weight_threshold, mixture.weights_.max())
        order = np.flatnonzero(mixture.weights_ >= least)
        order = order[np.argsort(mixture.means_[order, 0])]
        self.weights_ = mixture.weights_[order]
        self.means_ = centre + spread * mixture.means_[order, 0]
        self.scales_ = 4 * spread * np.sqrt(mixture.covariances_[order, 0, 0])
        self._filler = self.means_[0]
        mode = Categorical(len(order) + self.missing_, n_ordered=len(order))
        self.heads_ = (mode, Gaussian(refines=True))

    def _encode(self, x, absent):
        deviation = 4 * (x[:, None] - self.means_) / self.scales_
        mode = np.argmax(np.log(self.weights_ / self.scales_) - deviation**2 / 2, axis=1)
        value = np.clip((x - self.means_[mode]) / self.scales_[mode], -1, 1)
        return np.where(absent, len(self.means_), mode), np.where(absent, np.nan, value)

    def _inverse_transform(self, mode, value):
        absent = mode >= len(self.means_)
        mode = np.where(absent, 0, mode).astype(int)
        x = self.means_[mode] + np.clip(value, -1, 1) * self.scales_[mode]
        return np.where(absent, np.nan, self._round(np.clip(x, self._low, self._high)))

    def _log_density(self, column, mode, value):
        absent = mode >= len(self.means_)
        scale = self.scales_[np.where(absent, 0, mode).astype(int)]
        return np.where(absent, 0.0, np.log(self._step / scale))


class QuantileCodec(_NumberCodec):
    """Numbers to bins of equal mass, coarse then fine, with values that repeat kept exactly.

    The sorted column is cut into `n_bins` coarse bins of equal mass and each of those into
    `n_subbins` fine ones. A value with as many rows as a bin is a bin of its own. Inside a bin, a
    value that repeats keeps its exact value and mass; between values that occur once the empirical
    distribution is interpolated, on the column's decimals where it has them, never outside its
    range. A column whose bins are few has one head, others a coarse and a fine one.

    A number that `fit` has not seen is encoded by its place between those it has seen; beyond the
    range, as the nearest end. For `log_density` a value that occurs `c` times leaves one part in
    ``c + 1`` of its mass to the unseen values that are encoded as it, so that a likelihood is
    finite for every number in the range and still sums to one.

    Parameters
    ----------
    n_bins : int, default=32
        Coarse bins.
    n_subbins : int, default=16
        Fine bins in each coarse bin; 1 for coarse bins alone.
    min_samples_bin : int, default=10
        A bin of several values has at least about so many rows, so that small tables are
        interpolated and not memorised.
    max_knots : int, default=8
        Values that occur once in a bin are kept as at most so many equal-mass stretches.

    Attributes
    ----------
    edges_ : ndarray of shape (n_cells + 1,)
        The column cut into cells: one around each value that repeats, and stretches between.
    values_ : ndarray of shape (n_cells,)
        The value of a cell that holds one value; NaN for a stretch.
    mass_ : ndarray of shape (n_cells,)
        Share of the rows in each cell.
    bins_ : ndarray of shape (n_cells,)
        The bin, in order, that each cell belongs to.
    decimals_ : int or None
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

    def __init__(self, n_bins=32, n_subbins=16, min_samples_bin=10, max_knots=8):
        self.n_bins = n_bins
        self.n_subbins = n_subbins
        self.min_samples_bin = min_samples_bin
        self.max_knots = max_knots

    def _fit_sorted(self, x):
        values, counts = np.unique(x, return_counts=True)
        coarse = _equal_mass(counts, self.n_bins, self.min_samples_bin)
        fine = np.zeros(len(values), dtype=int)
        if self.n_subbins > 1:
            for stretch in _runs(coarse):
                fine[stretch] = _equal_mass(counts[stretch], self.n_subbins, self.min_samples_bin)
        self._cut(values, counts, _count_changes(coarse, fine))
        n_fine = np.array([fine[s].max() + 1 for s in _runs(coarse)])
        n_bins = int(n_fine.sum())
        if n_fine.max() == 1 or n_bins <= 4 * self.n_bins:
            n_fine = np.ones(n_bins, dtype=int)
        self._n_fine = n_fine
        self._first_bin = np.cumsum(n_fine) - n_fine
        one_value_each = len(self.bins_) == n_bins and np.isfinite(self.values_).all()
        self._has_fine, self._has_position = bool(n_fine.max() > 1), not one_value_each
        self.heads_ = (Categorical(len(n_fine) + self.missing_, n_ordered=len(n_fine)),)
        if self._has_fine:
            most = int(n_fine.max())
            self.heads_ += (Categorical(most, n_ordered=most, refines=True),)
        self.heads_ += (Uniform(),) * self._has_position
        self._head_names = ("coarse", "fine") if self._has_fine else ("",)
        self._head_names += ("position",) * self._has_position
        self._filler = values[0]

    def _cut(self, values, counts, bins):
        """Cells: one for each value that repeats, a few stretches for each run of the others."""
        middles = values[1:] / 2 + values[:-1] / 2
        middles = np.where(middles > values[:-1], middles, values[1:])  # neighbouring floats
        edges = np.concatenate([values[:1], middles, values[-1:]])
        single = (counts == 1) & (len(values) > 1)
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
        self._n_samples = int(counts.sum())

    @property
    def _start(self):
        """Mass before each cell, and 1 at the end: (n_cells + 1,)."""
        return np.concatenate([[0.0], np.cumsum(self.mass_)])

    def _bin_span(self, bins):
        """Where each bin begins and ends, as mass."""
        first = np.flatnonzero(np.diff(self.bins_, prepend=-1, append=self.bins_[-1] + 1))
        start = self._start[first]
        return start[bins], start[bins + 1]

    def _cell(self, x):
        cell = np.searchsorted(self.edges_, x, side="right") - 1
        return np.clip(cell, 0, len(self.values_) - 1)

    def _encode(self, x, absent):
        x = np.clip(x, self._low, self._high)
        cell = self._cell(x)
        bins = self.bins_[cell]
        coarse = np.searchsorted(self._first_bin, bins, side="right") - 1
        out = [np.where(absent, len(self._n_fine), coarse)]
        if self._has_fine:
            out.append(np.where(absent, 0, bins - self._first_bin[coarse]))
        if self._has_position:
            low, high = self.edges_[cell], self.edges_[cell + 1]
            within = np.full(len(x), 0.5)
            stretch = np.isnan(self.values_[cell]) & (high > low)
            np.divide(x - low, high - low, out=within, where=stretch)
            begin, end = self._bin_span(bins)
            place = self._start[cell] + within * self.mass_[cell]
            out.append(np.where(absent, 0.5, (place - begin) / (end - begin)))
        return tuple(out)

    def _inverse_transform(self, coarse, *rest):
        absent = coarse >= len(self._n_fine)
        coarse = np.where(absent, 0, coarse).astype(int)
        # A fine code that its coarse bin does not have (only a model that draws them
        # independently gives one) wraps around.
        offset = rest[0].astype(int) % self._n_fine[coarse] if self._has_fine else 0
        position = rest[-1] if self._has_position else 0.5
        bins = self._first_bin[coarse] + offset
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
        x = np.where(np.isnan(self.values_[cell]), self._round(x), self.values_[cell])
        return np.where(absent, np.nan, np.clip(x, self._low, self._high))

    def _log_density(self, column, coarse, *rest):
        absent = column.isna().to_numpy()
        x = column.to_numpy(dtype=float, na_value=np.nan)
        cell = self._cell(np.clip(np.where(absent, self._filler, x), self._low, self._high))
        begin, end = self._bin_span(self.bins_[cell])
        share = self.mass_[cell] / (end - begin)
        width = (self.edges_[cell + 1] - self.edges_[cell]) / self._step
        if self.decimals_ is None:
            others = np.where(width > 0, width, 0.0)
        else:
            others = np.maximum(np.round(width) - 1, 0)
        value = self.values_[cell]
        stretch = np.isnan(value)
        count = self.mass_[cell] * self._n_samples
        within = np.where(
            x == value,
            np.where(others > 0, count / (count + 1), 1.0),
            1 / ((count + 1) * np.where(others > 0, others, 1.0)),
        )
        spread = 1 / np.where(width > 0, width, 1.0)
        within[stretch] = (spread if self.decimals_ is None else np.minimum(spread, 1))[stretch]
        return np.where(absent, 0.0, np.log(share * within))


def decimals_of(values):
    """Fewest decimals that hold every value exactly; None when a float has no room for them."""
    values = np.unique(values)
    largest = np.abs(values).max(initial=0)
    for decimals in range(_MAX_DECIMALS + 1):
        if decimals and largest * 10.0**decimals > 2**53:
            return None  # rounding to so many would change nothing, whatever the values are
        if np.array_equal(np.round(values, decimals), values):
            return decimals
    return None


def _without_noise(x, width):
    """Without the digits that arithmetic in a cell of this width has made: 13 of it, 15 in all."""
    magnitude = lambda v: np.ceil(np.log10(np.clip(np.abs(v), 1e-100, 1e100)))
    digits = np.minimum(13 - magnitude(width), 15 - magnitude(x))
    # 10**-digits is no exact float, 10**digits is up to 22; few digits are those of large numbers
    up, down = 10.0 ** np.maximum(digits, 0), 10.0 ** np.maximum(-digits, 0)
    usual = (width > 1e-100) & (width < 1e100) & (np.abs(x) < 1e100)
    return np.where(usual, np.rint(np.where(usual, x, 0) * up / down) * down / up, x)


def _runs(labels):
    """Slices over the runs of equal labels."""
    cut = np.flatnonzero(np.diff(labels)) + 1
    return [slice(a, b) for a, b in zip([0, *cut], [*cut, len(labels)], strict=True)]


def _count_changes(*labels):
    """0 at the start, one more wherever any of the labels changes."""
    changed = np.zeros(len(labels[0]), dtype=bool)
    for label in labels:
        changed[1:] |= label[1:] != label[:-1]
    return np.cumsum(changed)


def _equal_mass(counts, n_bins, min_count):
    """Cut sorted values into at most about `n_bins` bins of equal mass.

    A value as heavy as a bin is a bin of its own, and so splits what lies around it; the rest is
    cut into equal masses of at least `min_count` rows, never through a value.

    Parameters
    ----------
    counts : ndarray of shape (n_values,)
        How often each value occurs, in the order of the values.

    Returns
    -------
    bins : ndarray of shape (n_values,)
        0, 1, ..., not decreasing.
    """
    heavy = (counts >= counts.sum() / n_bins) & (counts > 1)
    rest = np.where(heavy, 0, counts)
    total = rest.sum()
    n_rest = max(min(n_bins - heavy.sum(), total // min_count), 1)
    middle = np.cumsum(rest) - rest / 2
    part = np.minimum(middle * n_rest // max(total, 1), n_rest - 1).astype(int)
    return _count_changes(np.where(heavy, -1, part), np.cumsum(heavy))
