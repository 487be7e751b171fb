"""Numbers near the largest and the smallest that a float can hold are numbers like others."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sktvae import LessEqual, QuantileCodec, SumOf, TableEncoder
from sktvae._encoding import outcomes
from sktvae._encoding.ties import Source, Tie, that_follow
from tests.conftest import small

N = 400
RNG = np.random.default_rng(0)
NORMAL, UNIFORM, AT = RNG.normal(size=N), RNG.uniform(-1, 1, N), np.arange(N)
LARGEST, SMALLEST = np.finfo(float).max, 5e-324
COLUMNS = {
    "1e300": NORMAL * 1e300,
    "1e307": NORMAL * 1e307,
    "whole range": UNIFORM * LARGEST,
    "half of the range": np.abs(UNIFORM) * LARGEST,
    "one 1e307": np.where(AT == 7, 1e307, NORMAL),
    "one 1.7e308": np.where(AT == 7, 1.7e308, NORMAL),
    "one -1.7e308": np.where(AT == 7, -1.7e308, NORMAL),
    "placeholders": np.select([AT % 4 == 1, AT % 4 == 2], [LARGEST, -LARGEST], NORMAL),
    "some at both ends": np.select([AT % 40 == 7, AT % 40 == 8], [1.7e308, -1.7e308], NORMAL),
    "smallest": np.round(NORMAL * 20) * SMALLEST,
    "one 5e-324": np.where(AT == 7, SMALLEST, NORMAL),
    "float32": (UNIFORM * 3.4e38).astype("float32"),
    "smallest float32": (np.round(NORMAL * 20) * 1.4e-45).astype("float32"),
    "one float32": np.where(AT == 7, np.finfo("float32").max, NORMAL).astype("float32"),
}


@pytest.mark.parametrize("min_samples", [1, 3])
@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_extreme_numbers_come_back(column, min_samples):
    """Also beside a column that is equal in a half of the rows."""
    other = np.where(AT % 2, column, RNG.permutation(column)).astype(column.dtype)
    X = pd.DataFrame({"x": column, "y": other})
    encoder = TableEncoder(min_samples=min_samples, random_state=0).fit(X)
    Z = encoder.transform(X)
    assert ((Z >= 0) & (Z < 2**16)).all()  # no NaN either
    Y = encoder.inverse_transform(Z)
    # But for those that share a cell with one that is far away, or are beyond the ends.
    assert np.isclose(Y["x"], X["x"], rtol=1e-5, atol=1e-300).mean() > 0.97
    assert np.isfinite(Y.to_numpy()).all() and np.isfinite(encoder.log_density(X)).all()
    assert not any("-" in label or "+ " in label for label in encoder.ties_.get("y", []))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=12),
    st.integers(1, 60),
    st.sampled_from([1, 3]),
)
@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_any_floats(values, n_rows, min_samples):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.choice(values, (n_rows, 2)), columns=["x", "y"])
    encoder = TableEncoder(min_samples=min_samples).fit(X)
    Z = encoder.transform(X)
    assert np.isfinite(Z).all() and np.isfinite(encoder.inverse_transform(Z)).all(axis=None)
    assert np.isfinite(encoder.log_density(X)).all()


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_neighbouring_floats_near_zero():
    x = np.array([-SMALLEST, 0.0])
    codec = QuantileCodec(min_samples=1).fit(x)
    assert np.abs(codec.inverse_transform(codec.transform(x)) - x).max() <= SMALLEST


@pytest.mark.parametrize("name", ["1e307", "whole range", "placeholders", "smallest"])
@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_samples_conditions_and_means_of_extreme_numbers(name):
    x = COLUMNS[name]
    X = pd.DataFrame({"x": x, "y": np.where(AT % 2, x, RNG.permutation(x))})
    model = small(epochs=1, conditional=True).fit(X)
    low, middle, high = np.sort(x)[[N // 4, N // 2, 3 * N // 4]]
    limits = pd.Interval(low, high, closed="both")
    rows = model.sample(200, conditions={"x": limits}, random_state=0)
    assert rows["x"].between(low, high).all() and np.isfinite(rows["y"]).all()
    assert rows["x"].nunique() > 10
    assert (model.sample(20, conditions={"x": middle})["x"] == middle).all()
    for strategy in ("draw", "mean", "median"):
        filled = model.impute(X.assign(y=np.nan), strategy=strategy)
        assert filled["y"].between(*model.encoder_.codecs_[1].ends).all()
    assert np.isfinite(model.score_samples(X)).all()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_quantiles_of_a_range_that_is_longer_than_a_float_can_hold():
    X = pd.DataFrame({"x": COLUMNS["whole range"]})
    codec = TableEncoder(min_samples=1).fit(X).codecs_[0]
    every = np.bincount(codec.bins_, codec.mass_)[None]
    levels = np.linspace(0.05, 0.95, 10)
    found = outcomes.quantile(codec, every, levels)[0]
    np.testing.assert_allclose(found / LARGEST, np.quantile(UNIFORM, levels), atol=0.05)
    atoms = outcomes.Atoms(np.array([[LARGEST / 2]]), np.array([[1.0]]))
    found = outcomes.quantile(codec, every, np.array([0.3, 0.6, 0.95]), atoms)[0]
    assert found[0] < found[1] == LARGEST / 2 < found[2]


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_single_cell_that_is_longer_than_a_float_can_hold():
    x = np.array([-0.95, 0.6, 0.7, 0.75, 0.8, 0.9]) * LARGEST
    codec = QuantileCodec().fit(x)
    assert len(codec.low_) == 1 and (codec.low_ < -LARGEST / 2).all()
    np.testing.assert_allclose(codec.inverse_transform(codec.transform(x)), x, atol=1e300)
    atoms = outcomes.Atoms(np.array([[0.3 * LARGEST]]), np.array([[0.5]]))
    levels = np.array([0.2, 0.6, 0.7])  # 65 % of the cell, which has a half of the mass, are below
    found = outcomes.quantile(codec, np.array([[0.5]]), levels, atoms)[0]
    assert -LARGEST < found[0] < 0 and (found[1:] == 0.3 * LARGEST).all()


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_numbers_that_would_follow_but_are_too_large():
    codec = QuantileCodec().fit(COLUMNS["whole range"])
    ties = {1: Tie(1, (Source(0, 1, 1e308, 1e299),))}
    known = np.array([-1e308, 0.0, 1.7e308])
    ((_, _, numbers),) = that_follow(ties, [codec] * 2, {0: (np.full(3, True), known)}, 1)
    np.testing.assert_array_equal(numbers, [0.0, 1e308, np.nan])


@pytest.mark.parametrize(
    ("relation", "message"),
    [
        (LessEqual("low", "high"), r"that of 1\.7e\+308 and -1\.7e\+308 in row 1 is more than a"),
        (SumOf("total", ["low", "low 2"]), "may range from -inf to .*Rescale the columns"),
    ],
)
def test_differences_and_sums_that_no_float_can_hold(relation, message):
    low = np.array([0.0, -1.7e308, 1.0] * 30)
    X = pd.DataFrame({"low": low, "low 2": low, "high": 1.7e308, "total": 0.0})
    X.loc[0, "high"] = 0.5
    with pytest.raises(ValueError, match=message):
        TableEncoder(relations=[relation]).fit(X)
