"""The gradient and the loss of a batch.

Nothing here reads a number from the device, so that the host need not wait for it and a step can
be recorded as a CUDA graph.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from sktvae._model.closed_form import add_closed_form, has_closed_form
from sktvae._model.layers import Dropout
from sktvae._model.layout import Batch, row_blocks
from sktvae._model.objective import loss_of_terms, negative_bound, row_terms
from sktvae._model.readout import Readout
from sktvae._model.vae import VAE
from sktvae._training.plan import TrainingPlan

# Numbers in the widest tensor of a piece of a batch (8 MB in float32), and by how much pieces are
# larger on other devices than CPUs, which have more to do at a time.
_PIECE_NUMBERS, _DEVICE_FACTOR = 2_000_000, 16


def add_gradient(
    vae: VAE,
    batch: Batch,
    noise: Tensor,
    plan: TrainingPlan,
    order: Tensor | None = None,
    dropout: Dropout | None = None,
    readout: Readout | None = None,
) -> Tensor:
    """Add the gradient of the loss of a batch to that of the parameters.

    Parameters
    ----------
    vae : VAE
    batch : Batch of B rows
    noise : tensor of shape (B, E)
        Standard normal.
    plan : TrainingPlan
    order : int64 tensor of shape (n_variables,) or (n_orders, n_variables), default=None
        See `Turn`.
    dropout : Dropout, default=None
        Applied to the last hidden units of the decoder.
    readout : Readout, default=None
        Its loss, times `plan.readout`, adds to the gradient but not to the terms.

    Returns
    -------
    terms : tensor of shape (3,)
        Means of loss, reconstruction and KL.
    """
    means = torch.zeros(3, device=noise.device)
    is_plain = plan.rate_floor <= 0 and dropout is None and readout is None
    for piece, piece_noise, share in pieces(vae, batch, noise):
        factor, floor = plan.loss_factor, plan.rate_floor
        if is_plain and has_closed_form(vae, piece):
            means += share * add_closed_form(vae, piece, piece_noise, factor, share)
            continue
        rows = row_terms(vae, piece, piece_noise, order, dropout)
        loss, *terms = loss_of_terms(rows, piece.weight, factor, floor, plan.n_ranks)
        means += share * torch.stack([loss.detach(), *terms])
        if readout is not None:
            loss = loss + plan.readout * readout(rows.mu_logvar.chunk(2, dim=1)[0], piece)
        (loss if share == 1 else share * loss).backward()
    return means


@torch.no_grad()
def mean_terms(
    vae: VAE, batch: Batch, noise: Tensor, plan: TrainingPlan, order: Tensor | None = None
) -> Tensor:
    """Means of loss, reconstruction and KL over many rows, (3,), without a gradient."""
    means = torch.zeros(3, device=noise.device)
    for piece, piece_noise, share in pieces(vae, batch, noise):
        factor, floor = plan.loss_factor, plan.rate_floor
        terms = negative_bound(vae, piece, piece_noise, factor, floor, order, n_ranks=plan.n_ranks)
        means += share * torch.stack(terms)
    return means


def antithetic_noise(n_rows: int, dim: int, generator: Generator) -> Tensor:
    """Standard normal noise (n_rows, dim), of which the second half is the first one negated.

    Drawing normal numbers takes a twentieth of the time of a training step. The rows are in random
    order, so it does no harm that two of them share their noise.
    """
    half = (n_rows + 1) // 2
    noise = torch.empty(2 * half, dim, device=generator.device)
    torch.neg(noise[:half].normal_(generator=generator), out=noise[half:])
    return noise[:n_rows]


def pieces(
    vae: VAE, batch: Batch, noise: Tensor, max_numbers: int | None = None
) -> Iterator[tuple[Batch, Tensor, float]]:
    """Divide a batch so that the widest tensor of a piece has at most `max_numbers` numbers.

    None is two million on a CPU. A batch is a single piece unless heads are very wide: tensors of
    tens of megabytes fragment the heap, which took gigabytes with 10,000 categories.

    Yields
    ------
    piece : Batch
    noise : tensor
    share : float
        The share of the batch's rows in the piece.
    """
    if max_numbers is None:
        max_numbers = _PIECE_NUMBERS * (1 if noise.device.type == "cpu" else _DEVICE_FACTOR)
    # The aggregate posterior needs a square of as many numbers as there are pairs of rows.
    size = max(1, min(max_numbers // vae.numbers_per_row, math.isqrt(max_numbers)))
    if 0 < batch.n_rows <= size:
        yield batch, noise, 1.0
        return
    for rows in row_blocks(batch.n_rows, size):
        piece = batch.rows(rows)
        yield piece, noise[rows], piece.n_rows / batch.n_rows
