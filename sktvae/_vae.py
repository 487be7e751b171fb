"""The variational autoencoder: encoder, evidence lower bound, drawing.

Notation in the shape comments: B rows of a batch, C categorical heads, G Gaussian heads, K the
categories of all heads together, E the size of the latent.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from sktvae._autoregressive import AutoregressiveDecoder
from sktvae._decoders import IndependentDecoder, hidden_layers
from sktvae._layout import Layout

SIGMA_RANGE = (0.01, 1.0)
DECODERS = {"autoregressive": AutoregressiveDecoder, "independent": IndependentDecoder}


class InputLayer(nn.Module):
    """A linear layer on (one-hot codes, values), which never holds wide one-hot rows.

    One-hot times a matrix is the sum of the matrix rows that the codes name. Up to
    `widest_one_hot` categories in all, dense one-hot rows are faster, forward and back.
    """

    def __init__(self, layout, width, widest_one_hot=1024):
        super().__init__()
        self.one_hot = layout.n_codes <= widest_one_hot
        self.n_codes = layout.n_codes
        bound = 1 / math.sqrt(layout.data_dim)  # as nn.Linear(data_dim, width)
        self.weight = nn.Parameter(torch.empty(layout.data_dim, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(width).uniform_(-bound, bound))

    def forward(self, batch):
        values = torch.nan_to_num(batch.values.to(self.weight.dtype))
        if self.one_hot:
            dense = self.weight.new_zeros(len(batch.codes), len(self.weight))
            dense.scatter_(1, batch.codes, 1.0)[:, self.n_codes :] = values
            return torch.addmm(self.bias, dense, self.weight)
        embedded = F.embedding_bag(batch.codes, self.weight[: self.n_codes], mode="sum")
        return embedded + torch.addmm(self.bias, values, self.weight[self.n_codes :])


class Encoder(nn.Module):
    """The posterior q(z | x): a diagonal Gaussian.

    Parameters
    ----------
    layout : Layout
    compress_dims : sequence of int
        Hidden layers, at least one, each linear with ReLU.
    embedding_dim : int
        Size of z.
    """

    def __init__(self, layout, compress_dims, embedding_dim):
        super().__init__()
        first, *rest = compress_dims
        self.input = InputLayer(layout, first)
        self.hidden, width = hidden_layers(first, rest)
        self.posterior = nn.Linear(width, 2 * embedding_dim)  # mu and logvar in one product

    def forward(self, batch):
        """The posterior of each row.

        Returns
        -------
        mu, std, logvar : tensors of shape (B, E)
        """
        mu, logvar = self.parameters_of(batch).chunk(2, dim=1)
        return mu, torch.exp(logvar / 2), logvar

    def parameters_of(self, batch):
        """mu and logvar side by side, (B, 2 E)."""
        return self.posterior(self.hidden(F.relu(self.input(batch), inplace=True)))


class Reparameterised(torch.autograd.Function):
    """A draw from the posterior and its divergence from the prior, gradients in closed form.

    ``forward(parameters (B, 2 E), noise (B, E)) -> z (B, E), kl (B,)``, where the parameters are
    mu and logvar side by side::

        z = mu + exp(logvar / 2) * noise
        kl = sum (mu^2 + exp(logvar) - 1 - logvar) / 2
    """

    @staticmethod
    def forward(ctx, parameters, noise):
        mu, logvar = parameters.chunk(2, dim=1)
        std = torch.exp(logvar / 2)
        kl = torch.addcmul(mu.square() - logvar, std, std).sum(1).sub_(mu.shape[1]).mul_(0.5)
        ctx.save_for_backward(mu, std, noise)
        return torch.addcmul(mu, std, noise), kl

    @staticmethod
    def backward(ctx, grad_z, grad_kl):
        mu, std, noise = ctx.saved_tensors
        grad_kl, half = grad_kl[:, None], 0.5 * std
        grad = mu.new_empty(len(mu), 2 * mu.shape[1])
        torch.addcmul(grad_z, grad_kl, mu, out=grad[:, : mu.shape[1]])
        inner = (grad_z * noise).addcmul_(grad_kl, std).mul_(half)
        torch.sub(inner, 0.5 * grad_kl, out=grad[:, mu.shape[1] :])
        return grad, None


class VAE(nn.Module):
    """Encoder, decoder and standard normal prior over the heads of an encoded table.

    It is pickled as plain arrays, on the CPU.

    Parameters
    ----------
    heads : sequence of Head
    embedding_dim : int
    compress_dims, decompress_dims : sequence of int
    decoder : {"autoregressive", "independent"}
    seed : int
        For the initial weights.
    """

    def __init__(self, heads, embedding_dim, compress_dims, decompress_dims, decoder, seed=0):
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
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(seed)
            self.encoder = Encoder(self.layout, compress_dims, embedding_dim)
            self.decoder = DECODERS[decoder](self.layout, embedding_dim, decompress_dims)

    def forward(self, batch, noise, order=None):
        """Both terms of the evidence lower bound, one draw of z a row.

        Parameters
        ----------
        batch : Batch of B rows
        noise : tensor of shape (B, E)
            Standard normal.
        order : int tensor of shape (n_variables,), default=None
            In which the decoder goes through the variables; None is the order of the table.

        Returns
        -------
        reconstruction : tensor of shape (B,)
            -log p(x | z), z = mu + std * noise.
        kl : tensor of shape (B,)
            KL(q(z | x) || N(0, I)). The bound is -(reconstruction + kl).
        """
        z, kl = Reparameterised.apply(self.encoder.parameters_of(batch), noise)
        return -self.decoder.log_prob(z, batch, order), kl

    @torch.no_grad()
    def project_(self):
        """Put the learned sigmas back into their range, after a step of the optimiser."""
        self.decoder.sigma.clamp_(*SIGMA_RANGE)

    @torch.no_grad()
    def posterior_mean(self, batch):
        """E[z | x] of each row, (B, E)."""
        return self.encoder(batch)[0]

    @property
    def width(self):
        """Numbers a row in the widest tensor of the forward pass."""
        return max(self.layout.data_dim, self.decoder.width)

    @torch.no_grad()
    def log_prob_bound(self, batch, noise):
        """Importance-weighted lower bound of log p(x), row by row.

        log of the mean over draws s of ``p(x | z_s) p(z_s) / q(z_s | x)`` (Burda, Grosse,
        Salakhutdinov 2016, equation 8); the same draws for every row.

        Parameters
        ----------
        batch : Batch of B rows
        noise : tensor of shape (S, E)

        Returns
        -------
        log_prob : tensor of shape (B,)
        """
        mu, std, logvar = self.encoder(batch)
        weights = []
        for eps in noise:
            z = mu + std * eps
            log_ratio = 0.5 * (eps.square() - z.square() + logvar).sum(1)  # log p(z) - log q(z|x)
            weights.append(self.decoder.log_prob(z, batch) + log_ratio)
        return torch.logsumexp(torch.stack(weights), dim=0) - math.log(len(noise))

    @torch.no_grad()
    def draw(self, z, generator):
        """An encoded table of a row for each z, an array of shape (B, n_heads)."""
        return self.layout.to_encoded(self.decoder.draw(z, generator), generator)

    def __getstate__(self):
        weights = {name: w.detach().cpu().numpy().copy() for name, w in self.state_dict().items()}
        return {"config": self.config, "weights": weights}

    def __setstate__(self, state):
        self.__init__(**state["config"])
        self.load_state_dict({k: torch.from_numpy(w.copy()) for k, w in state["weights"].items()})


def aggregate_divergence(z, parameters):
    """KL(q(z) || N(0, I)) of the aggregate posterior, estimated from a batch.

    The aggregate posterior, the mean of ``q(z | x)`` over the rows, is estimated by its mean over
    the batch (Hoffman, Johnson 2016; Chen et al. 2018, appendix C).

    Parameters
    ----------
    z : tensor of shape (B, E)
        A draw from each posterior.
    parameters : tensor of shape (B, 2 E)
        mu and logvar of each posterior.

    Returns
    -------
    divergence : tensor of shape ()
    """
    mu, logvar = parameters.chunk(2, dim=1)
    precision = torch.exp(-logvar)
    # -2 log q(z_i | x_j) without constants, (B, B)
    distance = z.square() @ precision.t() - 2 * z @ (mu * precision).t()
    distance = distance + (mu.square() * precision + logvar).sum(1)
    log_aggregate = torch.logsumexp(-0.5 * distance, dim=1) - math.log(len(z))
    return (log_aggregate + 0.5 * z.square().sum(1)).mean()


def negative_bound(vae, batch, noise, loss_factor=1.0, rate_floor=0.0, order=None):
    """The loss: ``loss_factor * reconstruction + KL``, means over the rows of a batch.

    With ``loss_factor=1`` it is the negative evidence lower bound in nats a row. With a
    `rate_floor` the first so many nats that z holds of the row cost nothing. The mean KL is the
    information that z holds of its row plus the divergence of the aggregate posterior from the
    prior; only the first is free, so that draws from the prior stay what the decoder has met::

        KL -> max(KL - aggregate, rate_floor) + aggregate

    Parameters
    ----------
    vae : VAE
    batch : Batch of B rows
    noise : tensor of shape (B, E)
    loss_factor : float, default=1.0
    rate_floor : float, default=0.0
        In nats. The information is estimated from the batch and is never more than the logarithm
        of its rows; half of that, less one, is the highest floor.
    order : int tensor of shape (n_variables,), default=None

    Returns
    -------
    loss, reconstruction, kl : tensors of shape ()
    """
    parameters = vae.encoder.parameters_of(batch)
    z, kl = Reparameterised.apply(parameters, noise)
    reconstruction, kl = -vae.decoder.log_prob(z, batch, order).mean(), kl.mean()
    rate = kl
    if rate_floor > 0:
        aggregate = aggregate_divergence(z, parameters)
        floor = min(rate_floor, max(math.log(len(z)) / 2 - 1, 0))
        rate = torch.clamp(kl - aggregate, min=floor) + aggregate
    loss = torch.add(rate, reconstruction, alpha=loss_factor)
    return loss, reconstruction.detach(), kl.detach()
