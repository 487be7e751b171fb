"""The report as a page of HTML: what is shown, in which order, and the pictures."""

from __future__ import annotations

import base64
import io
import warnings
from typing import Any

import pandas as pd

from sktvae.inspection._drawing import compact, percent, require_matplotlib
from sktvae.inspection._marginals import Marginal, draw_marginal
from sktvae.inspection._words import SECTIONS, explanation_of, written

_N_COLUMNS = 10  # rows of the table of columns
_N_OPEN = 12  # pictures that are shown at once
_N_LOST = 20
_N_COPIES = 20
_N_LABELLED = 80  # columns of a readable matrix
_WORDS = {
    "good": "Good",
    "fair": "Fair",
    "poor": "Poor",
    "unknown": "Cannot tell",
}
_SIGNS = {"good": "✓", "fair": "!", "poor": "✗", "unknown": "?"}


def page_of(report: Any) -> str:
    """Return the page of a :class:`~sktvae.inspection.Report`.

    Raises
    ------
    ImportError
        If Jinja2 or matplotlib is not installed.
    """
    require_matplotlib("The report")
    with _own_style():
        context = _context(report)
    return rendered("report.html.jinja", context)


def rendered(template: str, context: dict[str, Any]) -> str:
    """Return a page of a template, with the words and signs of verdicts.

    Raises
    ------
    ImportError
        If Jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise ImportError('The report needs Jinja2: pip install "sktvae[report]".') from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sktvae.inspection", ""),
        autoescape=True,  # names of columns and categories may hold markup
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(words=_WORDS, signs=_SIGNS, **context)


def _context(report: Any) -> dict[str, Any]:
    pictures = [(str(m.name), _marginal(m), m) for m in report.marginals]
    copies = report.figures.loc["copied_rows"] if "copied_rows" in report.figures.index else None
    return {
        "report": report,
        "sections": _sections(report),
        "columns": [_column(row) for row in report.columns.head(_N_COLUMNS).itertuples()],
        "pictures": pictures[:_N_OPEN],
        "more_pictures": pictures[_N_OPEN:],
        "pairs": [
            (str(one), str(other), percent(error), percent(chance))
            for one, other, error, chance in report.worst_pairs()
        ],
        "matrix": _matrix(report) if 2 < len(report.pair_errors) <= _N_LABELLED else None,
        "lost": _lost(report),
        "copies": copies,
        "copied": report.copies.head(_N_COPIES).to_dict("records"),
    }


def _sections(report: Any) -> list[tuple[str, list[dict]]]:
    """Return the figures by section, with their values and meanings as text."""
    by_section: dict[str, list[dict]] = {key: [] for key in SECTIONS}
    for name, figure in report.figures.iterrows():
        explained = explanation_of(str(name))
        value = written(str(name), figure["value"])
        error = written(str(name), figure["standard_error"])
        line = {
            "title": explained.title,
            "meaning": explained.meaning,
            "value": value if "not known" in (value, error) else f"{value} ± {error}",
            "chance": written(str(name), figure["chance"]),
            "best": "" if name == "copied_rows" else written(str(name), figure["best"]),
            "verdict": figure["verdict"],
            "message": figure["message"],
        }
        by_section[explained.section].append(line)
    return [(SECTIONS[key], lines) for key, lines in by_section.items() if lines]


def _column(row: Any) -> dict[str, str]:
    overlap = lambda score: "no values" if pd.isna(score) else percent(score)
    return {
        "name": str(row.column),
        "score": overlap(row.score),
        "chance": overlap(row.chance),
        "missing_real": percent(row.missing_real),
        "missing_synthetic": percent(row.missing_synthetic),
    }


def _lost(report: Any) -> dict[str, Any]:
    named = report.lost_named()
    shown = [
        {
            "column": str(row.column),
            "category": str(row.category),
            "n_real": row.n_real,
            "n_expected": compact(row.n_expected),
            "by_chance": percent(row.p_value),
        }
        for row in named.head(_N_LOST).itertuples()
    ]
    return {
        "shown": shown,
        "n_more": len(named) - len(shown),
        "n_rare": len(report.lost) - len(named),
    }


class _own_style:
    """Draw in matplotlib's default style, whatever the user's is, and without its warnings.

    matplotlib warns of characters that its font lacks; the names stand in the page as text, too.
    """

    def __enter__(self) -> None:
        import matplotlib.style

        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        self._style = matplotlib.style.context(["default", {"svg.hashsalt": "sktvae"}])
        self._style.__enter__()

    def __exit__(self, *exception: Any) -> None:
        self._style.__exit__(*exception)
        self._warnings.__exit__(*exception)


def _marginal(marginal: Marginal) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2, 1.7))
    left = 0.36 if marginal.kind == "category" else 0.04
    bottom = 0.27 if marginal.kind == "datetime" else 0.16  # dates have a second line
    place = (left, bottom, 0.95 - left, 0.96 - bottom)
    draw_marginal(figure.add_axes(place), marginal, fontsize=9)
    return _as_source(figure)


def _matrix(report: Any) -> str:
    from matplotlib.figure import Figure

    from sktvae.inspection._pairs import PairTrendsDisplay

    side = 5 + 0.07 * len(report.pair_errors)
    figure = Figure(figsize=(side + 0.5, side), layout="constrained")
    display = PairTrendsDisplay(errors=report.pair_errors, chance=report.pair_chance)
    display.plot(ax=figure.add_subplot())
    return _as_source(figure)


def _as_source(figure: Any) -> str:
    """Return a figure as the source of an image: an SVG within the page."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
