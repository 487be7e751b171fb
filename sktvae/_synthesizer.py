"""`TVAESynthesizer`: the tabular variational autoencoder as a scikit-learn estimator."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_array, check_is_fitted

from sktvae import _generation
from sktvae._collective import current_group
from sktvae._conditional import ConditionalMixin
from sktvae._encoding.conditions import n_rows_wanted
from sktvae._encoding.encoder import TableEncoder
from sktvae._encoding.routing import MIN_SAMPLES
from sktvae._encoding.sample_weight import row_weights
from sktvae._model.vae import DECODERS
from sktvae._persistence import VersionedMixin
from sktvae._privacy.settings import DifferentialPrivacy
from sktvae._random import seeds_of
from sktvae._streaming import StreamingMixin

_LARGEST_LATENT = 1e15


class TVAESynthesizer(
    StreamingMixin,
    ConditionalMixin,
    VersionedMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    """Learn the joint distribution of a table and draw new rows: the tabular VAE.

    A :class:`~sktvae.TableEncoder` turns the table into codes and numbers. A variational
    autoencoder learns their joint distribution [1]_. `sample` draws from it, and returns a table
    with the columns, order, dtypes and container of the one that was given to `fit`.

    Rows are taken to be independent of each other: the order of the rows, and the index of a
    DataFrame, are not modelled.

    Parameters
    ----------
    embedding_dim : int, default=16
        Size of the latent z, and of the output of `transform`.
    compress_dims : array-like of int, default=(128, 128)
        Sizes of the hidden layers of the posterior network q(z | x).
    decompress_dims : array-like of int, default=(96, 32, 64)
        Sizes of the hidden layers of the decoder. For the autoregressive decoder: the size of its
        states, the hidden sizes of the residual blocks that all columns share (if any), and the
        size of the hidden layer of each column; a single number is both the first and the last.
    decoder : {"autoregressive", "independent"}, default="autoregressive"
        "autoregressive": each column depends on z and on the columns before it. "independent":
        the columns are independent given z, as in the paper.
    numerical : {"quantile", "modes"} or codec, default="quantile"
        How numbers are encoded: by a :class:`~sktvae.QuantileCodec`, by a
        :class:`~sktvae.ModeCodec` (as in the paper), or by a codec with parameters of your own.
    categorical_features : "from_dtype" or array-like of {bool, int, str}, default="from_dtype"
        Columns that are categories although they hold numbers: names, positions or a mask.
    min_samples : int, default=3
        The encoding keeps nothing of a column that rests on fewer rows: no extremes, no rare
        categories; see :class:`~sktvae.TableEncoder`. With 1 there is no such protection.
    encoder : TableEncoder, default=None
        Full control over the encoding, in place of `numerical`, `categorical_features` and
        `min_samples`.
    loss_factor : float, default=1
        Weight of the reconstruction relative to the Kullback-Leibler divergence.
    rate_floor : float, default=2
        Free nats ("free bits"): z may hold this much information about a row without a penalty, so
        that a decoder that could do without z uses it; 0 for none.
    random_orders : float, default=0.2
        Share of the batches in which the autoregressive decoder learns the columns in a random
        order instead of that of the table.
    l2scale : float, default=0
        L2 penalty on the weights; it is part of the gradient that Adam scales, as in the paper.
    weight_decay : float, default=0.1
        Approximate share of its size that a weight loses per epoch, apart from the gradient [2]_;
        biases lose nothing. It is given per epoch, not per step, so that one value suits tables
        of any length [3]_.
    learning_rate : float, default=6e-3
        Learning rate of Adam.
    dropout : float or "auto", default="auto"
        The share of the last hidden units of the decoder that each step sets to zero, which keeps
        small tables from being memorised; "auto" is 0.5 for up to 1,000 rows and falls with the
        logarithm of their number to 0 for 20,000. It is 0 for the independent decoder, in which z
        must pass through these units.
    average : bool, default=True
        Validate and keep running averages of the weights over the last fifth of the steps [4]_.
    conditional : bool, default=True
        Whether `fit` also learns every column given any others, which `sample` with conditions,
        `impute` and the methods that begin with `conditional_` need. It takes as long as the rest
        of the fit or up to twice as long, and changes nothing else.
    calibrate : bool, default=True
        After training, adjust the output biases so that each code is drawn as often as it occurs.
    batch_size : int or "auto", default="auto"
        Rows per step of the optimiser; "auto" is a 64th of the rows, but between 32 and 512.
    epochs : int, default=300
        Maximum number of passes over the rows.
    early_stopping : bool, default=True
        Hold out `validation_fraction` of the rows, stop when their loss has not improved for
        `n_iter_no_change` checks, and keep the best weights. There is one check per epoch, or one
        per 1,000 steps if an epoch has more.
    refit : bool, default=True
        If `early_stopping` held rows out and the table has fewer than 5,000 rows, fit again on all
        of them, for as many epochs as were best.
    validation_fraction : float, default=0.1
        Share of the rows that is held out if `early_stopping`, up to 50,000 rows. Tables with
        fewer than 20 rows are not split.
    n_iter_no_change : int, default=3
        The number of checks without an improvement after which training stops, but never before
        100 steps without one: an epoch of a small table is only a few steps.
    tol : float, default=4e-3
        The validation loss must be lower by this, in nats per row, to count as an improvement. In
        a table so long that an epoch has several checks, by as many times this, but at most once
        for every 64 steps between two checks, or for every 32,768 rows if these are more.
    privacy : DifferentialPrivacy, default=None
        The promise of differential privacy that the whole fit is to keep, see
        :class:`~sktvae.DifferentialPrivacy`; None for no promise. All other parameters then say
        how the rows of a private model of the table are learned.
    warm_start : bool, default=False
        Continue from the weights and the encoder of the last `fit` instead of starting from
        scratch. Parameters that determine the network or the encoding must then stay as they were.
    cache : str or path-like, default=None
        The folder for the temporary file of a table that is read piece by piece, see `fit`; None
        for the system's folder of temporary files.
    device : str or torch.device, default="auto"
        "auto" or any torch device. "auto" is a CUDA device if there is one and the rows have
        enough cells for it to gain, else the CPU. Between calls the network is kept on the CPU.
    n_jobs : int, default=None
        The number of codecs that are fitted in parallel; None means 1 and -1 all processors.
    random_state : int, RandomState instance or None, default=None
        With an int, `fit` and every call of `sample` are reproducible on the same machine with
        the same number of threads. No global random state is read or changed.
    verbose : bool, default=False
        Whether to show a progress bar with the current losses.

    Attributes
    ----------
    encoder_ : TableEncoder
        The fitted encoder. ``encoder_.columns_`` says how each column is encoded, and why.
    vae_ : torch.nn.Module
        The fitted network, on the CPU.
    history_ : dict of list of float
        One entry per check: "loss", "reconstruction" and "kl" in nats per row; the same of the
        held-out rows as "validation_loss" etc.; and "gap", the validation loss minus the same
        measure of as many training rows, which grows as rows are memorised.
    n_iter_ : int
        The number of epochs begun; each call of `partial_fit` counts as one.
    any_order_ : AnyOrder or None
        The network behind conditions, with the history of its training; None if `conditional` is
        False, or if its training was interrupted.
    epsilon_, delta_ : float
        What a private fit has spent; only defined if `privacy` is given.
    privacy_ledger_ : DataFrame
        On what it was spent: one row per mechanism, with its noise and the epsilon that it alone
        would have. Only defined if `privacy` is given.
    n_features_in_ : int
    feature_names_in_ : ndarray of str of shape (`n_features_in_`,)
        Defined if all column names are strings.

    See Also
    --------
    XU2019 : The configuration of the paper, ``TVAESynthesizer(**sktvae.XU2019)``.

    References
    ----------
    .. [1] L. Xu, M. Skoularidou, A. Cuesta-Infante, K. Veeramachaneni, "Modeling Tabular Data using
       Conditional GAN", NeurIPS 2019.
    .. [2] I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.
    .. [3] X. Wang, L. Aitchison, "How to set AdamW's weight decay as you scale model and dataset
       size", 2024.
    .. [4] O. Shamir, T. Zhang, "Stochastic Gradient Descent for Non-smooth Optimization", ICML
       2013.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktvae import TVAESynthesizer
    >>> X = pd.DataFrame({"age": [31, 54, 31, 54] * 25, "smoker": ["no", "yes", "no", "no"] * 25})
    >>> synthesizer = TVAESynthesizer(epochs=20, random_state=0).fit(X)
    >>> rows = synthesizer.sample(3)
    >>> rows.shape, list(rows.columns)
    ((3, 2), ['age', 'smoker'])
    >>> bool(rows["age"].isin([31, 54]).all())
    True
    """

    _parameter_constraints = {
        "embedding_dim": [Interval(Integral, 1, None, closed="left")],
        "compress_dims": ["array-like"],
        "decompress_dims": ["array-like"],
        "decoder": [StrOptions(set(DECODERS))],
        "numerical": TableEncoder._parameter_constraints["numerical"],
        "categorical_features": TableEncoder._parameter_constraints["categorical_features"],
        "min_samples": TableEncoder._parameter_constraints["min_samples"],
        "encoder": [TableEncoder, None],
        "loss_factor": [Interval(Real, 0, None, closed="neither")],
        "rate_floor": [Interval(Real, 0, np.inf, closed="left")],
        "random_orders": [Interval(Real, 0, 1, closed="both")],
        "l2scale": [Interval(Real, 0, None, closed="left")],
        "weight_decay": [Interval(Real, 0, 1, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "dropout": [Interval(Real, 0, 1, closed="left"), StrOptions({"auto"})],
        "average": ["boolean"],
        "conditional": ["boolean"],
        "calibrate": ["boolean"],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "epochs": [Interval(Integral, 1, None, closed="left")],
        "early_stopping": ["boolean"],
        "refit": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "privacy": [DifferentialPrivacy, None],
        "warm_start": ["boolean"],
        "cache": [str, os.PathLike, None],
        "device": [str, torch.device],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        embedding_dim: int = 16,
        compress_dims: Any = (128, 128),
        decompress_dims: Any = (96, 32, 64),
        *,
        decoder: str = "autoregressive",
        numerical: Any = "quantile",
        categorical_features: Any = "from_dtype",
        min_samples: int = MIN_SAMPLES,
        encoder: TableEncoder | None = None,
        loss_factor: float = 1.0,
        rate_floor: float = 2.0,
        random_orders: float = 0.2,
        l2scale: float = 0.0,
        weight_decay: float = 0.1,
        learning_rate: float = 6e-3,
        dropout: float | str = "auto",
        average: bool = True,
        conditional: bool = True,
        calibrate: bool = True,
        batch_size: int | str = "auto",
        epochs: int = 300,
        early_stopping: bool = True,
        refit: bool = True,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 3,
        tol: float = 4e-3,
        privacy: DifferentialPrivacy | None = None,
        warm_start: bool = False,
        cache: str | os.PathLike | None = None,
        device: str | torch.device = "auto",
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ):
        self.embedding_dim = embedding_dim
        self.compress_dims = compress_dims
        self.decompress_dims = decompress_dims
        self.decoder = decoder
        self.numerical = numerical
        self.categorical_features = categorical_features
        self.min_samples = min_samples
        self.encoder = encoder
        self.loss_factor = loss_factor
        self.rate_floor = rate_floor
        self.random_orders = random_orders
        self.l2scale = l2scale
        self.weight_decay = weight_decay
        self.learning_rate = learning_rate
        self.dropout = dropout
        self.average = average
        self.conditional = conditional
        self.calibrate = calibrate
        self.batch_size = batch_size
        self.epochs = epochs
        self.early_stopping = early_stopping
        self.refit = refit
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.privacy = privacy
        self.warm_start = warm_start
        self.cache = cache
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    # prefer_skip_nested_validation=False: a codec of the user validates its own parameters.
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> TVAESynthesizer:
        """Learn the joint distribution of the columns of a table.

        In the processes of an initialised `torch.distributed`, all of them learn one model
        together, each from its own rows, and end with the same estimator.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            Columns of numbers, strings, booleans, categories, dates; missing values are learned
            as such. A table larger than memory is given as a `pyarrow.dataset.Dataset`, a
            `polars.LazyFrame`, or an iterable of tables that can be read more than once, such as a
            list. It is read twice, piece by piece (three times if there are relations). Encoded
            rows of more than 128 MB are kept in a temporary file in the folder `cache`, which is
            removed however `fit` ends.
        y : ignored
        sample_weight : array-like of shape (n_samples,), default=None
            A row of weight 2 counts as two rows, in the encoding and in the gradients; a row of
            weight 0 is left out. If all weights are integers that sum up to at most ten times the
            number of rows of positive weight, the fit equals that of the repeated rows, except that
            a key is still taken for a key. Positive weights with a mean below one are scaled to a
            mean of one.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If a parameter is wrong or a column cannot be modelled. The message names it and says
            what to do, and the estimator is left as it was.
        OSError
            If the temporary file cannot be written, because the disk is full or else.
        RuntimeError
            If several processes learn together, and another one fails.
        KeyboardInterrupt
            If training is interrupted (Ctrl-C) before the first check; the estimator is left as it
            was. A later interruption ends the training with a warning, and the best weights so far
            are kept.
        """
        group = current_group()
        with group.together():
            self._check_ranks(group, sample_weight)
            seeds = group.broadcast(seeds_of(self.random_state, 9))
            encoder, rows, private = self._learned_rows(X, sample_weight, seeds[0])
        with closing(rows):
            n_rows = group.total(rows.n_rows)
            vae, trained, conditional = self._fit_networks(encoder, rows, seeds[1:])
        self._keep(encoder, vae, trained, conditional, private)
        self._stream = {"n_rows": n_rows}
        return self

    def sample(
        self, n_samples: int | None = None, *, conditions: Any = None, random_state: Any = None
    ) -> Any:
        """Draw new rows.

        Parameters
        ----------
        n_samples : int, default=None
            The number of rows; 0 gives an empty table with the right columns. None is 1, or the
            number of rows of a table of conditions.
        conditions : dict, DataFrame or other table, default=None
            What is known of the rows. Every row satisfies its conditions, and the other columns
            follow their distribution given these; no row is drawn in vain. A dict holds, by the
            name of the column:

            - a value, or a missing one: ``{"age": 40, "sex": "F"}``;
            - a range of numbers or times: ``{"age": pandas.Interval(18, 30, closed="left")}``;
            - a list of values and ranges, one of which holds: ``{"country": ["F", "I"]}``;
            - a dict of these with the share of the rows that get each:
              ``{"income": {">50K": 0.5, "<=50K": 0.5}}``.

            A table has one row per row that is wanted, and the columns that are known; each of its
            cells is a condition, a missing one that the value is missing. It may hold the extremes
            of `fit`, which are not kept: a number beyond the range that is kept, by at most its
            length, counts as the nearest end for the other columns, with a warning.
        random_state : int, RandomState instance, Generator instance or None, default=None
            The seed of this call. None uses the estimator's own `random_state`, so that with an
            int there every call returns the same rows.

        Returns
        -------
        X : DataFrame or ndarray of shape (n_samples, n_features)
            The container, names, order and dtypes that `fit` saw. The rows of a smaller sample
            are not the first rows of a larger one.

        Raises
        ------
        ValueError
            If a condition names a column that is unknown, dropped or a key, a value that `fit` did
            not see, or a part only of a relation; or if the conditions contradict each other, so
            that the model has no support for them. Columns, values and ways out are named.
        """
        check_is_fitted(self)
        n_samples = n_rows_wanted(n_samples, conditions)
        if conditions is not None:
            return self._conditional_call(random_state).sample(n_samples, conditions)
        generator = self._generator(random_state, n_samples)
        return _generation.draw_table(self.encoder_, self.vae_, n_samples, generator)

    def sample_batches(
        self,
        n_samples: int | None,
        *,
        batch_size: int = 100_000,
        conditions: Any = None,
        random_state: Any = None,
    ) -> Iterator[Any]:
        """Draw new rows, table by table, in memory that does not depend on their number.

        Parameters
        ----------
        n_samples : int or None
            The number of rows of all tables together, as in `sample`.
        batch_size : int, default=100_000
            The number of rows of each table but the last, which may have fewer.
        conditions : dict, DataFrame or other table, default=None
            As in `sample`. Shares hold in all rows together, and new keys do not repeat.
        random_state : int, RandomState instance, Generator instance or None, default=None
            The seed of this call, as in `sample`.

        Returns
        -------
        batches : iterator of DataFrame or ndarray of shape (n_rows, n_features)
            Tables as `sample` returns them; one without rows if `n_samples` is 0. Without
            conditions they hold the very rows of ``sample(n_samples)`` with the same seed, whatever
            the size of the batches; with conditions, other rows of the same distribution.

        Raises
        ------
        ValueError
            As `sample`, and if `batch_size` is not an integer >= 1. All of them are raised by the
            call itself, except that conditions which contradict each other are only found when
            rows are drawn.

        Examples
        --------
        >>> import pandas as pd
        >>> from sktvae import TVAESynthesizer
        >>> X = pd.DataFrame({"age": [31, 54] * 50, "smoker": ["no", "yes"] * 50})
        >>> synthesizer = TVAESynthesizer(epochs=5, conditional=False, random_state=0).fit(X)
        >>> [len(rows) for rows in synthesizer.sample_batches(1000, batch_size=400)]
        [400, 400, 200]
        """
        check_is_fitted(self)
        n_samples = n_rows_wanted(n_samples, conditions)
        batch_size = _generation.check_batch_size(batch_size)
        if conditions is not None:
            call = self._conditional_call(random_state)
            return call.sample_batches(n_samples, conditions, batch_size)
        generator = self._generator(random_state, n_samples)
        return _generation.draw_tables(self.encoder_, self.vae_, n_samples, batch_size, generator)

    def transform(self, X: Any) -> np.ndarray:
        """Posterior mean of the latent of each row.

        With the autoregressive decoder and 5,000 rows or more, the means have learned to tell every
        column of a row linearly. Their dimensions differ in size: standardise them before a model
        that depends on scale.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)

        Returns
        -------
        Z : ndarray of shape (n_samples, embedding_dim)

        Raises
        ------
        ValueError
            If a column holds a category, or a missing value, that `fit` did not see; see
            `handle_unknown` of :class:`~sktvae.CategoryCodec`.
        """
        check_is_fitted(self)
        encoded = self.encoder_.encode(X, strict=True, owner=type(self).__name__)
        device = self._device_to_pass(encoded.n_samples)
        return _generation.posterior_means(self.vae_, encoded, device)

    def inverse_transform(self, Z: Any) -> Any:
        """Decode latent points: draw one row for each of them.

        Parameters
        ----------
        Z : array-like of shape (n_samples, embedding_dim)

        Returns
        -------
        X : DataFrame or ndarray of shape (n_samples, n_features)
            Drawn with the estimator's `random_state`.

        Raises
        ------
        ValueError
            If Z has the wrong number of columns, or is not real and finite, or is beyond 1e15.
        """
        check_is_fitted(self)
        Z = check_array(Z, dtype=np.float64, input_name="Z")
        if Z.shape[1] != self.vae_.embedding_dim:
            raise ValueError(
                f"Expected 2D array of latent points with {self.vae_.embedding_dim} columns, got "
                f"shape {Z.shape}. Reshape your data."
            )
        if np.abs(Z).max() > _LARGEST_LATENT:
            raise ValueError(
                f"Z holds {np.abs(Z).max():g}, and latents must be at most {_LARGEST_LATENT:g} in "
                "size: their squares are computed in float32."
            )
        generator = self._generator(None, len(Z))
        z = torch.from_numpy(Z.astype(np.float32)).to(generator.device)
        return _generation.draw_table(self.encoder_, self.vae_, len(z), generator, z)

    def score_samples(self, X: Any) -> np.ndarray:
        """Lower bound of the log-likelihood of each row, on the scale of the table.

        The importance-weighted bound of [1]_ with eight draws that are the same for every row: the
        points of a scrambled Sobol sequence. It is therefore deterministic, and the score of a row
        does not depend on the other rows, up to rounding (the network computes in float32, so that
        a score is exact to some 1e-5 nats). A number counts with the mass of one
        unit in its column's last decimal (with its density if the column has no such grid), so
        that codecs can be compared with each other. A category, or a missing value, that `fit` did
        not see has a low likelihood, for which mass is reserved. A column that is dropped, or a
        key, counts as if all its values were equally likely. A number outside the range that `fit`
        saw is scored as the nearest end of the range. Under the modes codec the mass of a unit is
        its density times the unit, which is too much if a mode is narrower than the unit.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)

        Returns
        -------
        log_likelihood : ndarray of shape (n_samples,)
            In nats.

        References
        ----------
        .. [1] Y. Burda, R. Grosse, R. Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016,
           equation 8.
        """
        check_is_fitted(self)
        encoded = self.encoder_.encode(X, log_density=True, owner=type(self).__name__)
        device = self._device_to_pass(encoded.n_samples)
        return _generation.score_rows(self.vae_, encoded, device)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Mean of `score_samples`: a lower bound of the log-likelihood per row, in nats.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
        y : ignored
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the mean.

        Returns
        -------
        score : float
        """
        scores = self.score_samples(X)
        return float(np.average(scores, weights=row_weights(sample_weight, scores)))

    def _generator(self, random_state: Any, n_rows: int) -> torch.Generator:
        """Return a generator on the device for so many rows, seeded for one call."""
        state = self.random_state if random_state is None else random_state
        return torch.Generator(self._device_to_pass(n_rows)).manual_seed(seeds_of(state, 1)[0])

    @property
    def privacy_ledger_(self) -> pd.DataFrame:
        return pd.DataFrame(self._ledger)

    @property
    def _n_features_out(self) -> int:
        return self.vae_.embedding_dim

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.transformer_tags.preserves_dtype = ["float64"]
        return tags
