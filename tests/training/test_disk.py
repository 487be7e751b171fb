import errno
import os
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from sktvae._heads import Categorical, Gaussian, Uniform
from sktvae._model.layout import Batch, Layout
from sktvae._training import disk, rows
from sktvae._training.disk import RowFormat, RowsOnDisk
from sktvae._training.holdout import split
from sktvae._training.rows import TrainingRows, arrange, collect
from tests.training.conftest import new_vae, plan

HEADS = [Categorical(256), Gaussian(), Categorical(257), Uniform(), Categorical(70_000)]


def table(n_rows, heads=HEADS, seed=0):
    """One array per head; the largest codes occur, and missing values."""
    rng = np.random.default_rng(seed)
    columns = []
    for head in heads:
        if isinstance(head, Categorical):
            codes = rng.integers(0, head.n_categories, n_rows)
            codes[:2] = 0, head.n_categories - 1
            columns.append(codes)
        else:
            values = rng.random(n_rows).astype(np.float32)
            values[rng.random(n_rows) < 0.2] = np.nan
            columns.append(values)
    return columns


def pieces(columns, size):
    n_rows = len(columns[0])
    return [[c[start : start + size] for c in columns] for start in range(0, n_rows, size)]


def numbered(n_rows):
    """Rows that are told apart by their only code, sorted by it."""
    return Layout([Categorical(n_rows)]), [np.arange(n_rows)]


def write(layout, columns, size=1000, seed=0, **options):
    return RowsOnDisk.write(layout, pieces(columns, size), len(columns[0]), seed, **options)


def everything(on_disk):
    return on_disk.rows(slice(None))


def assert_equal(one, two):
    for a, b in zip(one, two, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


@pytest.fixture
def many_buckets(monkeypatch):
    """Files of a few thousand rows then have many buckets, and are read in many blocks."""
    monkeypatch.setattr(disk, "_BUCKET_BYTES", 2**12)
    monkeypatch.setattr(disk, "_BLOCK_ROWS", 700)


@pytest.mark.parametrize(
    "heads",
    [HEADS, HEADS[:2], [Gaussian()], [Categorical(70_000)], [Categorical(2)] * 3 + [Uniform()]],
)
def test_every_kind_of_head_comes_back(heads, many_buckets):
    layout, columns = Layout(heads), table(3000, heads)
    on_disk = write(layout, columns)
    assert on_disk.n_rows == 3000 and on_disk.weight is None
    assert_equal(arrange(everything(on_disk)), arrange(layout.to_batch(columns)))


def test_codes_take_as_few_bytes_as_they_can():
    sizes = [1, 2, 256, 257, 2**16, 2**16 + 1]
    format = RowFormat(Layout([*map(Categorical, sizes), Gaussian(), Uniform()]))
    assert format.dtype.itemsize == 3 * 1 + 2 * 2 + 4 + 4
    assert format.bytes_in_memory == 6 * 4 + 4


def test_rows_are_in_random_order(many_buckets):
    """Every part of the file is a uniform sample of a sorted table."""
    layout, columns = numbered(20_000)
    codes = everything(write(layout, columns)).codes[:, 0].numpy()
    np.testing.assert_array_equal(np.sort(codes), columns[0])
    expected = (20_000 - 1) / 2
    for part in np.split(codes, 20):  # of 1,000 rows, whose mean has a deviation of 180
        assert abs(part.mean() - expected) < 4.5 * 180
        assert abs(part.std() - 20_000 / 12**0.5) < 500
    neighbours = np.corrcoef(codes[1:], codes[:-1])[0, 1]
    assert abs(neighbours) < 0.03
    assert abs(np.corrcoef(codes, columns[0])[0, 1]) < 0.03


def test_the_order_depends_on_the_seed_and_not_on_the_pieces(many_buckets):
    layout, columns = Layout(HEADS), table(5000)
    first = everything(write(layout, columns, size=1000))
    for size in (1, 777, 5000):
        assert_equal(everything(write(layout, columns, size=size)), first)
    other = everything(write(layout, columns, seed=1))
    assert (other.codes != first.codes).any()


def test_blocks_and_slices_and_what_comes_after(many_buckets):
    on_disk = write(*numbered(3000))
    codes = everything(on_disk).codes
    blocks = list(on_disk.blocks())
    assert [block.n_rows for block in blocks] == [600] * 5 and on_disk.n_blocks == 5
    torch.testing.assert_close(torch.cat([block.codes for block in blocks]), codes)
    torch.testing.assert_close(on_disk.rows(slice(2990, 4000)).codes, codes[2990:])
    assert on_disk.rows(slice(5, 5)).n_rows == 0
    later = on_disk.after(1000).to("cpu")
    assert later.n_rows == 2000
    torch.testing.assert_close(later.rows(slice(10)).codes, codes[1000:1010])
    batch = Batch(codes, torch.zeros(3000, 0))
    assert [block is batch for block in batch.blocks()] == [True] and batch.n_blocks == 1


def test_threads_read_at_the_same_time(many_buckets):
    """As the two networks of a fit do; the file has one position for all of them."""
    on_disk = write(*numbered(3000))
    codes = everything(on_disk).codes

    def are_right(seed):
        starts = np.random.default_rng(seed).integers(0, 2900, 2000)
        read = [on_disk.rows(slice(start, start + 100)).codes for start in starts]
        return all(
            torch.equal(found, codes[start : start + 100])
            for found, start in zip(read, starts, strict=True)
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(are_right, range(4)))


def test_rows_that_are_held_out_are_not_trained_on(many_buckets):
    on_disk = write(*numbered(3000))
    training, validation = split(on_disk, 0.1, seed=0)
    assert isinstance(validation, Batch) and validation.n_rows == 300
    assert isinstance(training, RowsOnDisk) and training.n_rows == 2700
    both = torch.cat([validation.codes, everything(training).codes])[:, 0]
    torch.testing.assert_close(both.sort().values.long(), torch.arange(3000))


def turns(on_disk, n_epochs=1, n_steps=None, **settings):
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    decoder = new_vae().decoder
    return list(
        TrainingRows(on_disk, decoder, plan(**settings), *generators, n_steps).turns(n_epochs)
    )


@pytest.mark.parametrize(("n_steps", "sizes"), [(None, {96, 97}), (40, {75}), (2, {1500})])
def test_an_epoch_has_every_row_once(n_steps, sizes, many_buckets):
    found = turns(write(*numbered(3000)), n_epochs=2, n_steps=n_steps, batch_size=97)
    assert {turn.batch.n_rows for turn in found} == sizes
    assert sum(turn.share for turn in found) == pytest.approx(2)
    epochs = [[t.batch.codes[:, 0] for t in found if t.epoch == epoch] for epoch in (1, 2)]
    first, second = map(torch.cat, epochs)
    torch.testing.assert_close(first.sort().values.long(), torch.arange(3000))
    torch.testing.assert_close(second.sort().values.long(), torch.arange(3000))
    for batches in epochs:  # of a sorted table; 8 deviations of the mean of a batch
        assert all(abs(b.float().mean() - 1500) < 8 * 866 / len(b) ** 0.5 for b in batches)
    assert (first == second).float().mean() < 0.01


def test_the_blocks_of_an_epoch_come_in_random_order(many_buckets):
    on_disk = write(*numbered(3000))
    block_of = torch.empty(3000, dtype=torch.long)
    block_of[everything(on_disk).codes[:, 0].long()] = torch.arange(3000) // 600
    order = [
        [int(block_of[t.batch.codes[0, 0].long()]) for t in found]
        for found in (turns(on_disk, n_epochs=2, n_steps=5)[:5], turns(on_disk, 2, 5)[5:])
    ]
    assert sorted(order[0]) == sorted(order[1]) == list(range(5))
    assert order[0] != order[1]


def test_checks_come_within_an_epoch(many_buckets):
    found = turns(write(*numbered(3000)), n_steps=30, steps_per_check=10)
    assert [i for i, turn in enumerate(found, 1) if turn.check] == [10, 20, 30]


def test_few_rows_are_kept_in_memory_and_many_on_disk(monkeypatch):
    layout, columns = Layout(HEADS), table(3000)
    collected = collect(layout, pieces(columns, 700), 3000, seed=0)
    assert_equal(collected, arrange(layout.to_batch(columns)))
    monkeypatch.setattr(rows, "_MOST_BYTES_IN_MEMORY", 3000 * 16 - 1)
    on_disk = collect(layout, pieces(columns, 700), 3000, seed=0)
    assert isinstance(on_disk, RowsOnDisk)
    assert_equal(arrange(everything(on_disk)), collected)


@pytest.mark.parametrize("bound", [0, 2**27])
@pytest.mark.parametrize(("n_rows", "found"), [(2999, "more"), (3001, "3,000")])
def test_another_number_of_rows_in_the_second_pass_is_an_error(n_rows, found, bound, monkeypatch):
    monkeypatch.setattr(rows, "_MOST_BYTES_IN_MEMORY", bound)
    with pytest.raises(ValueError, match=f"had {n_rows:,} rows .*and {found} when"):
        collect(Layout(HEADS), pieces(table(3000), 700), n_rows, seed=0)


# The file and its folder

# Writes `n_rows` rows of one byte into the folder that is the first argument.
PROGRAM = """
    import resource, sys, time
    import numpy as np
    from sktvae._heads import Categorical
    from sktvae._model.layout import Layout
    from sktvae._training.disk import RowsOnDisk

    def tables(n_rows, wait=False):
        for start in range(0, n_rows, 100_000):
            if wait and start:
                print("half", flush=True)
                time.sleep(60)
            yield [np.zeros(100_000, dtype=np.uint8)]

    layout, folder = Layout([Categorical(2)]), sys.argv[1]
"""


def program(lines):
    return textwrap.dedent(PROGRAM) + textwrap.dedent(lines)


def test_the_file_has_no_name_and_its_space_is_freed(tmp_path):
    on_disk = write(*numbered(3000), cache=tmp_path)
    assert not list(tmp_path.iterdir())
    descriptor = on_disk._file._file.fileno()
    assert os.fstat(descriptor).st_size == 6000
    on_disk.after(5).close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_failed_write_closes_the_file(tmp_path):
    def failing():
        yield [np.zeros(10, dtype=int)]
        raise RuntimeError("no more")

    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    with pytest.raises(RuntimeError, match="no more"):
        RowsOnDisk.write(Layout([Categorical(2)]), failing(), 20, 0, tmp_path)
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) == before
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_nothing_is_left_of_a_process_that_was_killed(tmp_path):
    code = program("RowsOnDisk.write(layout, tables(200_000, wait=True), 200_000, 0, folder)")
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"half\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
@pytest.mark.parametrize("where", ["reserve", "put"])
def test_a_full_disk_is_an_error_that_says_what_to_do(where, tmp_path):
    """A limit on the size of files stands for the disk; `put` is how systems find out that
    cannot claim space in advance."""
    lines = f"""
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))
        if {where!r} == "put":
            import os
            del os.posix_fallocate
        RowsOnDisk.write(layout, tables(200_000), 200_000, 0, folder)
    """
    command = [sys.executable, "-c", program(lines), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("OSError: [Errno 27] File too large: the 200,000 encoded rows")
    assert f"file of 200,000 bytes in the folder '{tmp_path}'" in last
    assert last.endswith("or name another folder with the parameter cache")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system cannot claim space")
def test_a_file_system_that_cannot_claim_space_is_written_to(monkeypatch):
    def unsupported(*arguments):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    on_disk = write(*numbered(3000))
    torch.testing.assert_close(
        everything(on_disk).codes[:, 0].sort().values.long(), torch.arange(3000)
    )


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone'\. Free some space there, or name"):
        write(*numbered(10), cache=tmp_path / "gone")
