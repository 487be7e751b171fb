"""Rows given conditions, imputation and conditional distributions, through the public API."""

import datetime
import pickle
import warnings
from decimal import Decimal

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.base import clone

from sktvae import (
    XU2019,
    FixedCombinations,
    LessEqual,
    SumOf,
    TableEncoder,
    TVAESynthesizer,
)
from sktvae._encoding.conditions import n_rows_wanted
from tests.conftest import small

Interval, Timestamp, Timedelta = pd.Interval, pd.Timestamp, pd.Timedelta
PARIS = "Europe/Paris"
N_DRAWN = 80


def at(text):
    return Timestamp(text, tz=PARIS)


def day(*date):
    return datetime.date(*date)


def quick(**params):
    """A fit of a moment: most tests here hold for a network that has learned next to nothing."""
    return small(**({"epochs": 2, "early_stopping": False, "conditional": True} | params))


def all_kinds(n=500, seed=0):
    """A column of every kind, named by it."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 3, n)
    days = [day(2020, 1, 1) + datetime.timedelta(int(d)) for d in rng.integers(0, 400, n)]
    cents = [Decimal(int(v)).scaleb(-2) for v in rng.integers(100, 9999, n)]
    frame = pd.DataFrame(
        {
            "whole": rng.integers(0, 60, n) + 20 * group,
            "price": rng.lognormal(2, 0.5, n).round(2),
            "real": rng.normal(group, 1, n),
            "spike": np.where(rng.random(n) < 0.5, 0.0, rng.exponential(5, n).round(1)),
            "few": rng.choice([1.0, 2.0, 5.0, 9.0], n),
            "nullable": pd.array(rng.integers(0, 5, n), dtype="Int64"),
            "flag": group == 1,
            "text": np.array(["a", "b", "c"])[group],
            "grade": pd.Categorical(
                np.array(["low", "mid", "high"])[rng.integers(0, 3, n)],
                ["low", "mid", "high", "never"],
                ordered=True,
            ),
            "zoned": (
                Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 7200, n), "h")
            ).tz_localize("UTC"),
            "day": pd.Series(days, dtype=object),
            "wait": pd.to_timedelta(rng.integers(0, 10_000, n), "s"),
            "cost": pd.Series(cents, dtype=object),
            "narrow": rng.normal(size=n).round(2).astype("float32"),
            "gap": np.where(rng.random(n) < 0.3, np.nan, rng.normal(size=n).round(1)),
            "word": np.where(rng.random(n) < 0.2, None, rng.choice(np.array(["x", "y"]), n)),
        }
    )
    frame["zoned"] = frame["zoned"].dt.tz_convert(PARIS)
    frame.loc[::7, "nullable"] = pd.NA
    return frame


@pytest.fixture(scope="module")
def kinds():
    return all_kinds()


@pytest.fixture(scope="module")
def model(kinds):
    """Not to be changed by a test."""
    return quick().fit(kinds)


def satisfied(column, condition):
    """Whether values as the user gets them satisfy a condition as the user states it."""
    if isinstance(condition, list):
        return np.any([satisfied(column, one) for one in condition], axis=0)
    if isinstance(condition, Interval):
        present = [value for value in column if not pd.isna(value)]
        if present and isinstance(present[0], Decimal):
            condition = Interval(float(condition.left), float(condition.right), condition.closed)
            return np.array([not pd.isna(v) and float(v) in condition for v in column])
        if present and type(present[0]) is datetime.date:
            column = [Timestamp(value) for value in column]
        return np.array([not pd.isna(value) and value in condition for value in column])
    if pd.isna(condition):
        return np.asarray(column.isna())
    return np.array([not pd.isna(value) and value == condition for value in column])


CONDITIONS = [
    ("whole", 33),
    ("whole", 33.0),
    ("whole", np.int8(7)),
    ("whole", Interval(10, 20)),
    ("whole", Interval(10, 20, "left")),
    ("whole", Interval(10, 12, "neither")),
    ("whole", Interval(10, 10, "both")),
    ("whole", Interval(9.3, 12.7)),
    ("whole", Interval(-np.inf, 5)),
    ("whole", Interval(70, np.inf, "left")),
    ("whole", Interval(-np.inf, np.inf)),
    ("whole", [3, Interval(10, 12), 47]),
    ("price", 5.55),
    ("price", 5.123456),
    ("price", Interval(5, 6, "both")),
    ("price", Interval(5.555, 5.565, "neither")),
    ("price", [6.0, 7.25, Interval(10, 11)]),
    ("real", 0.5),
    ("real", Interval(-0.1, 0.1)),
    ("real", Interval(0.5, 0.5000000001)),
    ("real", [0.25, 0.75]),
    ("spike", 0.0),
    ("spike", 3.33),
    ("spike", Interval(0, 5)),
    ("spike", Interval(0, 5, "left")),
    ("spike", Interval(0, 0, "both")),
    ("few", 2.0),
    ("few", 3.0),
    ("few", 3.3),
    ("few", Interval(2, 5, "neither")),
    ("few", Interval(2.1, 4.9)),
    ("few", [3.0, 5.0]),
    ("nullable", 2),
    ("nullable", pd.NA),
    ("nullable", None),
    ("nullable", [None, 1]),
    ("nullable", Interval(1, 3, "both")),
    ("flag", True),
    ("flag", np.False_),
    ("flag", [True, False]),
    ("text", "a"),
    ("text", ["a", "c"]),
    ("grade", "low"),
    ("grade", ["low", "high"]),
    ("zoned", at("2024-03-01 05:00")),
    ("zoned", Interval(at("2024-03-01"), at("2024-03-02"), "left")),
    ("zoned", [at("2024-03-01 05:00"), Interval(at("2024-05-01"), at("2024-05-03"))]),
    ("day", day(2020, 3, 1)),
    ("day", Interval(Timestamp(2020, 3, 1), Timestamp(2020, 3, 5))),
    ("day", [day(2020, 3, 1), day(2020, 9, 9)]),
    ("wait", Timedelta("1h")),
    ("wait", Interval(Timedelta("1h"), Timedelta("2h"), "neither")),
    ("cost", Decimal("12.34")),
    ("cost", Interval(10, 20)),
    ("cost", [Decimal("12.34"), Interval(50, 60)]),
    ("narrow", np.float32(0.1)),
    ("narrow", Interval(0, 0.5)),
    ("gap", 0.3),
    ("gap", np.nan),
    ("gap", [np.nan, Interval(0, 1)]),
    ("gap", Interval(0, 1, "left")),
    ("word", "x"),
    ("word", None),
    ("word", [None, "x"]),
]


@pytest.mark.parametrize(("name", "condition"), CONDITIONS, ids=lambda v: str(v)[:40])
def test_every_row_satisfies_its_condition(model, kinds, name, condition):
    rows = model.sample(N_DRAWN, conditions={name: condition})
    assert rows.shape == (N_DRAWN, kinds.shape[1])
    assert (rows.dtypes == kinds.dtypes).all()
    assert satisfied(rows[name], condition).all(), rows[name].unique()
    assert name == "real" or len(rows["real"].drop_duplicates()) > 1


@pytest.mark.parametrize(
    ("name", "condition", "n_different"),
    [
        ("whole", Interval(10, 20), 10),
        ("whole", Interval(-np.inf, np.inf), 50),
        ("real", Interval(-0.1, 0.1), 200),
        ("few", Interval(1, 9, "both"), 4),
        ("nullable", [None, 1], 2),
        ("text", ["a", "c"], 2),
        ("wait", Interval(Timedelta(0), Timedelta("1h")), 100),
    ],
    ids=str,
)
def test_a_range_is_filled(model, name, condition, n_different):
    """Not all rows may hold the same value of those that are accepted."""
    rows = model.sample(400, conditions={name: condition})
    assert len(rows[name].drop_duplicates()) >= n_different
    if n_different >= 100:  # and nothing piles up at the ends
        assert rows[name].value_counts().max() < 8


def test_several_conditions_hold_at_once(model):
    conditions = {
        "whole": Interval(20, 60),
        "text": ["a", "b"],
        "spike": 0.0,
        "gap": [None, Interval(-1, 0)],
        "zoned": Interval(at("2024-03-01"), at("2024-06-01")),
        "cost": Decimal("50.01"),
    }
    rows = model.sample(200, conditions=conditions)
    for name, condition in conditions.items():
        options = condition if isinstance(condition, list) else [condition]
        assert satisfied(rows[name], options).all(), name
    assert rows["gap"].isna().any() and rows["gap"].notna().any()


@pytest.mark.parametrize(
    "shares", [{"a": 0.25, "b": 0.75}, {("a", "b"): 0.5, "c": 0.5}, {"a": 1, "b": 0}], ids=str
)
def test_shares_are_met_exactly(model, shares):
    for n in (1, 7, 80):
        found = model.sample(n, conditions={"text": shares})["text"]
        for values, share in shares.items():
            assert abs(found.isin(list(values)).sum() - share * n) < 1
    largest = max(shares, key=shares.get)  # rows that are left over go to the largest remainders
    assert model.sample(1, conditions={"text": shares})["text"].isin(list(largest)).all()


def test_shares_of_several_columns_and_of_ranges(model):
    conditions = {
        "whole": {Interval(0, 9, "both"): 0.5, 50: 0.5},
        "flag": {True: 0.25, False: 0.75},
        "gap": {None: 0.1, Interval(0, 1): 0.9},
    }
    rows = model.sample(100, conditions=conditions)
    assert (rows["whole"] <= 9).sum() == (rows["whole"] == 50).sum() == 50
    assert rows["flag"].sum() == 25
    assert rows["gap"].isna().sum() == 10 and rows["gap"].dropna().between(0, 1).all()
    assert 0 < (rows["flag"] & (rows["whole"] == 50)).sum() < 25  # shuffled independently


# Tables of conditions


def test_row_i_of_a_table_conditions_row_i(model, kinds):
    given = kinds[["text", "nullable", "cost", "zoned", "word"]].iloc[::-1].head(60)
    rows = model.sample(conditions=given)
    assert list(rows.index) == list(range(60))  # the index of the conditions means nothing
    pd.testing.assert_frame_equal(rows[given.columns], given.reset_index(drop=True))
    assert rows["real"].nunique() > 50


def test_a_table_may_hold_ranges_and_lists(model):
    cells = [3, Interval(5, 9), [1, 2], 77, {61, 62}, range(50, 53), Interval(5, 9)]
    rows = model.sample(conditions=pd.DataFrame({"whole": cells, "text": list("abcabca")}))
    assert rows["text"].tolist() == list("abcabca")
    for value, cell in zip(rows["whole"], cells, strict=True):
        assert value == cell if isinstance(cell, int) else value in cell
    ages = pd.Series([3, 15, 25, 28])
    binned = pd.DataFrame({"whole": pd.cut(ages, [0, 10, 20, 30])})
    for table in (binned, binned.astype({"whole": "interval"}), binned.astype(object)):
        found = model.sample(conditions=table)["whole"]
        assert all(value in cell for value, cell in zip(found, binned["whole"], strict=True))


def test_lists_that_look_alike_are_told_apart(model):
    """The middle of long arrays is not part of their repr."""
    one, two = np.full(2000, 3), np.full(2000, 3)
    two[1000] = 40
    both = pd.DataFrame(
        {"whole": pd.Series([one] * 20 + [np.append(two[two == 40], two[:0])] * 20)}
    )
    found = model.sample(conditions=both)["whole"]
    assert (found[:20] == 3).all() and (found[20:] == 40).all()
    long = [np.r_[np.full(1500, 3), k, np.full(1500, 3)] for k in (40, 50)]
    mixed = model.sample(conditions=pd.DataFrame({"whole": pd.Series(long * 100)}))["whole"]
    assert not (mixed[::2] == 50).any() and not (mixed[1::2] == 40).any()


def test_many_cells_with_ranges_take_no_product_of_all(model):
    """Forty ranges in each of six columns: as many groups as rows, not 40 ** 6."""
    names = ["whole", "price", "real", "spike", "narrow", "gap"]
    ranges = [Interval(-1.0 - k / 100, 9.0, "both") for k in range(40)]
    rows = model.sample(conditions=pd.DataFrame({name: ranges for name in names}))
    assert len(rows) == 40 and (rows[names] <= 9).all(axis=None)


@pytest.mark.parametrize("make", [pl.DataFrame, pa.table, pd.DataFrame], ids=["pl", "pa", "pd"])
def test_conditions_in_any_kind_of_table(model, make):
    rows = model.sample(conditions=make({"whole": [3, 4, 33], "text": ["a", "c", "b"]}))
    assert isinstance(rows, pd.DataFrame)
    assert rows["whole"].tolist() == [3, 4, 33] and rows["text"].tolist() == ["a", "c", "b"]


@pytest.mark.parametrize("kind", ["polars", "arrow"])
def test_models_of_other_tables(kinds, kind):
    kept = kinds[["whole", "price", "flag", "text", "zoned", "wait", "gap", "word"]]
    arrow = pa.Table.from_pandas(kept, preserve_index=False)
    X = pl.from_arrow(arrow) if kind == "polars" else arrow
    fitted = quick(epochs=1).fit(X)
    to_pandas = lambda t: t.to_pandas()
    conditions = {
        "whole": [3, Interval(10, 12)],
        "price": Interval(5, 6),
        "flag": True,
        "text": ["a", "b"],
        "zoned": Interval(at("2024-03-01"), at("2024-03-05")),
        "wait": Interval(Timedelta("1h"), Timedelta("2h")),
        "gap": None,
        "word": [None, "x"],
    }
    rows = fitted.sample(50, conditions=conditions)
    assert type(rows) is type(X) and rows.schema == X.schema
    for name, condition in conditions.items():
        assert satisfied(to_pandas(rows)[name], condition).all(), name
    given = X.select(["zoned", "word", "whole"])[:20]
    again = fitted.sample(conditions=given)
    assert again.select(["zoned", "word", "whole"]).equals(given)
    proba = fitted.conditional_proba(X[:5], "zoned")
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert proba.columns[0].left.tzinfo is not None
    filled = fitted.impute(X[:40])
    assert type(filled) is type(X) and filled.schema == X.schema
    filled, X = to_pandas(filled), to_pandas(X[:40])
    assert not filled.isna().any(axis=None)
    pd.testing.assert_frame_equal(filled.where(X.notna()), X.where(X.notna()))


def test_models_of_arrays():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(0, 3, 300), rng.integers(0, 30, 300), rng.normal(size=300)])
    fitted = quick(epochs=1, categorical_features=[0]).fit(X)
    rows = fitted.sample(40, conditions={"x0": 1, "x1": Interval(3, 9)})
    assert isinstance(rows, np.ndarray)
    assert (rows[:, 0] == 1).all() and (rows[:, 1] > 3).all() and (rows[:, 1] <= 9).all()
    first = fitted.sample(conditions=X[:20, :1])  # the first columns of the table
    np.testing.assert_array_equal(first[:, 0], X[:20, 0])
    for known in (X[:4], np.delete(X[:4], 1, axis=1)):
        proba = fitted.conditional_proba(known, "x1")
        np.testing.assert_allclose(proba.sum(axis=1), 1)
    holes = X[:50].copy()
    holes[::3, 0], holes[1::3, 2] = np.nan, np.nan
    filled = fitted.impute(holes)
    assert isinstance(filled, np.ndarray) and not np.isnan(filled).any()
    np.testing.assert_array_equal(filled[~np.isnan(holes)], holes[~np.isnan(holes)])


def test_categories_that_are_intervals_or_tuples():
    X = pd.DataFrame(
        {"age": pd.cut(pd.Series([5, 15, 25] * 60), [0, 10, 20, 30]), "n": [1, 2, 3] * 60}
    )
    X["pair"] = pd.Series([("a", 1), ("b", 2), ("c", 3)] * 60, dtype=object)
    fitted = quick(epochs=1).fit(X)
    second = X["age"].cat.categories[1]
    assert (fitted.sample(20, conditions={"age": second})["age"] == second).all()
    assert set(fitted.sample(20, conditions={"pair": [("a", 1)]})["pair"]) == {("a", 1)}
    for names in (["age"], ["pair"], ["age", "n"]):
        rows = fitted.sample(conditions=X[names].head(9))
        pd.testing.assert_frame_equal(rows[names], X[names].head(9))


# Numbers of rows, seeds


def test_how_many_rows(model, kinds):
    assert len(model.sample(conditions={"whole": 3})) == 1
    assert len(model.sample(3, conditions={})) == 3
    empty = model.sample(0, conditions={"whole": 3})
    assert empty.shape == (0, kinds.shape[1]) and (empty.dtypes == kinds.dtypes).all()
    assert len(model.sample(conditions=kinds.head(0))) == 0
    assert len(model.sample(4, conditions=kinds[["text"]].head(4))) == 4
    for n in (1, 3, 0):
        with pytest.raises(ValueError, match=f"2 rows.*n_samples={n}. Omit n_samples"):
            model.sample(n, conditions=kinds[["text"]].head(2))
    for n in (-1, 2.5, True, "3"):
        with pytest.raises(ValueError, match="n_samples must be an integer >= 0"):
            n_rows_wanted(n, {})


def test_all_columns_known(model, kinds):
    given = kinds.dropna().head(30)
    given = given[given["whole"] < 90].reset_index(drop=True)
    pd.testing.assert_frame_equal(model.sample(conditions=given), given)


def test_the_rows_of_fit_are_conditions(model, kinds):
    """Their extremes are beyond the range that fit keeps: there is a warning, and they stay."""
    with pytest.warns(UserWarning, match="'whole': 99 is outside the range .* 0 to 98, and counts"):
        rows = model.sample(conditions=kinds)
    pd.testing.assert_frame_equal(rows, kinds)
    with pytest.raises(ValueError, match="'whole': 1000 is outside"):
        model.sample(conditions=pd.DataFrame({"whole": [3, 1000]}))


def test_seeds(model):
    draw = lambda seed: model.sample(40, conditions={"whole": Interval(5, 50)}, random_state=seed)
    pd.testing.assert_frame_equal(draw(1), draw(1))
    assert not draw(1).equals(draw(2))
    pd.testing.assert_frame_equal(draw(None), draw(None))  # the model's own is a number
    assert not draw(np.random.RandomState(0)).equals(draw(None))


# Errors


@pytest.mark.parametrize(
    ("conditions", "error", "message"),
    [
        ({"nope": 1}, ValueError, "'nope' is not one of .*'whole'"),
        ({"whole": 10**6}, ValueError, "'whole': 1000000 is outside the range .* 0 to 98"),
        ({"whole": -3}, ValueError, "'whole': -3 is outside the range .* 0 to 98"),
        ({"whole": Interval(500, 600)}, ValueError, "'whole': the range from 500 to 600 is outs"),
        ({"whole": [3, 500]}, ValueError, "'whole': 500 is outside"),
        ({"whole": 40.5}, ValueError, "'whole' is int64 and cannot hold 40.5; .* 40"),
        ({"whole": [40.5, 41]}, ValueError, "'whole' is int64 and cannot hold 40.5"),
        ({"nullable": 2.5}, ValueError, "'nullable' is Int64 and cannot hold 2.5"),
        ({"cost": Decimal("9.999")}, ValueError, r"'cost' .* cannot hold Decimal\('9.999'\)"),
        ({"zoned": at("2024-03-01 05:30")}, ValueError, "'zoned' .* units of 1 h .*05:30"),
        ({"wait": [Timedelta("1ms")]}, ValueError, "'wait' .* cannot hold Timedelta"),
        ({"whole": Interval(10.2, 10.8)}, ValueError, "'whole' has no value between 10.2 and 10.8"),
        ({"whole": Interval(10, 11, "neither")}, ValueError, "'whole' has no value between"),
        ({"whole": None}, ValueError, "'whole': no value was missing in fit"),
        ({"text": [None, "a"]}, ValueError, "'text': no value was missing in fit"),
        ({"whole": "x"}, TypeError, "'whole' was a number in fit and holds 'x'"),
        ({"text": "z"}, ValueError, "'text': 'z' is not among .* 'a', 'b', 'c'"),
        ({"text": ["a", "z"]}, ValueError, "'text': 'z' is not among"),
        ({"text": Interval(0, 1)}, ValueError, "'text': Interval.* is not among .* 'a', 'b', 'c'"),
        ({"text": []}, ValueError, "'text': the list of values is empty"),
        ({"flag": "True"}, ValueError, "'flag': 'True' is not among .* False, True"),
        ({"grade": "never"}, ValueError, "'grade': 'never' is not among"),
        ({"zoned": at("2030-01-01")}, ValueError, "'zoned': 2030-01-01 .* range .* 2024-01-0"),
        ({"day": day(2040, 1, 1)}, ValueError, "'day': 2040-01-01 is outside .* to 2021-02"),
        ({"wait": Timedelta("9D")}, ValueError, "'wait': 9 days .* is outside .* 0 days"),
        ({"cost": Decimal(1000)}, ValueError, "'cost': 1000 is outside"),
        ({"text": {"a": 0.5}}, ValueError, "'text': the shares .* add up to 1"),
        ({"text": {"a": 1.5, "b": -0.5}}, ValueError, "'text': the shares .* >= 0"),
        ({"text": {"a": "x"}}, ValueError, "'text': the shares"),
        ({"text": {}}, ValueError, "'text': the shares"),
        (5, ValueError, "Expected 2D array"),
        ([{"whole": 3}], TypeError, "list of dicts"),
        (pd.Series([3], name="whole"), ValueError, "Series"),
        (pl.LazyFrame({"whole": [3]}), TypeError, "LazyFrame"),
    ],
    ids=lambda v: str(v)[:40],
)
def test_errors_name_the_column_and_what_was_seen(model, conditions, error, message):
    before = pickle.dumps(model)
    with pytest.raises(error, match=message):
        model.sample(3 if isinstance(conditions, dict) else None, conditions=conditions)
    assert pickle.dumps(model) == before


def test_a_table_with_a_column_twice(model, kinds):
    twice = pd.concat([kinds[["text"]], kinds[["text"]]], axis=1)
    with pytest.raises(ValueError, match="two columns 'text'"):
        model.sample(conditions=twice)


# Distributions


CONTINUOUS = ["whole", "price", "real", "spike", "nullable", "zoned", "day", "wait", "cost", "gap"]


@pytest.mark.parametrize("name", [*CONTINUOUS, "few", "flag", "text", "grade", "narrow", "word"])
def test_probabilities_sum_to_one(model, kinds, name):
    X = kinds.head(6).set_index(np.arange(6) * 10)
    proba = model.conditional_proba(X, name)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert (proba >= 0).all(axis=None) and list(proba.index) == list(X.index)
    pd.testing.assert_frame_equal(proba, model.conditional_proba(X.drop(columns=name), name))
    if isinstance(proba.columns, pd.IntervalIndex):
        assert proba.columns.closed == "both" and proba.columns.is_monotonic_increasing
        drawn = model.sample(300, conditions={})[name].dropna()
        if name in ("day", "cost", "narrow"):
            drawn = drawn.map(
                {"day": Timestamp, "cost": float}.get(name, lambda v: round(float(v), 2))
            )
        found = [any(value in one for one in proba.columns) for value in drawn]
        assert all(found)


@pytest.mark.parametrize("name", [*CONTINUOUS, "few", "narrow"])
def test_quantiles_rise_and_lie_in_the_range(model, kinds, name):
    X = kinds.head(4)
    levels = [0, 0.01, 0.3, 0.5, 0.50001, 0.9, 1]
    quantiles = model.conditional_quantile(X, name, levels)
    assert quantiles.shape == (4, 7)
    for row in quantiles.tolist():
        assert row == sorted(row)
    bins = model.conditional_proba(X, name).columns
    for value in (quantiles.min(), quantiles.max()):
        value = Timestamp(value) if name == "day" else value
        assert bins[0].left <= value <= bins[-1].right
    one = model.conditional_quantile(X, name, 0.5)
    assert one.tolist() == quantiles[:, 3].tolist()
    means = model.conditional_mean(X, name)
    assert means.shape == (4,)
    for low, mean, high in zip(quantiles[:, 0], means, quantiles[:, -1], strict=True):
        assert low <= mean <= high


def test_distributions_are_those_of_draws(model, kinds):
    """With all other columns known, where nothing depends on an order."""
    row = kinds.iloc[[3]]
    assert not row.isna().any(axis=None)  # in a table of conditions it would be known to be missing
    n = 4000
    for name in ("text", "grade", "few", "whole", "real", "spike", "nullable"):
        others = pd.concat([row.drop(columns=name)] * n)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an untrained model may find the row unlikely
            drawn = model.sample(conditions=others)[name].dropna()
        proba = model.conditional_proba(row, name).iloc[0]
        for outcome, p in proba.items():
            is_it = [v in outcome if isinstance(outcome, Interval) else v == outcome for v in drawn]
            assert abs(np.mean(is_it) - p) < 4.5 * np.sqrt(p / len(drawn)) + 1e-3, (name, outcome)
        if name in ("few", "whole", "real", "spike", "nullable"):
            drawn = drawn.astype(float)
            error = 4.5 * drawn.std() / np.sqrt(len(drawn))
            assert abs(model.conditional_mean(row, name)[0] - drawn.mean()) < error
            for q in (0.1, 0.5, 0.9):
                found = model.conditional_quantile(row, name, q)[0]
                assert (drawn < found - 1e-9).mean() <= q + 0.04
                assert (drawn <= found + 1e-9).mean() >= q - 0.04


def test_a_limit_gives_the_conditional_of_the_rest(model):
    """Frequencies within a range are those in a wider one, of the rows that lie in the first.

    Both draw the limited column first: what is drawn last may differ, the less is learned.
    """
    condition = Interval(0, 40)
    free = model.sample(20_000, conditions={"whole": Interval(-np.inf, np.inf)})
    free = free[free["whole"].isin(range(1, 41))]
    within = model.sample(6000, conditions={"whole": condition})
    for name in ("text", "grade"):
        one, two = (rows[name].value_counts(normalize=True) for rows in (free, within))
        assert (one - two.reindex(one.index)).abs().max() < 0.04
    assert abs(free["whole"].mean() - within["whole"].mean()) < 1


def test_errors_of_distributions(model, kinds):
    X = kinds.head(3)
    with pytest.raises(ValueError, match=r"'text' is encoded as a category.*conditional_proba"):
        model.conditional_mean(X, "text")
    with pytest.raises(ValueError, match="'flag' is encoded as a category"):
        model.conditional_quantile(X, "flag", 0.5)
    with pytest.raises(ValueError, match="'nope' is not one of"):
        model.conditional_proba(X, "nope")
    for q in (1.5, -0.1, [[0.5]], np.nan):
        with pytest.raises(ValueError, match="q must hold numbers in"):
            model.conditional_quantile(X, "whole", q)
    with pytest.raises(ValueError, match="feature names"):
        model.conditional_proba(X.drop(columns=["text", "real"]), "text")
    with pytest.raises(ValueError, match="'text': found unknown categories"):
        model.conditional_proba(X.assign(text="z"), "whole")


# Missing cells


def with_holes(kinds, share=0.25, seed=1):
    X = kinds.copy().astype({"whole": "Int64", "flag": "boolean"})
    holes = np.random.default_rng(seed).random(X.shape) < share
    for k, name in enumerate(X):
        X.loc[holes[:, k], name] = None if X[name].dtype == object else pd.NA
    return X


@pytest.mark.parametrize("strategy", ["draw", "mean", "median"])
def test_imputation_fills_what_is_missing_and_nothing_else(model, kinds, strategy):
    X = with_holes(kinds.head(120)).set_index(np.arange(120) // 2)
    was = X.copy(deep=True)
    filled = model.impute(X, strategy=strategy)
    pd.testing.assert_frame_equal(X, was)
    assert not filled.isna().any(axis=None)
    assert (filled.dtypes == X.dtypes).all() and filled.index.equals(X.index)
    observed = X.notna()
    for name in X:
        old, new = X[name][observed[name]], filled[name][observed[name]]
        assert [pickle.dumps(v) for v in old] == [pickle.dumps(v) for v in new], name
    for name in ("whole", "price", "gap", "zoned", "wait"):
        low, high = kinds[name].min(), kinds[name].max()
        assert filled[name].between(low, high).all()
    assert set(filled["day"].map(type)) == {datetime.date}
    assert set(filled["cost"].map(type)) == {Decimal}
    again = model.impute(X, strategy=strategy)
    pd.testing.assert_frame_equal(again, filled)


def test_the_bits_of_observed_cells_are_kept(kinds):
    """Numbers off the grid, beyond the range, negative zero, odd dtypes."""
    X = kinds[["price", "narrow", "whole", "text"]].copy()
    fitted = quick(epochs=1).fit(X)
    odd = pd.DataFrame(
        {
            "price": [1e9, -0.0, 3.14159265358979, np.nan],
            "narrow": np.array([0.1, -0.0, np.nan, 7e7], dtype="float32"),
            "whole": pd.array([-5, None, 10**9, 3], dtype="Int32"),
            "text": pd.Categorical(["a", "b", None, "b"], ["b", "a"]),
        }
    )
    filled = fitted.impute(odd)
    assert (filled.dtypes == odd.dtypes).all() and not filled.isna().any(axis=None)
    for name in ("price", "narrow"):
        shown = odd[name].notna()
        assert filled[name][shown].to_numpy().tobytes() == odd[name][shown].to_numpy().tobytes()
    assert filled["whole"].iloc[[0, 2, 3]].tolist() == [-5, 10**9, 3]
    assert filled["text"].iloc[[0, 1, 3]].tolist() == ["a", "b", "b"]


def test_several_draws(model, kinds):
    X = with_holes(kinds.head(40))
    draws = model.impute(X, n_draws=3)
    assert isinstance(draws, list) and len(draws) == 3
    assert not draws[0].equals(draws[1])
    pd.testing.assert_frame_equal(draws[0].where(X.notna()), draws[2].where(X.notna()))
    assert len(model.impute(X, n_draws=1)) == 1
    other = model.impute(X, random_state=5)
    assert not other.equals(draws[0])


def test_columns_and_rows_without_any_value(model, kinds):
    X = kinds.head(20).copy()
    X[["text", "whole", "cost"]] = np.nan  # whose dtype, float64, cannot hold texts
    X["flag"] = X["flag"].astype("boolean")
    X.iloc[3] = None
    filled = model.impute(X)
    assert not filled.isna().any(axis=None)
    assert set(filled["text"]) <= set("abc") and len(set(filled["text"])) > 1
    assert filled["whole"].between(0, 99).all()
    complete = kinds.dropna().head(5)
    pd.testing.assert_frame_equal(model.impute(complete), complete)


def test_median_and_mean_are_those_of_the_conditional_distribution(model, kinds):
    X = kinds.head(30).copy().astype({"whole": "Int64"})
    X["real"], X["spike"] = np.nan, kinds["spike"].head(30)
    median, mean = (model.impute(X, strategy=s)["real"] for s in ("median", "mean"))
    np.testing.assert_allclose(median, model.conditional_quantile(X, "real", 0.5))
    np.testing.assert_allclose(mean, model.conditional_mean(X, "real"))
    X["text"] = None
    found = model.impute(X, strategy="mean")["text"]
    proba = model.conditional_proba(X, "text")
    assert found.tolist() == proba.idxmax(axis=1).tolist()


def test_errors_of_imputation(model, kinds):
    X = with_holes(kinds.head(5))
    with pytest.raises(ValueError, match="strategy must be one of"):
        model.impute(X, strategy="mode")
    for n in (0, -1, 2.5):
        with pytest.raises(ValueError, match="n_draws must be an integer >= 1"):
            model.impute(X, n_draws=n)
    with pytest.raises(ValueError, match="needs strategy='draw'"):
        model.impute(X, n_draws=2, strategy="mean")
    with pytest.raises(ValueError, match="'text': found unknown categories"):
        model.impute(X.assign(text="z", whole=np.nan))
    with pytest.raises(ValueError, match="feature names"):
        model.impute(X.drop(columns="text"))


# Relations, keys and columns that are dropped


def related_table(n=400, seed=0):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame({"low": rng.integers(0, 50, n)})
    X["high"] = X["low"] + rng.integers(0, 20, n)
    X["city"] = rng.choice(["Oslo", "Rome", "Bari"], n)
    X["country"] = X["city"].map({"Oslo": "N", "Rome": "I", "Bari": "I"})
    X["a"], X["b"] = rng.integers(0, 10, n).astype(float), rng.integers(0, 10, n) / 2
    X["s"] = X["a"] + X["b"]
    X["key"] = [f"id{i}" for i in range(n)]
    X["junk"] = rng.normal(size=n)
    X["c"] = rng.choice(["u", "v"], n)
    return X


@pytest.fixture(scope="module")
def related():
    encoder = TableEncoder(
        [("d", "drop", ["junk"])],
        relations=[
            LessEqual("low", "high"),
            FixedCombinations(["city", "country"]),
            SumOf("s", ["a", "b"]),
        ],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the key was taken for a key
        return quick(encoder=encoder).fit(related_table())


def assert_related(rows):
    assert (rows["low"] <= rows["high"]).all()
    np.testing.assert_allclose(rows["a"] + rows["b"], rows["s"])
    pairs = set(zip(rows["city"], rows["country"], strict=True))
    assert pairs <= {("Oslo", "N"), ("Rome", "I"), ("Bari", "I")}


@pytest.mark.parametrize(
    "conditions",
    [
        {"low": 30},
        {"low": Interval(10, 20)},
        {"low": 10, "high": 12},
        {"city": "Rome"},
        {"country": "I"},
        {"country": ["I", "N"]},
        {"city": ["Rome", "Oslo"], "country": "I"},
        {"city": "Rome", "country": "I"},
        {"city": {"Rome": 0.5, "Oslo": 0.5}},
        {"a": 3.0, "b": Interval(0, 2)},
        {"a": 3.0, "b": 2.0, "s": 5.0},
        {"c": "u", "country": "I", "low": [3, 4]},
    ],
    ids=str,
)
def test_relations_hold_with_conditions_on_their_columns(related, conditions):
    rows = related.sample(60, conditions=conditions)
    assert_related(rows)
    for name, condition in conditions.items():
        options = [*condition] if isinstance(condition, dict) else [condition]
        assert satisfied(rows[name], options).all()


def test_tables_of_conditions_on_columns_of_relations(related):
    X = related_table()
    for names in (["city"], ["country", "c"], ["city", "country"], ["low", "high"], ["low", "c"]):
        given = X[names].head(40)
        rows = related.sample(conditions=given)
        pd.testing.assert_frame_equal(rows[names], given)
        assert_related(rows)
    known = X.drop(columns=["key", "junk"]).head(20)
    pd.testing.assert_frame_equal(related.sample(conditions=known)[known.columns], known)


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"high": 30}, "'high' follows from LessEqual.* each of .'high', 'low'"),
        ({"low": 10, "high": Interval(1, 20)}, "'high' follows from LessEqual"),
        ({"low": 10, "high": 5}, "LessEqual.* does not hold"),
        ({"low": 10, "high": 300}, "'high': LessEqual.* a difference, and 290 is outside"),
        ({"s": 5.0}, "'s' follows from SumOf.* each of .'s', 'a', 'b'"),
        ({"a": 3.0, "b": 2.0, "s": 6.0}, "SumOf.* does not hold"),
        ({"city": "Rome", "country": "N"}, r"a combination, and \('Rome', 'N'\) is not among"),
        ({"city": ["Rome", "Bari"], "country": ["N"]}, "No combination .* 'city', 'country'"),
        ({"city": "Paris"}, "'city': 'Paris' is in no combination .* 'Bari', 'Oslo', 'Rome'"),
        ({"city": ["Rome", "Paris"]}, "'city': 'Paris' is in no combination"),
        ({"key": "id3"}, "'key' is a key.*Leave it out"),
        ({"key": ["id3", "id4"]}, "'key' is a key"),
        ({"junk": 0.5}, "'junk' is dropped.*Leave it out"),
        ({"junk": Interval(0, 1)}, "'junk' is dropped"),
    ],
    ids=lambda v: str(v)[:40],
)
def test_errors_of_related_and_unlearned_columns(related, conditions, message):
    with pytest.raises(ValueError, match=message):
        related.sample(5, conditions=conditions)


def test_distributions_of_related_and_unlearned_columns(related):
    X = related_table().head(5)
    for name in ("low", "high", "city", "country", "a", "s"):
        with pytest.raises(ValueError, match=f"'{name}' is tied to others by a relation"):
            related.conditional_proba(X, name)
    for name in ("key", "junk"):
        with pytest.raises(ValueError, match=f"'{name}' is"):
            related.conditional_proba(X, name)
    assert related.conditional_proba(X, "c").shape == (5, 2)


def test_imputation_of_related_columns(related):
    X = related_table().head(60).astype({"high": float})
    X.loc[::2, ["high", "s", "key", "junk"]] = np.nan
    X.loc[1::3, ["city", "country"]] = np.nan  # other rows know both, or only some of the rest
    with pytest.warns(UserWarning, match=r"'junk'\] are not learned"):
        filled = related.impute(X)
    assert_related(filled)
    assert not filled.drop(columns="junk").isna().any(axis=None)
    assert filled["junk"].isna().sum() == 30 and filled["key"].is_unique
    pd.testing.assert_frame_equal(filled.where(X.notna()), X)
    for name, label in (("city", "FixedCombinations"), ("low", "LessEqual"), ("a", "SumOf")):
        partly = related_table().head(9).astype({"low": float})
        partly.loc[4, name] = np.nan
        with pytest.raises(ValueError, match=f"{label}.* in row 4 only some of them are known"):
            related.impute(partly)


# What a trained network has learned


@pytest.fixture(scope="module")
def trained():
    """The last column is decided by the first, the second depends on it."""
    rng = np.random.default_rng(0)
    text = rng.choice(["a", "b", "c"], 1500)
    X = pd.DataFrame({"text": text, "x": rng.normal(np.where(text == "b", 8, 0), 1).round(1)})
    X["flag"] = text == "b"
    return small(epochs=20, early_stopping=False, weight_decay=0, conditional=True).fit(X)


def test_contradictions_are_said(trained):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained.sample(50, conditions={"text": "b", "flag": True})
        trained.sample(50, conditions={"text": ["a", "c"], "x": Interval(-5, 4)})
    for conditions in ({"text": "b", "flag": False}, {"text": ["b"], "flag": [False]}):
        with pytest.warns(UserWarning, match=r"\['text', 'flag'\] contradict .* in row 0"):
            _said(trained, conditions)


def _said(trained, conditions):
    """Draw, and turn the error of a combination that is all but impossible into a warning."""
    try:
        rows = trained.sample(20, conditions=conditions)
    except ValueError as error:
        warnings.warn(str(error), stacklevel=1)
        return
    for name, condition in conditions.items():
        assert satisfied(rows[name], condition).all()


def test_a_contradiction_late_in_a_table_is_said(trained):
    table = pd.DataFrame({"text": ["b"] * 1200, "flag": [True] * 1200})
    table.loc[1150, "flag"] = False
    with pytest.warns(UserWarning, match="contradict each other in row 1150"):
        try:
            trained.sample(conditions=table)
        except ValueError as error:
            warnings.warn(str(error), stacklevel=1)


def test_what_was_learned_is_used(trained):
    rows = trained.sample(300, conditions={"text": "b"})
    assert rows["flag"].mean() > 0.97 and abs(rows["x"].mean() - 8) < 0.6
    rows = trained.sample(300, conditions={"x": Interval(7, 11)})
    assert (rows["text"] == "b").mean() > 0.97 and rows["flag"].mean() > 0.97
    proba = trained.conditional_proba(pd.DataFrame({"text": ["b"], "x": [8.0]}), "flag")
    assert proba.loc[0, True] > 0.97
    X = pd.DataFrame({"text": ["b", None], "x": [np.nan, 0.3], "flag": [None, False]})
    filled = trained.impute(X, strategy="median")
    assert filled["flag"].tolist() == [True, False] and abs(filled["x"][0] - 8) < 1
    assert filled["text"][1] in ("a", "c")


@pytest.mark.parametrize("n_ill, seed", [(50, 0), (20, 3)])
def test_a_rare_category_tells_about_other_columns(n_ill, seed):
    rng = np.random.default_rng(seed)
    is_ill = np.arange(1000 + n_ill) >= 1000
    X = pd.DataFrame(
        {"a": rng.normal(2.0 * is_ill).round(2), "b": rng.normal(2.0 * is_ill).round(2)}
    )
    X["noise"] = rng.normal(size=len(X)).round(2)
    X["state"] = np.where(is_ill, "ill", "well")
    model = TVAESynthesizer(refit=False, random_state=0).fit(X)
    drawn = model.sample(2000, conditions={"state": "ill"})
    assert (drawn[["a", "b"]].mean() > 1).all()  # 2 in the table, and 0 where nothing is learned


# Configurations


def test_modes_take_values_and_say_what_they_do_not(kinds):
    X = kinds[["whole", "gap", "text"]]
    paper = TVAESynthesizer(**XU2019 | {"epochs": 1, "conditional": True}, random_state=0).fit(X)
    rows = paper.sample(50, conditions={"whole": 33, "text": ["a", "b"], "gap": None})
    assert (rows["whole"] == 33).all() and rows["gap"].isna().all()
    assert set(rows["text"]) == {"a", "b"}
    for condition in (Interval(1, 9), [1, 2]):
        with pytest.raises(ValueError, match=r"'whole': ModeCodec .* QuantileCodec"):
            paper.sample(5, conditions={"whole": condition})
    with pytest.raises(ValueError, match="'whole': 900 is outside the range"):
        paper.sample(5, conditions={"whole": 900})
    with pytest.raises(ValueError, match="'whole': ModeCodec gives no distribution"):
        paper.conditional_proba(X, "whole")
    assert not paper.impute(X.head(40)).isna().any(axis=None)
    with pytest.raises(ValueError, match="'gap': ModeCodec gives no distribution"):
        paper.impute(X.head(40), strategy="mean")


def test_a_model_that_has_not_learned_to_condition(kinds):
    X = kinds[["few", "text"]]
    plain = quick(conditional=False, epochs=1).fit(X)
    assert plain.any_order_ is None
    calls = [
        lambda m: m.sample(3, conditions={"text": "a"}),
        lambda m: m.impute(X),
        lambda m: m.conditional_proba(X, "text"),
        lambda m: m.conditional_mean(X, "few"),
        lambda m: m.conditional_quantile(X, "few", 0.5),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"Set conditional=True and fit it again\."):
            call(plain)
    del plain.any_order_  # as in a model of an older version
    for call in calls:
        with pytest.raises(ValueError, match="saved by an older version of sktvae; fit it again"):
            call(plain)
        with pytest.raises(ValueError, match="not fitted"):
            call(clone(plain))
    assert len(plain.sample(3)) == 3


def test_conditional_does_not_change_the_rest(kinds):
    X = kinds[["few", "text", "gap"]]
    one, two = (quick(conditional=c, epochs=1).fit(X) for c in (True, False))
    pd.testing.assert_frame_equal(one.sample(50), two.sample(50))
    np.testing.assert_array_equal(one.score_samples(X), two.score_samples(X))


def test_saved_models_answer_the_same(model, kinds, tmp_path):
    joblib.dump(model, tmp_path / "model.joblib")
    other = joblib.load(tmp_path / "model.joblib")
    conditions = {"whole": Interval(5, 50), "text": ["a", "b"]}
    one, two = (m.sample(40, conditions=conditions) for m in (model, other))
    pd.testing.assert_frame_equal(one, two)
    X = with_holes(kinds.head(20))
    pd.testing.assert_frame_equal(model.impute(X), other.impute(X))


def test_weights_count(kinds):
    """Rows of weight 0 are not learned, and the number of rows is that of the weights."""
    X = pd.DataFrame({"text": ["a"] * 200 + ["b"] * 200, "x": [1.0, 2.0] * 200})
    weight = np.r_[np.full(200, 3.0), np.zeros(200)]
    fitted = quick().fit(X, sample_weight=weight)
    assert fitted.any_order_.n_rows == 600
    with pytest.raises(ValueError, match="'b' is not among"):
        fitted.sample(3, conditions={"text": "b"})
    weight = np.r_[np.full(200, 9.0), np.ones(200)]
    heavy = small(epochs=10, early_stopping=False, conditional=True).fit(X, sample_weight=weight)
    proba = heavy.conditional_proba(X.head(2), "text")
    assert (proba["a"] > 0.8).all()


def test_a_warm_start_goes_on_with_the_network(kinds):
    X = kinds[["few", "text", "gap"]]
    fitted = quick(warm_start=True, epochs=1).fit(X)
    first = fitted.any_order_
    before = {name: p.clone() for name, p in first.network.named_parameters()}
    fitted.set_params(learning_rate=1e-12, calibrate=False, weight_decay=0.0).fit(X)
    assert fitted.any_order_ is not first
    for name, p in fitted.any_order_.network.named_parameters():
        np.testing.assert_allclose(p.detach(), before[name].detach(), atol=1e-6)
    for name, p in first.network.named_parameters():  # the first model's weights are not changed
        np.testing.assert_array_equal(p.detach(), before[name].detach())


def test_an_interruption_keeps_the_vae(kinds, monkeypatch):
    X = kinds[["few", "text"]]
    original = TVAESynthesizer._train

    def interrupted(self, vae, training, validation, seeds, epochs, any_order, watch):
        if any_order:
            raise KeyboardInterrupt
        return original(self, vae, training, validation, seeds, epochs, any_order, watch)

    monkeypatch.setattr(TVAESynthesizer, "_train", interrupted)
    with pytest.warns(UserWarning, match="interrupted while it learned to condition"):
        fitted = quick(epochs=1).fit(X)
    assert fitted.any_order_ is None and len(fitted.sample(3)) == 3
    with pytest.raises(ValueError, match=r"interrupted.*fit it again"):
        fitted.sample(3, conditions={"text": "a"})
