"""The independent decoder and the objective against the paper's formulas, written in numpy."""

import copy

import numpy as np
import pytest
import torch

from sktvae._heads import Categorical, Gaussian
from sktvae._model.objective import negative_bound, row_terms
from sktvae._model.vae import VAE
from tests.model.conftest import encoded_rows, one_hot_rows, weights


def reference(vae, encoded, noise):
    """mu, std, logvar, reconstruction and KL of each row, from the formulas alone."""
    w = weights(vae)
    relu = lambda a: np.maximum(a, 0)
    x = one_hot_rows(encoded)
    h = relu(x @ w["posterior.input.weight"] + w["posterior.input.bias"])
    h = relu(h @ w["posterior.hidden.0.weight"].T + w["posterior.hidden.0.bias"])
    posterior = h @ w["posterior.output.weight"].T + w["posterior.output.bias"]
    mu, logvar = posterior[:, :4], posterior[:, 4:]
    std = np.exp(logvar / 2)
    z = mu + std * noise
    h = relu(z @ w["decoder.hidden.0.weight"].T + w["decoder.hidden.0.bias"])
    h = relu(h @ w["decoder.hidden.2.weight"].T + w["decoder.hidden.2.bias"])
    out = h @ w["decoder.output.weight"].T + w["decoder.output.bias"]
    sigma = w["decoder.sigma"]
    reconstruction = np.zeros(len(x))
    start = 0
    for size in (3, 5, 2):
        logits = out[:, start : start + size]
        softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        reconstruction -= np.log((softmax * x[:, start : start + size]).sum(1))
        start += size
    for g in range(2):
        error = x[:, start + g] - np.tanh(out[:, start + g])
        reconstruction += error**2 / (2 * sigma[g] ** 2) + np.log(sigma[g]) + np.log(2 * np.pi) / 2
    kl = -0.5 * (1 + logvar - mu**2 - np.exp(logvar)).sum(1)
    return mu, std, logvar, reconstruction, kl


def test_terms_are_those_of_the_paper(vae):
    encoded = encoded_rows(50)
    noise = np.random.default_rng(1).normal(size=(50, 4))
    with torch.no_grad():
        for p in vae.parameters():  # weights large enough for every term to matter
            p.mul_(3)
        vae.project_()
    batch, eps = vae.layout.to_batch(encoded.T), torch.tensor(noise, dtype=torch.float32)
    mu, std, logvar, reconstruction, kl = reference(vae, encoded, noise)
    for ours, theirs in zip(vae.posterior.moments(batch), (mu, std, logvar), strict=True):
        np.testing.assert_allclose(ours.detach(), theirs, atol=1e-5, rtol=1e-5)
    terms = row_terms(vae, batch, eps)
    for ours, theirs in ((-terms.log_prob, reconstruction), (terms.kl, kl)):
        np.testing.assert_allclose(ours.detach(), theirs, atol=1e-5, rtol=1e-5)
    loss = negative_bound(vae, batch, eps, loss_factor=2)[0]
    np.testing.assert_allclose(loss.item(), (2 * reconstruction + kl).mean(), rtol=1e-5)


def test_gradients_are_those_of_the_formulas():
    """The closed-form gradients against finite differences, every parameter, missing values too."""
    heads = [Categorical(3), Gaussian(), Categorical(2)]
    vae = VAE(heads, 2, (3,), (4,), "independent", seed=1).double()
    encoded = np.array([[0, 0.5, 1], [2, np.nan, 0], [1, -0.9, 1], [1, 0.1, 0]])
    batch = vae.layout.to_batch(encoded.T)
    noise = torch.randn(4, 2, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    loss = lambda: negative_bound(vae, batch, noise, 2.0)[0]
    loss().backward()
    for name, p in vae.named_parameters():
        numeric = torch.zeros_like(p)
        with torch.no_grad():
            for i in range(p.numel()):
                for sign in (1, -1):
                    p.view(-1)[i] += sign * 1e-6
                    numeric.view(-1)[i] += sign * loss() / 2e-6
                    p.view(-1)[i] -= sign * 1e-6
        torch.testing.assert_close(p.grad, numeric, atol=1e-6, rtol=1e-4, msg=name)


def test_draws_follow_the_softmax_and_the_sigma(vae):
    """Frequencies of 200,000 draws at one z against the decoder's own probabilities."""
    n = 200_000
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(1, 4, generator=generator) * 3
    with torch.no_grad():
        vae.decoder.output.weight.mul_(4)
        vae.decoder.sigma.copy_(torch.tensor([0.05, 0.2]))
        logits, mean = (out[0] for out in vae.decoder(z))
    drawn = vae.draw(z.expand(n, 4), generator)
    start = 0
    for j, size in ((0, 3), (2, 5), (5, 2)):
        expected = torch.softmax(logits[start : start + size], 0)
        frequency = np.bincount(drawn[j], minlength=size) / n
        np.testing.assert_allclose(frequency, expected, atol=0.005)
        start += size
    for g, j in enumerate((1, 4)):
        free = np.abs(drawn[j]) < 1
        if free.all():
            np.testing.assert_allclose(drawn[j].mean(), mean[g], atol=0.005)
            np.testing.assert_allclose(drawn[j].std(), vae.decoder.sigma[g].detach(), rtol=0.02)
    assert drawn[3].min() >= 0 and drawn[3].max() < 1
    np.testing.assert_allclose(drawn[3].mean(), 0.5, atol=0.005)


@pytest.mark.parametrize("heads", [[Categorical(3)], [Gaussian(), Gaussian()]])
def test_tables_of_one_kind_of_head(heads):
    vae = VAE(heads, 2, (4,), (4,), "independent")
    batch = vae.layout.to_batch(encoded_rows(20, heads=heads).T)
    negative_bound(vae, batch, torch.zeros(20, 2))[0].backward()
    assert all((p.grad != 0).any() for p in vae.decoder.output.parameters())
    drawn = copy.deepcopy(vae).draw(torch.zeros(20, 2), torch.Generator().manual_seed(0))
    assert [len(column) for column in drawn] == [20] * len(heads)
