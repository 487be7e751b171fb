"""The core against the paper's formulas, written out again in numpy."""

import copy
import pickle

import numpy as np
import pytest
import torch

from sktvae._autoregressive import position_features
from sktvae._decoders import exponentials
from sktvae._heads import Categorical, Gaussian, Uniform
from sktvae._layout import Layout
from sktvae._vae import (
    SIGMA_RANGE,
    VAE,
    InputLayer,
    aggregate_divergence,
    negative_bound,
)

HEADS = [Categorical(3), Gaussian(), Categorical(5), Uniform(), Gaussian(), Categorical(2)]


def encoded_rows(n, seed=0, heads=HEADS):
    rng = np.random.default_rng(seed)
    columns = {
        Categorical: lambda h: rng.integers(0, h.n_categories, n),
        Gaussian: lambda h: rng.uniform(-1, 1, n),
        Uniform: lambda h: rng.random(n),
    }
    return np.column_stack([columns[type(head)](head) for head in heads])


@pytest.fixture
def vae():
    return VAE(HEADS, 4, (8, 6), (7, 9), "independent", seed=0)


def weights(vae):
    return {name: p.detach().double().numpy() for name, p in vae.named_parameters()}


def one_hot_rows(encoded):
    """The dense rows of the paper: one-hot categories of all heads, then the Gaussian values."""
    codes = [
        np.eye(head.n_categories)[encoded[:, j].astype(int)]
        for j, head in enumerate(HEADS)
        if isinstance(head, Categorical)
    ]
    values = [encoded[:, [j]] for j, head in enumerate(HEADS) if isinstance(head, Gaussian)]
    return np.hstack(codes + values)


def reference(vae, encoded, noise):
    """mu, std, logvar, reconstruction and KL of each row, from the formulas alone."""
    w = weights(vae)
    relu = lambda a: np.maximum(a, 0)
    x = one_hot_rows(encoded)
    h = relu(x @ w["encoder.input.weight"] + w["encoder.input.bias"])
    h = relu(h @ w["encoder.hidden.0.weight"].T + w["encoder.hidden.0.bias"])
    posterior = h @ w["encoder.posterior.weight"].T + w["encoder.posterior.bias"]
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
    batch, eps = vae.layout.to_batch(encoded), torch.tensor(noise, dtype=torch.float32)
    mu, std, logvar, reconstruction, kl = reference(vae, encoded, noise)
    for ours, theirs in zip(vae.encoder(batch), (mu, std, logvar), strict=True):
        np.testing.assert_allclose(ours.detach(), theirs, atol=1e-5, rtol=1e-5)
    for ours, theirs in zip(vae(batch, eps), (reconstruction, kl), strict=True):
        np.testing.assert_allclose(ours.detach(), theirs, atol=1e-5, rtol=1e-5)
    loss = negative_bound(vae, batch, eps, loss_factor=2)[0]
    np.testing.assert_allclose(loss.item(), (2 * reconstruction + kl).mean(), rtol=1e-5)


@pytest.mark.parametrize("widest", [0, 10_000])
def test_one_hot_times_linear_is_the_embedding_sum(widest):
    """Both ways of computing the input layer equal a plain linear layer on dense rows."""
    layer = InputLayer(Layout(HEADS), 6, widest)
    encoded = encoded_rows(40)
    dense = torch.tensor(one_hot_rows(encoded), dtype=torch.float32)
    ours = layer(Layout(HEADS).to_batch(encoded))
    torch.testing.assert_close(ours, dense @ layer.weight + layer.bias, atol=1e-6, rtol=1e-5)
    ours.square().sum().backward()
    slope = 2 * dense.T @ (dense @ layer.weight + layer.bias)
    torch.testing.assert_close(layer.weight.grad, slope.detach(), atol=1e-4, rtol=1e-4)


def test_gradients_are_those_of_the_formulas():
    """The closed-form gradients against finite differences, every parameter, missing values too."""
    heads = [Categorical(3), Gaussian(), Categorical(2)]
    vae = VAE(heads, 2, (3,), (4,), "independent", seed=1).double()
    encoded = np.array([[0, 0.5, 1], [2, np.nan, 0], [1, -0.9, 1], [1, 0.1, 0]])
    batch = vae.layout.to_batch(encoded)
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


# A variable of each kind that the autoregressive decoder knows: a coarse and a fine bin with a code
# for missing values, a mode and a position in it, plain categories, a number alone.
VARIABLES = [
    Categorical(4, n_ordered=3),
    Categorical(3, n_ordered=3, refines=True),
    Uniform(),
    Categorical(2),
    Categorical(3, n_ordered=3),
    Gaussian(refines=True),
    Gaussian(),
    Categorical(5),
]


@pytest.mark.parametrize("decoder", ["independent", "autoregressive"])
@pytest.mark.parametrize("dims", [(7,), (6, 9), (6, 5, 9)])
def test_a_gradient_reaches_every_parameter(decoder, dims):
    vae = VAE(VARIABLES, 4, (8, 6), dims, decoder, seed=0)
    with torch.no_grad():  # a slope of outputs that are zero reaches nothing behind them
        for p in vae.parameters():
            p += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()))
        vae.decoder.sigma.clamp_(0.1, 1)
    batch = vae.layout.to_batch(encoded_rows(200, heads=VARIABLES))
    negative_bound(vae, batch, torch.randn(200, 4), 2.0)[0].backward()
    for name, p in vae.named_parameters():
        assert p.grad is not None and (p.grad != 0).any(), name


def test_heads_far_apart_do_not_underflow():
    membership = torch.nn.functional.one_hot(torch.tensor([0, 0, 1, 1])).float()
    logits = torch.tensor([[500.0, 499.0, -500.0, -501.0]])
    exp, total, top = exponentials(logits, membership)
    log_norm = total.log() + top
    expected = [logits[0, :2].logsumexp(0), logits[0, 2:].logsumexp(0)]
    torch.testing.assert_close(log_norm[0], torch.stack(expected))
    assert torch.isfinite(exp).all()


def test_sigma_stays_in_its_range(vae):
    with torch.no_grad():
        vae.decoder.sigma.copy_(torch.tensor([5.0, -1.0]))
    vae.project_()
    np.testing.assert_allclose(vae.decoder.sigma.detach(), SIGMA_RANGE[::-1])


def test_draws_follow_the_softmax_and_the_sigma(vae):
    """Frequencies of 200,000 draws at one z against the decoder's own probabilities."""
    n = 200_000
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(1, 4, generator=generator) * 3
    with torch.no_grad():
        vae.decoder.output.weight.mul_(4)
        vae.decoder.sigma.copy_(torch.tensor([0.05, 0.2]))
        out = vae.decoder(z)[0]
    drawn = vae.draw(z.expand(n, 4), generator)
    start = 0
    for j, size in ((0, 3), (2, 5), (5, 2)):
        expected = torch.softmax(out[start : start + size], 0)
        frequency = np.bincount(drawn[:, j].astype(int), minlength=size) / n
        np.testing.assert_allclose(frequency, expected, atol=0.005)
        start += size
    for g, j in enumerate((1, 4)):
        free = np.abs(drawn[:, j]) < 1
        if free.all():
            np.testing.assert_allclose(drawn[:, j].mean(), torch.tanh(out[10 + g]), atol=0.005)
            np.testing.assert_allclose(drawn[:, j].std(), vae.decoder.sigma[g].detach(), rtol=0.02)
    assert drawn[:, 3].min() >= 0 and drawn[:, 3].max() < 1
    np.testing.assert_allclose(drawn[:, 3].mean(), 0.5, atol=0.005)


def test_bound_is_below_and_tightens(vae):
    """More draws give a higher bound on average (Burda et al. 2016, theorem 1)."""
    vae = copy.deepcopy(vae).double()
    batch = vae.layout.to_batch(encoded_rows(300))
    noise = torch.randn(256, 4, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    bounds = [
        np.mean([vae.log_prob_bound(batch, noise[i : i + k]).mean() for i in range(0, 256, k)])
        for k in (1, 4, 16, 256)
    ]
    assert bounds == sorted(bounds)
    elbo = np.mean([-(sum(vae(batch, e.expand(300, 4)))).mean().item() for e in noise])
    assert abs(elbo - bounds[0]) < 0.2 and elbo < bounds[1]


def test_pickled_as_plain_arrays(vae):
    text = pickle.dumps(vae)
    assert b"_rebuild_tensor" not in text and b"cuda" not in text
    batch = vae.layout.to_batch(encoded_rows(5))
    for other in (pickle.loads(text), copy.deepcopy(vae)):
        torch.testing.assert_close(other.posterior_mean(batch), vae.posterior_mean(batch))
        other.decoder.sigma.data.fill_(0.5)
        assert (vae.decoder.sigma != 0.5).all()


def test_initial_weights_leave_the_global_state_alone():
    before = torch.get_rng_state()
    one, two = (VAE(HEADS, 4, (8,), (8,), "independent", seed=5) for _ in range(2))
    torch.testing.assert_close(torch.get_rng_state(), before)
    torch.testing.assert_close(weights(one), weights(two))


def discrete():
    """An autoregressive decoder of categories alone, with weights large enough to matter."""
    heads = [Categorical(4, 3), Categorical(2, refines=True), Categorical(3), Categorical(2, 0)]
    vae = VAE(heads, 2, (4,), (6, 5, 7), "autoregressive", seed=1).double()
    with torch.no_grad():
        for p in vae.decoder.parameters():
            generator = torch.Generator().manual_seed(p.numel())
            p += 0.7 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    rows = np.array(list(np.ndindex(4, 2, 3, 2)))
    return vae, rows


ORDERS = [None, torch.tensor([2, 0, 1]), torch.tensor([1, 2, 0]), torch.tensor([0, 1, 2])]


@pytest.mark.parametrize("order", ORDERS)
def test_probabilities_of_all_rows_sum_to_one(order):
    """In every order; a variable that saw itself, or what comes after it, would break it."""
    vae, rows = discrete()
    batch = vae.layout.to_batch(rows)
    for z in torch.randn(3, 2, dtype=torch.double):
        log_prob = vae.decoder.log_prob(z.expand(len(rows), 2), batch, order)
        assert log_prob.std() > 0.3
        torch.testing.assert_close(log_prob.exp().sum(), torch.ones((), dtype=torch.double))


@pytest.mark.parametrize("order", ORDERS)
def test_autoregressive_draws_follow_log_prob(order):
    """Frequencies of 200,000 draws against the probability of every possible row."""
    vae, rows = discrete()
    n, generator = 200_000, torch.Generator().manual_seed(0)
    z = torch.tensor([[0.5, -1.0]], dtype=torch.double)
    batch = vae.layout.to_batch(rows)
    with torch.no_grad():
        p = vae.decoder.log_prob(z.expand(len(rows), 2), batch, order).exp()
        drawn = vae.decoder.draw(z.expand(n, 2), generator, order).codes.numpy() - vae.layout.first
    frequency = np.bincount(np.ravel_multi_index(drawn.T, (4, 2, 3, 2)), minlength=48) / n
    np.testing.assert_allclose(frequency, p, atol=0.004)


def test_autoregressive_numbers_follow_their_density():
    """Drawn numbers, of which the second depends on the first, under the density they came from."""
    vae = VAE([Gaussian(), Gaussian()], 2, (4,), (8, 8), "autoregressive", seed=0)
    with torch.no_grad():
        vae.decoder.levels[0].weight *= 3
        vae.decoder.sigma.copy_(torch.tensor([0.3, 0.05]))
    generator = torch.Generator().manual_seed(0)
    z = torch.zeros(1, 2).expand(50_000, 2)
    with torch.no_grad():
        batch = vae.decoder.draw(z, generator)
        inside = (batch.values.abs() < 1).all(1)
        assert inside.float().mean() > 0.9
        log_prob = vae.decoder.log_prob(z, batch)[inside]
    entropy = sum(np.log(s) + 0.5 * np.log(2 * np.pi * np.e) for s in (0.3, 0.05))
    assert abs(-log_prob.mean() - entropy) < 0.05
    assert np.corrcoef(batch.values[inside].T)[0, 1] ** 2 > 0.3


def test_the_state_says_what_is_visible():
    """The same values, seen or not seen, give another likelihood of the last variable."""
    vae, rows = discrete()
    batch = vae.layout.to_batch(rows)
    z = torch.zeros(len(rows), 2, dtype=torch.double)
    one, two = (vae.decoder.log_prob(z, batch, order) for order in ORDERS[1:3])
    assert (one - two).abs().max() > 0.1


def test_missing_values_in_a_number_alone():
    vae = VAE([Categorical(3), Gaussian()], 2, (4,), (8,), "autoregressive").double()
    encoded = np.array([[0, np.nan], [1, 0.3]])
    z = torch.zeros(2, 2, dtype=torch.double)
    with torch.no_grad():
        whole = vae.decoder.log_prob(z, vae.layout.to_batch(encoded))
    assert torch.isfinite(whole).all()


def test_near_positions_have_near_features():
    place = torch.linspace(0, 1, 513)
    features = position_features(place)
    assert features.shape == (513, 13)
    near = (features[1:] - features[:-1]).norm(dim=1).max()
    far = torch.cdist(features, features)[(place[:, None] - place).abs() > 0.02].min()
    assert near < 0.5 * far


def test_aggregate_divergence_is_that_of_the_mixture():
    """Posteriors at -1 and +1 in one dimension: against the integral over their mixture."""
    n, std = 4000, 0.5
    mu = torch.tensor([-1.0, 1.0], dtype=torch.double).repeat(n // 2)[:, None]
    parameters = torch.cat([mu, torch.full_like(mu, 2 * np.log(std))], dim=1)
    noise = torch.randn(n, 1, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    x = np.linspace(-6, 6, 10_001)
    density = lambda m, s: np.exp(-((x - m) ** 2) / (2 * s**2)) / (s * np.sqrt(2 * np.pi))
    mixture = (density(-1, std) + density(1, std)) / 2
    expected = np.sum(mixture * np.log(mixture / density(0, 1))) * (x[1] - x[0])
    found = aggregate_divergence(mu + std * noise, parameters).item()
    assert abs(found - expected) < 0.03
    standard = torch.zeros(n, 2, dtype=torch.double)
    assert abs(aggregate_divergence(noise, standard).item()) < 1e-9


def test_a_rate_floor_frees_information_and_no_more(vae):
    """Under the floor only the divergence of the aggregate is charged, above it the whole KL."""
    batch = vae.layout.to_batch(encoded_rows(300))
    noise = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    charged = lambda floor: negative_bound(vae, batch, noise, 1.0, floor)
    aggregate = lambda: aggregate_divergence(
        vae.encoder(batch)[0] + noise * vae.encoder(batch)[1], vae.encoder.parameters_of(batch)
    )
    loss, reconstruction, kl = charged(0.0)
    torch.testing.assert_close(loss, reconstruction + kl)
    assert kl - aggregate() < 1.5
    torch.testing.assert_close(charged(1.5)[0], reconstruction + 1.5 + aggregate())
    # a batch of 300 rows cannot show more than log(300) nats, and is not asked for half of them
    most = np.log(300) / 2 - 1
    torch.testing.assert_close(charged(50.0)[0], reconstruction + most + aggregate())
    with torch.no_grad():
        vae.encoder.posterior.weight *= 8
    loss, reconstruction, kl = charged(0.0)
    assert kl - aggregate() > 0.5
    torch.testing.assert_close(charged(0.5)[0], loss)


def test_missing_numbers_are_drawn_as_they_were_learned():
    """After a missing mode no position is drawn, and what follows knows of none."""
    heads = [Categorical(4, n_ordered=3), Gaussian(refines=True), Categorical(3)]
    vae = VAE(heads, 2, (4,), (8, 8), "autoregressive", seed=0)
    with torch.no_grad():
        vae.decoder.value_bias += 2
        for p in vae.decoder.levels.parameters():
            p *= 3
        z = torch.zeros(1, 2)
        drawn = vae.decoder.draw(z.expand(100_000, 2), torch.Generator().manual_seed(0))
        rows = vae.layout.to_batch(np.array([[3, np.nan, k] for k in range(3)]))
        expected = torch.softmax(vae.decoder.log_prob(z.expand(3, 2), rows), 0)
    missing = drawn.codes[:, 0] == 3
    assert missing.sum() > 3000
    torch.testing.assert_close(torch.isnan(drawn.values[:, 0]), missing)
    frequency = torch.bincount(drawn.codes[missing, 1] - 4, minlength=3) / missing.sum()
    torch.testing.assert_close(frequency, expected, atol=0.03, rtol=0)
