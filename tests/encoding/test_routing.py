"""Which codec a column gets, why, and what the user is told about it."""

import re
import uuid

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import StandardScaler

from sktvae import (
    CategoryCodec,
    FixedCombinations,
    KeyCodec,
    LessEqual,
    QuantileCodec,
    SumOf,
    TableEncoder,
)

RNG = np.random.default_rng(0)
NOTES = [f"Mrs A{i} of {i} Elm St" for i in range(400)]


def test_the_audit_trail():
    n = 80
    X = pd.DataFrame(
        {
            "id": [f"P{i:03d}" for i in range(n)],
            "begin": np.arange(n) % 11,
            "end": np.arange(n) % 11 + np.arange(n) % 3,
            "net": np.arange(n) % 13,
            "tax": np.arange(n) % 5,
            "gross": np.arange(n) % 13 + np.arange(n) % 5,
            "city": ["Rome", "Oslo"] * (n // 2),
            "land": ["IT", "NO"] * (n // 2),
            "zip": np.arange(n) % 7,
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(n) % 17, "D"),
            "age": np.arange(n) % 30,
            "gone": np.nan,
            "old": np.arange(n) % 4,
        }
    )
    encoder = TableEncoder(
        [("years", QuantileCodec(n_bins=5), ["age"]), ("off", "drop", ["old"])],
        relations=[
            LessEqual("begin", "end"),
            SumOf("gross", ["net", "tax"]),
            FixedCombinations(["city", "land"]),
        ],
        categorical_features=["zip"],
    )
    with pytest.warns(UserWarning, match="Column 'id' has a different value in each"):
        encoder.fit(X)
    trail = encoder.columns_
    assert list(trail.index) == list(X) and trail.index.name == "column"
    expected = {
        "id": ("category", "KeyCodec", "a different value in every row"),
        "begin": ("number", "QuantileCodec", "default for numbers"),
        "end": ("number", "QuantileCodec", "default for numbers"),
        "gross": ("number", "", "encoded by SumOf("),
        "city": ("category", "CategoryCodec", "default for categories"),
        "land": ("category", "", "encoded by FixedCombinations("),
        "zip": ("number", "CategoryCodec", "listed in categorical_features"),
        "day": ("datetime", "QuantileCodec", "default for numbers and times"),
        "age": ("number", "QuantileCodec", "named by 'years'"),
        "gone": ("number", "CategoryCodec", "holds no value"),
        "old": ("number", "DropCodec", "dropped: named by 'off'"),
    }
    for name, (kind, codec, reason) in expected.items():
        row = trail.loc[name]
        assert (row["kind"], row["codec"]) == (kind, codec), name
        assert row["reason"].startswith(reason), name
    named = ", ".join(filter(None, trail["encoded_as"]))
    assert named.split(", ") == list(encoder.get_feature_names_out())
    assert "CategoryCodec" in trail._repr_html_()


UUIDS = np.repeat([uuid.UUID(int=i) for i in range(200)], 2)


@pytest.mark.parametrize(
    ("column", "codec", "match"),
    [
        (np.repeat([f"P{i}" for i in range(200)], 2), CategoryCodec, r"not kept.*'id' \(200\)"),
        ([*NOTES[:399], NOTES[0]], CategoryCodec, r"not kept.*'id' \(399\)"),
        (np.where(np.arange(400) % 5 > 0, None, NOTES), CategoryCodec, r"not kept.*'id' \(80\)"),
        (pd.Categorical(NOTES), CategoryCodec, r"not kept.*'id' \(400\)"),
        (UUIDS, CategoryCodec, r"not kept.*'id' \(200\)"),
        (RNG.permutation(400), KeyCodec, "'id' has a different value in each.*a key"),
        (np.arange(400)[::-1], KeyCodec, "'id' has a different value in each.*a key"),
        ([*range(200), *range(201, 401)], KeyCodec, "'id' has a different value in each.*a key"),
        (NOTES, KeyCodec, "'id' has a different value in each.*a key"),
        (
            np.repeat([f"P{i}" for i in range(134)], 3)[:400],
            CategoryCodec,
            r"not kept.*'id' \(1\)",
        ),
        (
            np.repeat(RNG.choice(10**9, 200, replace=False), 2),
            QuantileCodec,
            "'id'.*looks like an identifier, of which samples hold made-up numbers",
        ),
        (
            RNG.choice(10**9, 400, replace=False),
            QuantileCodec,
            "'id'.*400 different integers.*an identifier, of which samples hold made-up numbers",
        ),
    ],
    ids=[
        "visits",
        "one duplicate",
        "mostly missing",
        "category",
        "uuids",
        "shuffled",
        "falling",
        "gap",
        "notes",
        "three visits",
        "repeated numbers",
        "record numbers",
    ],
)
def test_identifiers_are_warned_of(column, codec, match):
    X = pd.DataFrame({"id": column, "bp": RNG.normal(120, 10, 400).round()})
    with pytest.warns(UserWarning, match=match) as caught:
        encoder = TableEncoder().fit(X)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert isinstance(encoder.codecs_[0], codec)


@pytest.mark.parametrize(
    ("column", "match"),
    [
        (np.repeat([f"P{i}" for i in range(200)], 2), "200 different texts in 400 rows"),
        ([*NOTES[:399], NOTES[0]], "399 different texts"),
        (np.where(np.arange(400) % 5 > 0, None, NOTES), "80 different texts in 80 rows"),
        (pd.Categorical(NOTES), "400 different texts"),
        (UUIDS, "200 different texts in 400 rows"),
    ],
    ids=["visits", "one duplicate", "mostly missing", "category", "uuids"],
)
def test_identifiers_that_will_appear_in_samples_are_warned_of(column, match):
    """As they will without protection."""
    X = pd.DataFrame({"id": column, "bp": RNG.normal(120, 10, 400).round()})
    with pytest.warns(UserWarning, match=f"'id'.*{match}.*appear in samples") as caught:
        encoder = TableEncoder(min_samples=1).fit(X)
    assert len(caught) == 1 and caught[0].filename == __file__
    back = encoder.inverse_transform(encoder.transform(X))
    assert set(back["id"].dropna()) == set(X["id"].dropna())


@pytest.mark.parametrize("offender", [3.3000000000000003, 9.99e15])
def test_a_cell_that_spoils_the_decimals_is_warned_of(offender):
    X = pd.DataFrame({"price": np.round(RNG.lognormal(2, 1, 500), 2), "n": RNG.integers(0, 9, 500)})
    X.loc[7, "price"] = offender
    with pytest.warns(UserWarning, match=r"'price' has 2 decimal\(s\).*but holds.*round\(2\)"):
        TableEncoder().fit(X)


def test_products_of_prices_are_warned_of():
    X = pd.DataFrame({"n": RNG.integers(1, 9, 300), "price": RNG.uniform(1, 9, 300).round(2)})
    X["total"] = X["n"] * X["price"]
    assert (X["total"] != X["total"].round(2)).mean() > 0.02
    with pytest.warns(UserWarning, match=r"'total' has 2 decimal\(s\)"):
        TableEncoder().fit(X)


def test_the_advice_can_be_followed_for_several_columns(recwarn):
    X = pd.DataFrame({"note": [*NOTES[:399], NOTES[0]], "text": [*NOTES[:398], "a", "a"], "n": 1})
    TableEncoder(min_samples=1).fit(X)
    entries = [re.search(r"\('column \d+', codec, .*?\]\)", str(w.message))[0] for w in recwarn]
    assert len(entries) == 2
    advised = eval(f"TableEncoder([{', '.join(entries)}])", {"codec": "drop"} | globals())
    recwarn.clear()
    advised.fit(X)
    assert not recwarn


def test_the_advice_about_rare_categories_can_be_followed(recwarn):
    X = pd.DataFrame({"city": ["Rome"] * 300 + ["Oslo"] * 98 + ["Nice"] * 2, "n": 1})
    TableEncoder(min_samples=1).fit(X)
    TableEncoder([("own", CategoryCodec(), ["city"])]).fit(X)
    assert not recwarn
    encoder = TableEncoder().fit(X)
    (warning,) = recwarn
    message = "fewer than 3 rows are not kept.*'city' \\(1\\).*min_samples=1, or a CategoryCodec"
    assert re.search(message, str(warning.message)) and warning.filename == __file__
    assert encoder.columns_.loc["city", "reason"].endswith("; 1 rare category is not kept")


@pytest.mark.parametrize(
    "column",
    [
        RNG.normal(size=400),  # no grid at all
        RNG.integers(0, 300, 400),
        np.round(RNG.normal(size=400), 3),
        pd.date_range("2024-01-01", periods=400),
        np.repeat([f"city {i}" for i in range(100)], 4),
        np.where(RNG.random(400) < 0.99, RNG.integers(0, 50, 400), 0.5),
        RNG.lognormal(10, 1, 400).round(),
        RNG.lognormal(20, 1.5, 400).round(),
    ],
    ids=["float", "integer", "decimals", "days", "cities", "a half", "incomes", "revenues"],
)
def test_ordinary_columns_are_not_warned_of(column, recwarn):
    TableEncoder().fit(pd.DataFrame({"x": column, "y": 1}))
    assert not recwarn


def test_a_named_codec_silences_the_advice(recwarn):
    X = pd.DataFrame({"note": [*NOTES[:399], NOTES[0]], "row": RNG.permutation(400)})
    TableEncoder([("n", CategoryCodec(), ["note"]), ("r", QuantileCodec(), ["row"])]).fit(X)
    assert not recwarn


def test_codecs_say_what_they_do_not_take():
    X = pd.DataFrame({"word": ["a", "b"] * 30, "id": pd.Categorical(NOTES[:60])})
    with pytest.raises(ValueError, match=r"'word' is a category .*QuantileCodec cannot encode"):
        TableEncoder([("x", QuantileCodec(), ["word"])]).fit(X)
    X["number"] = [1, 2] * 30
    with pytest.raises(ValueError, match="'number' is learned as a combination of categories"):
        both = FixedCombinations(["number", "word"])
        TableEncoder([("x", QuantileCodec(), ["number"])], relations=[both]).fit(X)
    with pytest.raises(ValueError, match="'id' has the category dtype"):
        TableEncoder([("x", KeyCodec(), ["id"])]).fit(X)


def test_codecs_that_cannot_encode_a_column_are_refused_with_its_name():
    X = pd.DataFrame({"a": np.arange(60) % 7, "b": ["x", "y"] * 30})
    codec = CategoryCodec(max_categories=3, infrequent_label="other")
    with pytest.raises(ValueError, match="'a' is int64 and cannot hold infrequent_label='other'"):
        TableEncoder(numerical=codec).fit(X)
    with pytest.raises(TypeError, match=r"The codec 'scale' is StandardScaler.*must be 'drop' or"):
        TableEncoder([("scale", StandardScaler(), ["a"])]).fit(X)


def test_names_of_encoded_columns_do_not_collide():
    X = pd.DataFrame({"a": RNG.normal(size=400), "a__position": RNG.integers(0, 3, 400)})
    encoder = TableEncoder(numerical=QuantileCodec(4, 1)).set_output(transform="pandas").fit(X)
    names = list(encoder.get_feature_names_out())
    assert len(set(names)) == len(names) and list(encoder.transform(X).columns) == names


def test_relations_name_columns_in_lists():
    X = pd.DataFrame({"a": [1, 2], "b": [1, 2], "ab": [2, 4]})
    with pytest.raises(ValueError, match="needs a list of column names, got the text 'ab'"):
        TableEncoder(relations=[FixedCombinations("ab")]).fit(X)
    with pytest.raises(ValueError, match="needs a list of column names, got the text 'ab'"):
        TableEncoder(relations=[SumOf("ab", "ab")]).fit(X)


def test_a_named_codec_forgets_without_a_warning(recwarn):
    """Who names the codec has said what is to be kept."""
    X = pd.DataFrame({"job": ["clerk"] * 60 + ["cook"] * 60 + ["pope"]})
    encoder = TableEncoder([("job", CategoryCodec(min_samples=3), ["job"])]).fit(X)
    assert "pope" not in encoder.codecs_[0].categories_
    assert not recwarn
    with pytest.warns(UserWarning, match=r"'job' \(1\)"):
        TableEncoder().fit(X)
