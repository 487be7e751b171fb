"""`ConditionalMixin`: what an estimator answers about a column given any others."""

from __future__ import annotations

from collections.abc import Hashable
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from sktvae._any_order import AnyOrder, Conditional
from sktvae._device import resolve_device
from sktvae._encoding import outcomes
from sktvae._encoding.category import CategoryCodec
from sktvae._encoding.quantile import QuantileCodec
from sktvae._random import seeds_of

STRATEGIES = ("draw", "mean", "median")


class ConditionalMixin:
    """Imputation and conditional distributions for estimators that have learned any order.

    The estimator has `encoder_`, `any_order_`, `device` and `random_state`.
    """

    encoder_: Any
    any_order_: AnyOrder | None
    device: Any
    random_state: Any

    def impute(
        self,
        X: Any,
        *,
        strategy: str = "draw",
        n_draws: int | None = None,
        random_state: Any = None,
    ) -> Any:
        """Fill the missing cells of a table; the others stay as they are.

        Each row is completed given what is known of it, all missing cells of a row jointly. That a
        cell is missing is not taken to mean anything. Columns that were never missing in `fit` can
        be imputed too.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            With the columns of `fit`.
        strategy : {"draw", "mean", "median"}, default="draw"
            "draw": a draw from the conditional distribution, which keeps the variance and the
            correlations of the columns. "mean", "median": the conditional mean or median of numbers
            and times, and the most probable category, each given the observed cells; columns of a
            relation are drawn.
        n_draws : int, default=None
            Return a list of as many tables, for multiple imputation [1]_. None returns one table.
        random_state : int, RandomState instance, Generator instance or None, default=None
            The seed of this call. None uses the estimator's own.

        Returns
        -------
        X : DataFrame or ndarray of shape (n_samples, n_features), or a list of them
            In the container and the dtypes of the table that was passed.

        Raises
        ------
        ValueError
            If a category is unknown, or if some columns of a relation are known and others are
            missing; the message names the column and the way out.

        References
        ----------
        .. [1] D. B. Rubin, "Multiple Imputation for Nonresponse in Surveys", Wiley 1987.

        Examples
        --------
        >>> import pandas as pd
        >>> from sktvae import TVAESynthesizer
        >>> X = pd.DataFrame({"a": [1, 2] * 100, "b": ["x", "y"] * 100})
        >>> model = TVAESynthesizer(epochs=20, random_state=0).fit(X)
        >>> model.impute(pd.DataFrame({"a": [1, 2], "b": ["x", None]}))
           a  b
        0  1  x
        1  2  y
        """
        if strategy not in STRATEGIES:
            raise ValueError(f"strategy must be one of {STRATEGIES}, got {strategy!r}.")
        if n_draws is not None and (not isinstance(n_draws, Integral) or n_draws < 1):
            raise ValueError(f"n_draws must be an integer >= 1 or None, got {n_draws!r}.")
        if n_draws is not None and strategy != "draw":
            raise ValueError(
                f"n_draws={n_draws} needs strategy='draw': the result of {strategy!r} is always "
                "the same."
            )
        call = self._conditional_call(random_state)
        filled = call.impute(X, strategy, n_draws or 1, type(self).__name__)
        return filled[0] if n_draws is None else filled

    def conditional_proba(self, X: Any, column: Hashable) -> pd.DataFrame:
        """Probabilities of the values of a column, given the other columns of each row.

        In closed form: nothing is drawn. Missing cells count as unknown, and the probability that
        the column itself is missing is left out.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            The column itself may be absent; its values are not used.
        column : hashable
            The name of a column of `fit`.

        Returns
        -------
        proba : DataFrame of shape (n_samples, n_outcomes)
            One column per category. For numbers and times, one per bin of the
            :class:`~sktvae.QuantileCodec`, whose label is a closed interval. Rows sum to one.

        Raises
        ------
        ValueError
            If the column is a key, dropped, encoded by a ModeCodec or tied to others by a relation.
        """
        call = self._conditional_call(0)  # nothing is drawn
        codec, proba, index = call.probabilities(X, column, type(self).__name__)
        own = self.encoder_.schema_.columns[self.encoder_.schema_.position(column)]
        return pd.DataFrame(proba, index=index, columns=outcomes.labels(codec, own))

    def conditional_mean(self, X: Any, column: Hashable) -> np.ndarray:
        """Mean of a column of numbers, given the other columns of each row.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            As in `conditional_proba`.
        column : hashable
            The name of a column of numbers.

        Returns
        -------
        mean : ndarray of shape (n_samples,)
        """
        codec, present, atoms, own = self._number(X, column)
        mean = outcomes.mean(codec, present, atoms)
        return mean if own.kind == "number" else own.write(mean).to_numpy()

    def conditional_quantile(self, X: Any, column: Hashable, q: Any) -> np.ndarray:
        """Quantiles of a column of numbers, given the other columns of each row.

        If the column often equals another one, see `ties_` of :class:`~sktvae.TableEncoder`, a
        quantile may be exactly the number of that column.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            As in `conditional_proba`.
        column : hashable
            The name of a column of numbers.
        q : float or array-like of float of shape (n_quantiles,)
            In [0, 1].

        Returns
        -------
        quantiles : ndarray of shape (n_samples,) or (n_samples, n_quantiles)
        """
        levels = np.asarray(q, dtype=float)
        if levels.ndim > 1 or not ((levels >= 0) & (levels <= 1)).all():
            raise ValueError(f"q must hold numbers in [0, 1], got {q!r}.")
        codec, present, atoms, own = self._number(X, column)
        found = outcomes.quantile(codec, present, np.atleast_1d(levels), atoms)
        if own.kind != "number":
            found = np.stack([own.write(one).to_numpy() for one in found.T], axis=1)
        return found if levels.ndim else found[:, 0]

    def _number(
        self, X: Any, column: Hashable
    ) -> tuple[QuantileCodec, np.ndarray, outcomes.Atoms, Any]:
        call = self._conditional_call(0)  # nothing is drawn
        codec, present, atoms = call.numbers(X, column, type(self).__name__)
        own = self.encoder_.schema_.columns[self.encoder_.schema_.position(column)]
        if isinstance(codec, CategoryCodec) or not own.is_numeric:
            raise ValueError(
                f"Column {column!r} is encoded as a category, which has no mean and no quantiles. "
                f"Use conditional_proba(X, {column!r})."
            )
        assert isinstance(codec, QuantileCodec)
        return codec, present, atoms, own

    def _conditional_call(self, random_state: Any) -> Conditional:
        check_is_fitted(self)
        any_order = getattr(self, "any_order_", None)
        if any_order is None:
            why = "Set conditional=True and fit it again"
            if not hasattr(self, "any_order_"):
                why = "It was saved by an older version of sktvae; fit it again"
            elif getattr(self, "conditional", False):
                why = "Its fit was interrupted before that, or without it; fit it again"
            raise ValueError(
                f"This {type(self).__name__} has not learned to condition on columns. {why}."
            )
        if random_state is None:
            random_state = self.random_state
        seed = seeds_of(random_state, 1)[0]
        # Rows go through the variables in small groups, from which a GPU would gain nothing.
        device = resolve_device(self.device, n_cells=0)
        return Conditional(self.encoder_, any_order, device, seed)
