import numpy as np
import pytest
import torch

from sktvae._model.objective import aggregate_divergence, negative_bound, row_terms
from sktvae._model.vae import VAE
from tests.model.conftest import VARIABLES, encoded_rows, some_vae


@pytest.mark.parametrize("dims", [(7,), (6, 9), (6, 5, 9)])
def test_a_gradient_reaches_every_parameter(decoder, dims):
    vae = VAE(VARIABLES, 4, (8, 6), dims, decoder, seed=0)
    with torch.no_grad():  # a slope of outputs that are zero reaches nothing behind them
        for p in vae.parameters():
            p += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()))
        vae.decoder.sigma.clamp_(0.1, 1)
    batch = vae.layout.to_batch(encoded_rows(200, heads=VARIABLES).T)
    negative_bound(vae, batch, torch.randn(200, 4), 2.0)[0].backward()
    for name, p in vae.named_parameters():
        assert p.grad is not None and (p.grad != 0).any(), name


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
    batch = vae.layout.to_batch(encoded_rows(300).T)
    noise = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    charged = lambda floor: negative_bound(vae, batch, noise, 1.0, floor)

    def aggregate():
        mu, std, _ = vae.posterior.moments(batch)
        return aggregate_divergence(mu + noise * std, vae.posterior(batch))

    loss, reconstruction, kl = charged(0.0)
    torch.testing.assert_close(loss, reconstruction + kl)
    assert kl - aggregate() < 1.5
    torch.testing.assert_close(charged(1.5)[0], reconstruction + 1.5 + aggregate())
    # a batch of 300 rows cannot show more than log(300) nats, and is not asked for half of them
    most = np.log(300) / 2 - 1
    torch.testing.assert_close(charged(50.0)[0], reconstruction + most + aggregate())
    # unless three processes have as many of one batch
    shared = negative_bound(vae, batch, noise, 1.0, 50.0, n_ranks=3)[0]
    most = np.log(900) / 2 - 1
    torch.testing.assert_close(shared, reconstruction + most + aggregate())
    with torch.no_grad():
        vae.posterior.output.weight *= 8
    loss, reconstruction, kl = charged(0.0)
    assert kl - aggregate() > 0.5
    torch.testing.assert_close(charged(0.5)[0], loss)


@pytest.mark.parametrize("in_order", [True, False])
def test_the_terms_are_the_same_without_a_gradient(decoder, in_order):
    """They are computed in another way: one variable at a time, if all orders are that of rows."""
    vae = some_vae(decoder).double()
    batch = vae.layout.to_batch(encoded_rows(60, heads=VARIABLES).T)
    noise = torch.randn(60, 4, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    order = None if in_order else vae.decoder.random_order(torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = row_terms(vae, batch, noise, order)
    expected = row_terms(vae, batch, noise, order)
    assert expected.log_prob.requires_grad and not found.log_prob.requires_grad
    torch.testing.assert_close(found, expected)
    assert found.log_prob.dtype == noise.dtype


@pytest.mark.parametrize("rate_floor", [0.0, 0.5, 2.0])
def test_integer_weights_equal_repeated_rows(decoder, rate_floor):
    """The same terms and the same gradients; the floor depends on the number of rows a little."""
    vae = some_vae(decoder).double()
    batch = vae.layout.to_batch(encoded_rows(200, heads=VARIABLES).T)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(200, 4, dtype=torch.double, generator=generator)
    times = torch.randint(1, 4, (200,), generator=generator)
    weighted = batch._replace(weight=times / times.double().mean())
    index = torch.repeat_interleave(times)
    parameters = list(vae.parameters())

    def terms(batch, noise):
        found = negative_bound(vae, batch, noise, 2.0, rate_floor)
        return found, torch.autograd.grad(found[0], parameters)

    one, one_gradient = terms(weighted, noise)
    two, two_gradient = terms(batch.take(index), noise[index])
    plain, _ = terms(batch, noise)
    exact = {"atol": 1e-10, "rtol": 1e-10}
    # floors of log(200) / 2 - 1 and log(400) / 2 - 1 where 2 nats are asked for
    torch.testing.assert_close(
        one[0], two[0], **(exact if rate_floor < 2 else {"atol": 0.4, "rtol": 0})
    )
    torch.testing.assert_close(one[1:], two[1:], **exact)
    torch.testing.assert_close(one_gradient, two_gradient, **exact)
    assert (plain[1] - one[1]).abs() > 1e-3  # the weights matter


def test_the_weighted_aggregate_is_that_of_the_weighted_mixture():
    generator = torch.Generator().manual_seed(0)
    z, mu_logvar = (torch.randn(50, n, dtype=torch.double, generator=generator) for n in (2, 4))
    times = torch.randint(1, 5, (50,), generator=generator)
    index = torch.repeat_interleave(times)
    found = aggregate_divergence(z, mu_logvar, times / times.double().mean())
    torch.testing.assert_close(found, aggregate_divergence(z[index], mu_logvar[index]))
