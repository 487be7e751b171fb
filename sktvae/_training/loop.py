"""The training loop."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from torch import Generator

from sktvae._model.layers import Dropout
from sktvae._model.layout import Batch
from sktvae._model.vae import VAE
from sktvae._training.calibration import calibrate_, calibrate_any_order_
from sktvae._training.monitor import Monitor
from sktvae._training.optimizer import Adam, FlatWeights
from sktvae._training.plan import TrainingPlan
from sktvae._training.rows import ResidentRows
from sktvae._training.step import add_gradient, antithetic_noise
from sktvae._training.stopping import EarlyStopping
from sktvae._warnings import warn_user

if TYPE_CHECKING:
    from tqdm import tqdm


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
    training: Batch,
    validation: Batch | None,
    plan: TrainingPlan,
    *,
    generator: Generator,
    host_generator: Generator,
    verbose: bool = False,
) -> Trained:
    """Fit `vae` in place and leave it with its best weights.

    With validation rows, the best weights are those of the check with the lowest validation loss,
    or later ones whose loss is higher by at most `plan.slack`, and training stops early as the plan
    says. Without, the last weights are the best.

    Parameters
    ----------
    vae : VAE
        On the device of the rows.
    training, validation : Batch
        Rows in random order.
    plan : TrainingPlan
    generator : torch.Generator
        On the device of the rows, for their order and for the noise.
    host_generator : torch.Generator
        On the CPU, for the orders of the variables.
    verbose : bool, default=False
        Whether to show a progress bar.

    Returns
    -------
    trained : Trained

    Raises
    ------
    ValueError
        If the loss is no longer a finite number.
    KeyboardInterrupt
        If training is interrupted before the first check. Later, an interruption ends the training
        with a warning.
    """
    monitor = Monitor(vae, plan, training, validation, generator, host_generator)
    rows = ResidentRows(training, vae.decoder, plan, generator, host_generator)
    weights = _flat_weights(vae, plan)
    optimizer = Adam(weights.vector, plan.learning_rate, plan.l2scale)
    steps_between_checks = rows.n_steps / rows.n_checks
    patience = max(plan.n_iter_no_change, math.ceil(plan.least_patience / steps_between_checks))
    stopping = EarlyStopping(patience, plan.tol, plan.slack)
    dropout = Dropout(plan.dropout, generator) if plan.dropout else None
    best, best_epoch, interrupted = weights.snapshot(), 0, False
    try:
        with _progress(plan.epochs, verbose) as bar:
            for turn in rows.turns(plan.epochs):
                noise = antithetic_noise(turn.batch.n_rows, vae.embedding_dim, generator)
                weights.zero_gradient_()
                terms = add_gradient(vae, turn.batch, noise, plan, turn.order, dropout)
                weights.hold_frozen_()
                optimizer.step()
                weights.decay_(turn.share)
                vae.project_()
                weights.average_()
                monitor.add(terms, turn.batch.n_rows)
                if not turn.check:
                    continue
                with weights.swapped():
                    loss = monitor.check(turn.epoch)
                if validation is None or stopping.update(loss):
                    best, best_epoch = weights.snapshot(), turn.epoch
                bar.update(turn.epoch - bar.n)
                bar.set_postfix(monitor.latest_losses())
                if validation is not None and stopping.should_stop:
                    break
    except KeyboardInterrupt:
        if not monitor.n_checks:
            raise
        interrupted = True
        n_complete = monitor.n_checks // rows.n_checks
        warn_user(
            f"Training was interrupted after {n_complete} of {plan.epochs} epochs; the model has "
            "the best weights found so far."
        )
    weights.restore_(best)
    vae.zero_grad(set_to_none=True)
    del optimizer, best
    if plan.calibrate:
        batches = [training] if validation is None else [training, validation]
        _calibrate_(vae, plan, batches, generator, host_generator)
    return Trained(monitor.history, turn.epoch, best_epoch, interrupted)


def _flat_weights(vae: VAE, plan: TrainingPlan) -> FlatWeights:
    deviations = vae.decoder.deviations() if plan.smooth else {}
    frozen = {f"decoder.{name}": which for name, which in deviations.items()}
    # A code that few rows have gets few gradients: decay would make the network forget it.
    undecayed = {"decoder.embedding"} if plan.any_order else ()
    return FlatWeights(vae, plan.weight_decay, plan.average, frozen, undecayed)


def _calibrate_(
    vae: VAE,
    plan: TrainingPlan,
    batches: list[Batch],
    generator: Generator,
    host_generator: Generator,
) -> None:
    if plan.any_order:
        calibrate_any_order_(vae, batches, generator, host_generator)
    else:
        calibrate_(vae, batches, generator)


def _progress(n_epochs: int, verbose: bool) -> tqdm:
    from tqdm.auto import tqdm

    return tqdm(total=n_epochs, disable=not verbose, unit="epoch")
