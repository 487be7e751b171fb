"""The training loop."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Generator

from sktvae._collective import ALONE, Group
from sktvae._model.layout import Batch
from sktvae._model.vae import VAE
from sktvae._training.calibration import calibrate_, calibrate_any_order_
from sktvae._training.disk import RowsOnDisk
from sktvae._training.learner import Learner
from sktvae._training.monitor import Monitor
from sktvae._training.plan import ROWS_OF_TOL, STEPS_OF_TOL, TrainingPlan
from sktvae._training.rows import TrainingRows
from sktvae._training.stopping import EarlyStopping
from sktvae._training.watch import UNWATCHED, Watch
from sktvae._warnings import warn_user


class Trained(NamedTuple):
    """What `train` reports.

    Attributes
    ----------
    history : dict of list of float
        One entry per check, which is one per epoch unless an epoch has more steps than
        `steps_per_check`: "loss", "reconstruction" and "kl" in nats per row, on the training rows
        as they were met since the last check. With validation rows also "validation_loss" etc.,
        and "gap": the validation loss minus the same measure on as many training rows.
    n_epochs : int
        Epochs that were begun.
    best_epoch : int
        The epoch of the weights that were kept.
    interrupted : bool
        Whether an interruption ended the training.
    """

    history: dict[str, list[float]]
    n_epochs: int
    best_epoch: int
    interrupted: bool


def train(
    vae: VAE,
    training: Batch | RowsOnDisk,
    validation: Batch | None,
    plan: TrainingPlan,
    *,
    generator: Generator,
    host_generator: Generator,
    group: Group = ALONE,
    watch: Watch = UNWATCHED,
) -> Trained:
    """Fit `vae` in place and leave it with its best weights.

    With validation rows, the best weights are those of the check with the lowest validation loss,
    or later ones whose loss is higher by at most `plan.slack`, and training stops early as the plan
    says. Without, the last weights are the best.

    Parameters
    ----------
    vae : VAE
        On the device of the rows, and with the same weights on all ranks of the group.
    training : Batch or RowsOnDisk
        Rows of this rank, in random order.
    validation : Batch or None
        Rows of this rank.
    plan : TrainingPlan
        Its batch is that of all ranks together.
    generator : torch.Generator
        On the device of the rows, for their order and for the noise.
    host_generator : torch.Generator
        On the CPU, for the orders of the variables.
    group : Group, default=ALONE
        The ranks that train the network together. Every gradient, loss and frequency is that of
        the rows of all of them, so that all of them end with the same weights and the same history.
    watch : Watch, optional
        What shows the progress, and may end the training as an interruption does.

    Returns
    -------
    trained : Trained

    Raises
    ------
    ValueError
        If the loss is no longer a finite number, or if a rank has fewer rows than an epoch has
        steps.
    RuntimeError
        If another rank does not go on, or has other weights.
    KeyboardInterrupt
        If training is interrupted before the first check, or on one of several ranks. Later, an
        interruption ends the training with a warning.
    """
    n_steps = _steps_per_epoch(training.n_rows, plan, group)
    monitor = Monitor(vae, plan, training, validation, generator, host_generator, group)
    rows = TrainingRows(training, vae.decoder, plan, generator, host_generator, n_steps)
    learner = Learner(vae, training, plan, generator, group)
    weights = learner.weights
    stopping = _early_stopping(plan, rows.n_steps, rows.n_checks)
    best, best_epoch, interrupted = weights.snapshot(), 0, False
    try:
        with watch.bar(plan.epochs) as bar:
            for turn in watch.over(rows.turns(plan.epochs)):
                terms = learner.step(turn)
                monitor.add(terms, turn.batch.n_rows)
                if not turn.check:
                    continue
                with weights.swapped():
                    loss = monitor.check(turn.epoch)
                    group.check_weights(vae)
                if validation is None or stopping.update(loss):
                    best, best_epoch = weights.snapshot(), turn.epoch
                bar.update(turn.epoch - bar.n)
                bar.set_postfix(monitor.latest_losses())
                if validation is not None and stopping.should_stop:
                    break
    except KeyboardInterrupt:
        if not monitor.n_checks or group.size > 1:
            raise
        interrupted = True
        warn_user(
            f"Training was interrupted after {monitor.n_checks // rows.n_checks} of {plan.epochs} "
            "epochs; the model has the best weights found so far."
        )
    weights.restore_(best)
    vae.zero_grad(set_to_none=True)
    del learner, weights, best
    if plan.calibrate:
        batches = [training] if validation is None else [training, validation]
        _calibrate_(vae, plan, batches, generator, host_generator, group)
    group.check_weights(vae)
    return Trained(monitor.history, turn.epoch, best_epoch, interrupted)


def _steps_per_epoch(n_rows: int, plan: TrainingPlan, group: Group) -> int:
    """The same on all ranks, although they may have unequal numbers of rows."""
    of_ranks = group.gather(n_rows)
    n_steps = -(-sum(of_ranks) // plan.batch_size)
    if min(of_ranks) < n_steps:
        raise ValueError(
            f"Rank {of_ranks.index(min(of_ranks))} has {min(of_ranks)} rows to train on, but an "
            f"epoch has {n_steps} steps, in each of which every rank takes part. Give all ranks "
            f"about equally many rows, or set a batch_size above {plan.batch_size}."
        )
    return n_steps


def _early_stopping(plan: TrainingPlan, n_steps: int, n_checks: int) -> EarlyStopping:
    """The rule for an epoch of so many steps and checks.

    Nothing is special about the end of an epoch in a table that is longer than training takes. What
    an improvement is then worth depends on the steps that it took: without this, the longest tables
    would have to improve by `tol` in the time that shorter ones have for many epochs. In between,
    `tol` grows with the number of checks.
    """
    steps, tol = n_steps / n_checks, plan.tol
    epochs = min(steps / STEPS_OF_TOL, steps * plan.batch_size / ROWS_OF_TOL)
    tol *= max(1.0, min(epochs, n_checks))
    patience = max(plan.n_iter_no_change, math.ceil(plan.least_patience / steps))
    return EarlyStopping(patience, tol, plan.slack)


def _calibrate_(
    vae: VAE,
    plan: TrainingPlan,
    batches: list[Batch | RowsOnDisk],
    generator: Generator,
    host_generator: Generator,
    group: Group,
) -> None:
    if plan.any_order:
        calibrate_any_order_(vae, batches, generator, host_generator, group)
    else:
        calibrate_(vae, batches, generator, group)
