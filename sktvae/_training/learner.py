"""A network in training: all that a step needs, apart from the rows."""

from __future__ import annotations

from torch import Generator, Tensor, nn

from sktvae._collective import ALONE, Group
from sktvae._model.layers import Dropout
from sktvae._model.layout import Batch
from sktvae._model.readout import Readout
from sktvae._model.vae import VAE
from sktvae._training.disk import RowsOnDisk
from sktvae._training.optimizer import Adam, FlatWeights
from sktvae._training.plan import TrainingPlan
from sktvae._training.recorded import RecordedSteps, recorded_steps
from sktvae._training.rows import Turn
from sktvae._training.step import add_gradient, antithetic_noise

# Rows, in random order, from which the readout counts how frequent each category is.
_MOST_COUNTED = 200_000


class Learner:
    """A network, what is trained beside it, the optimiser and the source of noise.

    Parameters
    ----------
    vae : VAE
        Its weights become views of `weights.vector`.
    training : Batch or RowsOnDisk
        Rows in random order.
    plan : TrainingPlan
    generator : torch.Generator
        On the device of the rows, for the noise.
    group : Group, default=ALONE
        The ranks that train the network together.

    Attributes
    ----------
    weights : FlatWeights
        Of the network and, after them, of the readout, if the plan asks for one.
    optimizer : Adam
    """

    def __init__(
        self,
        vae: VAE,
        training: Batch | RowsOnDisk,
        plan: TrainingPlan,
        generator: Generator,
        group: Group = ALONE,
    ):
        self.vae, self.plan, self.generator, self.group = vae, plan, generator, group
        self._readout: Readout | None = None
        trained = nn.ModuleDict({"vae": vae})
        if plan.readout:
            some_rows = training.rows(slice(_MOST_COUNTED))
            self._readout = Readout(vae.layout, vae.embedding_dim, some_rows)
            trained["readout"] = self._readout
        deviations = vae.decoder.deviations() if plan.smooth else {}
        frozen = {f"vae.decoder.{name}": which for name, which in deviations.items()}
        # A code that few rows have gets few gradients: decay would make the network forget it.
        undecayed = {"vae.decoder.embedding"} if plan.any_order else ()
        self.weights = FlatWeights(trained, plan.weight_decay, plan.average, frozen, undecayed)
        self.optimizer = Adam(self.weights.vector, plan.learning_rate, plan.l2scale, plan.clip)
        self._dropout = Dropout(plan.dropout, generator) if plan.dropout else None
        self._recorded: RecordedSteps | None = None
        self.record(recorded_steps(generator, group))

    def record(self, recorded: RecordedSteps | None) -> None:
        """From now on, record the steps and repeat them; None takes them as they are."""
        self._recorded = recorded
        if recorded is not None:
            self.weights.count_on_device_()

    def step(self, turn: Turn, decay: float = 1.0) -> Tensor:
        """Take one step; return the means of loss, reconstruction and KL of its rows, (3,).

        Parameters
        ----------
        turn : Turn
        decay : float, default=1
            By how much weights decay, relative to an epoch of the plan.
        """
        decay = decay * turn.share
        if self._recorded is None:
            return self._step(turn.batch, turn.order, decay)
        return self._recorded.take(self._step, turn.batch, turn.order, decay)

    def _step(self, batch: Batch, order: Tensor | None, decay: float) -> Tensor:
        """Take a step; `decay` is its share of the plan's decay in an epoch.

        If it is recorded, it reads no number from the device, and all that a later step does
        differently comes from tensors that stay where they are: the arguments, the weights and
        what is kept of them, the state of the optimiser and of the generator.
        """
        weights = self.weights
        noise = antithetic_noise(batch.n_rows, self.vae.embedding_dim, self.generator)
        weights.zero_gradient_()
        terms = add_gradient(self.vae, batch, noise, self.plan, order, self._dropout, self._readout)
        self.group.mean_(weights.gradient, batch.n_rows)
        weights.hold_frozen_()
        self.optimizer.step()
        weights.decay_(decay)
        self.vae.project_()
        weights.average_()
        return terms
