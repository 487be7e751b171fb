"""`TableEncoder`: routes the columns of a table to codecs, table <-> encoded table."""

import uuid
import warnings
from functools import partial

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import TransformerMixin, _fit_context, clone
from sklearn.utils._indexing import _get_column_indices
from sklearn.utils._param_validation import HasMethods, StrOptions
from sklearn.utils.metaestimators import _BaseComposition
from sklearn.utils.validation import check_is_fitted

from sktvae._codecs import CategoryCodec, KeyCodec, seed_of
from sktvae._heads import Categorical
from sktvae._number_codecs import ModeCodec, QuantileCodec
from sktvae._relations import Relation
from sktvae._schema import TableSchema

_NUMERICAL = {"quantile": QuantileCodec, "modes": ModeCodec}
# More categories than this are the infrequent ones of a column that has no codec of its own.
_MOST_CATEGORIES = 1000
_FEWEST_KEYS = 50  # rows of a table in which a column of different values is taken for a key


class TableEncoder(TransformerMixin, _BaseComposition):
    """Tables to encoded tables and back: one codec per column.

    The encoded table has one number a column for each head: codes, never one-hot, so that it stays
    narrow. Numbers go to the `numerical` codec, everything else to a
    :class:`~sktvae.CategoryCodec` (of 1,000 categories; rarer ones share a code and are drawn by
    their frequency); `codecs` says otherwise for the columns it names. Text that is different in
    each of 50 rows or more, and row numbers, are keys: they go to a :class:`~sktvae.KeyCodec`, with
    a warning.

    Parameters
    ----------
    codecs : list of (str, codec or "drop", columns), default=None
        As in :class:`~sklearn.compose.ColumnTransformer`: a name, by which the codec's parameters
        can be set and searched over (``quantile__n_bins``); a codec, cloned for each column, or
        "drop" for columns that are left out of decoded tables; and the columns: names, positions,
        a slice, a boolean mask, or a callable such as
        :func:`~sklearn.compose.make_column_selector`. Columns not named here are routed by their
        dtype.
    relations : list of relation, default=None
        What every row keeps: :class:`~sktvae.LessEqual`, :class:`~sktvae.FixedCombinations`,
        :class:`~sktvae.SumOf`.
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
        The fitted codec of each column; None for one that is dropped or that a relation encodes
        with another.
    relations_ : list of relation
        Fitted, in the order in which decoding goes through them.
    heads_ : list of Head
        One per encoded column: `Categorical`, `Gaussian` or `Uniform`.
    schema_ : TableSchema
        Container, names and dtypes of the table that `fit` saw.
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
        "relations": [list, None],
        "numerical": [StrOptions(set(_NUMERICAL)), HasMethods(["fit", "inverse_transform"])],
        "categorical_features": ["array-like", StrOptions({"from_dtype"})],
        "n_jobs": [int, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        codecs=None,
        *,
        relations=None,
        numerical="quantile",
        categorical_features="from_dtype",
        n_jobs=None,
        random_state=None,
    ):
        self.codecs = codecs
        self.relations = relations
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
        self._fit(X)
        return self

    def _fit(self, X):
        """Fit, with the attributes set last of all; gives ``X`` in pandas."""
        schema, frame = TableSchema.learn(X)
        relations = self._fit_relations(schema, frame)
        codecs, dropped = self._route(frame, schema, relations)
        plain = _plain(schema, frame, relations)
        # Columns are read one by one, so that their plain values are not in memory all at once.
        codecs = Parallel(n_jobs=self.n_jobs)(
            delayed(_fit_codec)(name, codec, read)
            for name, codec, read in zip(schema.names, codecs, plain, strict=True)
        )
        heads = [head for codec in codecs if codec is not None for head in codec.heads_]
        if not heads:
            raise ValueError(
                f"X has no column to learn: all of {schema.names} are keys or dropped. Give it "
                "others, or say how a column is encoded: TableEncoder(codecs=...)."
            )
        if schema.feature_names is not None:
            self.feature_names_in_ = schema.feature_names
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        self.n_features_in_ = len(schema.columns)
        self.schema_, self.codecs_, self.relations_ = schema, codecs, relations
        self._dropped, self.heads_ = dropped, heads
        return frame

    @_fit_context(prefer_skip_nested_validation=False)
    def fit_transform(self, X, y=None):
        """Fit, and encode the table, which is looked at once.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
        y : ignored

        Returns
        -------
        Z : ndarray of shape (n_samples, n_heads)
        """
        return self._encode(self._fit(X))

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
        return self._encode(self._conform(X))

    def _encode(self, frame):
        out = np.empty((len(frame), len(self.heads_)))
        for name, codec, read, where in self._columns(frame):
            out[:, where] = _named_errors(name, codec.transform, read())
        return out

    def inverse_transform(self, Z):
        """Decode an encoded table.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_heads)

        Returns
        -------
        X : DataFrame or ndarray of shape (n_samples, n_features)
            The container, names, order and dtypes that `fit` saw, without dropped columns.
        """
        check_is_fitted(self)
        Z = self._check_encoded(Z)
        columns = [None] * self.n_features_in_
        for i, where in enumerate(self._heads_of_columns()):
            if self.codecs_[i] is not None:
                decode = self.codecs_[i].inverse_transform
                columns[i] = _named_errors(self.schema_.names[i], decode, Z[:, where])
        for relation in self.relations_:
            at = _positions(self.schema_, relation)
            sources = [columns[i] for i in at[len(relation.targets) :]]
            encoded = columns[at[0]]
            for i, values in zip(at, relation.decode(encoded, sources), strict=False):
                columns[i] = values
        kept = [c for i, c in enumerate(columns) if i not in self._dropped]
        return self.schema_.without(self._dropped).write(kept)

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
            In nats. Where a relation encodes a column, it is that of the difference or of the
            combination; what follows from other columns adds nothing.
        """
        frame, Z = self._conform(X), np.asarray(Z)
        total = np.zeros(len(Z))
        for name, codec, read, where in self._columns(frame):
            total += _named_errors(name, codec.log_density, read(), Z[:, where])
        return total

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
            if codec is not None
        ]
        return np.concatenate(names)

    def _fit_relations(self, schema, frame):
        """Fitted relations, each after those that decode its sources."""
        relations, left = [], []
        decided = {}  # target -> relation
        for relation in self.relations or []:
            if not isinstance(relation, Relation):
                raise TypeError(
                    f"relations holds {relation!r}. Give it relations such as "
                    "LessEqual('begin', 'end')."
                )
            relation = clone(relation)
            at = _positions(schema, relation)
            n = len(relation.targets)
            if len(set(at)) < len(at):
                raise ValueError(f"{relation} names a column twice.")
            for name in relation.targets:
                if name in decided:
                    raise ValueError(
                        f"Column {name!r} is decided by two relations, {decided[name]} and "
                        f"{relation}. Leave out one of them."
                    )
                decided[name] = relation
            columns = [schema.columns[i] for i in at]
            plain = [schema.columns[i].read(frame.iloc[:, i]) for i in at]
            relation.fit(columns, plain[:n], plain[n:])
            left.append(relation)
        while left:
            ready = [r for r in left if not any(s in t.targets for t in left for s in r.sources)]
            if not ready:
                raise ValueError(f"The relations {left} need each other in a circle.")
            relations += ready
            left = [r for r in left if r not in ready]
        return relations

    def _route(self, frame, schema, relations):
        """An unfitted codec for each column, None where there is none; and what is dropped."""
        n_columns = len(schema.columns)
        seeds = np.random.SeedSequence(seed_of(self.random_state)).generate_state(n_columns)
        kinds = [column.kind for column in schema.columns]
        related = {i for relation in relations for i in _positions(schema, relation)}
        for relation in relations:
            first, *others = _positions(schema, relation)[: len(relation.targets)]
            kinds[first] = relation.kind
            for i in others:
                kinds[i] = None
        asked = set()
        if not isinstance(self.categorical_features, str):
            asked = set(_get_column_indices(frame, list(self.categorical_features)))
        numerical = self.numerical
        if isinstance(numerical, str):
            numerical = _NUMERICAL[numerical]()
        categorical = CategoryCodec(max_categories=_MOST_CATEGORIES)
        chosen = [
            categorical if kind == "category" or i in asked else numerical
            for i, kind in enumerate(kinds)
        ]
        named, dropped = {}, set()
        self._validate_names([name for name, _ in self._named])
        for name, codec, key in self.codecs or []:
            key = key(frame) if callable(key) else key
            for i in _get_column_indices(frame, key):
                if i in named:
                    raise ValueError(
                        f"Column {schema.names[i]!r} is given to two codecs, {named[i]!r} and "
                        f"{name!r}. Leave it in one of them."
                    )
                if kinds[i] is None:
                    raise ValueError(
                        f"Column {schema.names[i]!r} is given to the codec {name!r}, but a "
                        "relation encodes it with another column. Leave it out of one of them."
                    )
                if i in related:
                    _check_related(schema.names[i], codec, kinds[i])
                _check_choice(schema.columns[i], codec)
                named[i], chosen[i] = name, codec
                if _is_drop(codec):
                    dropped.add(i)
        for i in sorted(set(range(n_columns)) - named.keys()):
            if frame.iloc[:, i].isna().all():
                chosen[i] = categorical  # of one category: always missing
            elif i not in related | asked and _is_key(frame.iloc[:, i], schema.columns[i]):
                chosen[i] = KeyCodec()
                warnings.warn(
                    f"Column {schema.names[i]!r} has a different value in each of its {len(frame)} "
                    "rows: a key, of which there is nothing to learn. Its synthetic values are "
                    "fresh ones. Say so, and this warning goes: "
                    f"TableEncoder([('key', KeyCodec(), [{schema.names[i]!r}])]); or 'drop' or a "
                    "CategoryCodec() or QuantileCodec() in place of KeyCodec().",
                    stacklevel=5,
                )
        out = []
        for i, (codec, seed) in enumerate(zip(chosen, seeds, strict=True)):
            if kinds[i] is None or i in dropped:
                out.append(None)
                continue
            codec = clone(codec)
            if "random_state" in codec.get_params() and codec.random_state is None:
                codec.set_params(random_state=int(seed))
            out.append(codec)
        return out, tuple(sorted(dropped))

    def _heads_of_columns(self):
        """For each column, a slice of the encoded columns."""
        widths = [0 if codec is None else len(codec.heads_) for codec in self.codecs_]
        ends = np.cumsum(widths)
        return [slice(end - width, end) for end, width in zip(ends, widths, strict=True)]

    def _conform(self, X):
        """``X`` in pandas, whose rows keep the relations that leave nothing to encode."""
        frame = self.schema_.conform(X, type(self).__name__)
        plain = _plain(self.schema_, frame, self.relations_)
        for relation in self.relations_:
            if relation.kind is None:
                plain[_positions(self.schema_, relation)[0]]()
        return frame

    def _columns(self, frame):
        """Name, codec, a function that reads plain values, and place, of each encoded column."""
        plain = _plain(self.schema_, frame, self.relations_)
        for name, codec, read, where in zip(
            self.schema_.names, self.codecs_, plain, self._heads_of_columns(), strict=True
        ):
            if codec is not None:
                yield name, codec, read, where

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


def _plain(schema, frame, relations):
    """For each column a function that reads what its codec learns."""
    read = [partial(c.read, frame.iloc[:, i]) for i, c in enumerate(schema.columns)]
    out = list(read)
    for relation in relations:
        at = _positions(schema, relation)
        n = len(relation.targets)
        encode = partial(
            _read_related, relation, [read[i] for i in at[:n]], [read[i] for i in at[n:]]
        )
        out[at[0]] = encode
    return out


def _read_related(relation, targets, sources):
    return relation.encode([read() for read in targets], [read() for read in sources])


def _positions(schema, relation):
    """Positions of the targets of a relation, then of its sources."""
    names = [*relation.targets, *relation.sources]
    absent = [name for name in names if name not in schema.names]
    if absent:
        raise ValueError(
            f"{relation} names {absent[0]!r}, which is no column of X: {schema.names}."
        )
    return [schema.names.index(name) for name in names]


def _is_key(series, column):
    """Whether a column is text that is different in each row, or numbers the rows."""
    if len(series) < _FEWEST_KEYS or column.categories is not None:
        return False
    if column.kind == "number":
        if not column.whole or series.isna().any():
            return False
        if not (np.diff(column.read(series.iloc[:_FEWEST_KEYS])) == 1).all():
            return False  # as most are not: the rest need not be read
        values = column.read(series)
        room = column.limits[1] - values[-1] >= 1000 * len(values)  # for fresh ones
        return room and bool((np.diff(values) == 1).all())
    if column.kind != "category" or not isinstance(series.iloc[0], str | uuid.UUID):
        return False
    start = series.iloc[:_FEWEST_KEYS]
    return start.is_unique and series.is_unique and not series.isna().any()


def _is_drop(codec):
    return isinstance(codec, str) and codec == "drop"


def _check_related(name, codec, kind):
    """Raise ValueError where a column of a relation cannot have a codec."""
    labelled = getattr(codec, "infrequent_label", None) is not None
    wrong = None
    if _is_drop(codec):
        wrong = "it cannot be dropped. Drop it from the synthetic table instead"
    elif isinstance(codec, KeyCodec):
        wrong = "it cannot be a key. Leave out the relation or the KeyCodec"
    elif kind == "category" and labelled:
        wrong = "a combination has no infrequent_label. Leave it None, or leave the relation out"
    if wrong:
        raise ValueError(f"Column {name!r} is part of a relation, so {wrong}.")


def _check_choice(column, codec):
    """Raise ValueError where a column cannot have a codec."""
    if isinstance(codec, CategoryCodec):
        _check_label(column, codec.infrequent_label)
    elif isinstance(codec, KeyCodec) and column.categories is not None:
        raise ValueError(
            f"Column {column.name!r} has the category dtype, which has no room for fresh keys. "
            f"Make it text: X[{column.name!r}].astype(str)."
        )


def _check_label(column, label):
    """Raise ValueError where a column cannot hold the label of its infrequent categories."""
    values = np.empty(1, dtype=object)
    values[0] = label
    try:
        fits = label is None or column.write(values).iloc[0] == label
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise ValueError(
            f"Column {column.name!r} is {column.dtype_name} and cannot hold "
            f"infrequent_label={label!r}. Choose a label of its kind, or make the column text: "
            f"X[{column.name!r}].astype(str)."
        )


def _fit_codec(name, codec, read):
    return None if codec is None else _named_errors(name, codec.fit, read())


def _named_errors(name, function, *arguments):
    try:
        return function(*arguments)
    except ValueError as error:
        raise ValueError(f"Column {name!r}: {error}") from error
