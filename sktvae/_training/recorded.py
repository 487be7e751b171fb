"""Training steps that are recorded once and then repeated, as CUDA graphs.

The host takes some microseconds to start an operation, longer than a GPU takes for most of ours. A
recorded step is started as a whole. What is repeated is exactly what was recorded: the same
operations, at the same addresses, with the same Python numbers. So rows are copied into tensors
that stay where they are, and whatever changes from step to step is a tensor on the device, or part
of what tells recordings apart.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Generator, Tensor

from sktvae._collective import Group
from sktvae._model.layout import Batch
from sktvae._warnings import warn_user

# Steps of each kind that are taken as they are, before one is recorded. The libraries behind the
# operations set themselves up in them, and a training of fewer steps is not worth a recording.
_N_REHEARSALS = 10
# Kinds of step. Batches have at most two sizes, with an order of the variables or without.
_MOST_RECORDINGS = 8
# The name of the environment variable that switches graphs on. They are not the default, because
# they have not run on a GPU yet: a graph that leaves something out would go unnoticed.
_SWITCH = "SKTVAE_CUDA_GRAPHS"

# CUDA records one graph at a time in a process.
_ONE_AT_A_TIME = threading.Lock()

# Takes a batch, an order of the variables and the share of an epoch's decay; returns (3,) terms.
Step = Callable[[Batch, "Tensor | None", float], Tensor]


class Recorder(Protocol):
    """What records the operations of a function that takes and returns nothing."""

    def rehearse(self, function: Callable[[], None]) -> None:
        """Call the function in the way in which it will be recorded."""

    def record(self, function: Callable[[], None]) -> Callable[[], None]:
        """Return what does the operations of the function, which are not done here."""


class CudaGraphs:
    """A recorder of CUDA graphs.

    Parameters
    ----------
    generator : torch.Generator
        On the device. Its numbers in a repeated step are those that it would draw in that step.
    """

    def __init__(self, generator: Generator):
        self._generator = generator
        self._stream = torch.cuda.Stream(generator.device)
        # Nothing that one graph computes is read by another, so they can share their memory.
        self._pool = torch.cuda.graph_pool_handle()

    def rehearse(self, function: Callable[[], None]) -> None:
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            function()
        current.wait_stream(self._stream)

    def record(self, function: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        if torch.__version__ < "2.14":  # later versions find the generator, and warn of the call
            graph.register_generator_state(self._generator)
        # A graph also takes hold of the default generator, from which nothing is drawn here.
        generators = [self._generator, torch.cuda.default_generators[self._stream.device.index]]
        with _ONE_AT_A_TIME:
            states = [generator.clone_state() for generator in generators]
            try:
                # The outer context puts back the stream also if the recording cannot be ended.
                # Other threads may use the device meanwhile, as in a search with joblib.
                with (
                    torch.cuda.stream(self._stream),
                    torch.cuda.graph(
                        graph, self._pool, self._stream, capture_error_mode="thread_local"
                    ),
                ):
                    function()
            except BaseException:
                # A recording that fails leaves them in a state in which they cannot be used.
                for generator, state in zip(generators, states, strict=True):
                    generator.graphsafe_set_state(state)
                raise
        return graph.replay


class _Recording:
    """A step on tensors that stay where they are."""

    def __init__(self, batch: Batch, order: Tensor | None):
        self._batch = batch.take(torch.arange(batch.n_rows, device=batch.codes.device))
        self._order = None if order is None else order.clone()
        self._terms = torch.zeros(3, device=batch.codes.device)
        self.n_rehearsals = 0
        self.repeat: Callable[[], None] | None = None

    def load(self, batch: Batch, order: Tensor | None) -> None:
        """Put in the input of the next step."""
        for kept, given in zip((*self._batch, self._order), (*batch, order), strict=True):
            if kept is not None and given is not None:
                kept.copy_(given)

    def take(self, step: Step, decay: float) -> None:
        self._terms.copy_(step(self._batch, self._order, decay))

    def terms(self) -> Tensor:
        """A copy of what the last step returned, since the next one overwrites it."""
        return self._terms.clone()


class RecordedSteps:
    """Steps of a training, each kind of which is recorded once and then repeated.

    If a recording fails, this is said in a warning, and all steps are taken as they are.

    Parameters
    ----------
    recorder : Recorder
    """

    def __init__(self, recorder: Recorder):
        self._recorder: Recorder | None = recorder
        self._recordings: dict[tuple, _Recording] = {}

    @property
    def n_recorded(self) -> int:
        """How many kinds of step have been recorded so far."""
        return sum(recording.repeat is not None for recording in self._recordings.values())

    def take(self, step: Step, batch: Batch, order: Tensor | None, decay: float) -> Tensor:
        """Take a step; see `Step` for its arguments and for what it returns.

        Parameters
        ----------
        step : callable
            It is not kept, so that nothing which it belongs to outlives the training.
        batch : Batch
        order : tensor or None
        decay : float
        """
        recording = self._recording(batch, order, decay)
        if recording is None or self._recorder is None:
            return step(batch, order, decay)
        recording.load(batch, order)
        if recording.n_rehearsals < _N_REHEARSALS:
            recording.n_rehearsals += 1
            self._recorder.rehearse(lambda: recording.take(step, decay))
            return recording.terms()
        if recording.repeat is None:
            try:
                recording.repeat = self._recorder.record(lambda: recording.take(step, decay))
            except Exception as error:
                self._give_up(error)
                return step(batch, order, decay)
        recording.repeat()
        return recording.terms()

    def _recording(self, batch: Batch, order: Tensor | None, decay: float) -> _Recording | None:
        """The recording of this kind of step; None if there may be no more of them."""
        if self._recorder is None:
            return None
        shapes = [None if field is None else tuple(field.shape) for field in (*batch, order)]
        kind = (*shapes, decay)
        if kind not in self._recordings and len(self._recordings) < _MOST_RECORDINGS:
            self._recordings[kind] = _Recording(batch, order)
        return self._recordings.get(kind)

    def _give_up(self, error: Exception) -> None:
        self._recorder = None
        self._recordings.clear()
        # Where an operation fails, the end of the recording does too, and hides it.
        cause = error.__context__ or error
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        warn_user(
            f"The training step could not be recorded as a CUDA graph ({reason}), so that its "
            "operations are started one by one. The model is the same, but the fit takes longer. "
            f"To fit without this warning, do not set the environment variable {_SWITCH}."
        )


def recorded_steps(generator: Generator, group: Group) -> RecordedSteps | None:
    """Return what records the steps of a training; None if they are to be taken as they are.

    Steps are recorded on CUDA devices, if the environment asks for it. Several ranks wait for each
    other in each step, and CPUs have nothing to gain.
    """
    is_wanted = os.environ.get(_SWITCH) == "1"
    if generator.device.type != "cuda" or group.size > 1 or not is_wanted:
        return None
    return RecordedSteps(CudaGraphs(generator))
