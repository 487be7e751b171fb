"""`LatentSpaceDisplay`: rows in the latent space, reduced to two dimensions."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.utils import check_random_state

from sktvae._table.containers import as_frame
from sktvae._table.schema import learn_column
from sktvae._table.times import TimeColumn
from sktvae.inspection._drawing import (
    COLOR_MAP,
    COLORS,
    GREY,
    MARKERS,
    compact,
    new_axes,
    require_matplotlib,
    shortened,
    tidy,
)


class LatentSpaceDisplay:
    """Rows in the latent space of a synthesizer: its two principal components.

    Use :meth:`from_estimator` to make one.

    Parameters
    ----------
    points : ndarray of shape (n_rows, 2)
        The posterior means of z, projected on their first two principal components.
    explained : ndarray of shape (2,)
        The share of the variance of the posterior means that each component holds.
    values : ndarray of shape (n_rows,), default=None
        What colours the points: numbers, or texts that stand for categories.
    name : hashable, default=None
        The name of the column of these values.
    as_text : callable, default=None
        How a number is written in the colour bar; None if `values` are categories.

    Attributes
    ----------
    ax_ : Axes
    figure_ : Figure

    Examples
    --------
    >>> import pandas as pd
    >>> from sktvae import TVAESynthesizer
    >>> from sktvae.inspection import LatentSpaceDisplay
    >>> X = pd.DataFrame({"age": [31, 54, 31, 54] * 25, "smoker": ["no", "yes", "no", "no"] * 25})
    >>> synthesizer = TVAESynthesizer(conditional=False, epochs=3, random_state=0).fit(X)
    >>> display = LatentSpaceDisplay.from_estimator(synthesizer, X, color="smoker")
    >>> display.points.shape
    (100, 2)
    """

    def __init__(
        self,
        *,
        points: np.ndarray,
        explained: np.ndarray,
        values: Any = None,
        name: Hashable = None,
        as_text: Any = None,
    ):
        self.points = points
        self.explained = explained
        self.values = values
        self.name = name
        self.as_text = as_text

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        color: Hashable = None,
        n_samples: int | None = 2000,
        random_state: Any = 0,
        ax: Any = None,
    ) -> LatentSpaceDisplay:
        """Show where rows lie in the latent space.

        Parameters
        ----------
        estimator : TVAESynthesizer
            Fitted.
        X : DataFrame or array-like of shape (n_rows, n_features)
            Rows with the columns of `fit`.
        color : column name, default=None
            The column that colours the points; columns of an array are "x0", "x1" and so on.
        n_samples : int or None, default=2000
            At most so many rows are shown, drawn at random; None shows all. More would cover each
            other.
        random_state : int, RandomState instance or None, default=0
            The seed of the choice of these rows.
        ax : Axes, default=None
            None makes a new figure.

        Returns
        -------
        display : LatentSpaceDisplay

        Raises
        ------
        ValueError
            If `X` has no column `color`, or if the latent has a single dimension.
        """
        require_matplotlib(cls.__name__)
        frame = as_frame(X)[0]
        if color is not None and color not in frame.columns:
            raise ValueError(
                f"color={color!r} is not a column of X, whose columns are {list(frame.columns)!r}."
            )
        latent = np.asarray(estimator.transform(X), dtype=float)
        if latent.shape[1] < 2 or len(latent) < 2:
            raise ValueError(
                f"The latent points have shape {latent.shape}; at least two rows and two "
                "dimensions are needed. Fit with embedding_dim=2 or more."
            )
        values, as_text = None, None
        if color is not None:
            values, as_text = _values(color, frame[color])
        reduction = PCA(2, svd_solver="full").fit(latent)
        rows = np.arange(len(latent))
        if n_samples is not None and n_samples < len(rows):
            rows = check_random_state(random_state).permutation(len(rows))[:n_samples]
        values = None if values is None else values[rows]
        display = cls(
            points=reduction.transform(latent[rows]),
            explained=np.nan_to_num(reduction.explained_variance_ratio_),
            values=values,
            name=color,
            as_text=as_text,
        )
        return display.plot(ax=ax)

    def plot(self, ax: Any = None) -> LatentSpaceDisplay:
        """Draw one point per row.

        Parameters
        ----------
        ax : Axes, default=None
            None makes a new figure.

        Returns
        -------
        self
        """
        require_matplotlib(type(self).__name__)
        self.ax_ = new_axes(ax, 1, 1, (6.4, 4.6))[0]
        self.figure_ = self.ax_.figure
        if ax is None:
            self.ax_.set_position([0.13, 0.12, 0.6, 0.77])
        tidy(self.ax_, 8)
        self.ax_.spines["left"].set_visible(True)
        if self.values is None:
            self.ax_.scatter(*self.points.T, s=8, color=COLORS[0], alpha=0.5, linewidths=0)
        elif self.as_text is not None:
            # In a figure of our own, matplotlib would move the axes to make room for the bar.
            own = self.figure_.add_axes([0.77, 0.12, 0.03, 0.77]) if ax is None else None
            self._draw_numbers({"cax": own} if own else {"ax": self.ax_})
        else:
            self._draw_categories()
        for set_label, i in ((self.ax_.set_xlabel, 0), (self.ax_.set_ylabel, 1)):
            set_label(f"component {i + 1} ({100 * self.explained[i]:.0f} % of the variance)")
        title = "Posterior means of z"
        if self.name is not None:
            title += f", by {shortened(self.name, 40)}"
        self.ax_.set_title(title, fontsize=10, loc="left")
        return self

    def _draw_numbers(self, place: dict) -> None:
        """Colour by rank: with a few very large numbers, the others would have one colour."""
        known = ~np.isnan(self.values)
        self.ax_.scatter(*self.points[~known].T, s=10, color=GREY, marker="x", linewidths=0.6)
        ordered = np.sort(self.values[known])
        if not len(ordered):  # grey crosses only
            ordered = np.zeros(1)
        ranks = np.searchsorted(ordered, self.values[known], "left")
        ranks = (ranks + np.searchsorted(ordered, self.values[known], "right")) / 2 / len(ordered)
        drawn = self.ax_.scatter(
            *self.points[known].T, c=ranks, s=9, cmap=COLOR_MAP, vmin=0, vmax=1, linewidths=0
        )
        bar = self.figure_.colorbar(drawn, **place)
        marks = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
        texts = [self.as_text(v) for v in np.quantile(ordered, marks, method="nearest")]
        bar.set_ticks(marks, labels=texts)
        bar.ax.tick_params(labelsize=8)
        label = shortened(self.name, 40) + " (coloured by rank)"
        bar.set_label(label + ("" if known.all() else "; x: missing"), fontsize=8)

    def _draw_categories(self) -> None:
        """Colour and mark the most frequent categories; the others are grey."""
        counts = pd.Series(self.values, dtype=object).value_counts()
        frequent = list(counts.index)
        if len(frequent) > len(COLORS):
            frequent = frequent[: len(COLORS) - 1]
        codes = pd.Index(frequent, dtype=object).get_indexer(pd.Index(self.values, dtype=object))
        rest, others = codes < 0, f"{len(counts) - len(frequent)} others"
        if rest.any():
            x, y = self.points[rest].T
            self.ax_.scatter(x, y, s=10, color=GREY, marker="x", linewidths=0.6, label=others)
        for i, value in enumerate(frequent):
            style = {"color": COLORS[i], "marker": MARKERS[i], "label": shortened(value, 24)}
            self.ax_.scatter(*self.points[codes == i].T, s=12, alpha=0.7, linewidths=0, **style)
        handles, _ = self.ax_.get_legend_handles_labels()
        legend = self.ax_.legend(
            handles=sorted(handles, key=lambda h: h.get_label() == others),  # these last
            fontsize=8,
            frameon=False,
            loc="upper left",
            bbox_to_anchor=(1, 1),
            markerscale=1.5,
        )
        for handle in legend.legend_handles:
            handle.set_alpha(1)


def _values(name: Hashable, series: pd.Series) -> tuple[Any, Any]:
    """Return what colours the points, and how its numbers are written (None for categories)."""
    column = learn_column(name, series)
    plain = column.read(series)
    if isinstance(column, TimeColumn):
        return plain, lambda v: str(column.write(np.array([v])).iloc[0]).removesuffix(" 00:00:00")
    if column.is_numeric and len(np.unique(plain[~np.isnan(plain)])) > len(COLORS):
        return plain, compact
    if column.is_numeric:
        plain = pd.Series(plain).map(lambda v: f"{v:.6g}", na_action="ignore")
    texts = plain.map(str, na_action="ignore").astype(object)
    return texts.where(texts.notna(), "missing").to_numpy(dtype=object), None
