"""The likelihood of a value and of a code, and how each is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

IGNORED = -100  # in place of a code that does not count; the default of F.cross_entropy


def gaussian_log_prob(value: Tensor, mean: Tensor, sigma: Tensor) -> Tensor:
    """log N(value; mean, sigma^2), element by element; a value that is NaN contributes 0.

    Parameters
    ----------
    value, mean, sigma : tensors that can be broadcast to a common shape

    Returns
    -------
    log_prob : tensor of that shape
    """
    score = (torch.nan_to_num(value) - mean) / sigma
    log_prob = -0.5 * score.square() - sigma.log() - 0.5 * math.log(2 * math.pi)
    return torch.where(torch.isnan(value), 0.0, log_prob)


class PackedCategorical(nn.Module):
    """The log-likelihood of categorical heads whose logits lie side by side.

    Parameters
    ----------
    sizes : sequence of int
        Number of categories of each head.
    """

    def __init__(self, sizes: Sequence[int]):
        super().__init__()
        self.sizes = list(sizes)
        slots = [c for c, size in enumerate(self.sizes) for _ in range(size)]
        slots = torch.tensor(slots, dtype=torch.long)
        membership = torch.zeros(len(slots), len(self.sizes))
        membership.scatter_(1, slots[:, None], 1.0)
        self.register_buffer("slots", slots, persistent=False)  # (K,): the head of each category
        self.register_buffer("membership", membership, persistent=False)  # (K, C)

    def forward(self, logits: Tensor, codes: Tensor) -> Tensor:
        """Sum over the heads of the log-softmax at the codes: (B, K), int64 (B, C) -> (B,)."""
        return _PackedLogProb.apply(logits, codes, self)

    def exponentials(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """exp(logits - top), its sum over the categories of each head, and the maxima `top`.

        Returns
        -------
        exp : tensor of shape (B, K)
        total, top : tensors of shape (B, C)
        """
        top = self._tops(logits)
        exp = torch.sub(logits, top.index_select(1, self.slots)).exp_()
        return exp, exp @ self.membership, top  # one product sums all heads, however wide

    def of_heads(self, logits: Tensor, codes: Tensor) -> Tensor:
        """The log-softmax of each head at its code: (B, K), int64 (B, C) -> (B, C)."""
        top = self._tops(logits.detach())
        shifted = logits - top.index_select(1, self.slots)
        return shifted.gather(1, codes) - (shifted.exp() @ self.membership).log()

    def _tops(self, logits: Tensor) -> Tensor:
        """The largest logit of each head, (B, C)."""
        tops = [head.amax(1, keepdim=True) for head in logits.split(self.sizes, dim=1)]
        return torch.cat(tops, dim=1) if tops else logits.new_zeros(len(logits), 0)


class _PackedLogProb(torch.autograd.Function):
    """The log-likelihood of `PackedCategorical`, with its gradient in closed form.

    A single function, in place of a chain of operations that autograd records, saves a training
    step some thirty small operations.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, codes: Tensor, packed: PackedCategorical) -> Tensor:
        exp, total, top = packed.exponentials(logits)
        log_prob = logits.gather(1, codes).sum(1).sub_((total.log() + top).sum(1))
        if not ctx.needs_input_grad[0]:
            return log_prob
        # The gradient is one-hot(codes) - softmax(logits).
        slope = exp.mul_(total.reciprocal_().neg_() @ packed.membership.t())
        slope.scatter_add_(1, codes, slope.new_ones(1, 1).expand(codes.shape))
        ctx.save_for_backward(slope)
        return log_prob

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return slope * grad[:, None], None, None


def uniforms(n: int, generator: Generator, stratified: bool = False) -> Tensor:
    """Uniform random numbers below 1, (n, 1); if stratified, one in each n-th of it, shuffled.

    The largest is 1 - 2**-23, whose product with any float32 number is less than this number.
    """
    u = torch.rand(n, generator=generator, device=generator.device)
    if stratified:
        u = (u + torch.randperm(n, generator=generator, device=generator.device)) / n
    return u.clamp_(max=1 - 2**-23)[:, None]


def draw_code(logits: Tensor, u: Tensor) -> Tensor:
    """The code that a number selects from each softmax: (B, n), (B, 1) -> int64 (B,).

    The numbers are from `uniforms`: below the total even after rounding, so that a code of
    probability zero is never drawn.
    """
    # A softmax up to its factor. Few codes to a row are slow in `torch.softmax` on CPUs.
    cumulative = torch.sub(logits, logits.amax(dim=1, keepdim=True)).exp_().cumsum_(1).contiguous()
    return torch.searchsorted(cumulative, u * cumulative[:, -1:], right=True)[:, 0]


def log_prob_of_code(logits: Tensor, code: Tensor) -> Tensor:
    """The log-softmax at a code: (..., n), int64 (...) -> (...); without a gradient.

    As in `draw_code`, the steps are faster than `torch.log_softmax` where codes are few.
    """
    shifted = logits - logits.amax(dim=-1, keepdim=True)
    chosen = shifted.gather(-1, code[..., None])[..., 0]
    return chosen - shifted.exp_().sum(-1).log_()


def draw_value(mean: Tensor, sigma: Tensor, generator: Generator) -> Tensor:
    """A value of each Gaussian, clamped to [-1, 1]: (B,), () -> (B,)."""
    noise = torch.randn(len(mean), generator=generator, device=mean.device)
    return (mean + sigma * noise).clamp_(-1, 1)
