"""The layers of the autoregressive decoder that belong to single heads, batched over heads.

H in the shape comments is the number of heads that are computed side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from sktvae._model.layers import N_FEATURES, position_features, stacked_linear
from sktvae._model.layout import Layout
from sktvae._model.likelihoods import gaussian_log_prob


class CategoricalOutput(nn.Module):
    """Linear layers from hidden units to logits, one for each of a group of categorical heads.

    The heads are padded to the largest of the group, with logits of -inf. The weights of ordered
    codes include a linear map of the features of their position: this part is learned first, and
    lets neighbouring codes learn together.

    Parameters
    ----------
    layout : Layout
    heads : sequence of int
    hidden_dim : int
    generator : torch.Generator
        For the initial weights.
    """

    def __init__(self, layout: Layout, heads: Sequence[int], hidden_dim: int, generator: Generator):
        super().__init__()
        self.sizes = [layout.n_categories(j) for j in heads]
        largest = max(self.sizes)
        weight = stacked_linear(len(heads), hidden_dim, largest, generator)
        index = torch.full((len(heads), 1, largest), layout.n_codes)
        features = torch.zeros(len(heads), N_FEATURES, largest)
        for i, j in enumerate(heads):
            n_ordered, span = layout.n_ordered(j), layout.span(j)
            index[i, 0, : self.sizes[i]] = torch.arange(span.start, span.stop)
            position = (torch.arange(n_ordered) + 0.5) / max(n_ordered, 1)
            features[i, :, :n_ordered] = position_features(position).t()
            weight.data[i, :, :n_ordered] = 0
        self.weight = weight
        slope = torch.zeros(len(heads), hidden_dim, N_FEATURES)
        self.slope = nn.Parameter(slope) if features.any() else None
        slots = torch.tensor([layout.slot[j] for j in heads])
        self.register_buffer("index", index, persistent=False)  # into the padded bias
        self.register_buffer("features", features, persistent=False)
        self.register_buffer("slots", slots, persistent=False)

    def weight_and_bias(self, padded_bias: Tensor) -> tuple[Tensor, Tensor]:
        """Weight (H, hidden_dim, largest) and bias (H, 1, largest)."""
        weight = self.weight
        if self.slope is not None:
            weight = torch.baddbmm(weight, self.slope, self.features)
        return weight, padded_bias[self.index]

    def deviations(self) -> Tensor:
        """Which weights let ordered codes differ from a smooth function, see `Decoder`."""
        is_ordered = self.features.any(dim=1, keepdim=True).cpu()  # (H, 1, largest)
        return is_ordered.expand(self.weight.shape)

    def log_prob(self, hidden: Tensor, weight: Tensor, bias: Tensor, local: Tensor) -> Tensor:
        """Sum over the heads: (H, B, hidden_dim), codes from 0 on (C, B) -> (B,)."""
        logits = torch.baddbmm(bias, hidden, weight)
        target = local[self.slots]
        loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
        return -loss.view(target.shape).sum(0)


class GaussianOutput(nn.Module):
    """The means of a group of Gaussian heads, from hidden units.

    Parameters
    ----------
    layout : Layout
    heads : sequence of int
    hidden_dim : int
    generator : torch.Generator
        For the initial weights.
    """

    def __init__(self, layout: Layout, heads: Sequence[int], hidden_dim: int, generator: Generator):
        super().__init__()
        self.weight = stacked_linear(len(heads), hidden_dim, 1, generator)
        self.bias = nn.Parameter(torch.zeros(len(heads), 1, 1))
        slots = torch.tensor([layout.slot[j] for j in heads])
        self.sizes = [1] * len(heads)
        self.register_buffer("slots", slots, persistent=False)

    def weight_and_bias(self, padded_bias: Tensor) -> tuple[Tensor, Tensor]:
        """Weight (H, hidden_dim, 1) and bias (H, 1, 1)."""
        return self.weight, self.bias

    def log_prob(
        self, hidden: Tensor, weight: Tensor, bias: Tensor, sigma: Tensor, values: Tensor
    ) -> Tensor:
        """Sum over the heads: (H, B, hidden_dim), (G,), values (G, B) -> (B,)."""
        mean = torch.tanh(torch.baddbmm(bias, hidden, weight)[..., 0])
        return gaussian_log_prob(values[self.slots], mean, sigma[self.slots, None]).sum(0)


class HeadLayers(nn.Module):
    """For each of some heads, a hidden layer and an output layer of its own.

    Parameters
    ----------
    layout : Layout
    heads : sequence of int
        In the order of the states that they will be given.
    state_dim, hidden_dim : int
    generator : torch.Generator
        For the initial weights.
    """

    def __init__(
        self,
        layout: Layout,
        heads: Sequence[int],
        state_dim: int,
        hidden_dim: int,
        generator: Generator,
    ):
        super().__init__()
        self.heads = list(heads)
        self.hidden_dim = hidden_dim
        self.weight = stacked_linear(len(heads), state_dim, hidden_dim, generator)
        self.bias = nn.Parameter(torch.zeros(len(heads), 1, hidden_dim))
        groups = _groups_of_similar_size(layout, heads)
        self.group_sizes = [len(group) for group in groups]
        self.outputs = nn.ModuleList(
            (CategoricalOutput if layout.is_categorical(group[0]) else GaussianOutput)(
                layout, group, hidden_dim, generator
            )
            for group in groups
        )

    def hidden(self, states: Tensor, refined: Tensor | None = None) -> Tensor:
        """(H, B, state_dim) -> (H, B, hidden_dim); `refined` is added before the ReLU."""
        hidden = torch.baddbmm(self.bias, states, self.weight)
        return F.relu(hidden if refined is None else hidden + refined, inplace=True)

    def output_layers(self, padded_bias: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Weight and bias of each group of heads, for `log_prob`."""
        return [output.weight_and_bias(padded_bias) for output in self.outputs]

    def log_prob(
        self,
        hidden: Tensor,
        layers: list[tuple[Tensor, Tensor]],
        sigma: Tensor,
        local: Tensor,
        values: Tensor,
    ) -> Tensor:
        """Sum over the heads, (B,)."""
        total = 0
        groups = hidden.split(self.group_sizes)  # its gradient is a single concatenation
        for output, group, (weight, bias) in zip(self.outputs, groups, layers, strict=True):
            if isinstance(output, CategoricalOutput):
                total = total + output.log_prob(group, weight, bias, local)
            else:
                total = total + output.log_prob(group, weight, bias, sigma, values)
        return total

    def each(self, padded_bias: Tensor) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
        """The layers of single heads, to draw with.

        Yields
        ------
        head : int
        layers : tuple of tensor
            Of the hidden layer, weight (state_dim, hidden_dim) and lowest values (hidden_dim,);
            of the output layer, weight (hidden_dim, n) and bias (1, n). Hidden units without their
            bias b are as low as -b at least: ``relu(x + b) = max(x, -b) + b``, and the last term
            is part of the bias of the output layer.
        """
        hidden = zip(self.heads, self.weight, self.bias, strict=True)
        for output, (weight, bias) in zip(
            self.outputs, self.output_layers(padded_bias), strict=True
        ):
            for w, b, size in zip(weight, bias, output.sizes, strict=True):
                head, own_weight, own_bias = next(hidden)
                w, b = w[:, :size].contiguous(), b[:, :size]
                yield head, (own_weight, -own_bias[0], w, torch.addmm(b, own_bias, w))


def _groups_of_similar_size(layout: Layout, heads: Sequence[int]) -> list[list[int]]:
    """Runs of adjacent heads of similar size, so that padding them to one size costs little.

    The smallest head of a run has at least 0.6 times as many categories as the largest.
    """
    groups = []
    for j in heads:
        sizes = [layout.n_categories(i) for i in (groups[-1] if groups else [])]
        sizes.append(layout.n_categories(j))
        if len(sizes) > 1 and min(sizes) >= 0.6 * max(sizes):
            groups[-1].append(j)
        else:
            groups.append([j])
    return groups
