"""`Codec`: one column of the table <-> columns of codes and numbers, one per head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils.validation import check_is_fitted

from sktvae._encoding.limits import Accepted, Limit
from sktvae._encoding.sample_weight import row_weights
from sktvae._encoding.summary import ColumnSummary
from sktvae._heads import Categorical, Head
from sktvae._table.decimals import DecimalGrid, almost_on_grid

# Identifiers are spread over a range this many times (twice) the number of their values.
_SPARSE = 100_000
# In shorter tables, identifiers and free text are hard to tell from categories.
FEWEST_ROWS_FOR_ADVICE = 50


@dataclass
class EncodedColumn:
    """A column in codes.

    Attributes
    ----------
    heads : list of ndarray of shape (n_samples,)
        Codes in the smallest unsigned integer dtype, and numbers in float64: one array per head.
    log_density : ndarray of shape (n_samples,) or None
        Log-density of the values given their codes, in nats, if it was asked for.
    refused : str or None
        The reason why `transform` does not take this column: it holds values that `fit` did not
        see and that have no code of their own.
    is_clipped : bool
        Whether it holds more numbers outside the codec's range, which are encoded as its ends, than
        the column that was fitted.
    """

    heads: list[np.ndarray]
    log_density: np.ndarray | None = None
    refused: str | None = None
    is_clipped: bool = False


class Codec(TransformerMixin, BaseEstimator, ABC):
    """A scikit-learn transformer of a single column.

    A codec declares the likelihood of its codes by ``heads_`` and learns from a `ColumnSummary`
    alone. Subclasses define `_fit`, `_encode`, `decode` and, if they do not take every kind of
    column, `check_column`.
    """

    _parameter_constraints: dict = {}

    alternatives = "'drop', QuantileCodec() or, if all rows have a different value, KeyCodec()"
    heads_: tuple[Head, ...]
    _head_names: tuple[str, ...]

    # What subclasses define

    @abstractmethod
    def _fit(self, summary: ColumnSummary) -> None:
        """Learn from a summary; set ``heads_``, ``_head_names`` and ``missing_``."""

    @abstractmethod
    def _encode(self, column: Any, log_density: bool) -> EncodedColumn:
        """Encode a plain column."""

    @abstractmethod
    def decode(self, heads: list[np.ndarray], n_samples: int) -> np.ndarray:
        """Decode codes and numbers to a plain column."""

    def limit(self, accepted: Accepted) -> Limit:
        """Return the codes that stand for accepted values; none of them, if `fit` saw none.

        Raises
        ------
        ValueError
            If the codec has no codes for a part of what they stand for.
        """
        raise ValueError(
            f"{type(self).__name__} takes one value as a condition, but neither ranges nor lists. "
            "Encode the column by a QuantileCodec"
        )

    def bins_of(self, heads: list[np.ndarray]) -> np.ndarray:
        """Return the bin of each row, as `limit` counts them; -1 for a missing value."""
        return heads[0].astype(int)

    def check_column(self, column: Any, kind: str, related: bool) -> None:
        """Raise ValueError if the codec cannot encode a column.

        Parameters
        ----------
        column : Column
            The column of the table, see `sktvae._table.column`.
        kind : str
            The kind of what is learned: that of the column, or what a relation makes of it.
        related : bool
            Whether a relation encodes the column, or needs it to decode other columns.
        """

    def advice(self, summary: ColumnSummary, kind: str) -> str | None:
        """Return what a user should know about a column that was given this codec by default.

        Parameters
        ----------
        summary : ColumnSummary
        kind : str
            The kind of the column, see `sktvae._table.column`.
        """
        return None

    # Public methods

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Codec:
        """Learn the column.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, 1)
        y : ignored
        sample_weight : array-like of shape (n_samples,), default=None
            A row of weight 2 counts as two rows.

        Returns
        -------
        self
        """
        return self.fit_summary(self.summarise(X, sample_weight))

    def fit_summary(self, summary: ColumnSummary) -> Codec:
        """Learn the column from its summary."""
        self._validate_params()
        self._fit(summary)
        self.n_features_in_ = 1
        return self

    def summarise(self, X: Any, sample_weight: Any = None) -> ColumnSummary:
        """Return the summary of a column from which the codec can be fitted."""
        column = self._plain(X)
        return ColumnSummary.of_categories(column, row_weights(sample_weight, column))

    def transform(self, X: Any) -> np.ndarray:
        """Encode the column.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, 1)

        Returns
        -------
        Z : ndarray of shape (n_samples, n_heads)
            One column per head of ``heads_``; NaN if a Gaussian head does not apply to a row, for
            example where the value is missing.

        Raises
        ------
        ValueError
            If the column holds a missing value or a category that `fit` did not see.
        """
        encoded = self.encode(X)
        if encoded.refused:
            raise ValueError(encoded.refused)
        return stack_heads(encoded.heads, len(X))

    def encode(self, X: Any, log_density: bool = False) -> EncodedColumn:
        """Encode the column, and measure its density; unseen values raise no error.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, 1)
        log_density : bool, default=False

        Returns
        -------
        encoded : EncodedColumn
        """
        check_is_fitted(self, "heads_")
        encoded = self._encode(self._plain(X), log_density)
        for i, head in enumerate(self.heads_):
            if isinstance(head, Categorical):
                smallest = np.min_scalar_type(head.n_categories)
                encoded.heads[i] = encoded.heads[i].astype(smallest)
        return encoded

    def inverse_transform(self, Z: Any) -> np.ndarray:
        """Decode codes and numbers.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_heads)

        Returns
        -------
        column : ndarray of shape (n_samples,)
            Floats with NaN where missing; objects for categories.
        """
        check_is_fitted(self, "heads_")
        Z = np.asarray(Z, dtype=float)
        if Z.ndim != 2 or Z.shape[1] != len(self.heads_):
            raise ValueError(
                f"Expected 2D array of {len(self.heads_)} encoded column(s), got shape {Z.shape}. "
                "Reshape your data."
            )
        return self.decode(list(Z.T), len(Z))

    def log_density(self, X: Any) -> np.ndarray:
        """Log-density of the values given the codes that they are encoded as.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, 1)

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            In nats. Its sum with the log-probability of the codes under a model is the
            log-probability of the recorded value: for a number, the mass of one unit in the last
            decimal. A value that `fit` did not see has a finite, low density, for which some mass
            is reserved.
        """
        log_density = self.encode(X, log_density=True).log_density
        assert log_density is not None
        return log_density

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the encoded columns.

        Parameters
        ----------
        input_features : array-like of one str, default=None

        Returns
        -------
        names : ndarray of str of shape (n_heads,)
        """
        check_is_fitted(self, "heads_")
        name = "x0" if input_features is None else input_features[0]
        ends = self._head_names
        return np.array([f"{name}__{end}" if end else str(name) for end in ends], dtype=object)

    def _plain(self, X: Any) -> Any:
        """Return one column, however it is passed, as what the codec works on."""
        return single_column(X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.one_d_array = True
        return tags


class NumberCodec(Codec):
    """What the codecs of numbers have in common."""

    def _plain(self, X: Any) -> np.ndarray:
        return single_column(X).to_numpy(dtype=float, na_value=np.nan)

    def summarise(self, X: Any, sample_weight: Any = None) -> ColumnSummary:
        column = self._plain(X)
        summary = ColumnSummary.of_numbers(column, row_weights(sample_weight, column))
        if not len(summary.values):
            raise ValueError(
                f"{type(self).__name__} cannot learn a column without values: "
                f"{summary.n_samples:.0f} sample(s), all missing. Drop the column."
            )
        return summary

    def check_column(self, column: Any, kind: str, related: bool) -> None:
        if kind == "category":
            what = "is learned as a combination of categories" if related else "is a category"
            raise ValueError(
                f"Column {column.name!r} {what} ({column.dtype_name}), which "
                f"{type(self).__name__} cannot encode. Use a CategoryCodec, or convert the column "
                "to numbers."
            )

    def advice(self, summary: ColumnSummary, kind: str) -> str | None:
        if kind != "number":
            return None
        values, counts = summary.values, summary.counts
        found = almost_on_grid(values, counts, self._grid)
        if found:
            decimals, offender = found
            return (
                f"has {decimals} decimal(s) in almost all rows, but holds {offender!r}, so samples "
                "will have more. If that is a mistake, replace such values, or round the column "
                f"with .round({decimals})"
            )
        rows = summary.looked_at
        scale = counts.sum() / rows.sum()  # 1, but for a sample of rows
        n = round(len(values) * scale)
        span = values[-1] / 2 - values[0] / 2
        if (
            np.array_equal(values, np.rint(values))
            and len(values) >= max(rows.sum() / 3, FEWEST_ROWS_FOR_ADVICE)
            and span > _SPARSE * n
            and (values >= values[-1] / 10).mean() > 0.8  # not so of amounts of money
        ):
            return (
                f"holds {n} different integers in {counts.sum():.0f} rows, spread over a wide "
                "range: it looks like an identifier, of which samples hold made-up numbers"
            )
        is_dense = n >= FEWEST_ROWS_FOR_ADVICE and (rows == 1).all() and span < 0.55 * n
        if is_dense and not summary.missing and np.array_equal(values, np.rint(values)):
            return (
                f"holds {n} different integers, from {values[0]:.0f} to {values[-1]:.0f}, one "
                "per row: it looks like a row number, whose real values will appear in samples"
            )
        return None

    # The ends of the range.
    _low: float
    _high: float

    @property
    def ends(self) -> tuple[float, float]:
        """The smallest and the largest number that can be drawn."""
        return self._low, self._high

    # A missing value that `fit` did not see is encoded as `_unseen_code`, as one more row of it.
    _unseen_code: int
    _unseen_rows: float
    missing_: bool
    _grid: DecimalGrid

    def _refuse_missing(self, absent: np.ndarray) -> str | None:
        if self.missing_ or not absent.any():
            return None
        return (
            "found a missing value, and fit saw none. Fill it, or fit on a table that has missing "
            "values in this column too"
        )

    def _log_reserved(self, absent: np.ndarray, code: np.ndarray) -> np.ndarray:
        """Return what the mass reserved for missing values adds to the log-density."""
        if self.missing_:
            return np.zeros(len(absent))
        kept = np.where(code == self._unseen_code, -np.log1p(1 / self._unseen_rows), 0.0)
        return np.where(absent, -np.log(self._unseen_rows + 1), kept)


def stack_heads(heads: list[np.ndarray], n_samples: int) -> np.ndarray:
    """Return the heads side by side, a float64 array of shape (n_samples, n_heads).

    The list is emptied on the way, so that the heads and the array are not in memory together.
    """
    out = np.empty((n_samples, len(heads)), order="F")
    for i in reversed(range(len(heads))):
        out[:, i] = heads.pop()
    return out


def single_column(X: Any) -> pd.Series:
    """Return one column as a Series, however it is passed."""
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
