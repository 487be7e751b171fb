"""Fitting a VAE: batches, optimiser, validation, early stopping, history, progress."""

import math
import warnings
from contextlib import contextmanager

import numpy as np
import torch

from sktvae._vae import negative_bound


def train(
    vae,
    data,
    validation=None,
    *,
    epochs,
    batch_size,
    learning_rate,
    l2scale,
    weight_decay,
    loss_factor,
    rate_floor,
    random_orders,
    average,
    calibrate,
    n_iter_no_change,
    tol,
    generator,
    verbose=False,
):
    """Fit `vae` in place and leave it with its best weights.

    With `validation` rows the best weights are those of the epoch with the least validation loss,
    and training stops after `n_iter_no_change` epochs without a loss lower by `tol`; without, they
    are the last.

    Parameters
    ----------
    vae : VAE
        On the device of the data.
    data, validation : Batch
        Resident tensors in random order, shuffled again once an epoch, so that a batch is a view.
    epochs, batch_size : int
    learning_rate, l2scale, tol : float
    weight_decay : float
        About the part of its size that a weight loses in an epoch; biases lose nothing.
    loss_factor, rate_floor : float
        See :func:`~sktvae._vae.negative_bound`.
    random_orders : float
        Share of the batches whose variables are learned in a random order.
    average : bool
        Whether the weights that are validated, and kept, are running averages.
    calibrate : bool
        Whether, at the end, the biases of the categories are set to the frequencies of the data.
    n_iter_no_change : int
    generator : torch.Generator
        On the device of the data: the order of the rows and the noise.
    verbose : bool, default=False

    Returns
    -------
    history : dict of list of float
        An entry an epoch: the terms of the loss, on training rows as they were met and on the
        validation rows; "gap" is the validation loss less the same on as many training rows.

    Raises
    ------
    ValueError
        Where the loss is no longer a finite number.
    """
    weights = _flatten_(vae)
    optimizer = torch.optim.Adam([weights], lr=learning_rate, weight_decay=l2scale, fused=True)
    objective = {"loss_factor": loss_factor, "rate_floor": rate_floor}
    terms = ("loss", "reconstruction", "kl")
    history = {name: [] for name in terms}
    if validation is not None:
        history |= {f"validation_{name}": [] for name in terms} | {"gap": []}
        noise = torch.randn(
            len(validation.codes), vae.embedding_dim, generator=generator, device=generator.device
        )
        seen = data.rows(slice(len(validation.codes)))
    decay = weight_decay * _decays(vae)
    averaged = weights.detach().clone() if average else weights.detach()
    best, best_loss, waited = None, float("inf"), 0
    step = 0
    with _progress(epochs, verbose) as bar:
        try:
            for _ in range(epochs):
                totals = torch.zeros(3, device=generator.device)
                for share, batch in _batches(data, batch_size, generator):
                    order = None
                    if random_orders and _uniform(generator) < random_orders:
                        order = vae.decoder.random_order(generator)
                    totals += len(batch.codes) * _gradient(vae, batch, generator, order, objective)
                    optimizer.step()
                    weights.data.addcmul_(weights.data, decay, value=-share)
                    vae.project_()
                    step += 1
                    if average:
                        averaged.lerp_(weights.data, (_TAIL + 1) / (step + _TAIL))
                means = (totals / len(data.codes)).tolist()
                if validation is not None:
                    with _weights(weights, averaged):
                        means += _evaluate(vae, validation, noise, objective)
                        at_seen = _evaluate(vae, seen, noise[: len(seen.codes)], objective)
                    means.append(means[3] - at_seen[0])
                for name, mean in zip(history, means, strict=True):
                    if not np.isfinite(mean):
                        raise ValueError(
                            f"Training diverged: the {name} is {mean} in epoch "
                            f"{len(history['loss']) + 1}. Lower learning_rate, which is "
                            f"{learning_rate}."
                        )
                for name, mean in zip(history, means, strict=True):
                    history[name].append(mean)
                bar.update()
                bar.set_postfix(
                    {name: f"{v[-1]:.4g}" for name, v in history.items() if "loss" in name}
                )
                if validation is None:
                    continue
                waited = 0 if means[3] < best_loss - tol else waited + 1
                if means[3] < best_loss:
                    best_loss, best = means[3], averaged.clone()
                if waited >= n_iter_no_change:
                    break
        except KeyboardInterrupt:
            warnings.warn(
                f"Training was interrupted after {len(history['loss'])} of {epochs} epochs; the "
                "model has what it learned so far.",
                stacklevel=4,
            )
    weights.data.copy_(averaged if best is None else best)
    if calibrate:
        _calibrate(vae, [data] if validation is None else [data, validation], generator)
    return history


# Averages of the weights count the last steps most: at any step about the last fifth of all steps.
# Polynomial-decay averaging, Shamir & Zhang (ICML 2013), equation 4 with eta = 4.
_TAIL = 4


def _decays(vae):
    """1 for each weight, 0 for each bias, scale and sigma, in the order of `_flatten_`."""
    return torch.cat(
        [
            torch.full_like(p.detach().reshape(-1), p.ndim > 1 and not name.endswith("bias"))
            for name, p in vae.named_parameters()
        ]
    )


@contextmanager
def _weights(live, other):
    """Put other weights into the place of the live ones for a while."""
    kept = live.detach().clone()
    live.data.copy_(other)
    try:
        yield
    finally:
        live.data.copy_(kept)


def _uniform(generator):
    return torch.rand((), generator=generator, device=generator.device).item()


def _flatten_(module):
    """All parameters of a module, and their gradients, as views of one vector, which is returned.

    An optimiser step, or a copy of the best weights, is then one operation and not one a layer.
    """
    parameters = list(module.parameters())
    flat = torch.cat([p.detach().reshape(-1) for p in parameters]).requires_grad_()
    flat.grad = torch.zeros_like(flat)
    sizes = [p.numel() for p in parameters]
    with torch.no_grad():
        for p, w, g in zip(parameters, flat.split(sizes), flat.grad.split(sizes), strict=True):
            p.data, p.grad = w.view_as(p), g.view_as(p)
    return flat


def _batches(data, batch_size, generator):
    """The rows in random order, in batches of nearly one size, and the share of the epoch."""
    n_rows = len(data.codes)
    n_batches = -(-n_rows // batch_size)
    # Shuffled once an epoch, so that a batch is a view: rows gathered one by one miss the cache.
    data = data.take(torch.randperm(n_rows, generator=generator, device=generator.device))
    for i in range(n_batches):
        rows = slice(i * n_rows // n_batches, (i + 1) * n_rows // n_batches)
        yield 1 / n_batches, data.rows(rows)


def _gradient(vae, batch, generator, order, objective):
    """Put the gradient of a batch into the parameters; its loss terms."""
    vae.zero_grad(set_to_none=False)
    noise = _antithetic(len(batch.codes), vae.embedding_dim, generator)
    totals = 0
    for part, part_noise, share in _parts(vae, batch, noise):
        loss, *terms = negative_bound(vae, part, part_noise, order=order, **objective)
        (loss if share == 1 else share * loss).backward()
        totals = totals + share * torch.stack([loss.detach(), *terms])
    return totals


def _antithetic(n_rows, dim, generator):
    """Standard normal noise, the second half of the rows the negative of the first.

    Drawing normal numbers is a twentieth of a training step; rows are in random order, so that
    pairing them costs nothing.
    """
    half = torch.randn((n_rows + 1) // 2, dim, generator=generator, device=generator.device)
    return torch.cat([half, -half])[:n_rows]


@torch.no_grad()
def _evaluate(vae, data, noise, objective):
    """Means of the loss terms, with the same noise every time so that epochs compare."""
    totals = torch.zeros(3, device=noise.device)
    for part, part_noise, share in _parts(vae, data, noise):
        totals += share * torch.stack(negative_bound(vae, part, part_noise, **objective))
    return totals.tolist()


def _calibrate(vae, batches, generator, max_rows=32_768, max_numbers=8_000_000):
    """Make rows drawn from the prior have each category as often as the data have it.

    Noisy steps of an optimiser end close to the maximum of the likelihood, and the aggregate
    posterior close to the prior; a thousandth of a nat in either is one row in a hundred of a
    category too many.
    """
    n_codes = vae.layout.n_codes
    if not n_codes:
        return
    # The held-out rows count too: a category that only they have is not to vanish.
    codes = torch.cat([batch.codes for batch in batches])
    frequency = torch.bincount(codes.flatten(), minlength=n_codes) / len(codes)
    n_rows = min(max_rows, max(200, max_numbers // vae.decoder.draw_width))
    z = _antithetic(n_rows, vae.embedding_dim, generator)
    vae.decoder.calibrate_(z, frequency, generator)


def _parts(vae, batch, noise, max_numbers=2_000_000):
    """Pieces of a batch whose widest tensor is within bounds, and their share of the rows.

    `max_numbers` of them are 8 MB in float32. A batch is one piece but where heads are very wide:
    tensors of tens of megabytes fragment the heap, and 10,000 categories took gigabytes.
    """
    n_rows = len(batch.codes)
    # no more rows than make a square of `max_numbers`, for the aggregate posterior
    size = max(1, min(max_numbers // vae.width, math.isqrt(max_numbers)))
    for start in range(0, n_rows, size):
        rows = slice(start, start + size)
        part = batch.rows(rows)
        yield part, noise[rows], len(part.codes) / n_rows


def _progress(epochs, verbose):
    from tqdm.auto import tqdm

    return tqdm(total=epochs, disable=not verbose, unit="epoch")
