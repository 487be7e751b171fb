"""`DifferentialPrivacy`: what a private fit promises, and how it spends its budget."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions

MISSING_EXTRA = (
    "Differential privacy needs the extra 'privacy'. Install it with: "
    'pip install "sktvae[privacy]"'
)


class DifferentialPrivacy(BaseEstimator):
    """Differential privacy for the whole fit of a synthesizer.

    A fit is (epsilon, delta)-differentially private [1]_ if no event has a probability that is more
    than ``exp(epsilon)`` times as high, plus `delta`, with a row in the table as without it. It is
    a promise to every person who has one row, whatever an attacker knows, and holds for everything
    that is computed from the fitted model: rows, scores, the saved file.

    The fit has three steps. The columns are encoded by what noisy histograms tell of them. An
    autoregressive network learns the joint distribution of the codes by stochastic gradient
    descent, in which the gradient of each row is clipped and noise is added to the sum [2]_. Rows
    drawn from it, which nothing more has to protect, are then what the synthesizer is fitted to, as
    it is to any other table.

    Parameters
    ----------
    epsilon : float, default=1.0
        The privacy loss, positive. Values up to about 1 are a strong promise; beyond 10 it says
        little.
    delta : float, default=None
        The probability that is exempt from the promise, in (0, 1). None is one divided by the
        number of rows, which is counted with noise, and at most 0.001.
    bounds : dict of column to (low, high), default=None
        Smallest and largest number of columns, as public knowledge, in the values of the table.
        Numbers beyond are moved to the nearest bound. What is declared costs nothing and makes a
        column more precise. **Do not read it from the table**: it is not protected.
    categories : dict of column to list, default=None
        All categories of columns, as public knowledge; other values are treated as infrequent. Of
        columns that are not declared, only categories whose noisy count is high enough are kept.
    preprocessing : float, default=0.3
        How much of `epsilon` the histograms of the columns would spend if nothing else were done.
        It is their squares that add up: 0.3 leaves some 95 % of `epsilon` for training.
    max_grad_norm : float or "auto", default="auto"
        The length that the gradient of a row is clipped to; "auto" is what nine of ten
        gradients stay below of rows that the network itself draws, which is measured again and
        again in training and costs nothing.
    batch_size : int or "auto", default="auto"
        Expected number of rows per step; each row takes part with the same probability. "auto" is
        a 16th of the rows, but at most 8,192.
    n_steps : int or "auto", default="auto"
        The number of steps of training; "auto" is 600.
    learning_rate : float or "auto", default="auto"
        Learning rate of Adam; "auto" is 6e-3.
    secure_noise : bool, default=False
        Whether the noise of the gradients is drawn exactly, by OpenDP, so that its low bits tell
        nothing of the sum that it is added to [3]_. A step then takes about a second longer. The
        noise of the histograms always is. The gradients themselves are float32.

    See Also
    --------
    TVAESynthesizer : Its parameter `privacy` takes an instance of this class.

    Notes
    -----
    The promise is about one row: the table with and without it. If people have several rows each,
    it weakens with their number. Names and dtypes of the columns are taken as public, and so are
    the parameters; choosing them by looking at private data, or fitting more than once to the same
    table, spends more than the sum says.

    How much noise is needed, and `delta` unless it is given, follow from the number of rows as it
    is counted with noise. Give `delta` if it has to be known beforehand.

    All noise, and the choice of the rows of each step, come from the operating system's entropy:
    `random_state` does not make a private fit reproducible. A seed that somebody knows would void
    the promise.

    References
    ----------
    .. [1] C. Dwork, K. Kenthapadi, F. McSherry, I. Mironov, M. Naor, "Our Data, Ourselves: Privacy
       Via Distributed Noise Generation", EUROCRYPT 2006.
    .. [2] M. Abadi, A. Chu, I. Goodfellow, H. B. McMahan, I. Mironov, K. Talwar, L. Zhang, "Deep
       Learning with Differential Privacy", CCS 2016.
    .. [3] I. Mironov, "On Significance of the Least Significant Bits for Differential Privacy", CCS
       2012.

    Examples
    --------
    >>> from sktvae import DifferentialPrivacy, TVAESynthesizer
    >>> promise = DifferentialPrivacy(epsilon=3.0, bounds={"age": (0, 100)})
    >>> TVAESynthesizer(privacy=promise).privacy.epsilon
    3.0
    """

    _parameter_constraints = {
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "delta": [Interval(Real, 0, 1, closed="neither"), None],
        "bounds": [Mapping, None],
        "categories": [Mapping, None],
        "preprocessing": [Interval(Real, 0, 1, closed="neither")],
        "max_grad_norm": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "n_steps": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "learning_rate": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "secure_noise": ["boolean"],
    }

    def __init__(
        self,
        epsilon: float = 1.0,
        delta: float | None = None,
        *,
        bounds: Mapping | None = None,
        categories: Mapping | None = None,
        preprocessing: float = 0.3,
        max_grad_norm: float | str = "auto",
        batch_size: int | str = "auto",
        n_steps: int | str = "auto",
        learning_rate: float | str = "auto",
        secure_noise: bool = False,
    ):
        self.epsilon = epsilon
        self.delta = delta
        self.bounds = bounds
        self.categories = categories
        self.preprocessing = preprocessing
        self.max_grad_norm = max_grad_norm
        self.batch_size = batch_size
        self.n_steps = n_steps
        self.learning_rate = learning_rate
        self.secure_noise = secure_noise

    def check(self) -> None:
        """Raise ValueError or TypeError if a parameter is wrong; the message names it."""
        self._validate_params()
        for name, ends in (self.bounds or {}).items():
            _check_bounds(name, ends)
        for name, values in (self.categories or {}).items():
            if isinstance(values, str) or not len(list(values)):
                raise ValueError(
                    f"categories[{name!r}] must be a list of one or more values, got {values!r}."
                )


def _check_bounds(name: Any, ends: Any) -> None:
    try:
        low, high = ends
        in_order = bool(low <= high)
    except (TypeError, ValueError):
        raise ValueError(
            f"bounds[{name!r}] must be a pair of the smallest and the largest value, got {ends!r}."
        ) from None
    if not in_order:
        raise ValueError(f"bounds[{name!r}] must be in ascending order, got {ends!r}.")
