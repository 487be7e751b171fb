import functools

import numpy as np
import pytest
import torch

from sktvae._heads import Categorical, Gaussian
from sktvae._model import autoregressive, layers
from sktvae._model.drawing import draw
from sktvae._model.vae import VAE
from tests.model.conftest import VARIABLES, encoded_rows, enlarge, some_vae


def discrete():
    """An autoregressive decoder of categories alone, with weights large enough to matter."""
    heads = [Categorical(4, 3), Categorical(2, refines=True), Categorical(3), Categorical(2, 0)]
    vae = VAE(heads, 2, (4,), (6, 5, 7), "autoregressive", seed=1).double()
    enlarge(vae.decoder)
    rows = np.array(list(np.ndindex(4, 2, 3, 2)))
    return vae, rows


ORDERS = [None, torch.tensor([2, 0, 1]), torch.tensor([1, 2, 0]), torch.tensor([0, 1, 2])]


@pytest.mark.parametrize("order", ORDERS)
def test_probabilities_of_all_rows_sum_to_one(order):
    """In every order; a variable that saw itself, or what comes after it, would break it."""
    vae, rows = discrete()
    batch = vae.layout.to_batch(rows.T)
    for z in torch.randn(3, 2, dtype=torch.double):
        log_prob = vae.decoder.log_prob(z.expand(len(rows), 2), batch, order)
        assert log_prob.std() > 0.3
        torch.testing.assert_close(log_prob.exp().sum(), torch.ones((), dtype=torch.double))


@pytest.mark.parametrize("order", ORDERS)
def test_draws_follow_log_prob(order):
    """Frequencies of 200,000 draws against the probability of every possible row."""
    vae, rows = discrete()
    n, generator = 200_000, torch.Generator().manual_seed(0)
    z = torch.tensor([[0.5, -1.0]], dtype=torch.double)
    batch = vae.layout.to_batch(rows.T)
    with torch.no_grad():
        p = vae.decoder.log_prob(z.expand(len(rows), 2), batch, order).exp()
    drawn = draw(vae.decoder, z.expand(n, 2), generator, order).codes.numpy() - vae.layout.offsets
    frequency = np.bincount(np.ravel_multi_index(drawn.T, (4, 2, 3, 2)), minlength=48) / n
    np.testing.assert_allclose(frequency, p, atol=0.004)


def test_numbers_follow_their_density():
    """Drawn numbers, of which the second depends on the first, under the density they came from."""
    vae = VAE([Gaussian(), Gaussian()], 2, (4,), (8, 8), "autoregressive", seed=0)
    with torch.no_grad():
        vae.decoder.levels[0].weight *= 3
        vae.decoder.sigma.copy_(torch.tensor([0.3, 0.05]))
    generator = torch.Generator().manual_seed(0)
    z = torch.zeros(1, 2).expand(50_000, 2)
    with torch.no_grad():
        batch = draw(vae.decoder, z, generator)
        inside = (batch.values.abs() < 1).all(1)
        assert inside.float().mean() > 0.9
        log_prob = vae.decoder.log_prob(z, batch)[inside]
    entropy = sum(np.log(s) + 0.5 * np.log(2 * np.pi * np.e) for s in (0.3, 0.05))
    assert abs(-log_prob.mean() - entropy) < 0.05
    assert np.corrcoef(batch.values[inside].T)[0, 1] ** 2 > 0.3


def test_the_state_says_what_is_visible():
    """The same values, seen or not seen, give another likelihood of the last variable."""
    vae, rows = discrete()
    batch = vae.layout.to_batch(rows.T)
    z = torch.zeros(len(rows), 2, dtype=torch.double)
    one, two = (vae.decoder.log_prob(z, batch, order) for order in ORDERS[1:3])
    assert (one - two).abs().max() > 0.1


def test_missing_values_in_a_number_alone():
    vae = VAE([Categorical(3), Gaussian()], 2, (4,), (8,), "autoregressive").double()
    encoded = np.array([[0, np.nan], [1, 0.3]])
    z = torch.zeros(2, 2, dtype=torch.double)
    with torch.no_grad():
        whole = vae.decoder.log_prob(z, vae.layout.to_batch(encoded.T))
    assert torch.isfinite(whole).all()


def test_missing_numbers_are_drawn_as_they_were_learned():
    """After a missing mode no position is drawn, and what follows knows of none."""
    heads = [Categorical(4, n_ordered=3), Gaussian(refines=True), Categorical(3)]
    vae = VAE(heads, 2, (4,), (8, 8), "autoregressive", seed=0)
    with torch.no_grad():
        vae.decoder.value_bias += 2
        for p in vae.decoder.levels.parameters():
            p *= 3
        z = torch.zeros(1, 2)
        drawn = draw(vae.decoder, z.expand(100_000, 2), torch.Generator().manual_seed(0))
        rows = vae.layout.to_batch(np.array([[3, np.nan, k] for k in range(3)]).T)
        expected = torch.softmax(vae.decoder.log_prob(z.expand(3, 2), rows), 0)
    missing = drawn.codes[:, 0] == 3
    assert missing.sum() > 3000
    torch.testing.assert_close(torch.isnan(drawn.values[:, 0]), missing)
    frequency = torch.bincount(drawn.codes[missing, 1] - 4, minlength=3) / missing.sum()
    torch.testing.assert_close(frequency, expected, atol=0.03, rtol=0)


def test_log_prob_at_several_z_is_that_at_each():
    vae = some_vae("autoregressive").double()
    batch = vae.layout.to_batch(encoded_rows(30, heads=vae.layout.heads).T)
    z = torch.randn(4, 30, 4, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = torch.stack([vae.decoder.log_prob(one, batch) for one in z])
        torch.testing.assert_close(vae.decoder.log_prob_draws(z, batch), expected)


@pytest.mark.parametrize("n_orders", [0, 1, 3])
@pytest.mark.parametrize("size", [2, 64])
def test_sums_show_what_products_show(monkeypatch, n_orders, size):
    """Tables of many columns take the same sums in another way: values and gradients."""
    vae = some_vae("autoregressive").double()
    batch = vae.layout.to_batch(encoded_rows(10, heads=VARIABLES).T)
    n_variables = len(vae.layout.variables)
    recorded = np.random.default_rng(0).random((10, n_variables)) < 0.8
    batch = batch._replace(recorded=torch.from_numpy(recorded))
    order = torch.rand(n_orders, n_variables).argsort(dim=1).squeeze(0) if n_orders else None
    z, found = torch.randn(10, vae.embedding_dim, dtype=torch.double), []
    sums = functools.partial(layers.add_sums_before, size=size)
    monkeypatch.setattr(autoregressive, "add_sums_before", sums)
    for most in (256, 0):
        monkeypatch.setattr(autoregressive, "_MOST_IN_PRODUCTS", most)
        vae.zero_grad()
        log_prob = vae.decoder.log_prob(z, batch, order)
        log_prob.square().sum().backward()
        found.append([log_prob.detach(), *(p.grad.clone() for p in vae.decoder.parameters())])
    torch.testing.assert_close(*found)
