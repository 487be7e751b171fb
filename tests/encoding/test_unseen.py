"""Values that `fit` did not see: finite and low likelihoods, that still sum to one."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.model_selection import GridSearchCV, cross_val_score

from sktvae import (
    CategoryCodec,
    FixedCombinations,
    KeyCodec,
    ModeCodec,
    QuantileCodec,
    TableEncoder,
)
from sktvae._heads import Categorical
from tests.conftest import small


def mixed(n=300):
    rng = np.random.default_rng(0)
    return pd.DataFrame({"a": rng.normal(size=n).round(2), "b": rng.choice(list("xyz"), n)})


@pytest.mark.parametrize("numerical", ["quantile", "modes"])
def test_a_rare_category_or_a_missing_value_does_not_spoil_a_search(numerical):
    X = mixed()
    X.loc[0, "b"] = "rare"
    X.loc[1, "a"] = np.nan
    model = small(epochs=1, numerical=numerical)
    search = GridSearchCV(model, {"embedding_dim": [2, 8]}, cv=3, error_score="raise").fit(X)
    scores = [search.cv_results_[f"split{i}_test_score"] for i in range(3)]
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("label", [None, "o"])
def test_unknown_categories_can_always_be_let_in(label):
    """Even where the training fold has no infrequent category that they could join."""
    X = mixed()
    X.loc[0, "b"] = "rare"
    codec = CategoryCodec(
        min_frequency=10, handle_unknown="infrequent_if_exist", infrequent_label=label
    )
    encoder = TableEncoder([("b", codec, ["b"])])
    model = small(epochs=1, encoder=encoder)
    assert np.isfinite(cross_val_score(model, X, cv=3, error_score="raise")).all()
    Z = model.fit(X.iloc[1:]).transform(X)
    assert np.isfinite(Z).all()


def likelihood(encoder, X, rows):
    """Of rows, were the columns independent: frequencies of the codes in X, times densities."""
    heads = encoder.encode(X).heads
    encoded = encoder.encode(rows, log_density=True)
    total = encoded.log_density.copy()
    for head, seen, codes in zip(encoder.heads_, heads, encoded.heads, strict=True):
        if isinstance(head, Categorical):
            total += np.log(np.bincount(seen, minlength=head.n_categories) / len(X))[codes]
    return total


def test_unseen_values_are_less_likely_than_seen_ones():
    X = mixed(600)
    encoder = TableEncoder()
    encoder.fit(X)
    usual = likelihood(encoder, X, X)
    # As one row in 600 of the category; a value of `a` is itself one of hundreds.
    for column, value, least in (("b", "new", 5.0), ("b", None, 5.0), ("a", np.nan, 0.3)):
        odd = X.assign(**{column: value})
        assert np.isfinite(encoder.log_density(odd)).all()
        assert likelihood(encoder, X, odd).mean() < usual.mean() - least
        with pytest.raises(ValueError, match=r"found (unknown categories|a missing value)"):
            encoder.transform(odd)


def test_unseen_combinations_have_a_likelihood():
    X = pd.DataFrame(
        {"city": ["Rome", "Oslo"] * 50, "land": ["IT", "NO"] * 50, "n": np.arange(100) % 9}
    )
    encoder = TableEncoder(relations=[FixedCombinations(["city", "land"])]).fit(X)
    wrong = encoder.log_density(X.assign(land="IT"))
    assert np.isfinite(wrong).all() and wrong[1] < wrong[0]
    with pytest.raises(
        ValueError, match=r"(?s)'city': .*\[\('Oslo', 'IT'\)\].*encoded by FixedCombinations\("
    ):
        encoder.transform(X.assign(land="IT"))


@pytest.mark.parametrize(
    "params", [{}, {"min_frequency": 8}, {"max_categories": 2}, {"min_frequency": 100}]
)
@pytest.mark.parametrize("gaps", [0, 5])
def test_probabilities_of_categories_and_unseen_events_sum_to_one(params, gaps):
    """The categories, "a category that fit did not see", and "a missing value"."""
    cells = list("aaaaaaaaaabbbbbbbccd") + [None] * gaps
    codec = CategoryCodec(**params).fit(cells)
    codes = codec.transform(cells)[:, 0].astype(int)
    share = np.bincount(codes, minlength=codec.heads_[0].n_categories) / len(cells)
    events = [*"abcd", "unknown", None]
    at = codec.encode(events, log_density=True)
    total = (share[at.heads[0].astype(int)] * np.exp(at.log_density)).sum()
    assert total == pytest.approx(1)


@pytest.mark.parametrize("codec", [QuantileCodec(4, 2, 3), QuantileCodec(64), ModeCodec()])
def test_the_mass_of_a_missing_value_is_taken_from_the_others(codec):
    x = np.random.default_rng(0).integers(0, 40, 300).astype(float)
    codec.fit(x)
    missing = codec.encode([np.nan], log_density=True)
    code = missing.heads[0][0]
    seen = codec.encode(x, log_density=True)
    # At the frequencies of the codes, a missing value is about one row in 301.
    joint = codec.encode(x).heads[0]
    share = (joint == code).mean()
    assert share * np.exp(missing.log_density[0]) < 1.5 / 301
    np.testing.assert_allclose(missing.log_density[0], -np.log(codec._unseen_rows + 1))
    assert codec._unseen_rows == pytest.approx(share * 300, rel=0.2)
    if isinstance(codec, QuantileCodec):  # a mixture would be fitted anew
        with_gaps = QuantileCodec(**codec.get_params()).fit(np.append(x, np.nan))
        taken = with_gaps.log_density(x) - seen.log_density
        assert (taken > -1e-12).all() and taken.max() > 0


def test_merging_categories_does_not_raise_the_score():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"c": rng.choice(list("abcdefgh"), 600), "d": rng.choice(list("xy"), 600)})
    codec = CategoryCodec(infrequent_label="other")
    model = small(epochs=5, encoder=TableEncoder([("c", codec, ["c"])]))
    grid = {"encoder__c__min_frequency": [2, 10**6]}
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(X)
    kept, merged = search.cv_results_["mean_test_score"]
    assert kept > merged - 0.02
    # one of nine: the eight merged categories, or one that `fit` did not see
    assert merged == pytest.approx(np.log(1 / 9) + np.log(1 / 2), abs=0.15)


def marginal(codec, x):
    """Mean log-likelihood of a column under a codec and the frequencies of its codes."""
    codec.fit(x)
    encoded = codec.encode(x, log_density=True)
    discrete = [
        codes
        for head, codes in zip(codec.heads_, encoded.heads, strict=True)
        if isinstance(head, Categorical)
    ]
    log_share = np.zeros(len(x))
    if discrete:
        _, inverse = np.unique(np.column_stack(discrete), axis=0, return_inverse=True)
        inverse = inverse.ravel()
        log_share = np.log(np.bincount(inverse) / len(x))[inverse]
    return (log_share + encoded.log_density).mean()


@pytest.mark.parametrize("decimals", [0, 2, 17])
def test_dropping_a_column_does_not_raise_the_score(decimals):
    x = np.random.default_rng(0).normal(0, 30, 1000).round(decimals)
    encoder = TableEncoder([("x", "drop", [0])]).fit(np.column_stack([x, np.arange(1000) % 3]))
    dropped = encoder.codecs_[0].log_density(x).mean()
    for codec in (QuantileCodec(), QuantileCodec(n_bins=1, n_subbins=1)):
        assert dropped < marginal(codec, x) + 0.02
    words = np.array([f"w{v:.0f}" for v in x], dtype=object)
    encoder = TableEncoder([("x", "drop", [0])]).fit(np.column_stack([words, words]))
    assert encoder.codecs_[0].log_density(words).mean() < marginal(CategoryCodec(), words) + 0.02


def test_keys_count_as_one_of_as_many():
    """Of 80 keys and a missing value, which `fit` did not see; texts may be many more (Chao)."""
    keys = [f"k{i}" for i in range(80)]
    expected = np.log(80 / 81) - np.log(80 + 80 * 79 / 2)
    np.testing.assert_allclose(KeyCodec().fit(keys).log_density(keys), expected)
    numbers = np.arange(80.0)
    np.testing.assert_allclose(KeyCodec().fit(numbers).log_density(numbers), -np.log(81))


@pytest.mark.parametrize("n_categories", [200, 2000])
def test_dropping_or_merging_does_not_pay_if_many_categories_are_new(n_categories):
    """Half of the test rows and more hold categories that were not seen."""
    rng = np.random.default_rng(0)
    train, test = (np.array([f"c{i}" for i in rng.integers(0, n_categories, 300)]) for _ in "12")
    other = rng.integers(0, 2, 300)

    def score(codec):
        encoder = TableEncoder([("x", codec, [0])]).fit(np.column_stack([train, other]))
        (codec, _) = encoder.codecs_
        encoded = codec.encode(pd.Series(test, dtype=object), log_density=True)
        if not codec.heads_:
            return encoded.log_density.mean()
        seen = codec.encode(pd.Series(train, dtype=object)).heads[0]
        share = np.bincount(seen, minlength=codec.heads_[0].n_categories) / 300
        return (np.log(share)[encoded.heads[0]] + encoded.log_density).mean()

    best = score(CategoryCodec())
    assert score("drop") < best + 0.1
    assert score(CategoryCodec(min_frequency=10**6, infrequent_label="other")) < best + 0.1


def test_the_weights_of_a_dropped_column_count():
    x, weight = np.array([1.0, np.nan, 3.0, np.nan]), np.array([3, 1, 2, 1])
    encode = lambda x, **fit: TableEncoder([("x", "drop", [0])]).fit(x, **fit).codecs_[0]
    two = lambda x: np.column_stack([x, np.arange(len(x)) % 2])
    one = encode(two(x), sample_weight=weight).log_density(x)
    X = two(x)[np.arange(4).repeat(weight)]
    np.testing.assert_allclose(one, encode(X).log_density(x))


def test_extreme_numbers_can_be_dropped():
    X = pd.DataFrame({"x": [1.7e308, -1.7e308, 0.0], "y": [1, 2, 1]})
    encoder = TableEncoder([("x", "drop", ["x"])]).fit(X)
    assert np.isfinite(encoder.log_density(X)).all()


def test_a_dropped_column_need_not_be_readable():
    X = pd.DataFrame({"id": np.arange(2**60, 2**60 + 90), "n": np.arange(90) % 7})
    encoder = TableEncoder([("no", "drop", ["id"])]).fit(X)
    assert list(encoder.inverse_transform(encoder.transform(X))) == ["n"]
    assert np.isfinite(encoder.log_density(X)).all()


@pytest.mark.parametrize("decoder", ["autoregressive", "independent"])
def test_the_likelihoods_of_all_rows_sum_to_one(decoder):
    """For a table of six possible rows; the bound is tight with many draws of z."""
    rng = np.random.default_rng(0)
    a = rng.choice(["x", "y", "z"], 4000, p=[0.5, 0.3, 0.2])
    b = np.where(rng.random(4000) < np.where(a == "x", 0.9, 0.2), 1, 2)
    X = pd.DataFrame({"a": a, "b": pd.Series(b).astype(str)})
    model = small(embedding_dim=2, conditional=True, decoder=decoder).fit(X)
    rows = pd.DataFrame([(a, b) for a in "xyz" for b in "12"], columns=["a", "b"])
    encoded = model.encoder_.encode(rows, log_density=True)
    generator = torch.Generator().manual_seed(0)
    for network in (model.vae_, model.any_order_.network):
        batch = network.layout.to_batch(encoded.heads)
        n_draws = 16_384 if network.embedding_dim else 1  # without z there is no bound
        noise = torch.randn(n_draws, network.embedding_dim, generator=generator)
        likelihood = np.exp(network.log_prob_bound(batch, noise).numpy() + encoded.log_density)
        # One part in some thousand is reserved for categories that `fit` did not see.
        assert likelihood.sum() == pytest.approx(1, abs=0.01)
