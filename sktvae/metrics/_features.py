"""Plain tables as features: cells of histograms, coordinates for distances, classifiers' inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sktvae.metrics._tables import PlainTable

_MOST_CELLS = 100  # categories with a cell of their own
_MOST_ONE_HOT = 50
_FEWEST_NUMBERS = 5  # of a column; of fewer, only their presence counts
_MOST_ORDINAL = 255  # a limit of scikit-learn's histogram-based gradient boosting


@dataclass(frozen=True)
class Cells:
    """Tables cut into cells.

    Attributes
    ----------
    parts : list of int ndarray of shape (n_rows, n_columns)
        The cell of each value, one array per table.
    sizes : int ndarray of shape (n_columns,)
        The number of cells of each column.
    """

    parts: list[np.ndarray]
    sizes: np.ndarray


def cut(*tables: PlainTable, n_bins: int = 10) -> Cells:
    """Cut each column into cells by the first table.

    Numbers are cut at the quantiles of the first table; a value that fills more than one bin has a
    cell of its own. The 100 most frequent categories of the first table have a cell each, its
    others share one, and those that it lacks share one. So do missing values.
    """
    parts = [np.empty((len(table), table.n_columns), np.int64) for table in tables]
    sizes = np.empty(tables[0].n_columns, np.int64)
    for i, numeric in enumerate(tables[0].is_numeric):
        columns = [table.columns[i] for table in tables]
        if numeric:
            limits = _limits(columns[0], n_bins)
            cells = [np.searchsorted(limits, column, side="right") for column in columns]
            n_cells = len(limits) + 1
        else:
            groups = frequent(columns[0], tables[0].n_categories(i), _MOST_CELLS)
            cells = [groups[column] for column in columns]
            n_cells = _MOST_CELLS + 2
        for part, table, cell in zip(parts, tables, cells, strict=True):
            part[:, i] = np.where(table.missing(i), n_cells, cell)
        sizes[i] = n_cells + 1
    return Cells(*_compact(parts, sizes))


def _limits(values: np.ndarray, n_bins: int) -> np.ndarray:
    """Return the smallest value of every cell but the first."""
    present = values[~np.isnan(values)]
    if not len(present):
        return np.empty(0)
    quantiles = np.quantile(present, np.linspace(0, 1, n_bins + 1), method="closest_observation")
    edges, counts = np.unique(quantiles, return_counts=True)
    heavy = counts > 1
    begin = edges[(edges > quantiles[0]) & (heavy | (edges < quantiles[-1]))]
    return np.union1d(begin, np.nextafter(edges[heavy], np.inf))


def frequent(codes: np.ndarray, n_categories: int, most: int) -> np.ndarray:
    """Return the group of each category by its frequency among `codes`.

    The most frequent are 0, 1, ...; other categories that occur are `most`, those that do not are
    ``most + 1``. The last entry, which code -1 finds, is also ``most + 1``.
    """
    counts = np.bincount(codes[codes >= 0], minlength=n_categories)
    order = np.argsort(-counts, kind="stable")
    groups = np.full(n_categories + 1, most + 1)
    groups[order] = np.minimum(np.arange(n_categories), most)
    groups[:-1][counts == 0] = most + 1
    return groups


def _compact(parts: list[np.ndarray], sizes: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Leave out the cells that are empty in every table."""
    sizes = sizes.copy()
    for i, size in enumerate(sizes):
        used = np.zeros(size, dtype=bool)
        for part in parts:
            used[part[:, i]] = True
        number = np.cumsum(used) - 1
        for part in parts:
            part[:, i] = number[part[:, i]]
        sizes[i] = used.sum()
    return parts, sizes


def coordinates(*tables: PlainTable) -> list[np.ndarray]:
    """Return points whose squared Euclidean distance adds up the differences of the columns.

    Numbers become their ranks in the first table, in [0, 1], so that they differ by at most 1. Two
    different categories, or a value and none, differ by 1. Beyond the 50 most frequent categories
    of the first table, all count as one.
    """
    parts: list[list[np.ndarray]] = [[] for _ in tables]
    for i, numeric in enumerate(tables[0].is_numeric):
        first = tables[0].columns[i]
        if numeric:
            present = np.sort(first[~np.isnan(first)])
            for part, table in zip(parts, tables, strict=True):
                part.extend(_ranks(table.columns[i], present))
            continue
        groups = frequent(first, tables[0].n_categories(i), _MOST_ONE_HOT)
        groups = np.minimum(groups, _MOST_ONE_HOT)
        n_groups = min(len(groups) - 1, _MOST_ONE_HOT) + 1
        groups[-1] = n_groups
        for part, table in zip(parts, tables, strict=True):
            group = groups[table.columns[i]]
            part.append(np.sqrt(0.5) * (group[:, None] == np.arange(n_groups + 1)))
    return [np.column_stack(part) for part in parts]


def _ranks(values: np.ndarray, present: np.ndarray) -> list[np.ndarray]:
    """Return ranks among sorted values (0.5 if missing), and whether they are missing."""
    absent = np.isnan(values)
    low = np.searchsorted(present, values, side="left")
    high = np.searchsorted(present, values, side="right")
    ranks = (low + high) / (2 * max(len(present), 1))
    return [np.where(absent, 0.5, ranks), absent.astype(float)]


def inputs(first: PlainTable, table: PlainTable) -> tuple[np.ndarray, np.ndarray]:
    """Return a table as an array for gradient boosting, and which columns are categories.

    Categories are numbered by their frequency in `first`, 0 to 254, where the last number also
    stands for all that are less frequent. Missing values are NaN. A column of fewer than five
    numbers says only which are there.
    """
    out = np.empty((len(table), table.n_columns))
    for i, numeric in enumerate(first.is_numeric):
        values = table.columns[i]
        if numeric and np.isfinite(values).sum() < _FEWEST_NUMBERS:
            # Gradient boosting cannot bin a column without numbers, as one may be in a fold.
            values = np.isfinite(values)
        elif not numeric:
            most = _MOST_ORDINAL - 1
            groups = frequent(first.columns[i], first.n_categories(i), most)
            values = np.where(values < 0, np.nan, np.minimum(groups[values], most))
        out[:, i] = values
    return out, ~first.is_numeric


def prepared(estimator: Any, is_category: np.ndarray, random_state: Any) -> Any:
    """Return a clone of an estimator that takes what `inputs` returns.

    scikit-learn's gradient boosting of histograms is told which columns are categories. In front
    of every other estimator, numbers are standardised, with the median in place of missing ones
    and a column that says where they were, and categories are one-hot encoded.
    """
    estimator = clone(estimator)
    parameters = estimator.get_params()
    if "random_state" in parameters and parameters["random_state"] is None:
        estimator.set_params(random_state=random_state)
    if isinstance(estimator, HistGradientBoostingClassifier | HistGradientBoostingRegressor):
        return estimator.set_params(categorical_features=is_category)
    numbers = make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
        StandardScaler(),
    )
    categories = OneHotEncoder(
        handle_unknown="infrequent_if_exist", max_categories=_MOST_ONE_HOT, sparse_output=False
    )
    columns = make_column_transformer(
        (numbers, np.flatnonzero(~is_category)), (categories, np.flatnonzero(is_category))
    )
    return make_pipeline(columns, estimator)
