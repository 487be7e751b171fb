"""The settings of a fit."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

# In steps: an epoch of a small table has only a few.
LEAST_PATIENCE = 100
# Longest gradient, relative to the mean of recent ones. It shortens a few per cent of the gradients
# by a little, and now and then one that is a hundred times as long as usual: a step along it undoes
# much of what has been learned.
CLIP = 1.4
# Weight of the readout: the posterior means become features, and the bound stays.
READOUT = 1.0
# What `tol` refers to where checks do not follow epochs: an epoch of the largest table of which the
# default batch is a 64th.
STEPS_OF_TOL, ROWS_OF_TOL = 64, 64 * 512
_SMALL_TABLE = 5_000
# Of the network that learns any order, in nats per row.
_SLACK = 0.02


@dataclass(frozen=True)
class TrainingPlan:
    """How a VAE is fitted.

    Attributes
    ----------
    epochs : int
        Maximum number of passes over the training rows.
    batch_size : int
        Maximum number of rows per step of the optimiser.
    learning_rate : float
        Learning rate of Adam.
    l2scale : float
        L2 penalty, added to the gradient that Adam scales.
    weight_decay : float
        Approximate share of its size that a weight loses per epoch, apart from the gradient.
        Biases lose nothing.
    loss_factor : float
        Weight of the reconstruction in the loss.
    rate_floor : float
        Free bits, in nats, see :func:`~sktvae._model.objective.negative_bound`.
    random_orders : float
        Share of the batches whose variables are learned in a random order.
    average : bool
        Whether running averages of the weights are validated and kept, not the weights themselves.
    calibrate : bool
        Whether to fit the biases of the categories to their frequencies at the end.
    n_iter_no_change : int
        The number of consecutive checks without an improvement after which training stops.
    tol : float
        The validation loss must be lower by this, in nats per row, to count as an improvement. If
        an epoch has several checks: by as many times this as it has, but at most once for every 64
        steps, or 32,768 rows if these are more.
    slack : float, default=0
        Later weights are preferred to those with the lowest validation loss if their loss is
        higher by at most this, in nats per row.
    any_order : bool, default=False
        Whether rows are learned, validated and calibrated in random orders of the variables, many
        in each batch, in place of `random_orders`.
    dropout : float, default=0
        The share of the last hidden units of the decoder that are set to zero in each step.
    smooth : bool, default=False
        Whether the logits and embeddings of ordered codes stay smooth functions of their position.
    least_patience : int, default=0
        Training does not stop before so many steps without an improvement, however many checks
        they are, since an epoch of a small table is only a few steps.
    readout : float, default=0
        The weight of the loss of :class:`~sktvae._model.readout.Readout`, of which the gradient
        reaches the posterior but not the decoder.
    clip : float, default=0
        A gradient is at most so many times as long as recent ones were on average; 0 for any.
    steps_per_check : int, default=1000
        The loss is checked at the end of each epoch. An epoch with more steps than this is divided
        into equal parts of at most so many steps, each followed by a check, so that training on a
        very long table can stop within an epoch.
    n_ranks : int, default=1
        The number of processes that share each batch.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    l2scale: float
    weight_decay: float
    loss_factor: float
    rate_floor: float
    random_orders: float
    average: bool
    calibrate: bool
    n_iter_no_change: int
    tol: float
    slack: float = 0.0
    any_order: bool = False
    dropout: float = 0.0
    smooth: bool = False
    least_patience: int = 0
    steps_per_check: int = 1000
    n_ranks: int = 1
    readout: float = 0.0
    clip: float = 0.0


def for_any_order(plan: TrainingPlan) -> TrainingPlan:
    """The plan of a network without a latent that learns any order.

    It has as many tasks as there are sets of columns, so that it learns more slowly and goes on
    learning for longer. With the full learning rate, or with much decay on a small table, it stops
    before it has learned what rare categories tell about other columns. What a category of few
    rows tells hardly moves the validation loss: so training goes on for longer without an
    improvement, and of models that are nearly as good as the best one the last is kept.
    """
    return replace(
        plan,
        any_order=True,
        rate_floor=0.0,
        readout=0.0,
        learning_rate=plan.learning_rate / 2,
        weight_decay=plan.weight_decay / 5 if plan.smooth else plan.weight_decay,
        tol=plan.tol / 2,
        slack=_SLACK,
        least_patience=3 * plan.least_patience,
    )


def is_small(n_rows: int) -> bool:
    """Whether a table has so few rows that ordered codes stay smooth, and no row may be wasted."""
    return n_rows < _SMALL_TABLE


def default_batch_size(n_rows: int) -> int:
    """A 64th of the rows, but between 32 and 512."""
    return min(max(n_rows // 64, 32), 512)


def default_dropout(n_rows: int) -> float:
    """0.5 for up to 1,000 rows, falling with the logarithm of their number to 0 for 20,000."""
    return min(max(0.5 * math.log(20_000 / n_rows) / math.log(20), 0.0), 0.5)
