"""`privacy_attacks`: every attack on a table or a model, in one DataFrame, and the worst."""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, validate_params

from sktvae._table.containers import as_frame
from sktvae.metrics._intervals import PrivacyRisk, risk_of
from sktvae.metrics._linkability import linkability
from sktvae.metrics._membership import (
    ROWS_IN_HAND,
    MembershipAUC,
    likelihood_membership,
    membership_auc,
)
from sktvae.metrics._privacy import MAX_ROWS, attribute_inference, is_right
from sktvae.metrics._singling_out import singling_out
from sktvae.metrics._tables import PlainTable, concat, identifiers, read_tables

_MEMBERSHIP = list(MembershipAUC._fields)
_RISK = ["attack_rate", "baseline_rate", "control_rate"]
_TIMES = 10  # so many times the training rows are drawn by somebody who has the model
_MORE = ", more rows"


@validate_params(
    {
        "estimator": [HasMethods(["score_samples"]), None],
        "reference": [HasMethods(["score_samples"]), None],
        "max_rows": MAX_ROWS,
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def privacy_attacks(
    X_train: Any,
    X_synthetic: Any,
    X_holdout: Any,
    *,
    X_reference: Any = None,
    estimator: Any = None,
    reference: Any = None,
    max_rows: int = 5_000,
    random_state: Any = None,
) -> pd.DataFrame:
    """Run every attack, and name the worst.

    Parameters
    ----------
    X_train, X_synthetic, X_holdout : DataFrame or array-like of shape (n_rows, n_columns)
        See :func:`copied_rows`.
    X_reference : DataFrame, array-like or None, default=None
        The attacker's own rows: see :func:`membership_auc`. None takes half of `X_holdout` for
        those attacks that need them.
    estimator : object with ``score_samples`` or None, default=None
        The model, if the attacker has it: see :func:`likelihood_membership`. If it draws rows by
        ``sample(n_samples, random_state=...)``, as :class:`~sktvae.TVAESynthesizer` does, the
        attacks of :func:`membership_auc` are repeated with ten times as many rows as `X_train` has,
        or with `max_rows`, if this is less and more than there are in `X_synthetic`.
    reference : object with ``score_samples`` or None, default=None
        A model that the attacker fitted to other rows, best to `X_reference`. None of them may be
        in `X_holdout`.
    max_rows : int, default=5_000
        At most so many rows of each table are drawn, but all of them for the attacks by likelihood
        and for singling out.
    random_state : int, RandomState instance or None, default=None
        Makes the result reproducible.

    Returns
    -------
    attacks : DataFrame
        One row per attack, whose name is the index, with the columns

        - ``kind``: "membership", "singling out", "linkability" or "attribute inference";
        - ``needs``: what the attacker must have: "rows" (synthetic ones), "model", or "model and
          reference";
        - ``gain``: how far the attack is on the way from guessing (0) to certainty (1). For
          membership it is ``2 * auc - 1``; otherwise the risk, see :func:`singling_out`;
        - ``gain_low``, ``gain_high``: its 95 % interval;
        - ``is_worst``: True for the attack with the largest ``gain_low``, which chance does not
          explain;
        - the figures of :func:`membership_auc` (``auc`` to ``tpr_10_high``) or, for the other
          kinds, ``attack_rate``, ``baseline_rate`` and ``control_rate``; NaN otherwise;
        - ``detail``: for attribute inference the name of the column that was guessed.

        Attribute inference guesses each column from all others; the row is that of the column with
        the largest advantage in standard errors, with an interval that takes account of how many
        columns were tried (Bonferroni).

    Notes
    -----
    The attacks that need rows leave out columns that no synthetic row has, and identifiers, see
    :func:`evaluate`.

    See Also
    --------
    membership_auc, likelihood_membership, singling_out, linkability, attribute_inference
    sktvae.inspection.privacy_report : What they mean, in words.

    Examples
    --------
    >>> import numpy as np
    >>> from sktvae.metrics import privacy_attacks
    >>> rng = np.random.default_rng(0)
    >>> train, holdout, noise = rng.normal(size=(3, 200, 4))
    >>> attacks = privacy_attacks(train, train + 0.01 * noise, holdout, random_state=0)
    >>> attacks.index[attacks["is_worst"]].item(), bool(attacks["auc"].max() > 0.95)
    ('distance', True)
    """
    rng = check_random_state(random_state)
    given = {"X_train": X_train, "X_synthetic": X_synthetic, "X_holdout": X_holdout}
    if X_reference is not None:
        given["X_reference"] = X_reference
    n_rows = min(_TIMES * len(X_train), max_rows)
    if _draws(estimator) and n_rows > len(X_synthetic):
        given["X_drawn"] = estimator.sample(n_rows, random_state=rng.randint(2**31 - 1))
    read = _read(given)
    train, synthetic, holdout = (read[name] for name in ("X_train", "X_synthetic", "X_holdout"))
    known, many = read.get("X_reference"), read.get("X_drawn")
    lines: dict[str, dict[str, Any]] = {}
    if estimator is not None:
        found = likelihood_membership(estimator, X_train, X_holdout)
        lines["likelihood"] = {**_membership(found), "needs": "model"}
    if estimator is not None and reference is not None:
        found = likelihood_membership(estimator, X_train, X_holdout, reference=reference)
        lines["calibrated likelihood"] = {**_membership(found), "needs": "model and reference"}
    for drawn, needs, suffix in ((synthetic, "rows", ""), (many, "model", _MORE)):
        for attack in ROWS_IN_HAND if drawn is not None else ():
            found = membership_auc(
                train,
                holdout,
                drawn,
                attack=attack,
                X_reference=known,
                max_rows=max_rows,
                random_state=rng,
            )
            lines[attack.replace("_", " ") + suffix] = {**_membership(found), "needs": needs}
    # These attacks need no reference rows, which are more rows to compare with then.
    unseen = holdout if known is None else concat([holdout, known])
    tables = train, synthetic, unseen
    for mode in ("univariate", "multivariate"):
        found = singling_out(*tables, mode=mode, random_state=rng)
        lines[f"singling out, {mode}"] = _risk("singling out", found)
    if train.n_columns > 1:
        found = linkability(*tables, max_rows=max_rows, random_state=rng)
        lines["linkability"] = _risk("linkability", found)
        risk, column = _worst_inference(tables, max_rows, rng)
        lines["attribute inference"] = _risk("attribute inference", risk, detail=column)
    return _as_frame(lines)


def _read(given: dict[str, Any]) -> dict[str, PlainTable]:
    """Read the tables without columns that no synthetic row has, and without identifiers."""
    frames = {name: as_frame(X) for name, X in given.items()}
    if all(container.named for _, container in frames.values()):
        made = frames["X_synthetic"][0].columns
        for name in ("X_train", "X_holdout", "X_reference"):
            if name in given:
                frame = frames[name][0]
                given[name] = frame.loc[:, frame.columns.isin(made)]
    read = read_tables(**given)
    left_out = identifiers(read[0])
    kept = [i for i in range(read[0].n_columns) if i not in left_out]
    tables = [table.select(kept) for table in read] if kept else read
    return dict(zip(given, tables, strict=True))


def _draws(estimator: Any) -> bool:
    """Whether a model draws rows with a seed."""
    sample = getattr(estimator, "sample", None)
    return sample is not None and "random_state" in inspect.signature(sample).parameters


def _as_frame(lines: dict[str, dict[str, Any]]) -> pd.DataFrame:
    columns = ["kind", "needs", "gain", "gain_low", "gain_high", "is_worst"]
    columns += [*_MEMBERSHIP, *_RISK, "detail"]
    attacks = pd.DataFrame.from_dict(lines, orient="index").reindex(columns=columns)
    attacks["is_worst"] = attacks.index == attacks["gain_low"].idxmax()
    return attacks.rename_axis("attack")


def _membership(found: MembershipAUC) -> dict[str, Any]:
    gains = {
        name: 2 * value - 1
        for name, value in zip(
            ("gain", "gain_low", "gain_high"), (found.auc, found.low, found.high), strict=True
        )
    }
    return {"kind": "membership", "needs": "rows", **gains, **found._asdict()}


def _risk(kind: str, found: PrivacyRisk, detail: Hashable = None) -> dict[str, Any]:
    gains = {"gain": found.risk, "gain_low": found.low, "gain_high": found.high}
    rates = {name: getattr(found, name) for name in _RISK}
    return {"kind": kind, "needs": "rows", **gains, **rates, "detail": detail}


def _worst_inference(
    tables: Sequence[PlainTable], max_rows: int, rng: np.random.RandomState
) -> tuple[PrivacyRisk, Hashable]:
    """Return the risk of the column that is guessed best, and its name."""
    train, synthetic, holdout = (table.sample(max_rows, rng) for table in tables)
    n_columns = train.n_columns
    z = float(norm.ppf(1 - 0.025 / n_columns))
    found = []
    both = concat([train, holdout])
    anybody = synthetic.take(rng.randint(len(synthetic), size=len(train)))
    for i, name in enumerate(train.names):
        figures = attribute_inference(
            train, synthetic, holdout, sensitive=name, max_rows=max_rows, random_state=rng
        )
        own, other = (figures.train, len(train)), (figures.holdout, len(holdout))
        guessed = float(is_right(train, anybody, both, i).mean())
        risk = risk_of(own, other, guessed, z)
        found.append((figures.advantage / max(figures.standard_error, 1e-9), risk, name))
    _, risk, name = max(found, key=lambda one: one[0])
    return risk, name
