"""The variational autoencoder of an encoded table: posterior, decoder and prior."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from sktvae._heads import Head
from sktvae._model.autoregressive import AutoregressiveDecoder
from sktvae._model.decoder import CACHED_ROWS
from sktvae._model.drawing import draw
from sktvae._model.independent import IndependentDecoder
from sktvae._model.layout import Batch, Layout, row_blocks
from sktvae._model.posterior import Posterior

# Numbers in the widest tensor of a block of rows while scoring (16 MB), and by how much blocks are
# larger on other devices than CPUs.
_BLOCK_NUMBERS, _DEVICE_FACTOR = 4_000_000, 64
SIGMA_RANGE = (0.01, 1.0)
DECODERS = {"autoregressive": AutoregressiveDecoder, "independent": IndependentDecoder}


class VAE(nn.Module):
    """Posterior, decoder and standard normal prior over the heads of an encoded table.

    It is pickled as plain numpy arrays. No global random state is read or changed.

    Parameters
    ----------
    heads : sequence of Head
    embedding_dim : int
    compress_dims, decompress_dims : sequence of int
    decoder : {"autoregressive", "independent"}
    seed : int, default=0
        For the initial weights.
    """

    def __init__(
        self,
        heads: Sequence[Head],
        embedding_dim: int,
        compress_dims: Sequence[int],
        decompress_dims: Sequence[int],
        decoder: str,
        seed: int = 0,
    ):
        super().__init__()
        self.config = {
            "heads": tuple(heads),
            "embedding_dim": embedding_dim,
            "compress_dims": tuple(compress_dims),
            "decompress_dims": tuple(decompress_dims),
            "decoder": decoder,
        }
        self.layout = Layout(heads)
        self.embedding_dim = embedding_dim
        generator = torch.Generator().manual_seed(seed)
        self.posterior = Posterior(self.layout, compress_dims, embedding_dim, generator)
        self.decoder = DECODERS[decoder](self.layout, embedding_dim, decompress_dims, generator)

    @property
    def numbers_per_row(self) -> int:
        """Numbers per row in the widest tensor of the forward pass."""
        return max(self.layout.data_dim, self.decoder.numbers_per_row)

    @torch.no_grad()
    def project_(self) -> None:
        """Clamp the learned standard deviations to their range, after a step of the optimiser."""
        self.decoder.sigma.clamp_(*SIGMA_RANGE)

    @torch.no_grad()
    def posterior_mean(self, batch: Batch) -> Tensor:
        """E[z | x] of each row, (B, E)."""
        return self.posterior.moments(batch)[0]

    @torch.no_grad()
    def log_prob_bound(self, batch: Batch, noise: Tensor) -> Tensor:
        """Importance-weighted lower bound of log p(x), for each row.

        The logarithm of the mean over draws s of ``p(x | z_s) p(z_s) / q(z_s | x)`` (Burda,
        Grosse, Salakhutdinov 2016, equation 8). All rows use the same noise.

        Parameters
        ----------
        batch : Batch of B rows
        noise : tensor of shape (S, E)
            Standard normal.

        Returns
        -------
        log_prob : tensor of shape (B,)
        """
        layers = self.decoder.drawing_layers()
        factor = 1 if noise.device.type == "cpu" else _DEVICE_FACTOR
        numbers = factor * _BLOCK_NUMBERS // self.decoder.numbers_per_drawn_row
        size = max(1, min(factor * CACHED_ROWS, numbers) // len(noise))
        n_blocks = max(1, -(-batch.n_rows // size))
        size = max(1, -(-batch.n_rows // n_blocks))  # so that the last block is not much smaller
        blocks = [batch.rows(rows) for rows in row_blocks(batch.n_rows, size)]
        bounds = [self._log_prob_bound(block, noise[:, None], layers) for block in blocks]
        return torch.cat(bounds) if bounds else noise.new_empty(0)

    def _log_prob_bound(self, batch: Batch, noise: Tensor, layers: Any) -> Tensor:
        mu, std, logvar = self.posterior.moments(batch)
        z = mu + std * noise  # (S, B, E)
        log_ratio = 0.5 * (noise.square() - z.square() + logvar).sum(2)  # log p(z) - log q(z | x)
        log_weight = self.decoder.log_prob_draws(z, batch, layers) + log_ratio
        return torch.logsumexp(log_weight, dim=0) - math.log(len(noise))

    def draw(self, z: Tensor, generator: Generator) -> list[np.ndarray]:
        """Draw a row for each z: (B, E) -> n_heads arrays of shape (B,).

        See `Layout.to_columns` for their dtypes.
        """
        return self.layout.to_columns(draw(self.decoder, z, generator), generator)

    def __getstate__(self) -> dict:
        weights = {name: w.detach().cpu().numpy().copy() for name, w in self.state_dict().items()}
        return {"config": self.config, "weights": weights}

    def __setstate__(self, state: dict) -> None:
        self.__init__(**state["config"])
        self.load_state_dict({k: torch.from_numpy(w.copy()) for k, w in state["weights"].items()})
