"""Rows of which a part is known: what is not recorded is drawn, or its distribution computed.

The network is a decoder without a latent that has learned the variables in every order. What is
known is visible to every variable that is not, so one pass draws the rest from its conditional
distribution: no row is rejected.

A variable may be limited by shares: a tensor of shape (n_codes,) or (n_codes, n_fine_codes) that
holds, for each code of its first head or each pair of codes of its first two heads, the share of
the mass of that code that satisfies a condition.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from sktvae._model.autoregressive import AutoregressiveDecoder, AutoregressiveWalk
from sktvae._model.drawing import drawn_values
from sktvae._model.layout import Batch, row_blocks
from sktvae._model.likelihoods import draw_code, uniforms

# Rows that go through the variables in one order, and the number of orders in a call.
_FEWEST_ROWS, _MOST_ROWS, _MOST_ORDERS = 16, 512, 32
# Draws of the limited variables among which each row chooses.
_N_CANDIDATES = 32


class Completed(NamedTuple):
    """Rows that are complete.

    Attributes
    ----------
    batch : Batch of B rows
    log_mass : tensor of shape (B,)
        The logarithm of the probability, given what was known, that the limited variables are
        within their limits; an estimate, if there are several of them.
    """

    batch: Batch
    log_mass: Tensor


@torch.no_grad()
def complete(
    decoder: AutoregressiveDecoder,
    known: Batch,
    limits: dict[int, Tensor],
    allowed: dict[int, Tensor],
    generator: Generator,
    host_generator: Generator,
) -> Completed:
    """Draw what is not recorded in each row, given what is.

    The rows are divided into groups, and each group goes through the unknown variables in a random
    order of its own, the limited ones first. Errors that the network makes in single orders thus
    average out.

    Parameters
    ----------
    decoder : AutoregressiveDecoder
        Without a latent.
    known : Batch of B rows
        With `recorded`.
    limits : dict of int to tensor
        Shares, by the first head of a variable. The rows follow the distribution given that the
        variables are within these limits.
    allowed : dict of int to tensor
        Shares, by the first head of a variable, that restrict only its own draw.
    generator : torch.Generator
        On the device of the rows.
    host_generator : torch.Generator
        On the CPU, for the orders.

    Returns
    -------
    completed : Completed
    """
    layers = decoder.drawing_layers()
    limited = [i for i, heads in enumerate(decoder.variables) if heads[0] in limits]
    size = min(max(-(-known.n_rows // _MOST_ORDERS), _FEWEST_ROWS), _MOST_ROWS)
    parts = []
    for start in range(0, known.n_rows, size):
        rows = known.rows(slice(start, min(start + size, known.n_rows)))
        order = decoder.random_order(host_generator)
        log_mass = torch.zeros(rows.n_rows, device=generator.device)
        if limited:
            first = order[torch.isin(order, torch.tensor(limited))]
            rows, log_mass = _draw_limited(decoder, rows, limits, first, generator)
        walk = decoder.walk(_no_latent(decoder, rows), order, rows, layers)
        for heads in walk.variables:
            draw_variable(walk, heads, allowed.get(heads[0]), generator)
        parts.append((*walk.batch()[:2], log_mass))
    codes, values, log_mass = (torch.cat(fields) for fields in zip(*parts, strict=True))
    return Completed(Batch(codes, values), log_mass)


def _draw_limited(
    decoder: AutoregressiveDecoder,
    known: Batch,
    limits: dict[int, Tensor],
    order: Tensor,
    generator: Generator,
) -> tuple[Batch, Tensor]:
    """Draw the limited variables, and return what is then known, and the log-mass of the limits.

    The first variable is drawn from its exact distribution within its limits. If there are several,
    each row chooses among candidates by the probability that the later ones are within theirs.
    """
    n_rows, n_candidates = known.n_rows, _N_CANDIDATES if len(order) > 1 else 1
    row = torch.arange(n_rows, device=generator.device)
    repeated = known.take(row.repeat(n_candidates))
    walk = decoder.walk(_no_latent(decoder, repeated), order, repeated)
    log_mass = torch.zeros(repeated.n_rows, device=generator.device)
    for heads in walk.variables:
        log_mass += draw_variable(walk, heads, limits[heads[0]], generator)
    log_weight = log_mass.view(n_candidates, n_rows)
    chosen = draw_code(log_weight.t(), uniforms(n_rows, generator))
    assert known.recorded is not None
    recorded = known.recorded.clone()
    recorded[:, decoder.place[order.to(decoder.place.device)]] = True
    drawn = walk.batch().take(chosen * n_rows + row)._replace(recorded=recorded)
    return drawn, torch.logsumexp(log_weight, dim=0) - math.log(n_candidates)


def draw_variable(
    walk: AutoregressiveWalk, heads: list[int], share: Tensor | None, generator: Generator
) -> Tensor:
    """Draw a variable within its limits; return the log-probability of these, (B,)."""
    log_mass = walk.state.new_zeros(len(walk.state))
    log_share = None if share is None else share.log()
    drawn = None  # the code of the head before
    for depth, j in enumerate(heads):
        if not walk.layout.is_categorical(j):
            walk.take(j, drawn_values(walk.decoder, walk, j, generator))
            continue
        logits = walk.output(j)
        if log_share is not None and depth == 0:
            limited = logits + _log_mass_by_code(walk, heads, share, log_share)
            log_mass = torch.logsumexp(limited, dim=1) - torch.logsumexp(logits, dim=1)
            logits = limited
        elif log_share is not None and depth == 1 and log_share.ndim == 2:
            logits = logits + log_share[drawn]
        drawn = draw_code(logits, uniforms(len(logits), generator))
        walk.take(j, drawn)
    return log_mass


def _log_mass_by_code(
    walk: AutoregressiveWalk, heads: list[int], share: Tensor, log_share: Tensor
) -> Tensor:
    """The log-probability of the limits given each code of the first head, (n,) or (B, n)."""
    if share.ndim == 1:
        return log_share
    by_code = log_share.amax(dim=1).expand(len(walk.state), -1).clone()
    partly = (share.amax(dim=1) > 0) & (share.amin(dim=1) < 1)
    for code in torch.nonzero(partly)[:, 0].tolist():
        log_prob = torch.log_softmax(walk.output_if(heads[1], code), dim=1)
        by_code[:, code] = torch.logsumexp(log_prob + log_share[code], dim=1)
    return by_code


@torch.no_grad()
def log_probabilities(decoder: AutoregressiveDecoder, known: Batch, first: int) -> Tensor:
    """The distribution of one variable in each row, given what is recorded of the others.

    Parameters
    ----------
    decoder : AutoregressiveDecoder
        Without a latent.
    known : Batch of B rows
        With `recorded`. What it says of the variable itself is not used.
    first : int
        The first head of the variable.

    Returns
    -------
    log_prob : tensor of shape (B, n_codes) or (B, n_codes, n_fine_codes)
    """
    heads = next(heads for heads in decoder.variables if heads[0] == first)
    i = decoder.variables.index(heads)
    assert known.recorded is not None
    recorded = known.recorded.clone()
    recorded[:, decoder.place[i]] = False
    order = torch.tensor([i])
    walk = decoder.walk(_no_latent(decoder, known), order, known._replace(recorded=recorded))
    log_prob = torch.log_softmax(walk.output(first), dim=1)
    if len(heads) == 1 or not decoder.layout.is_categorical(heads[1]):
        return log_prob
    fine = [
        torch.log_softmax(walk.output_if(heads[1], code), dim=1)
        for code in range(log_prob.shape[1])
    ]
    return log_prob[:, :, None] + torch.stack(fine, dim=1)


@torch.no_grad()
def log_prob_of_known(
    decoder: AutoregressiveDecoder, known: Batch, host_generator: Generator
) -> Tensor:
    """The log-probability of what is recorded in each row, (B,), in random orders."""
    parts = []
    for block in row_blocks(known.n_rows, _MOST_ROWS):
        rows = known.rows(block)
        orders = decoder.random_orders(rows.n_rows, host_generator).to(rows.codes.device)
        parts.append(decoder.log_prob(_no_latent(decoder, rows), rows, orders))
    return torch.cat(parts)


@torch.no_grad()
def log_independent(
    decoder: AutoregressiveDecoder, known: Batch, limits: dict[int, Tensor]
) -> Tensor:
    """What the log-probability of what is known, and of limits, would be for independent columns.

    Parameters
    ----------
    decoder : AutoregressiveDecoder
        Without a latent.
    known : Batch of B rows
        With `recorded`.
    limits : dict of int to tensor
        As in `complete`.

    Returns
    -------
    log_prob : tensor of shape (B,)
    """
    assert known.recorded is not None
    total = decoder.sigma.new_zeros(known.n_rows)
    nothing = known.rows(slice(1))
    nothing = nothing._replace(recorded=torch.zeros_like(nothing.recorded))
    for place, heads in zip(decoder.place.tolist(), decoder.variables, strict=True):
        if known.recorded[:, place].any():
            total += _log_marginal(decoder, known, place, heads)
        if heads[0] in limits:
            marginal = log_probabilities(decoder, nothing, heads[0])[0].exp()
            total += (marginal * limits[heads[0]]).sum().log()
    return total


def _log_marginal(
    decoder: AutoregressiveDecoder, known: Batch, place: int, heads: list[int]
) -> Tensor:
    """The log-probability of one variable where it is recorded, if nothing else is, (B,)."""
    alone = torch.zeros_like(known.recorded)
    alone[:, place] = known.recorded[:, place]
    rows = known._replace(recorded=alone)
    if not all(map(decoder.layout.is_categorical, heads)):
        return decoder.log_prob(_no_latent(decoder, rows), rows)
    marginal = log_probabilities(decoder, rows.rows(slice(1)), heads[0])[0]
    codes = (
        known.codes[:, decoder.layout.slot[j]].long() - decoder.layout.span(j).start for j in heads
    )
    return torch.where(alone[:, place], marginal[tuple(codes)], 0.0)


def _no_latent(decoder: AutoregressiveDecoder, rows: Batch) -> Tensor:
    return decoder.sigma.new_zeros(rows.n_rows, 0)
