"""Copies, distances to holdout rows, membership and attribute inference."""

import numpy as np
import pandas as pd
import pytest

from sktvae import metrics


def test_copies_are_found_and_nothing_else(real, other, holdout):
    taken = [5, 17, 99]
    synthetic = pd.concat([other.head(50), real.iloc[taken]], ignore_index=True)
    expected = real.iloc[:0]
    copies = metrics.copied_rows(real, synthetic, holdout, random_state=0)
    assert copies.rows[-3:].tolist() == [50, 51, 52]
    assert copies.train_rows[-3:].tolist() == taken
    assert len(copies.rows) == copies.share * len(synthetic)
    expected = synthetic.merge(real.drop_duplicates(), how="inner")
    assert len(copies.rows) == len(expected)


def test_a_row_with_missing_values_is_a_copy_and_a_similar_one_is_not():
    train = pd.DataFrame({"a": [1.0, np.nan], "b": ["x", None]})
    synthetic = pd.DataFrame({"a": [np.nan, np.nan, 1.0], "b": [None, "x", "x"]})
    copies = metrics.copied_rows(train, synthetic)
    assert copies.rows.tolist() == [0, 2]
    assert copies.train_rows.tolist() == [1, 0]
    assert np.isnan(copies.holdout_share)


def test_copies_by_chance():
    rng = np.random.default_rng(0)
    few = pd.DataFrame({"a": rng.choice(list("ab"), 100), "b": rng.choice(list("cd"), 100)})
    copies = metrics.copied_rows(few, few[:50], few[50:], random_state=0)
    assert copies.duplicate_share == copies.independent_share == copies.holdout_share == 1
    unique = pd.DataFrame({"a": range(100), "b": rng.permutation(100)})
    copies = metrics.copied_rows(unique, unique + 1000, unique + 5000, random_state=0)
    assert copies.share == copies.duplicate_share == copies.holdout_share == 0
    assert copies.independent_share < 0.1


def test_the_closest_record_is_as_often_a_holdout_row(real, other, holdout):
    share, error = metrics.closest_record_share(real, other, holdout, random_state=0)
    assert abs(share - 0.5) < 4 * error
    rng = np.random.default_rng(0)
    near = real.assign(weight=real["weight"] + rng.normal(0, 0.2, len(real)))
    share, error = metrics.closest_record_share(real, near, holdout, random_state=0)
    assert share > 0.5 + 5 * error
    share, _ = metrics.closest_record_share(holdout, near, real, random_state=0)
    assert share < 0.5 - 5 * error


def test_ties_count_half(real):
    assert metrics.closest_record_share(real, real, real, random_state=0).share == 0.5


def test_the_standard_error_of_the_share_is_the_spread_over_divisions():
    rng = np.random.default_rng(0)
    rows, synthetic = rng.normal(size=(120, 2)), rng.normal(size=(500, 2))
    shares = []
    for _ in range(300):
        order = rng.permutation(120)
        share, error = metrics.closest_record_share(rows[order[:60]], synthetic, rows[order[60:]])
        shares.append(share)
    assert np.std(shares) == pytest.approx(error, rel=0.15)
    assert np.mean(shares) == pytest.approx(0.5, abs=4 * error / np.sqrt(300))


@pytest.mark.parametrize("attack", ["distance", "density_ratio"])
def test_membership_is_found_if_rows_were_copied_with_noise(attack):
    rng = np.random.default_rng(0)
    train, holdout, other = rng.normal(size=(3, 400, 3))
    fresh = metrics.membership_auc(train, holdout, other, attack=attack, random_state=0)
    assert abs(fresh.auc - 0.5) < 4 * fresh.standard_error
    part = np.concatenate([train + 0.01 * rng.normal(size=train.shape)] * 2)
    leak = metrics.membership_auc(train, holdout, part, attack=attack, random_state=0)
    assert leak.low > (0.9 if attack == "distance" else 0.5)


def test_what_holds_for_everybody_is_no_leak(real, other, holdout):
    common = metrics.attribute_inference(
        real, other, holdout, sensitive="smoker", known=["risk"], random_state=0
    )
    assert common.train > 0.85
    assert abs(common.advantage) < 4 * common.standard_error
    own = metrics.attribute_inference(real, real, holdout, sensitive="city", random_state=0)
    assert own.advantage > 0.3


def test_numbers_are_guessed_up_to_a_share_of_the_ranks():
    rng = np.random.default_rng(0)
    x = rng.normal(size=2_000)
    table = pd.DataFrame({"x": x, "y": rng.normal(size=2_000)})
    train, made, holdout = table[:500], table[500:1500], table[1500:]
    figures = metrics.attribute_inference(train, made, holdout, sensitive="y", random_state=0)
    # Two independent uniform numbers are within d of each other with probability 2 d - d².
    assert figures.train == pytest.approx(0.0975, abs=0.04)
    exact = metrics.attribute_inference(
        train.assign(y=train["x"]), made.assign(y=made["x"]), holdout.assign(y=holdout["x"]),
        sensitive="y", random_state=0,
    )  # fmt: skip
    assert exact.holdout > 0.98


def test_the_attacker_must_know_something(real, other, holdout):
    with pytest.raises(ValueError, match="must know at least one column other than 'city'"):
        metrics.attribute_inference(real, other, holdout, sensitive="city", known=["city"])
    with pytest.raises(ValueError, match="known='sex' is not a column"):
        metrics.attribute_inference(real, other, holdout, sensitive="city", known=["sex"])
