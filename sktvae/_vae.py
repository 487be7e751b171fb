"""The torch core: encoder, decoders, the evidence lower bound, and drawing from the heads.

Notation in the shape comments: B rows of a batch, C categorical heads, G Gaussian heads, K the
categories of all heads together, E the size of the latent.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sktvae._heads import Categorical, Gaussian, Uniform

SIGMA_RANGE = (0.01, 1.0)


class Batch(NamedTuple):
    """Rows of the encoded table as tensors.

    Attributes
    ----------
    codes : int64 tensor of shape (B, C)
        Where each category stands in the one-hot row of all categorical heads together.
    values : float tensor of shape (B, G)
        NaN where a Gaussian head does not apply.
    """

    codes: Tensor
    values: Tensor

    def rows(self, part):
        """A view of a slice of the rows."""
        return Batch(self.codes[part], self.values[part])

    def take(self, rows):
        """A copy of the rows that an index tensor names."""
        return Batch(self.codes.index_select(0, rows), self.values.index_select(0, rows))

    def to(self, *args):
        return Batch(self.codes.to(*args), self.values.to(*args))


class Layout:
    """Where each head stands, in the encoded table and in the network's one-hot rows."""

    def __init__(self, heads):
        self.heads = tuple(heads)
        self.n_heads = len(self.heads)
        kinds = [type(head) for head in self.heads]
        self.categorical = [j for j, kind in enumerate(kinds) if kind is Categorical]
        self.gaussian = [j for j, kind in enumerate(kinds) if kind is Gaussian]
        self.uniform = [j for j, kind in enumerate(kinds) if kind is Uniform]
        self.sizes = [self.heads[j].n_categories for j in self.categorical]
        self.n_codes = sum(self.sizes)
        self.first = np.cumsum([0, *self.sizes])[:-1]
        self.data_dim = self.n_codes + len(self.gaussian)
        self.head_of = torch.arange(len(self.sizes)).repeat_interleave(torch.tensor(self.sizes))

    def to_batch(self, encoded):
        """Tensors of an encoded table, an array of shape (B, n_heads)."""
        codes = encoded[:, self.categorical].astype(np.int64) + self.first.astype(np.int64)
        values = encoded[:, self.gaussian].astype(np.float32)
        return Batch(torch.from_numpy(codes), torch.from_numpy(values))

    def to_encoded(self, batch, generator):
        """An encoded table of a drawn batch; the uniform heads are drawn here."""
        encoded = np.empty((len(batch.codes), self.n_heads))
        encoded[:, self.categorical] = batch.codes.cpu().numpy() - self.first
        encoded[:, self.gaussian] = batch.values.cpu().numpy()
        position = torch.rand(
            len(batch.codes), len(self.uniform), generator=generator, device=generator.device
        )
        encoded[:, self.uniform] = position.cpu().numpy()
        return encoded


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


def hidden_layers(width, dims):
    """Linear layers with ReLU, and the width they end with."""
    layers = []
    for dim in dims:
        layers += [nn.Linear(width, dim), nn.ReLU(inplace=True)]
        width = dim
    return nn.Sequential(*layers), width


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


class IndependentDecoder(nn.Module):
    """p(x | z) with every head independent given z: the decoder of Xu et al. (2019).

    Parameters
    ----------
    layout : Layout
    embedding_dim : int
    decompress_dims : sequence of int
        Hidden layers, each linear with ReLU; then one last linear layer.
    """

    def __init__(self, layout, embedding_dim, decompress_dims):
        super().__init__()
        self.layout = layout
        self.hidden, width = hidden_layers(embedding_dim, decompress_dims)
        self.output = nn.Linear(width, layout.data_dim)
        self.sigma = nn.Parameter(torch.full((len(layout.gaussian),), 0.1))
        membership = F.one_hot(layout.head_of, len(layout.sizes)).to(self.sigma.dtype)
        self.register_buffer("membership", membership, persistent=False)  # (K, C)

    def forward(self, z):
        """Logits of all categories and tanh^-1 of the Gaussian means: (B, E) -> (B, K + G)."""
        return self.output(self.hidden(z))

    def log_prob(self, z, batch):
        """log p(x | z) of each row, summed over the heads.

        Parameters
        ----------
        z : tensor of shape (B, E)
        batch : Batch of B rows

        Returns
        -------
        log_prob : tensor of shape (B,)
        """
        return HeadsLogProb.apply(self(z), self.sigma, batch.codes, batch.values, self.membership)

    def draw(self, z, generator):
        """Draw a row for each z.

        Returns
        -------
        batch : Batch of B rows
        """
        logits, mean = self(z).split([self.layout.n_codes, len(self.layout.gaussian)], dim=1)
        noise = torch.randn(mean.shape, generator=generator, device=z.device)
        values = (torch.tanh(mean) + self.sigma * noise).clamp(-1, 1)
        return Batch(draw_categories(logits, self.membership, self.layout, generator), values)


def exponentials(logits, membership):
    """exp(logits - top), and its sum over the categories of each head.

    Two matrix products serve all heads, however many and however wide.

    Parameters
    ----------
    logits : tensor of shape (B, K)
    membership : tensor of shape (K, C)
        1 where a category belongs to a head.

    Returns
    -------
    exp : tensor of shape (B, K)
    total : tensor of shape (B, C)
    top : tensor of shape (B, 1) or (B, C)
    """
    top = logits.amax(1, keepdim=True)
    exp = torch.sub(logits, top).exp_()
    total = exp @ membership
    if total.min() < 1e-30:  # a head far below the largest logit of the row: use its own maximum
        sizes = membership.sum(0).long()
        top = torch.stack([one.amax(1) for one in logits.split(sizes.tolist(), dim=1)], dim=1)
        exp = torch.sub(logits, top.repeat_interleave(sizes, dim=1)).exp_()
        total = exp @ membership
    return exp, total, top


class HeadsLogProb(torch.autograd.Function):
    """log p(x | z) of each row, summed over all heads, with its gradient in closed form.

    ``forward(out (B, K + G), sigma (G,), codes (B, C), values (B, G), membership (K, C)) -> (B,)``,
    where `out` holds the logits of all categories and then the tanh^-1 of the Gaussian means::

        sum_c log softmax_c(out)[codes_c] + sum_g log N(values_g; tanh(out_g), sigma_g^2)

    A value that is NaN counts 0. The paper's loss is the negative of this without the constant
    ``log(2 pi) / 2`` of each Gaussian head. One function instead of a chain that autograd records
    spares a training step some forty small operations.
    """

    @staticmethod
    def forward(ctx, out, sigma, codes, values, membership):
        n_codes = len(membership)
        logits, slope = out[:, :n_codes], torch.empty_like(out)
        exp, total, top = exponentials(logits, membership)
        log_norm = (total.log() + top).sum(1)
        log_prob = logits.gather(1, codes).sum(1).sub_(log_norm)
        torch.mul(exp, total.reciprocal_().neg_() @ membership.t(), out=slope[:, :n_codes])
        slope.scatter_add_(1, codes, slope.new_ones(1, 1).expand(codes.shape))
        score = None
        if len(sigma):
            mean = torch.tanh(out[:, n_codes:])
            known = ~torch.isnan(values)
            score = torch.where(known, values.to(out.dtype) - mean, 0.0).div_(sigma)
            constant = sigma.log() + 0.5 * math.log(2 * math.pi)
            log_prob = log_prob - 0.5 * score.square().sum(1) - known.to(out.dtype) @ constant
            torch.mul(score, mean.square().neg_().add_(1).div_(sigma), out=slope[:, n_codes:])
            score = score.square().sub_(known.to(out.dtype)).div_(sigma)  # slope of sigma
        ctx.save_for_backward(slope, score)
        return log_prob

    @staticmethod
    def backward(ctx, grad):
        slope, slope_sigma = ctx.saved_tensors
        grad_sigma = None if slope_sigma is None else grad @ slope_sigma
        return slope * grad[:, None], grad_sigma, None, None, None


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


def draw_categories(logits, membership, layout, generator):
    """A code for each head from its softmax: (B, K) -> (B, C)."""
    exp, total, _ = exponentials(logits, membership)
    # Each head's probabilities sum to 1, so that head j has the stretch [j, j + 1) of the sums.
    probability = exp.mul_(total.reciprocal_() @ membership.t())
    cumulative = probability.cumsum(1, dtype=torch.float64)
    first = torch.as_tensor(layout.first, device=logits.device)
    last = first + torch.as_tensor(layout.sizes, device=logits.device) - 1
    end = cumulative[:, last]
    start = F.pad(end, (1, 0))[:, :-1]
    u = torch.rand(end.shape, generator=generator, device=logits.device, dtype=end.dtype)
    codes = torch.searchsorted(cumulative, start + u * (end - start), right=True)
    return codes.clamp(first, last)


class VAE(nn.Module):
    """Encoder, decoder and standard normal prior over the heads of an encoded table.

    It is pickled as plain arrays, on the CPU.

    Parameters
    ----------
    heads : sequence of Head
    embedding_dim : int
    compress_dims, decompress_dims : sequence of int
    decoder : {"independent"}
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

    def forward(self, batch, noise):
        """Both terms of the evidence lower bound, one draw of z a row.

        Parameters
        ----------
        batch : Batch of B rows
        noise : tensor of shape (B, E)
            Standard normal.

        Returns
        -------
        reconstruction : tensor of shape (B,)
            -log p(x | z), z = mu + std * noise.
        kl : tensor of shape (B,)
            KL(q(z | x) || N(0, I)). The bound is -(reconstruction + kl).
        """
        z, kl = Reparameterised.apply(self.encoder.parameters_of(batch), noise)
        return -self.decoder.log_prob(z, batch), kl

    @torch.no_grad()
    def project_(self):
        """Put the learned sigmas back into their range, after a step of the optimiser."""
        self.decoder.sigma.clamp_(*SIGMA_RANGE)

    @torch.no_grad()
    def posterior_mean(self, batch):
        """E[z | x] of each row, (B, E)."""
        return self.encoder(batch)[0]

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


def negative_bound(vae, batch, noise, loss_factor=1.0):
    """The loss: ``loss_factor * reconstruction + KL``, means over the rows of a batch.

    With ``loss_factor=1`` it is the negative evidence lower bound in nats a row.

    Parameters
    ----------
    vae : VAE
    batch : Batch of B rows
    noise : tensor of shape (B, E)
    loss_factor : float, default=1.0

    Returns
    -------
    loss, reconstruction, kl : tensors of shape ()
    """
    reconstruction, kl = vae(batch, noise)
    loss = torch.add(kl, reconstruction, alpha=loss_factor).mean()
    return loss, reconstruction.detach().mean(), kl.detach().mean()


DECODERS = {"independent": IndependentDecoder}
