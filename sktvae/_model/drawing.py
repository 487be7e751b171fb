"""Drawing rows from a decoder, and calibrating its biases on rows that it draws.

Both are loops over a `Walk`. Neither changes a weight. How draws become tables is in
`sktvae._generation`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Generator, Tensor

from sktvae._model.decoder import Decoder, Walk
from sktvae._model.layout import Batch, row_blocks
from sktvae._model.likelihoods import draw_code, draw_value, uniforms

# Of frequencies that biases are shifted to: the most rounds, and the error that needs no more.
_MOST_ROUNDS, _SHIFT_TOL = 30, 1e-3


@torch.no_grad()
def draw(
    decoder: Decoder,
    z: Tensor,
    generator: Generator,
    order: Tensor | None = None,
    layers: Any = None,
) -> Batch:
    """Draw a row for each z, head by head.

    Parameters
    ----------
    decoder : Decoder
    z : tensor of shape (B, E)
    generator : torch.Generator
        A generator on the device of z.
    order : int64 tensor of shape (n_variables,), default=None
        An order of the variables, from `decoder.random_order`; None is the order of the table.
    layers : default=None
        From `decoder.drawing_layers`, if several blocks of rows share them.

    Returns
    -------
    batch : Batch of B rows
    """
    walk = decoder.walk(z, order, layers=layers)
    n_codes = len(decoder.layout.categorical)
    u = iter(uniforms(n_codes * len(z), generator).view(n_codes, len(z), 1))
    for j in walk.heads:
        if decoder.layout.is_categorical(j):
            walk.take(j, draw_code(walk.output(j), next(u)))
        else:
            walk.take(j, drawn_values(decoder, walk, j, generator))
    return walk.batch()


@torch.no_grad()
def calibration_shift(
    decoder: Decoder, z: Tensor, frequency: Tensor, generator: Generator
) -> Tensor:
    """What to add to the biases so that rows drawn at z have given frequencies of categories.

    Each variable is calibrated on rows whose earlier variables were drawn from the calibrated
    model, not taken from data.

    Parameters
    ----------
    decoder : Decoder
    z : tensor of shape (B, E)
        Draws from the prior.
    frequency : tensor of shape (K,)
        Relative frequency of each category in its head.
    generator : torch.Generator
        A generator on the device of z.

    Returns
    -------
    shift : tensor of shape (K,)
        To be applied by ``decoder.shift_biases_``.
    """
    walk = decoder.walk(z)
    shift = torch.zeros_like(frequency)
    for j in walk.heads:
        if decoder.layout.is_categorical(j):
            logits, span = walk.output(j), decoder.layout.span(j)
            shift[span] = shift_to_frequency(logits, frequency[span])
            u = uniforms(len(z), generator, stratified=True)
            codes = [draw_code(logits[rows] + shift[span], u[rows]) for rows in row_blocks(len(z))]
            walk.take(j, torch.cat(codes))
        else:
            walk.take(j, drawn_values(decoder, walk, j, generator))
    return shift


@torch.no_grad()
def mean_frequency(
    decoder: Decoder, z: Tensor, order: Tensor | None, generator: Generator
) -> Tensor:
    """The mean probability of each category, (K,), in rows drawn at z in an order; see `draw`."""
    walk = decoder.walk(z, order)
    frequency = torch.zeros(decoder.layout.n_codes, device=z.device)
    for j in walk.heads:
        if decoder.layout.is_categorical(j):
            logits = walk.output(j)
            frequency[decoder.layout.span(j)] = torch.softmax(logits, dim=1).mean(dim=0)
            walk.take(j, draw_code(logits, uniforms(len(z), generator, stratified=True)))
        else:
            walk.take(j, drawn_values(decoder, walk, j, generator))
    return frequency


def ratio_shift(frequency: Tensor, drawn: Tensor, least: float = 1e-5) -> Tensor:
    """The logarithm of the ratio of two frequencies; adding `least` to both keeps it finite."""
    return torch.log((frequency + least) / (drawn + least))


def drawn_values(decoder: Decoder, walk: Walk, j: int, generator: Generator) -> Tensor:
    """Values of Gaussian head j, (B,); NaN in rows to which it does not apply."""
    sigma = decoder.sigma[decoder.layout.slot[j]]
    values, applies = draw_value(walk.output(j), sigma, generator), walk.applies(j)
    return values if applies is None else torch.where(applies, values, math.nan)


def shift_to_frequency(
    logits: Tensor, frequency: Tensor, rounds: int = 3, least: float = 1e-6
) -> Tensor:
    """What to add to logits so that the mean of their softmax is a given frequency.

    Each round of iterative proportional fitting adds the logarithm of the ratio of the two; adding
    `least` to both keeps it finite. There are more rounds than `rounds` while a frequency is off by
    more than 0.001, which happens if most rows have a category that is nearly certain.

    Parameters
    ----------
    logits : tensor of shape (B, n)
    frequency : tensor of shape (n,)
    rounds : int, default=3
    least : float, default=1e-6

    Returns
    -------
    shift : tensor of shape (n,)
    """
    shift = torch.zeros_like(frequency)
    for i in range(_MOST_ROUNDS):
        total = torch.zeros_like(frequency)
        for rows in row_blocks(len(logits)):
            total += torch.softmax(logits[rows] + shift, dim=1).sum(0)
        mean = total / len(logits)
        if i >= rounds and float((frequency - mean).abs().max()) <= _SHIFT_TOL:
            break
        shift += ratio_shift(frequency, mean, least)
    return shift
