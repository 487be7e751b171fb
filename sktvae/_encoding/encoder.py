"""`TableEncoder`: routes the columns of a table to codecs; table <-> encoded table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.base import TransformerMixin, _fit_context, clone
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import _BaseComposition
from sklearn.utils.validation import check_is_fitted

from sktvae._encoding.category import CategoryCodec
from sktvae._encoding.chunked import FitToChunks
from sktvae._encoding.codec import Codec, stack_heads
from sktvae._encoding.columns import (
    EncodedTable,
    FittedColumn,
    PlainColumns,
    check_heads,
    fit_column,
    fit_relations,
    forgotten_values,
    related_columns,
    rows_that_count,
    with_name,
    without_dropped,
)
from sktvae._encoding.decoding import check_encoded, decoded_columns
from sktvae._encoding.evidence import EvidenceOfSeries
from sktvae._encoding.fitted import FittedTable, described_columns, encoded_names
from sktvae._encoding.private import ColumnSummaries, FitPrivately
from sktvae._encoding.relations import Relation
from sktvae._encoding.routing import (
    MIN_SAMPLES,
    NUMERICAL,
    RULES,
    Route,
    Settings,
    and_forgotten,
    questions,
    route,
    warn_about,
)
from sktvae._encoding.suggestions import scan, warnings_about
from sktvae._encoding.tie_search import ties_of
from sktvae._encoding.ties import Tie
from sktvae._persistence import VersionedMixin
from sktvae._random import seeds_of
from sktvae._table.containers import as_frame, missing_cells
from sktvae._table.schema import TableSchema
from sktvae._warnings import warn_user

_NO_TIES: Mapping[int, Tie] = {}


class TableEncoder(FitToChunks, FitPrivately, VersionedMixin, TransformerMixin, _BaseComposition):
    """Encode tables, and decode them, with one codec per column.

    The encoded table has one column per head, which holds codes, not one-hot vectors, so that it
    stays narrow. Numbers are encoded by the `numerical` codec and everything else by a
    :class:`~sktvae.CategoryCodec` (with at most 1,000 codes; the rarest categories share the last
    one and are drawn according to their frequencies). `codecs` overrides this for the columns that
    it names. In a table of 50 or more rows, text without repeats, and consecutive integers in any
    order, are taken for keys: they are encoded by a :class:`~sktvae.KeyCodec`, with a warning.

    Parameters
    ----------
    codecs : list of (str, codec or "drop", columns), default=None
        As in :class:`~sklearn.compose.ColumnTransformer`: a name, by which the codec's parameters
        can be set and searched over (``quantile__n_bins``); a codec, which is cloned for each
        column, or "drop" for columns that are left out of decoded tables; and the columns: names,
        positions, a slice, a boolean mask, or a callable such as
        :func:`~sklearn.compose.make_column_selector`. Columns that are not named here are routed
        by their dtype.
    relations : list of relation, default=None
        What holds in every row: :class:`~sktvae.LessEqual`, :class:`~sktvae.FixedCombinations`,
        :class:`~sktvae.SumOf`.
    numerical : {"quantile", "modes"} or codec, default="quantile"
        The codec of numbers, dates and durations.
    categorical_features : "from_dtype" or array-like of {bool, int, str}, default="from_dtype"
        Columns that are categories although they hold numbers: names, positions or a mask.
        Strings, booleans and the category dtype always are.
    min_samples : int, default=3
        What is kept of a column rests on at least so many rows, unless the column has a codec of
        its own: rarer categories are replaced by others, the ends of a range are not its extremes,
        and rare values of text that is nearly unique become "infrequent", with a warning. With 1
        there is no such protection, and single rows can be read from the fitted encoder. Whether a
        value is missing is not protected, nor are booleans.
    ties : bool, default=True
        Whether to learn in which rows a number or a time equals one of an earlier column exactly
        (in 1 % of the rows or more), is a constant plus or minus it (in 10 %), or is so near it
        that hardly a row is in between (in 5 %). This is for columns that have a
        :class:`~sktvae.QuantileCodec` and no relation, and rests on at least 150 rows, or
        `min_samples` if these are more; being near rests on four times as many.
    n_jobs : int, default=None
        The number of codecs that are fitted in parallel.
    random_state : int, RandomState instance or None, default=None
        Seed of the codecs that have no random state of their own.

    Attributes
    ----------
    codecs_ : list of codec
        The fitted codec of each column; None for a column that a relation encodes with another.
    columns_ : DataFrame
        One row per column of the table: its kind and dtype, its codec, the names of its encoded
        columns, and the reason why it has this codec.
    relations_ : list of relation
        Fitted, in the order in which they are decoded.
    ties_ : dict of column name to list of str
        What the numbers of a column often equal, such as ``{"paid": ["bill"]}`` or
        ``{"loss": ["1 - gain"]}``, or are near, ``{"read": ["about written"]}``; empty after a
        private fit.
    heads_ : list of Head
        One per encoded column: `Categorical`, `Gaussian` or `Uniform`.
    suggestions_ : list of relation
        What holds in every row although it is not declared, see :func:`~sktvae.suggest_relations`.
    schema_ : TableSchema
        Container, names and dtypes of the table that `fit` saw.
    n_features_in_ : int
    feature_names_in_ : ndarray of str of shape (`n_features_in_`,)
        Defined if all column names are strings.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktvae import QuantileCodec, TableEncoder
    >>> X = pd.DataFrame({"age": [31, 54, 31, 54] * 25, "smoker": ["no", "yes", "no", "no"] * 25})
    >>> encoder = TableEncoder([("years", QuantileCodec(n_bins=8), ["age"])])
    >>> encoder.fit_transform(X)[:4]
    array([[0., 0.],
           [1., 1.],
           [0., 0.],
           [1., 0.]])
    >>> encoder.inverse_transform([[1, 1]])
       age smoker
    0   54    yes
    >>> encoder.columns_[["codec", "reason"]]
                    codec                  reason
    column
    age     QuantileCodec         named by 'years'
    smoker  CategoryCodec  default for categories
    """

    _ties: Mapping[int, Tie] = _NO_TIES  # of encoders that were saved before there were any

    _parameter_constraints = {
        "codecs": [list, None],
        "relations": [list, None],
        "numerical": [
            StrOptions(set(NUMERICAL)),
            Codec,
        ],
        "categorical_features": ["array-like", StrOptions({"from_dtype"})],
        "min_samples": [Interval(Integral, 1, None, closed="left")],
        "ties": ["boolean"],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        codecs: list | None = None,
        *,
        relations: list | None = None,
        numerical: Any = "quantile",
        categorical_features: Any = "from_dtype",
        min_samples: int = MIN_SAMPLES,
        ties: bool = True,
        n_jobs: int | None = None,
        random_state: Any = None,
    ):
        self.codecs = codecs
        self.relations = relations
        self.numerical = numerical
        self.categorical_features = categorical_features
        self.min_samples = min_samples
        self.ties = ties
        self.n_jobs = n_jobs
        self.random_state = random_state

    # Parameters of named codecs

    @property
    def _named(self) -> list:
        """`codecs` as (name, codec) pairs, which is what _BaseComposition works on."""
        try:
            return [(name, codec) for name, codec, _ in self.codecs or []]
        except (TypeError, ValueError):
            return []  # left to `fit`, which raises the error

    @_named.setter
    def _named(self, pairs: list) -> None:
        self.codecs = [
            (name, codec, columns)
            for (name, codec), (_, _, columns) in zip(pairs, self.codecs or [], strict=True)
        ]

    def get_params(self, deep: bool = True) -> dict:
        """Parameters of this encoder and, with `deep`, of its named codecs.

        Parameters
        ----------
        deep : bool, default=True

        Returns
        -------
        params : dict
        """
        return self._get_params("_named", deep=deep)

    def set_params(self, **params: Any) -> TableEncoder:
        """Set parameters of this encoder or, as ``name__parameter``, of its named codecs.

        Parameters
        ----------
        **params : dict

        Returns
        -------
        self
        """
        self._set_params("_named", **params)
        return self

    # prefer_skip_nested_validation=False: a codec of the user validates its own parameters.
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> TableEncoder:
        """Choose a codec for each column, and fit it.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            A `pyarrow.dataset.Dataset`, a `polars.LazyFrame` or an iterable of tables is read
            piece by piece, see `fit_chunks`.
        y : ignored
        sample_weight : array-like of shape (n_samples,), default=None
            A row of weight 2 counts as two rows, and a row of weight 0 is left out. It is for
            tables in memory only.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If a column cannot be modelled; the message names it and the way out.
        """
        if not self._fit_if_chunks(X, sample_weight):
            self._fit(X, sample_weight, encode=False)
        return self

    @_fit_context(prefer_skip_nested_validation=False)
    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None) -> np.ndarray:
        """Fit and encode; each column is read once.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
        y : ignored
        sample_weight : array-like of shape (n_samples,), default=None
            A row of weight 2 counts as two rows. Rows of weight 0 are encoded but not learned, so
            that what only they hold is an error, as in `transform`.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_heads)
        """
        encoded = self._fit(X, sample_weight, encode=True)
        if encoded.weight is not None and encoded.n_samples < len(sample_weight):
            return self.transform_array(X)
        return stack_heads(encoded.heads, encoded.n_samples)

    def transform(self, X: Any) -> np.ndarray:
        """Encode a table.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)

        Returns
        -------
        Z : ndarray of shape (n_samples, n_heads)
            Codes and numbers; NaN if a Gaussian head does not apply.

        Raises
        ------
        ValueError
            If a column holds a category, or a missing value, that `fit` did not see; see
            `handle_unknown` of :class:`~sktvae.CategoryCodec`.
        """
        return self.transform_array(X)

    def inverse_transform(self, Z: Any) -> Any:
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
        Z = check_encoded(Z, self.heads_, self.get_feature_names_out())
        return self.decode(list(Z.T), len(Z))

    def log_density(self, X: Any) -> np.ndarray:
        """Log-density of each row given its codes, see the codecs.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            In nats. If a relation encodes a column, it is that of the difference or of the
            combination; a column that follows from others adds nothing.
        """
        log_density = self.encode(X, log_density=True).log_density
        assert log_density is not None
        return log_density

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the encoded columns, such as ``age``, ``income__coarse``, ``income__fine``.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        names : ndarray of str of shape (n_heads,)
            Unique: an underscore is appended to a name that another column has already.
        """
        check_is_fitted(self)
        return np.array([name for own in encoded_names(self.fitted) for name in own], dtype=object)

    @property
    def columns_(self) -> pd.DataFrame:
        check_is_fitted(self)
        return described_columns(self.fitted, self._reasons)

    @property
    def ties_(self) -> dict:
        check_is_fitted(self)
        names = self.schema_.names
        return {
            names[i]: [source.label(names[source.column]) for source in tie.sources]
            + ([] if tie.near is None else [f"about {names[tie.near]}"])
            for i, tie in self._ties.items()
        }

    # Used by the rest of the library: always plain arrays, whatever `set_output` says.

    def encode(
        self,
        X: Any,
        log_density: bool = False,
        strict: bool = False,
        owner: str = "TableEncoder",
        sample_weight: Any = None,
    ) -> EncodedTable:
        """Encode a table, each column of which is read once.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
        log_density : bool, default=False
            Whether to measure the density of the rows given their codes.
        strict : bool, default=False
            Whether values that `fit` did not see raise ValueError, as in `transform`. Otherwise
            they share the code of other values, and have a low density.
        owner : str, default="TableEncoder"
            The estimator that error messages name.
        sample_weight : array-like of shape (n_samples,), default=None
            Rows of weight 0 are left out.

        Returns
        -------
        encoded : EncodedTable
        """
        check_is_fitted(self)
        frame = self.schema_.conform(X, owner)
        frame, weight = rows_that_count(frame, sample_weight)
        plain = PlainColumns(self.schema_, frame, self.relations_)
        plain.share(self.fitted.tied)
        heads: list[np.ndarray] = []
        clipped = []
        total = np.zeros(len(frame)) if log_density else None
        for i, (name, codec) in enumerate(zip(self.schema_.names, self.codecs_, strict=True)):
            column = plain.learned(i, codec)
            if codec is None:
                continue
            heads += self._tie_codes(i, plain)
            encoded = with_name(name, codec.encode, column, log_density)
            if strict and encoded.refused:
                of = [str(r) for r in self.relations_ if name in r.targets]
                note = f" (the column is encoded by {of[0]})" if of else ""
                raise ValueError(f"Column {name!r}: {encoded.refused}{note}.")
            heads += encoded.heads
            if encoded.is_clipped:
                clipped.append(name)
            if total is not None:
                total += encoded.log_density
        return EncodedTable(heads, len(frame), total, weight, clipped)

    def fit_encode(
        self,
        X: Any,
        sample_weight: Any = None,
        partial: bool = False,
        private: ColumnSummaries | None = None,
    ) -> EncodedTable:
        """Fit, and encode the rows of positive weight; each column is read once.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
        sample_weight : array-like of shape (n_samples,), default=None
        partial : bool, default=False
            Whether a missing cell is unknown, and not a value: relations then hold in the rows in
            which all of their columns are known. `observed` of the result says which cells are.
        private : ColumnSummaries, default=None
            Learn from these summaries, and from names and dtypes, but not from the table, so that
            the encoder is as private as they are. The codes that are returned are not.

        Returns
        -------
        encoded : EncodedTable
        """
        self._validate_params()
        if private is None:
            return self._fit(X, sample_weight, encode=True, partial=partial)
        return self._fit_privately(X, sample_weight, partial, private)

    def decode(
        self,
        heads: list[np.ndarray],
        n_samples: int,
        kept: dict[int, tuple[np.ndarray, Any]] | None = None,
        bounds: dict[int, tuple[np.ndarray, np.ndarray]] | None = None,
    ) -> Any:
        """Decode one array per head to a table.

        Parameters
        ----------
        heads : list of ndarray of shape (n_samples,)
        n_samples : int
        kept, bounds : dict, default=None
            See `written`.

        Returns
        -------
        X : DataFrame or ndarray of shape (n_samples, n_features)
        """
        return self.schema_.assemble(self.written(heads, n_samples, kept, bounds))

    def written(
        self,
        heads: list[np.ndarray],
        n_samples: int,
        kept: dict[int, tuple[np.ndarray, Any]] | None = None,
        bounds: dict[int, tuple[np.ndarray, np.ndarray]] | None = None,
        first_row: int = 0,
    ) -> dict[int, pd.Series]:
        """Decode one array per head to columns as the user had them, see `decoded_columns`."""
        return decoded_columns(self.fitted, heads, n_samples, kept, bounds, first_row)

    @property
    def fitted(self) -> FittedTable:
        """What `fit` has learned."""
        return FittedTable(self.schema_, self.codecs_, self.relations_, self._ties)

    @property
    def related(self) -> set[int]:
        """The positions of the columns that are part of a relation."""
        return self.fitted.related

    def transform_array(self, X: Any) -> np.ndarray:
        """What `transform` returns, whatever `set_output` says."""
        encoded = self.encode(X, strict=True)
        return stack_heads(encoded.heads, encoded.n_samples)

    # Fitting

    def _fit(self, X: Any, sample_weight: Any, encode: bool, partial: bool = False) -> EncodedTable:
        """Fit, with the attributes set last and all at once."""
        frame, container = as_frame(X)
        frame, weight = rows_that_count(frame, sample_weight)
        schema = TableSchema.learn(frame, container)
        plain = PlainColumns(schema, frame, [], partial)
        relations = fit_relations(self.relations or [], schema, plain)
        plain.relate(relations)
        routes = self._route(frame, schema, relations)
        suggestions = self._suggest(frame, schema, relations, routes)
        fitted = Parallel(n_jobs=self.n_jobs)(
            delayed(fit_column)(column, codec, plain.learned(i, codec), weight, encode)
            for i, (column, codec) in enumerate(
                zip(schema.columns, self._seeded(routes), strict=True)
            )
        )
        check_heads(schema, fitted)
        warn_about(schema.names, routes, fitted, len(frame), self.min_samples)
        for warning in warnings_about(frame, schema, suggestions):
            warn_user(warning)
        schema = schema.without(forgotten_values(schema, relations, fitted))
        codecs = [column.codec for column in fitted]
        ties: dict[int, Tie] = {}
        if self.ties:
            ties = ties_of(frame, schema, codecs, relations, self.min_samples, weight)
        self._keep(schema, routes, fitted, relations, suggestions, ties)
        plain.share(self.fitted.tied)
        heads = []
        for i, column in enumerate(fitted if encode else []):
            heads += self._tie_codes(i, plain) + column.heads
        observed = ~missing_cells(frame) if partial else None
        return EncodedTable(heads, len(frame), weight=weight, observed=observed)

    def _keep(
        self,
        schema: TableSchema,
        routes: list[Route],
        fitted: list[FittedColumn],
        relations: Sequence[Relation] = (),
        suggestions: Sequence[Relation] = (),
        ties: Mapping[int, Tie] = _NO_TIES,
    ) -> None:
        """Set the fitted attributes."""
        if schema.feature_names is not None:
            self.feature_names_in_ = schema.feature_names
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        self.codecs_: list[Any] = [column.codec for column in fitted]
        self.n_features_in_ = len(schema.columns)
        self.schema_ = without_dropped(schema, self.codecs_)
        self.relations_, self.suggestions_ = list(relations), list(suggestions)
        self._ties = dict(ties)
        self.heads_ = self.fitted.heads
        self._reasons = [
            decision.reason + and_forgotten(len(column.forgotten))
            for decision, column in zip(routes, fitted, strict=True)
        ]

    def _route(
        self, frame: pd.DataFrame, schema: TableSchema, relations: list, rules: tuple = RULES
    ) -> list[Route]:
        evidence = [EvidenceOfSeries(frame.iloc[:, i]) for i in range(len(schema.columns))]
        asked = questions(schema, evidence, self._settings(frame), relations)
        return [route(question, rules) for question in asked]

    def _settings(self, frame: pd.DataFrame) -> Settings:
        self._validate_names([name for name, _ in self._named])
        return Settings.of(
            frame, self.codecs or [], self.numerical, self.categorical_features, self.min_samples
        )

    def _suggest(self, frame: Any, schema: TableSchema, relations: list, routes: list) -> list:
        """Return relations of columns that have neither a relation nor a codec of the user."""
        related = related_columns(schema, relations)
        free = [i for i, r in enumerate(routes) if not r.is_named and i not in related]
        categories = [i for i, r in enumerate(routes) if isinstance(r.codec, CategoryCodec)]
        return scan(schema, frame, free, categories)

    def _tie_codes(self, i: int, plain: PlainColumns) -> list[np.ndarray]:
        """Return the code of the tie of column i, if it has one."""
        if i not in self._ties:
            return []
        tie = self._ties[i]
        return [tie.encode([plain.own(k) for k in tie.positions], self.codecs_[i])]

    def _seeded(self, routes: list[Route]) -> Iterator[Codec | None]:
        """Yield a clone of each codec, with a seed if it has none."""
        for decision, seed in zip(routes, seeds_of(self.random_state, len(routes)), strict=True):
            codec = None if decision.codec is None else clone(decision.codec)
            if codec is not None and codec.get_params().get("random_state", seed) is None:
                codec.set_params(random_state=seed)
            yield codec

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        return tags
