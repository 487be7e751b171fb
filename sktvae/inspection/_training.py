"""`TrainingHistoryDisplay`: the terms of the loss from check to check."""

from __future__ import annotations

from typing import Any

import numpy as np

from sktvae.inspection._drawing import COLORS, inset, new_axes, require_matplotlib, tidy

_NAMES = {
    "loss": "loss",
    "kl": "information in z (KL divergence)",
}


class TrainingHistoryDisplay:
    """How the loss of a synthesizer fell during `fit`.

    The first panel shows the loss of the training rows (dashed) and of the rows that were held out
    (solid), whose minimum is marked; the second one the Kullback-Leibler divergence between the
    posterior of z and its prior, which is the information that z holds of a row; and the third one,
    if there is a second network, its loss. A loss of the held-out rows that rises while that of
    the training rows falls is a sign of overfitting.

    Use :meth:`from_estimator` to make one.

    Parameters
    ----------
    history : dict of list of float
        As `history_` of :class:`~sktvae.TVAESynthesizer`: one entry per check, in nats per row.
    any_order_history : dict of list of float, default=None
        The same of the network behind conditions and imputation.

    Attributes
    ----------
    axes_ : ndarray of Axes of shape (n_panels,)
    figure_ : Figure

    Examples
    --------
    >>> import pandas as pd
    >>> from sktvae import TVAESynthesizer
    >>> from sktvae.inspection import TrainingHistoryDisplay
    >>> X = pd.DataFrame({"age": [31, 54, 31, 54] * 25, "smoker": ["no", "yes", "no", "no"] * 25})
    >>> synthesizer = TVAESynthesizer(conditional=False, epochs=3, random_state=0).fit(X)
    >>> display = TrainingHistoryDisplay.from_estimator(synthesizer)
    >>> display.axes_.shape
    (2,)
    """

    def __init__(self, *, history: dict, any_order_history: dict | None = None):
        self.history = history
        self.any_order_history = any_order_history

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> TrainingHistoryDisplay:
        """Draw the history of a fitted estimator.

        Parameters
        ----------
        estimator : TVAESynthesizer or TVAEImputer
            Fitted.
        ax : Axes or array-like of Axes, default=None
            See :meth:`plot`.

        Returns
        -------
        display : TrainingHistoryDisplay

        Raises
        ------
        ValueError
            If the estimator has no history: it is not fitted, or is another one.
        """
        require_matplotlib(cls.__name__)
        history = getattr(estimator, "history_", None)
        if not history:
            raise ValueError(
                f"This {type(estimator).__name__} has no attribute history_. Call fit first; if it "
                "is a pipeline or a search, pass the synthesizer in it."
            )
        second = getattr(getattr(estimator, "any_order_", None), "history", None)
        return cls(history=history, any_order_history=second).plot(ax=ax)

    def plot(self, ax: Any = None) -> TrainingHistoryDisplay:
        """Draw the panels side by side.

        Parameters
        ----------
        ax : Axes or array-like of Axes, default=None
            None makes a new figure. A single Axes, made by ``subplots``, is divided; an array of
            Axes must hold one per panel.

        Returns
        -------
        self
        """
        require_matplotlib(type(self).__name__)
        panels = [
            ("Loss", self.history, "loss", "nats per row"),
            ("Information in z", self.history, "kl", "nats per row (KL divergence)"),
        ]
        if self.any_order_history:
            title = "Loss of the second network"
            panels.append((title, self.any_order_history, "loss", "nats per row"))
        self.axes_ = new_axes(ax, len(panels), len(panels), (3.6, 3.0))
        self.figure_ = self.axes_[0].figure
        for panel, (title, history, name, unit) in zip(self.axes_, panels, strict=True):
            if ax is None or not np.iterable(ax):
                inset(panel, 0.65, 0.2, 0.5, 0.1)
            _draw_term(panel, history, name)
            panel.set_title(title, fontsize=10, loc="left")
            panel.set_ylabel(unit, fontsize=8)
            panel.set_xlabel("check (one per epoch, or per 1,000 steps)", fontsize=8)
            panel.legend(fontsize=8, frameon=False)
        return self


def _draw_term(ax: Any, history: dict, name: str) -> None:
    tidy(ax, 8)
    ax.spines["left"].set_visible(True)
    checks = np.arange(1, len(history[name]) + 1)
    # One check only would be a line without a length.
    one = "o" if len(checks) == 1 else None
    ax.plot(checks, history[name], "--", color=COLORS[1], marker=one, label="training rows")
    held_out = np.asarray(history.get(f"validation_{name}", []), dtype=float)
    if np.isfinite(held_out).any():
        ax.plot(checks, held_out, "-", color=COLORS[0], marker=one, label="held-out rows")
        if name == "loss":
            best = int(np.nanargmin(held_out))
            text = f"lowest: {held_out[best]:.4g}"
            ax.plot(checks[best], held_out[best], "D", color=COLORS[0], label=text)
    ax.xaxis.get_major_locator().set_params(integer=True)
