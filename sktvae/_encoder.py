"""`TableEncoder`: routes the columns of a table to codecs, table <-> encoded table."""

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.base import TransformerMixin, _fit_context, clone
from sklearn.utils._indexing import _get_column_indices
from sklearn.utils._param_validation import HasMethods, StrOptions
from sklearn.utils.metaestimators import _BaseComposition
from sklearn.utils.validation import check_is_fitted

from sktvae._codecs import CategoryCodec, ModeCodec, QuantileCodec
from sktvae._heads import Categorical
from sktvae._schema import TableSchema

_NUMERICAL = {"quantile": QuantileCodec, "modes": ModeCodec}


class TableEncoder(TransformerMixin, _BaseComposition):
    """Tables to encoded tables and back: one codec per column.

    The encoded table has one number a column for each head: codes, never one-hot, so that it stays
    narrow. Numbers go to the `numerical` codec, everything else to a
    :class:`~sktvae.CategoryCodec`; `codecs` says otherwise for the columns it names.

    Parameters
    ----------
    codecs : list of (str, codec, columns), default=None
        As in :class:`~sklearn.compose.ColumnTransformer`: a name, by which the codec's parameters
        can be set and searched over (``quantile__n_bins``); a codec, cloned for each column; and
        the columns: names, positions, a slice, a boolean mask, or a callable such as
        :func:`~sklearn.compose.make_column_selector`. Columns not named here are routed by their
        dtype.
    numerical : {"quantile", "modes"} or codec, default="quantile"
        For columns of numbers, dates and durations.
    categorical_features : "from_dtype" or array-like of {bool, int, str}, default="from_dtype"
        Columns that are categories though they hold numbers: names, positions or a mask. Strings,
        booleans and the category dtype always are.
    n_jobs : int, default=None
        Codecs fitted in parallel.
    random_state : int, RandomState instance or None, default=None
        Seeds the codecs that have no random state of their own.

    Attributes
    ----------
    codecs_ : list of codec
        The fitted codec of each column.
    heads_ : list of Head
        One per encoded column: `Categorical`, `Gaussian` or `Uniform`.
    schema_ : TableSchema
        Container, names and dtypes of the table.
    n_features_in_ : int
    feature_names_in_ : ndarray of str of shape (n_features_in_,)
        Defined where all column names are strings.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktvae import QuantileCodec, TableEncoder
    >>> X = pd.DataFrame({"age": [31, 54, 31, 54], "smoker": ["no", "yes", "no", "no"]})
    >>> encoder = TableEncoder([("years", QuantileCodec(n_bins=8), ["age"])])
    >>> encoder.fit_transform(X)
    array([[0., 0.],
           [1., 1.],
           [0., 0.],
           [1., 0.]])
    >>> encoder.inverse_transform([[1, 1]])
       age smoker
    0   54    yes
    """

    _parameter_constraints = {
        "codecs": [list, None],
        "numerical": [StrOptions(set(_NUMERICAL)), HasMethods(["fit", "inverse_transform"])],
        "categorical_features": ["array-like", StrOptions({"from_dtype"})],
        "n_jobs": [int, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        codecs=None,
        *,
        numerical="quantile",
        categorical_features="from_dtype",
        n_jobs=None,
        random_state=None,
    ):
        self.codecs = codecs
        self.numerical = numerical
        self.categorical_features = categorical_features
        self.n_jobs = n_jobs
        self.random_state = random_state

    @property
    def _named(self):
        """`codecs` as (name, codec) pairs, which is what _BaseComposition works on."""
        try:
            return [(name, codec) for name, codec, _ in self.codecs or []]
        except (TypeError, ValueError):
            return []  # left to `fit`, which raises the error

    @_named.setter
    def _named(self, pairs):
        self.codecs = [
            (name, codec, columns)
            for (name, codec), (_, _, columns) in zip(pairs, self.codecs, strict=True)
        ]

    def get_params(self, deep=True):
        """Parameters of this encoder, and with `deep` of its codecs.

        Parameters
        ----------
        deep : bool, default=True

        Returns
        -------
        params : dict
        """
        return self._get_params("_named", deep=deep)

    def set_params(self, **params):
        """Set parameters of this encoder or, as ``name__parameter``, of its codecs.

        Parameters
        ----------
        **params : dict

        Returns
        -------
        self
        """
        self._set_params("_named", **params)
        return self

    # prefer_skip_nested_validation=False: a codec of the user's validates its own parameters.
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None):
        """Look at the table, choose a codec for each column and fit it.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            Where a column cannot be modelled; the text names it and the way out.
        """
        schema = TableSchema.learn(X)
        columns = schema.read(X, type(self).__name__)
        codecs = self._route(X, schema)
        codecs = Parallel(n_jobs=self.n_jobs)(
            delayed(_named_errors)(name, codec.fit, column)
            for name, codec, column in zip(schema.names, codecs, columns, strict=True)
        )
        if schema.feature_names is not None:
            self.feature_names_in_ = schema.feature_names
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        self.n_features_in_ = len(columns)
        self.schema_, self.codecs_ = schema, codecs
        self.heads_ = [head for codec in codecs for head in codec.heads_]
        return self

    def transform(self, X):
        """Encode a table.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)

        Returns
        -------
        Z : ndarray of shape (n_samples, n_heads)
            Codes and numbers; NaN where a Gaussian head does not apply.
        """
        check_is_fitted(self)
        encoded = self._each("transform", self.schema_.read(X, type(self).__name__))
        return np.hstack(encoded, dtype=float)

    def inverse_transform(self, Z):
        """Decode an encoded table.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_heads)

        Returns
        -------
        X : DataFrame or ndarray of shape (n_samples, n_features)
            The container, names, order and dtypes that `fit` saw.
        """
        check_is_fitted(self)
        Z = self._check_encoded(Z)
        return self.schema_.write(self._each("inverse_transform", self._split(Z)))

    def log_density(self, X, Z):
        """Log-density of each row given its codes, see the codecs.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
        Z : ndarray of shape (n_samples, n_heads)
            ``transform(X)``.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            In nats.
        """
        columns = self.schema_.read(X, type(self).__name__)
        return np.sum(self._each("log_density", columns, self._split(np.asarray(Z))), axis=0)

    def get_feature_names_out(self, input_features=None):
        """Names of the encoded columns, such as ``age``, ``income__coarse``, ``income__fine``.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        names : ndarray of str of shape (n_heads,)
        """
        check_is_fitted(self)
        names = [
            codec.get_feature_names_out([name])
            for name, codec in zip(self.schema_.names, self.codecs_, strict=True)
        ]
        return np.concatenate(names)

    def _route(self, X, schema):
        """An unfitted codec for each column."""
        frame = X if isinstance(X, pd.DataFrame) else pd.DataFrame(columns=schema.names)
        seeds = np.random.SeedSequence(seed_of(self.random_state)).generate_state(frame.shape[1])
        categories = {i for i, c in enumerate(schema.columns) if c.kind == "category"}
        if not isinstance(self.categorical_features, str):
            categories |= set(_get_column_indices(frame, list(self.categorical_features)))
        numerical = self.numerical
        if isinstance(numerical, str):
            numerical = _NUMERICAL[numerical]()
        chosen = [CategoryCodec() if i in categories else None for i in range(frame.shape[1])]
        named = {}
        self._validate_names([name for name, _ in self._named])
        for name, codec, key in self.codecs or []:
            key = key(frame) if callable(key) else key
            for i in _get_column_indices(frame, key):
                if i in named:
                    raise ValueError(
                        f"Column {schema.names[i]!r} is given to two codecs, {named[i]!r} and "
                        f"{name!r}. Leave it in one of them."
                    )
                named[i], chosen[i] = name, codec
        out = []
        for codec, seed in zip(chosen, seeds, strict=True):
            codec = clone(numerical if codec is None else codec)
            if "random_state" in codec.get_params() and codec.random_state is None:
                codec.set_params(random_state=int(seed))
            out.append(codec)
        return out

    def _each(self, method, *arguments):
        """Call a method of each column's codec; an error names the column."""
        return [
            _named_errors(name, getattr(codec, method), *given)
            for name, codec, *given in zip(
                self.schema_.names, self.codecs_, *arguments, strict=True
            )
        ]

    def _split(self, Z):
        """Encoded columns of each codec."""
        widths = [len(codec.heads_) for codec in self.codecs_]
        return np.split(Z, np.cumsum(widths)[:-1], axis=1)

    def _check_encoded(self, Z):
        Z = np.asarray(Z, dtype=float)
        if Z.ndim != 2 or Z.shape[1] != len(self.heads_):
            raise ValueError(
                f"Expected 2D array with {len(self.heads_)} encoded columns, got shape {Z.shape}. "
                "Reshape your data."
            )
        for name, head, codes in zip(self.get_feature_names_out(), self.heads_, Z.T, strict=True):
            if isinstance(head, Categorical):
                wrong = ~((codes >= 0) & (codes < head.n_categories) & (codes % 1 == 0))
                if wrong.any():
                    raise ValueError(
                        f"Encoded column {name!r} must hold codes 0 to {head.n_categories - 1}, "
                        f"however: {codes[wrong][0]} in row {np.flatnonzero(wrong)[0]}."
                    )
        return Z

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        return tags


def seed_of(random_state):
    """An integer seed from what scikit-learn calls a random state, never the global one."""
    if random_state is None:
        return np.random.SeedSequence().entropy
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31))
    return int(random_state)


def _named_errors(name, function, *arguments):
    try:
        return function(*arguments)
    except ValueError as error:
        raise ValueError(f"Column {name!r}: {error}") from error
