"""How an encoded table lies in tensors: what the network and the table side agree on."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sktvae._heads import Categorical, Gaussian, Uniform


class Batch(NamedTuple):
    """Rows of the encoded table as tensors.

    Attributes
    ----------
    codes : int64 tensor of shape (B, C)
        Where each category stands in the one-hot row of all categorical heads together.
    values : float tensor of shape (B, G)
        NaN where a Gaussian head does not apply.
    """

    codes: Tensor
    values: Tensor

    def rows(self, part):
        """A view of a slice of the rows."""
        return Batch(self.codes[part], self.values[part])

    def take(self, rows):
        """A copy of the rows that an index tensor names."""
        return Batch(self.codes.index_select(0, rows), self.values.index_select(0, rows))

    def to(self, *args):
        return Batch(self.codes.to(*args), self.values.to(*args))


class Layout:
    """Where each head stands, in the encoded table and in the network's one-hot rows."""

    def __init__(self, heads):
        self.heads = tuple(heads)
        self.n_heads = len(self.heads)
        kinds = [type(head) for head in self.heads]
        self.categorical = [j for j, kind in enumerate(kinds) if kind is Categorical]
        self.gaussian = [j for j, kind in enumerate(kinds) if kind is Gaussian]
        self.uniform = [j for j, kind in enumerate(kinds) if kind is Uniform]
        self.sizes = [self.heads[j].n_categories for j in self.categorical]
        self.n_codes = sum(self.sizes)
        self.column = {j: c for c, j in enumerate(self.categorical)}
        self.column |= {j: g for g, j in enumerate(self.gaussian)}
        self.variables = []  # the heads of each variable: one, and those that refine it
        for j, head in enumerate(self.heads):
            if kinds[j] is Uniform:
                continue
            if head.refines:
                self.variables[-1].append(j)
            else:
                self.variables.append([j])
        self.first = np.cumsum([0, *self.sizes])[:-1]
        self.data_dim = self.n_codes + len(self.gaussian)
        self.head_of = torch.arange(len(self.sizes)).repeat_interleave(
            torch.tensor(self.sizes, dtype=torch.long)
        )

    def width(self, j):
        """Categories of head j, 0 for a Gaussian one."""
        return getattr(self.heads[j], "n_categories", 0)

    def n_ordered(self, j):
        """How many codes of head j have an order worth the name."""
        n_ordered = getattr(self.heads[j], "n_ordered", 0)
        return n_ordered if n_ordered > 2 else 0

    def codes_of(self, j):
        """Where the codes of categorical head j stand in the one-hot row of all heads."""
        return torch.arange(self.width(j)) + int(self.first[self.column[j]])

    def to_batch(self, encoded):
        """Tensors of an encoded table, an array of shape (B, n_heads)."""
        codes = encoded[:, self.categorical].astype(np.int64) + self.first.astype(np.int64)
        values = encoded[:, self.gaussian].astype(np.float32)
        return Batch(torch.from_numpy(codes), torch.from_numpy(values))

    def to_encoded(self, batch, generator):
        """An encoded table of a drawn batch; the uniform heads are drawn here."""
        encoded = np.empty((len(batch.codes), self.n_heads))
        encoded[:, self.categorical] = batch.codes.cpu().numpy() - self.first
        encoded[:, self.gaussian] = batch.values.cpu().numpy()
        position = torch.rand(
            len(batch.codes), len(self.uniform), generator=generator, device=generator.device
        )
        encoded[:, self.uniform] = position.cpu().numpy()
        return encoded
