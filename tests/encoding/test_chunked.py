"""Encoders that are fitted to a table read piece by piece, or by several processes."""

import copy
import itertools
import pickle
import threading
import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from sktvae import (
    CategoryCodec,
    FixedCombinations,
    KeyCodec,
    LessEqual,
    ModeCodec,
    QuantileCodec,
    SumOf,
    TableEncoder,
)
from sktvae._encoding import accumulation
from sktvae._encoding.accumulation import ColumnAccumulator, RowSample, row_levels
from sktvae._encoding.summary import ColumnSummary

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def cut(table, size):
    """A table in pieces."""
    return [table[i : i + size] for i in range(0, len(table), size)]


def mixed(n=900, seed=0):
    """A table with a column of each kind."""
    rng = np.random.default_rng(seed)
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, n), "D")
    frame = pd.DataFrame(
        {
            "float": np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n)),
            "money": np.where(rng.random(n) < 0.4, 0, rng.gamma(2, 100, n).round(2)),
            "int": rng.integers(0, 9, n),
            "text": rng.choice(["red", "green", "blue"], n),
            "bool": rng.random(n) < 0.3,
            "day": days,
            "time": days
            + pd.to_timedelta(rng.integers(0, 86_400, n) * (np.arange(n) > n // 2), "s"),
            "key": [f"C{i:05d}" for i in range(n)],
            "number": rng.permutation(n),
            "free": [f"text {i}" for i in rng.integers(0, n, n)],
            "category": pd.Categorical(rng.choice(["a", "b"], n), ["a", "b", "never"]),
        }
    )
    frame.loc[frame.index % 7 == 0, "text"] = None
    return frame


def state(thing):
    """The fitted attributes of codecs, as plain values that can be compared."""
    if hasattr(thing, "__dict__") and not isinstance(thing, np.random.RandomState):
        return {name: state(value) for name, value in vars(thing).items()}
    if isinstance(thing, np.ndarray):
        thing = thing + 0.0 if thing.dtype.kind == "f" else thing  # -0.0 is 0.0
        return [str(thing.dtype), *map(repr, thing.tolist())]
    if isinstance(thing, list | tuple):
        return [state(one) for one in thing]
    return repr(thing + 0.0 if isinstance(thing, float) else thing)


def same(one, other, schema=True):
    """Assert that two encoders are the same."""
    assert one.columns_["codec"].tolist() == other.columns_["codec"].tolist()
    for a, b in zip(one.codecs_, other.codecs_, strict=True):
        assert state(a) == state(b)
    assert one.columns_["reason"].tolist() == other.columns_["reason"].tolist()
    if schema:
        assert one.schema_ == other.schema_


def codes(encoder, pieces):
    """The codes of a table that is encoded piece by piece."""
    parts = [
        np.column_stack([head.astype(float) for head in encoded.heads])
        for encoded in encoder.encode_chunks(pieces)
    ]
    return np.concatenate(parts)


@pytest.mark.parametrize("size", [7, 100, 1000])
def test_pieces_give_the_encoder_of_the_whole_table(size):
    X = mixed()
    whole = TableEncoder(random_state=0).fit(X)
    encoder = TableEncoder(random_state=0)
    assert encoder.fit_chunks(cut(X, size)) == len(X)
    same(encoder, whole)
    assert np.array_equal(codes(encoder, cut(X, 123)), whole.transform(X), equal_nan=True)
    same(TableEncoder(random_state=0).fit(cut(X, size)), whole)


def test_pieces_of_one_row_give_the_encoder_of_the_whole_table():
    X = mixed(120)
    same(TableEncoder(random_state=0).fit(cut(X, 1)), TableEncoder(random_state=0).fit(X))


def test_files_give_the_encoder_of_the_table_in_memory(tmp_path):
    pa, pl = pytest.importorskip("pyarrow"), pytest.importorskip("polars")
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

    X = mixed().drop(columns="category")
    table = pa.Table.from_pandas(X, preserve_index=False)
    for i, part in enumerate(cut(table, 400)):
        pq.write_table(part, tmp_path / f"{i}.parquet", row_group_size=150)
    dataset = TableEncoder(random_state=0).fit(ds.dataset(tmp_path))
    same(dataset, TableEncoder(random_state=0).fit(table))
    same(dataset, TableEncoder(random_state=0).fit(X), schema=False)
    lazy = pl.scan_parquet(tmp_path / "*.parquet")
    same(TableEncoder(random_state=0).fit(lazy), TableEncoder(random_state=0).fit(lazy.collect()))


def test_codecs_of_the_user_and_parameters_are_heeded():
    X = mixed()
    codecs = [
        ("modes", ModeCodec(random_state=0), ["float"]),
        ("drop", "drop", ["free"]),
        ("kept", CategoryCodec(max_categories=2), lambda frame: frame.columns[[3]]),
        ("key", KeyCodec(), ["key"]),
    ]
    options = {"categorical_features": ["int"], "min_samples": 5, "random_state": 1}
    whole = TableEncoder(codecs, **options).fit(X)
    same(TableEncoder(codecs, **options).fit(cut(X, 200)), whole)


def test_a_dropped_column_need_not_be_readable():
    X = mixed(200)[["float", "text"]].assign(bad=np.inf)
    encoder = TableEncoder([("out", "drop", ["bad"])]).fit(cut(X, 60))
    assert list(encoder.inverse_transform(encoder.transform(X[:5])).columns) == ["float", "text"]
    with pytest.raises(ValueError, match=r"'bad' has an infinite value.*from row 60 of X"):
        TableEncoder().fit([X[:60].assign(bad=1.0), X[60:]])


def test_relations_hold_in_all_pieces():
    rng = np.random.default_rng(0)
    n = 400
    low = np.where(rng.random(n) < 0.1, np.nan, rng.integers(0, 50, n))
    X = pd.DataFrame({"low": low, "high": np.nan_to_num(low) + rng.integers(0, 9, n)})
    X["city"] = rng.choice(["Oslo", "Rome", "Bari"], n)
    X["country"] = X["city"].map({"Oslo": "N"}).fillna("I")
    X["net"], X["tax"] = rng.gamma(2, 9, n).round(1), rng.gamma(2, size=n).round(2)
    X["gross"] = (X["net"] + X["tax"]).round(2)
    relations = [
        LessEqual("low", "high"),
        FixedCombinations(["city", "country"]),
        SumOf("gross", ["net", "tax"]),
    ]
    whole = TableEncoder(relations=relations).fit(X)
    encoder = TableEncoder(relations=relations).fit(cut(X, 90))
    same(encoder, whole)
    assert state(encoder.relations_) == state(whole.relations_)
    X.loc[350, "gross"] += 1
    with pytest.raises(ValueError, match=r"SumOf.*first of which is row 80.*from row 270 of X"):
        TableEncoder(relations=relations).fit(cut(X, 90))


def odd_column(kind, n, rng):
    """A column of an odd kind, with missing values."""
    absent = rng.random(n) < 0.2
    values = {
        "object int": rng.integers(0, 5, n).astype(object),
        "decimal": np.array([Decimal(int(v)) / 4 for v in rng.integers(0, 99, n)], dtype=object),
        "date": (np.datetime64("2020-01-01") + rng.integers(0, 9, n)).astype(object),
        "bool": (rng.random(n) < 0.5).astype(object),
        "tuple": np.array([(int(v),) for v in rng.integers(0, 3, n)] + [None], dtype=object)[:n],
        "text": rng.choice(["x", "y", "z"], n).astype(object),
        "float": rng.normal(size=n).round(int(rng.integers(0, 4))).astype(object),
        "time": pd.Series(pd.Timestamp("2020-03-01") + pd.to_timedelta(rng.integers(0, 99, n), "h"))
        .astype(object)
        .to_numpy(),
    }[kind]
    values = values.copy()
    values[absent] = None
    series = pd.Series(values, dtype=object)
    as_dtype = {"float": "Float64", "bool": "boolean", "text": "string", "object int": "Int64"}
    if kind in as_dtype and rng.random() < 0.5:
        return series.astype(as_dtype[kind])
    if kind in ("text", "tuple") and rng.random() < 0.5:
        return series.astype("category") if kind == "text" else series
    return series


@pytest.mark.parametrize("seed", range(12))
def test_odd_columns_give_the_encoder_of_the_whole_table(seed):
    rng = np.random.default_rng(seed)
    kinds = ["object int", "decimal", "date", "bool", "tuple", "text", "float", "time"]
    n = int(rng.integers(60, 200))
    X = pd.DataFrame({kind: odd_column(kind, n, rng) for kind in kinds})
    whole = TableEncoder(random_state=0).fit(X)
    pieces = cut(X, int(rng.integers(1, 60)))
    encoder = TableEncoder(random_state=0).fit(pieces)
    same(encoder, whole)
    assert np.array_equal(codes(encoder, pieces), whole.transform(X), equal_nan=True)


def test_read_csv_in_chunks_gives_the_encoder_of_the_whole_file(tmp_path):
    X = mixed(600).drop(columns=["category"])
    X["int"] = X["int"].where(X.index < 500)  # whole numbers in most chunks
    X["late"] = X["text"].where(X.index > 450)  # no value in most chunks
    X.to_csv(tmp_path / "x.csv", index=False)

    class File:
        def __iter__(self):
            return iter(pd.read_csv(tmp_path / "x.csv", chunksize=100))

    whole = TableEncoder(random_state=0).fit(pd.read_csv(tmp_path / "x.csv"))
    same(TableEncoder(random_state=0).fit(File()), whole, schema=False)


def test_a_failed_fit_leaves_the_encoder_as_it_was():
    X = mixed(100)
    encoder = TableEncoder().fit(X)
    before = copy.copy(vars(encoder))
    with pytest.raises(TypeError, match="Column 'int' holds"):
        encoder.fit([X, X.assign(int="text")])
    assert vars(encoder) == before
    with pytest.raises(ValueError, match="takes no sample_weight"):
        encoder.fit([X], sample_weight=np.ones(100))


def test_keys_rare_categories_and_identifiers_are_warned_about_as_in_memory():
    X = mixed()
    said = []
    for table in (X, cut(X, 100)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            TableEncoder().fit(table)
        said.append(
            [str(one.message) for one in caught if "samples may break this" not in str(one.message)]
        )
    assert said[1] and said[1] == said[0]


# Several processes


class Threads:
    """A `gather` for threads that stand for processes: objects travel as pickles."""

    def __init__(self, size):
        self.sent, self.barrier = [b""] * size, threading.Barrier(size)

    def of(self, rank):
        def gather(own):
            self.sent[rank] = pickle.dumps(own)
            self.barrier.wait(timeout=20)
            received = [pickle.loads(one) for one in self.sent]
            self.barrier.wait(timeout=20)
            return received

        return gather


def in_processes(encoder, shards):
    """Fit in several threads; return the encoders, or errors, of all."""
    threads, out = Threads(len(shards)), [None] * len(shards)

    def fit(rank):
        one = copy.deepcopy(encoder)
        try:
            out[rank] = one, one.fit_chunks(shards[rank], threads.of(rank))
        except Exception as error:
            out[rank] = error

    workers = [threading.Thread(target=fit, args=(rank,)) for rank in range(len(shards))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return out


def test_processes_get_the_encoder_of_the_whole_table():
    X = mixed()
    X["low"], X["high"] = X["int"], X["int"] + X["number"]
    encoder = TableEncoder(relations=[LessEqual("low", "high")], random_state=0)
    whole = copy.deepcopy(encoder).fit(X)
    shards = [cut(X[:250], 100), [X[250:300]], cut(X[300:], 70)]
    fitted = in_processes(encoder, shards)
    assert [n for _, n in fitted] == [250, 50, 600]
    for one, _ in fitted:
        same(one, whole)
        assert pickle.dumps(one.codecs_) == pickle.dumps(fitted[0][0].codecs_)


def test_an_error_in_one_process_is_an_error_in_all():
    X = mixed(100)
    bad = X.assign(float=np.inf)
    first, second = in_processes(TableEncoder(), [[X], [bad]])
    assert isinstance(second, ValueError) and "infinite" in str(second)
    assert isinstance(first, RuntimeError) and "failed in process 1: ValueError" in str(first)
    for error in in_processes(TableEncoder(), [[X], [X.assign(int="text")]]):
        assert isinstance(error, TypeError) and "the rows of process 1" in str(error)


# More values than are counted


@pytest.fixture
def few(monkeypatch):
    """Few values are counted, so that small tables are sampled."""
    monkeypatch.setattr(accumulation, "MOST_NUMBERS", 2000)
    monkeypatch.setattr(accumulation, "MOST_CATEGORIES", 500)
    monkeypatch.setattr(accumulation, "ROWS_IN_TAIL", 50)
    monkeypatch.setattr(accumulation, "_FEWEST_WAITING", 64)


def accumulated(column, size, rank=0, first=0):
    out = ColumnAccumulator()
    for i in range(0, len(column), size):
        piece = column[i : i + size]
        out.add(piece, row_levels(first + i, len(piece), rank))
    return out


def equal(one, other):
    assert one.values.tolist() == other.values.tolist()
    for name in ("counts", "rows", "missing", "sampled"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


def columns(n, seed=0):
    """Numbers with an atom, and texts of which most are unique, both with missing values."""
    rng = np.random.default_rng(seed)
    numbers = np.where(rng.random(n) < 0.2, 7.5, rng.standard_t(2, n))
    numbers[rng.random(n) < 0.1] = np.nan
    texts = np.where(rng.random(n) < 0.3, "often", [f"id {i}" for i in range(n)]).astype(object)
    texts[rng.random(n) < 0.1] = None
    return numbers, pd.Series(texts, dtype=object)


def test_levels_halve_and_do_not_depend_on_pieces():
    levels = row_levels(0, 100_000)
    shares = [(levels >= k).mean() for k in range(8)]
    assert np.allclose(shares, 0.5 ** np.arange(8), atol=0.005)
    assert np.array_equal(levels[300:500], row_levels(300, 200))
    other = row_levels(0, 100_000, rank=1)
    assert abs(np.corrcoef(levels, other)[0, 1]) < 0.02


def test_the_sample_holds_half_its_limit_of_rows_or_more():
    sample = RowSample(1000, float)
    for i in range(200):
        sample.add(np.arange(i * 100.0, i * 100 + 100), row_levels(i * 100, 100))
        assert len(sample.values) <= 1000
    assert len(sample.values) > 400
    levels = row_levels(0, 20_000)
    assert np.array_equal(sample.values, np.flatnonzero(levels >= sample.level))


@pytest.mark.parametrize("n", [900, 30_000])
def test_summaries_do_not_depend_on_pieces_or_the_order_of_merging(few, n):
    for column in columns(n):
        one, *others = (accumulated(column, size).summary() for size in (n, 1000, 37))
        assert one.sampled == (len(one.values) < len(np.unique(column[pd.notna(column)])))
        for other in others:
            equal(one, other)
        thirds = [0, n // 7, n // 2, n]

        def parts(column=column, thirds=thirds):
            return [
                accumulated(column[first:stop], 100, rank)
                for rank, (first, stop) in enumerate(itertools.pairwise(thirds))
            ]

        a, b, c = parts()
        a.merge(b)
        a.merge(c)
        d, e, f = parts()
        e.merge(f)
        d.merge(e)
        equal(a.summary(), d.summary())


def test_exact_summaries_are_those_of_the_whole_column():
    for column in columns(900):
        of = ColumnSummary.of_categories if hasattr(column, "iloc") else ColumnSummary.of_numbers
        equal(accumulated(column, 100).summary(), of(column))


def test_ranks_tails_and_atoms_of_a_sampled_column(few):
    numbers, _ = columns(30_000)
    summary = accumulated(numbers, 1000).summary()
    assert summary.sampled and len(summary.values) < 3000
    present = np.sort(numbers[~np.isnan(numbers)])
    assert summary.missing == np.isnan(numbers).sum()
    assert summary.counts.sum() == pytest.approx(len(present))
    # The ends are exact.
    for part, own in ((present[:50], summary.values[:50]), (present[-50:], summary.values[-50:])):
        assert np.array_equal(part, own)
    assert (summary.rows[:50] == 1).all() and (summary.counts[:50] == 1).all()
    # Ranks are as near as those of a sample of 1000 rows or more: 4 standard errors.
    shares = np.cumsum(summary.counts) / len(present)
    error = np.abs(shares - np.searchsorted(present, summary.values, "right") / len(present))
    assert error.max() < 4 * 0.5 / np.sqrt(1000)
    atom = summary.values == 7.5
    assert summary.counts[atom] / len(present) == pytest.approx(0.2, abs=0.05)
    codec = QuantileCodec().fit_summary(summary)
    exact = (codec.low_ == codec.high_) & (codec.low_ == 7.5)
    assert codec.mass_[exact] == pytest.approx(0.2, abs=0.05)


def test_ends_that_many_rows_have_are_counted_exactly(few):
    """As in amounts that are never negative, of which many are 0, and which are capped."""
    rng = np.random.default_rng(0)
    x = rng.exponential(size=30_000).clip(None, 3.0)
    x[rng.random(len(x)) < 0.3] = 0.0
    one, other = accumulated(x[:20_000], 1000), accumulated(x[20_000:], 1000, rank=1)
    one.merge(other)
    for summary in (accumulated(x, 1000).summary(), one.summary()):
        assert summary.sampled and (np.diff(summary.values) > 0).all()
        assert summary.counts.sum() == pytest.approx(len(x))
        for i, end in ((0, 0.0), (-1, 3.0)):
            assert summary.values[i] == end
            assert summary.counts[i] == summary.rows[i] == (x == end).sum()


def test_codecs_of_sampled_columns_keep_nothing_that_few_rows_have(few):
    rng = np.random.default_rng(1)
    n = 20_000
    numbers = rng.normal(size=n)
    numbers[:2] = 1e6, 1e6  # twice: too few rows for it to be kept
    numbers[2:2000:4] = 0.25
    texts = np.array([f"text {i}" for i in rng.zipf(1.3, n)], dtype=object)
    texts[5] = "a secret that occurs once"
    X = pd.DataFrame({"numbers": numbers, "texts": texts})
    encoder = TableEncoder(min_samples=3).fit(cut(X, 1000))
    quantile, category = encoder.codecs_
    single = quantile.low_ == quantile.high_
    values, rows = np.unique(numbers, return_counts=True)
    assert single.any() and 0.25 in quantile.low_[single]
    for value in quantile.low_[single]:
        assert rows[values == value].sum() >= 3
    assert not (np.isin([quantile.low_, quantile.high_], numbers) & ~single).any()
    assert quantile.high_.max() < 1e6
    counts = pd.Series(texts).value_counts()
    assert len(category.categories_) > 5
    assert all(counts[value] >= 3 for value in category.categories_)
    decoded = encoder.inverse_transform(encoder.transform(X))
    assert set(decoded["texts"]) <= {*category.categories_, "infrequent"}


def test_a_sampled_tail_has_its_exact_end(few, monkeypatch):
    """The lowest and the highest cells are those of the table in memory."""
    monkeypatch.setattr(accumulation, "MOST_NUMBERS", 8000)
    monkeypatch.setattr(accumulation, "ROWS_IN_TAIL", 100)
    x = np.random.default_rng(2).standard_t(2, 40_000)
    summary = accumulated(x, 1000).summary()
    assert summary.sampled
    whole, sampled = QuantileCodec().fit(x), QuantileCodec().fit_summary(summary)
    for name in ("low_", "high_"):
        for ends in (slice(3), slice(-3, None)):
            assert np.allclose(getattr(sampled, name)[ends], getattr(whole, name)[ends])
    grid = np.quantile(x, np.linspace(0.01, 0.99, 99))
    below = [np.interp(grid, *distribution(codec)) for codec in (whole, sampled)]
    assert np.abs(below[0] - below[1]).max() < 4 * 0.5 / np.sqrt(4000)


def distribution(codec):
    """Ends of cells and the mass up to them."""
    order = np.argsort(codec.high_, kind="stable")
    return codec.high_[order], np.cumsum(codec.mass_[order])


def test_keys_of_sampled_columns_go_on_after_the_largest(few):
    n = 5000
    order = np.random.default_rng(0).permutation(n)
    X = pd.DataFrame({"key": [f"C{i}" for i in order], "n": order, "x": order % 5})
    encoder = TableEncoder(random_state=0).fit(cut(X, 500))
    assert encoder.columns_["codec"].tolist() == ["KeyCodec", "KeyCodec", "QuantileCodec"]
    new = encoder.inverse_transform([[0], [1]])
    assert new["key"].tolist() == ["C5000", "C5001"] and new["n"].tolist() == [5000, 5001]


@pytest.mark.parametrize("settings", [{"min_samples": 3}, {"max_categories": 50}])
def test_categories_outside_the_sample_are_infrequent(few, settings):
    """They are in the table, so that they are no error."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"t": [f"text {i}" for i in (rng.pareto(0.3, 6000) * 9).astype(int)]})
    encoder = TableEncoder([("own", CategoryCodec(**settings), ["t"])]).fit(cut(X, 500))
    (codec,) = encoder.codecs_
    assert set(X["t"]) > set(codec.categories_)
    codes = encoder.transform(X)[:, 0]
    infrequent = ~X["t"].isin(codec.categories_[: codec._n_frequent])
    np.testing.assert_array_equal(codes == codec._n_frequent, infrequent)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "'t': there are too many categories to keep all.*max_categories"),
        ({"min_samples": 3}, "'t': there are so many categories that none has min_samples=3 rows"),
        ({"min_samples": 3, "max_categories": 9}, "none has min_samples=3 rows"),
    ],
)
def test_too_many_categories_to_keep_are_an_error_with_a_way_out(few, settings, message):
    """And not a value of a sample that a single row may have, nor the most frequent category."""
    X = pd.DataFrame({"t": [f"text {i % 4000}" for i in range(12_000)]})
    encoder = TableEncoder([("own", CategoryCodec(**settings), ["t"])])
    with pytest.raises(ValueError, match=message):
        encoder.fit(cut(X, 1000))


def test_a_sampled_category_dtype_lists_only_what_is_kept(few):
    rng = np.random.default_rng(0)
    texts = [f"text {i}" for i in np.append(rng.integers(0, 50, 3000), np.arange(50, 2050))]
    X = pd.DataFrame({"a": pd.Categorical(texts), "b": rng.normal(size=len(texts))})
    encoder = TableEncoder(min_samples=3).fit(cut(X, 1000))
    counts = pd.Series(texts).value_counts()
    assert all(counts[value] >= 3 for value in encoder.schema_.columns[0].storage.values)
