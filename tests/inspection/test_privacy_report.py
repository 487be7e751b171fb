"""The privacy report says what a model gives away, and to whom; its page is safe and whole."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import KernelDensity

from sktvae import (
    CategoryCodec,
    DifferentialPrivacy,
    FixedCombinations,
    KeyCodec,
    LessEqual,
    ModeCodec,
    TableEncoder,
)
from sktvae.inspection import privacy_report
from sktvae.inspection._contents import contents_of
from tests.conftest import small
from tests.inspection.test_report import Page


class Encoded:
    """As much of an estimator as `contents_of` looks at."""

    def __init__(self, X, codecs=None, **parameters):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            self.encoder_ = TableEncoder(codecs, **parameters).fit(X)


def people(n, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "age": rng.integers(18, 90, n),
            "income": rng.lognormal(8, 1, n).round(2),
            "town": rng.choice(["Bonn", "Rome", "<b>Oslo</b>"], n, p=[0.7, 0.2, 0.1]),
            "member": rng.random(n) < 0.3,
        }
    )


# What the model holds


def test_what_is_kept_rests_on_as_many_rows_as_it_should():
    X = people(400)
    contents = contents_of(Encoded(X, min_samples=5), X)
    assert contents.index.tolist() == list(X)
    assert (contents["rests_on"] >= 5).all()
    assert contents.loc["town", "keeps"] == "3 categories and their shares"
    assert contents.loc["town", "rests_on"] == X["town"].value_counts().min()
    assert contents.loc["income", "keeps"].startswith("no exact value")


def test_without_protection_values_of_single_rows_are_found():
    X = people(400)
    X.loc[7, "town"] = "Tristan da Cunha"
    contents = contents_of(Encoded(X, min_samples=1), X)
    assert contents.loc["town", "rests_on"] == contents.loc["income", "rests_on"] == 1
    assert "the extremes of the column" in contents.loc["income", "keeps"]
    safe = contents_of(Encoded(X), X)
    assert safe.loc["town", "rests_on"] > 3 and safe.loc["income", "rests_on"] >= 3
    assert "extreme" not in safe.loc["income", "keeps"]


def test_a_range_that_ends_at_an_extreme_by_coincidence_is_no_leak():
    rng = np.random.default_rng(0)
    numbers = np.concatenate([[1], rng.integers(3, 30, 15), rng.integers(40, 1000, 384)])
    X = pd.DataFrame({"x": numbers})
    model = Encoded(X)
    assert model.encoder_.codecs_[0].ends[0] == 1  # it follows from the rows up to 30
    assert contents_of(model, X).loc["x", "rests_on"] > 3


def test_each_codec_says_what_it_keeps():
    X = people(200).assign(key=[f"C{i:04d}" for i in range(200)], gone=1.5)
    X.loc[[3, 4], "income"] = np.nan
    codecs = [
        ("modes", ModeCodec(random_state=0), ["income"]),
        ("keys", KeyCodec(), ["key"]),
        ("out", "drop", ["gone"]),
        ("all", CategoryCodec(), ["age"]),
    ]
    contents = contents_of(Encoded(X, codecs), X)
    assert (
        "modes" in contents.loc["income", "keeps"] and "missing" in contents.loc["income", "keeps"]
    )
    assert contents.loc["income", "rests_on"] <= contents.loc["income", "n_missing"] == 2
    assert np.isnan(contents.loc["age", "n_missing"])
    assert contents.loc["key", "keeps"] == "the form of the keys, and the largest number in them"
    assert contents.loc["key", "rests_on"] == 1
    assert contents.loc["gone", "keeps"] == "nothing" and np.isnan(contents.loc["gone", "rests_on"])
    assert contents.loc["age", "n_values"] == X["age"].nunique()


def test_related_columns_are_judged_by_what_is_learned():
    rng = np.random.default_rng(0)
    X = people(200)[["age", "town"]]
    X["country"] = X["town"].map({"Bonn": "D", "Rome": "I", "<b>Oslo</b>": "N"})
    X.loc[0, "country"] = "?"  # a combination that one row has
    X["until"] = X["age"] + rng.integers(1, 5, 200)
    relations = [LessEqual("age", "until"), FixedCombinations(["town", "country"])]
    contents = contents_of(Encoded(X, relations=relations, min_samples=1), X)
    assert contents.loc["until", "n_values"] == 4  # the differences, not the values
    assert contents.loc["town", "n_values"] == 4 and contents.loc["town", "rests_on"] == 1
    assert contents.loc["country", "keeps"].startswith("nothing of its own: it follows from Fixed")


def test_what_is_kept_of_numbers_that_follow_from_others_and_on_how_many_rows_it_rests():
    rng = np.random.default_rng(0)
    x, how = rng.integers(0, 10**6, 1000) / 1000, rng.integers(0, 4, 1000)
    other = rng.integers(0, 10**6, 1000) / 1000
    y = np.select([how == 0, how == 1, how == 2], [x, 1000 - x, x + 0.5], other)
    near = np.round(x + rng.uniform(0.001, 0.5, 1000), 3)
    X = pd.DataFrame({"x": x, "y": y, "z": np.where(how > 0, near, other)})
    model = Encoded(X)
    assert sorted(model.encoder_.ties_["y"]) == ["1000 - x", "x", "x + 0.5"]
    contents = contents_of(model, X)
    kept = contents.loc["y", "keeps"]
    assert f"that it equals 'x' in {(how == 0).sum()} rows" in kept
    assert f"that it is a constant minus 'x' in {(how == 1).sum()} rows" in kept
    assert f"that it is a constant plus 'x' in {(how == 2).sum()} rows" in kept
    assert "1000" not in kept and "0.5" not in kept  # no values of the table
    assert " that it is near " in contents.loc["z", "keeps"]
    assert "that it" not in contents.loc["x", "keeps"]
    few = contents_of(model, X.iloc[np.flatnonzero(how != 1)[:400]])  # as if it held in no row
    assert few.loc["y", "rests_on"] == 0 < few.loc["x", "rests_on"]


# Attacks and words


@pytest.fixture(scope="module")
def memorised():
    train, holdout = np.random.default_rng(0).normal(size=(2, 400, 3))
    model = KernelDensity(bandwidth=0.02).fit(train)
    return privacy_report(model, train, holdout, random_state=0)


def test_a_model_that_memorised_is_poor_for_everybody(memorised):
    assert {needs: one.verdict for needs, one in memorised.attackers.items()} == {
        "rows": "poor", "model": "poor", "model and reference": "poor",
    }  # fmt: skip
    assert (
        "finds out about the people of the training table. At best, “"
        in memorised.attackers["rows"].headline
    )
    for judgement in memorised.attackers.values():
        assert judgement.headline in repr(memorised)
    assert memorised.contents.empty and memorised.contents_verdict.verdict == "unknown"


def test_a_model_that_knows_nothing_is_good():
    rng = np.random.default_rng(0)
    train, holdout, elsewhere = rng.normal(size=(3, 1_500, 2))
    model = KernelDensity(bandwidth=0.5).fit(elsewhere)
    judged = privacy_report(model, train, holdout, reference=None, random_state=0)
    found = judged.attacks.loc[judged.attacks["kind"] == "membership", "verdict"]
    assert (found == "good").all()
    assert {needs: one.verdict for needs, one in judged.attackers.items()} == {
        "rows": "good", "model": "good",
    }  # fmt: skip
    # What cannot be told is said.
    unknown = judged.attacks.index[judged.attacks["verdict"] == "unknown"]
    assert bool(judged.attackers["model"].reasons) == bool(len(unknown))


def test_few_rows_tell_nothing():
    train, holdout = np.random.default_rng(0).normal(size=(2, 20, 2))
    model = KernelDensity(bandwidth=1.0).fit(np.random.default_rng(1).normal(size=(20, 2)))
    judged = privacy_report(model, train, holdout, reference=None, random_state=0)
    assert judged.attackers["model"].verdict == "unknown"
    assert "too few rows" in judged.attackers["model"].headline
    assert not judged.attackers["model"].reasons
    with pytest.raises(ValueError, match="X_holdout needs at least 4 rows"):
        privacy_report(model, train, holdout[:3])


def test_the_attackers_model_is_fitted_to_rows_that_are_not_attacked():
    """A reference model that knows the holdout would make the attack look better than it is."""
    rng = np.random.default_rng(0)
    train, holdout, elsewhere = rng.normal(size=(3, 600, 4))
    model = KernelDensity(bandwidth=0.3).fit(elsewhere)  # knows nothing of the training rows
    judged = privacy_report(model, train, holdout, random_state=0)
    assert judged.n_rows == {"train": 600, "holdout": 300, "reference": 300, "synthetic": 600}
    assert judged.attacks.loc["calibrated likelihood", "gain_low"] < 0.02


def test_the_worst_attack_is_named(memorised):
    worst = memorised.attacks.index[memorised.attacks["is_worst"]].item()
    assert memorised.attacks.loc[worst, "gain_low"] == memorised.attacks["gain_low"].max()
    assert memorised.worst.startswith("The worst of 16 attacks is “")
    pd.testing.assert_frame_equal(memorised.to_frame(), memorised.attacks)


@pytest.fixture(scope="module")
def tvae():
    train, holdout = people(300), people(200, seed=1)
    train["key"], holdout["key"] = np.arange(300), np.arange(300, 500)
    train["$x^2$"] = holdout["$x^2$"] = "gone"
    encoder = TableEncoder([("out", "drop", ["$x^2$"]), ("keys", KeyCodec(), ["key"])])
    model = small(encoder=encoder, epochs=2).fit(train)
    return model, train, holdout


def test_dropped_columns_and_keys_are_no_obstacle(tvae):
    model, train, holdout = tvae
    judged = privacy_report(model, train, holdout, random_state=0)
    assert judged.attacks["gain"].notna().all()
    assert judged.attacks.loc["attribute inference", "detail"] in {
        "age",
        "income",
        "town",
        "member",
    }
    assert judged.n_parameters["the network"] > 100
    assert judged.contents_verdict.verdict == "poor"  # the largest key
    assert "'key'" in judged.contents_verdict.reasons[0]
    assert "without differential privacy" in judged.guarantee


def test_differential_privacy_is_shown_if_there_is_any(tvae):
    _, train, holdout = tvae
    names = ["age", "town"]
    promise = DifferentialPrivacy(2.0, delta=1e-5, n_steps=5, batch_size=1000)
    model = small(privacy=promise, epochs=1, batch_size=1000).fit(train[names])
    judged = privacy_report(model, train[names], holdout[names], reference=None, random_state=0)
    assert f"epsilon {model.epsilon_:.3g} and delta 1e-05" in judged.guarantee
    assert f"factor of {np.exp(model.epsilon_):.3g}" in judged.guarantee
    assert "age: frequent values" in judged.to_html()
    ledger = judged.to_dict()["ledger"]
    assert len(ledger) == len(model.privacy_ledger_)
    assert ledger[-1]["measured"] == "gradients of training"


def test_the_page_is_whole_and_safe_and_holds_no_values(tvae, tmp_path):
    model, train, holdout = tvae
    judged = privacy_report(model, train, holdout, reference=None, title="<i>x</i>", random_state=0)
    text = judged.to_html(tmp_path / "privacy.html")
    assert (tmp_path / "privacy.html").read_text(encoding="utf-8") == text
    page = Page(text)
    assert not page.open and not page.every("img") and not page.every("script")
    assert len(page.ids) == len(set(page.ids))
    for link in page.every("a"):
        assert link["href"].removeprefix("#") in page.ids
    assert "<i>" not in text and "Oslo" not in text and "http:" not in text
    for needs, judgement in judged.attackers.items():
        assert judgement.headline in text, needs
    assert judged._repr_html_().startswith("<iframe")


def test_data_are_plain_and_are_those_of_the_report(memorised):
    data = json.loads(memorised.to_json())
    assert data == memorised.to_dict()
    by_name = {attack["attack"]: attack for attack in data["attacks"]}
    assert by_name["distance"]["auc"] == memorised.attacks.loc["distance", "auc"]
    assert by_name["linkability"]["auc"] is None
    assert data["attackers"]["rows"]["verdict"] == "poor"


def test_the_same_seed_gives_the_same_page(memorised):
    train, holdout = np.random.default_rng(0).normal(size=(2, 400, 3))
    model = KernelDensity(bandwidth=0.02).fit(train)
    assert privacy_report(model, train, holdout, random_state=0).to_html() == memorised.to_html()


def test_the_rows_that_are_to_be_shared_can_be_given(memorised):
    train, holdout, harmless = np.random.default_rng(0).normal(size=(3, 400, 3))
    model = KernelDensity(bandwidth=0.02).fit(train)
    judged = privacy_report(
        model, train, holdout, X_synthetic=harmless[:200], reference=None, random_state=0
    )
    assert judged.n_rows["synthetic"] == 200
    assert (
        judged.attackers["rows"].verdict != "poor" and judged.attackers["model"].verdict == "poor"
    )
