"""The encoded rows of a table that is larger than memory, in a temporary file."""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from sktvae._model.layout import Batch, Layout

# The part of the file that is shuffled in memory at once.
_BUCKET_BYTES = 2**24
# What is read at once, as tensors: at most so many rows, and about so many bytes.
_BLOCK_ROWS, _BLOCK_BYTES = 2**18, 2**25
# Of file systems that cannot claim space in advance.
_CANNOT_RESERVE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


class RowsOnDisk:
    """The encoded rows of a table, in random order, in a temporary file without a name.

    The file is removed from its folder as soon as it is made, so that the system frees its space
    when the process ends, however it ends. It is written by `write`.

    Parameters
    ----------
    file : _RowFile
    start, stop : int
        The rows of the file that these are.
    device : torch.device or str, default="cpu"
        Where the rows are moved when they are read.

    Attributes
    ----------
    n_rows : int
    n_blocks : int
        How many parts of equal size the rows are read in, each of which fits in memory with ease.
    weight : None
        Every row counts once.
    """

    weight = None

    def __init__(self, file: _RowFile, start: int, stop: int, device: Any = "cpu"):
        self._file, self._start, self._device = file, start, device
        self.n_rows = stop - start
        row_bytes = file.format.bytes_in_memory
        self.n_blocks = -(-self.n_rows // max(1, min(_BLOCK_ROWS, _BLOCK_BYTES // row_bytes)))

    @classmethod
    def write(
        cls,
        layout: Layout,
        tables: Iterable[Sequence[np.ndarray]],
        n_rows: int,
        seed: int,
        cache: str | os.PathLike | None = None,
    ) -> RowsOnDisk:
        """Put encoded rows into a temporary file, in a random order.

        The file is divided into buckets. Each row goes to a bucket that is drawn at random for its
        number in the table, and each bucket is then shuffled in memory. The order does not depend
        on how the table is cut into pieces.

        Parameters
        ----------
        layout : Layout
        tables : iterable of sequences of arrays
            The table piece by piece: one array of codes or values per head, as in
            `Layout.to_batch`.
        n_rows : int
            The number of rows of all pieces together.
        seed : int
        cache : path, default=None
            The folder of the file; None for the system's folder of temporary files.

        Raises
        ------
        OSError
            If the file cannot be written, for example because the disk is full.
        ValueError
            If the pieces have more or fewer rows than `n_rows`.
        """
        file = _RowFile(RowFormat(layout), n_rows, cache)
        try:
            file.reserve()
            n_buckets = -(-n_rows * file.format.dtype.itemsize // _BUCKET_BYTES)
            ends = _scatter(file, tables, n_buckets, seed)
            rng = np.random.default_rng([seed, 1])
            for start, end in zip([0, *ends[:-1]], ends, strict=True):
                file.put(start, rng.permutation(file.get(start, end)))
        except BaseException:
            file.close()
            raise
        return cls(file, 0, n_rows)

    def rows(self, part: slice) -> Batch:
        """Read a slice of the rows, of step 1."""
        start, stop, _ = part.indices(self.n_rows)
        records = self._file.get(self._start + start, self._start + max(start, stop))
        return self._file.format.unpack(records).to(self._device)

    def blocks(self) -> Iterator[Batch]:
        """Read all rows, block by block."""
        for b in range(self.n_blocks):
            n_rows, n_blocks = self.n_rows, self.n_blocks
            yield self.rows(slice(b * n_rows // n_blocks, (b + 1) * n_rows // n_blocks))

    def after(self, n_rows: int) -> RowsOnDisk:
        """The same rows without the first ones; the file is shared."""
        start = self._start + n_rows
        return RowsOnDisk(self._file, start, self._start + self.n_rows, self._device)

    def to(self, device: torch.device | str) -> RowsOnDisk:
        """The same rows, to be read to another device; the file is shared."""
        return RowsOnDisk(self._file, self._start, self._start + self.n_rows, device)

    def close(self) -> None:
        """Free the space of the file, which is that of all rows that share it."""
        self._file.close()


class RowFormat:
    """How an encoded row lies in the file: a record of a few bytes.

    Codes count from 0 in each head and take one byte if the head has at most 256 categories, and
    two or four otherwise. Values are float32. Uniform heads are not kept.

    Parameters
    ----------
    layout : Layout

    Attributes
    ----------
    dtype : numpy.dtype
        Of a record, with the codes of each width side by side.
    bytes_in_memory : int
        The size of a row of a `Batch`.
    """

    def __init__(self, layout: Layout):
        self._layout = layout
        self._code_dtype = np.dtype(str(layout.code_dtype).removeprefix("torch."))
        self._offsets = np.array(layout.offsets, dtype=self._code_dtype)
        kinds = np.array([np.min_scalar_type(size - 1).itemsize for size in layout.sizes], int)
        self._slots = {f"u{n}": np.flatnonzero(kinds == n) for n in (1, 2, 4) if n in kinds}
        fields = [(kind, kind, (len(slots),)) for kind, slots in self._slots.items()]
        n_values = len(layout.gaussian)
        self.dtype = np.dtype([*fields, ("values", "f4", (n_values,))])
        self.bytes_in_memory = max(1, len(layout.sizes) * self._code_dtype.itemsize + 4 * n_values)

    def pack(self, columns: Sequence[np.ndarray]) -> np.ndarray:
        """Records (B,) of an encoded table, given as for `Layout.to_batch`."""
        records = np.empty(len(columns[0]), dtype=self.dtype)
        for kind, slots in self._slots.items():
            for i, slot in enumerate(slots):
                records[kind][:, i] = columns[self._layout.categorical[slot]]
        for i, j in enumerate(self._layout.gaussian):
            records["values"][:, i] = columns[j]
        return records

    def unpack(self, records: np.ndarray) -> Batch:
        """The rows of records."""
        codes = np.empty((len(records), len(self._offsets)), dtype=self._code_dtype)
        for kind, slots in self._slots.items():
            codes[:, slots] = records[kind]
        codes += self._offsets
        values = np.empty((len(records), len(self._layout.gaussian)), dtype=np.float32)
        values[:] = records["values"]
        return Batch(torch.from_numpy(codes), torch.from_numpy(values))


class _RowFile:
    """A temporary file of records, which has no name in its folder."""

    def __init__(self, format: RowFormat, n_rows: int, cache: str | os.PathLike | None):
        self.format, self.n_rows = format, n_rows
        self._reading = threading.Lock()
        self._folder = os.fspath(tempfile.gettempdir() if cache is None else cache)
        with self._explained():
            self._file: Any = tempfile.TemporaryFile(  # noqa: SIM115 (see `close`)
                dir=self._folder, buffering=0
            )

    def reserve(self) -> None:
        """Claim the space, where the system can: a full disk is an error now, and not later."""
        if not hasattr(os, "posix_fallocate"):
            return
        with self._explained():
            try:
                os.posix_fallocate(self._file.fileno(), 0, self.n_rows * self.format.dtype.itemsize)
            except OSError as error:
                if error.errno not in _CANNOT_RESERVE:
                    raise

    def put(self, start: int, records: np.ndarray) -> None:
        """Write records from row `start` on."""
        left = np.ascontiguousarray(records).view(np.uint8).data
        with self._explained():
            self._file.seek(start * self.format.dtype.itemsize)
            while left:
                left = left[self._file.write(left) :]

    def get(self, start: int, stop: int) -> np.ndarray:
        """Read the records of rows `start` to `stop`."""
        size = self.format.dtype.itemsize
        contents = np.empty((stop - start) * size, dtype=np.uint8)
        left = contents.data
        with self._reading:  # two networks may read the rows at the same time
            self._file.seek(start * size)
            while left:
                n_read = self._file.readinto(left)
                if not n_read:
                    raise OSError(
                        f"The temporary file of encoded rows in {self._folder!r} is cut off."
                    )
                left = left[n_read:]
        return contents.view(self.format.dtype)

    def close(self) -> None:
        self._file.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Within the context, an error of the system says what was written where."""
        try:
            yield
        except OSError as error:
            needed = self.n_rows * self.format.dtype.itemsize
            raise OSError(
                error.errno,
                f"{error.strerror}: the {self.n_rows:,} encoded rows of the table need a temporary "
                f"file of {needed:,} bytes in the folder {self._folder!r}. Free some space there, "
                "or name another folder with the parameter cache",
            ) from error


def _scatter(
    file: _RowFile,
    tables: Iterable[Sequence[np.ndarray]],
    n_buckets: int,
    seed: int,
) -> list[int]:
    """Write each row to a random bucket; return where in the file each bucket ends."""
    n_rows = file.n_rows
    sizes = np.zeros(n_buckets, dtype=np.int64)
    # The same random numbers twice: first to count the rows of each bucket, then to fill it.
    rng, again = np.random.default_rng(seed), np.random.default_rng(seed)
    for start in range(0, n_rows, _BLOCK_ROWS):
        bucket = _buckets(rng, min(_BLOCK_ROWS, n_rows - start), n_buckets)
        sizes += np.bincount(bucket, minlength=n_buckets)
    ends = np.cumsum(sizes)
    position = ends - sizes
    for records in checked(map(file.format.pack, tables), n_rows):
        bucket = _buckets(again, len(records), n_buckets)
        records = records[np.argsort(bucket, kind="stable")]
        counts = np.bincount(bucket, minlength=n_buckets)
        parts = np.split(records, np.cumsum(counts)[:-1])
        for b in np.flatnonzero(counts):
            file.put(int(position[b]), parts[b])
        position += counts
    return ends.tolist()


def _buckets(rng: np.random.Generator, n_rows: int, n_buckets: int) -> np.ndarray:
    """The random bucket of each of the next rows."""
    return (rng.random(n_rows) * n_buckets).astype(np.uint16 if n_buckets <= 2**16 else np.int64)


def checked(pieces: Iterable[Any], n_rows: int) -> Iterator[Any]:
    """Yield pieces, which must have so many rows together."""
    n_read = 0
    for piece in pieces:
        n_read += len(piece)
        if n_read > n_rows:
            break
        yield piece
    if n_read != n_rows:
        more = "more" if n_read > n_rows else f"{n_read:,}"
        raise ValueError(
            f"The table had {n_rows:,} rows when its columns were learned, and {more} when it was "
            "read again. Give `fit` chunks that hold the same rows each time they are iterated."
        )
