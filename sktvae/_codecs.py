"""One codec per kind of column: a column of the table <-> columns of codes and numbers.

Each codec is a scikit-learn transformer of a single column. ``transform`` gives an array of shape
(n_samples, n_heads), one column per head in ``heads_``; ``inverse_transform`` is deterministic and
gives the column back; ``log_density`` says how a code's probability is spread over the values that
the code can produce, so that likelihoods are on the scale of the original column.
"""

import warnings
from numbers import Integral, Real

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture
from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions
from sklearn.utils.validation import check_is_fitted

from sktvae._heads import Categorical, Gaussian, Uniform

_MAX_DECIMALS = 15


class _Codec(TransformerMixin, BaseEstimator):
    """A transformer of one column; subclasses work on a plain 1-D column."""

    _parameter_constraints: dict = {}

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Learn the column.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, 1)
        y : ignored

        Returns
        -------
        self
        """
        column = _single_column(X)
        if len(column) == 0 or column.isna().all():
            raise ValueError(
                f"{type(self).__name__} cannot learn a column without values: "
                f"{len(column)} sample(s), all missing. Drop the column."
            )
        self.n_features_in_ = 1
        self._fit(column)
        return self

    def transform(self, X):
        """Encode the column.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, 1)

        Returns
        -------
        Z : ndarray of shape (n_samples, n_heads)
            One column per head of ``heads_``; NaN in a Gaussian head that does not apply to a
            row, as where the value is missing.
        """
        check_is_fitted(self)
        column = _single_column(X)
        if column.isna().any() and not self.missing_:
            raise ValueError(
                "found a missing value, and fit saw none. Fill it, or fit on a table that has "
                "missing values in this column too"
            )
        return np.column_stack(self._transform(column)).astype(float)

    def inverse_transform(self, Z):
        """Decode codes and numbers.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_heads)

        Returns
        -------
        column : ndarray of shape (n_samples,)
            Floats with NaN where missing; objects for categories.
        """
        check_is_fitted(self)
        return self._inverse_transform(*self._heads_of(Z))

    def log_density(self, X, Z):
        """Log-density of the values given the categorical codes and numbers they are encoded as.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, 1)
        Z : array-like of shape (n_samples, n_heads)
            ``transform(X)``.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            In nats. Add to it the log-probability of ``Z`` under a model to get the
            log-probability of the recorded value: the mass of one unit in the last decimal.
        """
        check_is_fitted(self)
        return self._log_density(_single_column(X), *self._heads_of(Z))

    def get_feature_names_out(self, input_features=None):
        """Names of the encoded columns.

        Parameters
        ----------
        input_features : array-like of one str, default=None

        Returns
        -------
        names : ndarray of str of shape (n_heads,)
        """
        check_is_fitted(self)
        name = "x0" if input_features is None else input_features[0]
        ends = self._head_names
        return np.array([f"{name}__{end}" if end else str(name) for end in ends], dtype=object)

    def _heads_of(self, Z):
        Z = np.asarray(Z, dtype=float)
        if Z.ndim != 2 or Z.shape[1] != len(self.heads_):
            raise ValueError(
                f"Expected 2D array of {len(self.heads_)} encoded column(s), got shape {Z.shape}"
            )
        return Z.T

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.one_d_array = True
        return tags


class CategoryCodec(_Codec):
    """Categories to integer codes.

    Missing values are a category of their own. With `min_frequency` or `max_categories` the
    infrequent categories share one code; it decodes to one of them, drawn by their frequency, or
    to `infrequent_label`, and then no infrequent category is kept in the fitted codec.

    Parameters
    ----------
    min_frequency : int or float, default=None
        Categories with fewer rows (int) or a smaller share of the rows (float) are infrequent.
    max_categories : int, default=None
        Upper limit to the number of codes, the code of the infrequent ones included.
    handle_unknown : {"error", "infrequent_if_exist"}, default="error"
        What `transform` does with a category that `fit` has not seen: raise an error, or give it
        the infrequent code (an error if there is none).
    infrequent_label : object, default=None
        What the infrequent code decodes to; None draws a real infrequent category.

    Attributes
    ----------
    categories_ : ndarray of shape (n_categories,)
        Frequent categories in order, then (unless `infrequent_label` is given) infrequent ones.
    heads_ : tuple of Head
    infrequent_mass_ : ndarray of shape (n_infrequent,)
        Share of each infrequent category among the rows of the infrequent code.
    missing_ : bool
        Whether the fitted column had missing values.

    Examples
    --------
    >>> from sktvae import CategoryCodec
    >>> codec = CategoryCodec().fit(["no", "yes", "no", None])
    >>> codec.transform(["yes", None]).ravel()
    array([1., 2.])
    >>> codec.inverse_transform([[0], [2]])
    array(['no', None], dtype=object)
    """

    _parameter_constraints = {
        "min_frequency": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
            None,
        ],
        "max_categories": [Interval(Integral, 1, None, closed="left"), None],
        "handle_unknown": [StrOptions({"error", "infrequent_if_exist"})],
        "infrequent_label": "no_validation",
    }

    def __init__(
        self,
        min_frequency=None,
        max_categories=None,
        handle_unknown="error",
        infrequent_label=None,
    ):
        self.min_frequency = min_frequency
        self.max_categories = max_categories
        self.handle_unknown = handle_unknown
        self.infrequent_label = infrequent_label

    def _fit(self, column):
        values, codes = _categories(column)
        counts = np.bincount(codes[codes >= 0], minlength=len(values))
        rare = self._infrequent(counts, len(column))
        self.missing_ = bool((codes < 0).any())
        self._n_frequent = int((~rare).sum())
        self._has_infrequent = bool(rare.any())
        if self.infrequent_label is not None:
            self.categories_, self.infrequent_mass_ = values[~rare], np.empty(0)
        else:
            self.categories_ = np.concatenate([values[~rare], values[rare]])
            self.infrequent_mass_ = counts[rare] / max(counts[rare].sum(), 1)
        self.heads_ = (Categorical(self._n_frequent + self._has_infrequent + self.missing_),)
        self._head_names = ("",)
        if len(self.infrequent_mass_) > 1:
            self.heads_ += (Uniform(),)
            self._head_names += ("position",)

    def _infrequent(self, counts, n_samples):
        """Which categories share the infrequent code."""
        least, room = self.min_frequency, self.max_categories
        rare = np.zeros(len(counts), dtype=bool)
        if least is not None:
            rare = counts < (least if isinstance(least, Integral) else least * n_samples)
        if room is not None and (~rare).sum() + rare.any() > room:
            by_count = np.argsort(-counts, kind="stable")
            rare[by_count[room - 1 :]] = True
        return rare

    def _transform(self, column):
        codes, values = pd.factorize(column)
        rank = pd.Index(self.categories_, dtype=object).get_indexer(_objects(values))
        if (rank < 0).any() and self.infrequent_label is None:
            if self.handle_unknown == "error" or not self._has_infrequent:
                raise ValueError(
                    f"found unknown categories {list(_objects(values)[rank < 0][:3])}. Fit on a "
                    "table that has them, or give unknown ones the infrequent code: "
                    "CategoryCodec(min_frequency=10, handle_unknown='infrequent_if_exist')"
                )
        elif (rank < 0).any() and not self._has_infrequent:
            raise ValueError(
                f"found unknown categories {list(_objects(values)[rank < 0][:3])}, and fit saw no "
                "infrequent ones that they could join. Fit on a table that has them"
            )
        rank = np.where(rank < 0, self._n_frequent, rank)
        missing_code = self._n_frequent + self._has_infrequent
        rank = np.append(rank, -1)[codes]  # factorize marks a missing value with -1: the last
        out = np.where(rank < 0, missing_code, np.minimum(rank, self._n_frequent))
        if len(self.heads_) == 1:
            return (out,)
        middle = np.cumsum(self.infrequent_mass_) - self.infrequent_mass_ / 2
        position = np.append(np.full(self._n_frequent, 0.5), middle)
        return out, np.append(position, 0.5)[rank]

    def _inverse_transform(self, codes, position=None):
        codes = codes.astype(int)
        frequent = self.categories_[: self._n_frequent]
        table = np.append(frequent, [self.infrequent_label] * self._has_infrequent + [None])
        values = table[codes]
        if self._has_infrequent and self.infrequent_label is None:
            infrequent = codes == self._n_frequent
            place = np.full(len(codes), 0.5) if position is None else position
            rank = self._n_frequent + self._infrequent_rank(place[infrequent])
            values[infrequent] = self.categories_[rank]
        return values

    def _infrequent_rank(self, position):
        rank = np.searchsorted(np.cumsum(self.infrequent_mass_), position, side="right")
        return np.minimum(rank, len(self.infrequent_mass_) - 1)

    def _log_density(self, column, codes, position=None):
        if position is None:
            return np.zeros(len(codes))
        mass = self.infrequent_mass_[self._infrequent_rank(position)]
        return np.where(codes == self._n_frequent, np.log(mass), 0.0)


class _NumberCodec(_Codec):
    """What the codecs of numbers share: the decimals and the resolution of the column."""

    def _fit(self, column):
        values = column.to_numpy(dtype=float, na_value=np.nan)
        present = np.sort(values[~np.isnan(values)])
        self.missing_ = len(present) < len(values)
        self.decimals_ = _decimals(present)
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


def _single_column(X):
    """A column, however it is handed over, as a Series."""
    if isinstance(X, pd.Series):
        return X
    if isinstance(X, pd.DataFrame):
        if X.shape[1] == 1:
            return X.iloc[:, 0]
    else:
        if not isinstance(X, np.ndarray | pd.api.extensions.ExtensionArray | pd.Index):
            X = np.array(X, dtype=object)
        if X.ndim == 1 or X.shape[1:] == (1,):
            return pd.Series(X.reshape(-1) if X.ndim > 1 else X).infer_objects()
    raise ValueError(f"Expected one column, of shape (n,) or (n, 1), got shape {X.shape}")


def _objects(values):
    """An object array of whatever values, tuples too."""
    out = np.empty(len(values), dtype=object)
    out[:] = list(values)
    return out


def _categories(column):
    """Distinct values, sorted where they can be, and the code of each row: -1 where missing."""
    codes, values = pd.factorize(column)
    values = _objects(values)
    try:
        order = np.argsort(values, kind="stable")
    except TypeError:
        return values, codes
    rank = np.empty(len(order) + 1, dtype=int)
    rank[order], rank[-1] = np.arange(len(order)), -1
    return values[order], rank[codes]


def _decimals(values):
    """Fewest decimals that hold every value exactly; None when a float has no room for them."""
    values = np.unique(values)
    for decimals in range(_MAX_DECIMALS + 1):
        with np.errstate(over="ignore", invalid="ignore"):
            if np.array_equal(np.round(values, decimals), values):
                return decimals
    return None


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
