"""From a table to rows that need no more protection: the private part of a fit.

The encoder learns from noisy histograms; a small autoregressive decoder learns the joint
distribution of the codes by private training; rows are drawn from it. What is computed from these
rows, such as the networks of a synthesizer, is post-processing.
"""

from __future__ import annotations

import math
import secrets
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from sktvae._encoding.codec import Codec
from sktvae._encoding.encoder import TableEncoder
from sktvae._encoding.mode import ModeCodec
from sktvae._model.autoregressive import AutoregressiveDecoder
from sktvae._model.drawing import calibration_shift, draw
from sktvae._model.layout import Batch, row_blocks
from sktvae._model.vae import VAE
from sktvae._privacy.accounting import Spending
from sktvae._privacy.budget import Budget
from sktvae._privacy.mechanisms import noisy_integers
from sktvae._privacy.settings import DifferentialPrivacy
from sktvae._privacy.summaries import PrivateSummaries
from sktvae._table.column import Column
from sktvae._table.containers import as_frame
from sktvae._training.private import PrivatePlan, train_privately

# Length of the states, and hidden units of each head: each weight gets noise.
_DIMS = (64, 32)
# Of the initial weights, relative to those of a network that is trained without noise.
_EMBEDDING_SCALE, _STATE_SCALE = 0.3, 0.4
_LEAST_FREQUENCY = 1e-6
_FEWEST_DRAWN, _MOST_DRAWN = 20_000, 100_000
_CALIBRATION_ROWS = 20_000
_LEARNING_RATE, _N_STEPS = 6e-3, 600
# The step of the grid of exact noise, relative to the length of a clipped gradient.
_GRID = 2.0**-20


class PrivateRows(NamedTuple):
    """What a private fit leaves.

    Attributes
    ----------
    encoder : TableEncoder
        Fitted with differential privacy.
    rows : Batch
        Rows that were drawn, in the codes of the encoder.
    epsilon, delta : float
        The privacy loss of the encoder and the rows together.
    ledger : list of dict
        One entry per mechanism, see `Ledger.records`.
    """

    encoder: TableEncoder
    rows: Batch
    epsilon: float
    delta: float
    ledger: list[dict]


def private_rows(
    X: Any,
    encoder: TableEncoder,
    settings: DifferentialPrivacy,
    device: torch.device,
    verbose: bool = False,
) -> PrivateRows:
    """Learn a table with differential privacy, and draw rows.

    Parameters
    ----------
    X : DataFrame or array-like of shape (n_samples, n_features)
    encoder : TableEncoder
        It is fitted here.
    settings : DifferentialPrivacy
    device : torch.device
        For training.
    verbose : bool, default=False
        Whether to show a progress bar.

    Returns
    -------
    learned : PrivateRows

    Raises
    ------
    ValueError
        If a column cannot be learned privately, or the budget is too small for anything.
    """
    settings.check()
    columns = encoder.columns_to_learn(X)
    _check_codecs(columns)
    plan = PrivateSummaries.plan(columns, settings)
    budget = Budget(settings, len(as_frame(X)[0]))
    n_unknown = sum(histogram.has_unknown_keys for histogram in plan)
    sigma, delta = budget.for_histograms(len(plan), n_unknown)
    summaries = PrivateSummaries(settings, sigma, delta, budget.n_rows)
    encoded = encoder.fit_encode(X, private=summaries)
    budget.ledger.entries += [
        Spending(f"{r.column}: {r.what}", "discrete Gaussian", r.sigma, delta=r.delta)
        for r in summaries.releases
    ]
    frequency = summaries.frequencies(encoder)
    network = _new_network(encoder, frequency)
    rows = network.layout.to_batch(encoded.heads)
    _train(network, rows, budget, settings, device, verbose)
    generator = _secret_generator(torch.device("cpu"))
    z = torch.zeros(_CALIBRATION_ROWS, 0)
    network.decoder.shift_biases_(calibration_shift(network.decoder, z, frequency, generator))
    drawn = _drawn(network, min(max(2 * budget.n_rows, _FEWEST_DRAWN), _MOST_DRAWN), generator)
    return PrivateRows(
        encoder, drawn, budget.spent, budget.delta, budget.ledger.records(budget.delta)
    )


def _check_codecs(columns: list[tuple[Column, Codec]]) -> None:
    for column, codec in columns:
        if isinstance(codec, ModeCodec):
            raise ValueError(
                f"Column {column.name!r} has a ModeCodec, whose values the network of a private "
                "fit does not learn. Use a QuantileCodec: numerical='quantile'."
            )


@torch.no_grad()
def _new_network(encoder: TableEncoder, frequency: Tensor) -> VAE:
    """A network that begins with the frequencies of the codes.

    The gradient of a layer is as long as what goes into it. Smaller embeddings and states leave a
    larger share of the gradient, and so of what noise does not hide, to the other layers.
    """
    network = VAE(encoder.heads_, 0, (), _DIMS, "autoregressive", secrets.randbits(32))
    decoder = network.decoder
    assert isinstance(decoder, AutoregressiveDecoder)
    decoder.embedding.mul_(_EMBEDDING_SCALE)
    decoder.norm.weight.mul_(_STATE_SCALE)
    decoder.shift_biases_(torch.log(frequency.clamp(min=_LEAST_FREQUENCY)))
    return network


def _train(
    network: VAE,
    rows: Batch,
    budget: Budget,
    settings: DifferentialPrivacy,
    device: torch.device,
    verbose: bool,
) -> None:
    """Fit the network in place with what is left of the budget."""
    batch_size, n_steps = settings.batch_size, settings.n_steps
    batch_size = default_batch_size(budget.n_rows) if batch_size == "auto" else batch_size
    n_steps = _N_STEPS if n_steps == "auto" else n_steps
    learning_rate, norm = settings.learning_rate, settings.max_grad_norm
    sampling_rate = min(int(batch_size) / budget.n_rows, 1.0)
    plan = PrivatePlan(
        n_steps=int(n_steps),
        sampling_rate=sampling_rate,
        batch_size=sampling_rate * budget.n_rows,
        max_grad_norm=None if norm == "auto" else float(norm),
        noise_multiplier=budget.for_training(sampling_rate, int(n_steps)),
        learning_rate=_LEARNING_RATE if learning_rate == "auto" else float(learning_rate),
    )
    generator = _secret_generator(device)
    mechanism = _exact_noise
    if not settings.secure_noise:
        mechanism = lambda total, deviation: total + (deviation * _normal(len(total))).to(total)
    train_privately(
        network.to(device),
        rows.to(device),
        plan,
        generator=generator,
        mechanism=mechanism,
        uniform=_uniform,
        verbose=verbose,
    )
    network.to("cpu")


def default_batch_size(n_rows: int) -> int:
    """A 16th of the rows, but at most 8,192: noise matters less in large batches."""
    return min(max(n_rows // 16, 1), 8192)


def _exact_noise(total: Tensor, deviation: float) -> Tensor:
    """Add noise that is drawn exactly, on the integers, by OpenDP.

    The gradient of a row has a length of at most one. It may also change the rounding of each
    entry by one step of the grid.
    """
    deviation *= 1 + _GRID * math.sqrt(len(total))
    on_grid = torch.round(total.double() / _GRID).long().cpu().numpy()
    return torch.from_numpy(noisy_integers(on_grid, deviation / _GRID) * _GRID).to(total)


def _uniform(n: int) -> Tensor:
    """Numbers in [0, 1), in float64, from the operating system.

    Torch's generator on the CPU has no more than 2**32 seeds, which can be tried one by one.
    """
    bits = np.frombuffer(secrets.token_bytes(8 * n), dtype=np.uint64)
    return torch.from_numpy((bits >> np.uint64(11)) * 2.0**-53)


def _normal(n: int) -> Tensor:
    """Standard normal numbers, in float64, from the operating system (Box, Muller 1958)."""
    half = (n + 1) // 2
    length = torch.sqrt(-2 * torch.log1p(-_uniform(half)))
    angle = 2 * math.pi * _uniform(half)
    return torch.cat([length * torch.cos(angle), length * torch.sin(angle)])[:n]


def _secret_generator(device: torch.device) -> Generator:
    """A generator with a random seed, for what has no need of protection any more."""
    return Generator(device).manual_seed(secrets.randbits(63))


def _drawn(network: VAE, n_rows: int, generator: Generator) -> Batch:
    """Rows drawn from the network, in blocks."""
    parts = [
        draw(network.decoder, torch.zeros(block.stop - block.start, 0), generator)
        for block in row_blocks(n_rows, 20_000)
    ]
    codes = torch.cat([part.codes for part in parts])
    values = torch.cat([part.values for part in parts])
    return Batch(codes.to(network.layout.code_dtype), values)
