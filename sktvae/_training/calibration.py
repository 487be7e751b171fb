"""Fitting the biases of a trained decoder to the frequencies of the categories."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Generator, Tensor

from sktvae._collective import ALONE, Group
from sktvae._model.drawing import calibration_shift, mean_frequency, ratio_shift
from sktvae._model.layout import Batch, Layout, row_blocks
from sktvae._model.vae import VAE
from sktvae._training.disk import RowsOnDisk
from sktvae._training.step import antithetic_noise

# Of draws and corrections, in random orders.
_N_ROUNDS = 4


def calibrate_(
    vae: VAE,
    batches: Sequence[Batch | RowsOnDisk],
    generator: Generator,
    group: Group = ALONE,
    max_rows: int = 32_768,
    max_numbers: int = 8_000_000,
) -> None:
    """Match the frequencies of categories in drawn rows to those in the data.

    The noisy steps of an optimiser end close to the maximum of the likelihood, and the aggregate
    posterior close to the prior, but not exactly there: a thousandth of a nat in either can mean
    one row in a hundred too many of a category.

    Parameters
    ----------
    vae : VAE
        Its decoder is changed in place.
    batches : sequence of Batch or RowsOnDisk
        All rows. Held-out rows count too: a category that only they have must not vanish.
    generator : torch.Generator
        On the device of the rows.
    group : Group, default=ALONE
        Frequencies are those of the rows of all ranks. Each rank draws rows of its own; the means
        of their corrections are applied, the same on all ranks.
    max_rows : int, default=32_768
        Rows drawn.
    max_numbers : int, default=8_000_000
        Bound on the numbers in the widest tensor, which lowers the number of rows drawn.
    """
    if not vae.layout.n_codes:
        return
    frequency = frequencies(batches, vae.layout, group)
    match_(vae, frequency, generator, group, max_rows, max_numbers)


def match_(
    vae: VAE,
    frequency: Tensor,
    generator: Generator,
    group: Group = ALONE,
    max_rows: int = 32_768,
    max_numbers: int = 8_000_000,
) -> None:
    """As `calibrate_`, to given frequencies of all categories, (K,)."""
    n_rows = min(max_rows, max(200, max_numbers // vae.decoder.numbers_per_drawn_row))
    z = antithetic_noise(n_rows, vae.embedding_dim, generator)
    shift = calibration_shift(vae.decoder, z, frequency, generator)
    vae.decoder.shift_biases_(group.mean_(shift))


def calibrate_any_order_(
    vae: VAE,
    batches: Sequence[Batch | RowsOnDisk],
    generator: Generator,
    host_generator: Generator,
    group: Group = ALONE,
    max_rows: int = 512,
) -> None:
    """Match the frequencies of categories in rows that are drawn in random orders.

    As `calibrate_`, but a variable has different places in different orders, so that all biases
    are shifted at once after each round of draws.

    A variable that is not recorded in all rows is left as it is: where it is recorded, it may be
    distributed differently than in all rows, which is what is drawn.

    Parameters
    ----------
    vae : VAE
        Of a latent without dimensions. Its decoder is changed in place.
    batches : sequence of Batch or RowsOnDisk
        All rows.
    generator : torch.Generator
        On the device of the rows.
    host_generator : torch.Generator
        On the CPU, for the orders.
    group : Group, default=ALONE
        Frequencies are those of the rows of all ranks, and of what all ranks draw.
    max_rows : int, default=512
        Rows drawn in each of 32 orders, at most: about as many rows as the table has, but at least
        64 in each order.
    """
    if not vae.layout.n_codes:
        return
    frequency = frequencies(batches, vae.layout, group)
    is_complete = _always_recorded(batches, vae.layout)
    n_rows = group.total(sum(batch.n_rows for batch in batches))
    match_any_order_(
        vae, frequency, is_complete, n_rows, generator, host_generator, group, max_rows
    )


def match_any_order_(
    vae: VAE,
    frequency: Tensor,
    is_complete: Tensor,
    n_rows: int,
    generator: Generator,
    host_generator: Generator,
    group: Group = ALONE,
    max_rows: int = 512,
) -> None:
    """As `calibrate_any_order_`, to given frequencies of all categories, (K,), in `n_rows` rows.

    Categories that are not `is_complete`, (K,), keep their biases.
    """
    z = torch.zeros(min(max(n_rows // 32, 64), max_rows), 0, device=generator.device)
    for _ in range(_N_ROUNDS):
        orders = vae.decoder.random_orders(max_rows, host_generator)
        assert orders is not None
        orders = orders.to(generator.device)
        drawn = torch.stack([mean_frequency(vae.decoder, z, order, generator) for order in orders])
        shift = ratio_shift(frequency, group.mean_(drawn.mean(dim=0)))
        vae.decoder.shift_biases_(torch.where(is_complete, shift, 0.0))


def frequencies(
    batches: Sequence[Batch | RowsOnDisk], layout: Layout, group: Group = ALONE
) -> Tensor:
    """Relative, weighted frequency of each category in its head, (K,), where it is recorded."""
    device = _device(batches)
    counts = torch.zeros(layout.n_codes, device=device, dtype=torch.double)
    owner = _owners(layout, device)
    for batch in _in_blocks(batches):
        weight = torch.ones(batch.n_rows, device=device) if batch.weight is None else batch.weight
        repeated = weight.double()[:, None].expand(batch.codes.shape)
        if batch.recorded is not None:
            repeated = repeated * batch.recorded[:, owner]
        counts += torch.bincount(
            batch.codes.flatten(), repeated.flatten(), minlength=layout.n_codes
        )
    group.sum_(counts)
    totals = [n.sum().clamp(min=1e-12).expand(len(n)) for n in counts.split(layout.sizes)]
    return (counts / torch.cat(totals)).float()


def _owners(layout: Layout, device: torch.device) -> Tensor:
    """The variable of each categorical head, (C,)."""
    is_code = layout.is_categorical
    owner = [i for i, heads in enumerate(layout.variables) for j in heads if is_code(j)]
    return torch.tensor(owner, device=device, dtype=torch.long)


def _device(batches: Sequence[Batch | RowsOnDisk]) -> torch.device:
    return batches[0].rows(slice(0)).codes.device


def _in_blocks(batches: Sequence[Batch | RowsOnDisk]) -> Iterator[Batch]:
    """All rows, so few at a time that eight bytes for each of their codes are no matter."""
    for rows in batches:
        for block in rows.blocks():
            yield from map(block.rows, row_blocks(block.n_rows, 65_536))


def _always_recorded(batches: Sequence[Batch | RowsOnDisk], layout: Layout) -> Tensor:
    """Whether the variable of each category is recorded in all rows, (K,)."""
    device = _device(batches)
    complete = torch.ones(len(layout.variables), device=device, dtype=torch.bool)
    for batch in _in_blocks(batches):
        if batch.recorded is not None:
            complete &= batch.recorded.all(dim=0)
    sizes = torch.tensor(layout.sizes, device=device)
    return complete[_owners(layout, device)].repeat_interleave(sizes)
