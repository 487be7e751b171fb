import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
from imblearn.pipeline import make_pipeline
from imblearn.utils.estimator_checks import parametrize_with_checks
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.compose import make_column_selector
from sklearn.model_selection import KFold, cross_val_score

from sktvae import CategoryCodec, QuantileCodec, TableEncoder
from sktvae.imbalanced import TVAEOverSampler
from tests.conftest import people, small


def sampler(sampling_strategy="auto", random_state=0, **params):
    """An over-sampler that fits in a moment."""
    quick = {"epochs": 1, "early_stopping": False, "calibrate": False}
    synthesizer = small(**(quick | params))
    return TVAEOverSampler(
        sampling_strategy=sampling_strategy, synthesizer=synthesizer, random_state=random_state
    )


def imbalanced(n=200):
    """A table of every kind of column, and a target with 30 % of one class."""
    X = people(n)
    y = X.pop("smoker").map({True: "yes", False: "no"}).rename("smoker")
    X["grade"] = pd.Categorical(["a", "b"] * (n // 2), categories=["b", "a", "once", "never"])
    X.loc[y.eq("yes").idxmax(), "grade"] = "once"  # too rare to be learned
    X["text"] = pd.array(["x", "y", None, "x"] * (n // 4), dtype="string")
    X["flag"] = [True, False] * (n // 2)
    X["count"] = pd.array([1, None] * (n // 2), dtype="Int64")
    X["zone"] = X["seen"].dt.tz_localize("Europe/Berlin")
    X["wait"] = pd.to_timedelta(np.arange(n) % 7, "h")
    X.loc[::5, "weight"] = np.nan
    return X.set_index(np.arange(n)[::-1]), y.set_axis(np.arange(n)[::-1])


def two_classes(n_major=400, n_minor=30):
    """Two classes that differ in the means of numbers, a category, and missing values."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [n_major, n_minor])
    number = rng.normal(0, 1, len(y)) + 3 * y
    X = pd.DataFrame(
        {
            "a": number,
            "b": number + rng.normal(0, 0.5, len(y)),
            "c": np.where(rng.random(len(y)) < 0.1 + 0.8 * y, "u", "v"),
            "m": np.where(rng.random(len(y)) < 0.7 * y, np.nan, 1.5),
        }
    )
    return X, y


@parametrize_with_checks([sampler()])
def test_checks_of_imbalanced_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("auto", {"a": 60, "b": 60, "c": 60}),
        ("minority", {"a": 60, "b": 40, "c": 60}),
        ({"b": 41, "c": 25}, {"a": 60, "b": 41, "c": 25}),
        (lambda y: {"c": 30}, {"a": 60, "b": 40, "c": 30}),
    ],
)
def test_each_class_gets_as_many_rows_as_the_strategy_says(strategy, expected):
    X = people(120)[["age", "dose"]]
    y = np.repeat(["a", "b", "c"], [60, 40, 20])
    X_new, y_new = sampler(strategy).fit_resample(X, y)
    assert pd.Series(y_new).value_counts().to_dict() == expected
    assert len(X_new) == sum(expected.values())


@pytest.mark.filterwarnings("ignore:Categories in fewer than 3 rows")
def test_original_rows_come_first_and_dtypes_stay():
    X, y = imbalanced()
    X_new, y_new = sampler().fit_resample(X, y)
    pd.testing.assert_frame_equal(X_new.iloc[: len(X)], X.reset_index(drop=True))
    pd.testing.assert_series_equal(y_new.iloc[: len(y)], y.reset_index(drop=True))
    pd.testing.assert_series_equal(X_new.dtypes, X.dtypes)
    assert (y_new.iloc[len(y) :] == "yes").all() and len(y_new) > len(y)
    assert X_new["grade"].iloc[len(X) :].notna().all()


@pytest.mark.parametrize("dtype", ["category", "string", "bool", "boolean", "Int64", "float32"])
def test_the_target_keeps_its_dtype(dtype):
    X = people(100)[["age"]]
    y = pd.Series([1, 0, 0, 0] * 25, name="ill")
    y = y.astype(str).astype(dtype) if dtype in ("category", "string") else y.astype(dtype)
    _, y_new = sampler().fit_resample(X, y)
    assert y_new.dtype == y.dtype and y_new.name == "ill"
    assert y_new.value_counts().tolist() == [75, 75]


@pytest.mark.parametrize("dtype", ["float32", "int16", "object", "U8"])
def test_arrays_keep_their_dtype(dtype):
    columns = ["age", "dose"] if dtype in ("float32", "int16") else ["city", "age"]
    X = people(100)[columns].to_numpy().astype(dtype)
    y = np.array([1, 0, 0, 0] * 25)
    X_new, y_new = sampler().fit_resample(X, y)
    assert X_new.dtype == X.dtype and y_new.dtype == y.dtype
    assert X_new.shape == (150, 2)
    np.testing.assert_array_equal(X_new[:100], X)


def test_new_rows_follow_the_distribution_of_their_class():
    X, y = two_classes(n_minor=100)
    X_new, _ = TVAEOverSampler(random_state=0).fit_resample(X, y)
    own, drawn = X[y == 1], X_new.iloc[len(X) :]
    for name in ("a", "b"):  # the means of the classes are three standard deviations apart
        assert abs(drawn[name].mean() - own[name].mean()) < 0.5
        assert abs(drawn[name].std() - own[name].std()) < 0.4
    assert drawn["a"].corr(drawn["b"]) > 0.5
    assert abs((drawn["c"] == "u").mean() - (own["c"] == "u").mean()) < 0.15
    assert abs(drawn["m"].isna().mean() - own["m"].isna().mean()) < 0.2


def test_only_the_classes_that_are_enlarged_are_learned():
    X, y = two_classes(100, 20)
    fitted = sampler()
    X_new, _ = fitted.fit_resample(X, y)
    assert list(fitted.synthesizers_) == [1]
    assert X_new["a"].iloc[120:].min() >= X["a"][y == 1].min() > X["a"][y == 0].min()


def test_warnings_point_at_the_line_of_the_user():
    X, y = two_classes(100, 20)
    X["c"] = np.where(np.arange(120) == 119, "single", X["c"])
    with pytest.warns(UserWarning, match="'c' .1.") as caught:
        sampler().fit_resample(X, y)
    assert caught[0].filename == __file__


class Recorder(ClassifierMixin, BaseEstimator):
    """A classifier that keeps the rows to which it was fitted."""

    def fit(self, X, y):
        self.X_, self.classes_ = X, np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


def test_in_a_pipeline_nothing_of_the_test_fold_is_used():
    n_folds, n = 3, 150
    X = people(n)[["age", "city"]].assign(fold=np.repeat(["f0", "f1", "f2"], n // n_folds))
    y = np.array([1, 0, 0, 0, 0] * (n // 5))
    seen = []

    def score(estimator, X_test, y_test):
        X_train = estimator[-1].X_
        seen.append((set(X_train["fold"]), set(X_test["fold"]), len(X_train)))
        return 0.0

    model = make_pipeline(sampler(), Recorder())
    cross_val_score(model, X, y, cv=KFold(n_folds), scoring=score)
    assert len(seen) == n_folds
    for training, test, n_rows in seen:
        assert training == {"f0", "f1", "f2"} - test
        assert n_rows == 160  # 80 of each class: the rows were resampled


def test_in_a_pipeline_test_rows_are_not_resampled():
    X, y = two_classes(100, 20)
    model = make_pipeline(sampler(), Recorder()).fit(X, y)
    assert len(model[-1].X_) == 200
    assert len(model.predict(X)) == 120


def test_the_seed_decides():
    X, y = two_classes(100, 20)
    rows = lambda **params: sampler(**params).fit_resample(X, y)[0]
    pd.testing.assert_frame_equal(rows(), rows())
    assert not rows().equals(rows(random_state=1))
    instance = lambda: np.random.RandomState(3)
    pd.testing.assert_frame_equal(rows(random_state=instance()), rows(random_state=instance()))
    # Without a seed of its own, that of the synthesizer, which is 0 here.
    own = sampler(random_state=None)
    pd.testing.assert_frame_equal(own.fit_resample(X, y)[0], rows())
    own.set_params(synthesizer__random_state=None)
    assert not own.fit_resample(X, y)[0].equals(own.fit_resample(X, y)[0])


def test_the_global_random_state_is_neither_read_nor_changed():
    X, y = two_classes(100, 20)
    before = np.random.get_state()[1].copy()
    first = sampler().fit_resample(X, y)[0]
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    np.random.seed(5)
    pd.testing.assert_frame_equal(sampler().fit_resample(X, y)[0], first)


def test_parameters_of_the_synthesizer_are_reached_and_it_is_cloned():
    X, y = two_classes(100, 20)
    one = sampler()
    given = one.synthesizer
    one.set_params(synthesizer__epochs=2, synthesizer__conditional=True).fit_resample(X, y)
    assert one.synthesizers_[1].n_iter_ == 2
    assert one.synthesizer is given and not hasattr(given, "vae_")
    assert given.conditional  # switched off in the clone only
    copy = clone(one)
    assert not hasattr(copy, "synthesizers_")
    assert copy.get_params()["synthesizer__epochs"] == 2
    assert TVAEOverSampler().get_params() == {
        "sampling_strategy": "auto",
        "synthesizer": None,
        "random_state": None,
    }


def test_columns_may_be_chosen_by_masks_and_selectors():
    X, y = two_classes(100, 20)
    masked = sampler(categorical_features=[False, False, False, True])
    masked.fit_resample(X, y)
    assert isinstance(masked.synthesizers_[1].encoder_.codecs_[3], CategoryCodec)
    numbers = make_column_selector(dtype_include="number")
    coarse = TableEncoder([("coarse", QuantileCodec(n_bins=4), numbers)])
    named = sampler(encoder=coarse)
    X_new, _ = named.fit_resample(X, y)
    assert named.synthesizers_[1].encoder_.columns_["reason"].iloc[0] == "named by 'coarse'"
    assert list(X_new.columns) == list(X.columns)


def test_a_class_with_too_few_rows_is_named():
    X, y = two_classes(100, 2)
    with pytest.raises(ValueError, match=r"Class 1 has 2 row.*min_samples=3.*sampling_strategy"):
        sampler().fit_resample(X, y)
    _, y_new = sampler(min_samples=1).fit_resample(X, y)
    assert np.bincount(y_new).tolist() == [100, 100]
    y[:30] = 2
    _, y_new = sampler({2: 50}).fit_resample(X, y)  # it may stay as it is
    assert np.bincount(y_new).tolist() == [70, 2, 50]


def test_a_balanced_table_is_returned_as_it_is():
    X = people(100)
    X_new, y_new = sampler().fit_resample(X, np.repeat([0, 1], 50))
    pd.testing.assert_frame_equal(X_new, X)
    assert len(y_new) == 100


def test_what_cannot_be_resampled_is_refused():
    X, y = two_classes(100, 20)
    with pytest.raises(ValueError, match=r"drops columns \['a'\]"):
        sampler(encoder=TableEncoder([("none", "drop", ["a"])])).fit_resample(X, y)
    with pytest.raises(TypeError, match=r"table of polars.*to_pandas"):
        sampler().fit_resample(pl.DataFrame({"a": X["a"].to_numpy()}), y)
    with pytest.raises(ValueError, match="'epochs' parameter of TVAESynthesizer"):
        sampler(epochs=0).fit_resample(X, y)
    with pytest.raises(ValueError, match="'synthesizer' parameter of TVAEOverSampler"):
        TVAEOverSampler(synthesizer="TVAE").fit_resample(X, y)


def test_without_imbalanced_learn_the_error_names_the_extra():
    program = """
import sys
import sktvae
assert not any(name.split(".")[0] == "imblearn" for name in sys.modules)
sys.modules["imblearn"] = None  # as if it were not installed
try:
    import sktvae.imbalanced
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "pip install 'sktvae[imbalanced]'" in done.stdout, done.stderr
