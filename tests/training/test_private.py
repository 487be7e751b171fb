"""Private training: what one row can change, the noise, and the choice of the rows."""

import numpy as np
import pytest
import torch

from sktvae._heads import Categorical
from sktvae._model.vae import VAE
from sktvae._training import private
from sktvae._training.private import (
    PrivatePlan,
    _add_clipped_gradients,
    _chosen,
    _uniform_of,
    train_privately,
)

HEADS = (Categorical(3), Categorical(9, n_ordered=8), Categorical(2))
PLAN = PrivatePlan(
    n_steps=3,
    sampling_rate=0.5,
    batch_size=20.0,
    max_grad_norm=0.5,
    noise_multiplier=2.0,
    learning_rate=1e-2,
)


def network(seed=0):
    return VAE(HEADS, 0, (), (8, 6), "autoregressive", seed)


def rows_of(vae, n_rows, seed=0):
    rng = np.random.default_rng(seed)
    return vae.layout.to_batch([rng.integers(0, head.n_categories, n_rows) for head in HEADS])


def clipped_sum(vae, batch, max_numbers=2_000_000):
    for parameter in vae.parameters():
        parameter.grad = torch.zeros_like(parameter)
    _add_clipped_gradients(vae, batch, PLAN.max_grad_norm, max_numbers)
    return torch.cat([p.grad.flatten() for p in vae.parameters()]).double()


def test_no_row_changes_the_sum_by_more_than_the_clipping_norm():
    vae, n_rows = network(), 15
    rows = rows_of(vae, n_rows)
    total = clipped_sum(vae, rows)
    alone = []
    for i in range(n_rows):
        others = rows.take(torch.tensor([j for j in range(n_rows) if j != i]))
        change = total - clipped_sum(vae, others)
        assert change.norm() <= PLAN.max_grad_norm * (1 + 1e-4)
        alone.append(change.norm().item())
    # The gradients are longer than this, so that clipping is what limits them.
    assert min(alone) > 0.99 * PLAN.max_grad_norm


def test_the_sum_does_not_depend_on_the_blocks_it_is_computed_in():
    vae = network()
    rows = rows_of(vae, 40)
    whole, blocks = clipped_sum(vae, rows), clipped_sum(vae, rows, max_numbers=200)
    torch.testing.assert_close(whole, blocks, rtol=1e-5, atol=1e-6)


def test_each_row_takes_part_with_the_same_probability_independently_of_the_others():
    rows = rows_of(network(), 200)
    generator = torch.Generator().manual_seed(0)
    marked = rows._replace(codes=torch.arange(200)[:, None])
    counts, sizes = np.zeros(200), []
    for _ in range(2000):
        chosen = _chosen(marked, 0.1, _uniform_of(generator)).codes[:, 0].numpy()
        assert len(set(chosen)) == len(chosen)
        counts[chosen] += 1
        sizes.append(len(chosen))
    deviation = np.sqrt(0.1 * 0.9)
    assert abs(counts / 2000 - 0.1).max() < 5 * deviation / np.sqrt(2000)
    assert np.std(sizes) == pytest.approx(np.sqrt(200) * deviation, rel=0.1)


def test_the_weights_depend_on_the_rows_through_the_mechanism_alone():
    calls = []

    def nothing_but_noise(total, deviation):
        calls.append((total.norm().item(), deviation))
        return torch.ones_like(total)

    trained = []
    for seed in (0, 1):
        vae = network()
        generator = torch.Generator().manual_seed(seed)
        rows = rows_of(vae, 40, seed)
        train_privately(vae, rows, PLAN, generator=generator, mechanism=nothing_but_noise)
        trained.append(torch.cat([p.detach().flatten() for p in vae.parameters()]))
    assert torch.equal(*trained)
    assert len({length for length, _ in calls}) == 6  # the rows were read
    assert {deviation for _, deviation in calls} == {PLAN.noise_multiplier}


def test_it_learns_without_noise():
    vae = network()
    columns = np.tile([[0, 0, 0], [1, 7, 1]], (50, 1))
    rows = vae.layout.to_batch(columns.T)
    plan = PrivatePlan(150, 1.0, 100.0, 1.0, 0.0, 2e-2)
    train_privately(
        vae,
        rows,
        plan,
        generator=torch.Generator().manual_seed(0),
        mechanism=lambda total, deviation: total,
    )
    with torch.no_grad():
        likelihood = vae.decoder.log_prob(torch.zeros(2, 0), rows.rows(slice(0, 2)))
    assert (likelihood.exp() > 0.4).all()
    assert all(p.grad is None for p in vae.parameters())


def test_a_row_without_a_finite_gradient_is_left_out(monkeypatch):
    """It would make the sum infinite, whatever the noise, and so be seen."""
    vae = network()
    rows = rows_of(vae, 10)
    others = clipped_sum(vae, rows.take(torch.arange(1, 10)))
    original = private.log_prob_and_norms

    def with_infinite(decoder, batch):
        log_prob, norms = original(decoder, batch)
        return log_prob, torch.where((batch.codes == rows.codes[0]).all(1), torch.inf, norms)

    unlike = [(rows.codes[i] != rows.codes[0]).any() for i in range(1, 10)]
    assert all(unlike)
    monkeypatch.setattr(private, "log_prob_and_norms", with_infinite)
    torch.testing.assert_close(clipped_sum(vae, rows), others)


def test_what_is_likely_does_not_become_too_likely():
    """As it would if the gradients of most rows were shortened to the same length."""
    share = 0.8
    vae = VAE((Categorical(2), Categorical(2)), 0, (), (8, 6), "autoregressive", 0)
    rng = np.random.default_rng(0)
    first = rng.integers(0, 2, 4000)
    second = np.where(rng.random(4000) < share, first, 1 - first)
    rows = vae.layout.to_batch([first, second])
    train_privately(
        vae,
        rows,
        PrivatePlan(300, 0.25, 1000.0, None, 0.0, 2e-2),
        generator=torch.Generator().manual_seed(0),
        mechanism=lambda total, deviation: total,
    )
    equal = vae.layout.to_batch([[0, 1], [0, 1]])
    with torch.no_grad():
        joint = vae.decoder.log_prob(torch.zeros(2, 0), equal).exp().sum()
    assert abs(float(joint) - share) < 0.03
