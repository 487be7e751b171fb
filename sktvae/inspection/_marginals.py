"""`MarginalsDisplay`: the distribution of each column, real beside synthetic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sktvae._table.times import TimeColumn
from sktvae.inspection._columns import (
    PairedColumn,
    distinct_present,
    frames_of,
    paired_columns,
    shown_columns,
)
from sktvae.inspection._drawing import (
    REAL,
    SYNTHETIC,
    compact,
    inset,
    new_axes,
    percent,
    require_matplotlib,
    shortened,
    tidy,
)

_MAX_BARS = 12  # numbers with no more distinct values are shown as bars
_MAX_CATEGORIES = 7  # bars of categories; the last is "other" if there are more
_N_BINS = 30
_SPIKE = 0.2  # a number that is so large a share of a column is written, not drawn
_WIDE = 8  # range in units of the distance between the first and the last decile: asinh scale


@dataclass(frozen=True)
class Marginal:
    """The distribution of one column in two tables, as shares of the rows that have a value.

    Attributes
    ----------
    name : hashable
    kind : {"number", "datetime", "timedelta", "category"}
    labels : tuple of str
        What the bars stand for; empty for a histogram.
    edges : ndarray of shape (n_bins + 1,)
        Edges of the bins of a histogram: numbers, days since 1970 (datetimes) or `unit`
        (durations); empty for bars.
    real, synthetic : ndarray of shape (n_bars,) or (n_bins,)
        Shares of each bar or bin.
    missing : (float, float)
        Shares of the missing values in the real and in the synthetic table.
    spike : (str, float, float) or None
        A number that is left out of the histogram because it is so frequent, and its shares.
    linear_width : float or None
        If not None, the scale of the histogram is linear up to about this number, and logarithmic
        beyond.
    unit : str
        The unit of durations.
    """

    name: Hashable
    kind: str
    labels: tuple[str, ...]
    edges: np.ndarray
    real: np.ndarray
    synthetic: np.ndarray
    missing: tuple[float, float]
    spike: tuple[str, float, float] | None = None
    linear_width: float | None = None
    unit: str = ""

    @property
    def notes(self) -> str:
        """The missing shares and the spike in words, for the picture."""
        parts = []
        if self.spike:
            value, real, synthetic = self.spike
            parts.append(f"{value}: {percent(real)} | {percent(synthetic)}")
        if any(self.missing):
            parts.append(f"missing: {percent(self.missing[0])} | {percent(self.missing[1])}")
        return ";  ".join(parts)

    @property
    def description(self) -> str:
        """The picture in words, for those who do not see it."""
        if self.labels:
            shown = list(zip(self.labels, self.real, self.synthetic, strict=True))[:_MAX_BARS]
            text = ", ".join(f"{v} {percent(r)} | {percent(s)}" for v, r, s in shown)
            return f"{self.name}, real | synthetic: {text}. {self.notes}".strip()
        if not len(self.edges):
            return f"{self.name}: no values. {self.notes}".strip()
        low, high = self._written(self.edges[0]), self._written(self.edges[-1])
        overlap = float(np.minimum(self.real, self.synthetic).sum())
        whole = max(self.real.sum(), self.synthetic.sum())
        share = percent(min(overlap / whole, 1.0)) if whole else "0 %"
        return (
            f"{self.name}: histograms from {low} to {high}, which overlap by {share}. {self.notes}"
        ).strip()

    def _written(self, number: float) -> str:
        if self.kind == "datetime":
            return str(np.datetime64(0, "s") + np.timedelta64(round(number * 86400), "s"))[:10]
        return compact(number) + (f" {self.unit}" if self.unit else "")


def marginal_of(pair: PairedColumn, min_count: int = 0) -> Marginal:
    """Return the distribution of one column in two tables.

    Categories in fewer than `min_count` real rows have no bar of their own.
    """
    column = pair.column
    missing = float(np.mean(pd.isna(pair.real))), float(np.mean(pd.isna(pair.synthetic)))
    if not column.is_numeric:
        labels, real, synthetic = _categories(pair.real, pair.synthetic, min_count)
        return Marginal(column.name, "category", labels, np.empty(0), real, synthetic, missing)
    real, synthetic = (np.asarray(v, dtype=float) for v in (pair.real, pair.synthetic))
    unit = ""
    if isinstance(column, TimeColumn):
        scale, unit = _time_scale(column, real)
        real, synthetic = real * scale, synthetic * scale
    distinct = np.union1d(distinct_present(real), distinct_present(synthetic))
    real, synthetic = (values[~np.isnan(values)] for values in (real, synthetic))
    if not len(distinct):
        nothing = np.empty(0)
        return Marginal(column.name, column.kind, (), nothing, nothing, nothing, missing)
    if column.kind == "number" and len(distinct) <= _MAX_BARS:
        labels = tuple(f"{value:.6g}" for value in distinct)
        real, synthetic = (_shares(values, distinct) for values in (real, synthetic))
        return Marginal(column.name, "number", labels, np.empty(0), real, synthetic, missing)
    return _histogram(column.name, column.kind, real, synthetic, missing, unit)


def _categories(
    real: pd.Series, synthetic: pd.Series, min_count: int
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Return labels of bars and their shares: the most frequent categories, and the others."""
    # Counters, because an index of a Series would make levels of tuples.
    counts = [Counter(table.dropna()) for table in (real, synthetic)]
    order = [value for value, _ in counts[0].most_common()]
    order += [value for value, _ in counts[1].most_common() if value not in counts[0]]
    top = [value for value in order if counts[0][value] >= min_count]
    if len(top) > _MAX_CATEGORIES or len(top) < len(order):
        top = top[: _MAX_CATEGORIES - 1]
    labels = tuple(str(value) for value in top)
    n_others = len(order) - len(top)
    shares = []
    for count in counts:
        total = sum(count.values())
        known = np.array([count[value] for value in top], dtype=float)
        if n_others:
            known = np.append(known, total - known.sum())
        shares.append(known / max(total, 1))
    if n_others:
        labels += (f"{n_others} other" + "s" * (n_others > 1),)
    return labels, shares[0], shares[1]


def _shares(values: np.ndarray, distinct: np.ndarray) -> np.ndarray:
    counts = np.bincount(np.searchsorted(distinct, values), minlength=len(distinct))
    return counts / max(len(values), 1)


def _time_scale(column: TimeColumn, real: np.ndarray) -> tuple[float, str]:
    """Return days per unit of datetimes, or the factor to a readable unit of durations."""
    in_days = float(np.timedelta64(1, column.unit) / np.timedelta64(1, "D"))  # type: ignore[call-overload]
    if column.kind == "datetime":
        return in_days, ""
    longest = np.nanmax(np.abs(real), initial=0) * in_days
    for unit, per_day in (("days", 1), ("h", 24), ("min", 1440), ("s", 86400)):
        if longest * per_day >= 3:
            return in_days * per_day, unit
    return in_days * 86400, "s"


def _histogram(
    name: Hashable,
    kind: str,
    real: np.ndarray,
    synthetic: np.ndarray,
    missing: tuple[float, float],
    unit: str,
) -> Marginal:
    n_real, n_synthetic = max(len(real), 1), max(len(synthetic), 1)
    spike = None
    values, counts = np.unique(real, return_counts=True)
    if kind == "number" and len(real) and counts.max() >= _SPIKE * len(real):
        value = values[counts.argmax()]
        spike = (
            compact(value),
            float(np.mean(real == value)),
            (synthetic == value).sum() / n_synthetic,
        )
        real, synthetic = real[real != value], synthetic[synthetic != value]
    pooled = np.concatenate([real, synthetic])
    width = _linear_width(pooled) if kind == "number" else None
    edges = _edges(pooled, width)
    real, synthetic = (np.histogram(values, edges)[0] for values in (real, synthetic))
    shares = real / n_real, synthetic / n_synthetic
    return Marginal(name, kind, (), edges, shares[0], shares[1], missing, spike, width, unit)


def _linear_width(values: np.ndarray) -> float | None:
    """Return the width of the linear part of an asinh scale, or None if a linear scale will do."""
    if not values.any():
        return None
    width = float(np.median(np.abs(values[values != 0])))
    with np.errstate(divide="ignore", invalid="ignore"):
        linear, bent = _range(values), _range(np.arcsinh(values / width))
    return width if linear > _WIDE and bent < linear / 2 else None


def _range(values: np.ndarray) -> float:
    low, high = np.quantile(values, [0.1, 0.9])
    return float(np.ptp(values) / (high - low))


def _edges(values: np.ndarray, width: float | None) -> np.ndarray:
    low, high = values.min(), values.max()
    if low == high:
        return np.array([low - 0.5, low + 0.5])
    if width is not None:
        ends = np.arcsinh(low / width), np.arcsinh(high / width)
        edges = width * np.sinh(np.linspace(ends[0], ends[1], _N_BINS + 1))
        edges[[0, -1]] = low, high
        return edges
    if (values == np.rint(values)).all():  # bins of as many integers each, or they seem to wave
        step = np.ceil((high - low + 1) / _N_BINS)
        return np.arange(low - 0.5, high + step, step)
    return np.linspace(low, high, _N_BINS + 1)


class MarginalsDisplay:
    """The distribution of each column in a real and in a synthetic table.

    Numbers and times are shown as histograms, categories and numbers with few values as bars. Real
    rows are a blue area or plain bars, synthetic ones a dark line or hatched bars. Above a picture
    stand the shares of missing values, and of a number that is so frequent that it would hide the
    others, in the real and in the synthetic table.

    Use :meth:`from_estimator` or :meth:`from_tables` to make one.

    Parameters
    ----------
    marginals : list of Marginal
        Names, bins and shares of each column; no rows are kept.

    Attributes
    ----------
    axes_ : ndarray of Axes of shape (n_columns,)
        One per column.
    figure_ : Figure
        The figure that holds them.

    See Also
    --------
    PairTrendsDisplay : How well the synthetic rows keep the dependence of columns on each other.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktvae.inspection import MarginalsDisplay
    >>> real = pd.DataFrame({"age": [31, 54, 47, 62], "smoker": ["no", "yes", "no", None]})
    >>> synthetic = pd.DataFrame({"age": [33, 52, 50, 60], "smoker": ["no", "yes", "yes", "no"]})
    >>> display = MarginalsDisplay.from_tables(real, synthetic)
    >>> display.axes_.shape
    (2,)
    """

    def __init__(self, *, marginals: list[Marginal]):
        self.marginals = marginals

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
    ) -> MarginalsDisplay:
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
            The columns to show, in this order; None shows all.
        random_state : int, RandomState instance, Generator instance or None, default=None
            The seed of the rows; None uses that of the estimator.
        ax : Axes or array-like of Axes, default=None
            See :meth:`plot`.

        Returns
        -------
        display : MarginalsDisplay
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
    ) -> MarginalsDisplay:
        """Compare the columns that two tables share.

        Parameters
        ----------
        real, synthetic : DataFrame or array-like
        columns : sequence of column names, default=None
            The columns to show, in this order; None shows all that both tables have,
            identifiers aside.
        ax : Axes or array-like of Axes, default=None
            See :meth:`plot`.

        Returns
        -------
        display : MarginalsDisplay

        Raises
        ------
        ValueError, TypeError
            If a table lacks a column that `columns` names, or if a column cannot be read.
        """
        require_matplotlib(cls.__name__)
        one, two = frames_of(real, synthetic)
        pairs = paired_columns(one, two, shown_columns(one, two, columns))
        marginals = [marginal_of(pair) for pair in pairs]
        return cls(marginals=marginals).plot(ax=ax)

    def plot(self, ax: Any = None, *, n_columns: int = 4) -> MarginalsDisplay:
        """Draw one panel per column.

        Parameters
        ----------
        ax : Axes or array-like of Axes, default=None
            None makes a new figure, as large as it must be. A single Axes, made by ``subplots``, is
            divided; an array of Axes must hold one per column.
        n_columns : int, default=4
            The number of panels side by side.

        Returns
        -------
        self
        """
        require_matplotlib(type(self).__name__)
        self.axes_ = new_axes(ax, len(self.marginals), n_columns, (2.6, 1.75))
        self.figure_ = self.axes_[0].figure
        is_given = ax is not None and (np.iterable(ax) or len(self.marginals) == 1)
        for panel, marginal in zip(self.axes_, self.marginals, strict=True):
            left = 0.0
            if not is_given:
                left = inset(panel, 1.0 if marginal.kind == "category" else 0.2, 0.15, 0.3, 0.42)
            draw_marginal(panel, marginal)
            for text, size, above in ((marginal.name, 8, 13), (marginal.notes, 6.5, 4)):
                place = (-max(left - 0.2, 0) * 72, above if marginal.notes else 4)
                panel.annotate(
                    shortened(text, 40),
                    (0, 1),
                    place,
                    xycoords="axes fraction",
                    textcoords="offset points",
                    fontsize=size,
                )
        if ax is None:
            self.figure_.legend(
                handles=legend_handles(), loc="upper right", ncols=2, fontsize=8, frameon=False
            )
            if any(marginal.notes for marginal in self.marginals):
                note = "Shares above a panel: real | synthetic"
                width, height = self.figure_.get_size_inches()
                x, y = 0.2 / width, 1 - 0.1 / height
                self.figure_.text(x, y, note, ha="left", va="top", fontsize=7)
        return self


def sampled(estimator: Any, X: Any, n_samples: int | None, random_state: Any) -> Any:
    """Return rows drawn from an estimator, as many as `X` has if `n_samples` is None."""
    if not hasattr(estimator, "sample"):
        raise TypeError(
            f"{type(estimator).__name__} has no method sample. Pass a fitted synthesizer, or "
            "compare two tables with from_tables."
        )
    n_samples = len(X) if n_samples is None else n_samples
    return estimator.sample(n_samples, random_state=random_state)


def legend_handles() -> list:
    """Return what stands for the real and the synthetic table in a legend."""
    from matplotlib.patches import Patch

    return [
        Patch(facecolor=REAL, label="real"),
        Patch(facecolor="white", edgecolor=SYNTHETIC, hatch="/////", label="synthetic"),
    ]


def draw_marginal(ax: Any, marginal: Marginal, fontsize: float = 7) -> None:
    """Draw one column into an Axes, without a title."""
    tidy(ax, fontsize)
    if marginal.labels:
        _draw_bars(ax, marginal)
    elif len(marginal.edges):
        _draw_histogram(ax, marginal, fontsize)
    else:
        ax.text(0.5, 0.5, "no values", ha="center", va="center", fontsize=fontsize)
        ax.set_xticks([])
        ax.set_yticks([])


def _draw_bars(ax: Any, marginal: Marginal) -> None:
    is_category = marginal.kind == "category"
    at, size = np.arange(len(marginal.labels)), 0.4
    draw = ax.barh if is_category else ax.bar
    draw(at - size / 2, marginal.real, size, color=REAL)
    hatched = {"facecolor": "white", "edgecolor": SYNTHETIC, "hatch": "/////", "linewidth": 0.8}
    draw(at + size / 2, marginal.synthetic, size, **hatched)
    largest = max(marginal.real.max(), marginal.synthetic.max())
    if is_category:
        ax.set_yticks(at, [shortened(label, 14) for label in marginal.labels])
        ax.set_ylim(max(len(at), 3) - 0.4, -0.6)
        ax.tick_params(axis="y", length=0)
        _share_ticks(ax.xaxis, largest)
    else:
        widest = max(len(shortened(label, 8)) for label in marginal.labels) + 1
        step = -(-widest * len(at) // 36)  # room for so many characters
        ax.set_xticks(at[::step], [shortened(label, 8) for label in marginal.labels[::step]])
        ax.set_xlim(-0.6, max(len(at), 3) - 0.4)
        ax.set_yticks([])


def _share_ticks(axis: Any, largest: float) -> None:
    """Mark 0 and a round share."""
    step = next((s for s in (0.5, 0.2, 0.1, 0.05, 0.02, 0.01) if s <= largest), largest or 1)
    if largest >= 1:
        step = 1.0
    axis.set_ticks([0, step], ["0", percent(step)])


def _draw_histogram(ax: Any, marginal: Marginal, fontsize: float) -> None:
    edges: Any = marginal.edges
    if marginal.kind == "datetime":
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, get_epoch

        days = np.datetime64(0, "D") - np.datetime64(get_epoch(), "D")
        edges = edges + days.astype(float)
        locator = AutoDateLocator(minticks=2, maxticks=4)
        ax.xaxis.set_major_locator(locator)
        ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        ax.xaxis.get_offset_text().set_fontsize(fontsize)
    else:
        _number_ticks(ax, marginal)
    ax.stairs(marginal.real, edges, fill=True, color=REAL)
    ax.stairs(marginal.synthetic, edges, color=SYNTHETIC, linewidth=1.3)
    ax.set_xlim(edges[0], edges[-1])
    ax.set_ylim(0, None)
    ax.set_yticks([])


def _number_ticks(ax: Any, marginal: Marginal) -> None:
    low, high = marginal.edges[[0, -1]]
    if marginal.linear_width is None:
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        unit = f" {marginal.unit}" if marginal.unit else ""
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: compact(x) + unit))
        return
    width = marginal.linear_width
    ax.set_xscale("asinh", linear_width=width)
    powers = 10.0 ** np.arange(np.floor(np.log10(width)), np.log10(max(-low, high, width)) + 1)
    marks = [m for m in (*-powers[::-1], 0.0, *powers) if low <= m <= high]
    at = np.arcsinh(np.array([low, high, *marks]) / width)
    apart = (at[1] - at[0]) / 4.5
    kept: list[tuple[float, float]] = []
    for place, mark in sorted(zip(at[2:], marks, strict=True), key=lambda pm: -abs(pm[1])):
        if all(abs(place - other) >= apart for other, _ in kept):
            kept.append((place, mark))
    ax.set_xticks([mark for _, mark in kept], [compact(mark) for _, mark in kept])
    ax.minorticks_off()
