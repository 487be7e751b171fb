"""What may be compared, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from sktvae import metrics
from sktvae.metrics._tables import read_tables

TWO_TABLES = [
    metrics.column_shape_score,
    metrics.pair_trend_score,
    metrics.pair_error,
    metrics.mutual_information_error,
    metrics.missing_rate_error,
    metrics.rare_category_coverage,
    metrics.detection_auc,
    metrics.precision_recall,
    metrics.density_coverage,
    metrics.evaluate,
]


def test_order_of_columns_does_not_matter(real, other):
    backwards = other[other.columns[::-1]]
    assert metrics.pair_error(real, backwards) == metrics.pair_error(real, other)


@pytest.mark.parametrize("container", ["polars", "pyarrow"])
def test_containers_of_one_table_give_the_same_figures(real, other, container):
    if container == "polars":
        polars = pytest.importorskip("polars")
        convert = lambda table: polars.from_pandas(table)
    else:
        pyarrow = pytest.importorskip("pyarrow")
        convert = lambda table: pyarrow.Table.from_pandas(table, preserve_index=False)
    for figure in (metrics.column_shape_score, metrics.pair_error, metrics.pair_trend_score):
        expected = figure(real, other)
        assert figure(convert(real), convert(other)) == pytest.approx(expected)
        assert figure(real, convert(other)) == pytest.approx(expected)


def test_arrays_are_matched_by_position():
    rng = np.random.default_rng(0)
    one = rng.normal(size=(50, 3))
    assert metrics.pair_error(one, one.copy()) == 0
    assert metrics.pair_error(one, pd.DataFrame(one, columns=list("abc"))) == 0
    with pytest.raises(ValueError, match="X_synthetic has 2 columns and X_real has 3"):
        metrics.pair_error(one, one[:, :2])


@pytest.mark.parametrize("figure", TWO_TABLES)
def test_other_columns_are_named(real, other, figure):
    with pytest.raises(ValueError, match=r"lacks \['age'\]; \['years'\] are not in X_real"):
        figure(real, other.rename(columns={"age": "years"}))


def test_other_kinds_are_named(real, other):
    with pytest.raises(TypeError, match="Column 'age' holds numbers in X_real, but X_synthetic"):
        metrics.pair_error(real, other.assign(age="old"))
    with pytest.raises(TypeError, match="Column 'city' holds categories such as 'Rome' in X_real"):
        metrics.pair_error(real, other.assign(city=1))
    with pytest.raises(ValueError, match="X_synthetic: Column 'age' has an infinite value"):
        metrics.pair_error(real, other.assign(age=np.inf))
    with pytest.raises(ValueError, match="two columns named 'age'"):
        metrics.pair_error(real, pd.concat([other, other[["age"]]], axis=1))


def test_a_csv_file_between_changes_nothing(real, other, tmp_path):
    categories = {"city": "category", "risk": "category"}
    file = tmp_path / "other.csv"
    other.to_csv(file, index=False)
    again = pd.read_csv(file)
    expected = metrics.pair_error(real, other, average=None)
    pd.testing.assert_frame_equal(metrics.pair_error(real, again, average=None), expected)
    listed = metrics.pair_error(real.astype(categories), again, average=None)
    pd.testing.assert_frame_equal(listed, expected)


def test_the_tables_are_not_changed(real, other, holdout):
    before = [table.copy(deep=True) for table in (real, other, holdout)]
    metrics.evaluate(real, other, holdout, target="risk", random_state=0)
    for table, copy in zip((real, other, holdout), before, strict=True):
        pd.testing.assert_frame_equal(table, copy)


def test_the_global_random_state_is_neither_read_nor_changed(real, other):
    state = np.random.get_state()[1].copy()
    first = metrics.detection_auc(real, other, random_state=3)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    assert metrics.detection_auc(real, other, random_state=3) == first


def test_plain_tables_share_their_categories(real, other):
    one, two = read_tables(X_real=real, X_synthetic=other.assign(city="Lima"))
    city = one.position("city", "column")
    assert one.categories[city] is two.categories[city]
    assert two.categories[city][two.columns[city][0]] == "Lima"
    assert one.missing(one.position("risk", "column")).sum() == real["risk"].isna().sum()
