"""`evaluate`: every figure of two or three tables, with a verdict in words."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import asdict
from typing import Any

import pandas as pd
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import validate_params

import sktvae.metrics._fidelity as fidelity
import sktvae.metrics._safety as safety
from sktvae._warnings import warn_user
from sktvae.metrics._fidelity import Chance
from sktvae.metrics._judge import Figure
from sktvae.metrics._tables import PlainTable, identifiers, read_tables

_MAX_ROWS = 20_000


@validate_params(
    {"random_state": ["random_state"], "callback": [callable, None]},
    prefer_skip_nested_validation=True,
)
def evaluate(
    X_real: Any,
    X_synthetic: Any,
    X_holdout: Any = None,
    *,
    target: Hashable = None,
    random_state: Any = None,
    callback: Callable[[int, int, str], Any] | None = None,
) -> pd.DataFrame:
    """Judge synthetic rows: every figure, what chance would give, and a verdict.

    Parameters
    ----------
    X_real : DataFrame or array-like of shape (n_rows, n_columns)
        The real rows, on which the synthesizer was fitted. They decide what is a number, a time or
        a category, as in :class:`~sktvae.TVAESynthesizer`.
    X_synthetic : DataFrame or array-like of shape (n_synthetic_rows, n_columns)
        The rows to judge. As many as in `X_real` tell most.
    X_holdout : DataFrame, array-like or None, default=None
        Real rows that the synthesizer has not seen, on which the figures of privacy and of utility
        rest. Some hundred tell something, some thousand more.
    target : hashable or None, default=None
        A column that models will predict from the others; None leaves utility out.
    random_state : int, RandomState instance or None, default=None
        Draws rows, folds and divisions.
    callback : callable or None, default=None
        Called as ``callback(done, total, name)`` before each step, with the name of the step, and
        once more with ``done == total``.

    Returns
    -------
    figures : DataFrame
        One row per figure, whose name is the index, with the columns

        - ``value``;
        - ``standard_error``: for AUCs, that of :func:`detection_auc` and :func:`membership_auc`;
          otherwise the standard deviation of the figure between tables of one source; NaN if it
          is not known;
        - ``chance``: what real rows of the same number would get. For the figures of fidelity it is
          the mean over ten to forty random divisions of all rows, real and synthetic, into two
          tables of these sizes; for utility, the score of the model of real rows; for copies, the
          largest of three shares: copies of holdout rows, of duplicates within the real table, and
          in a table of independent columns;
        - ``best``: the ideal value;
        - ``verdict``: "good", "fair", "poor", or "unknown" if there are too few rows to tell or
          something is not given. It rests on the difference to ``chance``, and differences that may
          be chance (three standard errors; four for the worst of many) are no loss;
        - ``message``: a sentence that says what the figure means here.

    See Also
    --------
    lost_categories : All categories that were lost.
    copied_rows : The rows that were copied.

    Notes
    -----
    Columns of identifiers (texts or consecutive whole numbers, different in all of 50 or more real
    rows) are left out, with a warning.

    Categories, missing values and copies are judged by all rows, other figures by at most 20,000
    rows of each table, and those of pairs by at most 5,000 pairs of columns. ``worst_pair`` is
    that of :func:`pair_error`, with fewer bins if there are fewer than 1,000 rows. A good
    verdict on copies and distances is no guarantee of privacy: these figures find careless copying,
    not every attack.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from sktvae.metrics import evaluate
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=600).round(2)
    >>> table = pd.DataFrame({"x": x, "y": (x + 0.1 * rng.normal(size=600)).round(2)})
    >>> synthetic = table[300:].assign(y=rng.permutation(table["y"][300:]))
    >>> figures = evaluate(table[:300], synthetic, random_state=0)
    >>> figures.loc["worst_pair", "verdict"]
    'poor'
    >>> print(figures.loc["worst_pair", "message"])
    The pair that differs most beyond chance is 'x' and 'y': ... would be usual.
    """
    given = {"X_real": X_real, "X_synthetic": X_synthetic}
    if X_holdout is not None:
        given["X_holdout"] = X_holdout
    tables = read_tables(**given)
    if target is not None:
        tables[0].position(target, "target")
    real, synthetic, *held = _without_identifiers(tables, target)
    holdout = held[0] if held else None
    rng = check_random_state(random_state)
    chance = Chance(real, synthetic, rng)
    some = Chance(real.sample(_MAX_ROWS, rng), synthetic.sample(_MAX_ROWS, rng), rng)
    steps: list[tuple[str, Callable[[], list[Figure]]]] = [
        ("column shapes", lambda: fidelity.shapes(some)),
        ("missing values", lambda: fidelity.missing_values(chance)),
        ("categories", lambda: fidelity.categories(chance)),
        ("pair trends", lambda: fidelity.trends(some)),
        ("pairs of columns", lambda: fidelity.pairs(some)),
        ("detection", lambda: fidelity.detection(some, rng, _MAX_ROWS)),
        ("neighbourhoods", lambda: fidelity.regions(some, rng)),
        ("copied rows", lambda: safety.copies(real, synthetic, holdout, rng)),
        ("distances to holdout rows", lambda: safety.closest(real, synthetic, holdout, rng)),
    ]
    if target is not None:
        parts = some.real, some.synthetic, holdout
        steps.append(("utility", lambda: safety.utility(*parts, target, rng)))
    figures: list[Figure] = []
    for done, (name, step) in enumerate(steps):
        if callback is not None:
            callback(done, len(steps), name)
        figures += step()
    if callback is not None:
        callback(len(steps), len(steps), "done")
    return pd.DataFrame([asdict(figure) for figure in figures]).set_index("name")


def _without_identifiers(tables: tuple[PlainTable, ...], target: Hashable) -> list[PlainTable]:
    """Return the tables without columns that name rows, with a warning."""
    names = tables[0].names
    named = [i for i in identifiers(tables[0]) if names[i] != target]
    kept = [i for i in range(len(names)) if i not in named]
    if not named or not kept:
        return list(tables)
    warn_user(
        f"No two real rows share a value of the columns {[names[i] for i in named]!r}, which look "
        "like identifiers. They are not judged. Drop them from the tables to silence this warning."
    )
    return [table.select(kept) for table in tables]
