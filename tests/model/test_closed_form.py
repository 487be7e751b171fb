"""The closed form of the gradient against automatic differentiation."""

import copy

import numpy as np
import pytest
import torch

from sktvae._heads import Categorical, Gaussian
from sktvae._model.closed_form import add_closed_form, has_closed_form
from sktvae._model.objective import negative_bound
from sktvae._model.vae import VAE
from tests.model.conftest import HEADS, VARIABLES, encoded_rows, enlarge, some_vae

TABLES = {
    "all kinds": HEADS,
    "positions in modes": VARIABLES,
    "categories": [Categorical(3), Categorical(1), Categorical(6)],
    "numbers": [Gaussian(), Gaussian()],
}


def rows(vae, n=40, seed=0):
    """A batch in which a third of the values is missing, and noise for it."""
    batch = vae.layout.to_batch(encoded_rows(n, seed, vae.layout.heads).T)
    generator = torch.Generator().manual_seed(seed)
    batch.values[torch.rand(batch.values.shape, generator=generator) < 1 / 3] = np.nan
    noise = torch.randn(n, vae.embedding_dim, generator=generator)
    return batch, noise.to(vae.decoder.sigma.dtype)


def with_gradients(vae):
    """The network, in which the gradient of each parameter is one."""
    for p in vae.parameters():
        p.grad = torch.ones_like(p)
    return vae


def both(vae, batch, noise, loss_factor=2.0, share=0.3):
    """Terms and gradients, in closed form and by automatic differentiation; both add to ones."""
    found = []
    for _ in range(2):
        network = with_gradients(copy.deepcopy(vae).to(vae.decoder.sigma.dtype))
        if not found:
            terms = add_closed_form(network, batch, noise, loss_factor, share)
        else:
            loss, *others = negative_bound(network, batch, noise, loss_factor)
            (share * loss).backward()
            terms = torch.stack([loss.detach(), *others])
        found.append((terms, {name: p.grad - 1 for name, p in network.named_parameters()}))
    return found


def assert_equal(ours, theirs, rtol):
    torch.testing.assert_close(ours[0], theirs[0], rtol=rtol, atol=0)
    for name, expected in theirs[1].items():
        error = (ours[1][name] - expected).norm()
        assert error <= rtol * expected.norm(), f"{name}: {error}"


@pytest.mark.parametrize("dims", [((8, 6), (6, 5, 9)), ((7,), (5,))])
@pytest.mark.parametrize("table", TABLES)
def test_gradients_are_those_of_automatic_differentiation(table, dims):
    vae = VAE(TABLES[table], 4, *dims, "independent")
    enlarge(vae, 0.4)
    vae.project_()
    batch, noise = rows(vae.double())
    ours, theirs = both(vae, batch, noise)
    assert all(gradient.norm() > 0 for gradient in theirs[1].values() if gradient.numel())
    assert_equal(ours, theirs, 1e-10)


def test_gradients_in_single_precision():
    vae = VAE(HEADS, 16, (64, 64), (64, 64), "independent")
    assert_equal(*both(vae, *rows(vae, 500), share=1.0), 1e-5)


@pytest.mark.parametrize("shift", [-300.0, 300.0])
@pytest.mark.parametrize("n_heads", [1, 2])
def test_logits_beyond_the_range_of_exponentials(shift, n_heads):
    """exp(300) and exp(-300) are infinite and zero in single precision."""
    vae = VAE([Categorical(3)] * 2, 4, (8,), (8,), "independent")
    with torch.no_grad():
        vae.decoder.output.bias[: 3 * n_heads] += shift
    ours, theirs = both(vae, *rows(vae), share=1.0)
    assert all(gradient.isfinite().all() for gradient in theirs[1].values())
    assert_equal(ours, theirs, 1e-4)


def test_where_there_is_a_closed_form():
    new = lambda *args: with_gradients(VAE(*args, "independent"))
    vae = some_vae()
    batch, _ = rows(vae)
    assert not has_closed_form(vae, batch)
    assert has_closed_form(with_gradients(vae), batch)
    assert not has_closed_form(vae, batch._replace(weight=torch.ones(40)))
    recorded = torch.ones(40, len(vae.layout.variables), dtype=torch.bool)
    assert not has_closed_form(vae, batch._replace(recorded=recorded))
    assert not has_closed_form(with_gradients(some_vae("autoregressive")), batch)
    assert not has_closed_form(new(VARIABLES, 0, (8,), (8,)), batch)
    wide = new([Categorical(2000)], 2, (8,), (8,))  # no dense rows
    assert not has_closed_form(wide, rows(wide)[0])
