"""`TVAESynthesizer`: the tabular variational autoencoder as a scikit-learn estimator."""

import copy
import warnings
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
    clone,
)
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from sktvae._codecs import seed_of
from sktvae._encoder import TableEncoder
from sktvae._training import train
from sktvae._vae import DECODERS, VAE
from sktvae._version import __version__

# Draws of z per row in `score_samples`, the same for every row.
_SCORE_DRAWS = 16
# Numbers in the widest tensor of a block of rows while sampling and scoring: 4 MB in float64.
_BLOCK_NUMBERS = 500_000


class TVAESynthesizer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Learn a table and write new rows of it: the tabular variational autoencoder.

    A :class:`~sktvae.TableEncoder` turns the table into codes and numbers; a variational
    autoencoder learns their joint distribution [1]_; `sample` draws from it and gives back a table
    with the columns, order, dtypes and container of the one given to `fit`.

    Parameters
    ----------
    embedding_dim : int, default=16
        Size of the latent z, and of the output of `transform`.
    compress_dims : array-like of int, default=(128, 128)
        Hidden layers of the encoder.
    decompress_dims : array-like of int, default=(96, 32, 64)
        Hidden layers of the decoder.
        For the autoregressive decoder: the width of its states, the hidden widths of residual
        blocks that all columns share (if any), and the width of the hidden layer of each column;
        a single number is both the first and the last.
    decoder : {"autoregressive", "independent"}, default="autoregressive"
        "autoregressive": each column depends on z and on the columns before it. "independent":
        the heads of a row are independent given z, as in the paper.
    numerical : {"quantile", "modes"} or codec, default="quantile"
        How numbers are encoded: :class:`~sktvae.QuantileCodec`, :class:`~sktvae.ModeCodec` (the
        paper's), or a codec of your own settings.
    categorical_features : "from_dtype" or array-like of {bool, int, str}, default="from_dtype"
        Columns that are categories though they hold numbers: names, positions or a mask.
    encoder : TableEncoder, default=None
        Full control over the encoding, instead of `numerical` and `categorical_features`.
    loss_factor : float, default=1
        Weight of the reconstruction against the Kullback-Leibler divergence.
    rate_floor : float, default=2
        So many nats of what z holds of a row cost nothing, so that a decoder that could do
        without z uses it; 0 for none.
    random_orders : float, default=0.2
        Share of the batches in which the autoregressive decoder learns the columns in a random
        order, and not in that of the table.
    l2scale : float, default=0
        L2 penalty on the weights, part of the gradient that Adam scales (as in the paper).
    weight_decay : float, default=0.1
        About the part of its size that a weight loses in an epoch, apart from the gradient [2]_;
        biases lose nothing. It is per epoch and not per step so that one value fits tables of any
        length [3]_.
    learning_rate : float, default=6e-3
        Of Adam.
    average : bool, default=True
        Validate and keep running averages of the weights, the last fifth of the steps [4]_.
    calibrate : bool, default=True
        After training, set the output biases such that each category has its frequency.
    batch_size : int or "auto", default="auto"
        Rows in a step of the optimiser; "auto" is a 64th of the rows, between 32 and 512.
    epochs : int, default=300
        Passes over the rows, at most.
    early_stopping : bool, default=True
        Hold out `validation_fraction` of the rows, stop when their loss has not improved for
        `n_iter_no_change` epochs, and keep the weights of the best epoch.
    validation_fraction : float, default=0.1
        Share of the rows held out when `early_stopping`; tables under 20 rows hold out none.
    n_iter_no_change : int, default=3
    tol : float, default=4e-3
        A validation loss lower by this counts as an improvement.
    warm_start : bool, default=False
        Go on from the weights and the encoder of the last `fit` instead of starting anew.
    device : str, default="auto"
        "auto" (a CUDA device where there is one, else the CPU) or any torch device. Between calls
        the network rests on the CPU.
    n_jobs : int, default=None
        Codecs fitted in parallel.
    random_state : int, RandomState instance or None, default=None
        An int makes `fit`, and every call of `sample`, give the same result again. No global random
        state is read or changed.
    verbose : bool, default=False
        Show a progress bar with the current losses.

    Attributes
    ----------
    encoder_ : TableEncoder
        The fitted encoder.
    vae_ : torch.nn.Module
        The fitted network, on the CPU.
    history_ : dict of list of float
        An entry an epoch: "loss", "reconstruction" and "kl" in nats a row, and the same of the
        held-out rows as "validation_loss", ...; "gap" is the validation loss less the same measure
        of as many training rows: what was learned by heart.
    n_iter_ : int
        Epochs trained.
    n_features_in_ : int
    feature_names_in_ : ndarray of str of shape (n_features_in_,)
        Defined where all column names are strings.

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
        "encoder": [HasMethods(["fit_transform", "transform", "inverse_transform"]), None],
        "loss_factor": [Interval(Real, 0, None, closed="neither")],
        "rate_floor": [Interval(Real, 0, np.inf, closed="left")],
        "random_orders": [Interval(Real, 0, 1, closed="both")],
        "l2scale": [Interval(Real, 0, None, closed="left")],
        "weight_decay": [Interval(Real, 0, 1, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "average": ["boolean"],
        "calibrate": ["boolean"],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "epochs": [Interval(Integral, 1, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "warm_start": ["boolean"],
        "device": [str, torch.device],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        embedding_dim=16,
        compress_dims=(128, 128),
        decompress_dims=(96, 32, 64),
        *,
        decoder="autoregressive",
        numerical="quantile",
        categorical_features="from_dtype",
        encoder=None,
        loss_factor=1.0,
        rate_floor=2.0,
        random_orders=0.2,
        l2scale=0.0,
        weight_decay=0.1,
        learning_rate=6e-3,
        average=True,
        calibrate=True,
        batch_size="auto",
        epochs=300,
        early_stopping=True,
        validation_fraction=0.1,
        n_iter_no_change=3,
        tol=4e-3,
        warm_start=False,
        device="auto",
        n_jobs=None,
        random_state=None,
        verbose=False,
    ):
        self.embedding_dim = embedding_dim
        self.compress_dims = compress_dims
        self.decompress_dims = decompress_dims
        self.decoder = decoder
        self.numerical = numerical
        self.categorical_features = categorical_features
        self.encoder = encoder
        self.loss_factor = loss_factor
        self.rate_floor = rate_floor
        self.random_orders = random_orders
        self.l2scale = l2scale
        self.weight_decay = weight_decay
        self.learning_rate = learning_rate
        self.average = average
        self.calibrate = calibrate
        self.batch_size = batch_size
        self.epochs = epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    # prefer_skip_nested_validation=False: a codec of the user's validates its own parameters.
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None):
        """Learn the joint distribution of the columns of a table.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            Columns of numbers, strings, booleans, categories, dates; missing values are learned
            as such.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            Where a parameter is wrong or a column cannot be modelled: the text names it and the
            way out, and the estimator is left as it was.
        """
        device = self._resolve_device()
        seeds = _seeds(self.random_state, 4)
        encoder, encoded = self._fit_encoder(X, seeds[0])
        vae = self._new_vae(encoder, seeds[1])
        training, validation = self._split(vae.layout.to_batch(encoded), seeds[2])
        history = train(
            vae.to(device),
            training.to(device),
            None if validation is None else validation.to(device),
            epochs=self.epochs,
            batch_size=self._rows_a_step(len(training.codes)),
            learning_rate=self.learning_rate,
            l2scale=self.l2scale,
            weight_decay=self.weight_decay,
            loss_factor=self.loss_factor,
            rate_floor=self.rate_floor,
            random_orders=self.random_orders,
            average=self.average,
            calibrate=self.calibrate,
            n_iter_no_change=self.n_iter_no_change,
            tol=self.tol,
            generator=torch.Generator(device).manual_seed(seeds[3]),
            verbose=self.verbose,
        )
        self._keep(encoder, vae.to("cpu"), history)
        return self

    def sample(self, n_samples=1, *, random_state=None):
        """Draw new rows.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows; 0 gives an empty table with the right columns.
        random_state : int, RandomState instance or None, default=None
            For this call; None uses the estimator's own `random_state`, so that an int there gives
            the same rows in every call.

        Returns
        -------
        X : DataFrame or ndarray of shape (n_samples, n_features)
            The container, names, order and dtypes that `fit` saw.
        """
        check_is_fitted(self)
        if not isinstance(n_samples, Integral) or isinstance(n_samples, bool) or n_samples < 0:
            raise ValueError(
                f"n_samples must be an integer of at least 0, however: {n_samples=}. For an empty "
                "table use n_samples=0."
            )
        device = self._resolve_device()
        generator = self._generator(random_state, device)
        return self._decode(
            n_samples,
            lambda rows: torch.randn(
                rows.stop - rows.start, self.vae_.embedding_dim, generator=generator, device=device
            ),
            generator,
        )

    def inverse_transform(self, Z):
        """Decode latent points: draw a row for each from the decoder.

        Parameters
        ----------
        Z : array-like of shape (n_samples, embedding_dim)

        Returns
        -------
        X : DataFrame or ndarray of shape (n_samples, n_features)
            Drawn with the estimator's `random_state`.
        """
        check_is_fitted(self)
        Z = np.asarray(Z, dtype=np.float32)
        if Z.ndim != 2 or Z.shape[1] != self.vae_.embedding_dim:
            raise ValueError(
                f"Expected 2D array of latent points with {self.vae_.embedding_dim} columns, got "
                f"shape {Z.shape}. Reshape your data."
            )
        z = torch.from_numpy(Z).to(self._resolve_device())
        return self._decode(len(z), lambda rows: z[rows], self._generator(None, z.device))

    def transform(self, X):
        """Posterior mean of the latent of each row.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)

        Returns
        -------
        Z : ndarray of shape (n_samples, embedding_dim)
        """
        check_is_fitted(self)
        encoded = self._encode(X)
        return self._by_blocks(encoded, lambda vae, batch: vae.posterior_mean(batch))

    def score_samples(self, X):
        """Lower bound of the log-likelihood of each row, on the scale of the table.

        The importance-weighted bound of [1]_ with 16 draws that are the same for every row, so
        that it is deterministic and a row's score does not depend on the other rows. A number
        counts with the mass of one unit in its column's last decimal (with its density where the
        column has no such grid), so that codecs can be compared with each other. A number beyond
        the range that `fit` saw is scored as the nearest end of the range. Under the modes codec
        the mass of a unit is its density times the unit, too much where a mode is narrower than
        the unit.

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
        encoded = self._encode(X)
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(
            _SCORE_DRAWS, self.vae_.embedding_dim, generator=generator, dtype=torch.float64
        )
        bound = self._by_blocks(
            encoded, lambda vae, batch: vae.log_prob_bound(batch, noise.to(batch.codes.device))
        )
        return bound + self.encoder_.log_density(X, encoded)

    def score(self, X, y=None):
        """Mean of `score_samples`: a lower bound of the log-likelihood a row, in nats.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
        y : ignored

        Returns
        -------
        score : float
        """
        return float(self.score_samples(X).mean())

    def _resolve_device(self):
        """The torch device, or an error that names the ones there are."""
        there = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        if torch.backends.mps.is_available():
            there.append("mps")
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.device)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(
                f"device={str(self.device)!r} cannot be used here ({str(error).splitlines()[0]}). "
                f"Use 'auto' or one of {there}."
            ) from error
        return device

    def _fit_encoder(self, X, seed):
        if self.warm_start and hasattr(self, "encoder_"):
            return self.encoder_, np.asarray(self._encode(X))
        if self.encoder is None:
            encoder = TableEncoder(
                numerical=self.numerical,
                categorical_features=self.categorical_features,
                n_jobs=self.n_jobs,
            )
        else:
            # no plain comparison: either may be an array or a codec
            words = (self.numerical, self.categorical_features)
            if not all(isinstance(w, str) for w in words) or self.numerical != "quantile":
                raise ValueError(
                    "encoder= says how every column is encoded, so numerical= and "
                    "categorical_features= must keep their defaults. Set them on the TableEncoder."
                )
            encoder = clone(self.encoder)
        if encoder.random_state is None:
            encoder.set_params(random_state=seed)
        return encoder, np.asarray(encoder.fit_transform(X))

    def _new_vae(self, encoder, seed):
        if self.warm_start and hasattr(self, "vae_"):
            return copy.deepcopy(self.vae_)
        return VAE(
            encoder.heads_,
            self.embedding_dim,
            _layer_sizes("compress_dims", self.compress_dims),
            _layer_sizes("decompress_dims", self.decompress_dims),
            self.decoder,
            seed,
        )

    def _split(self, batch, seed):
        """Training and validation rows."""
        n_rows = len(batch.codes)
        if not self.early_stopping or n_rows < 20:
            return batch, None
        order = torch.randperm(n_rows, generator=torch.Generator().manual_seed(seed))
        n_held = max(1, int(self.validation_fraction * n_rows))
        return batch.take(order[n_held:]), batch.take(order[:n_held])

    def _rows_a_step(self, n_rows):
        return min(max(n_rows // 64, 32), 512) if self.batch_size == "auto" else self.batch_size

    def _keep(self, encoder, vae, history):
        """Set the fitted attributes, all at once and last, so that a failed fit leaves none."""
        if self.warm_start and hasattr(self, "history_"):
            history = {name: self.history_.get(name, []) + new for name, new in history.items()}
        self.encoder_, self.vae_, self.history_ = encoder, vae, history
        self.n_iter_ = len(history["loss"])
        self.n_features_in_ = encoder.n_features_in_
        if hasattr(encoder, "feature_names_in_"):
            self.feature_names_in_ = encoder.feature_names_in_
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def _encode(self, X):
        try:
            return self.encoder_.transform(X)
        except ValueError as error:
            raise type(error)(str(error).replace("TableEncoder", type(self).__name__)) from error

    def _on(self, device, dtype=torch.float32):
        """The network on a device, the fitted one left where it is."""
        if device.type == "cpu" and dtype == torch.float32:
            return self.vae_
        return copy.deepcopy(self.vae_).to(device, dtype)

    def _decode(self, n_rows, latent, generator):
        """A table of rows drawn from the decoder at the z that `latent` gives for each block."""
        vae = self._on(generator.device)
        blocks = [np.empty((0, vae.layout.n_heads))]
        for rows in _blocks(n_rows, vae.decoder.draw_width):
            blocks.append(vae.draw(latent(rows), generator))
        return self.encoder_.inverse_transform(np.concatenate(blocks))

    def _by_blocks(self, encoded, function):
        """Apply a function of (vae, batch) to blocks of rows, in float64.

        In float64 the result of a row does not depend on the rows beside it.
        """
        device = self._resolve_device()
        device = torch.device("cpu") if device.type == "mps" else device  # no float64 there
        vae = self._on(device, torch.float64)
        results = []
        for rows in _blocks(len(encoded), vae.width):
            batch = vae.layout.to_batch(encoded[rows]).to(device)
            results.append(function(vae, batch).cpu().numpy())
        return np.concatenate(results)

    def _generator(self, random_state, device):
        state = self.random_state if random_state is None else random_state
        return torch.Generator(device).manual_seed(_seeds(state, 1)[0])

    @property
    def _n_features_out(self):
        return self.vae_.embedding_dim

    def __getstate__(self):
        return super().__getstate__() | {"_sktvae_version": __version__}

    def __setstate__(self, state):
        state = dict(state)
        version = state.pop("_sktvae_version", "unknown")
        if version != __version__:
            warnings.warn(
                f"This {type(self).__name__} was saved by sktvae {version} and is loaded by sktvae "
                f"{__version__}; it may not work, or give other results. Fit it again, or "
                f"install sktvae=={version}.",
                stacklevel=2,
            )
        super().__setstate__(state)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.transformer_tags.preserves_dtype = ["float64"]
        return tags


def _seeds(random_state, n):
    return [int(s) for s in np.random.SeedSequence(seed_of(random_state)).generate_state(n)]


def _blocks(n_rows, width):
    """Slices of rows whose widest tensor stays within bounds."""
    size = max(1, min(16_384, _BLOCK_NUMBERS // max(width, 1)))
    return [slice(start, min(start + size, n_rows)) for start in range(0, n_rows, size)]


def _layer_sizes(name, dims):
    sizes = tuple(dims)
    if not sizes or not all(isinstance(d, Integral) and d > 0 for d in sizes):
        raise ValueError(
            f"{name} must hold positive integers, at least one, however: {name}={dims}"
        )
    return tuple(int(d) for d in sizes)
