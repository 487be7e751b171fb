"""The training rows: put into a canonical order, shuffled, and divided into batches."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from sktvae._model.decoder import Decoder
from sktvae._model.layout import Batch, Layout
from sktvae._training.disk import RowFormat, RowsOnDisk, checked
from sktvae._training.plan import TrainingPlan


class Turn(NamedTuple):
    """The input of one step of the optimiser.

    Attributes
    ----------
    batch : Batch
    order : int64 tensor of shape (n_variables,) or (n_orders, n_variables), or None
        The order in which the decoder goes through the variables, or those of groups of rows; None
        is that of the table.
    epoch : int
        The current epoch, counted from 1.
    share : float
        The part of an epoch that this step is.
    check : bool
        Whether the loss is to be checked after this step.
    """

    batch: Batch
    order: Tensor | None
    epoch: int
    share: float
    check: bool


class TrainingRows:
    """Training rows, in memory or on disk, in batches.

    Parameters
    ----------
    rows : Batch or RowsOnDisk
        All training rows, in random order.
    decoder : Decoder
        It draws the random orders of its variables.
    plan : TrainingPlan
    generator : torch.Generator
        On the device of the rows, which it shuffles.
    host_generator : torch.Generator
        On the CPU. It chooses the orders of the variables, so that the host does not wait for the
        device.
    n_steps : int, default=None
        The number of batches in an epoch; by default as many as `plan.batch_size` takes.

    Attributes
    ----------
    n_steps : int
    n_checks : int
        How often the loss is checked in an epoch.
    """

    def __init__(
        self,
        rows: Batch | RowsOnDisk,
        decoder: Decoder,
        plan: TrainingPlan,
        generator: Generator,
        host_generator: Generator,
        n_steps: int | None = None,
    ):
        self.rows, self.decoder = rows, decoder
        self.generator, self.host_generator = generator, host_generator
        self.random_orders, self.any_order = plan.random_orders, plan.any_order
        self.n_steps = -(-rows.n_rows // plan.batch_size) if n_steps is None else n_steps
        self.n_checks = -(-self.n_steps // plan.steps_per_check)

    def turns(self, n_epochs: int) -> Iterator[Turn]:
        """Epoch by epoch, all rows in a new random order, in batches of nearly equal size.

        Rows in memory are shuffled all at once. Of those on disk, which lie there in random order,
        the blocks come in random order, and each block is shuffled. Each batch is a view of
        consecutive rows of a shuffled block.
        """
        n_steps, n_checks = self.n_steps, self.n_checks
        for epoch in range(1, n_epochs + 1):
            for i, batch in enumerate(self._batches()):
                check = (i + 1) * n_checks // n_steps > i * n_checks // n_steps
                yield Turn(batch, self._order(batch.n_rows), epoch, 1 / n_steps, check)

    def _batches(self) -> Iterator[Batch]:
        """The batches of an epoch."""
        n_rows, n_steps, device = self.rows.n_rows, self.n_steps, self.generator.device
        n_blocks = min(self.rows.n_blocks, n_steps)
        order = [0]
        if n_blocks > 1:
            order = torch.randperm(n_blocks, generator=self.generator, device=device).tolist()
        for b in order:
            steps = range(b * n_steps // n_blocks, (b + 1) * n_steps // n_blocks)
            ends = [i * n_rows // n_steps for i in (*steps, steps.stop)]
            block = self.rows.rows(slice(ends[0], ends[-1]))
            index = torch.randperm(block.n_rows, generator=self.generator, device=device)
            shuffled = block.take(index)
            del block
            for start, end in pairwise(ends):
                yield shuffled.rows(slice(start - ends[0], end - ends[0]))

    def _order(self, n_rows: int) -> Tensor | None:
        order = None
        if self.any_order:
            order = self.decoder.random_orders(n_rows, self.host_generator)
        elif self.random_orders:
            is_random = torch.rand((), generator=self.host_generator).item() < self.random_orders
            order = self.decoder.random_order(self.host_generator) if is_random else None
        return None if order is None else order.to(self.generator.device, non_blocking=True)


# Codes and values of a table of chunks that are kept in memory.
_MOST_BYTES_IN_MEMORY = 2**27


def collect(
    layout: Layout,
    tables: Iterable[Sequence[np.ndarray]],
    n_rows: int,
    seed: int,
    cache: str | os.PathLike | None = None,
) -> Batch | RowsOnDisk:
    """The rows of a table that is encoded piece by piece.

    Parameters
    ----------
    layout : Layout
    tables : iterable of sequences of arrays
        One array of codes or values per head, as in `Layout.to_batch`.
    n_rows : int
        The number of rows of all pieces together.
    seed : int
        Of the order of rows on disk.
    cache : path, default=None
        The folder of a temporary file, see `RowsOnDisk`.

    Returns
    -------
    rows : Batch or RowsOnDisk
        Arranged rows in memory if they take up to 128 MB there, and rows on disk otherwise.
    """
    format = RowFormat(layout)
    if n_rows * format.bytes_in_memory > _MOST_BYTES_IN_MEMORY:
        return RowsOnDisk.write(layout, tables, n_rows, seed, cache)
    return arrange(format.unpack(np.concatenate([*checked(map(format.pack, tables), n_rows)])))


def arrange(batch: Batch, weight: Tensor | np.ndarray | None = None) -> Batch:
    """Rows in an order that depends only on their content, with normalised weights.

    A model that is fitted to arranged rows does not depend on the order of the rows in the table,
    and integer weights give the same model as repeated rows.

    Parameters
    ----------
    batch : Batch of B rows
        On the CPU.
    weight : tensor or array of shape (B,), default=None
        Positive weights of the rows.

    Returns
    -------
    arranged : Batch
        Rows sorted by a hash, equal rows side by side. If all weights are integers and their sum
        is at most ten times the number of rows, each row is repeated as often as its weight says
        and the result has no weights. Otherwise the weights are divided by their mean.
    """
    key = _hash(batch)
    if weight is None:
        return batch.take(torch.argsort(key, stable=True))
    weight = torch.as_tensor(weight, dtype=torch.float64)
    # Equal rows of different weights also need an order that does not depend on the table.
    index = torch.argsort(weight, stable=True)
    index = index[torch.argsort(key[index], stable=True)]
    batch, weight = batch.take(index), weight[index]
    if bool((weight == weight.round()).all()) and float(weight.sum()) <= 10 * batch.n_rows:
        return batch.take(torch.repeat_interleave(weight.long()))
    return batch._replace(weight=(weight / weight.mean()).float())


# Odd, so that multiplication modulo 2^64 is invertible (the constants of splitmix64).
_FACTORS = (-0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15)


def _hash(batch: Batch) -> Tensor:
    """A 64-bit hash of the content of each row, int64 (B,)."""
    values = batch.values.float() + 0.0  # -0.0 becomes 0.0
    values = torch.where(torch.isnan(values), torch.nan, values)  # one bit pattern for all NaN
    key = torch.zeros(batch.n_rows, dtype=torch.long)
    for column in (*batch.codes.t(), *values.view(torch.int32).t()):
        key = _mix((key ^ column.long()) + _FACTORS[0])
    return key


def _mix(x: Tensor) -> Tensor:
    """The output function of splitmix64; products wrap around."""
    x = (x ^ _shift_right(x, 30)) * _FACTORS[1]
    x = (x ^ _shift_right(x, 27)) * _FACTORS[2]
    return x ^ _shift_right(x, 31)


def _shift_right(x: Tensor, n: int) -> Tensor:
    """Without the copies of the sign bit."""
    return (x >> n) & ((1 << (64 - n)) - 1)
