"""Fitting a VAE: batches, optimiser, validation, early stopping, history, progress."""

import warnings

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
    loss_factor,
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
        Resident tensors, shuffled once an epoch, so that a batch is a view.
    epochs, batch_size : int
    learning_rate, l2scale, loss_factor, tol : float
    n_iter_no_change : int
    generator : torch.Generator
        On the device of the data: the order of the rows and the noise.
    verbose : bool, default=False

    Returns
    -------
    history : dict of list of float
        An entry an epoch: the terms of the loss, on training rows as they were met and on the
        validation rows.

    Raises
    ------
    ValueError
        Where the loss is no longer a finite number.
    """
    weights = _flatten_(vae)
    optimizer = torch.optim.Adam([weights], lr=learning_rate, weight_decay=l2scale, fused=True)
    terms = ("loss", "reconstruction", "kl")
    history = {name: [] for name in terms}
    if validation is not None:
        history |= {f"validation_{name}": [] for name in terms}
        noise = torch.randn(
            len(validation.codes), vae.embedding_dim, generator=generator, device=generator.device
        )
    best, best_loss, waited = None, float("inf"), 0
    with _progress(epochs, verbose) as bar:
        try:
            for _ in range(epochs):
                means = _epoch(vae, data, optimizer, batch_size, loss_factor, generator)
                if validation is not None:
                    means += _evaluate(vae, validation, noise, loss_factor)
                if not np.isfinite(means).all():
                    raise ValueError(
                        f"Training diverged: the loss is {means[0]} in epoch "
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
                    best_loss, best = means[3], weights.detach().clone()
                if waited >= n_iter_no_change:
                    break
        except KeyboardInterrupt:
            warnings.warn(
                f"Training was interrupted after {len(history['loss'])} of {epochs} epochs; the "
                "model has what it learned so far.",
                stacklevel=3,
            )
    if best is not None:
        weights.data.copy_(best)
    return history


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


def _epoch(vae, data, optimizer, batch_size, loss_factor, generator):
    """One pass over the rows in random order; means of the loss terms."""
    n_rows, totals = len(data.codes), torch.zeros(3, device=generator.device)
    # Shuffled once an epoch, so that a batch is a view: rows gathered one by one miss the cache.
    data = data.take(torch.randperm(n_rows, generator=generator, device=generator.device))
    for start in range(0, n_rows, batch_size):
        batch = data.rows(slice(start, start + batch_size))
        noise = _antithetic(len(batch.codes), vae.embedding_dim, generator)
        optimizer.zero_grad(set_to_none=False)
        for part, part_noise, share in _parts(vae, batch, noise):
            loss, *terms = negative_bound(vae, part, part_noise, loss_factor)
            (loss if share == 1 else share * loss).backward()
            totals += len(part.codes) * torch.stack([loss.detach(), *terms])
        optimizer.step()
        vae.project_()
    return (totals / n_rows).tolist()


def _antithetic(n_rows, dim, generator):
    """Standard normal noise, the second half of the rows the negative of the first.

    Drawing normal numbers is a twentieth of a training step; rows are in random order, so that
    pairing them costs nothing.
    """
    half = torch.randn((n_rows + 1) // 2, dim, generator=generator, device=generator.device)
    return torch.cat([half, -half])[:n_rows]


@torch.no_grad()
def _evaluate(vae, data, noise, loss_factor):
    """Means of the loss terms, with the same noise every time so that epochs compare."""
    totals = torch.zeros(3, device=noise.device)
    for part, part_noise, share in _parts(vae, data, noise):
        totals += share * torch.stack(negative_bound(vae, part, part_noise, loss_factor))
    return totals.tolist()


def _parts(vae, batch, noise, max_numbers=1_000_000):
    """Pieces of a batch whose widest tensor is within bounds, and their share of the rows.

    `max_numbers` of them are 4 MB in float32. A batch is one piece but where heads are very wide:
    tensors of tens of megabytes fragment the heap, and 10,000 categories took gigabytes.
    """
    n_rows = len(batch.codes)
    size = max(1, max_numbers // vae.layout.data_dim)
    for start in range(0, n_rows, size):
        rows = slice(start, start + size)
        part = batch.rows(rows)
        yield part, noise[rows], len(part.codes) / n_rows


def _progress(epochs, verbose):
    from tqdm.auto import tqdm

    return tqdm(total=epochs, disable=not verbose, unit="epoch")
