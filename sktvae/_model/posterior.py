"""The posterior q(z | x), and draws from it that can be differentiated."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from sktvae._model.layers import InputLayer, hidden_layers, linear
from sktvae._model.layout import Batch, Layout


class Posterior(nn.Module):
    """q(z | x): a diagonal Gaussian whose mean and variance a network computes from the row.

    Parameters
    ----------
    layout : Layout
    compress_dims : sequence of int
        Hidden layers, at least one, each linear with ReLU.
    embedding_dim : int
        Size of z. With 0 there is nothing to compute, and no layer.
    generator : torch.Generator
        For the initial weights.
    """

    def __init__(
        self,
        layout: Layout,
        compress_dims: Sequence[int],
        embedding_dim: int,
        generator: Generator,
    ):
        super().__init__()
        if not embedding_dim:
            self.output = None
            return
        first, *rest = compress_dims
        self.input = InputLayer(layout, first, generator)
        self.hidden, n_hidden = hidden_layers(first, rest, generator)
        self.output = linear(n_hidden, 2 * embedding_dim, generator)

    def forward(self, batch: Batch) -> Tensor:
        """Mean and log-variance of z side by side, (B, 2 E)."""
        if self.output is None:
            return batch.values.new_empty(batch.n_rows, 0)
        return self.output(self.hidden(F.relu(self.input(batch), inplace=True)))

    def moments(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, standard deviation and log-variance of z, each (B, E)."""
        mu, logvar = self(batch).chunk(2, dim=1)
        return mu, torch.exp(logvar / 2), logvar


class Reparameterised(torch.autograd.Function):
    """A draw from the posterior and its divergence from the prior, gradients in closed form.

    ``forward(mu_logvar (B, 2 E), noise (B, E)) -> z (B, E), kl (B,)``::

        z = mu + exp(logvar / 2) * noise
        kl = sum (mu^2 + exp(logvar) - 1 - logvar) / 2
    """

    @staticmethod
    def forward(ctx, mu_logvar: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        mu, logvar = mu_logvar.chunk(2, dim=1)
        std = torch.exp(logvar / 2)
        kl = torch.addcmul(mu.square() - logvar, std, std).sum(1).sub_(mu.shape[1]).mul_(0.5)
        ctx.save_for_backward(mu, std, noise)
        return torch.addcmul(mu, std, noise), kl

    @staticmethod
    def backward(ctx, grad_z: Tensor, grad_kl: Tensor) -> tuple[Tensor, None]:
        mu, std, noise = ctx.saved_tensors
        grad_kl, half = grad_kl[:, None], 0.5 * std
        grad = mu.new_empty(len(mu), 2 * mu.shape[1])
        torch.addcmul(grad_z, grad_kl, mu, out=grad[:, : mu.shape[1]])
        inner = (grad_z * noise).addcmul_(grad_kl, std).mul_(half)
        torch.sub(inner, 0.5 * grad_kl, out=grad[:, mu.shape[1] :])
        return grad, None
