"""The training rows: put into a canonical order, shuffled, and divided into batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from sktvae._model.decoder import Decoder
from sktvae._model.layout import Batch
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


class ResidentRows:
    """Training rows that are all in the memory of the device.

    Parameters
    ----------
    batch : Batch
        All training rows, in random order.
    decoder : Decoder
        It draws the random orders of its variables.
    plan : TrainingPlan
    generator : torch.Generator
        On the device of the rows, which it shuffles.
    host_generator : torch.Generator
        On the CPU. It chooses the orders of the variables, so that the host does not wait for the
        device.
    """

    def __init__(
        self,
        batch: Batch,
        decoder: Decoder,
        plan: TrainingPlan,
        generator: Generator,
        host_generator: Generator,
    ):
        self.batch, self.decoder = batch, decoder
        self.generator, self.host_generator = generator, host_generator
        self.random_orders, self.any_order = plan.random_orders, plan.any_order
        self.n_steps = -(-batch.n_rows // plan.batch_size)  # per epoch
        self.n_checks = -(-self.n_steps // plan.steps_per_check)

    def turns(self, n_epochs: int) -> Iterator[Turn]:
        """Epoch by epoch, all rows in a new random order, in batches of nearly equal size.

        The rows are shuffled once per epoch, so that each batch is a view of consecutive rows.
        """
        n_rows, n_steps, n_checks = self.batch.n_rows, self.n_steps, self.n_checks
        device = self.generator.device
        for epoch in range(1, n_epochs + 1):
            index = torch.randperm(n_rows, generator=self.generator, device=device)
            shuffled = self.batch.take(index)
            for i in range(n_steps):
                rows = slice(i * n_rows // n_steps, (i + 1) * n_rows // n_steps)
                check = (i + 1) * n_checks // n_steps > i * n_checks // n_steps
                order = self._order(rows.stop - rows.start)
                yield Turn(shuffled.rows(rows), order, epoch, 1 / n_steps, check)

    def _order(self, n_rows: int) -> Tensor | None:
        order = None
        if self.any_order:
            order = self.decoder.random_orders(n_rows, self.host_generator)
        elif self.random_orders:
            is_random = torch.rand((), generator=self.host_generator).item() < self.random_orders
            order = self.decoder.random_order(self.host_generator) if is_random else None
        return None if order is None else order.to(self.generator.device, non_blocking=True)


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
