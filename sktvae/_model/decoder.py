"""What every decoder p(x | z) offers: the likelihood of rows, and a walk that draws them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from sktvae._model.layers import Dropout
from sktvae._model.layout import Batch, Layout

# Rows that go through a walk together on a CPU: so few that their tensors stay in the cache from
# one operation to the next (states of 96 numbers take 800 KB), and so many that an operation on
# them takes longer than to begin it.
CACHED_ROWS = 2048


class Decoder(nn.Module, ABC):
    """p(x | z) over the heads of an encoded table.

    Attributes
    ----------
    layout : Layout
    sigma : parameter of shape (G,)
        Standard deviation of each Gaussian head.
    """

    layout: Layout
    sigma: nn.Parameter

    @abstractmethod
    def log_prob(
        self,
        z: Tensor,
        batch: Batch,
        order: Tensor | None = None,
        dropout: Dropout | None = None,
    ) -> Tensor:
        """log p(x | z) of each row, summed over the heads.

        Parameters
        ----------
        z : tensor of shape (B, E)
        batch : Batch of B rows
        order : int64 tensor of shape (n_variables,) or (n_orders, n_variables), default=None
            An order of the variables, from `random_order`, or one for each of as many groups of
            consecutive rows, from `random_orders`; None is the order of the table.
        dropout : Dropout, default=None
            Applied to the last hidden units while training.

        Returns
        -------
        log_prob : tensor of shape (B,)
        """

    def log_prob_draws(self, z: Tensor, batch: Batch, layers: Any = None) -> Tensor:
        """log p(x | z) of each row at several z, as they are without gradients.

        Parameters
        ----------
        z : tensor of shape (S, B, E)
        batch : Batch of B rows
            All of them recorded.
        layers : default=None
            From `drawing_layers`; None computes them.

        Returns
        -------
        log_prob : tensor of shape (S, B)
        """
        n_draws, n_rows, _ = z.shape
        repeated = batch.take(torch.arange(n_rows, device=z.device).repeat(n_draws))
        return self.log_prob(z.flatten(0, 1), repeated).view(n_draws, n_rows)

    def drawing_layers(self) -> Any:
        """What walks need that does not depend on the rows, to be shared by several walks."""
        return None

    @abstractmethod
    def walk(self, z: Tensor, order: Tensor | None = None, *, layers: Any = None) -> Walk:
        """Begin to draw one row for each z.

        Parameters
        ----------
        z : tensor of shape (B, E)
        order : int64 tensor of shape (n_variables,), default=None
            As in `log_prob`.
        layers : default=None
            From `drawing_layers`; None computes them.

        Returns
        -------
        walk : Walk
            To be used, as this method, under ``torch.no_grad()``.
        """

    def random_order(self, generator: Generator) -> Tensor | None:
        """A random order of the variables from a CPU generator; None where there is no order."""
        return None

    def random_orders(self, n_rows: int, generator: Generator) -> Tensor | None:
        """Random orders for the rows of a batch, (n_orders, n_variables), as `random_order`."""
        return None

    def deviations(self) -> dict[str, Tensor]:
        """Which weights let ordered codes differ from a smooth function of their position.

        They are zero at first, and a table of few rows is better off if they remain so.

        Returns
        -------
        deviations : dict of str to bool tensor
            By the names of parameters, in their shapes.
        """
        return {}

    @property
    @abstractmethod
    def numbers_per_row(self) -> int:
        """Numbers per row in the widest tensor of `log_prob`."""

    @property
    @abstractmethod
    def numbers_per_drawn_row(self) -> int:
        """Numbers per row in the widest tensor of a walk."""

    @abstractmethod
    def shift_biases_(self, shift: Tensor) -> None:
        """Add to the biases of all categories, in place: (K,)."""


class Walk(ABC):
    """One pass over the heads of rows that are being drawn.

    For each head in turn, `output` tells how it is distributed given z and what has been taken so
    far, and `take` makes its codes or values known, whether they were drawn or given::

        for j in walk.heads:
            drawn = ...  # from walk.output(j)
            walk.take(j, drawn)
        batch = walk.batch()

    Parameters
    ----------
    layout : Layout
    heads : sequence of int
    z : tensor of shape (B, E)

    Attributes
    ----------
    heads : list of int
        The categorical and Gaussian heads in the order in which they are to be taken.
    """

    def __init__(self, layout: Layout, heads: Sequence[int], z: Tensor):
        self.layout, self.heads = layout, list(heads)
        shape = len(layout.categorical), len(z)
        self._codes = torch.zeros(shape, dtype=torch.long, device=z.device)
        self._values = z.new_full((len(layout.gaussian), len(z)), math.nan)
        self._variable_of = {j: heads for heads in layout.variables for j in heads}

    @abstractmethod
    def output(self, j: int) -> Tensor:
        """Logits (B, n) of a categorical head, means (B,) of a Gaussian one."""

    def take(self, j: int, drawn: Tensor) -> None:
        """Make codes (from 0 on) or values of head j, (B,), known to the heads after it."""
        known = self._codes if self.layout.is_categorical(j) else self._values
        known[self.layout.slot[j]] = drawn

    def applies(self, j: int) -> Tensor | None:
        """Rows in which head j has a value, a mask of shape (B,); None for all rows.

        A position in a mode has none where the value of its variable is missing.
        """
        first = self._variable_of[j][0]
        if self.layout.is_categorical(j) or j == first:
            return None
        return self._codes[self.layout.slot[first]] < self.layout.heads[first].n_ordered

    def batch(self) -> Batch:
        """The rows taken so far."""
        offsets = torch.tensor(self.layout.offsets, device=self._codes.device)
        codes = (self._codes.t() + offsets).to(self.layout.code_dtype)
        return Batch(codes, self._values.t())
