import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import trapezoid

from sktvae import CategoryCodec, ModeCodec, QuantileCodec
from sktvae._encoding.quantile import equal_mass_bins
from sktvae._heads import Categorical, Gaussian, Uniform

numbers = st.lists(
    st.one_of(
        st.integers(-1000, 1000).map(float),
        st.floats(-1e9, 1e9, allow_nan=False, allow_subnormal=False),
        st.sampled_from([0.0, 0.5, 99.99]),
        st.just(np.nan),
    ),
    min_size=1,
    max_size=200,
).filter(lambda values: not np.isnan(values).all())


def within_heads(codec, Z):
    """Whether every encoded column is what its head says."""
    for head, column in zip(codec.heads_, Z.T, strict=True):
        if isinstance(head, Categorical):
            if not (np.isin(column, np.arange(head.n_categories))).all():
                return False
        elif isinstance(head, Gaussian):
            if not ((np.abs(column) <= 1) | np.isnan(column)).all():
                return False
        elif not ((column >= 0) & (column <= 1)).all():
            return False
    return True


@settings(max_examples=300, deadline=None)
@given(numbers, st.integers(1, 40), st.integers(1, 20), st.integers(1, 12), st.integers(1, 5))
def test_quantile_round_trip(values, n_bins, n_subbins, min_samples_bin, min_samples):
    x = np.array(values)
    codec = QuantileCodec(n_bins, n_subbins, min_samples_bin, min_samples).fit(x)
    Z = codec.transform(x)
    assert within_heads(codec, Z)
    back = codec.inverse_transform(Z)
    np.testing.assert_array_equal(np.isnan(back), np.isnan(x))
    x, back = x[~np.isnan(x)], back[~np.isnan(x)]
    # A value that is kept comes back to the last bit; others as a number of their stretch.
    kept = codec._cells.exactly(x)[0]
    np.testing.assert_array_equal(back[kept], x[kept])
    # Numbers beyond the range, whose end may be a value that is kept, count as its end.
    cell = codec._cells.find(np.clip(x, codec.low_.min(), codec.high_.max()))
    inside = (codec.low_[cell] <= x) & (x <= codec.high_[cell])
    np.testing.assert_allclose(back[inside], x[inside], rtol=1e-12, atol=1e-9 * np.ptp(x))
    # The others come back as the nearest number that their cell stands for.
    nearest = np.clip(x, codec.low_[cell], codec.high_[cell])
    room = 0 if codec.decimals_ is None else 10.0**-codec.decimals_ / 2
    atol = room + 1e-9 * np.ptp(x)
    np.testing.assert_allclose(back[~inside], nearest[~inside], rtol=1e-12, atol=atol)


@settings(max_examples=200, deadline=None)
@given(numbers)
def test_without_protection_every_number_is_in_range(values):
    x = np.array(values)
    codec = QuantileCodec(min_samples=1).fit(x)
    encoded = codec.encode(x)
    back = codec.inverse_transform(codec.transform(x))
    assert not encoded.is_clipped
    assert np.nanmin(back) == pytest.approx(np.nanmin(x), abs=1e-9 * np.ptp(x[~np.isnan(x)]))
    assert np.nanmax(back) == pytest.approx(np.nanmax(x), abs=1e-9 * np.ptp(x[~np.isnan(x)]))


@settings(max_examples=100, deadline=None)
@given(numbers, st.integers(0, 2**31 - 1), st.integers(1, 5))
def test_quantile_decodes_any_code_to_a_possible_value(values, seed, min_samples):
    x = np.array(values)
    codec = QuantileCodec(8, 4, 2, min_samples).fit(x)
    rng = np.random.default_rng(seed)
    Z = np.column_stack(
        [
            rng.integers(0, head.n_categories, 200)
            if isinstance(head, Categorical)
            else rng.random(200)
            for head in codec.heads_
        ]
    )
    drawn = codec.inverse_transform(Z)
    assert np.isnan(drawn).any() <= np.isnan(x).any()
    drawn = drawn[~np.isnan(drawn)]
    assert (drawn >= codec._low).all() and (drawn <= codec._high).all()
    # The range may end a little beyond the column, but never on the other side of zero.
    low, high = np.nanmin(x), np.nanmax(x)
    reach = 0 if min_samples == 1 else 2 * (high - low)
    assert low - reach <= drawn.min() and drawn.max() <= high + reach
    assert low < 0 or drawn.min() >= 0
    assert high > 0 or drawn.max() <= 0
    if codec.decimals_ is not None:
        np.testing.assert_array_equal(np.round(drawn, codec.decimals_), drawn)


def test_quantile_keeps_the_distribution():
    """Codes at their own frequencies and uniform positions give the column's distribution back."""
    rng = np.random.default_rng(0)
    x = np.where(rng.random(20_000) < 0.4, 0.0, rng.lognormal(3, 1, 20_000))
    x[:500] = 17.25
    codec = QuantileCodec().fit(x)
    Z = codec.transform(x)
    assert isinstance(codec.heads_[-1], Uniform)
    Z[:, -1] = rng.random(len(x))
    drawn = codec.inverse_transform(Z)
    for value in (0.0, 17.25):
        assert abs((drawn == value).mean() - (x == value).mean()) < 1e-12
    grid = np.quantile(x, np.linspace(0.01, 0.99, 50))
    shares = [np.searchsorted(np.sort(v), grid, side="right") / len(x) for v in (x, drawn)]
    assert np.abs(shares[0] - shares[1]).max() < 0.005


def test_quantile_interpolates_what_occurs_once():
    x = np.sort(np.random.default_rng(0).normal(size=1000))
    codec = QuantileCodec().fit(x)
    rng = np.random.default_rng(1)
    Z = codec.transform(x)
    Z[:, -1] = rng.random(1000)
    drawn = codec.inverse_transform(Z)
    assert np.isin(drawn, x).mean() < 0.01


@pytest.mark.parametrize("x", [np.arange(2000.0) % 37, np.r_[np.zeros(900), np.arange(100)]])
def test_quantile_probabilities_sum_to_one(x):
    """Over all values a column of integers can give: probabilities of the codes times densities."""
    codec = QuantileCodec(n_bins=8, n_subbins=4).fit(x)
    Z = codec.transform(x)[:, : sum(isinstance(h, Categorical) for h in codec.heads_)]
    possible = numbers_in_range(codec)
    frequency = pd.DataFrame(Z).value_counts(normalize=True)
    at = codec.transform(possible)
    codes = pd.MultiIndex.from_frame(pd.DataFrame(at[:, : Z.shape[1]]))
    probability = frequency.reindex(codes, fill_value=0).to_numpy()
    total = (probability * np.exp(codec.log_density(possible))).sum()
    assert abs(total - 1) < 0.02


def numbers_in_range(codec):
    """All numbers of the grid that a codec stands for."""
    step = 10.0**-codec.decimals_
    first, last = np.floor(codec._low / step) - 1, np.ceil(codec._high / step) + 1
    possible = np.round(np.arange(first, last + 1) * step, codec.decimals_)
    return possible[(codec._low <= possible) & (possible <= codec._high)]


@pytest.mark.parametrize(
    "x",
    [
        np.repeat([1.0, 2.0, 4.0], 5),
        np.random.default_rng(0).normal(40, 10, 300).round(),
        np.random.default_rng(1).integers(0, 30, 30).astype(float),
        np.random.default_rng(2).lognormal(1, 1, 400).round(2),
        np.random.default_rng(3).normal(0, 1, 300).round(1),
        np.r_[0.0, 0.0, 0.3, 0.7, 0.7, 1.0],
        # a few sentinels beyond the first stretch; heaps on top of stretches
        np.r_[np.full(40, -5.0), np.random.default_rng(4).gamma(4, 9, 800).round()],
        np.r_[np.full(40, -6.0), np.random.default_rng(4).gamma(4, 9, 800).round()],
        np.r_[np.arange(40) * 50.0, np.random.default_rng(5).integers(0, 2000, 900)],
        np.r_[np.zeros(600), np.random.default_rng(6).lognormal(4, 1, 300).round()],
    ],
)
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"n_bins": 4, "n_subbins": 3, "min_samples_bin": 3},
        {"min_samples": 1, "min_samples_bin": 10},
        {"min_samples": 2, "n_bins": 12, "n_subbins": 5, "min_samples_bin": 8},
        {"min_samples": 5},
    ],
)
def test_quantile_probabilities_of_each_bin_sum_to_one(x, params):
    """Over all numbers of the grid in the range, seen or not; a missing value takes the rest."""
    codec = QuantileCodec(**params).fit(x)
    possible = numbers_in_range(codec)
    encoded = codec.encode(possible, log_density=True)
    n_codes = sum(isinstance(head, Categorical) for head in codec.heads_)
    missing = codec.encode([np.nan], log_density=True)
    density = np.exp(np.append(encoded.log_density, missing.log_density))
    pairs = zip(encoded.heads[:n_codes], missing.heads[:n_codes], strict=True)
    codes = np.column_stack([np.append(*pair) for pair in pairs])
    _, bins = np.unique(codes, axis=0, return_inverse=True)
    np.testing.assert_allclose(np.bincount(bins.ravel(), density), 1, rtol=1e-9)


def test_quantile_numbers_beyond_the_range_are_scored_as_its_ends():
    codec = QuantileCodec().fit(np.repeat([1.0, 2.0, 3.0], [30, 30, 40]))
    density = codec.log_density([1.0, -99.0, 3.0, 99.0])
    assert density[0] == density[1] and density[2] == density[3]


def test_fractional_weights_do_not_make_numbers_repeat():
    """Weights of more than one row keep no number that occurs once."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=300)
    for weight in (rng.uniform(1.1, 3, 300), rng.gamma(2, 1, 300)):
        codec = QuantileCodec().fit(x, sample_weight=weight / weight.mean())
        Z = codec.transform(x)
        Z[:, -1] = rng.random(300)
        assert not np.isin(codec.inverse_transform(Z), x).any()
        modes = ModeCodec(random_state=0).fit(x, sample_weight=weight)
        assert modes._low not in x and modes._high not in x


def test_quantile_unseen_values_have_a_probability():
    """Seen and unseen integers of one cell share its mass, and no more than that."""
    codec = QuantileCodec().fit(np.repeat([0.0, 10.0], [30, 9]))
    possible = np.arange(0, 11.0)
    density = np.exp(codec.log_density(possible))
    assert (density > 0).all()
    # of the heavier bin, one part in 31 is also reserved for missing values
    np.testing.assert_allclose(density[[0, 10]], [(30 / 31) ** 2, 9 / 10])
    cell = codec.transform(possible)[:, 0]
    assert all(density[cell == c].sum() <= 1.1 for c in (0, 1))


def test_quantile_density_integrates_to_one():
    x = np.random.default_rng(0).lognormal(0, 1, 3000)
    codec = QuantileCodec().fit(x)
    n_codes = sum(isinstance(head, Categorical) for head in codec.heads_)
    codes = pd.MultiIndex.from_frame(pd.DataFrame(codec.transform(x)[:, :n_codes]))
    share = pd.Series(1 / len(x), codes).groupby(level=list(range(n_codes))).sum()
    grid = np.linspace(codec._low, codec._high, 400_001)
    at = codec.transform(grid)
    mass = share.reindex(pd.MultiIndex.from_frame(pd.DataFrame(at[:, :n_codes])), fill_value=0)
    density = mass.to_numpy() * np.exp(codec.log_density(grid))
    assert abs(trapezoid(density, grid) - 1) < 0.01


def test_a_number_on_its_own_has_the_density_of_its_bin():
    """Between 0 and the next float there is no number to leave mass to."""
    x = np.r_[np.zeros(100), np.random.default_rng(0).lognormal(size=300), np.nan]
    codec = QuantileCodec().fit(x)
    assert 0 in codec._cells.exact and codec.missing_
    assert codec.log_density([0.0]) == 0


def test_quantile_unseen_values_take_their_neighbours_place():
    codec = QuantileCodec().fit(np.repeat([1.0, 5.0, 9.0], 40))
    codes = codec.transform([-10.0, 1.9, 4.0, 9.0, 1e6])[:, 0]
    np.testing.assert_array_equal(codes, [0, 0, 1, 2, 2])


@settings(max_examples=60, deadline=None)
@given(numbers)
def test_modes_round_trip_within_four_deviations(values):
    x = np.array(values)
    codec = ModeCodec(random_state=0).fit(x)
    Z = codec.transform(x)
    assert within_heads(codec, Z)
    back = codec.inverse_transform(Z)
    np.testing.assert_array_equal(np.isnan(back), np.isnan(x))
    inside = np.abs(Z[:, 1]) < 1
    inside &= (x >= codec._low) & (x <= codec._high)
    span = np.nanmax(x) - np.nanmin(x)
    np.testing.assert_allclose(back[inside], x[inside], rtol=1e-9, atol=1e-9 * max(span, 1e-300))


def test_modes_are_found():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(-50, 1, 3000), rng.normal(20, 5, 7000)])
    codec = ModeCodec(random_state=0).fit(x)
    low = codec.means_ < -20
    assert abs(codec.weights_[low].sum() - 0.3) < 0.02
    assert abs(codec.weights_[low] @ codec.means_[low] / codec.weights_[low].sum() + 50) < 0.5
    wrong = (codec.transform(x)[:, 0] < low.sum()) != (x < -20)
    assert wrong.mean() < 0.001


def test_modes_keep_no_value_of_a_single_row():
    x = np.random.default_rng(0).normal(size=500)
    codec = ModeCodec(random_state=0).fit(x)
    kept = [np.atleast_1d(v) for v in vars(codec).values() if isinstance(v, float | np.ndarray)]
    assert not np.isin(np.concatenate(kept), x).any()


def test_modes_keep_decimals_and_range():
    x = np.round(np.random.default_rng(0).gamma(2, 10, 2000), 2)
    codec = ModeCodec(random_state=0).fit(x)
    rng = np.random.default_rng(1)
    modes = rng.integers(0, codec.heads_[0].n_categories, 5000)
    drawn = codec.inverse_transform(np.column_stack([modes, rng.uniform(-1, 1, 5000)]))
    assert codec.decimals_ == 2
    np.testing.assert_array_equal(np.round(drawn, 2), drawn)
    assert drawn.min() >= x.min() and drawn.max() <= x.max()


values = st.one_of(
    st.none(), st.text(max_size=3), st.integers(-3, 3), st.tuples(st.integers(0, 2)), st.booleans()
)


@settings(max_examples=200, deadline=None)
@given(st.lists(values, min_size=1, max_size=60).filter(lambda v: any(x is not None for x in v)))
def test_category_round_trip(cells):
    column = pd.Series(cells, dtype=object)
    codec = CategoryCodec().fit(column)
    Z = codec.transform(column)
    assert within_heads(codec, Z)
    back = codec.inverse_transform(Z)
    assert all((a is None and b is None) or a == b for a, b in zip(back, cells, strict=True))


@pytest.mark.parametrize(
    "params", [{"min_frequency": 5}, {"min_frequency": 0.05}, {"max_categories": 3}]
)
def test_category_infrequent_values_come_back_at_their_frequencies(params):
    cells = ["a"] * 60 + ["b"] * 30 + ["c"] * 4 + ["d"] * 3 + ["e"] * 1 + [None] * 2
    codec = CategoryCodec(**params).fit(cells)
    assert codec.heads_[0] == Categorical(4)  # a, b, the infrequent, missing
    Z = codec.transform(cells)
    assert list(codec.inverse_transform(Z)) == cells
    many = np.column_stack([np.full(8000, 2), (np.arange(8000) + 0.5) / 8000])
    drawn = pd.Series(codec.inverse_transform(many)).value_counts(normalize=True)
    np.testing.assert_allclose(drawn[["c", "d", "e"]], [4 / 8, 3 / 8, 1 / 8], atol=1e-3)
    density = codec.log_density(cells)
    # one part in nine is reserved for unknown categories, which join the infrequent ones
    np.testing.assert_allclose(np.exp(density[[0, 90, 97]]), [1, 4 / 9, 1 / 9])
    np.testing.assert_allclose(np.exp(codec.log_density(["unknown"])), 1 / 9)


def test_category_label_protects_infrequent_values():
    codec = CategoryCodec(min_frequency=2, infrequent_label="other").fit(["a", "a", "secret"])
    assert "secret" not in codec.categories_
    Z = codec.transform(["a", "secret", "unseen"])
    assert list(codec.inverse_transform(Z)) == ["a", "other", "other"]


def test_category_unknown_values():
    codec = CategoryCodec().fit(["a", "b"])
    with pytest.raises(ValueError, match=r"unknown categories \['z'\].*infrequent_if_exist"):
        codec.transform(["a", "z"])
    with pytest.raises(ValueError, match="missing value"):
        codec.transform(["a", None])
    lenient = CategoryCodec(min_frequency=2, handle_unknown="infrequent_if_exist")
    lenient.fit(["a", "a", "b"])
    assert list(lenient.inverse_transform(lenient.transform(["a", "z"]))) == ["a", "b"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=100), st.integers(1, 40))
def test_equal_mass_bins(counts, n_bins):
    counts = np.array(counts)
    bins = equal_mass_bins(counts, n_bins, min_count=1)
    assert bins[0] == 0 and set(np.diff(bins)) <= {0, 1}
    mass = np.bincount(bins, counts)
    heavy = counts >= counts.sum() / n_bins
    # only a value that is heavy by itself, or that ends a bin, can exceed its share by much
    assert (mass[bins[~heavy & (counts > 1)]] <= 2 * counts.sum() / n_bins + counts.max()).all()
    for i in np.flatnonzero(heavy & (counts > 1)):
        assert (bins == bins[i]).sum() == 1


def test_missing_values_alone_are_a_category():
    codec = CategoryCodec().fit([None, None])
    assert codec.heads_ == (Categorical(1),)
    assert codec.inverse_transform(codec.transform([np.nan])).tolist() == [None]


@pytest.mark.parametrize("codec", [ModeCodec(), QuantileCodec()])
def test_no_values(codec):
    with pytest.raises(ValueError, match="all missing"):
        codec.fit([None, None])
    with pytest.raises(ValueError, match="one column"):
        codec.fit(np.zeros((3, 2)))


@pytest.mark.parametrize(
    "codec", [QuantileCodec(n_bins=0), ModeCodec(n_components=0), CategoryCodec(min_frequency=1.5)]
)
def test_parameters_are_validated(codec):
    with pytest.raises(ValueError, match="parameter of"):
        codec.fit([1.0, 2.0])


@pytest.mark.parametrize("min_samples", [1, 3])
@pytest.mark.parametrize("scale", [1e-290, 1e-100, 1e-9, 1.0, 1e9, 1e100, 1e290])
def test_numbers_of_any_size_come_back(scale, min_samples):
    rng = np.random.default_rng(0)
    for x in (rng.normal(size=200), rng.lognormal(0, 20, 200), np.array([0.0, 1.9428954297613394])):
        x = x / np.abs(x).max() * scale
        codec = QuantileCodec(min_samples=min_samples).fit(x)
        back = codec.inverse_transform(codec.transform(x))
        assert np.isfinite(codec.log_density(x)).all()
        # The last few numbers at each end are beyond the range.
        inside = (codec._low <= x) & (x <= codec._high)
        assert inside.all() if min_samples == 1 else inside.mean() >= 0.95
        np.testing.assert_allclose(back[inside], x[inside], rtol=1e-14, atol=1e-12 * np.ptp(x))


@pytest.mark.parametrize("min_samples", [1, 3])
def test_neighbouring_floats_have_a_place(min_samples):
    x = 1 + np.spacing(1.0) * np.random.default_rng(0).integers(0, 9, 300)
    codec = QuantileCodec(min_samples=min_samples).fit(x)
    np.testing.assert_array_equal(codec.inverse_transform(codec.transform(x)), x)
    assert np.isfinite(codec.log_density(x)).all()


def test_arithmetic_leaves_no_noise():
    """Numbers of few digits among others of many come back as they are."""
    rng = np.random.default_rng(0)
    x = np.concatenate([np.arange(40) / 8, rng.normal(size=60), 1e5 + rng.normal(size=60)])
    codec = QuantileCodec().fit(x)
    assert codec.decimals_ is None
    back = codec.inverse_transform(codec.transform(x))
    np.testing.assert_array_equal(back[:40], x[:40])


def test_decimals_beyond_a_float_are_none():
    assert QuantileCodec().fit([0.0, 1.0, 113.70928317983635]).decimals_ is None
    assert QuantileCodec().fit([0.0, 1.0, 113.7092831798]).decimals_ == 10
