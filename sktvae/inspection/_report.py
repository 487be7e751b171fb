"""`report`: a synthetic table judged on one page, for people and as data."""

from __future__ import annotations

import html
import json
import os
import sys
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state
from tqdm import tqdm

from sktvae.inspection._columns import frames_of, named_like, paired_columns, shared_columns
from sktvae.inspection._comparison import compare_columns, compare_pairs, worst_pairs
from sktvae.inspection._marginals import Marginal, marginal_of
from sktvae.inspection._words import (
    Judgement,
    explanation_of,
    judge_fidelity,
    judge_privacy,
)
from sktvae.metrics import copied_rows, evaluate, lost_categories
from sktvae.metrics._tables import identifiers, read_tables

_MIN_COUNT = 5  # a category in fewer real rows is not named: it may point at a person
_N_WORST_PAIRS = 10
_OWN_STEPS = ("columns", "pairs of columns", "rare categories", "distributions")


@dataclass(frozen=True)
class Report:
    """A synthetic table, judged. It is made by :func:`report`, and keeps no rows.

    Attributes
    ----------
    title : str
    fidelity : Judgement
        Whether the synthetic rows look real: `verdict` ("good", "fair", "poor" or "unknown"),
        `headline` (a sentence) and `reasons` (sentences, the worst first).
    privacy : Judgement
        Whether rows look copied or memorised.
    n_rows : dict of str to int
        The numbers of rows of the tables "real", "synthetic" and "holdout".
    not_compared : dict of str to list
        The columns that only the "real" or only the "synthetic" table has, and "identifiers", of
        which no two real rows share a value.
    figures : DataFrame
        As :func:`sktvae.metrics.evaluate` returns it.
    columns : DataFrame
        How alike each column is, those that differ most first: `column`, `score`, `chance`,
        `missing_real`, `missing_synthetic`.
    pair_errors, pair_chance : DataFrame of shape (n_columns, n_columns)
        The errors of pairs of columns, and those by chance.
    lost : DataFrame
        Lost categories; see :func:`sktvae.metrics.lost_categories`.
    copies : DataFrame
        The positions of synthetic rows that equal a real one, and of the first real row that they
        equal: `synthetic_row`, `real_row`.
    marginals : list of Marginal
        The distributions behind the pictures, in the order of `columns`.
    """

    title: str
    fidelity: Judgement
    privacy: Judgement
    n_rows: dict[str, int]
    not_compared: dict[str, list]
    figures: pd.DataFrame
    columns: pd.DataFrame
    pair_errors: pd.DataFrame
    pair_chance: pd.DataFrame
    lost: pd.DataFrame
    copies: pd.DataFrame
    marginals: list[Marginal]

    def to_html(self, path: Any = None) -> str:
        """Return the report as one page of HTML, which needs no other files and no network.

        Parameters
        ----------
        path : str, path or None, default=None
            Where to write the page, too.

        Returns
        -------
        page : str

        Raises
        ------
        ImportError
            If Jinja2 or matplotlib is not installed: ``pip install "sktvae[report]"``.
        """
        from sktvae.inspection._page import page_of

        page = page_of(self)
        if path is not None:
            with open(os.fspath(path), "w", encoding="utf-8") as file:
                file.write(page)
        return page

    def to_dict(self) -> dict:
        """Return the report as dicts, lists, strings and numbers, with None for unknown numbers.

        Names of columns and categories are strings. Categories in fewer than five real rows are
        not named.
        """
        figures = [
            {"name": name, "title": explanation_of(name).title, **figure}
            for name, figure in zip(
                self.figures.index, self.figures.to_dict("records"), strict=True
            )
        ]
        pairs = self.worst_pairs()
        return plain(
            {
                "title": self.title,
                "fidelity": vars(self.fidelity),
                "privacy": vars(self.privacy),
                "n_rows": self.n_rows,
                "not_compared": self.not_compared,
                "figures": figures,
                "columns": self.columns.to_dict("records"),
                "worst_pairs": [
                    {"columns": [one, other], "error": error, "chance": chance}
                    for one, other, error, chance in pairs
                ],
                "lost_categories": self.lost_named().to_dict("records"),
                "n_lost_categories": len(self.lost),
                "copied_rows": self.copies.to_dict("records"),
            }
        )

    def to_json(self) -> str:
        """Return :meth:`to_dict` as JSON."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)

    def worst_pairs(self) -> list[tuple[Hashable, Hashable, float, float]]:
        """Return the ten pairs that differ most: both columns, the error, and that by chance."""
        return worst_pairs(self.pair_errors, self.pair_chance, _N_WORST_PAIRS)

    def lost_named(self) -> pd.DataFrame:
        """Return the lost categories that at least five real rows have."""
        return self.lost[self.lost["n_real"] >= _MIN_COUNT]

    def __repr__(self) -> str:
        lines = [f"Report: {self.fidelity.headline}"]
        lines += [f"- {reason}" for reason in self.fidelity.reasons]
        lines.append(self.privacy.headline)
        lines += [f"- {reason}" for reason in self.privacy.reasons]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return the page for a notebook, in a frame that keeps its style apart."""
        page = html.escape(self.to_html(), quote=True)
        return (
            f'<iframe srcdoc="{page}" title="{html.escape(self.title)}" sandbox="" '
            'style="width: 100%; height: 40rem; border: 1px solid #ccc"></iframe>'
        )


def report(
    real: Any,
    synthetic: Any,
    holdout: Any = None,
    *,
    target: Hashable | None = None,
    title: str | None = None,
    random_state: Any = None,
    progress: bool = False,
) -> Report:
    """Judge a synthetic table: a verdict in words, figures, pictures.

    Parameters
    ----------
    real : DataFrame or array-like of shape (n_rows, n_columns)
        The rows that the synthesizer was fitted on. They decide what is a number, a time or a
        category.
    synthetic : DataFrame or array-like of shape (n_synthetic_rows, n_columns)
        The rows to judge; as many as there are real ones tell most. Columns that one of the tables
        lacks are named, and not compared.
    holdout : DataFrame, array-like or None, default=None
        Real rows that the synthesizer has not seen. Without them the report cannot say whether
        rows were memorised.
    target : hashable or None, default=None
        A column that models predict from the others, to see whether the synthetic rows can be used
        in place of the real ones.
    title : str or None, default=None
        The title of the page.
    random_state : int, RandomState instance or None, default=None
        With an int, the report is reproducible.
    progress : bool, default=False
        Whether to show a progress bar on stderr.

    Returns
    -------
    report : Report
        Printed, it gives the verdict in words. ``to_html("report.html")`` writes the page, which a
        notebook shows by itself; ``to_dict()`` and ``to_json()`` give the figures.

    Raises
    ------
    ValueError, TypeError
        If the tables share no column, the holdout lacks one of those that they share, or a column
        holds different kinds of values.

    See Also
    --------
    sktvae.metrics.evaluate : The figures alone.

    Notes
    -----
    The page and the data hold values of the real table: its frequent categories, and the ranges of
    its numbers. Look through them before you pass them on.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from sktvae.inspection import report
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=600).round(2)
    >>> table = pd.DataFrame({"x": x, "y": (x + 0.1 * rng.normal(size=600)).round(2)})
    >>> shuffled = table[300:].assign(y=rng.permutation(table["y"][300:]))
    >>> bad = report(table[:300], shuffled, random_state=0)
    >>> bad.fidelity.verdict
    'poor'
    >>> print(bad)
    Report: The synthetic rows can be told from real ones: ...
    """
    one, two = frames_of(real, synthetic)
    names = shared_columns(one, two)
    frames = {"real": one[names], "synthetic": two[names]}
    if holdout is not None:
        frames["holdout"] = _holdout(named_like(real, holdout), names)
    tables = read_tables(**frames)
    left_out = [i for i in identifiers(tables[0]) if names[i] != target]
    if 0 < len(left_out) < len(names):
        kept = [i for i in range(len(names)) if i not in left_out]
        names = [names[i] for i in kept]
        tables = tuple(table.select(kept) for table in tables)
    seed = int(check_random_state(random_state).randint(2**31 - 1))
    with _Progress(progress) as bar:
        figures = evaluate(*tables, target=target, random_state=seed, callback=bar.of_evaluate)
        # Its messages name a parameter of `evaluate`, and are plain ASCII.
        words = {"X_holdout": "holdout", r"\+-": "±"}
        figures["message"] = figures["message"].replace(words, regex=True)
        bar.step(0)
        columns = compare_columns(tables[0], tables[1], seed)
        bar.step(1)
        errors, chance = compare_pairs(tables[0], tables[1], seed)
        bar.step(2)
        lost = lost_categories(*tables[:2])
        copies = copied_rows(*tables, random_state=seed)
        bar.step(3)
        pairs = paired_columns(frames["real"], frames["synthetic"], list(columns["column"]))
        marginals = [marginal_of(pair, _MIN_COUNT) for pair in pairs]
    return Report(
        title="Report on a synthetic table" if title is None else str(title),
        fidelity=judge_fidelity(figures),
        privacy=judge_privacy(figures, holdout is not None),
        n_rows={name: len(frame) for name, frame in frames.items()},
        not_compared={
            "real": [name for name in one if name not in two],
            "synthetic": [name for name in two if name not in one],
            "identifiers": [name for name in one if name in two and name not in names],
        },
        figures=figures,
        columns=columns,
        pair_errors=errors,
        pair_chance=chance,
        lost=lost,
        copies=pd.DataFrame({"synthetic_row": copies.rows, "real_row": copies.train_rows}),
        marginals=marginals,
    )


def _holdout(frame: pd.DataFrame, names: list) -> pd.DataFrame:
    lacking = [name for name in names if name not in frame.columns]
    if lacking:
        raise ValueError(
            f"The holdout lacks the columns {lacking!r} of the real table. Take it from the same "
            "source: train, holdout = train_test_split(X)."
        )
    return frame[names]


class _Progress:
    """A progress bar on stderr, or none."""

    def __init__(self, is_shown: bool):
        self._bar = tqdm(disable=not is_shown, file=sys.stderr, desc="report", leave=False)

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *exception: Any) -> None:
        self._bar.close()

    def of_evaluate(self, done: int, total: int, name: str) -> None:
        """Show a step of :func:`sktvae.metrics.evaluate`."""
        self._bar.total = total + len(_OWN_STEPS)
        self._bar.n = done
        self._bar.set_postfix_str(name)

    def step(self, number: int) -> None:
        """Show that a step of our own begins."""
        if self._bar.total:  # None if there is no bar
            self._bar.n = self._bar.total - len(_OWN_STEPS) + number
            self._bar.set_postfix_str(_OWN_STEPS[number])


def plain(value: Any) -> Any:
    """Return a value as what JSON knows; NaN becomes None, and other objects text."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return str(value)
