"""The independent decoder p(x | z) of Xu et al. (2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from sktvae._model.decoder import Decoder, Walk
from sktvae._model.layers import Dropout, hidden_layers, linear
from sktvae._model.layout import Batch, Layout
from sktvae._model.likelihoods import PackedCategorical, gaussian_log_prob


class IndependentDecoder(Decoder):
    """p(x | z) in which all heads are independent given z.

    Parameters
    ----------
    layout : Layout
    embedding_dim : int
    decompress_dims : sequence of int
        Hidden layers, each linear with ReLU, before a last linear layer.
    generator : torch.Generator
        For the initial weights.
    """

    def __init__(
        self,
        layout: Layout,
        embedding_dim: int,
        decompress_dims: Sequence[int],
        generator: Generator,
    ):
        super().__init__()
        self.layout = layout
        self.hidden, n_hidden = hidden_layers(embedding_dim, decompress_dims, generator)
        self.output = linear(n_hidden, layout.data_dim, generator)
        self.sigma = nn.Parameter(torch.full((len(layout.gaussian),), 0.1))
        self.categories = PackedCategorical(layout.sizes)

    def forward(self, z: Tensor, dropout: Dropout | None = None) -> tuple[Tensor, Tensor]:
        """Logits of all categories and means of the Gaussian heads: (B, E) -> (B, K), (B, G)."""
        hidden = self.hidden(z)
        out = self.output(hidden if dropout is None else dropout(hidden))
        if not self.layout.gaussian:
            return out, out[:, self.layout.n_codes :]
        logits, mean = out.split([self.layout.n_codes, len(self.layout.gaussian)], dim=1)
        return logits, torch.tanh(mean)

    def log_prob(
        self,
        z: Tensor,
        batch: Batch,
        order: Tensor | None = None,
        dropout: Dropout | None = None,
    ) -> Tensor:
        logits, mean = self(z, dropout)
        log_prob = self.categories(logits, batch.codes.long())
        if not self.layout.gaussian:
            return log_prob
        return log_prob + gaussian_log_prob(batch.values.to(z.dtype), mean, self.sigma).sum(1)

    def walk(self, z: Tensor, order: Tensor | None = None, *, layers: Any = None) -> Walk:
        return _IndependentWalk(self, z)

    @property
    def numbers_per_row(self) -> int:
        return self.layout.data_dim

    @property
    def numbers_per_drawn_row(self) -> int:
        return self.layout.data_dim

    @torch.no_grad()
    def shift_biases_(self, shift: Tensor) -> None:
        self.output.bias[: len(shift)] += shift


class _IndependentWalk(Walk):
    """What has been taken changes nothing: the outputs of all heads are computed at once."""

    def __init__(self, decoder: IndependentDecoder, z: Tensor):
        heads = [j for variable in decoder.layout.variables for j in variable]
        super().__init__(decoder.layout, heads, z)
        self._logits, self._mean = decoder(z)

    def output(self, j: int) -> Tensor:
        if self.layout.is_categorical(j):
            return self._logits[:, self.layout.span(j)]
        return self._mean[:, self.layout.slot[j]]
