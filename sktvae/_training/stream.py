"""Training on a stream of tables: one pass over each, and what is kept from one to the next.

A stream is taken for one long table in random order, of which the rows of a call are the next ones.
All that depends on the length of the table then depends on the number of rows seen so far.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Generator

from sktvae._model.drawing import mean_frequency
from sktvae._model.layout import Batch, Layout
from sktvae._model.vae import VAE
from sktvae._training.calibration import frequencies, match_, match_any_order_
from sktvae._training.learner import Learner
from sktvae._training.monitor import Monitor
from sktvae._training.plan import TrainingPlan
from sktvae._training.rows import TrainingRows
from sktvae._training.step import antithetic_noise

# Weights are on the CPU between calls, and what is kept of them are plain arrays.
Weights = dict[str, Any]


class Seen(NamedTuple):
    """The rows of a stream so far.

    Attributes
    ----------
    n_rows : int
    counts : float64 ndarray of shape (K,)
        Of each category of all heads. The counts of a head sum up to `n_rows`.
    """

    n_rows: int
    counts: np.ndarray

    @classmethod
    def by(cls, vae: VAE, n_rows: int, generator: Generator) -> Seen:
        """The rows that a calibrated network has learned from, by what it draws."""
        size = min(32_768, max(200, 8_000_000 // vae.decoder.numbers_per_drawn_row))
        z = antithetic_noise(size, vae.embedding_dim, generator)
        return cls(
            n_rows, mean_frequency(vae.decoder, z, None, generator).double().numpy() * n_rows
        )

    def and_rows(self, batch: Batch, layout: Layout) -> Seen:
        """What has been seen after the rows of a batch."""
        counts = frequencies([batch], layout).double().numpy() * batch.n_rows
        return Seen(self.n_rows + batch.n_rows, self.counts + np.rint(counts))


def begin(vae: VAE, n_averaged: int = 0) -> Weights:
    """The weights of a network that a stream has not trained yet.

    Parameters
    ----------
    vae : VAE
    n_averaged : int, default=0
        Its weights count as the average of so many steps.
    """
    live = torch.cat([p.detach().reshape(-1) for p in vae.parameters()]).numpy()
    zeros = np.zeros_like(live)
    optimizer = {"means": zeros, "squares": zeros, "n_steps": 0, "length": 0.0}
    return {"live": live, "average": live, "n_averaged": n_averaged} | optimizer


def learn(
    vae: VAE,
    weights: Weights,
    rows: Batch,
    plan: TrainingPlan,
    seen: Seen,
    *,
    generator: Generator,
    host_generator: Generator,
) -> tuple[Weights, dict[str, list[float]]]:
    """Train a network in place, by one pass over rows.

    It ends with the average of its weights over the last fifth of all steps so far, and biases that
    draw each category as often as it was seen.

    Parameters
    ----------
    vae : VAE
        On the device of the rows.
    weights : dict
        From the last call, or from `begin`.
    rows : Batch
    plan : TrainingPlan
        Its number of epochs has no effect.
    seen : Seen
        These rows included.
    generator : torch.Generator
        On the device of the rows.
    host_generator : torch.Generator
        On the CPU.

    Returns
    -------
    weights : dict
        To go on from.
    history : dict of list of float
        One entry each: "loss", "reconstruction" and "kl" of the rows, as each batch was met.

    Raises
    ------
    ValueError
        If the loss is no longer a finite number.
    """
    learner = Learner(vae, rows, plan, generator)
    learner.weights.load_(weights)
    learner.optimizer.load_(weights)
    monitor = Monitor(vae, plan, rows, None, generator, host_generator)
    # An epoch is a pass over all rows of a table, which are those seen so far.
    decay = rows.n_rows / seen.n_rows
    n_steps = -(-rows.n_rows // plan.batch_size)
    turns = TrainingRows(rows, vae.decoder, plan, generator, host_generator, n_steps)
    for turn in turns.turns(1):
        monitor.add(learner.step(turn, decay), turn.batch.n_rows)
    monitor.check(1)
    weights = learner.weights.state() | learner.optimizer.state()
    learner.weights.restore_(learner.weights.snapshot())
    vae.zero_grad(set_to_none=True)
    if plan.calibrate and vae.layout.n_codes:
        _calibrate_(vae, plan, seen, generator, host_generator)
    return weights, monitor.history


def _calibrate_(
    vae: VAE,
    plan: TrainingPlan,
    seen: Seen,
    generator: Generator,
    host_generator: Generator,
) -> None:
    """Match the frequencies of categories in drawn rows to those of all rows seen."""
    frequency = torch.from_numpy(seen.counts / seen.n_rows).float().to(generator.device)
    if plan.any_order:
        is_complete = torch.ones_like(frequency, dtype=torch.bool)
        match_any_order_(vae, frequency, is_complete, seen.n_rows, generator, host_generator)
    else:
        match_(vae, frequency, generator)
