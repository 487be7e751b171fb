"""Relations that hold in every row are found, and nothing else is suggested."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest

from sktvae import (
    FixedCombinations,
    LessEqual,
    QuantileCodec,
    SumOf,
    TableEncoder,
    suggest_relations,
)
from sktvae._encoding.suggestions import scan
from sktvae._table.schema import TableSchema
from tests.conftest import small

COUNTRIES = {"Bari": "Italy", "Oslo": "Norway", "Rome": "Italy"}


def stays(n=400, seed=0):
    """A table in which four relations hold, and others nearly do."""
    rng = np.random.default_rng(seed)
    admitted = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 300, n), "D")
    born = pd.Timestamp("1940-01-01") + pd.to_timedelta(rng.integers(0, 20_000, n), "D")
    X = pd.DataFrame(
        {
            "patient": [f"P{i:04d}" for i in range(n)],
            "born": born,
            "admitted": admitted,
            "discharged": admitted + pd.to_timedelta(rng.integers(0, 30, n), "D"),
            "city": rng.choice(list(COUNTRIES), n),
            "ward": rng.choice(["A", "B", "C"], n),
            "room": np.round(rng.gamma(3, 100, n), 2),
            "drugs": np.round(rng.gamma(2, 50, n), 2),
            "tests": np.round(rng.gamma(2, 30, n), 2),
            "first": rng.integers(0, 40, n),
        }
    )
    X["country"] = X["city"].map(COUNTRIES)
    X["bill"] = (X["room"] + X["drugs"] + X["tests"]).round(2)
    X["last"] = X["first"] + rng.integers(0, 20, n)
    return X


def as_code(relations):
    return {repr(relation) for relation in relations}


def test_what_holds_is_found_as_code_to_paste():
    X = stays()
    before = X.copy()
    found = suggest_relations(X)
    assert as_code(found) == {
        "LessEqual('admitted', 'discharged')",
        "LessEqual('first', 'last')",
        "FixedCombinations(['city', 'country'])",
        "SumOf('bill', ['room', 'drugs', 'tests'])",
    }
    pasted = eval(repr(found))
    pd.testing.assert_frame_equal(X, before)
    # All of them can be declared together, and then nothing is left to suggest.
    encoder = TableEncoder(relations=pasted).fit(X)
    assert as_code(encoder.relations_) == as_code(found)
    assert encoder.suggestions_ == []


@pytest.mark.parametrize(
    ("column", "value", "lost"),
    [
        ("discharged", pd.Timestamp("2023-06-01"), "LessEqual('admitted', 'discharged')"),
        ("last", -1, "LessEqual('first', 'last')"),
        ("country", "France", "FixedCombinations(['city', 'country'])"),
        ("bill", 0.01, "SumOf('bill', ['room', 'drugs', 'tests'])"),
    ],
)
@pytest.mark.parametrize("row", [0, 2345, 3999])
def test_one_row_that_breaks_a_relation_is_found_among_all(column, value, lost, row):
    """Most rows are not in the sample that rejects candidates."""
    X = stays(4000)
    whole = as_code(suggest_relations(X))
    X.loc[row, column] = value
    assert as_code(suggest_relations(X)) == whole - {lost}


def test_missing_values():
    X = stays(1000)
    rng = np.random.default_rng(1)
    X.loc[rng.random(1000) < 0.3, "discharged"] = pd.NaT
    gone = rng.random(1000) < 0.3
    X.loc[gone, ["bill", "drugs"]] = np.nan  # the total is missing where a part is
    X["empty"] = np.nan
    found = as_code(suggest_relations(X))
    assert "LessEqual('admitted', 'discharged')" in found
    assert "SumOf('bill', ['room', 'drugs', 'tests'])" in found
    X.loc[~gone, "bill"] = np.where(rng.random((~gone).sum()) < 0.1, np.nan, X["bill"][~gone])
    assert "SumOf('bill', ['room', 'drugs', 'tests'])" not in as_code(suggest_relations(X))


def test_chains_are_suggested_link_by_link():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(np.sort(rng.integers(0, 60, (2000, 3)), axis=1), columns=["a", "b", "c"])
    assert as_code(suggest_relations(X)) == {"LessEqual('a', 'b')", "LessEqual('b', 'c')"}


def test_a_copy_and_levels_of_places():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"price": rng.normal(50, 9, 500).round(2)})
    X["again"] = X["price"]
    X["shop"] = rng.choice(list("abcdefgh"), 500)
    X["city"] = X["shop"].map(dict(zip("abcdefgh", [1, 1, 2, 2, 3, 3, 4, 4], strict=True)))
    X["land"] = X["city"] > 2
    assert as_code(suggest_relations(X)) == {
        "SumOf('again', ['price'])",
        "FixedCombinations(['shop', 'city', 'land'])",
    }


def test_nothing_is_suggested_that_holds_by_chance_or_by_the_ranges():
    rng = np.random.default_rng(0)
    n = 300
    X = pd.DataFrame(
        {
            "children": rng.poisson(1.5, n),
            "age": rng.integers(18, 90, n),  # always more than children
            "income": rng.normal(3000, 100, n).round(),  # always more than the age
            "born": pd.Timestamp("1990-01-01") + pd.to_timedelta(rng.integers(0, 3000, n), "D"),
            "seen": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 300, n), "D"),
            "rare": np.where(np.arange(n) == 7, "yes", "no"),  # each city has one value but one
            "city": rng.choice(["Bari", "Oslo", "Rome"], n),
            "street": [f"street {i // 2}" for i in range(n)],  # two rows each
            "flag": rng.choice(["x", "y"], n),
            "one": 1,
        }
    )
    X.loc[7, "city"] = "Nice"
    assert suggest_relations(X) == []


@pytest.mark.parametrize("seed", range(10))
def test_independent_columns_suggest_nothing(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(100, 1000))
    X = pd.DataFrame(rng.integers(0, 30, (n, 12))).rename(columns=str)
    X["text"] = rng.choice(list("abc"), n)
    X["day"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 99, n), "D")
    X["night"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 99, n), "D")
    assert suggest_relations(X) == []


def test_zeros_are_no_bound():
    """A number that is zero whenever another is zero does not bound it."""
    rng = np.random.default_rng(0)
    visits = rng.poisson(0.3, 2000) * rng.integers(1, 20, 2000)
    X = pd.DataFrame({"visits": visits, "seconds": visits * rng.integers(2, 90, 2000)})
    assert suggest_relations(X) == []


def test_small_tables_suggest_nothing():
    assert suggest_relations(stays(99)) == []
    assert suggest_relations(stays(100))


def test_columns_with_a_codec_of_the_user_are_left_out():
    X = stays()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encoder = TableEncoder(
            [("time", QuantileCodec(), ["discharged"])], categorical_features=["first"]
        ).fit(X)
    assert as_code(encoder.suggestions_) == {
        "FixedCombinations(['city', 'country'])",
        "SumOf('bill', ['room', 'drugs', 'tests'])",
    }


def test_only_times_in_order_are_warned_of_and_the_advice_can_be_followed():
    X = stays().drop(columns="patient")
    with pytest.warns(UserWarning, match="'admitted' is nowhere later than 'discharged'") as caught:
        TableEncoder().fit(X)
    (warning,) = caught
    assert warning.filename == __file__
    declared, silenced = re.findall(r"TableEncoder\(.*?\]\)(?:\]\))?", str(warning.message))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for advised in (declared, silenced):
            eval(advised).fit(X)
        TableEncoder().fit(X.drop(columns="discharged"))


def test_fit_applies_nothing_and_prints_if_verbose(capsys):
    X = stays(200).drop(columns=["patient", "admitted"])
    synthesizer = small(epochs=1).fit(X)
    assert synthesizer.encoder_.relations_ == []
    assert "holds in every row" not in capsys.readouterr().err
    small(epochs=1, verbose=True).fit(X)
    shown = capsys.readouterr()
    for relation in synthesizer.encoder_.suggestions_:
        assert f"{relation!r} holds in every row" in shown.err
    assert shown.out == ""


@pytest.mark.parametrize(
    "index", [pd.date_range("2024-01-01", periods=120), pd.period_range("2024", periods=120)]
)
def test_an_index_of_times_is_warned_of(index):
    X = pd.DataFrame({"kWh": np.arange(120) % 7}, index=index)
    with pytest.warns(UserWarning, match=r"index of X holds times .* 2024-01-01.*reset_index"):
        small(epochs=1).fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small(epochs=1).fit(X.reset_index(drop=True))


def test_unreadable_columns_are_left_to_fit():
    X = stays()
    schema = TableSchema.learn(*_frame(X))
    X["bill"] = X["bill"].astype(object)
    X.loc[3, "bill"] = "much"
    assert "SumOf" not in str(scan(schema, X))


def _frame(X):
    from sktvae._table.containers import as_frame

    return as_frame(X)


@pytest.mark.parametrize("container", ["polars", "pyarrow", "array"])
def test_other_containers(container):
    X = stays()[["first", "last"]]
    if container == "polars":
        table = pytest.importorskip("polars").from_pandas(X)
    elif container == "pyarrow":
        table = pytest.importorskip("pyarrow").Table.from_pandas(X)
    else:
        table = X.to_numpy()
    names = ("x0", "x1") if container == "array" else ("first", "last")
    assert as_code(suggest_relations(table)) == {f"LessEqual{names}"}


def test_real_tables(shared_data):
    """What was judged to be true by hand; see the report of the scan."""
    adult = pd.read_csv(shared_data / "adult_train.csv.gz")
    (relation,) = suggest_relations(adult)
    assert isinstance(relation, FixedCombinations)
    assert relation.columns == ["education", "education.num"]
    for name in ("beijing", "default", "magic", "shoppers", "titanic"):
        assert suggest_relations(pd.read_csv(shared_data / f"{name}.csv.gz")) == []
    news = suggest_relations(pd.read_csv(shared_data / "news_part.csv.gz"))
    assert {type(relation) for relation in news} == {LessEqual}
    assert not any(isinstance(relation, SumOf) for relation in news)
