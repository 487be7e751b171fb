"""`RejectionSynthesizer`: of the rows that a model draws, those that classifiers take for real."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
from scipy.special import expit
from sklearn.base import BaseEstimator, _fit_context, clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from sktvae import _generation
from sktvae._collective import current_group
from sktvae._encoding.conditions import n_rows_wanted
from sktvae._encoding.mode import ModeCodec
from sktvae._encoding.ordered import ordered_codes
from sktvae._persistence import VersionedMixin
from sktvae._random import seeds_of
from sktvae._synthesizer import TVAESynthesizer
from sktvae._table.chunks import as_chunks

# A classifier learns to tell at most so many rows of the table from so many times as many draws,
# and sees at most so many numbers of both together.
_MOST_ROWS, _DRAWS_PER_ROW, _MOST_NUMBERS = 100_000, 4, 25_000_000
# The share of both that it does not learn from, by which it is judged; and the fewest real ones.
_HELD_OUT, _FEWEST_HELD_OUT = 0.1, 20
# The share of the draws that should be accepted more often than always, and the share of all draws
# that is accepted at least.
_SHARE_BEYOND, _LEAST_ACCEPTANCE = 0.005, 0.05
# Of the slope by which odds are calibrated: steps to find it, and what keeps it finite.
_NEWTON_STEPS, _LEAST_CURVATURE = 20, 1e-9
# Probabilities of a classifier lie between this and one minus this.
_LEAST_PROBABILITY = 1e-4
# Draws from which the share of accepted ones is estimated.
_ROWS_TO_COUNT = 20_000
# Leaves rest on many rows, and trees are small, so that they know little of single ones.
_TREES = {
    "max_iter": 200,
    "learning_rate": 0.2,
    "max_leaf_nodes": 8,
    "min_samples_leaf": 200,
    "l2_regularization": 10.0,
    "early_stopping": False,
}


@dataclass(frozen=True)
class Rejection:
    """Accept rows with a probability proportional to the odds that they are real.

    Attributes
    ----------
    classifiers : tuple of classifier
        Each has learned to tell real rows, of class 1, from draws that those before it accept.
    slopes : tuple of float
        What the logarithm of the odds of each classifier is multiplied by.
    bound : float
        Logarithm of the odds from which on a row is always accepted.
    rate : float
        The share of all draws that is accepted.
    """

    classifiers: tuple[Any, ...] = ()
    slopes: tuple[float, ...] = ()
    bound: float = 0.0
    rate: float = 1.0

    def log_odds(self, codes: np.ndarray) -> np.ndarray:
        """Return the logarithm of the product of the odds of all classifiers, of shape (n_rows,).

        They include the ratio of real rows to draws among which the classifiers were trained; so
        does the bound, and the ratio cancels.
        """
        total = np.zeros(len(codes))
        for classifier, slope in zip(self.classifiers, self.slopes, strict=True):
            total += slope * _log_odds(classifier, codes)
        return total

    def probability(self, codes: np.ndarray) -> np.ndarray:
        """Return the probability that each row is accepted."""
        return np.exp(np.minimum(self.log_odds(codes) - self.bound, 0.0))

    def and_then(
        self, classifier: Any, slope: float, accepted: np.ndarray, drawn: np.ndarray
    ) -> Rejection:
        """Return the rejection that also consults one more classifier.

        Parameters
        ----------
        classifier : classifier
        slope : float
        accepted, drawn : ndarray of shape (n_rows, n_codes)
            Draws that this rejection accepts, and any draws.
        """
        after = Rejection((*self.classifiers, classifier), (*self.slopes, slope))
        log_odds = after.log_odds(drawn)
        bound = float(np.quantile(after.log_odds(accepted), 1 - _SHARE_BEYOND))
        bound = min(bound, _bound_of_rate(log_odds, _LEAST_ACCEPTANCE))
        return replace(after, bound=bound, rate=_rate(log_odds, bound))


def learn_rejection(
    real: np.ndarray,
    weight: np.ndarray | None,
    draw: Callable[[Rejection, int, int], np.ndarray],
    classifier: Any,
    n_rounds: int,
    seed: int,
) -> Rejection:
    """Learn which draws to reject, one classifier after the other.

    Each classifier learns to tell real rows from those that are drawn and accepted so far. Its
    odds are calibrated on held-out rows, real and drawn. It is kept if it tells these apart better
    than by chance. The first that does not ends the rounds, and so does a rate of acceptance that
    has become as low as it may be.

    Parameters
    ----------
    real : ndarray of shape (n_rows, n_codes)
    weight : ndarray of shape (n_rows,) or None
    draw : callable
        Returns as many accepted draws, of shape (n_draws, n_codes), as its second argument says,
        with its third as the seed.
    classifier : classifier
        It is cloned, and must accept NaN.
    n_rounds : int
    seed : int

    Returns
    -------
    rejection : Rejection
    """
    random = np.random.default_rng(seed)
    n_numbers = (1 + _DRAWS_PER_ROW) * max(real.shape[1], 1)
    order = random.permutation(len(real))[: min(_MOST_ROWS, _MOST_NUMBERS // n_numbers)]
    real, weight = real[order], None if weight is None else weight[order]
    n_out = max(_FEWEST_HELD_OUT, int(_HELD_OUT * len(real)))
    rejection = Rejection()
    if not n_rounds or not real.shape[1] or len(real) < 2 * n_out:
        return rejection
    any_drawn = draw(rejection, _ROWS_TO_COUNT, int(random.integers(2**31)))
    for _ in range(n_rounds):
        drawn = draw(rejection, _DRAWS_PER_ROW * len(real), int(random.integers(2**31)))
        n_drawn_out = _DRAWS_PER_ROW * n_out
        n_drawn = len(drawn) - n_drawn_out
        of_rows = _weights(weight, slice(n_out, None), n_drawn)
        fitted = clone(classifier).fit(
            np.concatenate([real[n_out:], drawn[n_drawn_out:]]),
            np.repeat([1, 0], [len(real) - n_out, n_drawn]),
            **({} if of_rows is None else {"sample_weight": of_rows}),
        )
        held_out = (
            _log_odds(fitted, np.concatenate([real[:n_out], drawn[:n_drawn_out]])),
            np.repeat([1.0, 0.0], [n_out, n_drawn_out]),
            _weights(weight, slice(None, n_out), n_drawn_out),
        )
        if not _tells_apart(*held_out):
            break
        slope = min(_slope(*held_out), 1.0)
        rejection = rejection.and_then(fitted, slope, drawn, any_drawn)
        if rejection.rate <= 1.01 * _LEAST_ACCEPTANCE:
            break
    return rejection


def _rate(log_odds: np.ndarray, bound: float) -> float:
    """Return the mean probability that draws are accepted."""
    return float(np.exp(np.minimum(log_odds - bound, 0.0)).mean())


def _bound_of_rate(log_odds: np.ndarray, rate: float) -> float:
    """Return the bound with which this share of draws is accepted."""
    low, high = float(log_odds.min()), float(log_odds.max()) - np.log(rate)
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if _rate(log_odds, middle) > rate else (low, middle)
    return low


def _weights(weight: np.ndarray | None, rows: slice, n_drawn: int) -> np.ndarray | None:
    """Return the weights of some real rows, relative to the mean of all, and of draws."""
    if weight is None:
        return None
    return np.concatenate([weight[rows] / weight.mean(), np.ones(n_drawn)])


def _tells_apart(log_odds: np.ndarray, is_real: np.ndarray, weight: np.ndarray | None) -> bool:
    """Whether odds are larger for real rows by more than two standard errors.

    This is the score test of the slope of `_slope`, which does not fail if all rows are told apart.
    """
    products = (is_real - np.average(is_real, weights=weight)) * (
        log_odds - np.average(log_odds, weights=weight)
    )
    products = products if weight is None else products * weight
    return bool(products.sum() > 2 * np.sqrt((products**2).sum()))


def _slope(log_odds: np.ndarray, is_real: np.ndarray, weight: np.ndarray | None) -> float:
    """Return the slope of a logistic regression on the log-odds of a classifier.

    It is found by Newton's method. The slope is 1 if the odds are calibrated, less if they are
    too far from even, and 0 if they tell nothing (Platt 1999).
    """
    inputs = np.stack([np.ones_like(log_odds), log_odds], axis=1)
    weight = np.ones_like(log_odds) if weight is None else weight
    coefficients = np.zeros(2)
    for _ in range(_NEWTON_STEPS):
        p = expit(inputs @ coefficients)
        curvature = (inputs.T * (weight * p * (1 - p))) @ inputs + _LEAST_CURVATURE * np.eye(2)
        coefficients += np.linalg.solve(curvature, inputs.T @ (weight * (is_real - p)))
    return float(coefficients[1])


def _log_odds(classifier: Any, codes: np.ndarray) -> np.ndarray:
    is_real = list(classifier.classes_).index(1)
    p = classifier.predict_proba(codes)[:, is_real].astype(float)
    p = np.clip(p, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    return np.log(p) - np.log1p(-p)


class RejectionSynthesizer(VersionedMixin, BaseEstimator):
    """Draw rows with a synthesizer, and reject those that classifiers recognise as synthetic.

    A classifier learns to tell the rows of the table from rows that a
    :class:`~sktvae.TVAESynthesizer` draws. If it is right, its odds are the ratio of the two
    densities, and a draw that is accepted with a probability proportional to these odds follows the
    distribution of the table: rejection sampling, with a classifier in place of the ratio [1]_. The
    next classifier learns to tell real rows from those that are accepted, and so on.

    Samples are more faithful, above all where a boundary or a ratio links several columns, which
    trees find and the network blurs; see the table in the notes. The price is the time of `fit` and
    `sample`, and that the classifiers, too, know something of single rows.

    Parameters
    ----------
    synthesizer : TVAESynthesizer, default=None
        The synthesizer that draws; it is cloned. If one is given, its parameters can be searched
        over as ``synthesizer__epochs``. None is ``TVAESynthesizer(conditional=False)``. It must not
        use a :class:`~sktvae.ModeCodec`.
    n_rounds : int, default=3
        The number of classifiers, at most. Rounds end when a classifier does not tell held-out rows
        apart better than by chance, by more than two standard errors; on small tables there may be
        none. They also end when only one draw in 20 would be accepted.
    classifier : classifier, default=None
        A classifier with `predict_proba` that accepts NaN, of which a clone is fitted in each
        round. It is given one number per column, see Notes. None is a
        :class:`~sklearn.ensemble.HistGradientBoostingClassifier` of 200 small trees, whose leaves
        rest on 200 rows at least. Others may keep more of the rows that they are given, such as all
        of them (nearest neighbours).
    random_state : int, RandomState instance or None, default=None
        Seed of `fit` and `sample`. None uses the `random_state` of `synthesizer`.

    Attributes
    ----------
    synthesizer_ : TVAESynthesizer
        The fitted synthesizer. All that is not about unconditional samples is asked of it, and
        does not know of the rejection: ``synthesizer_.score_samples(X)``, ``transform``, ....
    classifiers_ : list of classifier
        The fitted classifiers; those that were no better than chance are not kept.
    acceptance_rate_ : float
        The share of the draws that are accepted.
    n_features_in_ : int
    feature_names_in_ : ndarray of str of shape (`n_features_in_`,)
        Defined if all column names are strings.

    See Also
    --------
    TVAESynthesizer : The model that draws; for conditions, imputation and likelihoods.

    Notes
    -----
    The classifiers read codes, not the table: the number of the bin of a number, of a category, and
    of a tie, see :class:`~sktvae.TableEncoder`. A threshold of a tree is thus never the value of a
    row, and what `min_samples` keeps out of the model stays out of it. A classifier knows training
    rows a little better than others nevertheless; docs/benchmarks.md shows how much this helps an
    attacker who holds the model.

    A classifier exaggerates what it has learned. The logarithm of its odds is therefore multiplied
    by a slope, at most 1, with which they fit a held-out tenth of the rows and draws best [2]_.

    The odds are cut: one in 200 of the draws that all but the last classifier accept has odds
    beyond the bound, or more if the rate of acceptance would otherwise be below 5 %. The other
    draws are then not rejected for the sake of a few.

    References
    ----------
    .. [1] S. Azadi, C. Olsson, T. Darrell, I. Goodfellow, A. Odena, "Discriminator Rejection
       Sampling", ICLR 2019. There the classifier is the discriminator of a generative adversarial
       network.
    .. [2] J. Platt, "Probabilistic Outputs for Support Vector Machines", 1999.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from sktvae import RejectionSynthesizer, TVAESynthesizer
    >>> first = np.random.default_rng(0).random(2000)
    >>> X = pd.DataFrame({"first": first, "second": first**2})
    >>> synthesizer = TVAESynthesizer(epochs=5, conditional=False)
    >>> model = RejectionSynthesizer(synthesizer, n_rounds=1, random_state=0).fit(X)
    >>> model.sample(3).shape
    (3, 2)
    >>> 0 < model.acceptance_rate_ <= 1
    True
    """

    _parameter_constraints = {
        "synthesizer": [TVAESynthesizer, None],
        "n_rounds": [Interval(Integral, 0, None, closed="left")],
        "classifier": [HasMethods(["fit", "predict_proba"]), None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        synthesizer: TVAESynthesizer | None = None,
        *,
        n_rounds: int = 3,
        classifier: Any = None,
        random_state: Any = None,
    ):
        self.synthesizer = synthesizer
        self.n_rounds = n_rounds
        self.classifier = classifier
        self.random_state = random_state

    # prefer_skip_nested_validation=False: the synthesizer validates its own parameters.
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> RejectionSynthesizer:
        """Fit the synthesizer, and then the classifiers.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            A table in memory, see :meth:`TVAESynthesizer.fit`. The classifiers learn from at most
            100,000 of its rows, chosen at random, or fewer if it has more than fifty columns.
        y : ignored
        sample_weight : array-like of shape (n_samples,), default=None
            As in :meth:`TVAESynthesizer.fit`; the classifiers get weights, too, and must take them.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If a parameter is wrong, a column cannot be modelled or is encoded by a ModeCodec, the
            table is read piece by piece, or the synthesizer promises differential privacy. The
            estimator is left as it was.
        """
        current_group().refuse("RejectionSynthesizer")
        synthesizer = clone(self._synthesizer())
        if synthesizer.privacy is not None:
            raise ValueError(
                "The classifiers of RejectionSynthesizer learn from the rows of the table, for "
                "which there is no promise of differential privacy. Use the TVAESynthesizer alone, "
                "or set privacy=None."
            )
        _refuse_modes(synthesizer)
        if as_chunks(X) is not None:
            raise ValueError(
                "RejectionSynthesizer needs a table in memory, and X is read piece by piece. Load "
                "the table, or a sample of its rows, into memory, or use a TVAESynthesizer."
            )
        seeds = seeds_of(self._random_state(), 3, call=1)
        classifier = self._classifier(seeds[1], sample_weight is not None)
        if self.random_state is not None:
            synthesizer.set_params(random_state=seeds[0])
        synthesizer.fit(X, sample_weight=sample_weight)
        encoder = synthesizer.encoder_
        encoded = encoder.encode(X, sample_weight=sample_weight)
        real = ordered_codes(encoder.fitted, encoded.heads, encoded.n_samples)

        def draw(rejection: Rejection, n_rows: int, seed: int) -> np.ndarray:
            pieces = _accepted(synthesizer, rejection, n_rows, seed)
            return np.concatenate([codes for _, codes in pieces])

        self._keep(
            synthesizer,
            learn_rejection(real, encoded.weight, draw, classifier, self.n_rounds, seeds[2]),
        )
        return self

    def sample(self, n_samples: int | None = None, *, random_state: Any = None) -> Any:
        """Draw rows that are accepted.

        Parameters
        ----------
        n_samples : int, default=None
            The number of rows; 0 gives an empty table with the right columns. None is 1.
        random_state : int, RandomState instance, Generator instance or None, default=None
            The seed of this call. None uses the estimator's own `random_state`, or that of
            `synthesizer`.

        Returns
        -------
        X : DataFrame or ndarray of shape (n_samples, n_features)
            The container, names, order and dtypes that `fit` saw. With the same seed, the rows of
            a smaller sample are the first rows of a larger one.

        Raises
        ------
        ValueError
            If `n_samples` is not an integer >= 0.
        """
        check_is_fitted(self)
        n_samples = n_rows_wanted(n_samples, None)
        pieces = self._accepted_heads(n_samples, random_state)
        encoder, at_once = self.synthesizer_.encoder_, max(n_samples, 1)
        (table,) = _generation.decode_tables(encoder, pieces, at_once)
        return table

    def sample_batches(
        self, n_samples: int | None, *, batch_size: int = 100_000, random_state: Any = None
    ) -> Iterator[Any]:
        """Draw rows that are accepted, table by table, in memory that does not depend on them.

        Parameters
        ----------
        n_samples : int or None
            The number of rows of all tables together, as in `sample`.
        batch_size : int, default=100_000
            The number of rows of each table but the last, which may have fewer.
        random_state : int, RandomState instance, Generator instance or None, default=None
            The seed of this call, as in `sample`.

        Returns
        -------
        batches : iterator of DataFrame or ndarray of shape (n_rows, n_features)
            Together, they hold the very rows of ``sample(n_samples)`` with the same seed. One table
            without rows if `n_samples` is 0.

        Raises
        ------
        ValueError
            If `n_samples` is not an integer >= 0, or `batch_size` is not an integer >= 1.
        """
        check_is_fitted(self)
        n_samples = n_rows_wanted(n_samples, None)
        batch_size = _generation.check_batch_size(batch_size)
        pieces = self._accepted_heads(n_samples, random_state)
        return _generation.decode_tables(self.synthesizer_.encoder_, pieces, batch_size)

    def _accepted_heads(
        self, n_rows: int, random_state: Any
    ) -> Iterator[tuple[list[np.ndarray], int]]:
        seed = seeds_of(self._random_state() if random_state is None else random_state, 1)[0]
        rejection = Rejection(tuple(self.classifiers_), self._slopes, self._bound)
        for heads, codes in _accepted(self.synthesizer_, rejection, n_rows, seed):
            yield heads, len(codes)

    def _synthesizer(self) -> TVAESynthesizer:
        return TVAESynthesizer(conditional=False) if self.synthesizer is None else self.synthesizer

    def _random_state(self) -> Any:
        own = self.random_state
        return self._synthesizer().random_state if own is None else own

    def _classifier(self, seed: int, is_weighted: bool) -> Any:
        """Return the classifier, not fitted, with a seed wherever it has none."""
        if self.classifier is None:
            return HistGradientBoostingClassifier(**_TREES, random_state=seed)
        classifier = clone(self.classifier)
        if is_weighted and not has_fit_parameter(classifier, "sample_weight"):
            raise ValueError(
                f"The classifier {classifier!r} takes no sample_weight in `fit`. Choose another "
                "classifier, or leave the weights out."
            )
        unset = [
            name
            for name, value in classifier.get_params().items()
            if value is None and (name == "random_state" or name.endswith("__random_state"))
        ]
        return classifier.set_params(**dict.fromkeys(unset, seed))

    def _keep(self, synthesizer: TVAESynthesizer, rejection: Rejection) -> None:
        """Set the fitted attributes, last and all at once, so that a failed fit leaves none."""
        self.synthesizer_, self.acceptance_rate_ = synthesizer, rejection.rate
        self.classifiers_ = list(rejection.classifiers)
        self._slopes, self._bound = rejection.slopes, rejection.bound
        self.n_features_in_ = synthesizer.n_features_in_
        if hasattr(synthesizer, "feature_names_in_"):
            self.feature_names_in_ = synthesizer.feature_names_in_
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags


def _refuse_modes(synthesizer: TVAESynthesizer) -> None:
    """Raise ValueError if numbers get codes of which decoding keeps only a part."""
    for name, value in synthesizer.get_params().items():
        if isinstance(value, ModeCodec) or (isinstance(value, str) and value == "modes"):
            raise ValueError(
                f"The synthesizer has {name}={value!r}, but the codes of a ModeCodec differ "
                "between rows that are decoded to the same numbers: a classifier would recognise "
                "draws by them. Use QuantileCodec, which is the default."
            )


def _accepted(
    synthesizer: TVAESynthesizer, rejection: Rejection, n_rows: int, seed: int
) -> Iterator[tuple[list[np.ndarray], np.ndarray]]:
    """Draw as many rows as are wanted, without those that are rejected.

    Yields
    ------
    heads : list of ndarray of shape (n_accepted,)
    codes : float32 ndarray of shape (n_accepted, n_codes)
        See `ordered_codes`.
    """
    fitted, random = synthesizer.encoder_.fitted, np.random.default_rng(seed)
    # The device is that of many rows however few are wanted, as these are the first of many.
    generator = synthesizer._generator(seed, _ROWS_TO_COUNT)
    for heads, n_drawn in _generation.draw_codes(synthesizer.vae_, generator):
        codes = ordered_codes(fitted, heads, n_drawn)
        is_accepted = random.random(n_drawn) < rejection.probability(codes)
        rows = np.flatnonzero(is_accepted)[:n_rows]
        yield [head[rows] for head in heads], codes[rows]
        n_rows -= len(rows)
        if not n_rows:
            return
