import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from sktvae import XU2019, TVAESynthesizer
from sktvae._training.learner import Learner
from sktvae._training.optimizer import Adam, FlatWeights
from sktvae._training.plan import CLIP
from sktvae._training.rows import Turn
from tests.model.conftest import weights
from tests.training.conftest import data, fit, new_vae, plan


def test_weight_decay_is_per_epoch_and_spares_biases():
    """With a learning rate of nothing, weights lose their share of an epoch and biases nothing."""
    sizes = []
    for batch_size in (50, 500):
        vae = new_vae()
        start = {name: p.detach().clone() for name, p in vae.named_parameters()}
        fit(vae, data(), epochs=1, batch_size=batch_size, learning_rate=1e-12, weight_decay=0.3)
        for name, p in vae.named_parameters():
            if p.ndim == 1:
                torch.testing.assert_close(p.detach(), start[name])
        sizes.append((vae.decoder.output.weight / start["decoder.output.weight"]).mean().item())
    np.testing.assert_allclose(sizes, [(1 - 0.3 / 10) ** 10, 0.7], rtol=1e-3)


def test_parameters_and_gradients_are_views_of_one_vector():
    vae = new_vae("autoregressive")
    before = weights(vae)
    flat = FlatWeights(vae)
    for name, w in weights(vae).items():
        np.testing.assert_array_equal(w, before[name])
    flat.vector.data.zero_()
    flat.vector.grad.fill_(2)
    assert all((p == 0).all() and (p.grad == 2).all() for p in vae.parameters())
    assert len(flat.vector) == sum(p.numel() for p in vae.parameters())


def test_the_average_counts_the_last_steps_most():
    flat = FlatWeights(torch.nn.Linear(2, 1), average=True)
    for step in range(1, 101):
        flat.vector.data.fill_(step)
        flat.average_()
    assert 80 < flat.kept[0] < 90  # the mean of the last fifth is 90, of all steps 50
    assert torch.equal(FlatWeights(torch.nn.Linear(2, 1)).kept[:0], flat.kept[:0])


def test_swapped_weights_come_back_even_after_an_error():
    flat = FlatWeights(torch.nn.Linear(2, 1), average=True)
    flat.vector.data.fill_(1)
    kept = flat.snapshot()
    try:
        with flat.swapped():
            assert torch.equal(flat.vector.detach(), kept) and (kept != 1).all()
            raise ValueError
    except ValueError:
        assert (flat.vector == 1).all()
    flat.restore_(kept)
    assert torch.equal(flat.vector.detach(), kept)


def test_a_snapshot_does_not_follow_the_weights():
    flat = FlatWeights(torch.nn.Linear(2, 1))
    snapshot = flat.snapshot()
    flat.vector.data.fill_(7)
    assert (snapshot != 7).all() and (flat.kept == 7).all()


def test_the_optimiser_is_that_of_torch():
    """Bit for bit, with an L2 penalty."""
    one, two = (torch.linspace(-1, 1, 1001).requires_grad_() for _ in range(2))
    two.grad = torch.zeros(1001)
    one.grad = torch.zeros(1001)
    theirs = torch.optim.Adam([one], lr=0.01, weight_decay=0.1, fused=True)
    ours, generator = Adam(two, 0.01, 0.1), torch.Generator().manual_seed(0)
    for _ in range(5):
        for vector in (one, two):
            vector.grad.copy_(torch.randn(1001, generator=generator.manual_seed(0)))
        theirs.step()
        ours.step()
        assert torch.equal(one, two)


def test_training_does_not_import_the_compiler_of_torch():
    """Which takes a second and 30 MB, and which torch.optim.Adam and the meta device import."""
    code = """
import sys, numpy, torch
from sktvae._heads import Categorical
from sktvae._model.vae import VAE
from sktvae._training.loop import train
from tests.training.conftest import plan

before = set(sys.modules)
vae = VAE([Categorical(3)], 2, (4,), (4,), "autoregressive")
generator = torch.Generator()
batch = vae.layout.to_batch([numpy.arange(300) % 3])
settings = plan(epochs=1, calibrate=True)
train(vae, batch, batch, settings, generator=generator, host_generator=generator)
new = set(sys.modules) - before
print(sorted(name for name in new if name.startswith(("torch._dynamo", "torch._refs"))))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout.strip() == "[]", found.stdout + found.stderr


def test_what_is_undecayed_loses_nothing():
    layers = nn.ModuleDict({"kept": nn.Linear(3, 2), "other": nn.Linear(3, 2)})
    before = {name: p.detach().clone() for name, p in layers.named_parameters()}
    FlatWeights(layers, decay=0.5, undecayed={"kept.weight"}).decay_(1.0)
    after = dict(layers.named_parameters())
    assert torch.equal(after["kept.weight"], before["kept.weight"])
    assert torch.allclose(after["other.weight"], before["other.weight"] / 2)


def lengths_of_gradients(lengths, clip=1.5):
    """The lengths that gradients of these lengths have after a step."""
    vector = torch.zeros(16).requires_grad_()
    vector.grad = torch.zeros(16)
    optimizer, after = Adam(vector, 0.01, clip=clip), []
    for length in lengths:
        vector.grad.fill_(length / 4)  # 16 entries
        optimizer.step()
        after.append(float(torch.linalg.vector_norm(vector.grad)))
    return after, optimizer


def test_a_gradient_that_is_much_longer_than_others_is_clipped():
    before = [1.0] * 150 + [1000.0, 1.0, 1.4, 1000.0]
    after, _ = lengths_of_gradients(before)
    np.testing.assert_allclose(after[:150], 1, rtol=1e-5)
    # the first one counts as ten, and so raises the mean by a tenth
    np.testing.assert_allclose(after[150:], [1.5, 1, 1.4, 1.65], rtol=0.01)
    np.testing.assert_allclose(lengths_of_gradients(before, clip=0.0)[0], before, rtol=1e-5)


@pytest.mark.parametrize("length", [10.0, 1e5])
def test_the_limit_follows_gradients_that_become_longer_for_good(length):
    """Within a few hundred steps, so that quiet rows of a stream do not slow down the next ones."""
    after, _ = lengths_of_gradients([1.0] * 50 + [length] * 300)
    assert after[50] < 1.6 and after[-1] == pytest.approx(length, rel=1e-3)


def test_long_gradients_that_are_as_frequent_as_short_ones_stay_long():
    after, _ = lengths_of_gradients([10.0, 0.1] * 500)
    assert min(after[-100::2]) > 5 and max(after[-99::2]) < 0.11


def test_the_first_gradients_are_of_any_length():
    after, _ = lengths_of_gradients([1.0, 500.0, 1.0, 30.0])
    np.testing.assert_allclose(after, [1.0, 500.0, 1.0, 30.0], rtol=1e-5)


@pytest.mark.parametrize("n_before", [2, 50])
def test_a_gradient_that_overflows_does_no_harm(n_before):
    """The length of finite numbers can be infinite in single precision."""
    lengths = [1.0] * n_before + [4e20] + [1.0] * 40 + [1000.0]
    after, optimizer = lengths_of_gradients(lengths)
    np.testing.assert_allclose(after[n_before + 1 : -1], 1, rtol=1e-5)
    assert after[-1] < 2  # the limit does not become infinite
    assert torch.isfinite(optimizer.vector).all()


def test_a_gradient_after_none_at_all_is_not_lost():
    after, _ = lengths_of_gradients([0.0] * 30 + [1.0])
    np.testing.assert_allclose(after, [0.0] * 30 + [1.0], rtol=1e-5)


def test_a_stream_goes_on_with_the_limit_of_before():
    _, before = lengths_of_gradients([1.0] * 50)
    vector = torch.zeros(16).requires_grad_()
    vector.grad = torch.full((16,), 100.0)
    after = Adam(vector, 0.01, clip=1.5)
    after.load_(before.state())
    after.step()
    assert float(torch.linalg.vector_norm(vector.grad)) == pytest.approx(1.5, rel=0.03)


def length_of_a_heavy_gradient(clip):
    """Of a batch in which rows weigh a thousand times as much, relative to that before."""
    vae, generator = new_vae("autoregressive"), torch.Generator().manual_seed(0)
    rows = vae.layout.to_batch(data().T)
    learner = Learner(vae, rows, plan(clip=clip), generator)
    for _ in range(40):
        learner.step(Turn(rows, None, 1, 0.1, False))
    before = learner.weights.gradient.norm().item()
    heavy = rows._replace(weight=torch.full((rows.n_rows,), 1000.0))
    learner.step(Turn(heavy, None, 1, 0.1, False))
    return learner.weights.gradient.norm().item() / before


def test_the_plan_says_how_gradients_of_a_network_are_clipped():
    """Relative to the mean of forty steps, in which gradients became ten times shorter."""
    assert length_of_a_heavy_gradient(0.0) > 500
    assert length_of_a_heavy_gradient(1.4) < 50


def test_the_paper_clips_no_gradient():
    for model, clip in ((TVAESynthesizer(), CLIP), (TVAESynthesizer(**XU2019), 0.0)):
        assert model._plan(1000, 3, any_order=False).clip == clip
