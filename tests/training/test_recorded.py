"""Steps that are recorded and repeated. A tape of operations stands in for a CUDA graph."""

from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from sktvae._collective import ALONE
from sktvae._training import recorded
from sktvae._training.learner import Learner
from sktvae._training.recorded import RecordedSteps
from sktvae._training.rows import TrainingRows
from tests.model.conftest import VARIABLES, encoded_rows, some_vae
from tests.training.conftest import plan

SETTINGS = {
    "average": True,
    "batch_size": 24,
    "learning_rate": 1e-2,
    "weight_decay": 0.3,
    "l2scale": 1e-4,
    "rate_floor": 1.0,
    "readout": 1.0,
    "dropout": 0.2,
    "random_orders": 0.5,
}


class Tape(TorchDispatchMode):
    """Records operations on a CPU, and repeats them as a CUDA graph does.

    A repetition calls no Python function of ours. Each operation gets the tensors (the addresses)
    and the Python numbers that it had when it was recorded. Generators are those of a step, as
    they are in a graph that they are registered with.
    """

    def __init__(self, generator):
        super().__init__()
        self.generator, self.n_calls = generator, 0

    def rehearse(self, function):
        function()

    def record(self, function):
        self.calls, self.before, state = [], {}, self.generator.get_state()
        with self:
            function()
        for storage, numbers in self.before.values():
            storage.copy_(numbers)  # a graph only notes what there is to do
        self.generator.set_state(state)
        calls = self.calls
        return lambda: self.repeat(calls)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
        for argument in func._schema.arguments:
            if argument.alias_info is not None and argument.alias_info.is_write:
                for tensor in tree_leaves(given.get(argument.name)):
                    storage = tensor.untyped_storage()
                    self.before.setdefault(storage.data_ptr(), (storage, storage.clone()))
        noted = aliases((args, kwargs))  # shapes of the tensors themselves may change in place
        result = func(*args, **kwargs)
        self.calls.append((func, *noted, aliases(result)))
        return result

    @torch.no_grad()
    def repeat(self, calls):
        self.n_calls += 1
        for func, args, kwargs, result in calls:
            inputs = {address(x) for x in tree_leaves((args, kwargs)) if is_tensor(x)}
            args, kwargs = aliases((args, kwargs))
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if is_tensor(old) and address(old) not in inputs:
                    old.copy_(new)


def aliases(tree):
    return tree_map(lambda x: x.detach() if is_tensor(x) else x, tree)


def is_tensor(x):
    return isinstance(x, torch.Tensor)


def address(x):
    return x.untyped_storage().data_ptr()


def new_learner(
    decoder, n_rows=98, weighted=False, n_epochs=6, device="cpu", heads=VARIABLES, **settings
):
    """A learner, and the turns of its training."""
    vae = some_vae(decoder, heads).to(device)
    batch = vae.layout.to_batch(encoded_rows(n_rows, heads=heads).T).to(device)
    if weighted:
        batch = batch._replace(weight=torch.linspace(0.5, 1.5, n_rows).to(device))
    settings = plan(**(SETTINGS | settings))
    generator = torch.Generator(device).manual_seed(0)
    host = torch.Generator().manual_seed(1)
    turns = TrainingRows(batch, vae.decoder, settings, generator, host).turns(n_epochs)
    return Learner(vae, batch, settings, generator), turns


def after_training(learner, turns):
    """All that a training leaves behind."""
    terms = torch.stack([learner.step(turn) for turn in turns])
    state = learner.weights.state() | learner.optimizer.state()
    return terms, state, learner.generator.get_state()


def assert_same(found, expected):
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=0)
    for name, numbers in expected[1].items():
        # The share of a step in the average is computed in float32 on the device.
        tolerance = 1e-6 if name == "average" else 0
        torch.testing.assert_close(found[1][name], numbers, rtol=tolerance, atol=tolerance)
    assert torch.equal(found[2], expected[2])


@pytest.fixture
def few_rehearsals(monkeypatch):
    monkeypatch.setattr(recorded, "_N_REHEARSALS", 3)


@pytest.mark.parametrize(
    "settings",
    [
        {"weighted": True},
        {"clip": 0.8},
        {"smooth": True, "average": False, "random_orders": 0.0, "readout": 0.0, "dropout": 0.0},
    ],
)
def test_repeated_steps_are_those_that_are_taken_as_they_are(decoder, few_rehearsals, settings):
    """Whatever changes from step to step is on the device: no number of the first step is kept."""
    expected = after_training(*new_learner(decoder, **settings))
    learner, turns = new_learner(decoder, **settings)
    tape = Tape(learner.generator)
    steps = RecordedSteps(tape)
    learner.record(steps)
    found = after_training(learner, turns)
    assert_same(found, expected)
    has_orders = decoder == "autoregressive" and settings.get("random_orders") != 0.0
    n_kinds = 4 if has_orders else 2  # two sizes of batches, with an order or without
    assert steps.n_recorded == n_kinds and tape.n_calls == 30 - 3 * n_kinds


def test_repeated_steps_of_any_order(few_rehearsals):
    settings = {"any_order": True, "rate_floor": 0.0, "readout": 0.0, "dropout": 0.0}
    expected = after_training(*new_learner("autoregressive", **settings))
    learner, turns = new_learner("autoregressive", **settings)
    tape = Tape(learner.generator)
    learner.record(RecordedSteps(tape))
    assert_same(after_training(learner, turns), expected)
    assert tape.n_calls == 24


def test_a_tape_keeps_the_numbers_of_its_first_step(few_rehearsals):
    """What the tests above would not pass with: the average rests on a count in Python."""
    expected = after_training(*new_learner("independent"))
    learner, turns = new_learner("independent")
    learner.record(RecordedSteps(Tape(learner.generator)))
    learner.weights._n_steps = 0
    _, found, _ = after_training(learner, turns)
    assert found["n_averaged"] < expected[1]["n_averaged"]
    assert abs(found["average"] - expected[1]["average"]).max() > 1e-3


def test_what_a_step_changes_stays_where_it_is(decoder):
    """A graph holds addresses: of weights, gradients, averages, and the state of the optimiser."""
    learner, turns = new_learner(decoder)
    weights, optimizer = learner.weights, learner.optimizer
    weights.count_on_device_()
    weights.load_(weights.state())
    parameters = list(learner.vae.parameters())

    def addresses():
        found = [weights.vector, weights.gradient, weights.kept, weights._n_steps]
        found += [*optimizer._means, *optimizer._squares, *optimizer._n_steps]
        found += [*parameters, *(p.grad for p in parameters)]
        return [x.data_ptr() for x in found]

    before = addresses()
    for turn in turns:
        learner.step(turn)
        with weights.swapped():
            best = weights.snapshot()
    weights.restore_(best)
    assert addresses() == before
    gradient = torch.cat([p.grad.flatten() for p in parameters])
    assert torch.equal(gradient, weights.gradient[: len(gradient)]) and gradient.any()


class Broken:
    """A recorder on a device where an operation cannot be recorded."""

    def __init__(self):
        self.n_rehearsed = self.n_tried = 0

    def rehearse(self, function):
        self.n_rehearsed += 1
        function()

    def record(self, function):
        self.n_tried += 1
        try:
            raise RuntimeError("aten::nonzero is not permitted\nwhile recording")
        except RuntimeError:
            raise RuntimeError("The recording was ended by an error before")  # noqa: B904


def test_steps_that_cannot_be_recorded_are_taken_as_they_are(few_rehearsals):
    expected = after_training(*new_learner("independent"))
    learner, turns = new_learner("independent")
    broken = Broken()
    learner.record(RecordedSteps(broken))
    with pytest.warns(UserWarning, match=r"CUDA graph \(aten::nonzero is not permitted\)") as seen:
        found = after_training(learner, turns)
    assert_same(found, expected)
    assert len(seen) == 1 and broken.n_tried == 1 and broken.n_rehearsed == 6


def test_there_are_only_so_many_recordings(few_rehearsals, monkeypatch):
    """Batches of ever new sizes are not kept."""
    monkeypatch.setattr(recorded, "_MOST_RECORDINGS", 1)
    expected = after_training(*new_learner("independent"))
    learner, turns = new_learner("independent")
    tape = Tape(learner.generator)
    steps = RecordedSteps(tape)
    learner.record(steps)
    assert_same(after_training(learner, turns), expected)
    assert steps.n_recorded == 1 and 0 < tape.n_calls < 24


def test_another_decay_is_another_recording(few_rehearsals):
    """It is a Python number in the step."""
    learner, turns = new_learner("independent", n_rows=96)
    steps = RecordedSteps(Tape(learner.generator))
    learner.record(steps)
    turn = next(turns)
    for decay in (1.0, 0.5, 1.0, 0.5) * 3:
        learner.step(turn, decay)
    assert steps.n_recorded == 2


def test_terms_of_a_step_outlast_the_next(few_rehearsals):
    learner, turns = new_learner("independent", n_rows=96)
    learner.record(RecordedSteps(Tape(learner.generator)))
    turn = next(turns)
    terms = [learner.step(turn) for _ in range(6)]
    kept = [x.clone() for x in terms]
    learner.step(turn)
    assert torch.equal(torch.stack(terms), torch.stack(kept))
    assert len({float(x[0]) for x in terms}) == 6


def test_where_steps_are_recorded(monkeypatch):
    """On CUDA devices, by a process alone, if the environment asks for it."""
    monkeypatch.setattr(recorded, "CudaGraphs", Tape)
    device = lambda name: SimpleNamespace(device=torch.device(name))
    assert recorded.recorded_steps(device("cuda"), ALONE) is None
    monkeypatch.setenv("SKTVAE_CUDA_GRAPHS", "1")
    assert recorded.recorded_steps(device("cuda"), ALONE) is not None
    assert recorded.recorded_steps(device("cpu"), ALONE) is None
    assert recorded.recorded_steps(device("cuda"), SimpleNamespace(size=2)) is None


def test_a_cuda_graph_takes_the_steps(decoder, monkeypatch):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    monkeypatch.setenv("SKTVAE_CUDA_GRAPHS", "1")
    found = []
    for steps in (False, True):
        learner, turns = new_learner(decoder, n_epochs=10, device="cuda")
        if not steps:
            learner.record(None)
        found.append(after_training(learner, turns)[0])
        assert steps == bool(learner._recorded and learner._recorded.n_recorded)
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-3)
