"""Differentially private training: clipped gradients of rows, summed with noise.

Nothing that depends on the rows leaves this file but the weights: no loss is recorded, no row is
held out, and the number of steps is fixed beforehand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from sktvae._model.autoregressive import AutoregressiveDecoder
from sktvae._model.drawing import draw
from sktvae._model.layout import Batch, row_blocks
from sktvae._model.row_norms import log_prob_and_norms
from sktvae._model.vae import VAE
from sktvae._training.optimizer import Adam, FlatWeights

if TYPE_CHECKING:
    from tqdm import tqdm

# The typical length of a gradient is measured anew after so many steps, on so many rows.
_STEPS_PER_NORM, _ROWS_PER_NORM = 20, 500
_NORM_QUANTILE = 0.9
_LEAST_NORM = 1e-3  # where nothing can be learned, gradients are zero

# Takes a number, and returns as many numbers of the uniform distribution on [0, 1), in float64.
Uniform = Callable[[int], Tensor]
# Takes a vector and a standard deviation, and returns the vector with normal noise on each entry.
Mechanism = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True)
class PrivatePlan:
    """How a network is fitted with differential privacy.

    Attributes
    ----------
    n_steps : int
    sampling_rate : float
        The probability with which each row takes part in a step.
    batch_size : float
        The expected number of rows in a step, by which the sum of the gradients is divided.
    max_grad_norm : float or None
        The length that the gradient of a row is clipped to; None for a length that
        nine of ten rows stay below that the network itself draws. It is measured every so many
        steps and follows from the weights, and so tells nothing more about the table.
    noise_multiplier : float
        Standard deviation of the noise that is added to each entry of the sum of the gradients,
        relative to `max_grad_norm`.
    learning_rate : float
        Learning rate of Adam.
    """

    n_steps: int
    sampling_rate: float
    batch_size: float
    max_grad_norm: float | None
    noise_multiplier: float
    learning_rate: float


def train_privately(
    vae: VAE,
    rows: Batch,
    plan: PrivatePlan,
    *,
    generator: Generator,
    mechanism: Mechanism,
    uniform: Uniform | None = None,
    verbose: bool = False,
) -> None:
    """Fit the decoder of `vae` in place, with the running average of the weights in the end.

    Differentially private stochastic gradient descent (Abadi et al. 2016, algorithm 1), of which
    Adam and the average are post-processing. Each row takes part in a step independently of the
    others, with the same probability (Poisson sampling), as the accounting assumes.

    Parameters
    ----------
    vae : VAE
        With an autoregressive decoder and without z.
    rows : Batch
        All rows, on the device of the network.
    plan : PrivatePlan
    generator : torch.Generator
        On the device of the rows; rows are drawn from the network with it, to measure gradients.
    mechanism : callable
        Takes the sum of the clipped gradients of a step, divided by the length that they are
        clipped to, and the noise multiplier, and returns the sum with noise.
    uniform : callable, default=None
        It chooses the rows of each step, which must stay secret; None uses `generator`.
    verbose : bool, default=False
        Whether to show a progress bar.
    """
    weights = FlatWeights(vae, average=True)
    optimizer = Adam(weights.vector, plan.learning_rate)
    gradient = weights.vector.grad
    assert gradient is not None
    uniform = _uniform_of(generator) if uniform is None else uniform
    for step in _steps(plan.n_steps, verbose):
        if step % _STEPS_PER_NORM == 0:
            norm = plan.max_grad_norm or _typical_norm(vae, generator)
        weights.zero_gradient_()
        _add_clipped_gradients(vae, _chosen(rows, plan.sampling_rate, uniform), norm)
        gradient.copy_(mechanism(gradient / norm, plan.noise_multiplier))
        gradient.mul_(norm / plan.batch_size)
        optimizer.step()
        weights.average_()
    weights.restore_(weights.snapshot())
    vae.zero_grad(set_to_none=True)


def _chosen(rows: Batch, sampling_rate: float, uniform: Uniform) -> Batch:
    """Each row with the same probability, independently of the others."""
    chosen = torch.nonzero(uniform(rows.n_rows) < sampling_rate)[:, 0]
    return rows.take(chosen.to(rows.codes.device))


def _uniform_of(generator: Generator) -> Uniform:
    return lambda n: torch.rand(
        n, generator=generator, device=generator.device, dtype=torch.float64
    )


def _add_clipped_gradients(
    vae: VAE, batch: Batch, max_norm: float, max_numbers: int = 2_000_000
) -> None:
    """Add to the gradient that of the negative log-likelihood of each row, clipped, in blocks."""
    assert isinstance(vae.decoder, AutoregressiveDecoder)
    size = max(1, max_numbers // vae.numbers_per_row)
    for block in row_blocks(batch.n_rows, size):
        part = batch.rows(block)
        log_prob, norms = log_prob_and_norms(vae.decoder, part)
        usable = torch.isfinite(log_prob.detach() + norms)
        if not usable.all():  # one row must not make the sum infinite, and so be seen
            part = part.take(torch.nonzero(usable)[:, 0])
            log_prob, norms = log_prob_and_norms(vae.decoder, part)
        share = torch.clamp(max_norm / norms, max=1.0)
        (-(share * log_prob).sum()).backward()


def _typical_norm(vae: VAE, generator: Generator) -> float:
    """What nine of ten gradients stay below, of rows that are drawn from the network.

    If clipping shortened the gradients of most rows, those of rows that the network finds unlikely
    would lose most, and what is likely already would become too likely.
    """
    assert isinstance(vae.decoder, AutoregressiveDecoder)
    z = torch.zeros(_ROWS_PER_NORM, 0, device=generator.device)
    _, norms = log_prob_and_norms(vae.decoder, draw(vae.decoder, z, generator))
    return max(float(norms.quantile(_NORM_QUANTILE)), _LEAST_NORM)


def _steps(n_steps: int, verbose: bool) -> tqdm:
    from tqdm.auto import tqdm

    return tqdm(range(n_steps), disable=not verbose, unit="step", desc="private")
