"""`ModeCodec`: numbers <-> modes of a Gaussian mixture, and positions in them."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval

from sktvae._encoding.codec import EncodedColumn, NumberCodec
from sktvae._encoding.summary import ColumnSummary
from sktvae._heads import Categorical, Gaussian
from sktvae._table.decimals import DecimalGrid

_LARGEST = 1e150  # squares of deviations must be finite


class ModeCodec(NumberCodec):
    """Mode-specific normalisation: the mode that a number belongs to, and its position there.

    A variational Bayesian Gaussian mixture finds the modes of the column. A number `x` in the mode
    of mean `m` and standard deviation `s` is encoded as the code of the mode and
    ``(x - m) / (4 s)``, clipped to [-1, 1] (Xu et al. 2019, section 4.2). There are two departures
    from the paper: `x` belongs to its most probable mode, where the paper draws one, so that
    `transform` is deterministic; and decoded values are rounded to the decimals of the column and
    clipped to its range.

    The range ends at the mean of the two smallest and at that of the two largest numbers, so that
    neither extreme is kept in the fitted codec, unless it repeats.

    Parameters
    ----------
    n_components : int, default=10
        Upper limit to the number of modes.
    weight_threshold : float, default=0.005
        Modes with a smaller weight are left out.
    max_samples : int, default=1500
        The number of values that the mixture is fitted on; if there are more, a subsample that is
        evenly spaced in rank.
    random_state : int, RandomState instance or None, default=None
        Seed of the initial mixture.

    Attributes
    ----------
    means_, scales_ : ndarray of shape (n_modes,)
        Centre of each mode, and four times its standard deviation.
    weights_ : ndarray of shape (n_modes,)
    decimals_ : int or None
        Decimals of the column; None if they are more than a float can hold.
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
        self,
        n_components: int = 10,
        weight_threshold: float = 0.005,
        max_samples: int = 1500,
        random_state: Any = None,
    ):
        self.n_components = n_components
        self.weight_threshold = weight_threshold
        self.max_samples = max_samples
        self.random_state = random_state

    def _fit(self, summary: ColumnSummary) -> None:
        if np.abs(summary.values).max() > _LARGEST:
            raise ValueError(
                f"the column holds {summary.values[np.abs(summary.values).argmax()]}, but "
                f"ModeCodec takes only numbers up to {_LARGEST:g}. Use a QuantileCodec, or rescale "
                "the column"
            )
        self.missing_ = summary.missing > 0
        self._grid = DecimalGrid.of(summary.values)
        last = max(int(summary.counts.sum()), 1) - 1
        n_rows = int(summary.rows.sum())
        ends = summary.at_ranks(
            [0, min(1, n_rows - 1), max(n_rows - 2, 0), n_rows - 1], summary.rows
        )
        self._low, self._high = ends[:2].mean(), ends[2:].mean()
        ranks = np.linspace(0, last, min(last + 1, self.max_samples)).astype(int)
        sample = np.resize(summary.at_ranks(ranks), max(len(ranks), 2))  # the mixture needs two
        self._fit_mixture(sample)
        mode = Categorical(len(self.means_) + self.missing_, n_ordered=len(self.means_))
        self.heads_ = (mode, Gaussian(refines=True))
        # A missing value, if there was none in `fit`, counts as one more row of the main mode.
        self._unseen_code = int(np.argmax(self.weights_))
        self._unseen_rows = float(self.weights_[self._unseen_code] * summary.counts.sum())

    def _fit_mixture(self, sample: np.ndarray) -> None:
        # It imports many other parts of scikit-learn, which take 17 MB.
        from sklearn.mixture import BayesianGaussianMixture

        centre, spread = sample.mean(), sample.std()
        spread = spread if spread > 0 else 1.0
        mixture = BayesianGaussianMixture(
            n_components=min(self.n_components, len(np.unique(sample))),
            weight_concentration_prior=0.001,
            init_params="k-means++",
            tol=1e-3,
            max_iter=60,
            random_state=self.random_state,
        )
        with warnings.catch_warnings():
            # The modes are a notation for numbers, not a result: they need not have converged.
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(((sample - centre) / spread)[:, None])
        least = min(self.weight_threshold, mixture.weights_.max())
        kept = np.flatnonzero(mixture.weights_ >= least)
        kept = kept[np.argsort(mixture.means_[kept, 0])]
        self.weights_ = mixture.weights_[kept]
        self.means_ = centre + spread * mixture.means_[kept, 0]
        self.scales_ = 4 * spread * np.sqrt(mixture.covariances_[kept, 0, 0])

    @property
    def decimals_(self) -> int | None:
        return self._grid.decimals

    def _encode(self, column: np.ndarray, log_density: bool) -> EncodedColumn:
        absent = np.isnan(column)
        x = np.where(absent, self.means_[self._unseen_code], column)
        deviation = 4 * (x[:, None] - self.means_) / self.scales_
        mode = np.argmax(np.log(self.weights_ / self.scales_) - deviation**2 / 2, axis=1)
        value = np.clip((x - self.means_[mode]) / self.scales_[mode], -1, 1)
        mode = np.where(absent, len(self.means_) if self.missing_ else self._unseen_code, mode)
        heads = [mode, np.where(absent, np.nan, value)]
        encoded = EncodedColumn(heads, refused=self._refuse_missing(absent))
        # One number at each end is beyond the range of its own column, see the class.
        n_beyond = [(column < self._low).sum(), (column > self._high).sum()]
        encoded.is_clipped = max(n_beyond) > 1
        if not log_density:
            return encoded
        scale = self.scales_[np.where(absent, 0, mode)]
        density = np.where(absent, 0.0, np.log(self._grid.step / scale))
        density += self._log_reserved(absent, mode)
        encoded.log_density = density
        return encoded

    def decode(self, heads: list[np.ndarray], n_samples: int) -> np.ndarray:
        mode, value = heads[0].astype(int), heads[1].astype(float)
        absent = mode >= len(self.means_)
        mode = np.where(absent, 0, mode)
        x = self.means_[mode] + np.clip(value, -1, 1) * self.scales_[mode]
        x = self._grid.round(np.clip(x, self._low, self._high))
        return np.where(absent, np.nan, x)
