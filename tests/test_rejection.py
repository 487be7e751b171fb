"""Rejection of draws that classifiers recognise."""

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from sktvae import (
    DifferentialPrivacy,
    KeyCodec,
    ModeCodec,
    RejectionSynthesizer,
    TableEncoder,
)
from sktvae._rejection import Rejection, _slope, _tells_apart, learn_rejection
from sktvae.metrics import make_synthesis_scorer
from tests.conftest import people, small


def quick(**params):
    """An estimator that fits in a moment, and keeps a classifier for nearly every table."""
    few = HistGradientBoostingClassifier(
        max_iter=30, max_leaf_nodes=12, min_samples_leaf=50, early_stopping=False
    )
    defaults = {"synthesizer": small(), "classifier": few, "random_state": 0}
    return RejectionSynthesizer(**(defaults | params))


def curve(n=3000, seed=0):
    """Rows on a parabola, which a short fit blurs."""
    first = np.random.default_rng(seed).uniform(-1, 1, n)
    return pd.DataFrame({"first": first, "second": first**2})


def distance(rows):
    """The mean distance of rows from the parabola."""
    return float((rows["second"] - rows["first"] ** 2).abs().mean())


def distance_to_real(real, synthetic):
    """A score of synthetic rows; greater is better."""
    return -distance(synthetic)


@pytest.fixture(scope="module")
def fitted():
    return quick(n_rounds=2).fit(curve())


class Odds(ClassifierMixin, BaseEstimator):
    """Knows that the odds of a number x in [0, 1] are 2 x, or proportional to another power."""

    def __init__(self, power=1):
        self.power = power

    def fit(self, X, y):
        self.classes_ = np.array([0, 1])
        return self

    def predict_proba(self, X):
        odds = 2 * X[:, 0] ** self.power
        p = odds / (1 + odds)
        return np.stack([1 - p, p], axis=1)


# The probability that a row is accepted


def test_rows_that_are_accepted_follow_the_density_that_the_odds_describe():
    """Uniform numbers become those of the density 2 x, of which the mean is 2 / 3."""
    rng = np.random.default_rng(0)
    x = rng.random((200_000, 1))
    rejection = Rejection().and_then(Odds().fit(None, None), 1.0, x, x)
    kept = x[rng.random(len(x)) < rejection.probability(x), 0]
    assert kept.mean() == pytest.approx(2 / 3, abs=0.004)
    np.testing.assert_allclose(
        np.quantile(kept, [0.1, 0.5, 0.9]), np.sqrt([0.1, 0.5, 0.9]), atol=0.006
    )
    assert len(kept) / len(x) == pytest.approx(0.5, abs=0.005)  # odds up to 2, and 1 on average


def test_odds_of_several_classifiers_are_multiplied():
    x = np.random.default_rng(0).random((200_000, 1))
    once = Rejection().and_then(Odds().fit(None, None), 1.0, x, x)
    accepted = x[np.random.default_rng(1).random(len(x)) < once.probability(x)]
    twice = once.and_then(Odds().fit(None, None), 1.0, accepted, x)
    np.testing.assert_allclose(twice.log_odds(x), 2 * once.log_odds(x))
    p = twice.probability(x)
    assert (p * x[:, 0]).sum() / p.sum() == pytest.approx(3 / 4, abs=0.004)  # the density 3 x^2


def test_only_one_draw_in_200_has_odds_beyond_the_bound():
    x = np.random.default_rng(0).random((10_000, 1))
    rejection = Rejection().and_then(Odds().fit(None, None), 1.0, x, x)
    assert (rejection.log_odds(x) > rejection.bound).mean() == pytest.approx(0.005, abs=0.001)
    assert rejection.rate == pytest.approx(0.5, abs=0.02)
    assert (Rejection().probability(x) == 1).all() and Rejection().rate == 1


def test_one_draw_in_20_is_accepted_at_least():
    """Of uniform numbers, this classifier alone would accept one in a hundred."""
    x = np.linspace(0, 1, 100_000)[:, None]
    sure = Odds(power=200).fit(None, None)
    rejection = Rejection().and_then(sure, 1.0, x, x)
    assert rejection.rate == pytest.approx(0.05, rel=0.01)
    assert rejection.probability(x).mean() == pytest.approx(0.05, rel=0.01)
    assert (np.diff(rejection.probability(x)) >= 0).all()


def test_log_odds_are_multiplied_by_the_slope():
    x = np.random.default_rng(0).random((200_000, 1))
    rejection = Rejection().and_then(Odds().fit(None, None), 0.5, x, x)
    p = rejection.probability(x)
    assert (p * x[:, 0]).sum() / p.sum() == pytest.approx(3 / 5, abs=0.004)  # density of x^0.5


@pytest.mark.parametrize("slope", [0.0, 0.4, 1.0, 1.5])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_the_slope_of_odds_is_found(slope, is_weighted):
    rng = np.random.default_rng(0)
    log_odds = rng.normal(-1, 1, 40_000)
    is_real = (rng.random(40_000) < expit(slope * log_odds - 1)).astype(float)
    weight = np.where(is_real == 1, 3.0, 1.0) if is_weighted else None
    assert _slope(log_odds, is_real, weight) == pytest.approx(slope, abs=0.05)
    assert _tells_apart(log_odds, is_real, weight) == (slope > 0)


def test_chance_is_taken_for_knowledge_in_one_of_forty_cases():
    rng = np.random.default_rng(0)
    is_real = np.repeat([1.0, 0.0], [100, 400])
    weight = np.where(rng.random(500) < 0.5, 0.2, 1.8)
    told = [_tells_apart(rng.standard_t(5, 500), is_real, weight) for _ in range(2000)]
    assert 0.015 < np.mean(told) < 0.035


@pytest.mark.parametrize("size", [0.01, 9.0])
def test_rows_that_are_all_told_apart(size):
    is_real = np.repeat([1.0, 0.0], [100, 400])
    log_odds = np.where(is_real == 1, size, -size)
    assert _tells_apart(log_odds, is_real, None) and _slope(log_odds, is_real, None) > 1
    assert not _tells_apart(-log_odds, is_real, None)
    assert not _tells_apart(np.full(500, size), is_real, None)


# What classifiers learn


def normal_draws(center=0.0):
    """A function that draws accepted rows from a normal distribution."""

    def draw(rejection, n_rows, seed):
        rng, parts = np.random.default_rng(seed), []
        while sum(map(len, parts)) < n_rows:
            x = rng.normal(center, 1, (n_rows, 1))
            parts.append(x[rng.random(n_rows) < rejection.probability(x)])
        return np.concatenate(parts)[:n_rows]

    return draw


def learned(real, weight=None, n_rounds=2, **trees):
    trees = {"max_iter": 100, "max_leaf_nodes": 6, "min_samples_leaf": 100} | trees
    trees |= {"random_state": 0, "early_stopping": False}
    classifier = HistGradientBoostingClassifier(**trees)
    return learn_rejection(real, weight, normal_draws(), classifier, n_rounds, seed=0)


def test_a_shifted_distribution_is_found():
    # In ascending order: rows are shuffled before some are held out.
    real = np.sort(np.random.default_rng(1).normal(0.5, 1, (10_000, 1)), axis=0)
    rows = normal_draws()(learned(real), 20_000, 1)
    # A little less, as odds are cut, and as trees are shrunk towards no difference.
    assert 0.85 < rows.mean() / real.mean() < 1.05 and rows.std() == pytest.approx(1, abs=0.04)


def test_a_model_that_is_all_wrong_is_corrected_as_far_as_it_goes():
    """Draws that never resemble real rows, but for a few."""
    real = np.random.default_rng(1).normal(4, 1, (5000, 1))
    rejection = learned(real)
    assert rejection.classifiers
    assert rejection.rate == pytest.approx(0.05, rel=0.01)
    assert normal_draws()(rejection, 5000, 1).mean() > 1.2


def test_no_classifier_is_kept_where_there_is_nothing_to_tell():
    real = np.random.default_rng(1).normal(0, 1, (3000, 1))
    assert learned(real).classifiers == ()
    assert learned(real + 0.5, n_rounds=9).classifiers != ()
    assert len(learned(real + 0.5, n_rounds=9).classifiers) < 9


def test_weights_count():
    rng = np.random.default_rng(1)
    real = rng.normal(0, 1, (10_000, 1))
    weight = np.where(real[:, 0] > 0, 1.5, 0.5)  # three quarters are positive
    rows = normal_draws()(learned(real, weight), 20_000, 1)
    assert (rows > 0).mean() == pytest.approx(0.75, abs=0.04)


class Recorder(ClassifierMixin, BaseEstimator):
    """A classifier that tells nothing apart; `seen` holds the sizes of what it was given."""

    seen = []

    def fit(self, X, y):
        Recorder.seen.append((int((y == 1).sum()), int((y == 0).sum()), X.shape[1]))
        self.classes_ = np.array([0, 1])
        return self

    def predict_proba(self, X):
        return np.full((len(X), 2), 0.5)


@pytest.mark.parametrize(("name", "limit"), [("_MOST_ROWS", 500), ("_MOST_NUMBERS", 500 * 5 * 3)])
def test_large_tables_are_learned_from_some_of_their_rows(monkeypatch, name, limit):
    monkeypatch.setattr(f"sktvae._rejection.{name}", limit)
    Recorder.seen.clear()
    draw = lambda rejection, n_rows, seed: np.zeros((n_rows, 3))
    rejection = learn_rejection(np.zeros((2000, 3)), None, draw, Recorder(), 2, 0)
    assert Recorder.seen == [(450, 1800, 3)]  # a tenth is held out, and there is no second round
    assert rejection.classifiers == ()


def test_few_rows_and_no_columns_are_left_as_they_are():
    assert learned(np.zeros((39, 1))).classifiers == ()
    assert learned(np.empty((1000, 0))).classifiers == ()


# The estimator


@parametrize_with_checks([RejectionSynthesizer(small(random_state=None), n_rounds=1)])
def test_scikit_learn_checks(estimator, check):
    with torch.random.fork_rng():
        check(estimator)


def test_samples_are_more_faithful(fitted):
    plain = fitted.synthesizer_.sample(5000, random_state=1)
    assert distance(fitted.sample(5000, random_state=1)) < 0.8 * distance(plain)
    assert len(fitted.classifiers_) == 2 and 0.05 < fitted.acceptance_rate_ < 0.9


def test_the_share_of_accepted_rows_is_as_it_says(fitted):
    from sktvae._generation import draw_codes
    from sktvae._rejection import ordered_codes

    synthesizer = fitted.synthesizer_
    heads, n_rows = next(draw_codes(synthesizer.vae_, synthesizer._generator(5, 1)))
    rejection = Rejection(tuple(fitted.classifiers_), fitted._slopes, fitted._bound)
    codes = ordered_codes(synthesizer.encoder_.fitted, heads, n_rows)
    rate = rejection.probability(codes).mean()
    assert rate == pytest.approx(fitted.acceptance_rate_, abs=0.05)


def test_a_smaller_sample_begins_a_larger_one(fitted):
    rows = fitted.sample(20_000, random_state=3)
    assert len(rows) == 20_000
    pd.testing.assert_frame_equal(rows.head(700), fitted.sample(700, random_state=3))
    assert not rows.equals(fitted.sample(20_000, random_state=4))
    pd.testing.assert_frame_equal(fitted.sample(5), fitted.sample(5))


@pytest.mark.parametrize("batch_size", [300, 1024, 7000, 100_000])
def test_batches_are_the_rows_of_sample(fitted, batch_size):
    batches = list(fitted.sample_batches(10_000, batch_size=batch_size, random_state=3))
    assert [len(b) for b in batches[:-1]] == [batch_size] * (-(-10_000 // batch_size) - 1)
    together = pd.concat(batches, ignore_index=True)
    pd.testing.assert_frame_equal(together, fitted.sample(10_000, random_state=3))


def test_no_rows(fitted):
    for rows in (fitted.sample(0), *fitted.sample_batches(0)):
        assert rows.shape == (0, 2) and list(rows) == ["first", "second"]
    assert fitted.sample().shape == (1, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: e.sample(-1), "n_samples must be an integer >= 0, got -1"),
        (lambda e: e.sample_batches(3, batch_size=0), "batch_size must be an integer >= 1, got 0"),
    ],
)
def test_wrong_numbers_of_rows(fitted, call, message):
    with pytest.raises(ValueError, match=message):
        call(fitted)


def test_not_fitted():
    with pytest.raises(NotFittedError):
        quick().sample(3)


def test_new_keys_do_not_repeat():
    X = curve().assign(key=np.arange(3000) + 10_000)
    encoder = TableEncoder([("key", KeyCodec(), ["key"])])
    model = quick(n_rounds=1, synthesizer=small(encoder=encoder)).fit(X)
    assert model.acceptance_rate_ < 1
    assert model.sample(9000)["key"].is_unique
    keys = pd.concat(model.sample_batches(9000, batch_size=2000))["key"]
    assert keys.is_unique and len(keys) == 9000


def test_tables_come_back_as_they_were():
    X = people(1200)
    X.loc[::5, "weight"] = np.nan
    rows = quick(n_rounds=1).fit(X).sample(500)
    pd.testing.assert_series_equal(rows.dtypes, X.dtypes)
    assert rows["city"].isin(X["city"].unique()).all()
    assert rows["weight"].isna().mean() == pytest.approx(0.2, abs=0.08)


@pytest.mark.parametrize("convert", [pl.from_pandas, lambda X: X.to_numpy()])
def test_containers(convert):
    X = convert(curve(600))
    rows = quick(n_rounds=1).fit(X).sample(50)
    assert type(rows) is type(X) and rows.shape == (50, 2)


def test_rows_of_weight_zero_are_not_learned():
    X = pd.DataFrame({"a": np.repeat([0.0, 5.0], 600), "b": np.arange(1200) % 7.0})
    model = quick(n_rounds=1).fit(X, sample_weight=np.repeat([1.0, 0.0], 600))
    assert (model.sample(500)["a"] == 0).all()


def test_classifiers_get_the_weights():
    """Without them, they would take the draws of rows of large weight for synthetic."""
    X = curve(2000)
    weight = np.where(X["first"] > 0, 1.8, 0.2)
    model = quick(n_rounds=2, synthesizer=small(epochs=8)).fit(X, sample_weight=weight)
    assert model.classifiers_
    rows = model.sample(5000)
    assert (rows["first"] > 0).mean() == pytest.approx(0.9, abs=0.03)


def test_all_randomness_is_that_of_the_seed():
    classifier = make_pipeline(SimpleImputer(), RandomForestClassifier(10, max_depth=4))
    samples = [quick(classifier=classifier).fit(curve(800)).sample(30) for _ in range(2)]
    pd.testing.assert_frame_equal(*samples)
    other = quick(classifier=classifier, random_state=1).fit(curve(800))
    assert not other.sample(30).equals(samples[0])


def test_any_classifier_that_gives_probabilities():
    X = people(1000)
    X.loc[::5, "weight"] = np.nan
    classifier = make_pipeline(SimpleImputer(), LogisticRegression())
    model = quick(classifier=classifier, n_rounds=3).fit(X)
    assert model.sample(200).shape == (200, 7)
    assert all(type(c) is type(classifier) for c in model.classifiers_)


def test_no_rounds_are_the_synthesizer_alone():
    model = quick(n_rounds=0).fit(curve(500))
    assert model.classifiers_ == [] and model.acceptance_rate_ == 1
    assert model.sample(2000)["second"].mean() == pytest.approx(
        model.synthesizer_.sample(2000)["second"].mean(), abs=0.05
    )


def test_the_synthesizer_is_the_one_that_its_seed_gives():
    """Without a seed of its own, what is drawn from is what the synthesizer would be alone."""
    X = curve(500)
    model = quick(random_state=None, n_rounds=1).fit(X)
    pd.testing.assert_frame_equal(model.synthesizer_.sample(50), small().fit(X).sample(50))
    again = quick(random_state=None, n_rounds=1).fit(X)
    pd.testing.assert_frame_equal(model.sample(50), again.sample(50))


def test_the_parameters_are_left_as_they_are():
    model = quick(n_rounds=1)
    before = (model.synthesizer, model.classifier)
    model.fit(curve(500))
    assert model.synthesizer is before[0] and not hasattr(before[0], "vae_")
    assert model.classifier is before[1] and not hasattr(before[1], "classes_")


def test_saved_models_draw_the_same_rows(fitted, tmp_path):
    joblib.dump(fitted, tmp_path / "model.joblib")
    again = joblib.load(tmp_path / "model.joblib")
    pd.testing.assert_frame_equal(again.sample(100), fitted.sample(100))


def test_grid_search():
    search = GridSearchCV(
        quick(), {"n_rounds": [0, 2]}, scoring=make_synthesis_scorer(distance_to_real), cv=2
    )
    search.fit(curve(2000))
    assert search.best_params_ == {"n_rounds": 2}


@pytest.mark.parametrize(
    ("model", "X", "message"),
    [
        (
            RejectionSynthesizer(small(privacy=DifferentialPrivacy(epsilon=1.0))),
            curve(100),
            "no promise of differential privacy",
        ),
        (quick(), [curve(100), curve(100)], "read piece by piece. Load the table"),
        (quick(n_rounds=-1), curve(100), "'n_rounds' parameter"),
        (RejectionSynthesizer(small(numerical="modes")), curve(100), "numerical='modes'"),
        (
            RejectionSynthesizer(small(encoder=TableEncoder([("m", ModeCodec(), ["first"])]))),
            curve(100),
            "encoder__m=ModeCodec",
        ),
        (quick(classifier="trees"), curve(100), "'classifier' parameter"),
        (quick(synthesizer=small(epochs=0)), curve(100), "'epochs' parameter"),
    ],
    ids=["privacy", "pieces", "rounds", "modes", "codec", "classifier", "synthesizer"],
)
def test_what_cannot_be_fitted_leaves_the_estimator_as_it_was(model, X, message):
    model = clone(model)
    with pytest.raises(ValueError, match=message):
        model.fit(X)
    assert not hasattr(model, "synthesizer_")


def test_weights_need_a_classifier_that_takes_them():
    model = quick(classifier=make_pipeline(SimpleImputer(), LogisticRegression()))
    with pytest.raises(ValueError, match="takes no sample_weight"):
        model.fit(curve(100), sample_weight=np.ones(100))


def test_a_failed_fit_keeps_the_last_one(fitted):
    rows = fitted.sample(20)
    with pytest.raises(ValueError, match="read piece by piece"):
        fitted.fit([curve(100)])
    pd.testing.assert_frame_equal(fitted.sample(20), rows)
