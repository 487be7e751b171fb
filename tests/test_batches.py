"""Samples in batches, and in blocks that threads share."""

import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from pyarrow import feather, parquet
from sklearn.exceptions import NotFittedError

from sktvae import KeyCodec, TableEncoder, TVAESynthesizer
from sktvae._files import CsvFormat, FileError, write_table
from sktvae._threads import in_threads
from tests.conftest import people, small

N = 5000  # several blocks of rows
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def conditional():
    return small(conditional=True, epochs=2).fit(people(300))


@pytest.fixture
def use_threads():
    """Sets torch's number of threads; puts it back in the end."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def together(batches):
    return pd.concat(list(batches), ignore_index=True)


@pytest.mark.parametrize(
    ("n_samples", "batch_size"),
    # The last one begins in the middle of a block that is drawn.
    [(N, 1500), (N, 1024), (N, 777), (N, 100_000), (40_000, 33_500)],
)
def test_batches_are_the_rows_of_sample(fitted, n_samples, batch_size):
    batches = list(fitted.sample_batches(n_samples, batch_size=batch_size, random_state=3))
    assert [len(b) for b in batches[:-1]] == [batch_size] * (n_samples // batch_size)
    assert 0 < len(batches[-1]) <= batch_size
    expected = fitted.sample(n_samples, random_state=3)
    for batch in batches:
        assert (batch.dtypes == expected.dtypes).all()
    pd.testing.assert_frame_equal(together(batches), expected)


def test_blocks_differ_and_follow_the_model(fitted):
    rows = fitted.sample(60_000)
    parts = np.array_split(rows["city"].to_numpy(), 12)
    shares = np.array([(part == "Rome").mean() for part in parts])
    share = shares.mean()
    assert 0.1 < share < 0.9
    # Blocks of rows that repeated each other, or that went together, would spread otherwise.
    spread = np.sqrt(share * (1 - share) / 5000)
    assert 0.4 * spread < shares.std(ddof=1) < 2 * spread
    assert not rows.duplicated().iloc[:20_000].mean() > 0.05


def test_no_rows_are_one_empty_table(fitted, conditional, table):
    (empty,) = fitted.sample_batches(0)
    pd.testing.assert_frame_equal(empty, fitted.sample(0))
    (empty,) = conditional.sample_batches(0, conditions={"city": "Rome"})
    assert len(empty) == 0 and list(empty) == list(table)


@pytest.mark.parametrize("decoder", ["autoregressive", "independent"])
def test_rows_and_scores_do_not_depend_on_the_number_of_threads(table, use_threads, decoder):
    model = small(decoder=decoder).fit(table)
    data = pd.concat([table] * 8, ignore_index=True)
    found = []
    for n_threads in (1, 2, 3):
        use_threads(n_threads)
        z = model.transform(table)
        found.append((model.sample(N), model.inverse_transform(z), model.score_samples(data), z))
        assert torch.get_num_threads() == n_threads
        with ThreadPoolExecutor(1) as other:
            assert other.submit(torch.get_num_threads).result() == n_threads
    for rows, decoded, scores, z in found[1:]:
        pd.testing.assert_frame_equal(rows, found[0][0])
        pd.testing.assert_frame_equal(decoded, found[0][1])
        np.testing.assert_array_equal(scores, found[0][2])
        np.testing.assert_array_equal(z, found[0][3])


def test_each_thread_computes_alone_and_errors_come_through(use_threads):
    use_threads(2)
    counted = in_threads(lambda i: (i, torch.get_num_threads()), range(5), CPU)
    assert counted == [(i, 1) for i in range(5)]

    def fail(i):
        raise ValueError(f"no {i}")

    with pytest.raises(ValueError, match="no 0"):
        in_threads(fail, range(50), CPU)
    assert torch.get_num_threads() == 2


def test_scores_of_a_row_do_not_depend_on_where_it_stands(fitted, table):
    data = pd.concat([table] * 4, ignore_index=True)
    scores = fitted.score_samples(data).reshape(4, -1)
    assert np.ptp(scores, axis=0).max() < 1e-4 < np.ptp(scores, axis=1).min()


def test_memory_does_not_grow_with_the_number_of_batches(fitted, monkeypatch, use_threads):
    monkeypatch.setattr("sktvae._generation._FEWEST_ROWS", 2048)
    use_threads(1)  # how often two threads need most at the same time is a matter of chance
    size = 2048

    def peak(draw):
        draw()  # what is kept for good is there
        tracemalloc.start()
        draw()
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    def consume(n_batches):
        for _ in fitted.sample_batches(n_batches * size, batch_size=size):
            pass

    two, twenty = (peak(lambda n=n: consume(n)) for n in (2, 20))
    assert twenty < 1.3 * two
    assert peak(lambda: fitted.sample(20 * size)) > 4 * two


def test_parameters_are_checked_by_the_call_itself(fitted, conditional):
    with pytest.raises(NotFittedError):
        small().sample_batches(3)
    for wrong in (0, -1, 2.0, True, "ten"):
        with pytest.raises(ValueError, match="batch_size must be an integer >= 1"):
            fitted.sample_batches(3, batch_size=wrong)
    with pytest.raises(ValueError, match="n_samples must be an integer >= 0"):
        fitted.sample_batches(-1)
    with pytest.raises(ValueError, match="has not learned to condition"):
        fitted.sample_batches(3, conditions={"city": "Rome"})
    unknown = pd.DataFrame({"city": ["Rome"] * 4 + ["Atlantis"]})
    for conditions in (
        {"city": "Atlantis"},
        {"city": {"Rome": 0.999, "Atlantis": 0.001}},
        {"smoker": True, "city": {"Rome": 0.5, "Atlantis": 0.5}},
        unknown,
    ):
        with pytest.raises(ValueError, match="Atlantis"):
            n_samples = None if conditions is unknown else 5
            conditional.sample_batches(n_samples, batch_size=2, conditions=conditions)
    with pytest.raises(ValueError, match="add up to 1"):
        conditional.sample_batches(5, conditions={"city": {"Rome": 0.5, "Oslo": 0.1}})


def test_batches_meet_their_conditions(conditional):
    wanted = {"risk": "high", "age": pd.Interval(30, 50, closed="both")}
    rows = together(conditional.sample_batches(500, batch_size=120, conditions=wanted))
    assert len(rows) == 500 and (rows["risk"] == "high").all() and rows["age"].between(30, 50).all()
    known = pd.DataFrame({"age": np.arange(20, 70).repeat(3), "smoker": [True, False, True] * 50})
    parts = conditional.sample_batches(None, batch_size=40, conditions=known)
    pd.testing.assert_frame_equal(together(parts)[["age", "smoker"]], known, check_dtype=False)


def test_shares_hold_in_all_batches_together(conditional):
    shares = {"Rome": 0.95, "Oslo": 0.05}
    draw = lambda seed: list(
        conditional.sample_batches(
            400, batch_size=10, conditions={"city": shares}, random_state=seed
        )
    )
    one, other = draw(0), draw(1)
    counts = [(batch["city"] == "Oslo").sum() for batch in one]
    assert sum(counts) == 20  # although each batch would have half a row
    assert max(counts) < 5 and counts != [(batch["city"] == "Oslo").sum() for batch in other]
    pd.testing.assert_frame_equal(together(one), together(draw(0)))


@pytest.mark.parametrize("keys", ["number", "text", "uuid"])
def test_new_keys_do_not_repeat(keys):
    X = people(200)
    made = {
        "number": np.arange(200),
        "text": [f"C{i:04d}" for i in range(200)],
        "uuid": [f"{i:08x}-0000-4000-8000-000000000000" for i in range(200)],
    }
    X.insert(0, "key", made[keys])
    encoder = TableEncoder([("key", KeyCodec(random_state=0), ["key"])])
    model = small(encoder=encoder, conditional=True, epochs=1).fit(X)
    rows = model.sample(90)
    pd.testing.assert_frame_equal(together(model.sample_batches(90, batch_size=20)), rows)
    given = together(model.sample_batches(90, batch_size=20, conditions={"city": "Rome"}))
    assert given["key"].equals(rows["key"]) and rows["key"].is_unique


@pytest.mark.parametrize("container", ["polars", "pyarrow", "numpy"])
def test_other_containers(container):
    X = people(200)[["age", "weight", "city"]]
    X = {
        "polars": lambda: pl.from_pandas(X),
        "pyarrow": lambda: pa.Table.from_pandas(X, preserve_index=False),
        "numpy": lambda: X[["age", "weight"]].to_numpy(),
    }[container]()
    model = small(epochs=1).fit(X)
    rows, batches = model.sample(300), list(model.sample_batches(300, batch_size=128))
    assert all(type(batch) is type(X) for batch in batches)
    if container == "polars":
        assert pl.concat(batches).equals(rows)
    elif container == "pyarrow":
        assert pa.concat_tables(batches).equals(rows)
    else:
        np.testing.assert_array_equal(np.concatenate(batches), rows)


@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow", "rows.csv"])
def test_files_are_written_block_by_block(tmp_path, fitted, name):
    """When a block is made, all blocks but the last are gone."""
    made = []

    def blocks():
        for frame in fitted.sample_batches(500, batch_size=100):
            assert sum(ref() is not None for ref in made) <= 1
            made.append(weakref.ref(frame))
            yield frame

    path = tmp_path / name
    write_table(blocks(), str(path), CsvFormat())
    assert len(made) == 5
    if name.endswith("csv"):
        assert len(pd.read_csv(path)) == 500
        return
    if name.endswith("parquet"):
        assert parquet.ParquetFile(path).num_row_groups == 5
        rows = pd.read_parquet(path)
    else:
        rows = feather.read_feather(path)
    pd.testing.assert_frame_equal(rows, fitted.sample(500))


@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow"])
def test_blocks_have_one_schema(tmp_path, name):
    """Also where the first block has no value, or none that is missing."""
    path = str(tmp_path / name)
    count = lambda values: pd.Series(values, dtype="Int8")
    frames = [
        pd.DataFrame({"a": pd.Series([None, None], dtype=object), "b": count([1, 2])}),
        pd.DataFrame({"a": ["x", None], "b": count([3, None])}),
    ]
    write_table(iter(frames), path, CsvFormat())
    read = pd.read_parquet if name.endswith("parquet") else pd.read_feather
    rows = read(path)
    assert rows["a"].dropna().tolist() == ["x"]
    assert rows["b"].isna().tolist() == [False, False, False, True]
    with pytest.raises(FileError, match="several types"):
        write_table([pd.DataFrame({"a": [1]}), pd.DataFrame({"a": ["x"]})], path, CsvFormat())


def test_batches_are_drawn_from_a_random_state_that_moves_on(table):
    model: TVAESynthesizer = small(random_state=None, epochs=1).fit(table)
    state = np.random.RandomState(0)
    one, two = (together(model.sample_batches(20, random_state=state)) for _ in range(2))
    assert not one.equals(two)
