import copy
import pickle
import threading

import numpy as np
import pytest
import torch

from sktvae._model.objective import row_terms
from sktvae._model.vae import SIGMA_RANGE, VAE
from tests.model.conftest import HEADS, encoded_rows, some_vae, weights


def test_sigma_stays_in_its_range(vae):
    with torch.no_grad():
        vae.decoder.sigma.copy_(torch.tensor([5.0, -1.0]))
    vae.project_()
    np.testing.assert_allclose(vae.decoder.sigma.detach(), SIGMA_RANGE[::-1])


def test_bound_is_below_and_tightens(vae):
    """More draws give a higher bound on average (Burda et al. 2016, theorem 1)."""
    vae = copy.deepcopy(vae).double()
    batch = vae.layout.to_batch(encoded_rows(300).T)
    noise = torch.randn(256, 4, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    bounds = [
        np.mean([vae.log_prob_bound(batch, noise[i : i + k]).mean() for i in range(0, 256, k)])
        for k in (1, 4, 16, 256)
    ]
    assert bounds == sorted(bounds)
    terms = [row_terms(vae, batch, e.expand(300, 4)) for e in noise]
    elbo = np.mean([(t.log_prob - t.kl).mean().item() for t in terms])
    assert abs(elbo - bounds[0]) < 0.2 and elbo < bounds[1]


def test_the_bound_of_a_row_does_not_depend_on_the_others(decoder):
    vae = some_vae(decoder).double()
    batch = vae.layout.to_batch(encoded_rows(400, heads=vae.layout.heads).T)
    noise = torch.randn(16, 4, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    whole = vae.log_prob_bound(batch, noise)
    for rows in (slice(0, 1), slice(7, 60), slice(399, 400)):
        alone = vae.log_prob_bound(batch.rows(rows), noise)
        torch.testing.assert_close(alone, whole[rows], atol=0, rtol=1e-10)


def test_pickled_as_plain_arrays(vae):
    text = pickle.dumps(vae)
    assert b"_rebuild_tensor" not in text and b"cuda" not in text
    batch = vae.layout.to_batch(encoded_rows(5).T)
    for other in (pickle.loads(text), copy.deepcopy(vae)):
        torch.testing.assert_close(other.posterior_mean(batch), vae.posterior_mean(batch))
        other.decoder.sigma.data.fill_(0.5)
        assert (vae.decoder.sigma != 0.5).all()


def test_the_global_random_state_is_neither_read_nor_changed(decoder):
    """By making a network, by pickling it and by drawing from it."""
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        vae = VAE(HEADS, 4, (8,), (8, 8, 8), decoder, seed=5)
        loaded = pickle.loads(pickle.dumps(vae))
        drawn = loaded.draw(torch.zeros(50, 4), torch.Generator().manual_seed(0))
        assert torch.equal(torch.get_rng_state(), before)
        found.append((weights(vae), weights(loaded), drawn))
    for one, two in zip(*found, strict=True):
        pairs = zip(*(x.values() if isinstance(x, dict) else x for x in (one, two)), strict=True)
        for a, b in pairs:
            np.testing.assert_array_equal(a, b)


def test_the_seed_decides_the_initial_weights(decoder):
    one, two, other = (weights(VAE(HEADS, 4, (8,), (8,), decoder, seed=s)) for s in (5, 5, 6))
    for name, w in one.items():
        np.testing.assert_array_equal(w, two[name])
    assert any((one[name] != other[name]).any() for name in one)


@pytest.mark.parametrize("n_threads", [4])
def test_networks_made_in_threads_are_those_made_alone(decoder, n_threads):
    made, start = [], threading.Barrier(n_threads)

    def make():
        start.wait()
        made.extend(weights(VAE(HEADS, 4, (64,), (64, 64, 64), decoder, 5)) for _ in range(5))

    alone = weights(VAE(HEADS, 4, (64,), (64, 64, 64), decoder, 5))
    threads = [threading.Thread(target=make) for _ in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 5 * n_threads
    for one in made:
        for name, w in alone.items():
            np.testing.assert_array_equal(one[name], w)
