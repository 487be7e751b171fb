import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sktvae._heads import Categorical
from sktvae._model.layers import Dropout
from sktvae._model.objective import loss_of_terms, negative_bound, row_terms
from sktvae._model.readout import Readout
from sktvae._model.vae import VAE
from sktvae._training.optimizer import FlatWeights
from sktvae._training.step import add_gradient, antithetic_noise, mean_terms, pieces
from tests.model.conftest import VARIABLES, encoded_rows, some_vae
from tests.training.conftest import data, new_vae, plan


def test_parts_of_a_batch_give_its_gradient():
    """Wide heads are computed a few rows at a time: the same loss, the same gradient."""
    vae = new_vae()
    batch, noise = vae.layout.to_batch(data(50).T), torch.randn(50, 3)
    whole = negative_bound(vae, batch, noise, 2.0)[0]
    expected = torch.autograd.grad(whole, list(vae.parameters()))
    parts = list(pieces(vae, batch, noise, max_numbers=8 * vae.numbers_per_row))
    assert [part.n_rows for part, _, _ in parts] == [7] * 7 + [1]
    losses = [share * negative_bound(vae, part, eps, 2.0)[0] for part, eps, share in parts]
    torch.testing.assert_close(sum(losses), whole)
    for ours, theirs in zip(
        torch.autograd.grad(sum(losses), list(vae.parameters())), expected, strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


class NoHostRead(TorchDispatchMode):
    """Fail where a number is read from a tensor, for which the host would wait for the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name()
        if any(word in name for word in ("_local_scalar_dense", "item", "is_nonzero", "nonzero")):
            raise AssertionError(f"{name} reads a number from the device")
        return func(*args, **(kwargs or {}))


def test_what_fails_where_a_number_is_read():
    with NoHostRead():
        for read in (lambda x: x.item(), bool, float, torch.nonzero):
            with pytest.raises(AssertionError, match="reads a number"):
                read(torch.ones(1)[0])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("random", [False, True])
def test_a_step_reads_no_number_from_the_device(decoder, weighted, random):
    vae = some_vae(decoder)
    flat = FlatWeights(vae, 0.1, average=True)
    optimizer = torch.optim.Adam([flat.vector], fused=True)
    batch = vae.layout.to_batch(encoded_rows(100, heads=VARIABLES).T)
    if weighted:
        batch = batch._replace(weight=torch.ones(100))
    readout = Readout(vae.layout, vae.embedding_dim, batch)
    settings = plan(rate_floor=1.0, readout=1.0)
    generator = torch.Generator().manual_seed(0)
    order = vae.decoder.random_order(generator) if random else None
    for _ in range(2):  # the second step once the state of the optimiser exists
        with NoHostRead():
            flat.vector.grad.zero_()
            noise = antithetic_noise(100, vae.embedding_dim, generator)
            terms = add_gradient(vae, batch, noise, settings, order, readout=readout)
        optimizer.step()
        with NoHostRead():
            flat.decay_(0.5)
            vae.project_()
            flat.average_()
    assert torch.isfinite(terms).all() and flat.vector.grad.abs().sum() > 0


def test_the_second_half_of_the_noise_is_the_negative_of_the_first():
    noise = antithetic_noise(5, 2, torch.Generator().manual_seed(0))
    assert noise.shape == (5, 2) and torch.equal(noise[3:], -noise[:2])
    assert noise.unique().numel() == 10


def test_mean_terms_are_those_of_the_pieces(monkeypatch):
    vae = new_vae()
    batch, noise = vae.layout.to_batch(data(50).T), torch.randn(50, 3)
    found = mean_terms(vae, batch, noise, plan(loss_factor=2.0))
    expected = torch.stack(negative_bound(vae, batch, noise, 2.0))
    assert not found.requires_grad
    torch.testing.assert_close(found, expected.detach())


def test_the_gradient_of_a_batch_in_pieces_is_that_of_the_whole():
    """A head of 300,000 categories is computed a few rows at a time."""
    heads = [Categorical(300_000), Categorical(3)]
    rng = np.random.default_rng(0)
    columns = [rng.integers(0, head.n_categories, 20) for head in heads]
    gradients = []
    for whole in (True, False):
        vae = VAE(heads, 2, (4,), (4,), "independent", seed=0)
        batch, noise = vae.layout.to_batch(columns), torch.ones(20, 2)
        settings = plan(rate_floor=0.0)
        assert len(list(pieces(vae, batch, noise))) > 2
        if whole:
            negative_bound(vae, batch, noise, settings.loss_factor)[0].backward()
        else:
            add_gradient(vae, batch, noise, settings)
        gradients.append([p.grad for p in vae.parameters()])
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("extra", [None, "rate_floor", "dropout", "readout", "weight"])
def test_the_independent_decoder_needs_no_graph(extra):
    """Gradients are those of the loss; without extras, nothing is kept for them to be computed."""
    batch, noise = some_batch(40, weight=0.5 if extra == "weight" else None)
    floor = 2.0 if extra == "rate_floor" else 0.0
    found, kept = [], []
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x)
    for automatic in (True, False):
        vae = some_vae()
        readout = Readout(vae.layout, 4, batch) if extra == "readout" else None
        FlatWeights(nn.ModuleDict({"vae": vae} | ({} if readout is None else {"its": readout})))
        parts = {"dropout": None}
        if extra == "dropout":
            parts["dropout"] = Dropout(0.5, torch.Generator().manual_seed(1))
        if automatic:
            rows = row_terms(vae, batch, noise, **parts)
            loss, *others = loss_of_terms(rows, batch.weight, 2.0, floor)
            terms = torch.stack([loss.detach(), *others])
            if readout is not None:
                loss = loss + 0.5 * readout(rows.mu_logvar[:, :4], batch)
            loss.backward()
        else:
            settings = plan(loss_factor=2.0, rate_floor=floor, readout=0.5)
            with hooks, NoHostRead():
                terms = add_gradient(vae, batch, noise, settings, readout=readout, **parts)
        found.append([terms, *(p.grad for p in vae.parameters())])
    assert bool(kept) == (extra is not None)
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


def some_batch(n, weight=None):
    """Rows for `some_vae`, some values missing, and noise for them; all rows of this weight."""
    batch = some_vae().layout.to_batch(encoded_rows(n, heads=VARIABLES).T)
    batch.values[::3] = np.nan
    weights = None if weight is None else torch.full((n,), weight)
    noise = torch.randn(n, 4, generator=torch.Generator().manual_seed(0))
    return batch._replace(weight=weights), noise


@pytest.mark.parametrize("weighted", [False, True])
def test_the_readout_teaches_the_posterior_and_nothing_else(weighted):
    """Gradients of the decoder, and the terms of the bound, are what they are without it."""
    found = []
    for weight in (0.0, 1.0):
        vae, noise = some_vae("autoregressive"), torch.ones(40, 4)
        batch = vae.layout.to_batch(encoded_rows(40, heads=VARIABLES).T)
        if weighted:
            batch = batch._replace(weight=torch.linspace(0.5, 1.5, 40))
        readout = Readout(vae.layout, 4, batch) if weight else None
        if readout is not None:
            with torch.no_grad():
                readout.weight += 0.3
        terms = add_gradient(vae, batch, noise, plan(readout=weight), readout=readout)
        gradients = {name: p.grad for name, p in vae.named_parameters()}
        found.append((terms, gradients))
    (terms, without), (same_terms, with_readout) = found
    torch.testing.assert_close(same_terms, terms, rtol=0, atol=0)
    for name, gradient in without.items():
        is_same = torch.equal(with_readout[name], gradient)
        assert is_same == name.startswith("decoder."), name
