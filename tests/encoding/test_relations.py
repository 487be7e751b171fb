import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sktvae import (
    CategoryCodec,
    FixedCombinations,
    KeyCodec,
    LessEqual,
    QuantileCodec,
    SumOf,
    TableEncoder,
)
from tests.conftest import small

CITIES = [("Rome", "IT"), ("Oslo", "NO"), ("Bari", "IT"), ("Nice", None)]


def drawn(encoder, n=200, seed=0):
    """Rows of random codes: whatever a network may give."""
    rng = np.random.default_rng(seed)
    sizes = [getattr(head, "n_categories", 0) for head in encoder.heads_]
    Z = np.column_stack([rng.integers(0, k, n) if k else rng.random(n) for k in sizes])
    return encoder.inverse_transform(Z)


def holds(rows):
    """Whether `low <= high` in all rows that have both."""
    both = rows.notna().all(axis=1)
    return bool((rows.loc[both, "low"] <= rows.loc[both, "high"]).all())


number = st.one_of(
    st.integers(-50, 50).map(float),
    st.integers(-5000, 5000).map(lambda cents: cents / 100),
    st.floats(-1e6, 1e6, allow_subnormal=False),
    st.just(np.nan),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(number, number), min_size=1, max_size=40), st.integers(0, 3))
@example([(0.0, 0.0), (1.0, 1.0), (-0.7500000000002283, 0.0)], 1)
@example([(0.0, np.nan), (113.70928317983635, np.nan), (1.0, 1.0)], 0)
def test_less_equal_holds_in_every_row(pairs, decimals):
    X = pd.DataFrame(pairs, columns=["low", "high"]).round({"high": decimals})
    X = X[~(X["low"] > X["high"])].reset_index(drop=True)
    if not len(X):
        return
    relations = [LessEqual("low", "high")]
    encoder = TableEncoder(relations=relations, min_samples=1).fit(X)
    back = encoder.inverse_transform(encoder.transform(X))
    span = np.nan_to_num(np.nanmax(np.abs(X.to_numpy()), initial=1))
    np.testing.assert_allclose(back["low"], X["low"], atol=1e-12 * span)
    # where low has no grid its own noise may put high one step up: the relation comes first
    same = ~(back["low"] != X["low"]) | X["low"].isna()
    np.testing.assert_allclose(back[same], X[same], atol=1e-12 * span)
    rows = drawn(encoder)
    assert holds(rows) and holds(back)
    present = X["high"].dropna()
    assert not rows["high"].max() > present.max()
    protected = TableEncoder(relations=relations).fit(X)
    assert holds(drawn(protected))
    assert holds(protected.inverse_transform(protected.transform(X)))
    if len(present) and decimals == 0:
        values = rows["high"].dropna()
        assert (values == values.round()).all()


@pytest.mark.parametrize("unit", ["s", "us"])
def test_less_equal_of_times(unit):
    rng = np.random.default_rng(0)
    low = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 10**7, 300), "s")
    high = (low + pd.to_timedelta(rng.integers(0, 90, 300), "D")).ceil("D")  # days and seconds
    X = pd.DataFrame({"low": low.as_unit(unit), "high": high.as_unit("s")})
    X.loc[::7, "high"] = pd.NaT
    X.loc[::5, "low"] = pd.NaT
    relations = [LessEqual("low", "high")]
    encoder = TableEncoder(relations=relations, min_samples=1).fit(X)
    pd.testing.assert_frame_equal(encoder.inverse_transform(encoder.transform(X)), X)
    rows = drawn(TableEncoder(relations=relations).fit(X))
    assert holds(rows) and (rows["high"].dropna() == rows["high"].dropna().dt.normalize()).all()
    assert rows["high"].max() <= X["high"].max()


def test_a_chain_in_any_order():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(np.sort(rng.integers(0, 100, (200, 3)), axis=1), columns=["a", "b", "c"])
    for relations in (
        [LessEqual("a", "b"), LessEqual("b", "c")],
        [LessEqual("b", "c"), LessEqual("a", "b")],
    ):
        encoder = TableEncoder(relations=relations, min_samples=1).fit(X)
        pd.testing.assert_frame_equal(encoder.inverse_transform(encoder.transform(X)), X)
        rows = drawn(TableEncoder(relations=relations).fit(X))
        assert (rows["a"] <= rows["b"]).all() and (rows["b"] <= rows["c"]).all()
    circle = [LessEqual("a", "b"), LessEqual("b", "a")]
    with pytest.raises(ValueError, match="in a cycle"):
        TableEncoder(relations=circle).fit(X.assign(b=X["a"]))


def test_fixed_combinations():
    rng = np.random.default_rng(0)
    X = pd.DataFrame([CITIES[i] for i in rng.integers(0, 4, 200)], columns=["city", "land"])
    X["zip"] = X["city"].map({"Rome": 100, "Oslo": 200, "Bari": 300, "Nice": np.nan})
    X["age"] = rng.integers(0, 90, 200)
    encoder = TableEncoder(relations=[FixedCombinations(["city", "land", "zip"])]).fit(X)
    pd.testing.assert_frame_equal(encoder.inverse_transform(encoder.transform(X)), X)
    combinations = lambda t: set(map(tuple, t[["city", "land", "zip"]].astype(str).to_numpy()))
    assert combinations(drawn(encoder)) == combinations(X)
    with pytest.raises(ValueError, match=r"'city': found unknown categories \[\('Rome', 'NO'"):
        encoder.transform(X.assign(city="Rome", land="NO"))


@pytest.mark.parametrize("dtype", ["int64", "float64", "Int64"])
def test_sums(dtype):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"net": rng.integers(0, 10**4, 300), "tax": rng.integers(0, 500, 300)})
    X = (X if dtype != "float64" else X / 100).astype(dtype)
    if dtype == "Int64":
        X.loc[::9, "tax"] = pd.NA
    X["gross"] = (X["net"] + X["tax"]).round(2)
    relations = [SumOf("gross", ["net", "tax"])]
    encoder = TableEncoder(relations=relations, min_samples=1).fit(X)
    Z = encoder.transform(X)
    pd.testing.assert_frame_equal(encoder.inverse_transform(Z), X)
    assert not any(name.startswith("gross") for name in encoder.get_feature_names_out())
    rows = drawn(TableEncoder(relations=relations).fit(X))
    expected = (rows["net"] + rows["tax"]).round(2)
    pd.testing.assert_series_equal(rows["gross"], expected, check_names=False)
    with pytest.raises(ValueError, match=r"SumOf\('gross'.*does not hold in 1 row.*row 4"):
        encoder.transform(X.assign(gross=X["gross"].where(X.index != 4, X["gross"] + 1)))


def test_relations_through_the_synthesizer():
    rng = np.random.default_rng(0)
    begin = rng.integers(1950, 2000, 400)
    X = pd.DataFrame({"begin": begin, "end": begin + rng.integers(0, 30, 400)})
    X["city"], X["land"] = zip(*[CITIES[i] for i in rng.integers(0, 4, 400)], strict=True)
    X["gain"], X["cost"] = rng.normal(size=400).round(2), rng.gamma(2, size=400).round(2)
    X["price"] = (X["gain"] + X["cost"]).round(2)
    relations = [
        LessEqual("begin", "end"),
        FixedCombinations(["city", "land"]),
        SumOf("price", ["gain", "cost"]),
    ]
    encoder = TableEncoder([("few", QuantileCodec(n_bins=8), ["end"])], relations=relations)
    synthesizer = small(encoder=encoder).fit(X)
    rows = synthesizer.sample(1000)
    assert list(rows) == list(X) and (rows.dtypes == X.dtypes).all()
    assert (rows["begin"] <= rows["end"]).all() and rows["end"].max() <= X["end"].max()
    cities = {(city, str(land)) for city, land in zip(X["city"], X["land"], strict=True)}
    assert {(c, str(land)) for c, land in zip(rows["city"], rows["land"], strict=True)} <= cities
    np.testing.assert_array_equal(rows["price"], (rows["gain"] + rows["cost"]).round(2))
    assert np.isfinite(synthesizer.score_samples(X)).all()
    assert synthesizer.encoder_.codecs_[1].n_bins == 8


@pytest.mark.parametrize(
    ("relations", "error", "match"),
    [
        (
            [LessEqual("a", "b")],
            ValueError,
            r"LessEqual\('a', 'b'\) does not hold in 1 row.*row 1: 3 > 2.*drop",
        ),
        ([LessEqual("a", "text")], ValueError, "'a' is a number and 'text' is a category"),
        ([LessEqual("a", "gone")], ValueError, "'gone', which is not a column of X"),
        ([SumOf("a", ["b", "text"])], ValueError, "'text' is a category"),
        ([SumOf("a", ["b", "half"])], ValueError, "'a' holds integers, but its parts"),
        ([SumOf("tiny", ["tiny_part", "tiny_rest"])], ValueError, "can hold as uint8"),
        (
            [LessEqual("small", "b"), SumOf("b", ["small"])],
            ValueError,
            "'b' is the target of two relations",
        ),
        ([FixedCombinations(["a"])], ValueError, "two columns or more"),
        (["a <= b"], TypeError, "relations holds 'a <= b'"),
    ],
)
def test_errors(relations, error, match):
    X = pd.DataFrame(
        {
            "a": [1, 3, 2],
            "b": [1, 2, 3],
            "small": [1, 2, 3],
            "half": [0.5, 1.5, 2.5],
            "text": ["x", "y", "z"],
            "tiny_part": np.array([200, 0, 1], dtype="uint8"),
            "tiny_rest": np.array([0, 100, 1], dtype="uint8"),
            "tiny": np.array([200, 100, 2], dtype="uint8"),
        }
    )
    encoder = TableEncoder().fit(X)
    encoder.set_params(relations=relations)
    with pytest.raises(error, match=match):
        encoder.fit(X)
    assert encoder.relations_ == []  # as the last good fit left it


def test_a_relation_and_a_codec_for_one_column():
    X = pd.DataFrame({"city": ["Rome", "Oslo"], "land": ["IT", "NO"], "n": [1, 2]})
    relations = [FixedCombinations(["city", "land"])]
    with pytest.raises(ValueError, match="'land' is given to the codec 'c', but a relation"):
        TableEncoder([("c", CategoryCodec(), ["land"])], relations=relations).fit(X)
    with pytest.raises(ValueError, match="'city' is part of a relation, so it cannot be dropped"):
        TableEncoder([("c", "drop", ["city"])], relations=relations).fit(X)


def test_a_sorted_column_in_a_relation_is_no_key():
    X = pd.DataFrame({"low": np.arange(100)})
    X["high"] = X["low"] + np.arange(100) % 5
    rows = drawn(TableEncoder(relations=[LessEqual("low", "high")]).fit(X))
    assert rows["low"].max() <= 99 and rows["high"].max() <= X["high"].max()
    codecs = [("key", KeyCodec(), ["low"])]
    with pytest.raises(ValueError, match="'low' is part of a relation, so it cannot be a key"):
        TableEncoder(codecs, relations=[LessEqual("low", "high")]).fit(X)


def test_high_is_missing_where_low_is_beyond_it():
    X = pd.DataFrame({"low": [*range(0, 200, 2), *[1000] * 9]})
    X["high"] = pd.array([*range(5, 205, 2), *[None] * 9], dtype="UInt8")
    rows = drawn(TableEncoder(relations=[LessEqual("low", "high")]).fit(X), 2000)
    assert holds(rows) and rows["high"].max() <= 203
    assert rows.loc[rows["low"] > 203, "high"].isna().all()


def test_sums_do_not_wrap_around():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.integers(50, 60, 100), "b": rng.integers(-50, 50, 100), "c": 90})
    X.loc[0, ["a", "b"]] = [0, 0]
    X["ab"] = (X["a"] + X["b"]).astype("uint8")
    with pytest.raises(
        ValueError, match=r"range from -\d\d to 108, more than 'ab' can hold as uint8"
    ):
        TableEncoder(relations=[SumOf("ab", ["a", "b"])]).fit(X)
    X["ab"] = X["ab"].astype("int64")
    X = X[X["ab"] <= 60]
    X["c"] = 195
    X["abc"] = (X["ab"] + X["c"]).astype("uint8")  # 255 at most, where 303 can be drawn
    chain = [SumOf("ab", ["a", "b"]), SumOf("abc", ["ab", "c"])]
    with pytest.raises(ValueError, match=r"'abc' is uint8, which cannot hold [23]\d\d"):
        drawn(TableEncoder(relations=chain).fit(X), 5000)


@pytest.mark.parametrize("label", ["xy", ""])
def test_a_label_for_rare_combinations_is_refused(label):
    X = pd.DataFrame({"city": ["Rome", "Oslo"] * 9, "land": ["IT", "NO"] * 9})
    codec = CategoryCodec(min_frequency=5, infrequent_label=label)
    relations = [FixedCombinations(["city", "land"])]
    with pytest.raises(ValueError, match=r"'city' is part of a relation.*infrequent_label"):
        TableEncoder([("c", codec, ["city"])], relations=relations).fit(X)
