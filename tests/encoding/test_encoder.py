import datetime
from dataclasses import dataclass, field, fields

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_selector
from sklearn.utils.estimator_checks import parametrize_with_checks

from sktvae import CategoryCodec, LessEqual, ModeCodec, QuantileCodec, SumOf, TableEncoder
from sktvae._heads import Categorical, Gaussian
from sktvae._table.numbers import NumberColumn
from sktvae._table.schema import TableSchema
from tests.conftest import people, small


@parametrize_with_checks([TableEncoder(), TableEncoder(numerical="modes", random_state=0)])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("numerical", ["quantile", "modes"])
def test_round_trip(table, numerical):
    encoder = TableEncoder(numerical=numerical, random_state=0).fit(table)
    back = encoder.inverse_transform(encoder.transform(table))
    pd.testing.assert_frame_equal(
        back[["smoker", "city", "risk"]], table[["smoker", "city", "risk"]]
    )
    assert (back.dtypes == table.dtypes).all() and list(back) == list(table)
    if numerical == "quantile":  # but for a few rows at the ends of each range
        for name in ("age", "weight", "dose", "seen"):
            assert (back[name] == table[name]).mean() > 0.95
        encoder.set_params(min_samples=1).fit(table)
        back = encoder.inverse_transform(encoder.transform(table))
        pd.testing.assert_frame_equal(back, table)


def odd_table():
    n = 60
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "": np.arange(n) % 7,
            7: rng.normal(size=n).astype("float32").round(3),
            ("a", 1): pd.array([1, None, 3] * 20, dtype="Int64"),
            "flag": pd.array([True, None, False] * 20, dtype="boolean"),
            "text": pd.array(["x", None, "y"] * 20, dtype="string"),
            "small": np.arange(n, dtype="uint8") + 190,
            "day": pd.to_datetime(["2024-02-29", None, "2023-01-01"] * 20),
            "zone": pd.date_range("2024-03-30", periods=n, freq="h", tz="Europe/Paris"),
            "zone_gaps": pd.Series(
                pd.to_datetime(["2024-03-30 12:30", None, "2023-01-01 08:15"] * 20)
            ).dt.tz_localize("Asia/Tokyo"),
            "nanoseconds": pd.to_datetime(np.arange(n) * 10**6, unit="ns").astype("datetime64[ns]"),
            "lag": pd.to_timedelta(np.arange(n) % 5, "min"),
            "constant": 1.5,
            "object": pd.Series([1, 2, None] * 20, dtype=object),
            "pairs": pd.Series([(1, 2), (3, 4), None] * 20, dtype=object),
        }
    )


@pytest.mark.filterwarnings("ignore:Column 'small' holds 60 different integers")
def test_round_trip_of_odd_columns():
    X = odd_table()
    encoder = TableEncoder(min_samples=1).fit(X)
    back = encoder.inverse_transform(encoder.transform(X))
    pd.testing.assert_frame_equal(back, X)


def test_decoded_values_fit_their_dtype():
    """A range may end beyond the largest value, but never beyond what the dtype can hold."""
    rng = np.random.default_rng(0)
    steps = rng.geometric(0.02, 300).clip(1, 250) - 1
    days = pd.to_timedelta(steps, "D")
    X = pd.DataFrame(
        {
            "uint8": (255 - steps).astype("uint8"),
            "int8": (steps - 128).astype("int8"),
            "float32": np.float32(3.4e38 * (1 - rng.exponential(0.01, 300))),
            "ns": (pd.Timestamp.max.floor("D") - days).astype("datetime64[ns]"),
            "s": (pd.Timestamp("1700-01-01") + days).astype("datetime64[s]"),
            "lag": (pd.Timedelta.max.floor("D") - days).astype("timedelta64[ns]"),
            "date": [datetime.date.max - datetime.timedelta(int(d)) for d in steps],
        }
    )
    encoder = TableEncoder([("n", QuantileCodec(), list(X))]).fit(X)
    assert encoder.codecs_[0]._high > 255 and encoder.codecs_[1]._low < -128
    Z = np.column_stack(
        [
            rng.integers(0, head.n_categories, 3000)
            if isinstance(head, Categorical)
            else rng.random(3000)
            for head in encoder.heads_
        ]
    )
    back = encoder.inverse_transform(Z)
    assert (back.dtypes == X.dtypes).all()
    assert back["uint8"].max() == 255 and back["int8"].min() == -128
    assert np.isfinite(back["float32"]).all() and back["float32"].min() > 0
    assert back["ns"].min() > pd.Timestamp("2250-01-01")
    assert back["lag"].min() > pd.Timedelta("90000D")
    assert back["date"].min() > datetime.date(9990, 1, 1)
    assert back["date"].max() == datetime.date.max


def test_times_that_a_float_cannot_hold():
    X = pd.DataFrame({"t": pd.to_datetime([1_700_000_000_000_000_001, 5], unit="ns")})
    with pytest.raises(ValueError, match=r"'t' has times in ns.*dt.floor"):
        TableEncoder().fit(X)


@pytest.mark.parametrize(
    "X",
    [
        np.arange(12, dtype="float32").reshape(6, 2),
        np.arange(12).reshape(6, 2),
        np.array([["a", 1], ["b", 2.5], ["a", None]], dtype=object),
    ],
)
def test_round_trip_of_arrays(X):
    encoder = TableEncoder(min_samples=1).fit(X)
    back = encoder.inverse_transform(encoder.transform(X))
    assert back.dtype == X.dtype
    np.testing.assert_array_equal(back, X)


@pytest.mark.parametrize(
    "columns",
    [["age", "dose"], [0, 2], [True, False, True] + [False] * 4, slice("age", "age"), "age"],
)
def test_columns_as_in_column_transformer(table, columns):
    encoder = TableEncoder([("few", QuantileCodec(n_bins=3, n_subbins=1), columns)]).fit(table)
    assert encoder.codecs_[0].n_bins == 3
    assert encoder.codecs_[1].n_bins == 32
    assert isinstance(encoder.codecs_[4], CategoryCodec)


def test_column_selector(table):
    selector = make_column_selector(dtype_include="number")
    encoder = TableEncoder([("modes", ModeCodec(random_state=0), selector)]).fit(table)
    kinds = [type(codec).__name__ for codec in encoder.codecs_]
    assert kinds == ["ModeCodec"] * 3 + ["CategoryCodec"] * 3 + ["QuantileCodec"]


def test_a_column_in_two_codecs(table):
    entries = [("a", QuantileCodec(), ["age"]), ("b", ModeCodec(), ["dose", "age"])]
    with pytest.raises(ValueError, match=r"'age' is given to two codecs, 'a' and 'b'"):
        TableEncoder(entries).fit(table)


@pytest.mark.parametrize("which", [["age"], [0], [True] + [False] * 6])
def test_categorical_features(table, which):
    with pytest.warns(UserWarning, match=r"fewer than 3 rows are not kept.*'age' \(9\)"):
        encoder = TableEncoder(categorical_features=which).fit(table)
    assert isinstance(encoder.codecs_[0], CategoryCodec)
    assert isinstance(encoder.codecs_[1], QuantileCodec)
    back = encoder.inverse_transform(encoder.transform(table))
    frequent = table["age"].map(table["age"].value_counts()) >= 3
    pd.testing.assert_series_equal(back["age"][frequent], table["age"][frequent])
    assert set(back["age"]) == set(table["age"][frequent])


def test_a_label_joins_the_categories(table):
    few = table["city"].where(table.index > 2, "Lyon").astype("category")
    codec = CategoryCodec(min_frequency=10, infrequent_label="elsewhere")
    encoder = TableEncoder([("places", codec, ["city"])]).fit(table.assign(city=few))
    back = encoder.inverse_transform(encoder.transform(table.assign(city=few)))["city"]
    assert list(back[:3]) == ["elsewhere"] * 3 and not back.isna().any()
    assert list(back.cat.categories) == ["Bonn", "Oslo", "Rome", "elsewhere"]


def test_nested_parameters(table):
    encoder = TableEncoder([("quantile", QuantileCodec(), ["age"])])
    encoder.set_params(quantile__n_bins=5)
    assert encoder.get_params()["quantile__n_bins"] == 5
    assert encoder.fit(table).codecs_[0].n_bins == 5


def test_encoded_table(table):
    encoder = TableEncoder(numerical="modes", random_state=0).fit(table)
    Z = encoder.set_output(transform="pandas").transform(table)
    assert list(Z.columns[:4]) == ["age__mode", "age__value", "weight__mode", "weight__value"]
    assert Z.shape == (len(table), len(encoder.heads_))
    assert encoder.heads_[1] == Gaussian(refines=True)
    assert encoder.heads_[-4] == Categorical(3)
    np.testing.assert_array_equal(encoder.inverse_transform(Z)["city"], table["city"])


def test_same_seed_same_codes(table):
    one, two = (
        TableEncoder(numerical="modes", random_state=3, n_jobs=jobs).fit_transform(table)
        for jobs in (None, 2)
    )
    np.testing.assert_array_equal(one, two)


def test_adult_is_narrow(shared_data):
    adult = pd.read_csv(shared_data / "adult_train.csv.gz")
    for numerical in ("quantile", "modes"):
        assert TableEncoder(numerical=numerical).fit_transform(adult).shape[1] <= 25


def test_encoded_table_is_checked(table):
    encoder = TableEncoder().fit(table)
    Z = encoder.transform(table)
    Z[3, 0] = 1e6
    with pytest.raises(ValueError, match=r"'age'.*codes 0 to .*got 1000000.0 in row 3"):
        encoder.inverse_transform(Z)
    with pytest.raises(ValueError, match="encoded columns"):
        encoder.inverse_transform(Z[:, :3])


def bad(change):
    """The table of people, changed for the worse."""
    X = people()
    change(X)
    return X


@pytest.mark.parametrize(
    ("X", "error", "match"),
    [
        (people().iloc[:0], ValueError, "0 sample"),
        (people()[[]], ValueError, r"0 feature\(s\)"),
        (
            bad(lambda X: X.insert(0, "far", np.r_[np.inf, np.zeros(399)])),
            ValueError,
            r"'far' has an infinite value \(inf in row 0\).*nan",
        ),
        (
            bad(lambda X: X.insert(0, "age", 1, allow_duplicates=True)),
            ValueError,
            r"duplicate column names: 'age' occurs 2 times.*duplicated",
        ),
        (
            bad(lambda X: X.insert(0, "mix", pd.Series(["a", 1] * 200, dtype=object))),
            TypeError,
            r"'mix' has mixed types: 'a' \(str\) and 1 \(int\).*astype\(str\)",
        ),
        (
            bad(lambda X: X.insert(0, "nest", pd.Series([{"a": 1}] * 400, dtype=object))),
            TypeError,
            r"'nest' holds a dict \({'a': 1} in row 0\).*drop",
        ),
        (bad(lambda X: X.insert(0, "i", X["age"] * 1j)), ValueError, r"Complex data.*'i'"),
        (
            bad(lambda X: X.insert(0, "key", X["age"] + 2**60)),
            ValueError,
            r"'key' has integers beyond 2\*\*53.*astype\(str\)",
        ),
    ],
)
def test_errors_name_the_column_and_the_way_out(X, error, match):
    encoder = TableEncoder()
    with pytest.raises(error, match=f"(?s){match}"):
        encoder.fit(X)
    assert not hasattr(encoder, "codecs_")


def test_other_columns_than_in_fit(table):
    encoder = TableEncoder().fit(table)
    with pytest.raises(ValueError, match=r"(?s)now missing: \['dose'\].*Add them"):
        encoder.transform(table.drop(columns="dose"))
    with pytest.raises(ValueError, match=r"(?s)unseen at fit time: \['new'\].*Select them: X\["):
        encoder.transform(table.assign(new=1))
    with pytest.raises(ValueError, match=r"(?s)same order.*'weight' is the first out of place"):
        encoder.transform(table[["weight", "age", *list(table)[2:]]])
    with pytest.raises(TypeError, match=r"'age' was a number in fit and holds 'old' now"):
        encoder.transform(table.assign(age="old"))
    with pytest.raises(ValueError, match=r"'city': found unknown categories \['Nice'\]"):
        encoder.transform(table.assign(city="Nice"))


def test_an_encoder_of_other_columns_replaces_names(table):
    encoder = TableEncoder().fit(table)
    assert list(encoder.feature_names_in_) == list(table)
    encoder.fit(table[["age"]].to_numpy())
    assert not hasattr(encoder, "feature_names_in_")


@dataclass(frozen=True)
class Counted(NumberColumn):
    """A column that counts how often it is read."""

    reads: list = field(default_factory=list)

    def read(self, series):
        self.reads.append(len(series))
        return super().read(series)


@pytest.mark.parametrize("method", ["transform", "score_samples", "log_density"])
def test_each_column_is_read_once_per_call(method):
    """Also if several relations need it."""
    X = pd.DataFrame({"a": np.arange(60) % 7, "b": np.arange(60) % 7 + np.arange(60) % 3})
    X["c"], X["d"] = X["b"] + 1, X["a"] + X["b"]
    relations = [LessEqual("a", "b"), LessEqual("b", "c"), SumOf("d", ["a", "b"])]
    model = small(epochs=1, encoder=TableEncoder(relations=relations)).fit(X)
    columns = [
        Counted(**{f.name: getattr(column, f.name) for f in fields(column)})
        for column in model.encoder_.schema_.columns
    ]
    model.encoder_.schema_ = TableSchema(model.encoder_.schema_.container, tuple(columns))
    owner = model.encoder_ if method == "log_density" else model
    assert np.isfinite(getattr(owner, method)(X)).all()
    assert [column.reads for column in columns] == [[60]] * 4
