"""The independent decoder p(x | z), and what the decoders share.

A decoder has `log_prob`, the likelihood of rows given z; `draw`, rows given z; `calibrate_`;
`random_order`; and two widths, by which batches are cut.

Notation in the shape comments: B rows of a batch, C categorical heads, G Gaussian heads, K the
categories of all heads together, E the size of the latent.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from sktvae._layout import Batch


def hidden_layers(width, dims):
    """Linear layers with ReLU, and the width they end with."""
    layers = []
    for dim in dims:
        layers += [nn.Linear(width, dim), nn.ReLU(inplace=True)]
        width = dim
    return nn.Sequential(*layers), width


def calibration(logits, frequency, rounds=3, least=1e-6):
    """What to add to logits so that the mean of their softmax is a frequency.

    Each round of iterative proportional fitting adds the logarithm of the ratio; `least` more in
    both keeps it finite.

    Parameters
    ----------
    logits : tensor of shape (B, n)
    frequency : tensor of shape (n,)

    Returns
    -------
    shift : tensor of shape (n,)
    """
    shift = torch.zeros_like(frequency)
    for _ in range(rounds):
        mean = torch.softmax(logits + shift, dim=1).mean(0)
        shift += torch.log((frequency + least) / (mean + least))
    return shift


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
        membership = torch.zeros(layout.n_codes, len(layout.sizes))
        membership.scatter_(1, layout.head_of[:, None], 1.0)
        self.register_buffer("membership", membership, persistent=False)  # (K, C)

    def forward(self, z):
        """Logits of all categories and tanh^-1 of the Gaussian means: (B, E) -> (B, K + G)."""
        return self.output(self.hidden(z))

    @property
    def width(self):
        """Numbers a row in the widest tensor of `log_prob`."""
        return self.layout.data_dim

    draw_width = width  # and of `draw`

    @torch.no_grad()
    def calibrate_(self, z, frequency, generator):
        """Shift the biases of the categories so that rows drawn at z have these frequencies.

        Parameters
        ----------
        z : tensor of shape (B, E)
            Draws from the prior.
        frequency : tensor of shape (K,)
        generator : torch.Generator
        """
        logits = self(z)[:, : self.layout.n_codes]
        for j in self.layout.categorical:
            codes = self.layout.codes_of(j)
            self.output.bias[codes] += calibration(logits[:, codes], frequency[codes])

    def random_order(self, generator):
        """None: there is no order."""

    def log_prob(self, z, batch, order=None):
        """log p(x | z) of each row, summed over the heads.

        Parameters
        ----------
        z : tensor of shape (B, E)
        batch : Batch of B rows
        order : ignored

        Returns
        -------
        log_prob : tensor of shape (B,)
        """
        return HeadsLogProb.apply(self(z), self.sigma, batch.codes, batch.values, self.membership)

    def draw(self, z, generator, order=None):
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
