"""Columns and pairs of columns of two tables, each beside what chance gives."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

from sktvae.metrics import column_shape_score, pair_error
from sktvae.metrics._tables import PlainTable, concat, read_tables

_MAX_ROWS = 20_000  # as in sktvae.metrics.evaluate
_N_DIVISIONS = 4


def compare_columns(real: Any, synthetic: Any, random_state: Any) -> pd.DataFrame:
    """Return how alike the columns of two tables are, those that differ most first.

    Returns
    -------
    columns : DataFrame
        The columns `column`, `score` (:func:`sktvae.metrics.column_shape_score`), `chance` (the
        mean score of two tables of one source) and the shares of missing values `missing_real` and
        `missing_synthetic`.
    """
    rng = check_random_state(random_state)
    whole = read_tables(real=real, synthetic=synthetic)
    missing = [[table.missing(i).mean() for i in range(table.n_columns)] for table in whole]
    score, chance = _beside_chance(
        lambda *tables: column_shape_score(*tables, average=None).to_numpy(),
        whole[0],
        whole[1],
        rng,
    )
    columns = pd.DataFrame(
        {
            "column": pd.Series(whole[0].names, dtype=object),
            "score": score,
            "chance": chance,
            "missing_real": missing[0],
            "missing_synthetic": missing[1],
        }
    )
    order = (columns["score"] - columns["chance"]).sort_values(kind="stable").index
    return columns.loc[order].reset_index(drop=True)


def compare_pairs(
    real: Any, synthetic: Any, random_state: Any
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the errors of all pairs of columns, and the mean errors of two tables of one source.

    Returns
    -------
    errors, chance : DataFrame of shape (n_columns, n_columns)
        Symmetric, with NaN on the diagonal; see :func:`sktvae.metrics.pair_error`.
    """
    rng = check_random_state(random_state)
    tables = read_tables(real=real, synthetic=synthetic)
    figure = lambda *two: pair_error(*two, average=None).to_numpy()
    labels = pd.Index(tables[0].names, dtype=object, tupleize_cols=False)
    errors, chance = _beside_chance(figure, tables[0], tables[1], rng)
    return pd.DataFrame(errors, labels, labels), pd.DataFrame(chance, labels, labels)


def _beside_chance(
    figure: Callable, real: PlainTable, synthetic: PlainTable, rng: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """Return a figure of two tables, and its mean if all their rows are divided at random."""
    real, synthetic = (table.sample(_MAX_ROWS, rng) for table in (real, synthetic))
    pooled, n_real = concat([real, synthetic]), len(real)
    usual = []
    for _ in range(_N_DIVISIONS):
        order = rng.permutation(len(pooled))
        usual.append(figure(pooled.take(order[:n_real]), pooled.take(order[n_real:])))
    return figure(real, synthetic), np.mean(usual, axis=0)


def worst_pairs(
    errors: pd.DataFrame, chance: pd.DataFrame, n_pairs: int
) -> list[tuple[Hashable, Hashable, float, float]]:
    """Return the pairs whose errors exceed those by chance most: columns, error, chance."""
    own, usual = errors.to_numpy(dtype=float), chance.to_numpy(dtype=float)
    rows, columns = np.triu_indices(len(own), 1)
    excess = np.nan_to_num((own - usual)[rows, columns], nan=-1.0)
    names = list(errors.columns)
    return [
        (names[rows[k]], names[columns[k]], *(float(m[rows[k], columns[k]]) for m in (own, usual)))
        for k in np.argsort(-excess, kind="stable")[:n_pairs]
    ]
