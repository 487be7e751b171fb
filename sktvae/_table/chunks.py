"""`Chunks`: a table that is read piece by piece, and more than once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from sktvae._table.arrow import is_arrow, is_dataset, tables_of
from sktvae._table.narwhals import frames_of, is_lazy, is_narwhals

# Datasets and lazy frames are read in pieces of about so many rows.
ROWS_PER_PIECE = 2**16


class Chunks:
    """A table that is read piece by piece, and more than once.

    Iterating over it yields tables that are not empty, in the order of the rows.

    Parameters
    ----------
    pieces : callable
        Returns an iterator over tables, which starts anew with each call.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktvae._table.chunks import as_chunks
    >>> chunks = as_chunks([pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [3]})])
    >>> [len(piece) for piece in chunks], [len(piece) for piece in chunks]
    ([2, 1], [2, 1])
    """

    def __init__(self, pieces: Callable[[], Iterable[Any]]):
        self._pieces = pieces
        self._n_rows: int | None = None

    def __iter__(self) -> Iterator[Any]:
        n_rows = 0
        for piece in self._pieces():
            if not hasattr(piece, "__len__"):
                raise TypeError(
                    f"The piece of X that begins with row {n_rows} is {piece!r:.80}, and not a "
                    "table. Leave it out, or convert it to a table such as a DataFrame."
                )
            if len(piece):
                n_rows += len(piece)
                self._check(n_rows, at_end=False)
                yield piece
        if not n_rows and not self._n_rows:
            raise ValueError(
                "Found an empty table: 0 sample(s) in all pieces of X while a minimum of 1 is "
                "required."
            )
        self._check(n_rows, at_end=True)
        self._n_rows = n_rows

    def _check(self, n_rows: int, at_end: bool) -> None:
        """Raise ValueError if there are more or fewer rows than when they were read before."""
        known = self._n_rows
        if known is not None and (n_rows > known or (at_end and n_rows < known)):
            has = f"{n_rows}" if at_end else f"at least {n_rows}"
            raise ValueError(
                f"X had {known} rows when it was read first, and has {has} now. X is read more "
                "than once, and must not change while it is: copy its files, or load it into "
                "memory. An iterable must start anew each time: pass a list of tables, or an "
                "object whose __iter__ opens the files again."
            )


def as_chunks(X: Any) -> Chunks | None:
    """Return a table that is read piece by piece, or None if `X` is a table in memory.

    Parameters
    ----------
    X : object
        A `pyarrow.dataset.Dataset`, a `polars.LazyFrame`, or an iterable of tables that can be
        read more than once, such as a list of DataFrames; anything else is a table in memory.

    Raises
    ------
    TypeError
        If `X` is an iterator or a stream, which can be read only once.
    """
    if isinstance(X, Chunks):
        return X
    if isinstance(X, str | bytes | Mapping | np.ndarray | pd.DataFrame | pd.Series | pd.Index):
        return None
    if is_dataset(X):
        return Chunks(lambda: tables_of(X, ROWS_PER_PIECE))
    if is_lazy(X):
        return Chunks(lambda: frames_of(X, ROWS_PER_PIECE))
    if is_arrow(X) and hasattr(X, "read_next_batch"):
        raise _read_once(X)
    if isinstance(X, list | tuple):
        return Chunks(lambda: X) if X and _is_table(X[0]) else None
    if hasattr(X, "__array__") or hasattr(X, "columns") or not hasattr(type(X), "__iter__"):
        return None
    if is_arrow(X) or hasattr(X, "toarray"):  # a sparse matrix
        return None
    iterator = iter(X)
    if iterator is X:
        raise _read_once(X)
    first = next(iterator, None)
    return Chunks(lambda: X) if _is_table(first) else None


def _is_table(X: Any) -> bool:
    if isinstance(X, np.ndarray):
        return X.ndim == 2
    return isinstance(X, pd.DataFrame) or (is_arrow(X) and hasattr(X, "schema")) or is_narwhals(X)


def _read_once(X: Any) -> TypeError:
    return TypeError(
        f"X is a {type(X).__name__}, which can be read only once, and fit reads it more than once. "
        "Pass a list of tables, an object whose __iter__ opens the files again, a "
        "pyarrow.dataset.Dataset or a polars.LazyFrame; or load the table into memory."
    )
