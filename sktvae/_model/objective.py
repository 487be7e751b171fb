"""The loss that training minimises: the negative evidence lower bound and its variants."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sktvae._model.layers import Dropout
from sktvae._model.layout import Batch
from sktvae._model.posterior import Reparameterised
from sktvae._model.vae import VAE


class RowTerms(NamedTuple):
    """The two terms of the bound for each row; the bound is ``log_prob - kl``.

    Attributes
    ----------
    log_prob : tensor of shape (B,)
        log p(x | z) at one draw of z.
    kl : tensor of shape (B,)
        KL(q(z | x) || N(0, I)).
    z : tensor of shape (B, E)
    mu_logvar : tensor of shape (B, 2 E)
        Mean and log-variance of q(z | x).
    """

    log_prob: Tensor
    kl: Tensor
    z: Tensor
    mu_logvar: Tensor


def row_terms(
    vae: VAE,
    batch: Batch,
    noise: Tensor,
    order: Tensor | None = None,
    dropout: Dropout | None = None,
) -> RowTerms:
    """The terms of the evidence lower bound of each row, at ``z = mu + std * noise``.

    Parameters
    ----------
    vae : VAE
    batch : Batch of B rows
    noise : tensor of shape (B, E)
        Standard normal.
    order : int64 tensor of shape (n_variables,), default=None
        The order in which the decoder goes through the variables; None is that of the table.
    dropout : Dropout, default=None
        Applied to the last hidden units of the decoder.

    Returns
    -------
    terms : RowTerms
    """
    mu_logvar = vae.posterior(batch)
    z, kl = Reparameterised.apply(mu_logvar, noise)
    # Without a gradient, walks through the rows take less time and memory on a CPU.
    is_plain = order is None and dropout is None and batch.recorded is None
    if is_plain and not torch.is_grad_enabled() and z.device.type == "cpu":
        log_prob = vae.decoder.log_prob_draws(z[None], batch)[0].to(z.dtype)
    else:
        log_prob = vae.decoder.log_prob(z, batch, order, dropout)
    return RowTerms(log_prob, kl, z, mu_logvar)


def negative_bound(
    vae: VAE,
    batch: Batch,
    noise: Tensor,
    loss_factor: float = 1.0,
    rate_floor: float = 0.0,
    order: Tensor | None = None,
    dropout: Dropout | None = None,
    n_ranks: int = 1,
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss ``loss_factor * reconstruction + KL``, means over the rows of a batch.

    With ``loss_factor=1`` it is the negative evidence lower bound in nats per row. `rate_floor` is
    a number of free nats: information that z holds of its row is charged only beyond it. The mean
    KL is that information plus the divergence of the aggregate posterior from the prior. Only the
    first part is free, so that draws from the prior remain what the decoder was trained on::

        KL -> max(KL - aggregate, rate_floor) + aggregate

    Parameters
    ----------
    vae : VAE
    batch : Batch of B rows
        With weights, each mean over rows is that of ``weight * x``.
    noise : tensor of shape (B, E)
        Standard normal.
    loss_factor : float, default=1.0
    rate_floor : float, default=0.0
        In nats. The information is estimated from the batch, and the estimate cannot exceed
        log(B); the floor is lowered to log(B) / 2 - 1 where it is higher.
    order : int64 tensor of shape (n_variables,), default=None
    dropout : Dropout, default=None
        See `row_terms`.
    n_ranks : int, default=1
        The number of processes that share a batch of about ``n_ranks * B`` rows, by which the floor
        is lowered then; but it stays two nats below log(B).

    Returns
    -------
    loss, reconstruction, kl : tensors of shape ()
    """
    terms = row_terms(vae, batch, noise, order, dropout)
    return loss_of_terms(terms, batch.weight, loss_factor, rate_floor, n_ranks)


def loss_of_terms(
    terms: RowTerms,
    weight: Tensor | None,
    loss_factor: float = 1.0,
    rate_floor: float = 0.0,
    n_ranks: int = 1,
) -> tuple[Tensor, Tensor, Tensor]:
    """What `negative_bound` returns, from the terms of the rows of a batch and their weights."""
    reconstruction = -_mean(terms.log_prob, weight)
    kl = rate = _mean(terms.kl, weight)
    if rate_floor > 0:
        aggregate = aggregate_divergence(terms.z, terms.mu_logvar, weight)
        n_rows = len(terms.z)
        bound = min(math.log(n_ranks * n_rows) / 2 - 1, math.log(n_rows) - 2)
        floor = min(rate_floor, max(bound, 0))
        rate = torch.clamp(kl - aggregate, min=floor) + aggregate
    loss = torch.add(rate, reconstruction, alpha=loss_factor)
    return loss, reconstruction.detach(), kl.detach()


def aggregate_divergence(z: Tensor, mu_logvar: Tensor, weight: Tensor | None = None) -> Tensor:
    """KL(q(z) || N(0, I)) of the aggregate posterior, estimated from a batch.

    The aggregate posterior, the mean of ``q(z | x)`` over all rows, is estimated by its mean over
    the batch (Hoffman, Johnson 2016; Chen et al. 2018, appendix C).

    Parameters
    ----------
    z : tensor of shape (B, E)
        One draw from each posterior.
    mu_logvar : tensor of shape (B, 2 E)
        Mean and log-variance of each posterior.
    weight : tensor of shape (B,), default=None
        The weight of each row, in the mixture and in the mean over z.

    Returns
    -------
    divergence : tensor of shape ()
    """
    mu, logvar = mu_logvar.chunk(2, dim=1)
    precision = torch.exp(-logvar)
    log_share = -math.log(len(z)) if weight is None else torch.log(weight / weight.sum())
    # log q(z_i | x_j) and the share of x_j, up to a constant: one product for all pairs of rows
    of_posterior = log_share - 0.5 * (mu.square() * precision + logvar).sum(1)
    slopes = torch.cat([-0.5 * precision, mu * precision], dim=1)
    log_joint = torch.addmm(of_posterior, torch.cat([z.square(), z], dim=1), slopes.t())
    log_aggregate = torch.logsumexp(log_joint, dim=1)
    return _mean(log_aggregate + 0.5 * z.square().sum(1), weight)


def _mean(x: Tensor, weight: Tensor | None) -> Tensor:
    return x.mean() if weight is None else (weight * x).mean()
