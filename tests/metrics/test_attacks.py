"""Attacks: membership, singling out, linkability, and the worst of all."""

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity

from sktvae import metrics
from sktvae.metrics._intervals import risk_of, wilson
from sktvae.metrics._membership import ROWS_IN_HAND, figures_of
from sktvae.metrics._singling_out import (
    Condition,
    _control_rate,
    _design_effect,
    holds,
    multivariate_predicates,
    univariate_predicates,
)
from sktvae.metrics._tables import read_tables
from tests.metrics.conftest import mixed


class Scores:
    """A model that gives rows the scores which a column of the table holds."""

    def __init__(self, column=0):
        self.column = column

    def score_samples(self, X):
        return np.asarray(X)[:, self.column]


# Membership with rows in hand


@pytest.mark.parametrize("attack", ROWS_IN_HAND)
def test_copies_of_training_rows_are_found(real, other, holdout, attack):
    found = metrics.membership_auc(
        real, holdout, real, attack=attack, X_reference=other, random_state=0
    )
    assert found.low > 0.55
    assert found.tpr_10 > 0.12


@pytest.mark.parametrize("attack", ROWS_IN_HAND)
def test_rows_of_the_same_distribution_tell_nothing(real, other, holdout, attack):
    found = metrics.membership_auc(real, holdout, other, attack=attack, random_state=0)
    assert abs(found.auc - 0.5) < 3 * found.standard_error


@pytest.mark.parametrize("attack", ["distance_ratio", "neighbourhood", "classifier"])
def test_reference_rows_may_be_given_or_taken_from_the_holdout(real, other, holdout, attack):
    given = metrics.membership_auc(
        real, holdout, real, attack=attack, X_reference=other, random_state=0
    )
    taken = metrics.membership_auc(real, holdout, real, attack=attack, random_state=0)
    assert min(given.low, taken.low) > 0.55


def test_a_row_of_the_reference_speaks_against_membership():
    """Rows that the attacker knows from elsewhere are no sign; the plain distance cannot know."""
    rng = np.random.default_rng(0)
    train, reference = rng.normal(size=(2, 300, 4))
    seen_by_both = np.concatenate([reference, train])  # the synthetic rows copy all of them
    plain = metrics.membership_auc(train, reference, seen_by_both, random_state=0)
    ratio = metrics.membership_auc(
        train, reference, seen_by_both, attack="distance_ratio", X_reference=reference,
        random_state=0,
    )  # fmt: skip
    assert plain.auc == 0.5 and ratio.auc > 0.99


@pytest.mark.parametrize("attack", sorted({*ROWS_IN_HAND} - {"distance"}))
def test_too_few_reference_rows_are_an_error(attack):
    rows = np.arange(6.0).reshape(3, 2)
    with pytest.raises(ValueError, match=r"at least two reference rows, got 1\. Pass X_reference"):
        metrics.membership_auc(rows, rows, rows, attack=attack, X_reference=rows[:1])


# Membership with the model in hand


def test_a_score_that_is_the_membership_finds_everybody():
    found = metrics.likelihood_membership(Scores(), np.ones((50, 1)), np.zeros((400, 1)))
    assert found.auc == found.tpr_1 == found.tpr_10 == 1
    assert found.tpr_1_low == pytest.approx(1 / (1 + 1.96**2 / 50), rel=1e-3)  # of 50 of 50
    equal = metrics.likelihood_membership(Scores(), np.ones((50, 1)), np.ones((400, 1)))
    assert equal.auc == 0.5 and equal.tpr_10 == pytest.approx(0.1)


def test_the_reference_removes_what_it_explains():
    """Some rows are likely under any model; that hides which were learned from."""
    rng = np.random.default_rng(0)
    easy = 10 * rng.normal(size=600)
    train, holdout = np.split(np.column_stack([easy, easy + rng.normal(size=600)]), [300])
    train[:, 1] += 3  # what the model has learned of its rows
    alone = metrics.likelihood_membership(Scores(1), train, holdout)
    calibrated = metrics.likelihood_membership(Scores(1), train, holdout, reference=Scores(0))
    assert alone.auc < 0.65 and calibrated.low > 0.95
    itself = metrics.likelihood_membership(Scores(1), train, holdout, reference=Scores(1))
    assert itself.auc == 0.5


def test_scores_that_are_no_numbers_are_an_error():
    with pytest.raises(ValueError, match="NaN for 1 rows of X_holdout, the first of which is row"):
        metrics.likelihood_membership(Scores(), np.ones((3, 1)), np.array([[0], [np.nan]]))
    with pytest.raises(ValueError, match="score_samples"):
        metrics.likelihood_membership(object(), np.ones((3, 1)), np.ones((3, 1)))


def test_impossible_rows_are_the_least_likely():
    found = metrics.likelihood_membership(Scores(), np.ones((9, 1)), np.full((9, 1), -np.inf))
    assert found.auc == 1


def test_true_positives_are_counted_at_the_rate_of_false_ones():
    others = np.arange(1000.0)
    members = np.array([2000.0] * 30 + [989.5] * 20 + [899.5] * 10 + [0.0] * 40)
    found = figures_of(members, others)
    # 30 lie above the 10 largest of the others and 20 more among these ten; 10 at the hundredth.
    assert found.tpr_1 == pytest.approx(0.5, abs=0.011)
    assert found.tpr_10 == pytest.approx(0.6, abs=0.011)
    assert found.tpr_1_low < 0.5 < found.tpr_1_high


def test_the_interval_of_the_auc_covers_the_truth():
    rng = np.random.default_rng(0)
    truth = 0.7602  # P(N(1, 1) > N(0, 1))
    covered = 0
    for _ in range(200):
        found = figures_of(rng.normal(1, 1, 80), rng.normal(0, 1, 120))
        covered += found.low <= truth <= found.high
    assert covered >= 184


# Singling out


@pytest.fixture(scope="module")
def tiny():
    train = pd.DataFrame(
        {"age": [20, 30, 30, 40, np.nan], "town": ["Bonn", "Bonn", "Rome", "Rome", "Oslo"]}
    )
    return read_tables(train=train)[0]


@pytest.mark.parametrize(
    "predicate, rows",
    [
        ([Condition(0, "==", 30)], [1, 2]),
        ([Condition(0, "<=", 30)], [0, 1, 2]),
        ([Condition(0, ">=", 30)], [1, 2, 3]),
        ([Condition(0, "missing", 0)], [4]),
        ([Condition(0, ">=", 30), Condition(1, "==", 1)], [2, 3]),
        ([Condition(0, "<=", 30), Condition(1, "==", 1)], [2]),
        ([Condition(0, "missing", 0), Condition(1, "==", 1)], []),
    ],
)
def test_predicates_hold_where_they_should(tiny, predicate, rows):
    assert tiny.categories[1].tolist() == ["Bonn", "Rome", "Oslo"]
    assert np.flatnonzero(holds(tuple(predicate), tiny)).tolist() == rows


def test_conditions_on_one_column_are_unique_values_and_ends(tiny):
    found = {predicate[0] for predicate in univariate_predicates(tiny)}
    assert found == {
        Condition(0, "==", 20), Condition(0, "==", 40), Condition(0, "<=", 20),
        Condition(0, ">=", 40), Condition(0, "missing", 0), Condition(1, "==", 2),
    }  # fmt: skip


def test_conditions_on_several_columns_hold_for_the_row_that_they_describe(real):
    (table,) = read_tables(real=real)
    drawn = multivariate_predicates(table, 3, np.random.RandomState(0))
    for _, predicate in zip(range(50), drawn, strict=False):
        assert len({condition.column for condition in predicate}) == 3
        assert holds(predicate, table).any()


@pytest.mark.parametrize("mode", ["univariate", "multivariate"])
def test_copies_single_out_and_independent_rows_do_not(mode):
    rng = np.random.default_rng(0)
    table = lambda n: pd.DataFrame(rng.normal(size=(n, 4)), columns=list("abcd")).assign(
        town=rng.choice(["Bonn", "Rome", "Oslo"], n)
    )
    train, other, holdout = table(400), table(400), table(400)
    copied = metrics.singling_out(train, train, holdout, mode=mode, random_state=0)
    assert copied.attack_rate == 1 and copied.low > 0.9
    fresh = metrics.singling_out(train, other, holdout, mode=mode, random_state=0)
    assert abs(fresh.risk) < 0.1 and fresh.low < 0 < fresh.high
    half = pd.concat([train[:200], other[:200]], ignore_index=True)
    partly = metrics.singling_out(train, half, holdout, mode="univariate", random_state=0)
    assert partly.risk == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("n_holdout", [100, 400, 3_000])
def test_the_size_of_the_holdout_does_not_matter(n_holdout):
    rng = np.random.default_rng(1)
    train, other, holdout = (pd.DataFrame(rng.normal(size=(n, 5))) for n in (400, 400, n_holdout))
    fresh = metrics.singling_out(train, other, holdout, random_state=0)
    assert abs(fresh.attack_rate - fresh.control_rate) < 0.07
    copied = metrics.singling_out(train, train, holdout, random_state=0)
    assert copied.risk == 1


def test_the_control_rate_is_that_of_as_many_rows_as_the_training_table_has():
    rng = np.random.default_rng(0)
    weights = rng.gamma(0.4, 0.002, 20_000)  # the probability that a row meets a condition
    truth = (rng.poisson(500 * weights) == 1).mean()
    few, many = rng.poisson(100 * weights), rng.binomial(2_000, np.minimum(weights, 1))
    assert _control_rate(few, 100, 500) == pytest.approx(truth, abs=0.03)
    assert (few == 1).mean() < truth - 0.05
    assert _control_rate(many, 2_000, 500) == pytest.approx(truth, abs=0.01)
    assert _control_rate(few, 100, 100) == pytest.approx((few == 1).mean())
    assert _control_rate(np.zeros(9, int), 100, 500) == 0


def test_conditions_that_the_same_rows_meet_tell_less():
    rng = np.random.RandomState(0)
    is_train = np.repeat([True, False], [1_000, 1_000])
    independent = csr_array((rng.rand(300, 2_000) < 0.001).astype(np.int64))
    assert _design_effect(independent, is_train, rng) < 2
    tenfold = csr_array(np.repeat(independent.toarray(), 10, axis=0))
    assert 6 < _design_effect(tenfold, is_train, rng) < 16


def test_a_table_without_unique_rows_cannot_be_attacked():
    table = pd.DataFrame({"a": ["x", "y"] * 20})
    found = metrics.singling_out(table, table, table, mode="univariate", random_state=0)
    assert found.n_attacks == 0 and np.isnan(found.risk)


# Linkability


def test_copies_are_linked_and_independent_rows_are_not(real, other, holdout):
    numbers = lambda seed: np.random.default_rng(seed).normal(size=(300, 6))
    train, fresh, held = numbers(0), numbers(1), numbers(2)
    copied = metrics.linkability(train, train, held, random_state=0)
    assert copied.attack_rate == 1 and copied.low > 0.9
    assert metrics.linkability(train, fresh, held, random_state=0).low < 0.01
    mixed_ = metrics.linkability(real, other, holdout, random_state=0)
    assert mixed_.low <= 0 < mixed_.high


def test_what_can_be_linked_for_everybody_is_no_leak():
    """A column and its copy link anybody to the same row; the control shows it."""
    rng = np.random.default_rng(0)
    tables = (pd.DataFrame({"a": x, "b": x}) for x in rng.normal(size=(3, 300)))
    found = metrics.linkability(*tables, columns=(["a"], ["b"]), random_state=0)
    assert found.attack_rate > 0.7 and found.control_rate > 0.7  # some ranks are equally near
    assert found.low < 0 < found.high


def test_chance_links_as_often_as_the_baseline_says():
    rng = np.random.default_rng(0)
    train, made, holdout = (pd.DataFrame(rng.normal(size=(n, 2))) for n in (4_000, 50, 10))
    found = metrics.linkability(
        train, made, holdout, columns=([0], [1]), n_neighbors=3, random_state=0
    )
    assert found.baseline_rate == pytest.approx(1 - (47 * 46 * 45) / (50 * 49 * 48))
    assert found.attack_rate == pytest.approx(found.baseline_rate, abs=0.03)


def test_rows_that_are_equally_near_are_drawn():
    """Otherwise the first of them would be found by both sets of columns."""
    rng = np.random.default_rng(0)
    train, made, holdout = (
        pd.DataFrame(rng.choice(list("ab"), (400, 2)), columns=["a", "b"]) for _ in range(3)
    )
    found = metrics.linkability(train, made, holdout, random_state=0)
    assert found.attack_rate < 0.05


def test_columns_must_be_two_sets_that_do_not_overlap(real, other, holdout):
    with pytest.raises(ValueError, match="must not be empty and must not overlap"):
        metrics.linkability(real, other, holdout, columns=(["age"], ["age", "city"]))
    with pytest.raises(ValueError, match="columns must be two lists of column names"):
        metrics.linkability(real, other, holdout, columns=["age"])
    with pytest.raises(ValueError, match="'sex' is not a column"):
        metrics.linkability(real, other, holdout, columns=(["age"], ["sex"]))


# Risks


def test_the_interval_of_a_risk_covers_the_truth():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        own, other = rng.binomial(200, 0.3) / 200, rng.binomial(400, 0.1) / 400
        found = risk_of((own, 200), (other, 400), 0.0)
        covered += found.low <= 0.2 / 0.9 <= found.high
    assert covered >= 276
    low, high = wilson(0.0, 100)
    assert low == pytest.approx(0) and high == pytest.approx(0.037, abs=0.001)


# All attacks


def test_the_worst_attack_is_named(real, other, holdout):
    copied = metrics.privacy_attacks(real, real, holdout, X_reference=other, random_state=0)
    assert copied["is_worst"].sum() == 1
    assert copied.loc[copied["is_worst"], "gain_low"].item() == copied["gain_low"].max()
    assert (copied.loc[copied["kind"] == "membership", "gain_low"] > 0.1).all()
    assert copied.loc["attribute inference", "gain_low"] > 0
    assert copied.loc["linkability", "gain_low"] > 0
    assert set(copied["needs"]) == {"rows"}


def test_nothing_is_found_in_rows_that_were_not_learned_from(real, other, holdout):
    fresh = metrics.privacy_attacks(real, other, holdout, random_state=0)
    assert (fresh["gain_low"] < 0.02).all()
    assert fresh["auc"].notna().sum() == 5


def test_a_model_is_attacked_too():
    rng = np.random.default_rng(0)
    train, reference, holdout = rng.normal(size=(3, 200, 3))
    one, two = (KernelDensity(bandwidth=0.1).fit(rows) for rows in (train, reference))
    attacks = metrics.privacy_attacks(
        train, one.sample(200, random_state=0), holdout,
        X_reference=reference, estimator=one, reference=two, random_state=0,
    )  # fmt: skip
    assert {"likelihood", "calibrated likelihood"} < set(attacks.index)
    assert attacks.loc["calibrated likelihood", "needs"] == "model and reference"
    drawn = attacks.loc["distance, more rows"]
    assert drawn["needs"] == "model" and drawn["auc"] > attacks.loc["distance", "auc"]


def test_a_model_whose_rows_cannot_be_drawn_with_a_seed_is_attacked_by_its_scores():
    rng = np.random.default_rng(0)
    train, holdout = rng.normal(size=(2, 60, 3))
    model = GaussianMixture(random_state=0).fit(train)
    attacks = metrics.privacy_attacks(
        train, model.sample(60)[0], holdout, estimator=model, random_state=0
    )
    assert set(attacks["needs"]) == {"rows", "model"}
    assert not any("more rows" in name for name in attacks.index)


def test_the_same_seed_gives_the_same_attacks(real, other):
    one, two = (
        metrics.privacy_attacks(real[:200], other[:200], mixed(300, 5), random_state=3)
        for _ in range(2)
    )
    pd.testing.assert_frame_equal(one, two)
