"""Tables and scores from a fitted encoder and a fitted network, in blocks of rows.

How the network draws a row is in `sktvae._model.drawing`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from sktvae._encoding.encoder import EncodedTable, TableEncoder
from sktvae._model.layout import Batch, row_blocks
from sktvae._model.vae import VAE

# Draws of z per row in `score_rows`, the same for every row.
_SCORE_DRAWS = 8
# Limits of a block of rows: its rows, and the numbers in its widest tensor (4 MB in float64).
_BLOCK_ROWS = 16_384
_BLOCK_NUMBERS = 500_000


def draw_table(
    encoder: TableEncoder,
    vae: VAE,
    n_rows: int,
    latent: Callable[[slice], Tensor],
    generator: Generator,
) -> Any:
    """Draw a row for each z.

    Parameters
    ----------
    encoder : TableEncoder
    vae : VAE
        It is copied to the device of the generator.
    n_rows : int
    latent : callable
        Returns the z of a block of rows, a tensor on the device of the generator.
    generator : torch.Generator

    Returns
    -------
    table : DataFrame, ndarray, ...
        With the container, columns and dtypes that `encoder` saw in `fit`.
    """
    vae = _on(vae, generator.device, torch.float32)
    # Blocks are kept as codes in small dtypes, and decoded one column at a time.
    blocks = [
        vae.draw(latent(rows), generator)
        for rows in _blocks(n_rows, vae.decoder.numbers_per_drawn_row)
    ]
    if not blocks:
        return encoder.decode([np.empty(0) for _ in encoder.heads_], 0)
    heads = [np.concatenate(parts) for parts in zip(*blocks, strict=True)]
    del blocks
    return encoder.decode(heads, n_rows)


def posterior_means(vae: VAE, encoded: EncodedTable, device: torch.device) -> np.ndarray:
    """Return the posterior mean of z of each row, of shape (n_samples, embedding_dim)."""
    return _by_blocks(vae, encoded, device, lambda vae, batch: vae.posterior_mean(batch))


def score_rows(vae: VAE, encoded: EncodedTable, device: torch.device) -> np.ndarray:
    """Return a lower bound of the log-likelihood of each row, of shape (n_samples,).

    Parameters
    ----------
    vae : VAE
    encoded : EncodedTable
        With its log-density.
    device : torch.device
    """
    noise = _score_noise(vae.embedding_dim)
    bound = _by_blocks(
        vae,
        encoded,
        device,
        lambda vae, batch: vae.log_prob_bound(batch, noise.to(batch.codes.device)),
    )
    return bound + encoded.log_density


def _blocks(n_rows: int, numbers_per_row: int) -> list[slice]:
    """Return blocks of rows within the limits."""
    return row_blocks(n_rows, max(1, min(_BLOCK_ROWS, _BLOCK_NUMBERS // numbers_per_row)))


def _score_noise(embedding_dim: int) -> Tensor:
    """Return standard normal noise of shape (8, embedding_dim), the same in every call.

    The noise is shared by all rows, so its error does not average out over rows. A scrambled Sobol
    sequence (Owen 1998) covers the normal distribution evenly: eight of its points give a mean
    score that varies less with the seed than that of sixteen independent draws (docs/model.md).
    """
    sobol = torch.quasirandom.SobolEngine(embedding_dim, scramble=True, seed=0)
    uniform = sobol.draw(_SCORE_DRAWS, dtype=torch.float64)
    return torch.special.ndtri(uniform.clamp(1e-9, 1 - 1e-9))


def _by_blocks(
    vae: VAE,
    encoded: EncodedTable,
    device: torch.device,
    function: Callable[[VAE, Batch], Tensor],
) -> np.ndarray:
    """Apply a function to blocks of rows in float64, so that rows do not affect each other."""
    device = torch.device("cpu") if device.type == "mps" else device  # it has no float64
    vae = _on(vae, device, torch.float64)
    results = []
    for rows in _blocks(encoded.n_samples, vae.numbers_per_row):
        batch = vae.layout.to_batch([head[rows] for head in encoded.heads]).to(device)
        results.append(function(vae, batch).cpu().numpy())
    return np.concatenate(results)


def _on(vae: VAE, device: torch.device, dtype: torch.dtype) -> VAE:
    """Return the network on a device; the fitted one stays where it is."""
    if device.type == "cpu" and dtype == torch.float32:
        return vae
    return copy.deepcopy(vae).to(device, dtype)
