"""Layers that the posterior and the decoders share, with initial weights from a generator.

Every layer draws its initial weights from the generator that it is given, so that the global
generator of torch is neither read nor changed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from sktvae._model.layout import Batch, Layout

N_FREQUENCIES = 6
N_FEATURES = 2 * N_FREQUENCIES + 1


def _uniform(shape: tuple[int, ...], n_in: int, generator: Generator) -> Tensor:
    """Initial weights of a layer with `n_in` inputs, of the same size as those of nn.Linear."""
    bound = 1 / math.sqrt(max(n_in, 1))
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)


class _UninitialisedLinear(nn.Linear):
    """A linear layer that draws no weights.

    It stands in for `torch.nn.utils.skip_init`, which goes through the meta device and imports
    parts of torch that take some 40 MB.
    """

    def reset_parameters(self) -> None:
        pass


def linear(n_in: int, n_out: int, generator: Generator) -> nn.Linear:
    """A linear layer, initialised as nn.Linear does: the same numbers in the same order."""
    layer = _UninitialisedLinear(n_in, n_out)
    with torch.no_grad():
        for parameter in (layer.weight, layer.bias):
            parameter.copy_(_uniform(parameter.shape, n_in, generator))
    return layer


def stacked_linear(n_heads: int, n_in: int, n_out: int, generator: Generator) -> nn.Parameter:
    """A weight matrix for each head, (n_heads, n_in, n_out), as large as those of nn.Linear."""
    return nn.Parameter(_uniform((n_heads, n_in, n_out), n_in, generator))


def hidden_layers(
    n_in: int, dims: Sequence[int], generator: Generator
) -> tuple[nn.Sequential, int]:
    """Linear layers with ReLU, and the number of units of the last one."""
    layers = []
    for n_out in dims:
        layers += [linear(n_in, n_out, generator), nn.ReLU(inplace=True)]
        n_in = n_out
    return nn.Sequential(*layers), n_in


class InputLayer(nn.Module):
    """A linear layer on rows of (one-hot categories, values).

    The product of a one-hot row with a matrix is the sum of the matrix rows that its codes select,
    so wide one-hot rows are never built. With up to `widest_one_hot` categories in all, dense
    one-hot rows are faster, forward and backward.

    Parameters
    ----------
    layout : Layout
    n_out : int
    generator : torch.Generator
    widest_one_hot : int, default=1024
    """

    def __init__(
        self, layout: Layout, n_out: int, generator: Generator, widest_one_hot: int = 1024
    ):
        super().__init__()
        self.one_hot = layout.n_codes <= widest_one_hot
        self.n_codes = layout.n_codes
        n_in = layout.data_dim
        self.weight = nn.Parameter(_uniform((n_in, n_out), n_in, generator))
        self.bias = nn.Parameter(_uniform((n_out,), n_in, generator))

    def forward(self, batch: Batch) -> Tensor:
        """Hidden units before the ReLU, (B, n_out)."""
        codes = batch.codes.long()
        values = torch.nan_to_num(batch.values.to(self.weight.dtype))
        if self.one_hot:
            dense = self.weight.new_zeros(len(codes), len(self.weight))
            dense.scatter_(1, codes, 1.0)[:, self.n_codes :] = values
            return torch.addmm(self.bias, dense, self.weight)
        embedded = F.embedding_bag(codes, self.weight[: self.n_codes], mode="sum")
        return embedded + torch.addmm(self.bias, values, self.weight[self.n_codes :])


class Dropout:
    """Set hidden units to zero at random, and scale the others so that their mean stays.

    `torch.nn.Dropout` draws from the global generator; this draws from one that it is given.

    Parameters
    ----------
    rate : float
        Probability that a unit is set to zero, below 1.
    generator : torch.Generator
        On the device of the hidden units.
    """

    def __init__(self, rate: float, generator: Generator):
        self.rate, self.generator = rate, generator

    def __call__(self, hidden: Tensor) -> Tensor:
        kept = torch.empty_like(hidden).bernoulli_(1 - self.rate, generator=self.generator)
        return hidden * kept.div_(1 - self.rate)


class SharedLayers:
    """What `AutoregressiveDecoder.shared` computes, in fewer passes over the rows, for walks.

    The last bias of each block is added by the normalisation before it, and the block's first
    bias makes up for this; the block's output is added in place.

    Parameters
    ----------
    norms : sequence of nn.LayerNorm
        One more than there are blocks.
    blocks : sequence of nn.Sequential
        A linear layer, a ReLU and a linear layer each.
    """

    def __init__(self, norms: Sequence[nn.LayerNorm], blocks: Sequence[nn.Sequential]):
        self._shape, self._eps = norms[0].normalized_shape, norms[0].eps
        self._norms, self._blocks = [], []
        for norm, block in zip(norms, (*blocks, None), strict=True):
            bias = norm.bias
            if block is not None:
                first, last = block[0], block[-1]
                bias = bias + last.bias
                own = torch.addmv(first.bias, first.weight, last.bias, alpha=-1)
                # Products with transposed matrices take longer.
                weights = (layer.weight.t().contiguous() for layer in (first, last))
                self._blocks.append((own, *weights))
            self._norms.append((norm.weight, bias))

    def __call__(self, state: Tensor) -> Tensor:
        """(B, W) -> (B, W)."""
        # `F.layer_norm` takes longer to begin.
        state = torch.layer_norm(state, self._shape, *self._norms[0], self._eps)
        for norm, (bias, weight, last) in zip(self._norms[1:], self._blocks, strict=True):
            hidden = torch.addmm(bias, state, weight).relu_()
            state.addmm_(hidden, last)
            state = torch.layer_norm(state, self._shape, *norm, self._eps)
        return state


def position_features(position: Tensor) -> Tensor:
    """Features of a position in [0, 1]: itself, and sines and cosines of doubling frequencies.

    Each wave is scaled by the square root of its length, so that a linear map of the features
    whose weights are all of one size is a smooth function of the position.

    Parameters
    ----------
    position : tensor of shape (...)

    Returns
    -------
    features : tensor of shape (..., N_FEATURES)
    """
    position = position[..., None]
    frequency = 2.0 ** torch.arange(N_FREQUENCIES, device=position.device)
    angle = math.pi * frequency * position
    size = frequency.rsqrt().to(position.dtype)
    return torch.cat([2 * position - 1, angle.sin() * size, angle.cos() * size], dim=-1)


def add_sums_before(
    state: Tensor, inputs: Sequence[tuple[Tensor, Tensor]], rank: Tensor, size: int = 64
) -> Tensor:
    """Add to the state of each variable the inputs of all variables of lower rank.

    The sums over whole blocks of ranks are taken first, so that the time does not grow with the
    square of the number of variables. (`torch.cumsum` takes several times as long on a CPU.)

    Parameters
    ----------
    state : tensor of shape (V, B, W)
    inputs : sequence of (int64 tensor of shape (n,), tensor of shape (n, B, W))
        Of each input, the variable that it belongs to.
    rank : int64 tensor of shape (V,) or (O, V)
        Of all rows, or of O groups of consecutive rows of equal size.
    size : int, default=64
        The number of ranks in a block.

    Returns
    -------
    state : tensor of shape (V, B, W)
    """
    rank = rank[None] if rank.ndim == 1 else rank
    n_orders, n_variables = rank.shape
    n_blocks = -(-n_variables // size)
    first = n_blocks * size * torch.arange(n_orders, device=rank.device)
    place = (rank + first[:, None]).flatten()  # of each variable in each order
    # Of n variables: a row for each order and each of them, the order first.
    grouped = lambda x: x.reshape(len(x), n_orders, -1).transpose(0, 1).flatten(0, 1)
    width = state[0].numel() // n_orders
    total = state.new_zeros(n_orders * n_blocks * size, width)
    for owner, embedded in inputs:
        at = place.view(n_orders, -1)[:, owner].flatten()
        total = total.index_add(0, at, grouped(embedded))
    total = total.view(n_orders * n_blocks, size, width)
    earlier = lambda n: torch.ones(n, n, dtype=state.dtype, device=state.device).tril(-1)
    sums = total.sum(dim=1).view(n_orders, n_blocks, width)
    sums = torch.matmul(earlier(n_blocks), sums).view(n_orders * n_blocks, 1, width)
    before = torch.baddbmm(sums, earlier(size).expand(len(total), size, size), total)
    added = grouped(state) + before.view(-1, width).index_select(0, place)
    return added.view(n_orders, n_variables, width).transpose(0, 1).reshape(state.shape)
