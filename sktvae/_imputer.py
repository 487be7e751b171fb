"""`TVAEImputer`: a transformer that fills missing cells given the others of their row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context, clone
from sklearn.impute import MissingIndicator
from sklearn.utils._param_validation import StrOptions
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from sktvae._any_order import AnyOrder, Conditional, not_learned, warn_of_holes
from sktvae._collective import current_group
from sktvae._conditional import STRATEGIES
from sktvae._device import resolve_device
from sktvae._encoding.columns import EncodedTable
from sktvae._encoding.encoder import TableEncoder
from sktvae._encoding.partial import recorded_variables
from sktvae._model.layout import Batch, Layout
from sktvae._persistence import VersionedMixin
from sktvae._random import seeds_of
from sktvae._synthesizer import TVAESynthesizer
from sktvae._table.containers import ArrayTable, PandasTable, as_frame, missing_cells
from sktvae._training.rows import arrange
from sktvae._training.watch import Watch
from sktvae._warnings import warn_user

_FLAG = "missingindicator_"  # as scikit-learn names these columns


class TVAEImputer(VersionedMixin, TransformerMixin, BaseEstimator):
    """Fill missing cells, given the other cells of their row.

    `fit` learns every column given any others from a table that may have missing cells itself.
    A missing cell is unknown: it is neither a value that is learned, nor does it tell anything
    about the other cells of its row. All missing cells of a row are drawn jointly, given all that
    are observed.

    How a cell is distributed given some others is learned from the rows in which all of them are
    observed. This causes no bias where whether a cell is missing depends only on cells of the row
    that are observed ("missing at random" [1]_), as when income is missing more often in some
    occupations. If the occupation is missing too, the income is partly drawn as it is distributed
    where it is observed.

    :meth:`TVAESynthesizer.impute` fills cells too, but its model also draws new rows, for which a
    missing value is one more value that a column may have. Here only the network that imputes is
    trained, which takes about half the time.

    Parameters
    ----------
    synthesizer : TVAESynthesizer, default=None
        How the table is encoded and how the network is trained: a synthesizer that is cloned and of
        which only the encoder and the network behind conditions are fitted. Its parameters can be
        searched over as ``synthesizer__epochs``. What belongs to its other network has no effect:
        `embedding_dim`, `compress_dims`, `decompress_dims`, `decoder`, `rate_floor`,
        `random_orders`, `conditional`; nor has `warm_start`. None is ``TVAESynthesizer()``.
    strategy : {"draw", "mean", "median"}, default="draw"
        "draw": a draw from the conditional distribution, which keeps the variance and the
        correlations of the columns. "mean", "median": the conditional mean or median of numbers
        and times, and the most probable category. A median equals a number of another column if
        this is most often so, see `ties` of :class:`~sktvae.TableEncoder`. Columns that are part of
        a relation are always drawn.
    add_indicator : bool, default=False
        Whether to append a column of booleans for each column that had a missing cell in `fit`,
        which says where the cells are that were missing.
    random_state : int, RandomState instance or None, default=None
        Seed of `fit` and of the draws of `transform`. With an int, each call of `transform` returns
        the same for the same table. None uses the `random_state` of `synthesizer`.

    Attributes
    ----------
    encoder_ : TableEncoder
        The fitted encoder. ``encoder_.columns_`` says how each column is encoded, and why.
    any_order_ : AnyOrder
        The fitted network.
    history_ : dict of list of float
        One entry per check, as that of :class:`~sktvae.TVAESynthesizer`. The likelihoods are those
        of the observed cells.
    indicator_ : MissingIndicator or None
        Fitted to a table that is 1 where a cell is missing and 0 elsewhere; None if not
        `add_indicator`.
    n_features_in_ : int
    feature_names_in_ : ndarray of str of shape (`n_features_in_`,)
        Defined if all column names are strings.

    See Also
    --------
    TVAESynthesizer.impute : Imputation by a model that also draws new rows.

    Notes
    -----
    A column without any value in `fit` is left out of what `transform` returns, with a warning, as
    by :class:`~sklearn.impute.SimpleImputer`. A column that the encoder drops is returned as it is,
    with its missing cells. A missing cell of a key, see :class:`~sktvae.KeyCodec`, gets a new key.

    Declared relations must hold in the rows in which all of their columns are known. `transform`
    raises an error if the left-hand side of a relation is known and other columns of it are not.

    References
    ----------
    .. [1] D. B. Rubin, "Inference and Missing Data", Biometrika 63, 1976.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktvae import TVAEImputer, TVAESynthesizer
    >>> X = pd.DataFrame({"a": [1, 2, 1, 2, None] * 50, "b": ["x", "y", None, "y", "x"] * 50})
    >>> imputer = TVAEImputer(TVAESynthesizer(epochs=20), strategy="median", random_state=0)
    >>> imputer.fit_transform(X).head(5)
         a  b
    0  1.0  x
    1  2.0  y
    2  1.0  x
    3  2.0  y
    4  1.0  x
    """

    _parameter_constraints = {
        "synthesizer": [TVAESynthesizer, None],
        "strategy": [StrOptions(set(STRATEGIES))],
        "add_indicator": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        synthesizer: TVAESynthesizer | None = None,
        *,
        strategy: str = "draw",
        add_indicator: bool = False,
        random_state: Any = None,
    ):
        self.synthesizer = synthesizer
        self.strategy = strategy
        self.add_indicator = add_indicator
        self.random_state = random_state

    # prefer_skip_nested_validation=False: the synthesizer validates its own parameters.
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> TVAEImputer:
        """Learn every column given any others.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            Missing cells are None, NaN, NaT or NA, and null in polars and pyarrow tables.
        y : ignored
        sample_weight : array-like of shape (n_samples,), default=None
            A row of weight 2 counts as two rows; a row of weight 0 is left out.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If a parameter is wrong, a column cannot be modelled, or all cells are missing. The
            estimator is left as it was.
        KeyboardInterrupt
            If training is interrupted (Ctrl-C) before the first check; the estimator is left as it
            was. A later interruption ends the training with a warning, and the best weights so far
            are kept.
        """
        synthesizer = clone(self._synthesizer())
        synthesizer._validate_params()
        if synthesizer.privacy is not None:
            raise ValueError(
                "TVAEImputer learns from observed cells, for which there is no promise of "
                "differential privacy. Use TVAESynthesizer(privacy=...).fit(X).impute(X), or set "
                "privacy=None."
            )
        current_group().refuse("TVAEImputer.fit")
        # The seeds that a synthesizer would use for the same purpose.
        seed, *seeds = seeds_of(self._random_state(), 9)
        encoder, encoded = synthesizer._fit_encoder(X, sample_weight, seed, partial=True)
        rows = _observed_rows(encoder, encoded)
        assert encoded.observed is not None
        observed = encoded.observed
        indicator = _fit_indicator(observed) if self.add_indicator else None
        watch = Watch(synthesizer.verbose)
        any_order = synthesizer._fit_any_order(encoder, rows, seeds[4:], watch)
        empty = np.flatnonzero(~observed.any(axis=0))
        if len(empty):
            names = [encoder.schema_.names[i] for i in empty]
            warn_user(
                f"Columns {names!r} hold no value at all, from which nothing can be learned: "
                "transform leaves them out. Drop them before."
            )
        self._keep(encoder, any_order, indicator, empty)
        return self

    def transform(self, X: Any) -> Any:
        """Fill the missing cells of a table; the others stay as they are.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            With the columns of `fit`. Columns that were never missing in `fit` can be imputed too.

        Returns
        -------
        X : DataFrame or ndarray of shape (n_samples, n_features_out)
            In the container and the dtypes of the table that was passed, unless `set_output` says
            otherwise; an array if lists of rows were passed. Columns without a value in `fit` are
            left out, and those of `add_indicator` follow at the end.

        Raises
        ------
        ValueError
            If an observed category in a row with missing cells is unknown, or if some columns of a
            relation are known and others are missing; the message names the column and the way out.
        """
        check_is_fitted(self)
        _, container = as_frame(X)
        if isinstance(X, list | tuple) and self._holds_numbers():
            container = ArrayTable("float64")
        frame = self.encoder_.schema_.conform(X, type(self).__name__)
        kept = [i for i in range(frame.shape[1]) if i not in self._empty]
        warn_of_holes(frame, [i for i in not_learned(self.encoder_) if i in kept])
        device = resolve_device(self._synthesizer().device, n_cells=0)
        seed = seeds_of(self._random_state(), 1)[0]
        call = Conditional(self.encoder_, self.any_order_, device, seed)
        (filled,) = call.filled(frame, self.strategy, 1)
        columns, names = [filled[i] for i in kept], [frame.columns[i] for i in kept]
        container = container.without(tuple(self._empty))
        if self.indicator_ is not None:
            flags = self.indicator_.transform(missing_cells(frame).astype(int)).astype(bool)
            new = [_flag_of(frame.columns[i]) for i in self.indicator_.features_]
            columns += [pd.Series(flag, index=frame.index) for flag in flags.T]
            names, container = names + new, container.with_booleans(new)
        return self._container_out(container).write(columns, names)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the columns that `transform` returns.

        Parameters
        ----------
        input_features : array-like of str, default=None
            None is `feature_names_in_` or, if this is not defined, "x0", "x1", ....

        Returns
        -------
        names : ndarray of str of shape (n_features_out,)
        """
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        out = np.delete(names, self._empty)
        if self.indicator_ is None:
            return out
        return np.concatenate([out, self.indicator_.get_feature_names_out(names)])

    def _synthesizer(self) -> TVAESynthesizer:
        return TVAESynthesizer() if self.synthesizer is None else self.synthesizer

    def _random_state(self) -> Any:
        own = self.random_state
        return self._synthesizer().random_state if own is None else own

    def _keep(
        self,
        encoder: TableEncoder,
        any_order: AnyOrder,
        indicator: MissingIndicator | None,
        empty: np.ndarray,
    ) -> None:
        """Set the fitted attributes, last and all at once, so that a failed fit leaves none."""
        self.encoder_, self.any_order_, self.indicator_ = encoder, any_order, indicator
        self.history_: dict[str, list[float]] = any_order.history
        self._empty: list[int] = empty.tolist()
        self.n_features_in_ = encoder.n_features_in_
        if hasattr(encoder, "feature_names_in_"):
            self.feature_names_in_ = encoder.feature_names_in_
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def _holds_numbers(self) -> bool:
        """Whether all columns are numbers, so that lists of rows make an array of floats."""
        return all(
            column.kind == "number" and getattr(column.storage, "python_type", None) != "Decimal"
            for column in self.encoder_.schema_.columns
        )

    def _container_out(self, container: Any) -> Any:
        """Return a container of pandas if `set_output` asks for another than that of the table.

        scikit-learn wraps arrays and DataFrames of pandas itself, but not tables of pyarrow, and
        it loses the dtypes of those of polars.
        """
        wanted = _get_output_config("transform", self)["dense"]
        is_polars = wanted == "polars" and getattr(container, "backend", None) == "polars"
        if wanted == "default" or is_polars or isinstance(container, PandasTable | ArrayTable):
            return container
        return PandasTable()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _observed_rows(encoder: TableEncoder, encoded: EncodedTable) -> Batch:
    """Return arranged rows with what is known of them, without those of which nothing is."""
    assert encoded.observed is not None
    recorded = recorded_variables(encoder, encoded.observed)
    kept = np.flatnonzero(recorded.any(axis=1))
    if not len(kept):
        raise ValueError(
            "X holds no row from which a value could be learned: all of its cells are missing, "
            "keys or dropped."
        )
    batch = Layout(encoder.heads_).to_batch(encoded.heads)
    if not recorded.all():
        batch = batch._replace(recorded=torch.from_numpy(recorded))
    weight = encoded.weight
    if len(kept) < len(recorded):
        batch = batch.take(torch.from_numpy(kept))
        weight = None if weight is None else weight[kept]
    return arrange(batch, weight)


def _fit_indicator(observed: np.ndarray) -> MissingIndicator:
    """Return an indicator of missing cells, fitted to a table that is 1 where one is missing."""
    return MissingIndicator(missing_values=1, error_on_new=False).fit((~observed).astype(int))


def _flag_of(name: Any) -> Any:
    """Return the label of the column that says where another one is missing."""
    return (_FLAG + str(name[0]), *name[1:]) if isinstance(name, tuple) else f"{_FLAG}{name}"
