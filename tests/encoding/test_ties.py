"""Numbers that equal those of other columns, exactly."""

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from sktvae import (
    XU2019,
    LessEqual,
    ModeCodec,
    QuantileCodec,
    TableEncoder,
    TVAEImputer,
)
from sktvae._encoding.chunked import TableAccumulator
from sktvae._encoding.partial import recorded_variables
from sktvae._encoding.ties import Source, Tie, contradicted
from sktvae._table.containers import as_frame
from sktvae._table.pieces import SeenTable
from tests.conftest import small

N = 2000


def amounts(rng, n=N):
    return np.round(rng.lognormal(5, 1, n), 2)


def paid(n=N, seed=0):
    """Bills, of which 30 % are paid in full and 10 % not at all."""
    rng = np.random.default_rng(seed)
    bill = amounts(rng, n)
    part = np.round(bill * rng.uniform(0.05, 0.95, n), 2)
    how = rng.choice(3, n, p=[0.3, 0.1, 0.6])
    payment = np.select([how == 0, how == 1], [bill, 0.0], part)
    return pd.DataFrame({"bill": bill, "city": rng.choice(["Oslo", "Rome"], n), "payment": payment})


def share_equal(table, one="bill", other="payment"):
    return float((table[one] == table[other]).mean())


@pytest.fixture(scope="module")
def table():
    return paid()


@pytest.fixture(scope="module")
def encoder(table):
    return TableEncoder(random_state=0).fit(table)


@pytest.fixture(scope="module")
def model(table):
    return small(epochs=25, decompress_dims=(64,), conditional=True).fit(table)


def inside(encoder, table):
    """The rows in which no number is beyond the ends that its codec keeps."""
    ends = {name: encoder.codecs_[i].ends for i, name in enumerate(table) if name != "city"}
    return np.logical_and.reduce([table[name].between(*both) for name, both in ends.items()])


# Which columns are tied


def test_a_column_that_often_equals_an_earlier_one_is_tied_to_it(encoder):
    assert encoder.ties_ == {"payment": ["bill"]}
    assert encoder.columns_.loc["payment", "encoded_as"].startswith("payment__tie, payment")
    assert len(encoder.get_feature_names_out()) == len(encoder.heads_)


def test_several_columns_that_one_is_equal_to(table):
    rng = np.random.default_rng(1)
    which = rng.integers(0, 3, N)
    first, second = amounts(rng), amounts(rng)
    third = np.select([which == 0, which == 1], [first, second], amounts(rng))
    X = pd.DataFrame({"first": first, "second": second, "third": third})
    encoder = TableEncoder().fit(X)
    assert set(encoder.ties_["third"]) == {"first", "second"} and len(encoder.ties_) == 1
    Y = encoder.inverse_transform(encoder.transform(X))
    for other in ("first", "second"):
        same = (Y["third"] == Y[other]) == (X["third"] == X[other])
        assert same[X["third"].between(*encoder.codecs_[2].ends)].mean() > 0.999


@pytest.mark.parametrize(
    "change",
    [
        lambda X: X.assign(payment=np.random.default_rng(2).permutation(X["payment"])),
        lambda X: X.assign(payment=X["bill"] * np.random.default_rng(2).uniform(0.2, 5, N)),
        # Codes of so few values tell whether they are equal.
        lambda X: X.assign(bill=X["bill"].rank() // 200, payment=X["payment"].rank() // 200),
        lambda X: X.assign(
            bill=X.index % 25, payment=np.where(X["bill"] < 150, X.index % 25, X.index // 25 % 25)
        ),
        # Integers, of which independent ones are often equal.
        lambda X: X.assign(
            bill=np.round(X["bill"] ** 0.7),
            payment=np.random.default_rng(2).permutation(np.round(X["bill"] ** 0.7)),
        ),
        lambda X: X.assign(bill=X["bill"].astype(str)),
        lambda X: X.iloc[:40],  # too few rows are tied
        lambda X: X.assign(payment=X["payment"].where(X.index % 40 > 0, X["bill"] + 0.01)).query(
            "index % 40 == 0 or payment != bill"
        ),
    ],
    ids=[
        "independent",
        "correlated",
        "few values",
        "more values",
        "by chance",
        "text",
        "few rows",
        "none",
    ],
)
def test_other_columns_are_not_tied(table, change):
    assert TableEncoder(min_samples=1).fit(change(table)).ties_ == {}


def test_ties_are_left_out_on_request_and_where_a_column_is_encoded_otherwise(table):
    assert TableEncoder(ties=False).fit(table).ties_ == {}
    assert TableEncoder(relations=[LessEqual("payment", "bill")]).fit(table).ties_ == {}
    assert TableEncoder([("modes", ModeCodec(), ["bill"])]).fit(table).ties_ == {}
    assert TableEncoder([("drop", "drop", ["bill"])]).fit(table).ties_ == {}
    assert small(**(XU2019 | {"epochs": 1})).fit(table).encoder_.ties_ == {}


def shifted(rng, shift, sign):
    """A column that follows from another in a half of the rows."""
    x, other = np.round(rng.random(N), 4), np.round(rng.random(N), 4)
    y = np.where(rng.random(N) < 0.5, np.round(shift + sign * x, 4), other)
    return pd.DataFrame({"x": x, "y": y})


@pytest.mark.parametrize(
    ("shift", "sign", "label"),
    [
        (1.0, -1, "1 - x"),
        (0.0, -1, "-x"),
        (0.25, 1, "x + 0.25"),
        (-2.0, 1, "x - 2"),
        (0.0005, 1, "x + 0.0005"),  # and it is not near, too
    ],
)
def test_numbers_that_follow_by_a_shift_or_as_a_difference(shift, sign, label):
    X = shifted(np.random.default_rng(0), shift, sign)
    encoder = TableEncoder().fit(X)
    assert encoder.ties_ == {"y": [label]}
    decoded = encoder.inverse_transform(encoder.transform(X))
    follows = lambda T: np.abs(T["y"] - (shift + sign * T["x"])) < 1e-6
    inner = X["y"].between(*encoder.codecs_[1].ends)
    assert (follows(decoded) == follows(X))[inner].mean() > 0.999


def test_an_absolute_value_has_two_sources():
    x = np.round(np.random.default_rng(0).normal(0, 1, N), 3)
    encoder = TableEncoder().fit(pd.DataFrame({"x": x, "size": np.abs(x)}))
    assert sorted(encoder.ties_["size"]) == ["-x", "x"]


@pytest.fixture(scope="module")
def close():
    """Two readings of one thing: in half of the rows the second is up to 0.1 % larger."""
    rng = np.random.default_rng(0)
    first = np.round(rng.lognormal(8, 1, N), 3)
    near = first * (1 + rng.uniform(0.0001, 0.001, N))
    return pd.DataFrame(
        {"first": first, "second": np.where(rng.random(N) < 0.5, near, amounts(rng) * 20).round(3)}
    )


def share_close(table):
    return float((np.abs(table["second"] / table["first"] - 1) < 0.003).mean())


def test_a_column_that_is_often_near_another_is_tied_to_it(close):
    encoder = TableEncoder().fit(close)
    assert encoder.ties_ == {"second": ["about first"]}
    without = TableEncoder(ties=False).fit(close)
    decoded, as_before = (e.inverse_transform(e.transform(close)) for e in (encoder, without))
    pd.testing.assert_frame_equal(decoded, as_before)  # what is near enough stays as it is


def test_samples_are_as_often_near_as_the_table(close):
    large = {"epochs": 30, "decompress_dims": (64,)}
    tied = small(**large).fit(close).sample(4000, random_state=0)
    without = small(**large, encoder=TableEncoder(ties=False)).fit(close)
    assert abs(share_close(tied) - share_close(close)) < 0.07
    assert share_close(without.sample(4000, random_state=0)) < 0.3


@pytest.fixture(scope="module")
def model_of_close(close):
    return small(epochs=30, decompress_dims=(64,), conditional=True).fit(close)


@pytest.mark.parametrize(("name", "other"), [("first", "second"), ("second", "first")])
def test_near_columns_of_which_one_is_given(close, model_of_close, name, other):
    value = float(close[name].median())
    around = close[close[name].between(value / 1.2, value * 1.2)]
    for given in (value, pd.Interval(value, value * 1.02, closed="both"), [value, value + 1]):
        rows = model_of_close.sample(1500, conditions={name: given}, random_state=0)
        assert rows[name].between(value, value * 1.02).all()
        assert abs(share_close(rows) - share_close(around)) < 0.15
        is_close = np.abs(rows["second"] / rows["first"] - 1) < 0.003
        assert (rows["second"] > rows["first"])[is_close].mean() > 0.9
    holes = close.assign(**{other: close[other].where(close.index % 2 > 0)})
    filled = model_of_close.impute(holes, random_state=0)
    pd.testing.assert_frame_equal(filled.where(holes.notna()), holes)
    assert abs(share_close(filled.iloc[::2]) - share_close(close.iloc[::2])) < 0.15


def test_known_numbers_stay_where_the_code_says_otherwise(close):
    encoder = TableEncoder().fit(close)
    Z = encoder.transform(close)
    names = list(encoder.get_feature_names_out())
    Z[:, names.index("second__tie")] = encoder.heads_[names.index("second__tie")].n_categories - 1
    kept = {1: (np.ones(N, dtype=bool), close["second"].to_numpy())}
    decoded = encoder.decode(list(Z.T), N, kept=kept)
    np.testing.assert_array_equal(decoded["second"], close["second"])
    assert not np.array_equal(decoded["first"], encoder.decode(list(Z.T), N)["first"])


def test_a_known_number_stays_where_one_that_is_near_has_a_range(close, model_of_close):
    value = float(close["first"].median())
    limits = {"first": value, "second": pd.Interval(value, value * 1.001)}
    rows = model_of_close.sample(500, conditions=limits, random_state=0)
    assert (rows["first"] == value).all()


def test_given_numbers_of_which_others_are_differences():
    X = shifted(np.random.default_rng(0), 1.0, -1)
    model = small(epochs=30, decompress_dims=(64,), conditional=True).fit(X)
    for name in X:
        rows = model.sample(1500, conditions={name: 0.4321}, random_state=0)
        assert (rows[name] == 0.4321).all()
        assert abs((np.abs(rows["x"] + rows["y"] - 1) < 1e-6).mean() - 0.5) < 0.12


@pytest.mark.parametrize(("n", "every"), [(2000, 70), (20_000, 120)])
def test_nearly_empty_columns(n, every):
    x = amounts(np.random.default_rng(0), n)
    X = pd.DataFrame({"x": x, "y": np.where(np.arange(n) % every == 0, x, np.nan)})
    encoder = TableEncoder().fit(X)
    pd.testing.assert_frame_equal(encoder.inverse_transform(encoder.transform(X)).isna(), X.isna())


def test_a_tie_rests_on_many_rows(table):
    """A model that has learned ties from fewer rows knows them from others."""
    X = table.copy()
    equal = np.flatnonzero(X["bill"] == X["payment"])
    part = np.round(X["bill"] * np.random.default_rng(1).uniform(0.05, 0.95, len(X)), 2)
    X.loc[equal[200:], "payment"] = part
    assert TableEncoder(min_samples=195).fit(X).ties_ == {"payment": ["bill"]}
    assert TableEncoder(min_samples=201).fit(X).ties_ == {}
    X.loc[equal[140:], "payment"] = part
    assert TableEncoder(min_samples=1).fit(X).ties_ == {}
    rng = np.random.default_rng(0)
    few = pd.DataFrame({"x": amounts(rng), "y": amounts(rng)})
    few.loc[:9, "y"] = few.loc[:9, "x"]
    heavy = np.where(few.index < 10, 40, 1)
    assert TableEncoder().fit(few, sample_weight=heavy).ties_ == {}


def test_numbers_that_are_near_rest_on_more_rows(close):
    assert TableEncoder().fit(close).ties_ == {"second": ["about first"]}  # 1,000 of 2,000 rows
    assert TableEncoder().fit(close[:1000]).ties_ == {}


def test_pieces_whose_times_have_other_units_have_the_ties_of_the_table():
    rng = np.random.default_rng(0)
    written = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 10**8, N), "s")
    read = written + pd.to_timedelta(rng.integers(1, 10**5, N), "s")
    X = pd.DataFrame({"written": written, "read": read})
    units = {"written": "datetime64[s]", "read": "datetime64[s]"}
    pieces = [X.iloc[:1900].astype(units), X.iloc[1900:].astype("datetime64[ns]")]
    with pytest.warns(UserWarning, match="later"):
        whole = TableEncoder().fit(X).ties_
    assert TableEncoder().fit(pieces).ties_ == whole == {"read": ["about written"]}


def accumulated(pieces, rank=0):
    table = TableAccumulator(rank)
    for piece in pieces:
        table.add(SeenTable.of(*as_frame(piece)), piece)
    return table


def test_the_rows_of_other_processes_are_looked_at(table):
    all_rows = accumulated([table.iloc[:30]])
    all_rows.merge(accumulated([table.iloc[30:]], rank=1))
    for i in (0, 2):
        np.testing.assert_array_equal(all_rows.samples[i].values, table.iloc[:, i])


def test_numbers_of_earlier_pieces_are_converted_to_later_units():
    at = pd.date_range("2020-01-01", periods=100, freq="h") + pd.to_timedelta(
        np.arange(100) // 60, "us"
    )
    X = pd.DataFrame({"at": at})
    rows = accumulated([X.iloc[:60].astype("datetime64[s]"), X.iloc[60:].astype("datetime64[ns]")])
    expected = rows.seen.columns[0].column.read(X["at"].astype("datetime64[ns]"))
    np.testing.assert_array_equal(rows.samples[0].values, expected)


def test_a_tie_is_known_where_all_of_its_columns_are(encoder):
    observed = np.array([[True, True, True], [False, True, True], [True, True, False]])
    recorded = recorded_variables(encoder, observed)  # bill, city, tie, payment
    assert recorded.tolist() == [[True] * 4, [False, True, False, True], [True, True, False, False]]


def test_a_value_that_both_columns_often_have_is_no_tie():
    rng = np.random.default_rng(0)
    is_none = rng.random(N) < 0.04
    X = pd.DataFrame({name: np.where(is_none, 0.0, amounts(rng)) for name in ("one", "other")})
    assert TableEncoder().fit(X).ties_ == {}
    often = rng.choice([0.0, 100.0, 200.0, np.nan], N, p=[0.08, 0.08, 0.08, 0.76])
    X = pd.DataFrame(
        {name: np.where(np.isnan(often), amounts(rng), often) for name in ("one", "other")}
    )
    assert TableEncoder().fit(X).ties_ == {}


def test_equal_times_are_tied_if_they_are_of_one_unit():
    rng = np.random.default_rng(0)
    start = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 10**8, N), "s")
    later = start + pd.to_timedelta(rng.integers(0, 5 * 10**7, N) * rng.integers(0, 2, N), "s")
    X = pd.DataFrame({"asked": start, "answered": later})
    assert TableEncoder().fit(X).ties_ == {"answered": ["asked"]}
    assert TableEncoder().fit(X.assign(asked=X["asked"].astype("int64"))).ties_ == {}
    in_zone = X.assign(asked=X["asked"].dt.tz_localize("UTC"))
    assert TableEncoder().fit(in_zone).ties_ == {}


def test_rows_count_by_their_weight(table):
    is_equal = (table["bill"] == table["payment"]).to_numpy()
    assert TableEncoder().fit(table, sample_weight=np.where(is_equal, 0, 1)).ties_ == {}
    light = np.where(is_equal, 0.02, 1)
    assert TableEncoder().fit(table, sample_weight=light).ties_ == {}


def test_names_of_encoded_columns_stay_unique(table):
    X = table.assign(payment__tie=table["city"])
    names = TableEncoder().fit(X).get_feature_names_out()
    assert len(set(names)) == len(names)


def test_pieces_of_a_table_have_its_ties(table, encoder):
    pieces = [table.iloc[:700], table.iloc[700:701], table.iloc[701:]]
    whole = [table.assign(bill=np.floor(table["bill"])), table]  # integers, then numbers
    assert TableEncoder(random_state=0).fit(pieces).ties_ == encoder.ties_
    at_once = TableEncoder().fit(pd.concat(whole, ignore_index=True))
    assert TableEncoder().fit(whole).ties_ == at_once.ties_
    Z = TableEncoder(random_state=0).fit(pieces).transform(table)
    np.testing.assert_array_equal(Z, encoder.transform(table))


def test_of_a_long_table_the_same_rows_are_looked_at_in_memory_and_in_pieces():
    X = paid(40_000)
    X.loc[X.index[1::2], "payment"] *= 0.5  # a half of the equal ones
    whole, pieces = TableEncoder().fit(X), TableEncoder().fit([X.iloc[:9000], X.iloc[9000:]])
    assert whole.ties_ == pieces.ties_ == {"payment": ["bill"]}


# Encoding and decoding


def test_encoding_and_decoding_keeps_which_cells_are_equal(table, encoder):
    decoded = encoder.inverse_transform(encoder.transform(table))
    was, now = table["bill"] == table["payment"], decoded["bill"] == decoded["payment"]
    rows = inside(encoder, table)
    assert rows.mean() > 0.99
    pd.testing.assert_series_equal(was[rows], now[rows])


def test_a_number_is_copied_only_if_the_drawn_one_is_near(table, encoder):
    Z = encoder.transform(table)
    names = list(encoder.get_feature_names_out())
    far = Z.copy()
    far[:, names.index("payment__tie")] = 1
    decoded, as_drawn = encoder.inverse_transform(far), Z.copy()
    as_drawn[:, names.index("payment__tie")] = 0
    drawn = encoder.inverse_transform(as_drawn)
    copied = decoded["payment"] != drawn["payment"]
    assert (decoded.loc[copied, "payment"] == decoded.loc[copied, "bill"]).all()
    rank = lambda x: np.searchsorted(np.sort(table["payment"]), x) / N
    distance = np.abs(rank(drawn["payment"]) - rank(drawn["bill"]))
    apart = drawn["payment"] != drawn["bill"]
    apart &= drawn["bill"].between(*encoder.codecs_[2].ends)
    assert copied[apart & (distance < 0.05)].mean() > 0.98
    assert (distance > 0.2).any() and not copied[distance > 0.2].any()


def test_missing_numbers_are_equal_to_none():
    X = paid()
    X.loc[::7, "bill"] = np.nan
    X.loc[::5, "payment"] = np.nan
    encoder = TableEncoder().fit(X)
    assert encoder.ties_ == {"payment": ["bill"]}
    decoded = encoder.inverse_transform(encoder.transform(X))
    pd.testing.assert_frame_equal(decoded.isna(), X.isna())
    was, now = X["bill"] == X["payment"], decoded["bill"] == decoded["payment"]
    rows = inside(encoder, X)
    pd.testing.assert_series_equal(was[rows], now[rows])


def test_copies_stay_in_the_range_and_on_the_grid_of_their_column():
    rng = np.random.default_rng(0)
    bill = np.round(rng.uniform(0, 1000, N), 2)
    payment = np.where(rng.random(N) < 0.5, np.floor(bill), rng.integers(0, 1000, N))
    bill = np.where(rng.random(N) < 0.5, payment, bill)
    X = pd.DataFrame({"bill": bill, "payment": payment.astype(int)})
    X.loc[X["bill"] > 900, "bill"] *= 10
    encoder = TableEncoder().fit(X)
    assert encoder.ties_["payment"][0] == "bill"
    Z = encoder.transform(X)
    Z[:, list(encoder.get_feature_names_out()).index("payment__tie")] = 1
    decoded = encoder.inverse_transform(Z)
    assert decoded["payment"].dtype == X["payment"].dtype and decoded["payment"].max() < 1000
    Z[:, list(encoder.get_feature_names_out()).index("payment__tie")] = 0
    drawn = encoder.inverse_transform(Z)
    copied = decoded["payment"] != drawn["payment"]
    assert copied.any() and (decoded["payment"] == decoded["bill"])[copied].all()


# With networks


def test_samples_are_equal_as_often_as_the_table(table, model):
    sample = model.sample(4000, random_state=1)
    assert abs(share_equal(sample) - share_equal(table)) < 0.05
    without = small(epochs=25, decompress_dims=(64,), encoder=TableEncoder(ties=False)).fit(table)
    assert share_equal(without.sample(4000, random_state=1)) < 0.05


@pytest.mark.parametrize(
    "given",
    [146.04, [146.04], [146.04, 150.0], pd.Interval(146, 147), pd.Interval(140, 155)],
    ids=str,
)
@pytest.mark.parametrize(("name", "expected"), [("bill", 0.29), ("payment", 0.46)])
def test_values_lists_and_ranges_leave_cells_equal_as_often(model, name, given, expected):
    rows = model.sample(2000, conditions={name: given}, random_state=0)
    assert abs(share_equal(rows) - expected) < 0.1


def test_conditions_hold_and_the_other_column_is_equal_as_often(table, model):
    for name, other in (("bill", "payment"), ("payment", "bill")):
        value = 146.04
        rows = model.sample(2000, conditions={name: value}, random_state=0)
        assert (rows[name] == value).all()
        near = table[name].between(value * 0.8, value * 1.25)
        assert abs(share_equal(rows) - share_equal(table[near])) < 0.1, other


def test_ranges_hold_in_copies(model):
    limits = {"bill": pd.Interval(100, 150), "payment": pd.Interval(120, 160)}
    rows = model.sample(1000, conditions=limits, random_state=0)
    assert rows["bill"].between(100, 150).all() and rows["payment"].between(120, 160).all()
    assert share_equal(rows) > 0.05


@pytest.fixture(scope="module")
def three():
    """Three columns that are equal in 60 % of the rows."""
    rng = np.random.default_rng(0)
    one = amounts(rng)
    is_same = rng.random(N) < 0.6
    X = pd.DataFrame({name: np.where(is_same, one, amounts(rng)) for name in "abc"})
    return X, small(epochs=30, decompress_dims=(64,), conditional=True).fit(X)


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_three_equal_columns_of_which_one_is_known(three, name):
    X, model = three
    assert model.encoder_.ties_ == {"b": ["a"], "c": ["a"]}
    known = X.loc[(X["a"] == X["b"]) & (X["b"] == X["c"]), name].iloc[:40]
    rows = model.sample(conditions=pd.DataFrame({name: np.repeat(known.to_numpy(), 25)}))
    assert (rows[name] == np.repeat(known.to_numpy(), 25)).all()
    for one, other in (("a", "b"), ("b", "c"), ("a", "c")):
        assert share_equal(rows, one, other) > 0.4


def test_the_first_of_three_equal_columns_is_imputed_as_the_others_say(three):
    """Whether the others are equal to each other tells whether they follow from it."""
    X, model = three
    filled = model.impute(X.assign(a=np.nan), random_state=0)
    is_same = filled["b"] == filled["c"]
    assert share_equal(filled[is_same], "a", "b") > 0.97
    others = filled[~is_same]
    assert ((others["a"] == others["b"]) | (others["a"] == others["c"])).mean() < 0.12


def test_which_codes_contradict_known_numbers():
    codec = QuantileCodec().fit(np.append(np.zeros(300), amounts(np.random.default_rng(0))))
    b = np.array([5.0, 5, 5, 5, 5, 5, 0, np.nan])
    c = np.array([5.0, 5, 5, 7, 7, 7, 0, 7.0])
    kept = {1: (~np.isnan(b), b), 2: (np.ones(8, dtype=bool), c)}
    wrong = lambda ties, *codes: contradicted(
        ties, [codec] * 3, dict(zip((1, 2), map(np.array, codes), strict=True)), kept
    ).tolist()
    # Both follow from the first: being equal, or not, says whether they do so in the same row.
    ties = {1: Tie(1, (Source(0),)), 2: Tie(2, (Source(0),))}
    assert wrong(ties, [1, 1, 0, 1, 1, 0, 0, 0], [1, 0, 0, 1, 0, 0, 0, 1]) == [1, 2, 3]
    # The third may also follow from the second.
    ties[2] = Tie(2, (Source(0), Source(1)))
    assert wrong(ties, [1, 0, 0, 1, 1, 0, 0, 0], [1, 1, 2, 0, 2, 2, 0, 2]) == [1, 4, 5]
    assert wrong(ties, [0, 0, 0, 0, 0, 0, 0, 0], [0, 1, 2, 1, 0, 0, 2, 1]) == [0, 1]
    ties[2] = Tie(2, (Source(0, -1, 12.0, 1e-6),))  # what both say of the first is 5
    assert wrong(ties, [1, 0, 1, 1, 1, 0, 0, 1], [1, 0, 0, 1, 0, 1, 0, 1]) == [0, 4, 5]
    kept[0] = np.arange(8) < 2, np.array([np.nan, 5, 0, 0, 0, 0, 0, 0])  # missing, known, unknown
    ties[2] = Tie(2, (Source(0),))
    assert wrong(ties, [0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0]) == [1, 2]
    assert wrong({}, [0] * 8, [0] * 8) == []


@pytest.mark.parametrize("hidden", ["bill", "payment"])
def test_imputed_cells_are_equal_as_often_and_the_others_stay(table, model, hidden):
    holes = table.assign(**{hidden: table[hidden].where(table.index % 2 > 0)})
    filled = model.impute(holes, random_state=0)
    known = holes.notna()
    pd.testing.assert_frame_equal(filled.where(known), holes.where(known))
    was, now = share_equal(table.iloc[::2]), share_equal(filled.iloc[::2])
    assert abs(was - now) < 0.12
    for strategy in ("mean", "median"):
        assert model.impute(holes, strategy=strategy).notna().all(axis=None)


def test_means_and_medians_respect_ties(model):
    """A mean is what draws average to; a number that is most often equal is equal."""
    known = [150.0, 345.23, 507.86, 763.47]
    for hidden, other in (("bill", "payment"), ("payment", "bill")):
        rows = pd.DataFrame({"bill": np.nan, "city": "Oslo", "payment": np.nan}, index=range(4))
        rows[other] = known
        many = rows.loc[np.repeat(rows.index, 1000)].reset_index(drop=True)
        draws = model.impute(many, random_state=1)[hidden].to_numpy().reshape(4, -1)
        mean = model.impute(rows, strategy="mean")[hidden]
        assert (np.abs(mean / draws.mean(axis=1) - 1) < 0.12).all()
        np.testing.assert_allclose(mean, model.conditional_mean(rows, hidden), atol=0.01)
        median = model.impute(rows, strategy="median")[hidden]
        if hidden == "bill":  # given a large payment, it was most often all
            assert (median[1:] == known[1:]).all()
            levels = model.conditional_quantile(rows, "bill", [0.2, 0.5, 0.99])
            assert (levels[1:, 1] == known[1:]).all() and (levels[:, 2] > known).all()
        else:
            assert (median < known).all()


def test_medians_respect_that_numbers_are_near_others(close, model_of_close):
    """A half of the second readings are near the first, which are in the middle of the others."""
    middle = close["second"].quantile([0.3, 0.7])
    rows = close[close["first"].between(*middle)].head(300)
    filled = model_of_close.impute(rows.assign(second=np.nan), strategy="median")
    assert share_close(filled) > 0.9 and (filled["second"] > filled["first"]).mean() > 0.9


def test_an_imputer_learns_ties_from_the_rows_in_which_both_are_known(table):
    holes = table.assign(payment=table["payment"].where(table.index % 3 > 0))
    imputer = TVAEImputer(small(epochs=25), random_state=0).fit(holes)
    assert imputer.encoder_.ties_ == {"payment": ["bill"]}
    filled = imputer.transform(holes)
    assert abs(share_equal(filled.iloc[::3]) - share_equal(table.iloc[::3])) < 0.12


def test_scores_and_probabilities_are_finite_and_saved_models_draw_the_same(table, model, tmp_path):
    assert np.isfinite(model.score_samples(table)).all()
    proba = model.conditional_proba(table.head(50), "payment")
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    joblib.dump(model, tmp_path / "model.joblib")
    loaded = joblib.load(tmp_path / "model.joblib")
    pd.testing.assert_frame_equal(
        loaded.sample(200, random_state=0), model.sample(200, random_state=0)
    )


def test_clones_keep_the_parameter():
    encoder = TableEncoder([("q", QuantileCodec(), ["a"])], ties=False)
    assert clone(encoder).get_params()["ties"] is False
