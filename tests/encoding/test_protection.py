"""What fitted codecs keep rests on several rows, so that no row can be read from them."""

import pickle
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from sktvae import CategoryCodec, FixedCombinations, KeyCodec, QuantileCodec, TableEncoder
from sktvae._encoding.cells import _halved, fewest_rows
from sktvae._heads import Categorical

NAMES = [f"Mrs A{i} of {i} Elm St" for i in range(400)]


def drawn(fitted, n=3000, seed=0):
    """What random codes decode to: whatever a network may give."""
    rng = np.random.default_rng(seed)
    codes = [
        rng.integers(0, head.n_categories, n) if isinstance(head, Categorical) else rng.random(n)
        for head in fitted.heads_
    ]
    return fitted.inverse_transform(np.column_stack(codes))


def resampled(codec, x, seed=0):
    """The column of a perfect model: the codes of the rows, and places that are drawn."""
    Z = codec.transform(x)
    if not isinstance(codec.heads_[-1], Categorical):
        Z[:, -1] = np.random.default_rng(seed).random(len(x))
    return codec.inverse_transform(Z)


def floats(codec):
    """Every float that a fitted QuantileCodec holds."""
    held = [*vars(codec).values(), *vars(codec._cells).values()]
    arrays = [np.ravel(value) for value in held if isinstance(value, float | np.ndarray)]
    return np.concatenate([array for array in arrays if array.dtype.kind == "f"])


# Numbers


@pytest.mark.parametrize("n", [20, 100, 1000, 5000])
@pytest.mark.parametrize("min_samples", [2, 3, 5])
def test_no_continuous_number_is_kept(n, min_samples):
    rng = np.random.default_rng(n)
    for x in (rng.normal(size=n), rng.lognormal(3, 2, n), -rng.gamma(0.3, 1e-6, n)):
        codec = QuantileCodec(min_samples=min_samples).fit(x)
        assert len(floats(codec)) > 8
        assert not np.isin(floats(codec), x).any()
        assert not np.isin(resampled(codec, x), x).any()


@pytest.mark.parametrize("min_samples", [2, 3, 5])
def test_numbers_in_too_few_rows_are_not_kept(min_samples):
    """Each number of a continuous column is in one row less than would do."""
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=400), min_samples - 1)
    codec = QuantileCodec(min_samples=min_samples).fit(x)
    assert not np.isin(floats(codec), x).any()
    codec = QuantileCodec(min_samples=min_samples).fit(np.append(x, np.unique(x)))
    assert np.isin(np.unique(x), codec._cells.exact).all()


COLUMNS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "rounded lognormal": lambda rng, n: rng.lognormal(1, 1, n).round(2),
    "mostly zero": lambda rng, n: np.where(rng.random(n) < 0.92, 0, rng.lognormal(7, 1, n).round()),
    "sentinel": lambda rng, n: np.where(rng.random(n) < 0.1, -1.0, rng.gamma(2, 20, n).round(1)),
    "integers": lambda rng, n: rng.integers(0, 300, n).astype(float),
    "duplicates": lambda rng, n: rng.choice(rng.normal(size=max(n // 3, 1)), n),
    "heaps": lambda rng, n: np.where(
        rng.random(n) < 0.5, rng.integers(0, 20, n) * 100.0, rng.integers(0, 2000, n)
    ),
}


@pytest.mark.parametrize("n", [20, 60, 400, 5000])
@pytest.mark.parametrize("min_samples", [1, 2, 3, 5])
@pytest.mark.parametrize("name", COLUMNS)
def test_cells_and_kept_numbers_have_enough_rows(name, n, min_samples):
    for seed in range(5):
        x = COLUMNS[name](np.random.default_rng(seed), n)
        codec = QuantileCodec(min_samples=min_samples).fit(x)
        rows = np.bincount(codec._cells.find(x), minlength=len(codec.low_))
        np.testing.assert_allclose(rows, codec.mass_ * n)
        assert rows.min() >= min_samples
        for value in codec._cells.exact:
            assert (x == value).sum() >= min_samples
        assert (np.diff(codec._cells.edges) > 0).all()
        assert (codec.low_ <= codec.high_).all()


@pytest.mark.parametrize("decimals", [0, 17])
@pytest.mark.parametrize("n", [300, 20_000])
def test_the_ends_of_the_range_are_not_the_extremes(n, decimals):
    rng = np.random.default_rng(n)
    x = rng.uniform(-80, 80, n).round(decimals)
    codecs = []
    for largest in (100.0, 101.0):
        x[:2] = largest, -largest
        codec = QuantileCodec().fit(x)
        codecs.append(codec)
        half = 0 if codec.decimals_ is None else 0.5
        near = np.abs(np.abs(floats(codec)) - largest)
        assert not ((near == 0) | (near == half)).any()
        assert codec._high < 100 and codec._low > -100
        assert np.abs(drawn(codec)).max() < 100
    # One row more or less moves an end by as much as its share in the mean of a few rows.
    moved = abs(codecs[1]._high - codecs[0]._high)
    assert moved <= 2 / fewest_rows(3) + 2 * half


def test_without_protection_the_extremes_are_kept():
    rng = np.random.default_rng(0)
    for x in (rng.normal(size=500), rng.integers(0, 10**5, 500).astype(float), rng.gamma(1, 9, 20)):
        codec, protected = QuantileCodec(min_samples=1).fit(x), QuantileCodec().fit(x)
        half = 0 if codec.decimals_ is None else 0.5
        ends = [x.min() - half, x.max() + half]
        np.testing.assert_array_equal([codec._low, codec._high], ends)
        at = np.argsort(x)[[0, -1]]
        back = codec.inverse_transform(codec.transform(x))
        np.testing.assert_allclose(back[at], x[at], rtol=1e-12)
        assert not np.isclose([protected._low, protected._high], ends, rtol=1e-6).any()


@pytest.mark.parametrize("n_rows", [200, 900])
def test_frequent_numbers_come_back_at_their_share(n_rows):
    rng = np.random.default_rng(0)
    x = rng.normal(size=5000)
    values = [0.0, 1.25, -0.3333333333333333]
    for i, value in enumerate(values):
        x[i * n_rows : (i + 1) * n_rows] = value
    codec = QuantileCodec().fit(x)
    np.testing.assert_array_equal(codec._cells.exact, np.sort(values))
    sample = resampled(codec, x)
    for value in values:
        assert (sample == value).sum() == pytest.approx(n_rows, abs=4 * n_rows**0.5)
    # The bins are those of the rows, so the shares are exact over evenly spread places.
    mass = codec.mass_[codec._cells.exact_cells]
    np.testing.assert_allclose(mass, n_rows / 5000)


def test_few_rows_of_integers_are_smoothed():
    """Frequencies that differ by chance alone are not kept, but for a few values."""
    by_chance = as_bins = 0
    for seed in range(30):
        ages = np.random.default_rng(seed).integers(18, 90, 400).astype(float)
        by_chance += len(QuantileCodec(n_bins=8, n_subbins=1).fit(ages)._cells.exact)
        codec = QuantileCodec().fit(ages)
        as_bins += len(codec._cells.exact)
        assert len(codec.low_) < 0.75 * len(np.unique(ages))  # not one cell per age
    assert by_chance <= 0.002 * 30 * 72
    assert as_bins <= 0.1 * 30 * 72  # ages that are as frequent as a bin


def test_heaps_are_kept():
    rng = np.random.default_rng(0)
    x = rng.lognormal(9, 0.6, 20_000).round()
    round_ones = rng.random(len(x)) < 0.3
    x[round_ones] = x[round_ones].round(-3)
    codec = QuantileCodec().fit(x)
    exact = codec._cells.exact
    assert set(np.arange(2000.0, 20_000, 1000)) <= set(exact)
    # Others are kept by chance alone: few of the thousands that there are.
    by_chance = (exact % 1000 > 0).sum()
    assert by_chance < 0.002 * len(np.unique(x))
    sample = resampled(codec, x)
    of_heaps = [(v % 1000 == 0).mean() for v in (x, sample)]
    assert of_heaps[1] == pytest.approx(of_heaps[0], abs=0.01)


def test_a_sentinel_does_not_widen_the_range():
    """A light sentinel below zero is kept, and no other number is below zero."""
    rng = np.random.default_rng(0)
    x = rng.gamma(1, 20, 3000).round(2)
    x[:25] = -1
    codec = QuantileCodec().fit(x)
    sample = drawn(codec, 20_000)
    assert -1 in codec._cells.exact
    assert set(sample[sample < 0]) == {-1.0}


def test_uniform_numbers_are_not_halved_and_tails_are():
    rng = np.random.default_rng(0)
    halved = 0
    for _ in range(200):
        x = np.sort(rng.uniform(3, 5, 60))
        halved += len(_halved(x, np.ones(60), least=4)) > 1
    assert halved <= 6  # by chance, in one column of some hundred
    for _ in range(20):
        tail = np.sort(rng.exponential(1, 200))
        parts = _halved(tail, np.ones(200), least=4)
        assert len(parts) > 1
        assert [parts[0].start, parts[-1].stop] == [0, 200]
        assert all(a.stop == b.start for a, b in pairwise(parts))
        assert min(part.stop - part.start for part in parts) >= 4
        lengths = [tail[part.stop - 1] - tail[part.start] for part in parts]
        assert lengths[-1] > 2 * lengths[0]


def test_halves_have_enough_rows():
    values, rows = np.array([0.0, 1, 2, 3, 100, 1000]), np.array([9.0, 9, 9, 9, 1, 1])
    for least in (1, 3, 8, 19, 30):
        parts = _halved(values, rows, least)
        assert len(parts) == 1 or min(rows[part].sum() for part in parts) >= least
    assert len(_halved(values, rows, 30)) == 1
    assert _halved(values[:0], rows[:0], 1) == []


# Categories


@pytest.mark.parametrize("as_category", [False, True])
@pytest.mark.parametrize("min_samples", [2, 3, 5])
def test_rare_categories_are_nowhere_in_the_encoder(min_samples, as_category):
    cells = ["usual"] * 60 + ["other"] * 40 + ["secret"] * (min_samples - 1)
    cells += ["limit"] * min_samples
    dtype = pd.CategoricalDtype(["usual", "other", "secret", "limit", "unused"])
    X = pd.DataFrame({"c": pd.Series(cells, dtype=dtype if as_category else object)})
    with pytest.warns(UserWarning, match=rf"fewer than {min_samples} rows.*'c' \(1\)"):
        encoder = TableEncoder(min_samples=min_samples).fit(X)
    assert b"secret" not in pickle.dumps(encoder)
    assert b"limit" in pickle.dumps(encoder)
    for back in (drawn(encoder), encoder.inverse_transform(encoder.transform(X))):
        assert set(back["c"]) == {"usual", "other", "limit"}
        if as_category:
            assert list(back["c"].cat.categories) == ["usual", "other", "limit", "unused"]
    # They are replaced at the frequencies of the others.
    shares = drawn(encoder)["c"].value_counts(normalize=True)
    assert shares["usual"] > shares["limit"]


@pytest.mark.parametrize("cut", [False, True])
def test_categories_of_a_dropped_column_are_nowhere_in_the_encoder(cut):
    """A category dtype lists them, although nothing is learned of the column."""
    X = pd.DataFrame({"name": pd.Categorical(NAMES), "x": np.arange(400) % 7})
    encoder = TableEncoder(codecs=[("left out", "drop", ["name"])])
    encoder.fit([X[:200], X[200:]] if cut else X)
    held = pickle.dumps(encoder)
    assert not any(name.encode() in held for name in NAMES)
    assert list(encoder.inverse_transform(encoder.transform(X))) == ["x"]


def test_rare_combinations_are_nowhere_in_the_encoder():
    X = pd.DataFrame(
        {"city": ["Rome"] * 60 + ["Oslo"] * 40 + ["Nice"] * 2, "land": ["IT"] * 60 + ["NO"] * 42},
        dtype="category",
    )
    with pytest.warns(UserWarning, match=r"not kept.*'city' \(1\)"):
        encoder = TableEncoder(relations=[FixedCombinations(["city", "land"])]).fit(X)
    assert b"Nice" not in pickle.dumps(encoder)
    back = encoder.inverse_transform(encoder.transform(X))
    assert list(back["city"].cat.categories) == ["Oslo", "Rome"]
    assert list(back["land"].cat.categories) == ["IT", "NO"]
    assert set(map(tuple, back.astype(str).to_numpy())) == {("Rome", "IT"), ("Oslo", "NO")}


def test_rare_texts_in_a_column_that_is_mostly_missing_do_not_come_back():
    cabin = pd.Series([None] * 150, dtype=object)
    cabin[:40] = NAMES[:40]
    cabin[40:43] = "C 23"
    X = pd.DataFrame({"cabin": cabin, "age": np.arange(150) % 7})
    with pytest.warns(UserWarning, match="'cabin' \\(40\\)"):
        encoder = TableEncoder().fit(X)
    assert b"Elm St" not in pickle.dumps(encoder)
    texts = set(drawn(encoder)["cabin"].dropna())
    assert texts == {"C 23", "infrequent"}


@pytest.mark.parametrize("dtype", [object, "boolean", "category"])
def test_booleans_are_kept(dtype, recwarn):
    X = pd.DataFrame({"b": pd.Series([True] + [False] * 99, dtype=dtype)})
    encoder = TableEncoder().fit(X)
    pd.testing.assert_frame_equal(encoder.inverse_transform(encoder.transform(X)), X)
    assert not recwarn


def test_a_column_without_frequent_categories_is_kept():
    """Nothing else could be drawn in their place; such short columns are no identifiers."""
    cells = ["a", "b", "c", "a"]
    codec = CategoryCodec(min_samples=3).fit(cells)
    assert list(codec.inverse_transform(codec.transform(cells))) == cells
    labelled = CategoryCodec(min_samples=3, infrequent_label="rare").fit(cells)
    assert list(labelled.inverse_transform(labelled.transform(cells))) == ["rare"] * 4
    assert len(labelled.categories_) == 0


@pytest.mark.parametrize("label", [None, "other"])
@pytest.mark.parametrize("gaps", [0, 7])
@pytest.mark.parametrize(
    "params", [{}, {"min_frequency": 8}, {"max_categories": 3}, {"max_categories": 1}]
)
def test_probabilities_of_protected_categories_sum_to_one(params, gaps, label):
    """Of the categories, kept or not, of as many more as there may be, and of missing values."""
    cells = list("aaaaaaaaaabbbbbbbccccddeef") + [None] * gaps
    codec = CategoryCodec(min_samples=3, infrequent_label=label, **params).fit(cells)
    counts = pd.Series(cells).value_counts()
    merged = [c for c in counts.index if c not in codec.categories_]
    assert {"d", "e", "f"} <= set(merged)
    n_hidden = len(merged)  # Chao: one was seen once, so no more are estimated
    share = np.bincount(codec.transform(cells)[:, 0].astype(int)) / len(cells)
    events = [*counts.index, "unknown", None]
    assert len([e for e in events if e in merged]) == n_hidden
    at = codec.encode(events, log_density=True)
    total = (share[at.heads[0].astype(int)] * np.exp(at.log_density)).sum()
    assert total == pytest.approx(1)


def test_unknown_categories_are_encoded_as_those_that_are_not_kept():
    """An encoder that does not keep rare categories cannot tell them from unknown ones."""
    codec = CategoryCodec(min_samples=3).fit(["a"] * 9 + ["b"] * 5 + ["secret"])
    Z = codec.transform(["secret", "unknown"])
    np.testing.assert_array_equal(Z[0], Z[1])
    assert set(codec.inverse_transform(Z)) <= {"a", "b"}
    assert codec.log_density(["secret"]) == codec.log_density(["unknown"])


# Identifiers

ORDER = np.random.default_rng(0).permutation(400)
PATIENTS = np.repeat([f"patient {i:03d}" for i in range(200)], 2)[ORDER]


@pytest.mark.parametrize(
    ("ids", "match"),
    [
        (np.where(np.arange(400) % 5 > 0, None, NAMES), r"not kept.*'id' \(80\)"),
        (PATIENTS, r"not kept.*'id' \(200\)"),
        ([*NAMES[:399], NAMES[0]], r"not kept.*'id' \(399\)"),
        (pd.Categorical(NAMES), r"not kept.*'id' \(400\)"),
        (pd.Categorical(PATIENTS), r"not kept.*'id' \(200\)"),
        (ORDER + 1000, "'id' has a different value"),
        (np.arange(400)[::-1] + 1000, "'id' has a different value"),
        ([*range(1000, 1200), *range(1201, 1401)], "'id' has a different value"),
    ],
    ids=[
        "notes",
        "patients",
        "one duplicate",
        "category",
        "patients as category",
        "shuffled rows",
        "falling rows",
        "rows with a gap",
    ],
)
def test_no_real_identifier_comes_back(ids, match):
    X = pd.DataFrame({"id": ids, "bp": np.random.default_rng(1).normal(120, 10, 400).round()})
    with pytest.warns(UserWarning, match=match):
        encoder = TableEncoder().fit(X)
    real = set(X["id"].dropna())
    for back in (drawn(encoder), encoder.inverse_transform(encoder.transform(X))):
        assert not real & set(back["id"])
        assert back["id"].notna().any()
    if isinstance(encoder.codecs_[0], KeyCodec):
        assert drawn(encoder)["id"].is_unique
        return
    assert set(drawn(encoder)["id"].dropna()) == {"infrequent"}
    held = pickle.dumps(encoder)
    assert not any(str(name).encode() in held for name in real)
    missing = X["id"].isna().mean()  # the share of missing values is learned
    back = encoder.inverse_transform(encoder.transform(X))
    assert back["id"].isna().mean() == missing
