"""A whole private fit depends on the table through its mechanisms alone.

The mechanisms are made to release the same results for a table and for the same table with a row
more, which is unlike all others and comes first; then the saved models must not differ in one byte.
"""

import pickle
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from sktvae import DifferentialPrivacy, TableEncoder
from sktvae._privacy import budget, mechanisms, rows
from tests.conftest import small

N_ROWS = 400


class Released:
    """Mechanisms whose results are kept, and released again by a second fit."""

    def __init__(self, monkeypatch):
        self.before, self.kept = None, []
        monkeypatch.setattr(mechanisms, "_noisy", self.noisy)
        monkeypatch.setattr(mechanisms, "_threshold_measurement", self.threshold)
        monkeypatch.setattr(rows, "secrets", SimpleNamespace(randbits=lambda n_bits: 7))
        monkeypatch.setattr(rows, "_exact_noise", self.gradient)
        # The choice of the rows takes part of the random numbers, which must not shift the others.
        uniform = lambda n: torch.linspace(0, 1, n, dtype=torch.float64)
        monkeypatch.setattr(rows, "_uniform", uniform)
        self.gradients = []

    def noisy(self, counts, sigma):
        self.kept.append(np.asarray(counts, dtype=float))
        result = self.kept[-1] if self.before is None else self.before[len(self.kept) - 1]
        assert result.shape == self.kept[-1].shape
        return result, 0.1

    def threshold(self, sigma, delta):
        return lambda counts: {key: 90 for key, n in counts.items() if n > 30}, 0.1, delta

    def gradient(self, total, deviation):
        self.gradients.append(total.norm().item())
        return torch.full_like(total, 0.01)

    def again(self):
        self.before, self.kept, self.first = self.kept, [], self.gradients
        self.gradients = []


def model_of(X, **settings):
    promise = DifferentialPrivacy(5.0, n_steps=2, batch_size=100, secure_noise=True)
    brief = {"epochs": 1, "batch_size": 1000, "early_stopping": False}
    brief |= {"calibrate": True, "refit": True}
    return small(privacy=promise, **brief, **settings).fit(X)


def first(row, X):
    """The table with a row more, in front, and with the same dtypes."""
    return pd.concat([pd.DataFrame(row), X], ignore_index=True).astype(X.dtypes)


def pandas_tables():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "number": rng.normal(50, 9, N_ROWS).round(1),
            "byte": rng.integers(0, 100, N_ROWS).astype("int8"),
            "text": rng.choice(["x", "y"], N_ROWS),
            "category": pd.Categorical(rng.choice(["a", "b"], N_ROWS), ["a", "b", "only one"]),
            "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 300, N_ROWS), "D"),
            "Int64": pd.array(rng.integers(0, 9, N_ROWS), "Int64"),
        }
    )
    odd = {"number": [1.2345e8], "byte": [-128], "text": ["secret"], "category": ["only one"]}
    odd |= {"day": [pd.Timestamp("1950-01-01 01:02:03.000004")], "Int64": [pd.NA]}
    return X, first(odd, X)


def objects():
    """Objects that equal those of other rows, but do not look the same."""
    rng = np.random.default_rng(0)
    text = rng.choice(["x", "y"], N_ROWS).astype(object)
    flag = (rng.random(N_ROWS) < 0.5).astype(object)
    X = pd.DataFrame({"text": pd.Series(text, dtype=object), "flag": pd.Series(flag, dtype=object)})
    odd = np.array([np.str_("x"), np.True_], dtype=object)
    row = {name: pd.Series([value], dtype=object) for name, value in zip(X, odd, strict=True)}
    return X, first(row, X)


def arrays():
    text = np.random.default_rng(0).choice(["x", "yy"], (N_ROWS, 2))
    return text, np.vstack([["x", "a text that is longer than all others"], text])


def polars():
    pl = pytest.importorskip("polars")
    rng = np.random.default_rng(0)
    schema = {"count": pl.Int64, "flag": pl.Boolean, "kind": pl.Enum(["a", "b", "only one"])}
    X = pl.DataFrame(
        {
            "count": rng.integers(0, 9, N_ROWS),
            "flag": rng.random(N_ROWS) < 0.3,
            "kind": rng.choice(["a", "b"], N_ROWS),
        },
        schema=schema,
    )
    odd = pl.DataFrame({"count": [None], "flag": [None], "kind": ["only one"]}, schema=schema)
    return X, pl.concat([odd, X])


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("tables", [pandas_tables, objects, arrays, polars])
def test_a_saved_model_is_the_same_with_a_row_more(tables, monkeypatch):
    X, more = tables()
    released = Released(monkeypatch)
    one = model_of(X)
    released.again()
    other = model_of(more)
    assert released.gradients != released.first  # the row was learned
    assert pickle.dumps(one) == pickle.dumps(other)
    for hidden in (b"secret", b"only one"):  # neither of the rows nor of a dtype
        assert hidden not in pickle.dumps(other)
    a, b = one.sample(20), other.sample(20)
    assert a.equals(b) if hasattr(a, "equals") else a.dtype == b.dtype and (a == b).all()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_category_does_not_tell_the_sign_of_zero(monkeypatch):
    X = pd.DataFrame({"zero": np.repeat([0.0, 1.0], N_ROWS // 2), "text": ["x", "y"] * 200})
    more = first({"zero": [-0.0], "text": ["x"]}, X)
    released = Released(monkeypatch)
    encoder = TableEncoder(categorical_features=["zero"])
    one = model_of(X, encoder=encoder)
    released.again()
    assert pickle.dumps(one) == pickle.dumps(model_of(more, encoder=encoder))


def test_objects_whose_equals_may_look_different_are_refused():
    X = pd.DataFrame({"pair": pd.Series([(1,), (True,)] * 50, dtype=object)})
    with pytest.raises(TypeError, match=r"'pair'.*\(1,\).*astype\(str\)"):
        model_of(X)


def test_no_seed_makes_noise_or_the_choice_of_rows_come_back():
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)
        found.append((rows._uniform(50), rows._normal(51)))
    assert not torch.equal(found[0][0], found[1][0])
    assert not (found[0][1] == found[1][1]).any()


def test_noise_is_standard_normal():
    from scipy.stats import kstest

    noise = rows._normal(40_001).numpy()
    assert kstest(noise, "norm").pvalue > 1e-6
    halves = noise[:20_000], noise[20_001:]
    assert abs(np.corrcoef(*halves)[0, 1]) < 5 / np.sqrt(20_000)
    assert abs(np.corrcoef(np.square(halves))[0, 1]) < 5 / np.sqrt(20_000)
    uniform = rows._uniform(40_000).numpy()
    assert uniform.min() >= 0 and uniform.max() < 1
    assert kstest(uniform, "uniform").pvalue > 1e-6


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_ledger_says_what_was_done(monkeypatch):
    """Every noisy count and every step, with the noise that it had and from the noisy counts."""
    counted, keys, steps, asked = [], [], [], []
    noisy, threshold, train = (
        mechanisms._noisy,
        mechanisms._threshold_measurement,
        rows.train_privately,
    )
    monkeypatch.setattr(
        mechanisms, "_noisy", lambda n, sigma: counted.append(sigma) or noisy(n, sigma)
    )
    monkeypatch.setattr(
        mechanisms, "_threshold_measurement", lambda *a: keys.append(a) or threshold(*a)
    )
    monkeypatch.setattr(budget, "private_count", lambda n, s: (counted.append(s) or 300, None))

    def watched(network, batch, plan, *, mechanism, uniform, **others):
        asked.append(plan)
        own = lambda total, deviation: steps.append(deviation) or mechanism(total, deviation)
        train(network, batch, plan, mechanism=own, uniform=uniform, **others)

    monkeypatch.setattr(rows, "train_privately", watched)
    X = pandas_tables()[0][["number", "text"]]
    promise = DifferentialPrivacy(5.0, n_steps=2, batch_size=100)
    encoder = TableEncoder()
    learned = rows.private_rows(X, encoder, promise, torch.device("cpu"))
    ledger = pd.DataFrame(learned.ledger)
    # The table has 400 rows, and 300 are known of.
    assert asked[0].sampling_rate == ledger["sampling_rate"].iloc[-1] == 100 / 300
    assert asked[0].batch_size == pytest.approx(100)
    assert learned.delta == 1e-3  # of so few rows
    assert steps == [ledger["noise"].iloc[-1]] * 2 and ledger["times"].iloc[-1] == 2
    histograms = ledger["noise"].iloc[1:-1].tolist()
    assert ledger["noise"].iloc[0] == counted[0]
    assert {*counted[1:], *histograms} == {histograms[0]}
    # The missing values of the text have a bin of their own, in the histogram of its keys.
    assert len(histograms) == len(counted) - 1 + len(keys) - 1 == 5
    assert [sigma for sigma, _ in keys] == histograms[:2]
    booked = ledger["delta"].to_numpy()
    assert (booked > 0).sum() == len(keys) == 2
    assert booked.sum() <= 0.1 * learned.delta * (1 + 1e-9)


def test_noise_of_gradients_has_the_deviation_that_is_asked_for(monkeypatch):
    made = []
    monkeypatch.setattr(
        rows, "train_privately", lambda *a, mechanism, **others: made.append(mechanism)
    )
    known = SimpleNamespace(n_rows=300, for_training=lambda rate, n_steps: 2.0)
    network = SimpleNamespace(to=lambda device: None)
    for secure in (False, True):
        settings = DifferentialPrivacy(secure_noise=secure)
        rows._train(network, SimpleNamespace(to=lambda d: None), known, settings, "cpu", False)
        total = torch.linspace(-3, 3, 4000)
        assert (made[-1](total, 2.0) - total).std().item() == pytest.approx(2.0, rel=0.06)
