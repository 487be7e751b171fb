"""`TVAESynthesizer(privacy=...)`: what a private fit promises, keeps and refuses."""

import io
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from sktvae import (
    DifferentialPrivacy,
    KeyCodec,
    LessEqual,
    TableEncoder,
    TVAEImputer,
    TVAESynthesizer,
)
from sktvae._model.layout import Layout
from sktvae._privacy.rows import private_rows
from tests.conftest import small

# Enough to see that it works; the defaults take a minute. All rows take part in each step: the
# noise that this needs is found ten times faster than that of samples of the rows.
QUICK = {"n_steps": 5, "batch_size": 10_000}
BRIEF = {"epochs": 1, "batch_size": 1000, "early_stopping": False}


def table(n_rows=3000, seed=0):
    rng = np.random.default_rng(seed)
    weight = rng.normal(70, 9, n_rows).round(1)
    ill = rng.random(n_rows) < 0.4
    return pd.DataFrame(
        {
            "age": (40 + 15 * ill + 8 * rng.normal(size=n_rows)).round().clip(18, 90).astype(int),
            "ill": pd.Categorical(np.where(ill, "yes", "no")),
            "smoker": np.where(rng.random(n_rows) < 0.2 + 0.6 * ill, "yes", "no"),
            "weight": np.where(rng.random(n_rows) < 0.1, np.nan, weight),
        }
    )


def synthesizer(epsilon=5.0, **settings):
    return small(privacy=DifferentialPrivacy(epsilon, **(QUICK | settings)), **BRIEF)


@pytest.fixture(scope="module")
def fitted():
    """Learned from samples of a tenth of the rows. Not to be changed by a test."""
    return synthesizer(n_steps=60, batch_size=300).fit(table())


def test_what_was_spent_is_reported_and_within_the_promise(fitted):
    assert 0.99 * 5.0 < fitted.epsilon_ <= 5.0
    assert 1 / 3100 < fitted.delta_ < 1 / 2900
    ledger = fitted.privacy_ledger_
    assert ledger["measured"].iloc[0] == "number of rows"
    assert ledger["measured"].iloc[-1] == "gradients of training"
    named = " ".join(ledger["measured"])
    assert all(name in named for name in table())
    training = ledger.iloc[-1]
    assert training["times"] == 60 and training["sampling_rate"] == pytest.approx(0.1, rel=0.05)
    assert (ledger["epsilon_alone"] > 0).all()


def test_everything_that_a_model_can_do_works(fitted):
    X = table()
    rows = fitted.sample(500)
    assert list(rows.columns) == list(X.columns) and (rows.dtypes == X.dtypes).all()
    assert fitted.transform(X).shape == (3000, 4)
    assert np.isfinite(fitted.score_samples(X)).all()
    buffer = io.BytesIO()
    joblib.dump(fitted, buffer)
    buffer.seek(0)
    again = joblib.load(buffer)
    pd.testing.assert_frame_equal(again.sample(50), fitted.sample(50))
    pd.testing.assert_frame_equal(again.privacy_ledger_, fitted.privacy_ledger_)


def test_rows_of_a_generous_budget_resemble_the_table():
    X = table()
    promise = DifferentialPrivacy(50.0, n_steps=60, batch_size=10_000)
    layers = {"embedding_dim": 4, "compress_dims": (32,), "decompress_dims": (32, 32)}
    model = TVAESynthesizer(privacy=promise, epochs=2, random_state=0, **layers).fit(X)
    rows = model.sample(6000)
    for name in ("ill", "smoker"):
        assert rows[name].eq("yes").mean() == pytest.approx(X[name].eq("yes").mean(), abs=0.03)
    assert rows["weight"].isna().mean() == pytest.approx(0.1, abs=0.03)
    assert rows["age"].mean() == pytest.approx(X["age"].mean(), abs=1.5)
    gap = lambda frame: frame.groupby("ill", observed=True)["age"].mean().diff().iloc[-1]
    assert gap(rows) > 0.6 * gap(X)
    ill = model.sample(2000, conditions={"ill": "yes"})
    assert ill["smoker"].eq("yes").mean() == pytest.approx(0.8, abs=0.1)


def test_frequencies_are_those_of_the_histograms_however_training_went():
    X = table()
    promise = DifferentialPrivacy(20.0, n_steps=40, batch_size=10_000, learning_rate=0.3)
    learned = private_rows(X, TableEncoder(), promise, torch.device("cpu"))
    columns = Layout(learned.encoder.heads_).to_columns(learned.rows, torch.Generator())
    drawn = learned.encoder.decode(columns, learned.rows.n_rows)
    for name in ("ill", "smoker"):
        assert drawn[name].eq("yes").mean() == pytest.approx(X[name].eq("yes").mean(), abs=0.03)


def test_noise_is_new_in_each_fit_whatever_the_random_state(fitted):
    X = table()
    again = synthesizer(n_steps=60, batch_size=300).fit(X)
    assert not fitted.sample(500).equals(again.sample(500))
    assert fitted.encoder_.codecs_[3].mass_.tolist() != again.encoder_.codecs_[3].mass_.tolist()


def test_a_value_that_few_rows_have_is_nowhere_in_the_model():
    X = table()
    X["city"] = "Stockholm"
    X.loc[:4, "city"] = "Ystad-of-five-rows"
    X.loc[7, "weight"] = 987.6
    model = synthesizer().fit(X)
    saved = pickle.dumps(model)
    assert b"Stockholm" in saved and b"Ystad" not in saved
    drawn = model.sample(3000)
    assert not drawn["city"].str.startswith("Ystad").any()
    assert drawn["weight"].max() < 500


def test_public_bounds_and_categories_are_kept_whatever_the_rows_are():
    X = table()
    X["city"] = "Stockholm"
    promise = {"categories": {"city": ["Lund", "Stockholm"]}, "bounds": {"age": (0, 120)}}
    model = synthesizer(**promise).fit(X)
    assert list(model.encoder_.codecs_[4].categories_) == ["Lund", "Stockholm"]
    assert model.encoder_.codecs_[0].low_.min() >= -0.5
    with pytest.raises(ValueError, match="'town'"):
        synthesizer(categories={"town": ["Lund"]}).fit(X)


def test_parameters_that_would_break_the_promise_are_refused(fitted):
    X = table(200)
    with pytest.raises(ValueError, match="sample_weight"):
        synthesizer().fit(X, sample_weight=np.ones(200))
    with pytest.raises(ValueError, match="warm_start"):
        clone(fitted).set_params(warm_start=True).fit(table()).fit(table())
    plain = small(epochs=1).fit(X)
    with pytest.raises(ValueError, match="warm_start"):
        plain.set_params(warm_start=True, privacy=DifferentialPrivacy()).fit(X)
    with pytest.raises(ValueError, match="TVAEImputer"):
        TVAEImputer(synthesizer()).fit(X)
    keys = TableEncoder([("key", KeyCodec(), ["age"])])
    with pytest.raises(ValueError, match=r"'age'.*drop"):
        synthesizer().set_params(encoder=keys).fit(X)
    with pytest.raises(ValueError, match=r"'age'.*ModeCodec"):
        synthesizer().set_params(numerical="modes").fit(X)
    related = TableEncoder(relations=[LessEqual("age", "weight")])
    with pytest.raises(ValueError, match="relation"):
        synthesizer().set_params(encoder=related).fit(X)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epsilon": 0}, "epsilon"),
        ({"delta": 1.0}, "delta"),
        ({"preprocessing": 1.0}, "preprocessing"),
        ({"n_steps": 0}, "n_steps"),
        ({"bounds": {"age": (90, 18)}}, r"bounds\['age'\].*ascending"),
        ({"bounds": {"age": 90}}, r"bounds\['age'\].*pair"),
        ({"categories": {"ill": "yes"}}, r"categories\['ill'\].*list"),
    ],
)
def test_wrong_settings_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        small(privacy=DifferentialPrivacy(**(QUICK | wrong))).fit(table(100))


def test_a_failed_fit_leaves_the_estimator_as_it_was(fitted):
    before = vars(fitted).copy()
    with pytest.raises(ValueError, match="sample_weight"):
        fitted.fit(table(100), sample_weight=np.ones(100))
    assert vars(fitted).keys() == before.keys()
    assert all(vars(fitted)[name] is value for name, value in before.items())
    check_is_fitted(fitted)


def test_a_later_fit_without_a_promise_does_not_claim_one():
    model = synthesizer().fit(table(500))
    model.set_params(privacy=None).fit(table(200))
    assert not hasattr(model, "epsilon_") and not hasattr(model, "privacy_ledger_")


def test_it_is_a_parameter_like_any_other():
    model = synthesizer()
    assert model.get_params()["privacy__epsilon"] == 5.0
    twin = clone(model).set_params(privacy__epsilon=1.0)
    assert twin.privacy.epsilon == 1.0 and model.privacy.epsilon == 5.0
    with pytest.raises(ValueError, match="privacy"):
        small(privacy=3.0).fit(table(100))


def test_a_tiny_table_is_fitted_with_a_warning():
    with pytest.warns(UserWarning, match="noise of differential privacy"):
        model = synthesizer(epsilon=1.0).fit(table(20))
    assert len(model.sample(20)) == 20


def test_exact_noise():
    model = synthesizer(secure_noise=True, n_steps=2).fit(table(300)[["ill", "smoker"]])
    assert len(model.sample(20)) == 20
