"""Tables that are read piece by piece: how they are read, and what is learned of them."""

import datetime
import itertools
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from sktvae._table.chunks import as_chunks
from sktvae._table.containers import as_frame
from sktvae._table.pieces import SeenTable
from sktvae._table.schema import TableSchema

pa = pytest.importorskip("pyarrow")
pl = pytest.importorskip("polars")
NA = None


class Readings:
    """Tables that are made anew each time."""

    def __init__(self, *tables):
        self.tables = list(tables)

    def __iter__(self):
        return iter(self.tables)


def seen(*pieces):
    """What is known of a table once all pieces have been seen."""
    out = None
    for piece in pieces:
        one = SeenTable.of(*as_frame(piece))
        out = one if out is None else out.merge(one, "the last piece")
    return out


def frames(*values, **options):
    """One column in pieces."""
    return [pd.DataFrame({"a": pd.Series(part, **options)}) for part in values]


# Reading


def test_tables_in_memory_are_no_chunks():
    frame = pd.DataFrame({"a": [1, 2]})
    tables = [frame, frame["a"], frame.to_numpy(), [[1, 2], [3, 4]], ([1], [2]), {"a": [1]}, None]
    tables += [pa.table(frame), pl.DataFrame(frame), [], [1, 2], "text", [{"a": 1}]]
    assert [as_chunks(X) for X in tables] == [None] * len(tables)


def test_lists_and_iterables_of_tables_are_chunks():
    frame = pd.DataFrame({"a": [1, 2]})
    for one in (frame, pa.table(frame), pl.DataFrame(frame), frame.to_numpy()):
        for X in ([one, one], (one, one), Readings(one, one)):
            chunks = as_chunks(X)
            assert [len(piece) for piece in chunks] == [2, 2] == [len(p) for p in chunks]
    assert as_chunks(chunks) is chunks


def test_empty_pieces_are_skipped():
    frame = pd.DataFrame({"a": [1, 2]})
    assert [len(piece) for piece in as_chunks([frame, frame[:0], frame])] == [2, 2]
    with pytest.raises(ValueError, match=r"0 sample\(s\) in all pieces of X"):
        list(as_chunks([frame[:0]]))


def test_a_piece_that_is_no_table_is_named():
    frame = pd.DataFrame({"a": [1, 2]})
    with pytest.raises(TypeError, match=r"piece of X that begins with row 2 is None, and not a"):
        list(as_chunks([frame, None]))


def test_what_can_be_read_only_once_is_refused(tmp_path):
    frame = pd.DataFrame({"a": [1, 2]})
    frame.to_csv(tmp_path / "table.csv", index=False)
    reader = pa.table(frame).to_reader()
    with pd.read_csv(tmp_path / "table.csv", chunksize=1) as chunks:
        for X in (iter([frame]), (frame for _ in range(2)), map(id, []), chunks, reader):
            with pytest.raises(TypeError, match=r"can be read only once.*pyarrow\.dataset\.Data"):
                as_chunks(X)


def test_a_dataset_and_a_lazy_frame_are_read_in_order(tmp_path):
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

    n = 200_000
    table = pa.table({"a": np.arange(n), "b": [str(i % 7) for i in range(n)]})
    for i, start in enumerate([0, 90_000, 100_000, 100_010]):
        stop = [90_000, 100_000, 100_010, n][i]
        pq.write_table(table.slice(start, stop - start), tmp_path / f"{i}.parquet")
    for X in (ds.dataset(tmp_path), pl.scan_parquet(tmp_path / "*.parquet"), ds.dataset(table)):
        pieces = [as_frame(piece)[0] for piece in as_chunks(X)]
        assert np.array_equal(np.concatenate([p["a"].to_numpy() for p in pieces]), np.arange(n))
        assert max(map(len, pieces)) <= 2**17


def test_a_table_that_changes_while_it_is_read_is_an_error():
    X = Readings(*frames([1, 2], [3]))
    chunks = as_chunks(X)
    assert len(list(chunks)) == 2
    X.tables.pop()
    with pytest.raises(ValueError, match="had 3 rows when it was read first, and has 2 now"):
        list(chunks)
    X.tables *= 2
    with pytest.raises(ValueError, match="has at least 4 now"):
        list(chunks)


# Schemas


@pytest.mark.parametrize(
    "pieces",
    [
        frames([1, 2], [1.5, np.nan]),
        frames([1.5, np.nan], [1, 2], [3]),
        frames([np.nan], [1, 2]),
        frames([True, False], [True, None, False]),
        frames(["a", "b"], [None, "c"], dtype=object),
        frames([None, None], ["c"], dtype=object),
        frames([np.nan, None], ["c", None], dtype=object),
        frames([1, None], [2.5], dtype=object),
        frames([Decimal("1.5")], [None, Decimal("1.25")], dtype=object),
        frames([datetime.date(2020, 1, 1)], [None], dtype=object),
        frames([pd.Timestamp("2020-01-01")], [pd.Timestamp("2020-01-01 07:00"), pd.NaT]),
        frames([pd.Timestamp("2020-01-01 07:00")], [pd.Timestamp("2020-01-01")]),
        frames([pd.Timedelta("1D")], [pd.Timedelta("1s")]),
        [*frames([1, 2]), *frames([1, None], dtype="Int64")],
        [*frames([1, 2], dtype="int8"), *frames([300], dtype="int16")],
        frames(["a"], [None, "b"], dtype="string"),
        frames(["a", None], ["b"], dtype="category"),
        frames([1, 2], [2], dtype="Int64"),
    ],
)
def test_the_schema_is_that_of_all_pieces_together(pieces):
    whole = pd.concat(pieces, ignore_index=True)
    if isinstance(pieces[0]["a"].dtype, pd.CategoricalDtype):  # `concat` gives up the dtype
        whole = whole.astype(pd.CategoricalDtype(["a", "b"]))
    assert seen(*pieces).schema == TableSchema.learn(*as_frame(whole))
    for kind in (pl.DataFrame, pa.table):
        if whole["a"].dtype != object:
            # The pieces of one table of these have one dtype.
            ends = np.cumsum([0, *map(len, pieces)])
            table = kind(whole) if kind is pa.table else pl.from_pandas(whole)
            parts = [table[int(a) : int(b)] for a, b in itertools.pairwise(ends)]
            assert seen(*parts).schema == TableSchema.learn(*as_frame(table))


def test_categories_of_all_pieces_are_kept():
    one, two = frames(["a", "b"], ["c", "b"], dtype="category")
    assert list(seen(one, two).schema.columns[0].storage.values) == ["a", "b", "c"]
    ordered = [part.astype(pd.CategoricalDtype(part["a"].unique(), True)) for part in (one, two)]
    assert seen(*ordered).schema == TableSchema.learn(*as_frame(pd.concat(ordered)))
    with pytest.raises(TypeError, match=r"Column 'a' holds 'a' \(category\).*1 \(int64\)"):
        seen(one, pd.DataFrame({"a": [1]}))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (["a"], [1]),
        ([1], ["a"]),
        ([1.5], [pd.Timestamp("2020-01-01")]),
        ([True], [2]),
        ([True], ["yes"]),
        ([np.float32(0.1)], [0.1]),
        ([b"a"], ["a"]),
    ],
)
def test_pieces_of_different_kinds_are_an_error(one, two):
    with pytest.raises(TypeError, match=r"Column 'a' holds .* in the first pieces of X and"):
        seen(*frames(one, two))
    with pytest.raises(TypeError, match=r"Column 'a' holds .* in the first pieces of X and"):
        seen(*frames(two, one))


def test_an_error_says_what_the_pieces_hold_and_the_way_out():
    with pytest.raises(TypeError) as error:
        seen(*frames([1, 2], ["three"]))
    for words in (
        "'a'",
        "1 (int64)",
        "'three'",
        "the last piece",
        "read_csv(..., dtype={'a': ...}",
    ):
        assert words in str(error.value)


def test_pieces_have_the_same_columns_and_container():
    frame = pd.DataFrame({"a": [1], "b": [2]})
    with pytest.raises(ValueError, match=r"\['a', 'b'\] in the first pieces.*\['b', 'a'\]"):
        seen(frame, frame[["b", "a"]])
    with pytest.raises(TypeError, match=r"another kind \(pandas\).*\(arrow\)"):
        seen(frame, pa.table(frame))
    with pytest.raises(TypeError, match=r"Column 'b' is int64 in the first.*double in the last"):
        seen(pa.table(frame), pa.table(frame.astype({"b": float})))
    assert seen(np.ones((1, 2)), np.ones((1, 2), dtype=int)).schema.container.dtype == "<f8"
    assert seen(np.array([["a"]]), np.array([["abc"]])).schema.container.dtype == "<U3"


def test_a_row_shows_names_and_dtypes():
    one, two = frames([1, 2], [np.nan])
    row = seen(one.assign(b="x"), two.assign(b="y")).frame
    assert list(row.columns) == ["a", "b"] and row["a"].dtype == float


def test_what_wants_one_table_says_how_to_make_one():
    with pytest.raises(TypeError, match=r"only fit takes.*pandas\.concat\(X\)"):
        as_frame([pd.DataFrame({"x": [1]})] * 2)
    pa = pytest.importorskip("pyarrow")
    import pyarrow.dataset as ds

    with pytest.raises(TypeError, match=r"only fit takes.*all of them as one\."):
        as_frame([pa.table({"x": [1]})] * 2)
    with pytest.raises(TypeError, match=r"X\.to_table\(\)"):
        as_frame(ds.dataset(pa.table({"x": [1]})))
