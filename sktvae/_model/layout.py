"""How an encoded table lies in tensors.

Notation in the shape comments of this sub-package: B rows of a batch, C categorical heads, G
Gaussian heads, K categories of all categorical heads together, E the size of the latent z.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sktvae._heads import Categorical, Gaussian, Head, Uniform


class Batch(NamedTuple):
    """Rows of an encoded table as tensors.

    Attributes
    ----------
    codes : int16 or int32 tensor of shape (B, C)
        For each categorical head, the index of the row's category among the K categories of all
        heads together. It is kept in the smallest dtype that holds K, and converted to int64 one
        batch at a time, where torch requires it.
    values : float tensor of shape (B, G)
        NaN where a Gaussian head does not apply.
    weight : float tensor of shape (B,), default=None
        How much each row counts, with a mean of one over all training rows; None counts every row
        once.
    recorded : bool tensor of shape (B, V), default=None
        Which of `Layout.variables` are known in each row; None if all of them are. What is not
        recorded is neither visible to other variables nor part of a likelihood.
    """

    codes: Tensor
    values: Tensor
    weight: Tensor | None = None
    recorded: Tensor | None = None

    @property
    def n_rows(self) -> int:
        return len(self.codes)

    def rows(self, part: slice) -> Batch:
        """A view of a slice of the rows."""
        return Batch(*(None if field is None else field[part] for field in self))

    def take(self, index: Tensor) -> Batch:
        """A copy of the rows that an index tensor selects."""
        return Batch(*(None if field is None else field.index_select(0, index) for field in self))

    def to(self, device: torch.device | str) -> Batch:
        """The same rows on another device."""
        return Batch(*(None if field is None else field.to(device) for field in self))

    @property
    def n_blocks(self) -> int:
        """How many parts the rows are read in: one, since they are in memory."""
        return 1

    def blocks(self) -> Iterator[Batch]:
        """All rows, block by block."""
        yield self

    def close(self) -> None:
        """Do nothing: rows in memory need not be closed, as those on disk do."""


class Layout:
    """Where the value of each head is found in a batch, and its categories among all categories.

    Parameters
    ----------
    heads : sequence of Head

    Attributes
    ----------
    categorical, gaussian, uniform : list of int
        The heads of each kind.
    slot : dict of int to int
        The column of `Batch.codes` of a categorical head, of `Batch.values` of a Gaussian one.
    variables : list of list of int
        The heads of each variable: one head, followed by those that refine it.
    sizes, offsets : list of int
        For each categorical head, its number of categories and the index of its first category
        among all.
    n_codes : int
        Categories of all heads together, K.
    data_dim : int
        K + G, the length of a row of one-hot categories and values.
    """

    def __init__(self, heads: Sequence[Head]):
        self.heads = tuple(heads)
        self.n_heads = len(self.heads)
        of_kind = lambda kind: [j for j, head in enumerate(self.heads) if isinstance(head, kind)]
        self.categorical = of_kind(Categorical)
        self.gaussian = of_kind(Gaussian)
        self.uniform = of_kind(Uniform)
        self.slot = {j: c for c, j in enumerate(self.categorical)}
        self.slot |= {j: g for g, j in enumerate(self.gaussian)}
        self.variables = []
        for j, head in enumerate(self.heads):
            if isinstance(head, Uniform):
                continue
            if head.refines:
                self.variables[-1].append(j)
            else:
                self.variables.append([j])
        self.sizes = [self.heads[j].n_categories for j in self.categorical]
        self.offsets = np.cumsum([0, *self.sizes])[:-1].tolist()
        self.n_codes = sum(self.sizes)
        self.data_dim = self.n_codes + len(self.gaussian)
        self.code_dtype = getattr(torch, _smallest_int(self.n_codes).__name__)

    def is_categorical(self, j: int) -> bool:
        return isinstance(self.heads[j], Categorical)

    def n_categories(self, j: int) -> int:
        """Number of categories of head j; 0 for a Gaussian head."""
        return self.heads[j].n_categories if self.is_categorical(j) else 0

    def n_ordered(self, j: int) -> int:
        """How many codes of head j are ordered; 0 if they are too few for an order to matter."""
        n_ordered = self.heads[j].n_ordered if self.is_categorical(j) else 0
        return n_ordered if n_ordered > 2 else 0

    def span(self, j: int) -> slice:
        """The categories of categorical head j among the K categories of all heads."""
        offset = self.offsets[self.slot[j]]
        return slice(offset, offset + self.n_categories(j))

    def to_batch(self, columns: Sequence[np.ndarray]) -> Batch:
        """Tensors of an encoded table.

        Parameters
        ----------
        columns : sequence of n_heads arrays of shape (B,)
            One array per head, of any numeric dtype. A two-dimensional table `Z` is passed as
            ``Z.T``.

        Returns
        -------
        batch : Batch of B rows
        """
        n_rows = len(columns[0])
        codes = np.empty((n_rows, len(self.categorical)), dtype=_smallest_int(self.n_codes))
        for c, j in enumerate(self.categorical):
            codes[:, c] = columns[j]
            codes[:, c] += self.offsets[c]
        values = np.empty((n_rows, len(self.gaussian)), dtype=np.float32)
        for g, j in enumerate(self.gaussian):
            values[:, g] = columns[j]
        return Batch(torch.from_numpy(codes), torch.from_numpy(values))

    def to_columns(self, batch: Batch, generator: torch.Generator) -> list[np.ndarray]:
        """The encoded table of a batch; the uniform heads are drawn here.

        Parameters
        ----------
        batch : Batch of B rows
        generator : torch.Generator

        Returns
        -------
        columns : list of n_heads arrays of shape (B,)
            Codes from 0 on of the smallest signed integer dtype, of 16 bits at least; values and
            uniform positions in float32.
        """
        shape = (batch.n_rows, len(self.uniform))
        position = torch.rand(shape, generator=generator, device=generator.device)
        codes, values, position = (
            np.ascontiguousarray(numbers.t().cpu().numpy())
            for numbers in (batch.codes, batch.values.float(), position)
        )
        columns = [None] * self.n_heads
        for c, j in enumerate(self.categorical):
            columns[j] = (codes[c] - self.offsets[c]).astype(_smallest_int(self.sizes[c]))
        for g, j in enumerate(self.gaussian):
            columns[j] = values[g]
        for u, j in enumerate(self.uniform):
            columns[j] = position[u]
        return columns


def _smallest_int(n: int) -> type[np.signedinteger]:
    """The smaller of int16 and int32 that holds the codes 0 to n - 1."""
    return np.int16 if n <= 2**15 else np.int32


def row_blocks(n_rows: int, size: int = 8192) -> list[slice]:
    """Slices of rows to be computed one after the other, so that the tensors in between stay small.

    Examples
    --------
    >>> from sktvae._model.layout import row_blocks
    >>> row_blocks(5, size=2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return [slice(start, min(start + size, n_rows)) for start in range(0, n_rows, size)]
