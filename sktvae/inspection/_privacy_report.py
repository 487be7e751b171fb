"""`privacy_report`: what a model gives away about its training rows, for people and as data."""

from __future__ import annotations

import html
import json
import os
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.utils import _safe_indexing, check_random_state
from sklearn.utils._param_validation import HasMethods, StrOptions, validate_params

from sktvae._table.containers import as_frame
from sktvae.inspection._contents import contents_of, n_parameters
from sktvae.inspection._privacy_words import (
    ATTACKERS,
    attack_of,
    guarantee_in_words,
    judge_attackers,
    judge_contents,
    message_of,
    verdict_of,
    worst_in_words,
)
from sktvae.inspection._report import plain
from sktvae.inspection._words import Judgement
from sktvae.metrics import privacy_attacks

_FEWEST_ROWS = 4


@dataclass(frozen=True)
class PrivacyReport:
    """What a model gives away. It is made by :func:`privacy_report`, and keeps no rows.

    Attributes
    ----------
    title : str
    attackers : dict of str to Judgement
        The verdict on each kind of attacker, by what they have: "rows" (synthetic ones), "model",
        "model and reference" (also a model of other rows of the same kind). Each can do what those
        before can, too. A judgement has a `verdict` ("good", "fair", "poor" or "unknown"), a
        `headline` and `reasons`.
    worst : str
        A sentence that names the attack which finds out most.
    contents_verdict : Judgement
        Whether something in the model rests on a few rows.
    guarantee : str
        What differential privacy promises, or that it was not used.
    epsilon, delta : float or None
        `epsilon_` and `delta_` of the estimator, if it has them.
    ledger : DataFrame or None
        `privacy_ledger_` of the estimator, if it has one: what was spent where.
    n_rows : dict of str to int
        The numbers of rows: "train", "holdout" (with which training rows are compared),
        "reference" (of the attacker), "synthetic".
    n_parameters : dict of str to int
        How many numbers each network of the model holds.
    contents : DataFrame
        What the model keeps of each column: `kind`, `codec`, `keeps` (in words), `n_values` (how
        many values exactly), `rests_on` (the least number of training rows that something of it
        rests on), `n_missing` (how many have no value, if the share of them is kept).
    attacks : DataFrame
        As :func:`sktvae.metrics.privacy_attacks` returns it, with a `verdict` and a `message`.
    """

    title: str
    attackers: dict[str, Judgement]
    worst: str
    contents_verdict: Judgement
    guarantee: str
    epsilon: float | None
    delta: float | None
    ledger: pd.DataFrame | None
    n_rows: dict[str, int]
    n_parameters: dict[str, int]
    contents: pd.DataFrame
    attacks: pd.DataFrame

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the attribute `attacks`, a DataFrame."""
        return self.attacks.copy()

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
        from sktvae.inspection._page import rendered

        shown = [(who, needs) for needs, who in ATTACKERS.items() if needs in self.attackers]
        context = {
            "report": self,
            "contents": _as_text(self.contents),
            "ledger": None if self.ledger is None else _as_text(self.ledger),
            "groups": [
                (who, self.attackers[needs], _lines(self.attacks, needs)) for who, needs in shown
            ],
        }
        page = rendered("privacy_report.html.jinja", context)
        if path is not None:
            with open(os.fspath(path), "w", encoding="utf-8") as file:
                file.write(page)
        return page

    def to_dict(self) -> dict:
        """Return the report as dicts, lists, strings and numbers, with None for unknown numbers."""
        ledger = None if self.ledger is None else _with_index(self.ledger).to_dict("records")
        return plain(
            {
                "title": self.title,
                "attackers": {needs: vars(one) for needs, one in self.attackers.items()},
                "worst": self.worst,
                "guarantee": self.guarantee,
                "epsilon": self.epsilon,
                "delta": self.delta,
                "ledger": ledger,
                "n_rows": self.n_rows,
                "n_parameters": self.n_parameters,
                "contents_verdict": vars(self.contents_verdict),
                "contents": self.contents.reset_index().to_dict("records"),
                "attacks": self.attacks.reset_index().to_dict("records"),
            }
        )

    def to_json(self) -> str:
        """Return :meth:`to_dict` as JSON."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)

    def __repr__(self) -> str:
        lines = [f"PrivacyReport: {self.worst}"]
        for judgement in (*self.attackers.values(), self.contents_verdict):
            lines.append(f"[{judgement.verdict}] {judgement.headline}")
            lines += [f"- {reason}" for reason in judgement.reasons]
        return "\n".join([*lines, self.guarantee])

    def _repr_html_(self) -> str:
        """Return the page for a notebook, in a frame that keeps its style apart."""
        page = html.escape(self.to_html(), quote=True)
        return (
            f'<iframe srcdoc="{page}" title="{html.escape(self.title)}" sandbox="" '
            'style="width: 100%; height: 40rem; border: 1px solid #ccc"></iframe>'
        )


@validate_params(
    {
        "estimator": [HasMethods(["score_samples", "sample"])],
        "reference": [StrOptions({"fit"}), HasMethods(["score_samples"]), None],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def privacy_report(
    estimator: Any,
    X_train: Any,
    X_holdout: Any,
    *,
    X_synthetic: Any = None,
    reference: Any = "fit",
    title: str | None = None,
    random_state: Any = None,
) -> PrivacyReport:
    """Say what a fitted synthesizer gives away about the rows that it was fitted on.

    It lists what the model holds, attacks the model and rows that are drawn from it, and says in
    words what was found, against which attacker, and what it does not prove.

    Parameters
    ----------
    estimator : fitted estimator with ``score_samples`` and ``sample``
        Such as :class:`~sktvae.TVAESynthesizer`.
    X_train : DataFrame or array-like of shape (n_train_rows, n_columns)
        The rows that it was fitted on.
    X_holdout : DataFrame or array-like of shape (n_holdout_rows, n_columns)
        Rows from the same source that it has not seen. Half of them are the attacker's own rows,
        and the others are those from which the attacks must tell the training rows. Some hundred
        tell something, some thousand more.
    X_synthetic : DataFrame, array-like or None, default=None
        The rows that are to be shared. None draws as many as `X_train` has.
    reference : "fit", fitted estimator with ``score_samples``, or None, default="fit"
        The model of other rows with which the strongest attacker compares. "fit" fits a clone of
        the estimator to half of `X_holdout`, which takes about as long as its own fit to as many
        rows. A model of your own must not have seen any row of `X_holdout`. None leaves that
        attacker out.
    title : str or None, default=None
        The title of the page.
    random_state : int, RandomState instance or None, default=None
        With an int, the report is reproducible, provided that the estimator is.

    Returns
    -------
    report : PrivacyReport
        Printed, it gives the verdicts in words. ``to_html("privacy.html")`` writes the page (extra
        ``report``), which a notebook shows by itself; ``to_frame()``, ``to_dict()`` and
        ``to_json()`` give the figures.

    Raises
    ------
    ValueError
        If there are fewer than four holdout rows, or the tables have different columns.

    See Also
    --------
    sktvae.metrics.privacy_attacks : The attacks alone.
    report : Whether synthetic rows are like the real ones.

    Notes
    -----
    The page holds names of columns, and no values of the table.

    An attack is good if its gain (the way from guessing, 0, to certainty, 1) is at most 0.04, which
    for membership is an AUC of 0.52, fair up to 0.10, and else poor. What may be chance (three
    standard errors) counts as nothing, and if this margin is more than 0.10, there are too few rows
    to tell. The worst verdict on an attack is that on the attacker, but "good" needs to be found
    for half of the attacks.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.neighbors import KernelDensity
    >>> from sktvae.inspection import privacy_report
    >>> train, holdout = np.random.default_rng(0).normal(size=(2, 300, 3))
    >>> memorising = KernelDensity(bandwidth=0.02).fit(train)
    >>> judged = privacy_report(memorising, train, holdout, random_state=0)
    >>> judged.attackers["rows"].verdict, judged.attackers["model"].verdict
    ('poor', 'poor')
    >>> print(judged)
    PrivacyReport: The worst of 16 attacks is ...
    """
    rng = check_random_state(random_state)
    own, others = _halves(X_holdout, rng)
    if isinstance(reference, str):
        with warnings.catch_warnings():
            # What it warns of was said when the estimator itself was fitted.
            warnings.simplefilter("ignore", UserWarning)
            reference = clone(estimator).fit(own)
    n_train = len(as_frame(X_train)[0])
    if X_synthetic is None:
        X_synthetic = estimator.sample(n_train, random_state=rng.randint(2**31 - 1))
    attacks = privacy_attacks(
        X_train,
        X_synthetic,
        others,
        X_reference=own,
        estimator=estimator,
        reference=reference,
        random_state=rng,
    )
    attacks["verdict"] = [verdict_of(line) for _, line in attacks.iterrows()]
    attacks["message"] = [message_of(line) for _, line in attacks.iterrows()]
    contents = contents_of(estimator, X_train)
    epsilon, delta = (getattr(estimator, name, None) for name in ("epsilon_", "delta_"))
    ledger = getattr(estimator, "privacy_ledger_", None)
    return PrivacyReport(
        title="Privacy report" if title is None else str(title),
        attackers=judge_attackers(attacks),
        worst=worst_in_words(attacks),
        contents_verdict=judge_contents(contents),
        guarantee=guarantee_in_words(epsilon, delta),
        epsilon=epsilon,
        delta=delta,
        ledger=None if ledger is None else pd.DataFrame(ledger),
        n_rows={
            "train": n_train,
            "holdout": len(as_frame(others)[0]),
            "reference": len(as_frame(own)[0]),
            "synthetic": len(as_frame(X_synthetic)[0]),
        },
        n_parameters=n_parameters(estimator),
        contents=contents,
        attacks=attacks,
    )


def _halves(X_holdout: Any, rng: np.random.RandomState) -> list[Any]:
    """Return the attacker's rows, and those with which the training rows are compared."""
    n_rows = len(as_frame(X_holdout)[0])
    if n_rows < _FEWEST_ROWS:
        raise ValueError(
            f"X_holdout needs at least {_FEWEST_ROWS} rows, half of which are the attacker's; got "
            f"{n_rows}. Some hundred are needed to find out something."
        )
    halves = np.array_split(rng.permutation(n_rows), 2)
    return [_safe_indexing(X_holdout, np.sort(half)) for half in halves]


def _lines(attacks: pd.DataFrame, needs: str) -> list[dict[str, Any]]:
    """Return the attacks that need this, as text."""
    own = attacks[attacks["needs"] == needs].sort_values("gain", ascending=False)
    lines = []
    for name, line in own.iterrows():
        known = attack_of(str(name))
        ends = line["gain_low"], line["gain_high"]
        interval = "" if np.isnan(ends[0]) else f"{ends[0]:.2f} to {ends[1]:.2f}"
        lines.append(
            {
                "title": known.title,
                "meaning": known.meaning,
                "gain": "not known" if np.isnan(line["gain"]) else f"{line['gain']:.2f}",
                "interval": interval,
                "auc": "" if np.isnan(line["auc"]) else f"{line['auc']:.3f}",
                "verdict": line["verdict"],
                "message": line["message"],
            }
        )
    return lines


def _with_index(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with its index as columns, if the index has a name."""
    return table if table.index.names == [None] else table.reset_index()


def _as_text(table: pd.DataFrame) -> dict[str, list]:
    """Return the names of the columns, and the rows as text, of a DataFrame with its index."""
    frame = _with_index(table)
    text = lambda value: (
        f"{value:.6g}" if isinstance(value, float) and not np.isnan(value) else str(value)
    )
    rows = [["" if value is None or value != value else text(value) for value in row]
            for row in frame.itertuples(index=False)]  # fmt: skip
    return {"names": [str(name).replace("_", " ") for name in frame.columns], "rows": rows}
