"""Limits of codecs: which part of each code satisfies a condition, and where in it."""

import numpy as np
import pandas as pd
import pytest

from sktvae import CategoryCodec, ModeCodec, QuantileCodec
from sktvae._encoding import outcomes
from sktvae._encoding.limits import Accepted
from sktvae._encoding.seen import accepted_of, check_seen
from sktvae._heads import Categorical

RNG = np.random.default_rng(0)
N = 1500
COLUMNS = {
    "integers": RNG.integers(0, 200, N).astype(float),
    "few": RNG.choice([1.0, 2.0, 5.0, 9.0], N),
    "prices": RNG.lognormal(2, 0.6, N).round(2),
    "real": RNG.normal(size=N),
    "spike": np.where(RNG.random(N) < 0.4, 0.0, RNG.exponential(30, N).round(1)),
    "mixed": np.where(RNG.random(N) < 0.5, RNG.integers(0, 3, N), RNG.normal(5, 2, N)),
    "missing": np.where(RNG.random(N) < 0.3, np.nan, RNG.integers(-40, 60, N)),
}
CODECS = {
    "one head": QuantileCodec(),
    "two heads": QuantileCodec(n_bins=2, n_subbins=16, min_samples_bin=10),
    "no protection": QuantileCodec(min_samples=1, n_bins=7),
}


def middles(n=2000):
    """Positions in the middle of each n-th of [0, 1]."""
    return (np.arange(n) + 0.5) / n


def decoded(codec, codes, positions):
    """The numbers that one tuple of codes stands for at each position."""
    heads = [np.full(len(positions), code) for code in codes]
    if not isinstance(codec.heads_[-1], Categorical):
        heads.append(positions)
    return codec.decode(heads, len(positions))


def satisfies(values, accepted):
    ok = np.isin(values, accepted.values) | (np.isnan(values) & accepted.missing)
    for low, high, closed in accepted.ranges:
        above = values >= low if closed in ("left", "both") else values > low
        ok |= above & (values <= high if closed in ("right", "both") else values < high)
    return ok


def some_conditions(codec, column):
    """Ranges that begin and end anywhere, open and closed, alone and with values."""
    present = np.sort(column[~np.isnan(column)])
    low, high = codec.ends
    seen = present[(present >= low) & (present <= high)]
    a, b, c, d = (float(np.quantile(seen, q, method="nearest")) for q in (0.13, 0.41, 0.6, 0.93))
    yield Accepted(ranges=[(a, b, "both")])
    yield Accepted(ranges=[(a, b, "neither"), (c, d, "left")])
    yield Accepted(ranges=[(a, c, "right"), (b, d, "left")])
    yield Accepted(ranges=[(-np.inf, b, "neither")], missing=codec.missing_)
    yield Accepted(ranges=[(d, np.inf, "left")])
    yield Accepted(ranges=[(a, b, "both"), (a, c, "both"), (a, c, "left")])
    yield Accepted(ranges=[(-np.inf, np.inf, "neither")])
    if codec.decimals_ is not None:  # without decimals, a single number has no mass
        yield Accepted([a, c, d])
        yield Accepted([b], [(c, d, "neither")])


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_the_share_of_a_code_is_that_of_its_positions(codec, column):
    codec = codec.fit(column)
    for accepted in some_conditions(codec, column):
        limit = codec.limit(accepted)
        sizes = [head.n_categories for head in codec.heads_ if isinstance(head, Categorical)]
        assert limit.share.shape == tuple(sizes)
        for codes in np.ndindex(*sizes):
            fraction = satisfies(decoded(codec, codes, middles(1000)), accepted).mean()
            assert abs(limit.share[codes] - fraction) < 4e-3, (accepted, codes)


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_places_are_the_accepted_positions_and_equally_likely(codec, column):
    """In each code, the values at placed positions are those of all positions that satisfy."""
    codec = codec.fit(column)
    has_position = not isinstance(codec.heads_[-1], Categorical)
    for accepted in some_conditions(codec, column):
        limit = codec.limit(accepted)
        for codes in np.argwhere((limit.share > 1e-4) & (limit.share < 1)):
            u = middles(500)
            bins = codec.bins_of([np.full(len(u), code) for code in codes])
            position, low, high = limit.place(bins, u)
            values = decoded(codec, codes, position if has_position else u)
            clipped = np.clip(values, low, high)
            assert satisfies(clipped, accepted).all(), (accepted, codes)
            if bins[0] < 0:
                continue
            # Clipping is for rounding errors at the ends, not for the rest.
            assert (clipped != values).mean() < 2e-2
            whole = decoded(codec, codes, middles(50_000))
            expected = np.sort(whole[satisfies(whole, accepted)])
            at = np.linspace(0.01, 0.99, 50)
            span = max(expected[-1] - expected[0], 1.0)
            far = np.abs(np.quantile(expected, at) - np.quantile(clipped, at))
            # A step of a distribution may fall on either side of a quantile.
            assert (far > 0.02 * span).mean() < 0.15, (accepted, codes)


def test_relative_frequencies_of_placed_values():
    """Integers within one bin: of a range and a value beside it, each as often as in the bin."""
    codec = QuantileCodec(n_bins=1, n_subbins=1).fit(COLUMNS["integers"])
    limit = codec.limit(Accepted([150.0], [(20.0, 24.0, "both")]))
    position, low, high = limit.place(np.zeros(12_000, dtype=int), middles(12_000))
    values = np.clip(codec.decode([np.zeros(12_000), position], 12_000), low, high)
    found, counts = np.unique(values, return_counts=True)
    assert found.tolist() == [20, 21, 22, 23, 24, 150]
    np.testing.assert_allclose(counts, 2000, rtol=0.01)


def test_what_lies_between_exact_values_can_be_asked_for():
    codec = QuantileCodec().fit(COLUMNS["few"])
    for accepted in (Accepted([3.0]), Accepted(ranges=[(2.1, 4.9, "both")]), Accepted([3.0, 7.0])):
        limit = codec.limit(accepted)
        assert 0 < limit.share.max() < 1e-3
        bins = np.flatnonzero(limit.share)
        _, low, high = limit.place(bins, np.full(len(bins), 0.5))
        values = np.clip(codec.decode([bins], len(bins)), low, high)
        assert satisfies(values, accepted).all()


@pytest.mark.parametrize("name", ["real", "mixed"])
def test_a_single_number_without_decimals_can_be_asked_for(name):
    codec = QuantileCodec().fit(COLUMNS[name])
    limit = codec.limit(Accepted([0.123456789]))
    bins = np.flatnonzero(limit.share)
    assert len(bins) and limit.share.max() < 1e-4
    _, low, high = limit.place(bins, np.full(len(bins), 0.3))
    assert (low == 0.123456789).all() and (high == 0.123456789).all()


def test_nothing_is_accepted_beyond_the_range_or_between_decimals():
    codec = QuantileCodec().fit(COLUMNS["integers"])
    for accepted in (
        Accepted([1e6]),
        Accepted(ranges=[(10.2, 10.8, "both")]),
        Accepted(ranges=[(10.0, 11.0, "neither")]),
        Accepted(ranges=[(300.0, 400.0, "both")]),
    ):
        assert not codec.limit(accepted).share.any()
    assert codec.limit(Accepted(ranges=[(10.0, 11.0, "left")])).share.any()


def categories(**params):
    words = np.repeat(["a", "b", "c", "d", None], [200, 100, 50, 30, 40])
    return CategoryCodec(**params).fit(pd.Series(words, dtype=object))


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"max_categories": 2},
        {"min_frequency": 60, "infrequent_label": "other"},
        {"min_samples": 60},
    ],
    ids=["all frequent", "infrequent", "label", "substitutes"],
)
@pytest.mark.parametrize("asked", [["a"], ["b", "c"], ["c"], ["d", None], [None], ["other", "a"]])
def test_shares_and_places_of_categories(params, asked):
    codec = categories(**params)
    known = [*codec.outcomes(), None]
    values = [value for value in asked if value is not None and value in known]
    limit = codec.limit(Accepted(values, missing=None in asked))
    is_in = lambda column: np.array([v in values or (v is None and None in asked) for v in column])
    for code in range(codec.heads_[0].n_categories):
        heads = [np.full(2000, code), middles()][: len(codec.heads_)]
        ok = is_in(codec.decode(heads, 2000))
        assert abs(limit.share[code] - ok.mean()) < 1e-3
        if not limit.share[code]:
            continue
        position, _, _ = limit.place(codec.bins_of(heads), middles())
        placed = codec.decode([heads[0], position][: len(heads)], 2000)
        assert is_in(placed).all()
        whole = codec.decode(heads, 2000)[ok]
        for value in values:
            assert abs((placed == value).mean() - (whole == value).mean()) < 2e-3


def test_outcomes_spread_the_infrequent_code():
    codec = categories(max_categories=2)
    assert codec.outcomes().tolist() == ["a", "b", "c", "d"]
    present, missing = outcomes.probabilities(codec, np.array([[0.5, 0.4, 0.1]]))
    np.testing.assert_allclose(present, [[0.5, 0.4 * 100 / 180, 0.4 * 50 / 180, 0.4 * 30 / 180]])
    assert missing.tolist() == [0.1]
    labelled = categories(min_frequency=60, infrequent_label="other")
    assert labelled.outcomes().tolist() == ["a", "b", "other"]
    present, _ = outcomes.probabilities(labelled, np.array([[0.2, 0.3, 0.4, 0.1]]))
    np.testing.assert_allclose(present, [[0.2, 0.3, 0.4]])


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_means_and_quantiles_are_those_of_what_is_drawn(codec, column):
    """For any probabilities of the codes, against numbers decoded from them."""
    codec = codec.fit(column)
    sizes = [head.n_categories for head in codec.heads_ if isinstance(head, Categorical)]
    p = np.random.default_rng(1).dirichlet(np.full(np.prod(sizes), 0.3)).reshape(1, *sizes)
    present, missing = outcomes.probabilities(codec, p)
    np.testing.assert_allclose(present.sum() + missing.sum(), 1)
    values, weights = [], []
    for codes in np.ndindex(*sizes):
        values.append(decoded(codec, codes, middles(400)))
        weights.append(np.full(400, p[0][codes] / 400))
    values, weights = np.concatenate(values), np.concatenate(weights)
    values, weights = values[~np.isnan(values)], weights[~np.isnan(values)]
    mean = np.average(values, weights=weights)
    spread = np.sqrt(np.average((values - mean) ** 2, weights=weights))
    assert abs(outcomes.mean(codec, present)[0] - mean) < 0.01 * spread
    levels = np.linspace(0, 1, 21)
    found = outcomes.quantile(codec, present, levels)[0]
    assert (np.diff(found) >= 0).all()
    low, high = codec.ends
    assert low <= found[0] and found[-1] <= high
    assert np.isin(found, codec.rounded(found)).all()
    share = weights / weights.sum()
    for level, number in zip(levels, found, strict=True):
        assert share[values < number - 1e-9].sum() <= level + 5e-3
        assert share[values <= number + 1e-9].sum() >= level - 5e-3


def test_the_distribution_of_numbers_that_may_follow_is_that_of_draws():
    rng = np.random.default_rng(0)
    codec = QuantileCodec().fit(np.round(rng.lognormal(3, 1, 1000), 2))
    n_bins = int(codec.bins_.max()) + 1
    present, left = rng.dirichlet(np.full(n_bins, 0.5), (2, 3))
    follow = [
        (np.array([12.5, 40.0, np.nan]), np.array([0.3, 0.2, 0.9])),
        (np.array([12.5, 3.25, np.nan]), np.array([0.4, 0.3, 0.9])),  # the first one is the same
    ]
    rest, atoms = outcomes.with_atoms(present, left, follow)
    np.testing.assert_allclose(atoms.mass, [[0.4, 0], [0.2, 0.3], [0, 0]])
    np.testing.assert_allclose(rest[2], present[2])
    np.testing.assert_allclose(rest[:2], left[:2] * [[0.6], [0.5]])
    for k in range(3):
        draws = codec._numbers_in(rng.choice(n_bins, 20_000, p=left[k]), rng.random(20_000))
        if k == 2:
            draws = codec._numbers_in(rng.choice(n_bins, 20_000, p=present[k]), rng.random(20_000))
        u = rng.random(20_000)
        draws = np.where(u < atoms.mass[k, 0], atoms.numbers[k, 0], draws)
        draws = np.where(u > 1 - atoms.mass[k, 1], atoms.numbers[k, 1], draws)
        one = outcomes.Atoms(atoms.numbers[k : k + 1], atoms.mass[k : k + 1])
        mean = outcomes.mean(codec, rest[k : k + 1], one)[0]
        assert abs(mean - draws.mean()) < 5 * draws.std() / 140
        levels = np.array([0.0, 0.05, 0.3, 0.5, 0.6, 0.8, 0.95, 1.0])
        found = outcomes.quantile(codec, rest[k : k + 1], levels, one)[0]
        assert (np.diff(found) >= 0).all()
        for level, number in zip(levels[1:-1], found[1:-1], strict=True):
            assert (draws < number).mean() - 0.02 < level < (draws <= number).mean() + 0.02


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_bounds_of_bins_hold_all_that_is_drawn_from_them(codec, column):
    codec = codec.fit(column)
    sizes = [head.n_categories for head in codec.heads_ if isinstance(head, Categorical)]
    low, high = codec.bounds_of_bins()
    for codes in np.ndindex(*sizes):
        values = decoded(codec, codes, np.append(middles(500), [0, 1]))
        (b,) = codec.bins_of([np.array([code]) for code in codes])
        if b >= 0:
            span = 1e-9 * (high[-1] - low[0])
            np.testing.assert_allclose([values.min(), values.max()], [low[b], high[b]], atol=span)
    assert codec.ends == (low.min(), high.max())


def test_what_fit_did_not_see_is_refused():
    number, category = QuantileCodec().fit(COLUMNS["integers"]), categories(max_categories=3)
    with pytest.raises(ValueError, match=r"500 is outside the range that fit learned, 0 to 199"):
        check_seen(number, Accepted([500.0]))
    with pytest.raises(ValueError, match="the range from 300 to inf is outside"):
        check_seen(number, Accepted(ranges=[(300.0, np.inf, "both")]))
    with pytest.raises(ValueError, match="no value was missing in fit"):
        check_seen(number, Accepted(missing=True))
    with pytest.raises(ValueError, match=r"'z' is not among .* 'a', 'b', 'c', 'd'"):
        check_seen(category, Accepted(["a", "z"]))
    check_seen(category, Accepted(["a", "d"], missing=True))
    check_seen(number, Accepted([10.5], [(-np.inf, 3.0, "both")]))
    values = accepted_of(np.array([3.0, np.nan, 9.0, 5.0]))
    assert values.values == [3.0, 9.0] and values.missing
    modes = ModeCodec(random_state=0).fit(COLUMNS["integers"])
    with pytest.raises(ValueError, match="neither ranges nor lists"):
        modes.limit(Accepted([3.0, 4.0]))
