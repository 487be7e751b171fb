"""What the privacy report says: of each attack what it is, what it found, and a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sktvae.inspection._drawing import percent
from sktvae.inspection._words import Judgement
from sktvae.metrics._intervals import Z
from sktvae.metrics._judge import CERTAIN, judge, listed

# Gains up to the first number are good, up to the second fair: an AUC of 0.52 and of 0.55, as for
# the figures of `evaluate`.
LIMITS = (0.04, 0.10)
FEW_ROWS = 3
_MOST_REASONS = 3

ATTACKERS = {
    "rows": "Somebody who has synthetic rows",
    "model": "Somebody who has the model",
    "model and reference": "Somebody who has the model, and a model of other such rows",
}


@dataclass(frozen=True)
class Attack:
    """How the report presents one attack.

    Attributes
    ----------
    title : str
    meaning : str
        What the attacker does, in a sentence.
    """

    title: str
    meaning: str


ATTACKS = {
    "likelihood": Attack(
        "Likelihood",
        "Takes records that the model finds likely for records of the training table.",
    ),
    "calibrated likelihood": Attack(
        "Likelihood, against another model",
        "Takes records that the model finds more likely than a model of other rows does for "
        "records of the training table.",
    ),
    "distance": Attack(
        "Distance",
        "Takes records that have a synthetic row nearby for records of the training table.",
    ),
    "distance ratio": Attack(
        "Distance, against other rows",
        "The same, if the synthetic row is nearer than other real rows that the attacker has.",
    ),
    "density ratio": Attack(
        "Density, against other rows",
        "Compares how densely synthetic rows and other real rows lie around a record (DOMIAS).",
    ),
    "classifier": Attack(
        "Classifier",
        "Trains a classifier to tell synthetic rows from other real rows, and takes records that "
        "look synthetic to it for records of the training table.",
    ),
    "neighbourhood": Attack(
        "Neighbourhood",
        "Counts the synthetic rows close to a record, and other real rows that are as close.",
    ),
    "singling out, univariate": Attack(
        "Singling out by one column",
        "Claims that a value, or an end of a range, which a single synthetic row has, belongs to "
        "exactly one person of the training table.",
    ),
    "singling out, multivariate": Attack(
        "Singling out by three columns",
        "Claims that a combination of three columns, which a single synthetic row has, belongs to "
        "exactly one person of the training table.",
    ),
    "linkability": Attack(
        "Linking",
        "Knows half of the columns of people from one source and half from another, and connects "
        "them through the synthetic row that is nearest to both.",
    ),
    "attribute inference": Attack(
        "Inferring a column",
        "Knows all columns of a person but one, and reads that one in the most similar synthetic "
        "row. Each column was tried; this is the one that was guessed best.",
    ),
}


def attack_of(name: str) -> Attack:
    """Return how an attack is presented; one that has no entry is shown under its own name.

    >>> from sktvae.inspection._privacy_words import attack_of
    >>> attack_of("distance, more rows").title
    'Distance, more rows'
    """
    base, _, more = name.rpartition(", ")
    if name not in ATTACKS and base in ATTACKS:
        known = ATTACKS[base]
        return Attack(f"{known.title}, {more}", known.meaning)
    return ATTACKS.get(name, Attack(name, ""))


def verdict_of(attack: Any) -> str:
    """Return the verdict on one row of :func:`sktvae.metrics.privacy_attacks`."""
    margin = attack["gain"] - attack["gain_low"]
    if attack["kind"] != "attribute inference":  # whose interval takes account of many tries
        margin *= CERTAIN / Z
    return judge(attack["gain"], margin, LIMITS)


def finding_of(name: str, attack: Any) -> str:
    """Return in a clause what one attack found, to follow the words "at best"."""
    title = f"“{attack_of(name).title}”"
    if attack["kind"] == "membership":
        return (
            f"{title} picks the record of the training table out of two in "
            f"{percent(attack['auc'])} of the cases (a guess does in 50 %)"
        )
    return (
        f"{title}: {percent(attack['attack_rate'])} {_SUCCESS[attack['kind']]}, and "
        f"{percent(attack['control_rate'])} for rows that the synthesizer has not seen"
    )


_SUCCESS = {
    "singling out": "of the claims are true",
    "linkability": "of the people are linked",
    "attribute inference": "of the guesses are right",
}


def message_of(attack: Any) -> str:
    """Return in a few sentences what one attack found."""
    if np.isnan(attack["gain"]):
        return "The attack could not be made, or succeeds on everybody."
    if attack["kind"] == "membership":
        found = [
            f"{percent(attack[rate])} ({percent(attack[rate + '_low'])} to "
            f"{percent(attack[rate + '_high'])})"
            for rate in ("tpr_10", "tpr_1")
        ]
        return (
            f"Picks the record of the training table out of two in {percent(attack['auc'])} of the "
            f"cases. If 10 % of the others may be named wrongly, {found[0]} of the records of the "
            f"table are found; if 1 % may be, {found[1]}."
        )
    text = (
        f"{percent(attack['attack_rate'])} {_SUCCESS[attack['kind']]} for the training table, "
        f"{percent(attack['control_rate'])} for rows that the synthesizer has not seen, and "
        f"{percent(attack['baseline_rate'])} by guessing."
    )
    if attack["kind"] == "attribute inference":
        text = f"Column {attack['detail']!r}: {text}"
    if attack["attack_rate"] <= attack["baseline_rate"]:
        text += " The attack is no better than guessing."
    return text


def judge_attackers(attacks: pd.DataFrame) -> dict[str, Judgement]:
    """Return the verdict on each kind of attacker, who can also do what the ones before can.

    The reasons are about the attacks that the ones before cannot make.
    """
    found: dict[str, Judgement] = {}
    can: list[str] = []
    for needs, who in ATTACKERS.items():
        can.append(needs)
        if not (attacks["needs"] == needs).any():
            continue
        own = attacks[attacks["needs"].isin(can)]
        verdict = _overall(own["verdict"])
        faults = own[own["verdict"] == verdict].sort_values("gain", ascending=False)
        at_best = "" if faults.empty else finding_of(str(faults.index[0]), faults.iloc[0])
        what = {
            "good": "finds out no more than chance gives, or hardly more, as far as can be told. "
            "This is not a proof",
            "fair": f"finds out a little about who was in the training table. At best, {at_best}",
            "poor": f"finds out about the people of the training table. At best, {at_best}",
            "unknown": "cannot be judged: nothing is certain, and there are too few rows to tell",
        }[verdict]
        new = own[(own["needs"] == needs) & own["verdict"].isin(["poor", "fair"])]
        reasons = tuple(
            f"{attack_of(str(name)).title}: {line['message']}"
            for name, line in new.sort_values("gain", ascending=False).iterrows()
        )
        unknown = own.index[own["verdict"] == "unknown"]
        if len(unknown) and verdict != "unknown":
            titles = [f"“{attack_of(str(name)).title}”" for name in unknown]
            text = f"There are too few rows to tell what these attacks find: {', '.join(titles)}."
            reasons = (*reasons[:_MOST_REASONS], text)
        found[needs] = Judgement(verdict, f"{who} {what}.", reasons[: _MOST_REASONS + 1])
    return found


def _overall(verdicts: pd.Series) -> str:
    """Return the worst verdict; "unknown" if more than half of those that are left are."""
    for verdict in ("poor", "fair"):
        if (verdicts == verdict).any():
            return verdict
    return "unknown" if (verdicts == "unknown").mean() > 0.5 else "good"


def worst_in_words(attacks: pd.DataFrame) -> str:
    """Return a sentence that names the attack with the largest gain beyond chance."""
    if not attacks["is_worst"].any():
        return "No attack could be made."
    name = attacks.index[attacks["is_worst"]][0]
    line = attacks.loc[name]
    low, high = (percent(max(end, 0.0)) for end in (line["gain_low"], line["gain_high"]))
    who = ATTACKERS[line["needs"]]
    text = (
        f"The worst of {len(attacks)} attacks is “{attack_of(name).title}”, by "
        f"{who[0].lower()}{who[1:]}: it is {percent(max(line['gain'], 0.0))} of the way from "
        f"guessing to certainty (95 % interval: {low} to {high})."
    )
    return text if line["gain_low"] > 0 else f"{text} This may be chance."


def judge_contents(contents: pd.DataFrame) -> Judgement:
    """Return the verdict on what the model holds of single columns."""
    if contents.empty:
        return Judgement(
            "unknown", "What the model holds was not read: it has no fitted encoder.", ()
        )
    few = contents.index[contents["rests_on"] < FEW_ROWS]
    few_missing = contents.index[contents["n_missing"] < FEW_ROWS]
    reasons = [
        f"{name!r} ({contents.loc[name, 'codec']}): {contents.loc[name, 'keeps']}. Some of it "
        f"rests on {_rows(contents.loc[name, 'rests_on'])}."
        for name in few
    ]
    reasons += [
        f"{name!r}: that {_rows(contents.loc[name, 'n_missing'])} without a value "
        f"{'is' if contents.loc[name, 'n_missing'] == 1 else 'are'} among the rows."
        for name in few_missing
    ]
    if len(few):
        what = f"What is kept of {listed(list(few))} rests on fewer than {FEW_ROWS} rows in part."
        return Judgement("poor", what, tuple(reasons))
    what = f"Nothing that is kept of the values of a column rests on fewer than {FEW_ROWS} rows"
    if len(few_missing):
        return Judgement("fair", f"{what}, but shares of missing values do.", tuple(reasons))
    return Judgement("good", f"{what}.", ())


def _rows(n: float) -> str:
    return "1 row" if n == 1 else f"{n:.0f} rows"


def guarantee_in_words(epsilon: float | None, delta: float | None) -> str:
    """Return what differential privacy promises, or that it was not used."""
    if epsilon is None:
        return (
            "The model was fitted without differential privacy, so nothing bounds what an attacker "
            "who is better than these can find out."
        )
    factor = f"{np.exp(min(epsilon, 500)):.3g}"
    text = (
        f"The fit is differentially private with epsilon {epsilon:.3g}"
        f"{'' if delta is None else f' and delta {delta:.3g}'}, for adding or removing one row: "
        f"whatever the attacker knows and does, the odds that a person is in the table grow or "
        f"shrink at most by a factor of {factor}"
    )
    if delta:
        text += f", but for a probability of about {delta:.3g}"
    return text + ". This holds for the model and for all rows that are drawn from it."
