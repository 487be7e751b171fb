"""`TVAESynthesizer.fit` on tables that are read piece by piece."""

import gc
import os
import pathlib

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from sktvae import DifferentialPrivacy, LessEqual, TableEncoder, TVAESynthesizer
from sktvae._training import disk, rows

N_ROWS = 3000


def make_table(n_rows=N_ROWS, seed=0):
    """Sorted by its category; the numbers depend on it, and a tenth of one column is missing."""
    rng = np.random.default_rng(seed)
    place = np.sort(rng.choice(["north", "south", "west"], n_rows, p=[0.6, 0.3, 0.1]))
    height = np.round(rng.normal(size=n_rows) + 2 * (place == "south"), 1)
    weight = np.round(height + 0.5 * rng.normal(size=n_rows), 1)
    weight[rng.random(n_rows) < 0.1] = np.nan
    return pd.DataFrame({"place": place, "height": height, "weight": weight})


def pieces(X, size=900):
    return [X[start : start + size] for start in range(0, len(X), size)]


class OpenedAnew:
    """What a user writes to read files that no library knows."""

    def __init__(self, tables):
        self.tables = tables

    def __iter__(self):
        yield from self.tables


def synthesizer(**parameters):
    quick = {"epochs": 2, "conditional": False, "calibrate": False, "refit": False}
    return TVAESynthesizer(random_state=0, **(quick | parameters))


def thorough():
    """A synthesizer that learns well enough for its figures to be compared."""
    layers = {"embedding_dim": 4, "compress_dims": (32,), "decompress_dims": (32, 32)}
    return synthesizer(epochs=10, learning_rate=5e-3, calibrate=True, **layers)


@pytest.fixture
def on_disk(monkeypatch):
    """Small tables go to disk too, in many buckets and blocks."""
    monkeypatch.setattr(rows, "_MOST_BYTES_IN_MEMORY", 0)
    monkeypatch.setattr(disk, "_BUCKET_BYTES", 2**12)
    monkeypatch.setattr(disk, "_BLOCK_ROWS", 1000)


@pytest.fixture
def parquet(tmp_path):
    """A folder of files, and the same table in memory."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    X = pa.Table.from_pandas(make_table(), preserve_index=False)
    for start in range(0, N_ROWS, 1500):
        pq.write_table(X.slice(start, 1500), tmp_path / f"{start:05}.parquet")
    return tmp_path, X


def as_pandas(X):
    return X if isinstance(X, pd.DataFrame) else X.to_pandas()


def open_files():
    folder = pathlib.Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


# The same rows as from memory


@pytest.mark.parametrize("wrap", [list, OpenedAnew])
def test_a_small_table_in_pieces_gives_the_model_of_the_table(wrap):
    X = make_table()
    of_table = synthesizer().fit(X)
    of_pieces = synthesizer().fit(wrap(pieces(X)))
    assert of_pieces.history_ == of_table.history_
    pd.testing.assert_frame_equal(of_pieces.sample(200), of_table.sample(200))


def test_a_parquet_dataset_gives_the_model_and_the_container_of_the_arrow_table(parquet):
    from pyarrow import Table, dataset

    folder, X = parquet
    rows = synthesizer().fit(dataset.dataset(folder)).sample(200)
    assert isinstance(rows, Table) and rows.schema.equals(X.schema)
    assert rows.equals(synthesizer().fit(X).sample(200))


def test_a_lazy_frame_gives_the_model_and_the_container_of_the_polars_frame(parquet):
    polars = pytest.importorskip("polars")
    folder, _ = parquet
    lazy = polars.scan_parquet(folder / "*.parquet")
    rows = synthesizer().fit(lazy).sample(200)
    assert isinstance(rows, polars.DataFrame)
    assert rows.equals(synthesizer().fit(lazy.collect()).sample(200))


# Rows on disk


def figures(X):
    """Shares of the categories, means, a correlation, and how often a value is missing."""
    X = as_pandas(X)
    shares = X["place"].value_counts(normalize=True).reindex(["north", "south", "west"])
    numbers = X[["height", "weight"]]
    return np.r_[
        shares,
        numbers.mean(),
        numbers.corr().iloc[0, 1],
        X["weight"].isna().mean(),
        X["height"][X["place"] == "south"].mean(),
    ]


@pytest.fixture(scope="module")
def learned_from_memory():
    return thorough().fit(make_table())


@pytest.mark.slow
@pytest.mark.parametrize("source", ["list", "parquet", "lazy"])
def test_rows_on_disk_give_the_figures_of_the_table(source, learned_from_memory, parquet, on_disk):
    folder, _ = parquet
    X = make_table()
    if source == "parquet":
        from pyarrow import dataset

        chunks = dataset.dataset(folder)
    elif source == "lazy":
        chunks = pytest.importorskip("polars").scan_parquet(folder / "*.parquet")
    else:
        chunks = pieces(X)
    of_table = learned_from_memory
    of_pieces = thorough().fit(chunks)
    found = figures(of_pieces.sample(20_000))
    np.testing.assert_allclose(found, figures(X), atol=0.1)
    np.testing.assert_allclose(found, figures(of_table.sample(20_000)), atol=0.1)
    np.testing.assert_allclose(found[:3], figures(X)[:3], atol=0.02)
    assert of_pieces.score(X) == pytest.approx(of_table.score(X), abs=0.1)


def test_the_order_of_the_rows_is_random_even_if_the_table_is_sorted(on_disk):
    """In the first steps, the network meets all categories and not one after the other."""
    X = make_table()
    fitted = synthesizer(epochs=1, batch_size=100).fit(pieces(X))
    shares = fitted.sample(5000)["place"].value_counts(normalize=True)
    assert abs(shares - X["place"].value_counts(normalize=True)).max() < 0.1


def test_the_size_of_the_pieces_does_not_matter(on_disk):
    X = make_table()
    one, two = (synthesizer(epochs=1).fit(pieces(X, size)) for size in (900, 2500))
    assert one.history_ == two.history_
    pd.testing.assert_frame_equal(one.sample(50), two.sample(50))


def test_conditions_and_imputation_afterwards(on_disk):
    X = make_table()
    fitted = synthesizer(conditional=True).fit(pieces(X))
    assert set(fitted.sample(50, conditions={"place": "west"})["place"]) == {"west"}
    holes = X.assign(weight=np.nan, place=X["place"].where(np.arange(N_ROWS) % 2 == 0))
    filled = fitted.impute(holes[:100])
    assert filled["place"].notna().all()
    assert fitted.any_order_.n_rows == N_ROWS


def test_without_validation_and_with_relations(on_disk):
    X = make_table().assign(top=lambda X: X["height"] + 1)
    encoder = TableEncoder(relations=[LessEqual("height", "top")])
    fitted = synthesizer(encoder=encoder, early_stopping=False, calibrate=True).fit(pieces(X))
    drawn = fitted.sample(500)
    assert (drawn["height"] <= drawn["top"]).all()
    assert "validation_loss" not in fitted.history_


def test_a_fit_to_rows_on_disk_is_saved_and_cloned(on_disk, tmp_path):
    fitted = synthesizer(cache=tmp_path).fit(pieces(make_table()))
    assert clone(fitted).get_params()["cache"] == tmp_path
    joblib.dump(fitted, tmp_path / "model.joblib")
    again = joblib.load(tmp_path / "model.joblib")
    pd.testing.assert_frame_equal(again.sample(50), fitted.sample(50))


# The temporary file


def test_the_file_lies_in_the_folder_and_is_closed(on_disk, tmp_path, monkeypatch):
    folders = []
    temporary_file = disk.tempfile.TemporaryFile

    def watched(dir, buffering):
        folders.append(dir)
        return temporary_file(dir=dir, buffering=buffering)

    monkeypatch.setattr(disk.tempfile, "TemporaryFile", watched)
    X = pieces(make_table(500), 200)
    gc.collect()
    before = open_files()
    kept = synthesizer(epochs=1, cache=tmp_path).fit(X)
    assert folders == [os.fspath(tmp_path)]
    assert open_files() == before and not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="Training diverged") as failed:
        synthesizer(epochs=2, cache=tmp_path, learning_rate=1e30).fit(X)
    assert open_files() == before and not list(tmp_path.iterdir())
    assert kept is not None and failed  # neither holds a file


# Errors


class Changing:
    """Reads that differ: one table per pass."""

    def __init__(self, *passes):
        self.passes, self.n_read = passes, -1  # `as_chunks` looks at the first table

    def __iter__(self):
        tables = self.passes[max(self.n_read, 0)]
        self.n_read += 1
        for table in tables:
            if isinstance(table, Exception):
                raise table
            yield table


@pytest.mark.parametrize("bound", [0, 2**27])
def test_a_fit_that_fails_leaves_the_estimator_and_no_file(bound, monkeypatch):
    monkeypatch.setattr(rows, "_MOST_BYTES_IN_MEMORY", bound)
    X = make_table(600)
    fitted = synthesizer(epochs=1).fit(X)
    before, expected, n_files = dict(vars(fitted)), fitted.sample(20), open_files()
    for second, error, message in (
        (pieces(X)[0][:500], ValueError, "had 600 rows when it was read first"),
        (OSError("The share is gone"), OSError, "The share is gone"),
        (X.rename(columns={"place": "town"}), ValueError, "town"),
    ):
        with pytest.raises(error, match=message):
            fitted.fit(Changing([X], [second]))
        assert vars(fitted) == before
        pd.testing.assert_frame_equal(fitted.sample(20), expected)
    assert open_files() == n_files


@pytest.mark.parametrize(
    ("parameters", "arguments", "message"),
    [
        ({}, {"sample_weight": np.ones(600)}, "sample_weight is for tables in memory"),
        ({"privacy": DifferentialPrivacy(1.0, 1e-6)}, {}, "privacy is for tables in memory"),
        ({"warm_start": True}, {}, "warm_start is for tables in memory"),
        ({"cache": "no-such-folder"}, {}, "cache must be a folder that exists, got 'no-such"),
        ({"cache": 3}, {}, "The 'cache' parameter of TVAESynthesizer must be"),
    ],
)
def test_what_chunks_do_not_take(parameters, arguments, message):
    X = make_table(600)
    fitted = synthesizer(epochs=1).fit(X)
    with pytest.raises(ValueError, match=message):
        fitted.set_params(**parameters).fit(pieces(X), **arguments)


def test_a_first_warm_start_and_a_second_one_from_memory():
    X = make_table(600)
    fitted = synthesizer(epochs=1, warm_start=True).fit(pieces(X))
    assert fitted.fit(X).n_iter_ == 2


def test_what_can_be_read_only_once_is_refused():
    with pytest.raises(TypeError, match="can be read only once"):
        synthesizer().fit(piece for piece in pieces(make_table(600)))
