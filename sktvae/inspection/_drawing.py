"""What the Displays share: matplotlib when it is needed, colours, axes, labels."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any

import numpy as np

# Of the palette of Okabe and Ito (2008), which colour-blind people tell apart. Real and synthetic
# also differ in lightness, and in form: an area against a line, plain bars against hatched ones.
REAL, SYNTHETIC = "#56B4E9", "#B34700"
GREY = "#8A8A8A"
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
MARKERS = ("o", "^", "s", "D", "v", "P")
COLOR_MAP = "cividis"  # its lightness rises steadily, also in print and for colour-blind people


def require_matplotlib(what: str) -> None:
    """Raise ImportError that names the extra if matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f'{what} needs matplotlib: pip install "sktvae[plot]" (or matplotlib alone).'
        ) from error


def new_axes(ax: Any, n_axes: int, n_columns: int, cell: tuple[float, float]) -> np.ndarray:
    """Return `n_axes` axes in rows of `n_columns`: new ones, those given, or parts of one given.

    Parameters
    ----------
    ax : Axes, array-like of Axes or None
        None makes a new figure with pyplot, which shows it in notebooks. The place of a single
        Axes is divided if more are needed; an array must hold `n_axes` or more.
    n_axes, n_columns : int
    cell : (float, float)
        Width and height of one of them in a new figure, in inches.
    """
    from matplotlib.axes import Axes

    n_columns = min(n_columns, n_axes)
    n_rows = -(-n_axes // n_columns)
    figure: Any
    grid: Any
    if ax is None:
        import matplotlib.pyplot as plt

        figure = plt.figure(figsize=(cell[0] * n_columns, cell[1] * n_rows + 0.4))
        top = 1 - 0.4 / figure.get_figheight()
        grid = figure.add_gridspec(
            n_rows, n_columns, left=0, right=1, bottom=0, top=top, wspace=0, hspace=0
        )
    elif isinstance(ax, Axes):
        if n_axes == 1:
            return np.array([ax], dtype=object)
        figure, spec = ax.figure, ax.get_subplotspec()
        ax.set_axis_off()
        if spec is None:
            raise ValueError(
                f"ax must be divided into {n_axes} parts, and was not made by subplots or "
                "add_subplot. Pass an Axes that was, an array of Axes, or None."
            )
        grid = spec.subgridspec(n_rows, n_columns, wspace=0, hspace=0)
    else:
        given = np.asarray(ax, dtype=object).ravel()
        if len(given) < n_axes:
            raise ValueError(f"ax holds {len(given)} Axes, and {n_axes} are needed.")
        return given[:n_axes]
    cells = [figure.add_subplot(grid[i // n_columns, i % n_columns]) for i in range(n_axes)]
    return np.array(cells, dtype=object)


def inset(ax: Any, left: float, right: float, bottom: float, top: float) -> float:
    """Move the sides of an Axes inwards by so many inches, at most by 40 % of its size each.

    Returns
    -------
    left : float
        By how many inches the left side was moved.
    """
    whole, dpi = ax.figure.bbox, ax.figure.dpi  # a SubFigure has no size in inches
    width, height = whole.width / dpi, whole.height / dpi
    box = ax.get_position()
    x = [min(size / width, 0.4 * box.width) for size in (left, right)]
    y = [min(size / height, 0.4 * box.height) for size in (bottom, top)]
    ax.set_position([box.x0 + x[0], box.y0 + y[0], box.width - sum(x), box.height - sum(y)])
    return x[0] * width


def tidy(ax: Any, fontsize: float = 7) -> None:
    """Remove the frame but for the bottom line, and set the size of the labels."""
    for side in ("left", "right", "top"):
        ax.spines[side].set_visible(False)
    ax.tick_params(labelsize=fontsize, length=2, pad=2)


def shortened(value: Hashable, length: int) -> str:
    """Return a value as one line of text of at most `length` characters, as matplotlib takes it.

    The middle is left out, because names of columns often differ at the end only.
    """
    text = " ".join(str(value).split())
    if len(text) > length:
        tail = (length - 1) // 2
        text = text[: length - 1 - tail] + "…" + text[-tail:]
    return text.replace("$", r"\$")  # not a formula


def compact(number: float) -> str:
    """Return a number in a few characters.

    >>> from sktvae.inspection._drawing import compact
    >>> compact(0.25), compact(1500), compact(-2e6), compact(3e12)
    ('0.25', '1.5k', '-2M', '3e+12')
    """
    for limit, size, letter in ((1e3, 1, ""), (1e6, 1e3, "k"), (1e9, 1e6, "M"), (1e12, 1e9, "G")):
        if abs(number) < limit * 0.9995:
            return f"{number / size:.3g}{letter}"
    return f"{number:.0e}" if math.isfinite(number) else str(number)


def percent(share: float) -> str:
    """Return a share in percent, with a decimal where it is small or nearly everything.

    >>> from sktvae.inspection._drawing import percent
    >>> percent(0.4567), percent(0.0456), percent(0.0), percent(0.00001)
    ('46 %', '4.6 %', '0 %', '<0.1 %')
    """
    if 0 < share < 0.001:
        return "<0.1 %"
    if 0.999 < share < 1:
        return ">99.9 %"
    edge = 0 < share < 0.0995 or 0.9005 < share < 1
    return f"{100 * share:.1f} %" if edge else f"{100 * share:.0f} %"
