import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sktvae import CategoryCodec, ModeCodec, QuantileCodec, TableEncoder
from sktvae._encoding.accumulation import ColumnAccumulator, row_levels
from sktvae._encoding.sample_weight import row_weights
from sktvae._encoding.summary import ColumnSummary
from tests.conftest import people

cells = st.lists(st.sampled_from([0.0, 1.5, 2.0, -7.25, np.nan]), min_size=1, max_size=40)


def same(one, other):
    np.testing.assert_array_equal(one.values, other.values)
    np.testing.assert_allclose(one.counts, other.counts)
    assert one.missing == pytest.approx(other.missing)


@settings(max_examples=200, deadline=None)
@given(cells, cells)
def test_accumulating_both_parts_is_summarising_them_together(first, second):
    numbers = [np.array(part) for part in (first, second)]
    words = [pd.Series([None if np.isnan(v) else str(v) for v in part]) for part in numbers]
    whole = (
        ColumnSummary.of_numbers(np.concatenate(numbers)),
        ColumnSummary.of_categories(pd.concat(words)),
    )
    for parts, expected in zip((numbers, words), whole, strict=True):
        column, one, other = (ColumnAccumulator() for _ in range(3))
        column.add(parts[0], row_levels(0, len(first)))
        column.add(parts[1], row_levels(len(first), len(second)))
        same(column.summary(), expected)
        one.add(parts[0], row_levels(0, len(first)))
        other.add(parts[1], row_levels(0, len(second), rank=1))
        one.merge(other)
        same(one.summary(), expected)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([1.0, 2.5, np.nan]), st.integers(1, 5)), min_size=1))
def test_integer_weights_are_repetitions(rows):
    column = np.array([value for value, _ in rows])
    weight = np.array([count for _, count in rows])
    repeated = column.repeat(weight)
    same(ColumnSummary.of_numbers(column, weight), ColumnSummary.of_numbers(repeated))
    words, many = (pd.Series(c).astype(str).where(~np.isnan(c)) for c in (column, repeated))
    same(ColumnSummary.of_categories(words, weight), ColumnSummary.of_categories(many))


@pytest.mark.parametrize(
    "codec",
    [
        QuantileCodec(4, 2, 3),
        ModeCodec(random_state=0, max_samples=30),
        CategoryCodec(min_frequency=9),
    ],
)
def test_codecs_of_weighted_rows_are_those_of_repeated_rows(codec):
    rng = np.random.default_rng(0)
    x = np.where(rng.random(60) < 0.1, np.nan, rng.normal(size=60).round(1))
    weight = rng.integers(1, 6, 60)
    order = rng.permutation(weight.sum())
    weighted = codec.fit(x, sample_weight=weight)
    Z, density = weighted.transform(x), weighted.log_density(x)
    repeated = codec.fit(x.repeat(weight)[order])
    np.testing.assert_allclose(Z, repeated.transform(x))
    np.testing.assert_allclose(density, repeated.log_density(x))


def test_an_encoder_leaves_out_rows_of_weight_zero():
    table = people(100)
    weight = np.random.default_rng(0).integers(0, 3, 100)
    secret = table.assign(city=np.where(weight == 0, "Atlantis", table["city"]))
    secret["age"] = np.where(weight == 0, 1000, secret["age"])
    weighted = TableEncoder().fit(secret, sample_weight=weight)
    assert "Atlantis" not in weighted.codecs_[4].categories_
    rows = np.arange(100).repeat(weight)
    repeated = TableEncoder().fit(secret.iloc[rows])
    kept = secret[weight > 0]
    np.testing.assert_array_equal(weighted.transform(kept), repeated.transform(kept))
    Z = TableEncoder(numerical="modes", random_state=0).fit_transform(table, sample_weight=weight)
    assert Z.shape[0] == 100


@pytest.mark.parametrize(
    ("weight", "match"),
    [
        ([1, -1, 1], r"sample_weight must be >= 0, got -1.0 in row 1"),
        ([0, 0, 0], "zero"),
        ([1, 1], "sample_weight.shape"),
        ([1, np.nan, 1], "NaN"),
    ],
)
def test_wrong_weights(weight, match):
    with pytest.raises(ValueError, match=match):
        TableEncoder().fit(people(3), sample_weight=weight)


def test_small_weights_are_scaled_up():
    np.testing.assert_allclose(row_weights([0.1, 0.3, 0], [0] * 3), [0.5, 1.5, 0])
    np.testing.assert_allclose(row_weights([2, 3, 0], [0] * 3), [2, 3, 0])


def test_ranks_of_a_weighted_column():
    summary = ColumnSummary.of_numbers(np.array([3.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(summary.at_ranks(range(6)), [1, 1, 2, 2, 2, 3])
