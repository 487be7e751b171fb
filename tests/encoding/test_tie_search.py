"""The search for ties finds them in wide tables, and looks closely at few pairs of columns."""

import numpy as np
import pandas as pd
import pytest

from sktvae import QuantileCodec, TableEncoder
from sktvae._encoding.tie_search import _Neighbours

N = 3000


@pytest.fixture(scope="module")
def wide():
    """150 independent columns."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(rng.normal(size=(N, 150)).round(4)).rename(columns=lambda i: f"x{i}")


def test_ties_of_columns_that_are_far_from_each_other(wide):
    rng = np.random.default_rng(1)
    some = lambda share: rng.random(N) < share
    near = (wide["x3"] + rng.uniform(0.0002, 0.002, N)).round(4)
    X = wide.assign(
        x70=wide["x70"].mask(some(0.1), wide["x0"]),
        x100=wide["x100"].mask(some(0.3), 1 - wide["x69"]),
        x101=wide["x101"].mask(some(0.3), wide["x31"] - 0.5),
        x148=wide["x148"].mask(some(0.4), near),
        x149=wide["x149"].mask(some(0.3), wide["x148"]).mask(some(0.3), -wide["x64"]),
    )
    assert TableEncoder().fit(X).ties_ == {
        "x70": ["x0"],
        "x100": ["1 - x69"],
        "x101": ["x31 - 0.5"],
        "x148": ["about x3"],
        "x149": ["-x64", "x148"],
    }


def test_a_tie_may_rest_on_fewer_of_the_rows_that_are_looked_at():
    rng = np.random.default_rng(2)
    X = pd.DataFrame(rng.normal(size=(6000, 300)).round(4)).rename(columns=lambda i: f"x{i}")
    X.loc[X.index % 30 == 0, "x200"] = X["x100"]  # 200 rows, of which some 115 are looked at
    assert TableEncoder().fit(X).ties_ == {"x200": ["x100"]}


def test_columns_that_have_nothing_to_do_with_each_other_are_only_counted(wide, monkeypatch):
    """A search that takes the time of a fit is of no use; each of these calls sorts a column."""
    calls = []
    cdf = QuantileCodec.cdf
    monkeypatch.setattr(QuantileCodec, "cdf", lambda self, x: calls.append(1) or cdf(self, x))
    assert TableEncoder().fit(wide).ties_ == {}
    assert len(calls) < 30  # of 11,175 pairs, and of 3 per column that would be looked at


@pytest.mark.parametrize("distance", [0, 1, 2.5, 10, 100])
def test_neighbours_are_those_whose_rank_is_near(distance):
    rng = np.random.default_rng(0)
    ranks = np.sort(rng.integers(0, 30, 40).astype(float))
    own, others = rng.choice(ranks, 200), rng.integers(-3, 33, 200) / 1.0
    place = lambda x: np.searchsorted(ranks, x)
    expected = (np.abs(place(others) - place(own)) <= distance) & (others != own)
    np.testing.assert_array_equal(_Neighbours(ranks, own, distance).hold(others), expected)
    nothing = np.full(200, np.nan)
    assert not _Neighbours(ranks, own, distance).hold(nothing).any()
