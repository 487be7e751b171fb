"""`PairTrendsDisplay`: how well the synthetic rows keep the dependence of each two columns."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sktvae.inspection._columns import frames_of, shown_columns
from sktvae.inspection._comparison import compare_pairs, worst_pairs
from sktvae.inspection._drawing import (
    COLOR_MAP,
    new_axes,
    require_matplotlib,
    shortened,
)
from sktvae.inspection._marginals import sampled

_N_WORST = 5
_SMALLEST_SCALE = 0.2  # errors of good tables should look small
_SEED = 0  # of the divisions that show what is usual


class PairTrendsDisplay:
    """How much the pairs of columns of a synthetic table differ from those of a real one.

    The error of a pair is that of :func:`sktvae.metrics.pair_error`: the share of rows that would
    have to change for the two columns to be distributed as in the real table. It is large if the
    columns depend on each other in another way, or if one of them has another distribution. Two
    samples of one source differ as well, the more so the fewer rows and the more categories there
    are. The matrix shows by how much an error exceeds this, and the worst pairs are named.

    Use :meth:`from_estimator` or :meth:`from_tables` to make one.

    Parameters
    ----------
    errors : DataFrame of shape (n_columns, n_columns)
        The errors of the pairs. Symmetric; the diagonal is not used.
    chance : DataFrame of shape (n_columns, n_columns)
        The mean errors between random divisions of all rows, real and synthetic, into two tables.

    Attributes
    ----------
    worst_ : list of (hashable, hashable, float, float)
        The two columns, the error and that by chance of the pairs whose errors exceed it most.
    ax_ : Axes
    figure_ : Figure

    See Also
    --------
    MarginalsDisplay : The distributions of single columns.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktvae.inspection import PairTrendsDisplay
    >>> real = pd.DataFrame({"x": ["a", "a", "b", "b"] * 50, "y": ["c", "c", "d", "d"] * 50})
    >>> display = PairTrendsDisplay.from_tables(real, real.assign(y=["c", "d"] * 100))
    >>> display.worst_[0][:3]
    ('x', 'y', 0.5)
    """

    def __init__(self, *, errors: pd.DataFrame, chance: pd.DataFrame):
        self.errors = errors
        self.chance = chance

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        n_samples: int | None = None,
        columns: Sequence[Hashable] | None = None,
        random_state: Any = None,
        ax: Any = None,
    ) -> PairTrendsDisplay:
        """Draw rows from a fitted synthesizer, and compare them with a table.

        Parameters
        ----------
        estimator : estimator with a method `sample`
            A fitted :class:`~sktvae.TVAESynthesizer`.
        X : DataFrame or array-like of shape (n_samples, n_features)
            Real rows.
        n_samples : int, default=None
            The number of rows to draw; None is the number of rows of `X`.
        columns : sequence of column names, default=None
            The columns to compare, in this order; None compares all.
        random_state : int, RandomState instance, Generator instance or None, default=None
            The seed of the rows; None uses that of the estimator.
        ax : Axes, default=None
            None makes a new figure.

        Returns
        -------
        display : PairTrendsDisplay
        """
        synthetic = sampled(estimator, X, n_samples, random_state)
        return cls.from_tables(X, synthetic, columns=columns, ax=ax)

    @classmethod
    def from_tables(
        cls,
        real: Any,
        synthetic: Any,
        *,
        columns: Sequence[Hashable] | None = None,
        ax: Any = None,
    ) -> PairTrendsDisplay:
        """Compare the columns that two tables share.

        Parameters
        ----------
        real, synthetic : DataFrame or array-like
        columns : sequence of column names, default=None
            The columns to compare, in this order; None compares all that both tables have,
            identifiers aside.
        ax : Axes, default=None
            None makes a new figure.

        Returns
        -------
        display : PairTrendsDisplay

        Raises
        ------
        ValueError
            If a table lacks a column that `columns` names, or if there are fewer than two columns.
        """
        require_matplotlib(cls.__name__)
        one, two = frames_of(real, synthetic)
        names = shown_columns(one, two, columns)
        if len(names) < 2:
            raise ValueError(f"There is no pair: the tables share the column {names[0]!r} only.")
        errors, chance = compare_pairs(one[names], two[names], _SEED)
        return cls(errors=errors, chance=chance).plot(ax=ax)

    def plot(self, ax: Any = None, *, vmax: float | None = None) -> PairTrendsDisplay:
        """Draw the lower triangle of the matrix, and name the worst pairs above it.

        Parameters
        ----------
        ax : Axes, default=None
            None makes a new figure, as large as it must be.
        vmax : float, default=None
            What the bright end of the colours stands for; None is the largest excess, or 0.2 if all
            are smaller.

        Returns
        -------
        self
        """
        require_matplotlib(type(self).__name__)
        n_columns = len(self.errors)
        fontsize = float(np.clip(200 / n_columns, 5, 8))
        size = float(np.clip(n_columns * fontsize * 1.25 / 72, 3.5, 14))  # inches
        self.ax_ = new_axes(ax, 1, 1, (size + 2.6, size + 2.2))[0]
        self.figure_ = self.ax_.figure
        place = {"ax": self.ax_, "fraction": 0.04, "pad": 0.02}
        if ax is None:
            width, height = self.figure_.get_size_inches()
            self.ax_.set_position([1.6 / width, 1.55 / height, size / width, size / height])
            side = [(1.75 + size) / width, 1.55 / height, 0.15 / width, size / height]
            place = {"cax": self.figure_.add_axes(side)}
        excess = (self.errors.to_numpy() - self.chance.to_numpy()).clip(0)
        values = np.where(np.tri(n_columns, k=-1, dtype=bool), excess, np.nan)
        self.worst_ = worst_pairs(self.errors, self.chance, _N_WORST)
        if vmax is None:
            vmax = max(_SMALLEST_SCALE, float(np.nanmax(values)))
        # The first row and the last column of the lower triangle are empty.
        image = self.ax_.imshow(values, cmap=COLOR_MAP, vmin=0, vmax=vmax, interpolation="nearest")
        self.ax_.set(xlim=(-0.5, n_columns - 1.5), ylim=(n_columns - 0.5, 0.5))
        bar = self.figure_.colorbar(image, **place)
        bar.ax.tick_params(labelsize=8)
        bar.set_label("error beyond that by chance; 0 is best", fontsize=8)
        self._label(fontsize)
        self._name_worst()
        return self

    def _label(self, fontsize: float) -> None:
        names = [shortened(name, 22) for name in self.errors.columns]
        at = np.arange(len(names))
        step = -(-len(names) // 150)
        self.ax_.set_xticks(at[:-1:step], names[:-1:step], rotation=90, fontsize=fontsize)
        self.ax_.set_yticks(at[1::step], names[1::step], fontsize=fontsize)
        self.ax_.tick_params(length=2, pad=2)
        for side in ("top", "right"):
            self.ax_.spines[side].set_visible(False)

    def _name_worst(self) -> None:
        """List the worst pairs above the matrix, and number them in it."""
        order = {name: i for i, name in enumerate(self.errors.columns)}
        lines = ["Largest errors (in brackets, by chance)"]
        for rank, (one, other, error, usual) in enumerate(self.worst_, 1):
            pair = f"{shortened(one, 24)} and {shortened(other, 24)}"
            lines.append(f"{rank}. {pair}: {error:.2f} ({usual:.2f})")
            x, y = sorted((order[one], order[other]))
            label = {"boxstyle": "circle,pad=0.2", "facecolor": "white", "linewidth": 0.6}
            self.ax_.text(x, y, str(rank), ha="center", va="center", fontsize=6, bbox=label)
        self.ax_.set_title("\n".join(lines), fontsize=8, loc="left")
