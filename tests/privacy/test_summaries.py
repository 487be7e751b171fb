"""Private summaries: what they cost, that they hold nothing else, and what they are worth."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp, norm

from sktvae import (
    CategoryCodec,
    DifferentialPrivacy,
    KeyCodec,
    LessEqual,
    ModeCodec,
    QuantileCodec,
    TableEncoder,
)
from sktvae._privacy.mechanisms import Histograms
from sktvae._privacy.summaries import PrivateSummaries


def private_of(X, sigma, settings=None, delta=1e-7):
    return PrivateSummaries(settings or DifferentialPrivacy(), sigma, delta, len(X))


def fit(X, sigma, settings=None, encoder=None, private=None):
    encoder = encoder or TableEncoder()
    private = private or private_of(X, sigma, settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        encoded = encoder.fit_encode(X, private=private)
    return encoder, encoded, private


def table(n, seed=0):
    """A table with many kinds of columns."""
    rng = np.random.default_rng(seed)
    hidden = lambda values, share: pd.Series(values).mask(rng.random(n) < share)
    day = pd.Timestamp("2021-03-01")
    return pd.DataFrame(
        {
            "year": rng.integers(2011, 2015, n),
            "date": day + pd.to_timedelta(rng.integers(0, 1461, n), "D"),
            "stamp": day + pd.to_timedelta((rng.random(n) * 3e8).round(), "ms"),
            "duration": pd.to_timedelta(rng.exponential(3600, n).round(), "s"),
            "normal": rng.normal(size=n),
            "price": rng.lognormal(3, 1, n).round(2),
            "tail": -rng.lognormal(0, 3, n),
            "constant": np.full(n, 7.5),
            "tiny": rng.normal(size=n) * 1e-12,
            "single": rng.random(n).astype("float32").round(3),
            "holes": hidden(rng.normal(50, 10, n), 0.5),
            "nothing": np.full(n, np.nan),
            "Int64": hidden(rng.poisson(3, n), 0.2).astype("Int64"),
            "byte": rng.integers(0, 256, n).astype("uint8"),
            "spike": np.where(rng.random(n) < 0.3, 0, rng.gamma(2, 3, n)),
            "boolean": hidden(rng.random(n) < 0.3, 0.2).astype("boolean"),
            "bool": rng.random(n) < 0.3,
            "category": pd.Categorical(rng.choice(list("abcd"), n, p=[0.6, 0.3, 0.09, 0.01])),
            "text": rng.choice(["x", "y", "z"], n),
            "arrow": pd.array(rng.choice(["x", "y", None], n), dtype="string[pyarrow]"),
            "day": pd.Series(day + pd.to_timedelta(rng.integers(0, 300, n), "D")).astype(
                "date32[pyarrow]"
            ),
        }
    )


class Recorded(Histograms):
    """Keeps what was counted and what was released; can release the same again."""

    def start(self, again=()):
        self.counted, self.released, self.again = [], [], list(again)
        return self

    def of_bins(self, column, what, bins, n_bins):
        assert bins.min() >= 0 and bins.max() < n_bins
        self.counted.append((column, what, pd.Series(bins).value_counts()))
        noisy = super().of_bins(column, what, bins, n_bins)
        self.released.append(self.again.pop(0) if self.again else noisy)
        return self.released[-1]

    def of_keys(self, column, what, keys, apart=None):
        counted = pd.Series(keys) if apart is None else pd.Series(keys).mask(apart, -1)
        self.counted.append((column, what, counted.value_counts()))
        noisy = super().of_keys(column, what, keys, apart)
        self.released.append(self.again.pop(0) if self.again else noisy)
        return self.released[-1]


def recorded_fit(X, sigma, settings=None, again=()):
    private = private_of(X, sigma, settings)
    private.n_rows = 700.0  # the noisy number of rows, which was released before
    private._histograms = Recorded(float(sigma), 1e-7).start(again)
    encoder, _, _ = fit(X, sigma, settings, private=private)
    return encoder, private._histograms


# What it costs


@pytest.mark.parametrize("sigma", [20.0, 300.0])
def test_as_many_histograms_are_made_as_were_planned(sigma):
    X = table(600)
    settings = DifferentialPrivacy(
        bounds={"normal": (-3, 3), "byte": (0, 255), "date": ("2021-01-01", "2026-01-01")},
        categories={"text": ["x", "y", "w"]},
    )
    for own in (DifferentialPrivacy(), settings):
        plan = PrivateSummaries.plan(TableEncoder().columns_to_learn(X), own)
        _, _, private = fit(X, sigma, own)
        assert len(plan) == len(private.releases)
        assert sum(m.has_unknown_keys for m in plan) == sum(r.delta > 0 for r in private.releases)
        of_each = pd.Series([m.column for m in plan]).value_counts()
        assert of_each.max() <= 4 and set(of_each.index) == set(X.columns)
        assert all(r.rho == pytest.approx(1 / (2 * sigma**2)) for r in private.releases)
        assert all(r.delta <= 1e-7 for r in private.releases)


@pytest.mark.parametrize("sigma", [20.0, pytest.param(1.0, marks=pytest.mark.slow)])
def test_a_row_changes_one_count_of_each_histogram_by_one(sigma):
    """Given the same results so far, as adaptive composition demands."""
    every = table(500)
    declared = DifferentialPrivacy(
        bounds={"tail": (-9, 0), "date": ("2021-01-01", "2022-01-01")},
        categories={"text": ["x", "y"]},
    )
    for X, settings in ((every, None), (every[["tail", "date", "text"]], declared)):
        _, one = recorded_fit(X, sigma, settings)
        _, other = recorded_fit(X.iloc[:-1], sigma, settings, again=one.released)
        assert [c[:2] for c in one.counted] == [c[:2] for c in other.counted]
        for (name, what, counts), (_, _, fewer) in zip(one.counted, other.counted, strict=True):
            assert counts.sum() == 500, (name, what)
            change = counts.sub(fewer, fill_value=0)
            assert change.abs().sum() == 1, (name, what)


# That they hold nothing else


@pytest.mark.parametrize("sigma", [20.0, pytest.param(1.0, marks=pytest.mark.slow)])
def test_an_encoder_follows_from_what_was_released(sigma):
    """A row more, with values that are nowhere else: the same releases give the same encoder."""
    X = table(800)
    X["category"] = X["category"].cat.add_categories("only one")
    X["count"] = np.arange(800)  # unique, and in order
    last = {
        **{"date": pd.Timestamp("1955-05-05 05:05:05.555"), "normal": 1.234567e9},
        **{"price": 0.123456789, "category": "only one", "text": "somebody", "count": 10**9},
    }
    more = pd.concat([X, X.iloc[[0]].assign(**last)], ignore_index=True).astype(X.dtypes)
    one, histograms = recorded_fit(X, sigma)
    other, _ = recorded_fit(more, sigma, again=histograms.released)
    assert pickle.dumps(one) == pickle.dumps(other)
    pd.testing.assert_frame_equal(one.columns_, other.columns_)
    for secret in (b"only one", b"somebody"):
        assert secret not in pickle.dumps(other)
        assert secret in pickle.dumps(TableEncoder(min_samples=1).fit(more[["category", "text"]]))


def test_rare_categories_are_nowhere_in_a_fitted_encoder():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"place": rng.choice(["north", "south"], 3000)})
    X.loc[7, "place"] = "Tristan da Cunha"
    X["same"] = X["place"].astype("category")
    encoder, encoded, _ = fit(X, 20.0)
    saved = pickle.dumps(encoder)
    assert b"north" in saved and b"Tristan" not in saved
    assert list(encoder.schema_.columns[1].storage.values) == ["north", "south"]
    drawn = encoder.decode(encoded.heads, encoded.n_samples)
    assert "Tristan da Cunha" not in set(drawn["place"]) | set(drawn["same"])


def test_routing_does_not_look_at_the_table():
    X = pd.DataFrame({"id": np.arange(500), "name": [f"n{i}" for i in range(500)]})
    with pytest.warns(UserWarning, match="key"):
        assert TableEncoder().fit(X[["id"]].assign(x=1.0)).codecs_[0].heads_ == ()
    encoder, _, _ = fit(X.assign(sum=X["id"] + 1), 2.0)
    assert isinstance(encoder.codecs_[0], QuantileCodec)
    assert encoder.suggestions_ == []
    assert "500" not in encoder.columns_.to_string()


# What they are worth


def drawn(encoder, private, n=20_000):
    """Codes drawn by their private frequencies, one column at a time, and decoded."""
    rng = np.random.default_rng(0)
    frequency, start, columns = private.frequencies(encoder).numpy(), 0, {}
    for name, column, codec in zip(
        encoder.schema_.names, encoder.schema_.columns, encoder.codecs_, strict=True
    ):
        n_codes = [getattr(head, "n_categories", 0) for head in codec.heads_]
        first = frequency[start : start + n_codes[0]].astype(float)
        start += sum(n_codes)
        heads = [rng.choice(len(first), n, p=first / first.sum())]
        assert len([k for k in n_codes if k]) == 1
        heads += [rng.random(n) for k in n_codes if not k]
        columns[name] = column.write(codec.decode(heads, n))
    return columns


@pytest.mark.parametrize("bounded", [False, True])
def test_with_little_noise_marginals_come_back(bounded):
    X = table(4000)
    settings = DifferentialPrivacy()
    if bounded:
        settings = DifferentialPrivacy(
            bounds={"normal": (-6, 6), "price": (0, 3000), "date": ("2020-01-01", "2026-01-01")},
            categories={"text": ["x", "y", "z"], "category": list("abcd")},
        )
    encoder, _, private = fit(X, 1.0, settings, TableEncoder(numerical=QuantileCodec(n_subbins=1)))
    made = drawn(encoder, private)
    for name, values in made.items():
        true = X[name]
        assert values.isna().mean() == pytest.approx(true.isna().mean(), abs=0.02), name
        if encoder.schema_.columns[encoder.schema_.names.index(name)].is_numeric:
            if true.notna().any():
                read = encoder.schema_.columns[encoder.schema_.names.index(name)].read
                both = [p[~np.isnan(p)] for p in (read(true), read(values))]
                assert ks_2samp(*both).statistic < 0.03, name
        else:
            a, b = (v.value_counts(normalize=True) for v in (true, values))
            assert a.sub(b, fill_value=0).abs().sum() / 2 < 0.02, name
        assert values.dtype == true.dtype or name == "category"
    assert encoder.codecs_[X.columns.get_loc("price")].decimals_ == 2
    assert encoder.schema_.columns[X.columns.get_loc("date")].unit == "D"
    assert encoder.schema_.columns[X.columns.get_loc("duration")].unit == "s"


def test_adult_at_the_noise_of_a_usual_budget(shared_data):
    X = pd.read_csv(shared_data / "adult_train.csv.gz")[
        ["age", "fnlwgt", "hours.per.week", "capital.gain", "education"]
    ]
    encoder = TableEncoder(numerical=QuantileCodec(n_subbins=1))
    _, _, private = fit(X, 70.0, encoder=encoder)
    made = drawn(encoder, private)
    for name in ("age", "fnlwgt", "hours.per.week", "capital.gain"):
        assert ks_2samp(X[name], made[name]).statistic < 0.045, name  # 0.01 of which is drawing
    # Noise decides whether a category near the threshold is kept; of the others, none is lost.
    real, kept = (v.value_counts(normalize=True) for v in (X["education"], made["education"]))
    near = 70.0 * (norm.isf(1e-7) + 5) / len(X)
    rare = real[real < near].index
    for each in (real, kept):
        each["rare"] = each[each.index.isin([*rare, "infrequent"])].sum()
    assert 0 < real["rare"] < 0.1
    for name in real.index.difference(rare):
        n_counts = len(rare) + 1 if name == "rare" else 1
        sd = np.hypot(np.sqrt(n_counts) * 70.0 / len(X), np.sqrt(real[name] / 20_000))
        assert abs(real[name] - kept[name]) < 5 * sd, name


def test_many_unknown_texts_share_a_label():
    X = pd.DataFrame({"text": ["often"] * 700 + [f"t{i}" for i in range(300)]})
    encoder, encoded, private = fit(X, 5.0)
    assert encoder.codecs_[0].categories_.tolist() == ["often"]
    counts = encoder.decode(encoded.heads, 1000)["text"].value_counts()
    assert counts.to_dict() == {"often": 700, "infrequent": 300}
    assert private.frequencies(encoder).tolist() == pytest.approx([0.7, 0.3], abs=0.05)


# Few rows


@pytest.mark.parametrize(("n", "sigma"), [(1, 50.0), (20, 200.0), (200, 70.0), (200, 5.0)])
def test_few_rows_give_coarse_codecs_and_no_error(n, sigma):
    X = table(n)
    encoder = TableEncoder()
    if sigma > 5:
        with pytest.warns(UserWarning, match=r"'text'.*Declare their bounds or categories"):
            encoded = encoder.fit_encode(X, private=private_of(X, sigma))
    else:
        _, encoded, _ = fit(X, sigma, encoder=encoder)
    back = encoder.decode(encoded.heads, n)
    assert list(back.columns) == list(X.columns)
    assert np.isfinite(encoder.log_density(X)).all()
    encoder.encode(table(50, seed=9))  # other values are encoded too


def test_a_warning_names_only_what_was_hidden():
    X = pd.DataFrame({"x": np.random.default_rng(0).normal(size=100), "b": [True, False] * 50})
    with pytest.warns(UserWarning, match=r"Columns \['x'\]"):
        TableEncoder().fit_encode(X, private=private_of(X, 200.0))
    settings = DifferentialPrivacy(bounds={"x": (-4, 4)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TableEncoder().fit_encode(X, private=private_of(X, 5.0, settings))


# What is declared


def test_numbers_beyond_declared_bounds_are_moved_to_them():
    X = pd.DataFrame({"x": np.append(np.random.default_rng(0).normal(size=3000), [1e6] * 300)})
    settings = DifferentialPrivacy(bounds={"x": (-2, 2)})
    encoder, encoded, private = fit(X, 3.0, settings)
    back = encoder.decode(encoded.heads, 3300)["x"]
    assert back.min() >= -2 - 1e-9 and back.max() <= 2 + 1e-9
    assert (back == 2).sum() >= 300  # a frequent value now
    assert private.releases[0].what == "decimals"


def test_short_ranges_of_integers_cost_one_histogram():
    X = pd.DataFrame({"age": np.random.default_rng(0).integers(17, 91, 2000)})
    encoder = TableEncoder()
    columns = encoder.columns_to_learn(X)
    assert len(PrivateSummaries.plan(columns, DifferentialPrivacy())) == 4
    settings = DifferentialPrivacy(bounds={"age": (0, 120)})
    assert len(PrivateSummaries.plan(columns, settings)) == 1
    _, _, private = fit(X, 2.0, settings, encoder)
    assert len(private.releases) == 1 and private.releases[0].delta == 0


def test_declared_categories_are_kept_and_others_are_infrequent():
    X = pd.DataFrame({"c": ["a"] * 500 + ["secret"] * 400 + ["b"]})
    settings = DifferentialPrivacy(categories={"c": ["a", "b", "never"]})
    encoder, encoded, private = fit(X, 5.0, settings)
    assert encoder.codecs_[0].categories_.tolist() == ["a", "b", "never"]
    assert private.releases[0].delta == 0
    back = encoder.decode(encoded.heads, 901)["c"]
    assert back.value_counts().to_dict() == {"a": 500, "infrequent": 400, "b": 1}
    assert b"secret" not in pickle.dumps(encoder)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"bounds": {"c": (0, 1)}}, "bounds names 'c', but this column is a category"),
        ({"categories": {"x": [1]}}, "categories names 'x', but this column is encoded as a"),
        ({"bounds": {"z": (0, 1)}}, "bounds names 'z', which is not a column that is learned"),
    ],
)
def test_what_is_declared_for_the_wrong_column_is_refused(declared, message):
    X = pd.DataFrame({"x": [1.5, 2.5], "c": ["a", "b"]})
    with pytest.raises(ValueError, match=message):
        PrivateSummaries.plan(TableEncoder().columns_to_learn(X), DifferentialPrivacy(**declared))


# What is refused


def test_what_is_learned_from_single_rows_is_refused():
    X = pd.DataFrame({"a": [1, 2, 3], "b": [2, 3, 4], "k": ["u", "v", "w"]})
    encoder = TableEncoder(relations=[LessEqual("a", "b")])
    with pytest.raises(ValueError, match=r"'b'.*takes no relations.*Omit it"):
        encoder.fit_encode(X, private=private_of(X, 1.0))
    with pytest.raises(ValueError, match=r"'k' has a KeyCodec.*'drop'"):
        TableEncoder([("key", KeyCodec(), ["k"])]).columns_to_learn(X)
    with pytest.raises(ValueError, match="sample_weight"):
        TableEncoder().fit_encode(X, np.ones(3), private=private_of(X, 1.0))
    objects = pd.DataFrame({"d": pd.Series([pd.Timestamp("2020-01-01")] * 3, dtype=object)})
    with pytest.raises(ValueError, match=r"'d' holds Python objects of type Timestamp"):
        TableEncoder().columns_to_learn(objects)


def test_dropped_columns_cost_nothing_and_may_hold_anything():
    X = pd.DataFrame({"x": [1.5, 2.5] * 100, "d": [pd.Timestamp("1999-09-09"), None] * 100})
    X["d"] = X["d"].astype(object)
    encoder = TableEncoder([("no", "drop", ["d"])])
    _, encoded, private = fit(X, 1.0, encoder=encoder)
    assert {r.column for r in private.releases} == {"x"}
    assert list(encoder.decode(encoded.heads, 200).columns) == ["x"]


def test_summaries_are_made_once():
    X = pd.DataFrame({"x": [1.5, 2.5] * 100})
    private = private_of(X, 1.0)
    fit(X, 1.0, private=private)
    with pytest.raises(RuntimeError, match="make new ones"):
        TableEncoder().fit_encode(X, private=private)


# Other codecs and containers


def test_other_codecs_learn_from_private_summaries_too():
    X = table(2000)[["normal", "year", "text"]]
    codecs = [("modes", ModeCodec(random_state=0), ["normal"]), ("own", CategoryCodec(), ["year"])]
    encoder, encoded, _ = fit(X, 2.0, encoder=TableEncoder(codecs, random_state=0))
    assert encoder.codecs_[1].categories_.tolist() == [2011, 2012, 2013, 2014]
    back = encoder.decode(encoded.heads, 2000)
    assert back["year"].equals(X["year"])
    assert np.corrcoef(back["normal"], X["normal"])[0, 1] > 0.95


def test_integers_as_categories_of_which_none_is_frequent():
    X = pd.DataFrame({"x": np.arange(50)})
    encoder = TableEncoder(categorical_features=["x"])
    _, encoded, _ = fit(X, 30.0, encoder=encoder)
    assert encoder.decode(encoded.heads, 50)["x"].dtype == X["x"].dtype


def test_polars_says_nothing_of_missing_values_and_of_rare_categories():
    polars = pytest.importorskip("polars")
    values = ["a", "b"] * 200 + ["nobody"]
    X = polars.DataFrame(
        {
            "e": polars.Series(values, dtype=polars.Enum(["a", "b", "nobody"])),
            "i": polars.Series(range(401)),
            "o": polars.Series([True, False] * 200 + [None]),
        }
    )
    without = X.head(400)
    one, histograms = recorded_fit(without, 3.0)
    other, _ = recorded_fit(X, 3.0, again=histograms.released)
    assert pickle.dumps(one) == pickle.dumps(other)
    assert b"nobody" not in pickle.dumps(other)
    assert isinstance(other.decode(fit(X, 3.0)[1].heads, 401), polars.DataFrame)


@pytest.mark.parametrize("sigma", [2.0, 40.0])
def test_numbers_and_times_at_the_ends_of_what_dtypes_hold(sigma):
    rng = np.random.default_rng(0)
    normal = rng.normal(size=600)
    X = pd.DataFrame(
        {
            "huge": normal * 1e300,
            "subnormal": normal * 1e-310,
            "wide": np.exp(30 * normal),
            "int64": rng.integers(-(2**53), 2**53, 600),
            "uint64": rng.integers(0, 2**50, 600).astype("uint64"),
            "int8": rng.integers(-128, 128, 600).astype("int8"),
            "neighbours": 1e17 + 16 * rng.integers(0, 3, 600),
            "far": np.array(["9999-12-31", "2020-01-01", "0001-01-01"], "M8[us]")[
                rng.integers(0, 3, 600)
            ],
        }
    )
    settings = DifferentialPrivacy(bounds={"neighbours": (1e17, 1e17)})
    for declared in (None, settings):
        encoder, encoded, _ = fit(X, sigma, declared)
        back = encoder.decode(encoded.heads, 600)
        assert (back.dtypes == X.dtypes).all()
        assert np.isfinite(encoder.log_density(X)).all()
    assert (back["neighbours"] == 1e17).all()
