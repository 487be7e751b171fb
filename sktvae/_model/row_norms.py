"""The size of the gradient of each row, without the gradients of the rows.

Differentially private training limits how much a single row can change a step, and so needs the
length of the gradient of each row. The gradient of a linear layer with respect to its weights is,
for one row, the outer product of what goes in and of the gradient of what comes out, so that its
length is the product of two lengths (Goodfellow, "Efficient per-example gradient computations",
2015). All weights of the autoregressive decoder are of this kind: the lengths follow from one
backward pass to the outputs of the layers, at a twentieth of the cost of a gradient per row.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sktvae._model.autoregressive import AutoregressiveDecoder, _Rows
from sktvae._model.layout import Batch


class _Level(NamedTuple):
    """Hidden units before the ReLU and outputs of the heads of a level, and what went in."""

    state: Tensor  # (H, B, W)
    before: Tensor  # (H, B, hidden_dim)
    hidden: Tensor  # (H, B, hidden_dim)
    outputs: list[Tensor]  # (H of the group, B, n)


def log_prob_and_norms(
    decoder: AutoregressiveDecoder, batch: Batch, order: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The log-likelihood of each row, and the length of its gradient.

    Parameters
    ----------
    decoder : AutoregressiveDecoder
        Without z, shared residual blocks and Gaussian heads.
    batch : Batch of B rows
        Fully recorded.
    order : int64 tensor of shape (n_variables,), default=None
        None is the order of the table.

    Returns
    -------
    log_prob : tensor of shape (B,)
        With its graph, as that of `AutoregressiveDecoder.log_prob`.
    norms : tensor of shape (B,)
        The Euclidean norm of the gradient of each entry of `log_prob` with respect to all
        parameters of the decoder. Without a graph.
    """
    if decoder.from_z.in_features or len(decoder.blocks) or decoder.layout.gaussian:
        raise ValueError("The decoder must have no z, no shared blocks and no Gaussian heads.")
    rows = decoder._rows(batch, decoder.embedding.dtype)
    inputs = list(decoder._inputs(rows))
    order = decoder.table_order if order is None else order
    bias = (decoder.from_z.bias + decoder.variable_bias).expand(-1, batch.n_rows, -1)
    state = decoder._add_in_order(bias, inputs, order)
    normed = decoder.norm(state)
    levels, log_prob = _levels(decoder, normed, rows)
    probes = [embedded for _, embedded in inputs] + [state, normed]
    for level in levels:
        probes += [level.before, *level.outputs]
    gradients = iter(torch.autograd.grad(log_prob.sum(), probes, retain_graph=True))
    with torch.no_grad():
        total = _norms_of_inputs(decoder, rows, gradients)
        total += _norms_of_norm(state, next(gradients), next(gradients))
        total += _norms_of_levels(decoder, levels, gradients)
    return log_prob, total.sqrt()


def _levels(
    decoder: AutoregressiveDecoder, normed: Tensor, rows: _Rows
) -> tuple[list[_Level], Tensor]:
    """The layers of the heads, step by step, and the log-likelihood (B,)."""
    levels, log_prob = [], normed.new_zeros(normed.shape[1])
    for level, (layers, refined) in zip(decoder.levels, decoder._level_inputs(rows), strict=True):
        state = normed[: len(level.heads)]
        before = torch.baddbmm(level.bias, state, level.weight)
        before = before if refined is None else before + refined
        hidden = F.relu(before)
        outputs = []
        for output, group, (weight, bias) in zip(
            level.outputs, hidden.split(level.group_sizes), layers, strict=True
        ):
            logits = torch.baddbmm(bias, group, weight)
            target = rows.local[output.slots]
            loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
            log_prob = log_prob - loss.view(target.shape).sum(0)
            outputs.append(logits)
        levels.append(_Level(state, before, hidden, outputs))
    return levels, log_prob


def _norms_of_inputs(decoder: AutoregressiveDecoder, rows: _Rows, gradients) -> Tensor:
    """Squared norms (B,) of what the embeddings of codes, and of their positions, get."""
    total = next(gradients).square().sum((0, 2))
    if len(decoder.ordered):
        local = F.pad(rows.local, (0, 0, 0, 1))
        features = decoder.features(local[decoder.coarse_slot], local[decoder.fine_slot])
        total += (features.square().sum(2) * next(gradients).square().sum(2)).sum(0)
    return total


def _norms_of_norm(state: Tensor, of_state: Tensor, of_normed: Tensor) -> Tensor:
    """Squared norms (B,) of what the biases of the states, and the normalisation, get."""
    standard = F.layer_norm(state, state.shape[-1:])
    total = of_state.square().sum((0, 2)) + of_state.sum(0).square().sum(1)
    total += (of_normed * standard).sum(0).square().sum(1)
    return total + of_normed.sum(0).square().sum(1)


def _norms_of_levels(decoder: AutoregressiveDecoder, levels: list[_Level], gradients) -> Tensor:
    """Squared norms (B,) of what the layers of single heads get."""
    total, refining = 0, []
    for level, modules in zip(levels, decoder.levels, strict=True):
        of_before = next(gradients)
        refining.append(of_before)
        total = total + ((level.state.square().sum(2) + 1) * of_before.square().sum(2)).sum(0)
        for output, group in zip(
            modules.outputs, level.hidden.split(modules.group_sizes), strict=True
        ):
            of_logits = next(gradients)
            size = group.square().sum(2)  # (H, B)
            total = total + ((size + 1) * of_logits.square().sum(2)).sum(0)
            if output.slope is not None:
                of_features = torch.bmm(of_logits, output.features.transpose(1, 2))
                total = total + (size * of_features.square().sum(2)).sum(0)
    # A code is known to all heads that refine its own.
    for d in range(1, len(levels)):
        deeper = torch.zeros_like(refining[d])
        for of_before in refining[d:]:
            deeper[: len(of_before)] += of_before
        total = total + deeper.square().sum((0, 2))
    return total
