"""The history of a fit: the terms of the loss on training and on validation rows."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from sktvae._collective import ALONE, Group
from sktvae._model.layout import Batch
from sktvae._model.vae import VAE
from sktvae._training.disk import RowsOnDisk
from sktvae._training.plan import TrainingPlan
from sktvae._training.step import mean_terms

TERMS = ("loss", "reconstruction", "kl")


class Monitor:
    """Collect the terms of the loss from step to step, and measure them at each check.

    Parameters
    ----------
    vae : VAE
    plan : TrainingPlan
    training : Batch or RowsOnDisk
        Rows in random order.
    validation : Batch or None
    generator : torch.Generator
        Source of the validation noise, which is the same in each check, so that checks are
        comparable.
    host_generator : torch.Generator
        Source of the orders of the variables in the validation rows, if the plan is to learn any
        order.
    group : Group, default=ALONE
        The terms are those of the rows of all ranks.

    Attributes
    ----------
    history : dict of list of float
        One entry per check.
    """

    def __init__(
        self,
        vae: VAE,
        plan: TrainingPlan,
        training: Batch | RowsOnDisk,
        validation: Batch | None,
        generator: Generator,
        host_generator: Generator,
        group: Group = ALONE,
    ):
        self.vae, self.plan, self.group = vae, plan, group
        self.history: dict[str, list[float]] = {name: [] for name in TERMS}
        self._totals = torch.zeros(len(TERMS), device=generator.device)
        self._n_rows = 0
        self._validation = None if validation is None else _with_mean_weight_one(validation)
        if validation is not None:
            self.history |= {f"validation_{name}": [] for name in TERMS} | {"gap": []}
            shape = (validation.n_rows, vae.embedding_dim)
            self._noise = torch.randn(shape, generator=generator, device=generator.device)
            self._order = None
            if plan.any_order:
                order = vae.decoder.random_orders(validation.n_rows, host_generator)
                self._order = None if order is None else order.to(generator.device)
            self._seen = _with_mean_weight_one(training.rows(slice(validation.n_rows)))

    @property
    def n_checks(self) -> int:
        return len(self.history["loss"])

    def add(self, terms: Tensor, n_rows: int) -> None:
        """Include the mean terms of a batch of so many rows."""
        self._totals += n_rows * terms
        self._n_rows += n_rows

    def check(self, epoch: int) -> float:
        """Append to the history, with the present weights of the network.

        Parameters
        ----------
        epoch : int
            The current epoch, counted from 1, for the error message.

        Returns
        -------
        loss : float
            The validation loss; without validation rows, that of the training rows.

        Raises
        ------
        ValueError
            If a term is not a finite number.
        """
        means = self.group.mean_(self._totals / self._n_rows, self._n_rows).tolist()
        self._totals.zero_()
        self._n_rows = 0
        if self._validation is not None:
            means += self._mean_terms(self._validation)
            means.append(means[3] - self._mean_terms(self._seen)[0])
        for name, mean in zip(self.history, means, strict=True):
            if not math.isfinite(mean):
                raise ValueError(
                    f"Training diverged: {name} is {mean} in epoch {epoch}. Lower learning_rate, "
                    f"which is {self.plan.learning_rate:g}."
                )
        for name, mean in zip(self.history, means, strict=True):
            self.history[name].append(mean)
        return means[0] if self._validation is None else means[3]

    def _mean_terms(self, rows: Batch) -> list[float]:
        noise = self._noise[: rows.n_rows]
        terms = mean_terms(self.vae, rows, noise, self.plan, self._order)
        return self.group.mean_(terms, rows.n_rows).tolist()

    def latest_losses(self) -> dict[str, str]:
        """The last entry of each loss, to be shown beside a progress bar."""
        return {name: f"{v[-1]:.4g}" for name, v in self.history.items() if "loss" in name}


def _with_mean_weight_one(batch: Batch) -> Batch:
    if batch.weight is None:
        return batch
    return batch._replace(weight=batch.weight / batch.weight.mean())
