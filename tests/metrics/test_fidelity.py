"""Figures of columns and pairs, detection, neighbourhoods, utility."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import normalized_mutual_info_score
from sklearn.tree import DecisionTreeClassifier

from sktvae import metrics
from sktvae.metrics._features import cut
from sktvae.metrics._tables import read_tables


def test_the_error_of_a_cross_validated_auc_covers():
    """Without the correction for folds, too many AUCs of two samples are 2 errors from 0.5."""
    beyond = []
    for seed in range(80):
        one, other = np.random.default_rng(seed).normal(size=(2, 60, 4))
        auc, error = metrics.detection_auc(
            one, other, estimator=LogisticRegression(), return_std=True, random_state=seed
        )
        beyond.append(abs(auc - 0.5) > 2 * error)
    assert np.mean(beyond) < 0.1


def test_a_table_equals_itself(real):
    assert metrics.column_shape_score(real, real) == 1
    assert metrics.pair_trend_score(real, real) == 1
    assert metrics.pair_error(real, real) == 0
    assert metrics.mutual_information_error(real, real) == 0
    assert metrics.missing_rate_error(real, real) == 0
    assert metrics.rare_category_coverage(real, real) == 1
    assert len(metrics.lost_categories(real, real)) == 0
    assert metrics.precision_recall(real, real, random_state=0) == (1, 1)


def test_shapes_ignore_missing_values_and_the_others_do_not(real):
    rng = np.random.default_rng(0)
    gaps = real.assign(age=real["age"].where(rng.random(len(real)) < 0.5))
    assert metrics.column_shape_score(real, gaps, average=None)["age"] > 0.95
    assert metrics.missing_rate_error(real, gaps, average=None)["age"] == pytest.approx(
        0.5, abs=0.05
    )
    assert metrics.pair_error(real, gaps, average=None).loc["age", "city"] > 0.45


def test_shapes_of_numbers_are_the_kolmogorov_smirnov_statistic():
    rng = np.random.default_rng(0)
    synthetic = pd.DataFrame({"x": rng.poisson(3, 70)})
    table = pd.DataFrame({"x": rng.poisson(4, 90)})
    expected = 1 - ks_2samp(table["x"], synthetic["x"]).statistic
    assert metrics.column_shape_score(table, synthetic) == pytest.approx(expected)


def test_columns_without_values():
    empty = pd.DataFrame({"a": [np.nan] * 3, "b": [1.0, 2.0, 3.0]})
    full = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [1.0, 2.0, 3.0]})
    assert metrics.column_shape_score(empty, full, average=None)["a"] == 0
    assert np.isnan(metrics.column_shape_score(empty, empty, average=None)["a"])
    assert metrics.column_shape_score(empty, empty) == 1
    assert np.isnan(metrics.pair_trend_score(empty, empty))
    assert metrics.pair_error(empty, empty) == 0


def test_one_shuffled_column_shows_in_its_own_pairs_only(real, other):
    rng = np.random.default_rng(0)
    broken = other.assign(risk=rng.permutation(other["risk"]))
    for figure in (metrics.pair_error, metrics.mutual_information_error):
        change = figure(real, broken, average=None) - figure(real, other, average=None)
        assert change.loc["risk", "smoker"] > 0.2
        untouched = change.drop("risk").drop(columns="risk").to_numpy()
        assert (untouched[~np.isnan(untouched)] == 0).all()
        assert change.loc["risk", "smoker"] == change.loc["smoker", "risk"]


def test_pair_error_sees_a_dependence_that_correlation_does_not():
    rng = np.random.default_rng(0)
    x = rng.normal(size=5_000)
    real = pd.DataFrame({"x": x, "y": x**2})
    synthetic = real.assign(y=rng.permutation(real["y"]))
    assert metrics.pair_trend_score(real, synthetic) > 0.95
    assert metrics.pair_error(real, synthetic) > 0.5


def test_heavy_values_have_a_cell_of_their_own():
    real = pd.DataFrame({"x": [0.0] * 80 + list(range(1, 21))})
    moved = pd.DataFrame({"x": [0.0] * 40 + list(range(1, 21)) * 3})
    real_part, moved_part = cut(*read_tables(X_real=real, X_synthetic=moved)).parts
    assert len(set(real_part[:80, 0]) & set(real_part[80:, 0])) == 0
    assert set(moved_part[:40, 0]) == set(real_part[:80, 0])


def test_normalised_mutual_information_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    x = rng.choice(list("abc"), 300)
    y = np.where(rng.random(300) < 0.5, x, "d")
    real = pd.DataFrame({"x": x, "y": y})
    single = pd.DataFrame({"x": ["a"] * 5, "y": ["a"] * 5})  # without any information
    expected = normalized_mutual_info_score(x, y)
    assert metrics.mutual_information_error(real, single) == pytest.approx(expected)


def test_tables_of_identifiers_need_no_huge_histograms():
    names = [f"k{i}" for i in range(5_000)]
    real = pd.DataFrame({"a": names, "b": names[::-1]})
    new = real + "x"
    assert metrics.pair_trend_score(real, new) == pytest.approx(0)
    assert metrics.pair_trend_score(real, real.sample(frac=1, random_state=0)) == 1
    assert metrics.pair_error(real, new) == pytest.approx(1)


def test_lost_categories_are_listed_with_their_chances(real, other):
    lost = metrics.lost_categories(real, other[other["city"] != "Nice"])
    assert lost[["column", "category"]].to_numpy().tolist() == [["city", "Nice"]]
    assert lost.loc[0, "n_real"] == (real["city"] == "Nice").sum()
    assert lost.loc[0, "p_value"] < 1e-10
    two = pd.DataFrame({"x": ["a", "b"]})
    # Of the three rows a, b, b, the one a is real with probability 2 / 3.
    assert metrics.lost_categories(two, two[1:])["p_value"].tolist() == pytest.approx([2 / 3])


def test_detection_tells_what_is_wrong_and_no_more(real, other):
    auc, error = metrics.detection_auc(real, other, return_std=True, random_state=0)
    assert abs(auc - 0.5) < 4 * error
    rng = np.random.default_rng(0)
    broken = other.apply(lambda column: rng.permutation(column.to_numpy()))
    assert metrics.detection_auc(real, broken, random_state=0) > 0.7


@pytest.mark.parametrize("estimator", [LogisticRegression(max_iter=500), DecisionTreeClassifier()])
def test_detection_by_any_classifier(real, other, estimator):
    heavier = other.assign(weight=other["weight"] + 30)
    auc = metrics.detection_auc(real, heavier, estimator=estimator, random_state=0)
    assert auc > 0.7
    assert metrics.detection_auc(real, other, estimator=estimator, random_state=0) < 0.6


def test_detection_needs_rows(real):
    with pytest.raises(ValueError, match="cv=5 folds need at least 5 real"):
        metrics.detection_auc(real, real[:3])


def test_precision_falls_outside_and_recall_falls_for_a_part(real, other):
    usual = metrics.precision_recall(real, other, random_state=0)
    part = metrics.precision_recall(real, other[other["city"] == "Bonn"], random_state=0)
    assert part.precision > usual.precision - 0.05
    assert part.recall < usual.recall - 0.2
    rng = np.random.default_rng(0)
    broken = other.apply(lambda column: rng.permutation(column.to_numpy()))
    assert metrics.precision_recall(real, broken, random_state=0).precision < usual.precision - 0.1


def test_density_and_coverage_of_the_same_source():
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(2, 2_000, 3))
    density, coverage = metrics.density_coverage(one, two, random_state=0)
    assert density == pytest.approx(1, abs=0.1)
    assert coverage == pytest.approx(1 - 0.5**5, abs=0.02)


def test_utility_falls_if_the_target_is_shuffled(real, other, holdout):
    good = metrics.utility_score(real, other, holdout, target="smoker", random_state=0)
    assert good.scoring == "roc_auc"
    assert good.synthetic > 0.9 and good.real > 0.9
    rng = np.random.default_rng(0)
    broken = other.assign(smoker=rng.permutation(other["smoker"]))
    assert metrics.utility_score(real, broken, holdout, target="smoker").synthetic < 0.7


def test_utility_of_numbers_and_of_many_classes(real, other, holdout):
    scores = metrics.utility_score(real, other, holdout, target="age", random_state=0)
    assert scores.scoring == "r2" and scores.synthetic > 0.95
    scores = metrics.utility_score(real, other, holdout, target="city", random_state=0)
    assert scores.scoring == "roc_auc_ovr" and scores.real == pytest.approx(0.5, abs=0.1)
    linear = LinearRegression()
    error = "neg_root_mean_squared_error"
    by_line = metrics.utility_score(
        real, other, holdout, target="weight", estimator=linear, scoring=error
    )
    assert by_line.synthetic == pytest.approx(-5, abs=0.5)  # the noise of `weight`


def test_a_class_that_the_synthetic_rows_lack_has_probability_zero(real, other, holdout):
    lacking = other[other["city"] != "Nice"]
    scores = metrics.utility_score(real, lacking, holdout, target="city", random_state=0)
    assert 0 <= scores.synthetic <= 1
    one_class = other[other["city"] == "Bonn"]
    assert np.isnan(metrics.utility_score(real, one_class, holdout, target="city").synthetic)


def test_utility_refuses_what_makes_no_sense(real, other, holdout):
    with pytest.raises(ValueError, match="target='sex' is not a column"):
        metrics.utility_score(real, other, holdout, target="sex")
    with pytest.raises(ValueError, match="must be a classifier"):
        metrics.utility_score(real, other, holdout, target="city", estimator=LinearRegression())
    with pytest.raises(ValueError, match="'weight' is missing in X_synthetic"):
        metrics.utility_score(real, other.assign(weight=np.nan), holdout, target="weight")
