"""Kinds of column and ways of holding them: what is recognised, and what is refused."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sktvae import KeyCodec, LessEqual, ModeCodec, SumOf, TableEncoder
from sktvae._table.decimals import DecimalGrid, almost_on_grid
from sktvae._table.schema import learn_column


def round_trip(X):
    encoder = TableEncoder().fit(X)
    return encoder.inverse_transform(encoder.transform(X))


def test_none_in_arrays_and_lists_comes_back():
    X = np.array([["a", 1], [None, 2]] * 40, dtype=object)
    back = round_trip(X)
    assert back[1, 0] is None and back.tolist() == X.tolist()
    assert round_trip(X.tolist())[1, 0] is None


def test_sums_of_narrow_floats_hold_to_their_precision():
    X = pd.DataFrame(
        {
            "a": np.float32([11.11, 12000.13, 40000.7] * 10),
            "b": np.float32([7.77, 24000.19, 9000.31] * 10),
        }
    )
    X["t"] = X["a"] + X["b"]
    encoder = TableEncoder(relations=[SumOf("t", ["a", "b"])]).fit(X)
    assert encoder.relations_
    with pytest.raises(ValueError, match=r"SumOf.*does not hold in 30 row"):
        encoder.transform(X.assign(t=X["t"] + np.float32(0.1)))


DAY = pd.Timestamp("2020-01-01")


@pytest.mark.parametrize(
    ("fitted", "other"),
    [
        ([1, 2, 3], [DAY] * 3),
        ([1, 2, 3], [pd.Timedelta("1D")] * 3),
        ([1, 2, 3], pd.Series([datetime.date(2020, 1, 1)] * 3, dtype=object)),
        ([1.5, 2, 3], ["one", "2", "3"]),
        ([DAY, DAY, DAY], [5, 5, 5]),
        ([DAY, DAY, DAY], [5.5, 5, 5]),
        ([DAY, DAY, DAY], pd.Series([5, 5, 5], dtype=object)),
        ([DAY, DAY, DAY], [pd.Timedelta("1D")] * 3),
        ([DAY, DAY, DAY], ["soon"] * 3),
        ([pd.Timedelta("1D")] * 3, [DAY] * 3),
        ([pd.Timedelta("1D")] * 3, [1, 2, 3]),
    ],
)
def test_another_kind_of_column_than_in_fit_is_refused(fitted, other):
    encoder = TableEncoder().fit(pd.DataFrame({"c": fitted}))
    with pytest.raises(TypeError, match="Column 'c' was"):
        encoder.transform(pd.DataFrame({"c": other}))
    with pytest.raises(TypeError, match="Column 'c' was"):
        encoder.log_density(pd.DataFrame({"c": other}))


@pytest.mark.parametrize(
    ("fitted", "other"),
    [
        ([1, 2, 3], ["1", "2", "3"]),
        ([1, 2, 3], [1.0, 2.0, 3.0]),
        ([1, 2, 3], pd.array([1, 2, 3], dtype="Int8")),
        ([1, 2, 3], pd.Series([1, 2, 3], dtype=object)),
        ([1, 2, 3], pd.Series([1, 2, 3], dtype="int64[pyarrow]")),
        ([DAY, DAY, DAY], ["2020-01-01"] * 3),
        ([DAY, DAY, DAY], pd.Series([datetime.date(2020, 1, 1)] * 3, dtype=object)),
        ([DAY, DAY, DAY], pd.Series([DAY] * 3, dtype="timestamp[us][pyarrow]")),
        ([datetime.date(2020, 1, 1)] * 3, [DAY, DAY, DAY]),
    ],
)
def test_the_same_values_held_in_another_way_are_read(fitted, other):
    encoder = TableEncoder().fit(pd.DataFrame({"c": fitted}))
    expected = encoder.transform(pd.DataFrame({"c": fitted}))
    np.testing.assert_array_equal(encoder.transform(pd.DataFrame({"c": other})), expected)


@pytest.mark.parametrize(
    ("X", "error", "match"),
    [
        (
            pd.DataFrame({"d": [Decimal("1.5"), Decimal("Infinity")]}),
            ValueError,
            "Column 'd' has an infinite value",
        ),
        (
            pa.table({"i": pa.array([(1, 2, 3)], pa.month_day_nano_interval())}),
            TypeError,
            "Column 'i' has the Arrow type",
        ),
        (
            pa.table({"u": pa.array([b"0" * 16], pa.binary(16)).cast(pa.uuid())})
            if hasattr(pa, "uuid")
            else pa.table({"u": pa.array([(1, 2, 3)], pa.month_day_nano_interval())}),
            TypeError,
            "Column 'u' has the Arrow type",
        ),
        (
            pa.table({"r": pc.run_end_encode(pa.array([5, 5, 6]))}),
            TypeError,
            "Column 'r' is run-end encoded",
        ),
        ({"a": [1, 2]}, TypeError, r"X is a dict.*pandas.DataFrame\(X\)"),
        ([{"a": 1}, {"a": 2}], TypeError, r"X is a list of dicts.*pandas.DataFrame\(X\)"),
        (np.array([(1, 2.0)], dtype=[("a", int), ("b", float)]), TypeError, "structured array"),
        (pd.Series([1, 2, 3]), ValueError, "Expected 2D array, got a pandas Series.*to_frame"),
    ],
)
def test_tables_that_are_refused_with_the_way_out(X, error, match):
    with pytest.raises(error, match=f"(?s){match}"):
        TableEncoder().fit(X)


@pytest.mark.skipif(not hasattr(pl, "Int128"), reason="this polars has no Int128")
def test_integers_of_128_bits_are_refused():
    with pytest.raises(TypeError, match=r"'w' is Int128, which is not supported\. Cast it"):
        TableEncoder().fit(pl.DataFrame({"w": pl.Series([1, 2], dtype=pl.Int128)}))


def test_a_polars_column_of_type_null_is_refused():
    with pytest.raises(TypeError, match="'n' has the type Null, which is not supported"):
        TableEncoder().fit(pl.DataFrame({"n": [None, None], "x": [1, 2]}))


def test_the_advice_about_times_can_be_followed():
    times = ["1600-01-01T00:00:00.000001", "9999-12-31T23:59:59.999999"]
    X = pd.DataFrame({"t": pd.Series(times).astype("datetime64[us]")})
    with pytest.raises(ValueError, match=r"'t' has times in us.*dt.floor\('ms'\)"):
        TableEncoder().fit(X)
    X["t"] = pd.to_datetime(X["t"]).dt.floor("ms")
    pd.testing.assert_frame_equal(round_trip(X), X)


def test_decimals_of_a_negative_scale():
    values = [Decimal(1000 * i) for i in range(80)]
    X = pa.table({"d": pa.array(values, pa.decimal128(10, -3)), "n": [i % 7 for i in range(80)]})
    encoder = TableEncoder().fit(X)
    assert encoder.inverse_transform(encoder.transform(X))["d"].to_pylist() == values
    Z = np.column_stack([encoder.transform(X)[::-1, :-1], np.full(80, 0.0)])
    assert encoder.inverse_transform(np.clip(Z, 0, 0.3).round() * 0).num_rows == 80


def test_numbers_beyond_the_modes_codec():
    with pytest.raises(
        ValueError, match=r"'x': the column holds 1e\+160, but ModeCodec takes only"
    ):
        TableEncoder(numerical="modes").fit(pd.DataFrame({"x": [1e160, 1.0, 2.0]}))
    with pytest.raises(ValueError, match="ModeCodec takes only numbers up to"):
        ModeCodec().fit([1.7e308, -1.7e308])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.5, 2.0])
def test_positions_are_checked(bad):
    X = pd.DataFrame({"x": np.random.default_rng(0).normal(size=100)})
    encoder = TableEncoder().fit(X)
    Z = encoder.transform(X)
    Z[3, -1] = bad
    with pytest.raises(ValueError, match=r"'x__position' must hold positions in \[0, 1\], got .*3"):
        encoder.inverse_transform(Z)


def test_kinds_and_storages_are_independent():
    """The same numbers and times, held in every way, give the same plain column."""
    numbers = [1, 3, 2]
    for dtype in ("int8", "float32", "Int64", "Float64", object, "int64[pyarrow]"):
        series = pd.Series(numbers, dtype=dtype)
        column = learn_column("x", series)
        assert column.kind == "number"
        np.testing.assert_array_equal(column.read(series), numbers)
        pd.testing.assert_series_equal(column.write(column.read(series)), series)
    days = [datetime.date(2024, 1, day) for day in (1, 3, 2)]
    for series in (
        pd.Series(days, dtype=object),
        pd.Series(pd.to_datetime(days)),
        pd.Series(pd.to_datetime(days)).astype(object),
        pd.Series(days, dtype="date32[pyarrow]"),
        pd.Series(days, dtype="date64[pyarrow]"),
    ):
        column = learn_column("x", series)
        assert (column.kind, column.unit) == ("datetime", "D")
        np.testing.assert_array_equal(column.read(series) - column.read(series)[0], [0, 2, 1])
        pd.testing.assert_series_equal(column.write(column.read(series)), series)


@pytest.mark.parametrize("gone", [[np.nan] * 3, [None] * 3, [pd.NaT] * 3])
def test_a_column_of_missing_values_alone_is_read_whatever_its_dtype(gone):
    X = pd.DataFrame({"t": [DAY, pd.NaT, DAY], "n": [1.5, np.nan, 2.0], "d": [DAY - DAY] * 3})
    X.loc[1, "d"] = pd.NaT
    encoder = TableEncoder().fit(X)
    encoded = encoder.transform(pd.DataFrame({name: gone for name in X}))
    np.testing.assert_array_equal(encoded, encoder.transform(X)[[1, 1, 1]])


def test_complex_numbers_are_refused():
    X = pd.DataFrame({"x": [1.0, 2.0, 3.0]})
    encoder = TableEncoder().fit(X)
    with pytest.raises(TypeError, match="Column 'x' was a number"):
        encoder.log_density(X + 5j)
    with pytest.raises(ValueError, match="Complex data not supported"):
        encoder.inverse_transform(encoder.transform(X) + 0.5j)


def test_decimal_grids():
    assert DecimalGrid.of(np.array([1.5, np.nan, 2.25])).decimals == 2
    assert DecimalGrid.of(np.array([1 / 3])).decimals is None
    np.testing.assert_array_equal(DecimalGrid(1).ceil(np.array([1.01, 1.1, -0.05])), [1.1, 1.1, 0])
    assert DecimalGrid(2).finest(DecimalGrid(None)) == DecimalGrid(None)
    values = np.array([*np.arange(200) / 4, 1 / 3])
    assert almost_on_grid(values, np.ones(201), DecimalGrid.of(values)) == (2, 1 / 3)
    assert almost_on_grid(values[:-1], np.ones(200), DecimalGrid(2)) is None
    noisy = np.array([3 * 1.1, *np.arange(200) / 4])
    assert almost_on_grid(noisy, np.ones(201), DecimalGrid.of(noisy)) == (2, 3 * 1.1)


def test_keys_and_order_survive_other_containers():
    X = pl.DataFrame(
        {"low": [1, 2, 3] * 20, "high": [2, 2, 5] * 20, "id": [f"i{i}" for i in range(60)]}
    )
    encoder = TableEncoder([("k", KeyCodec(), ["id"])], relations=[LessEqual("low", "high")])
    back = encoder.fit(X).inverse_transform(encoder.transform(X))
    assert back.columns == X.columns and back["id"][0] == "i60"
    assert back.drop("id").equals(X.drop("id"))
