"""Which of two known numbers are equal tells whether a third one, unknown, equals them."""

import numpy as np
import pandas as pd
import pytest

from sktvae import QuantileCodec
from sktvae._encoding.ties import Source, Tie, contradicted
from tests.conftest import small
from tests.encoding.test_ties import N, amounts, share_equal


def star(rng):
    """Both b and c equal a in the same half of the rows."""
    is_same, a = rng.random(N) < 0.5, amounts(rng)
    return {"a": a} | {name: np.where(is_same, a, amounts(rng)) for name in "bc"}


def chain(rng):
    """A half of b equals a, and, independently, a half of c equals b."""
    a = amounts(rng)
    b = np.where(rng.random(N) < 0.5, a, amounts(rng))
    return {"a": a, "b": b, "c": np.where(rng.random(N) < 0.5, b, amounts(rng))}


@pytest.fixture(
    scope="module", params=[(star, "a", "bc"), (chain, "b", "ac")], ids=["star", "chain"]
)
def third(request):
    """A table, a model, the column to be imputed, and the two that are known."""
    columns, hidden, known = request.param
    X = pd.DataFrame(columns(np.random.default_rng(0)))
    model = small(epochs=20, conditional=True, early_stopping=False).fit(X)
    ties = {"b": ["a"], "c": ["a" if hidden == "a" else "b"]}
    assert model.encoder_.ties_ == ties
    return X, model, hidden, *known


def test_a_draw_equals_two_equal_numbers(third):
    X, model, hidden, one, other = third
    rows = X[X[one] == X[other]]
    filled = model.impute(rows.assign(**{hidden: np.nan}), random_state=0)
    assert share_equal(filled, hidden, one) > 0.95


def test_a_draw_equals_one_of_two_numbers_as_often_as_in_the_table(third):
    X, model, hidden, one, other = third
    rows = X[X[one] != X[other]]
    filled = model.impute(rows.assign(**{hidden: np.nan}), random_state=0)
    for known in (one, other):
        assert abs(share_equal(filled, hidden, known) - share_equal(rows, hidden, known)) < 0.1


def test_quantiles_are_those_of_the_table(third):
    X, model, hidden, one, other = third
    levels = np.linspace(0.01, 0.99, 50)
    for rows in (X[X[one] == X[other]].head(300), X[X[one] != X[other]].head(300)):
        found = model.conditional_quantile(rows, hidden, levels)
        for known in (one, other):
            share = (found == rows[[known]].to_numpy()).mean()
            assert abs(share - share_equal(rows, hidden, known)) < 0.1


def test_a_mean_is_what_draws_average_to(third):
    X, model, hidden, one, other = third
    rows = X[X[one] != X[other]].head(12).reset_index(drop=True)
    many = rows.loc[np.repeat(rows.index, 300)].assign(**{hidden: np.nan})
    draws = model.impute(many, random_state=0)[hidden].to_numpy().reshape(12, -1)
    off = model.conditional_mean(rows, hidden) - draws.mean(axis=1)
    assert np.mean(np.abs(off) / draws.std(axis=1)) < 0.25


def test_codes_of_a_chain_that_contradict_known_numbers():
    codec = QuantileCodec().fit(amounts(np.random.default_rng(0)))
    a, c = np.array([5.0, 5, 5, 5, 5, 5, 5]), np.array([5.0, 5, 5, 7, 7, 7, np.nan])
    kept = {0: (np.ones(7, dtype=bool), a), 2: (~np.isnan(c), c)}
    wrong = lambda ties, of_b, of_c: contradicted(
        ties, [codec] * 3, {1: np.array(of_b), 2: np.array(of_c)}, kept
    ).tolist()
    ties = {1: Tie(1, (Source(0),)), 2: Tie(2, (Source(1),))}
    assert wrong(ties, [1, 1, 0, 1, 0, 1, 1], [1, 0, 1, 1, 1, 0, 1]) == [1, 2, 3]
    # If c may follow from a, its being equal to it does not say that b is.
    ties[2] = Tie(2, (Source(1), Source(0)))
    assert wrong(ties, [1, 1, 0, 1, 0, 1, 0], [1, 2, 2, 1, 1, 0, 0]) == [3]
    assert wrong(ties, [0, 1, 0, 0, 0, 0, 0], [1, 0, 0, 2, 0, 1, 0]) == [0, 1, 2, 3]
    # A number of b that is known is not implied, and one that is known to be missing neither.
    ties[2] = Tie(2, (Source(1),))
    kept[1] = np.ones(7, dtype=bool), np.array([np.nan, np.nan, 5, 7, 7, 8, 7])
    assert wrong(ties, [0, 1, 1, 0, 0, 0, 0], [0, 1, 1, 1, 1, 0, 0]) == []
