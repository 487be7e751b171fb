"""Fitting the biases of a trained decoder to the frequencies of the categories."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from sktvae._model.drawing import calibration_shift
from sktvae._model.layout import Batch
from sktvae._model.vae import VAE
from sktvae._training.step import antithetic_noise


def calibrate_(
    vae: VAE,
    batches: Sequence[Batch],
    generator: Generator,
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
    batches : sequence of Batch
        All rows. Held-out rows count too: a category that only they have must not vanish.
    generator : torch.Generator
        On the device of the rows.
    max_rows : int, default=32_768
        Rows drawn.
    max_numbers : int, default=8_000_000
        Bound on the numbers in the widest tensor, which lowers the number of rows drawn.
    """
    if not vae.layout.n_codes:
        return
    n_rows = min(max_rows, max(200, max_numbers // vae.decoder.numbers_per_drawn_row))
    z = antithetic_noise(n_rows, vae.embedding_dim, generator)
    frequency = frequencies(batches, vae.layout.n_codes)
    vae.decoder.shift_biases_(calibration_shift(vae.decoder, z, frequency, generator))


def frequencies(batches: Sequence[Batch], n_codes: int) -> Tensor:
    """Relative, weighted frequency of each category in its head, (K,)."""
    device = batches[0].codes.device
    counts = torch.zeros(n_codes, device=device, dtype=torch.double)
    total = torch.zeros((), device=device, dtype=torch.double)
    for codes, _, weight in batches:
        weight = torch.ones(len(codes), device=device) if weight is None else weight
        repeated = weight.double().repeat_interleave(codes.shape[1])
        counts += torch.bincount(codes.flatten(), repeated, minlength=n_codes)
        total += weight.double().sum()
    return (counts / total).float()
