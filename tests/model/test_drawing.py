import numpy as np
import pytest
import torch

from sktvae._heads import Categorical, Gaussian
from sktvae._model.decoder import CACHED_ROWS
from sktvae._model.drawing import calibration_shift, draw, shift_to_frequency
from sktvae._model.vae import VAE
from tests.model.conftest import encoded_rows, enlarge, some_vae, weights


def standard_normal(n, dim, seed=0):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def uniform_frequencies(layout):
    return torch.cat([torch.full((n,), 1 / n) for n in layout.sizes])


def test_drawing_changes_no_weight(decoder):
    vae = some_vae(decoder)
    before = {name: w.copy() for name, w in weights(vae).items()}
    z, generator = standard_normal(500, 4), torch.Generator().manual_seed(1)
    drawn = draw(vae.decoder, z, generator)
    shift = calibration_shift(vae.decoder, z, uniform_frequencies(vae.layout), generator)
    assert drawn.n_rows == 500 and shift.abs().max() > 0.1
    for name, w in weights(vae).items():
        np.testing.assert_array_equal(w, before[name])
    assert all(p.grad is None and p.requires_grad for p in vae.parameters())


def test_the_shift_gives_the_frequencies_asked_for(decoder):
    vae = some_vae(decoder)
    frequency = uniform_frequencies(vae.layout)
    drawn_frequency = lambda: (
        torch.bincount(draw(vae.decoder, z, generator).codes.flatten(), minlength=len(frequency))
        / len(z)
    )
    generator, z = torch.Generator().manual_seed(1), standard_normal(20_000, 4)
    far = (drawn_frequency() - frequency).abs().max()
    vae.decoder.shift_biases_(calibration_shift(vae.decoder, z, frequency, generator))
    near = (drawn_frequency() - frequency).abs().max()
    assert near < 0.02 < 0.1 < far


def test_shift_of_logits():
    logits = standard_normal(1000, 3)
    frequency = torch.tensor([0.7, 0.3, 0.0])
    shifted = torch.softmax(logits + shift_to_frequency(logits, frequency, rounds=20), dim=1)
    torch.testing.assert_close(shifted.mean(0), frequency, atol=1e-4, rtol=0)


def test_positions_are_missing_where_their_mode_is(decoder):
    heads = [Categorical(3, n_ordered=2), Gaussian(refines=True), Gaussian()]
    vae = VAE(heads, 2, (4,), (8,), decoder)
    batch = draw(vae.decoder, standard_normal(500, 2), torch.Generator().manual_seed(0))
    missing = batch.codes[:, 0] == 2
    assert 0 < missing.sum() < 500
    assert torch.equal(torch.isnan(batch.values[:, 0]), missing)
    assert not torch.isnan(batch.values[:, 1]).any()


@pytest.mark.parametrize("random", [False, True])
def test_a_walk_with_all_columns_given_has_their_likelihood(decoder, random):
    """The outputs of a walk that is given the columns of rows are those that `log_prob` uses."""
    vae = some_vae(decoder).double()
    encoded = encoded_rows(40, heads=vae.layout.heads)
    batch = vae.layout.to_batch(encoded.T)
    z = standard_normal(40, 4).double()
    order = vae.decoder.random_order(torch.Generator().manual_seed(5)) if random else None
    total = 0
    with torch.no_grad():
        walk = vae.decoder.walk(z, order)
        for j in walk.heads:
            column = torch.tensor(encoded[:, j])
            out = walk.output(j)
            if vae.layout.is_categorical(j):
                code = column.long()
                total = total + torch.log_softmax(out, 1).gather(1, code[:, None])[:, 0]
                walk.take(j, code)
            else:
                sigma = vae.decoder.sigma[vae.layout.slot[j]]
                total = total + torch.distributions.Normal(out, sigma).log_prob(column.float())
                walk.take(j, column.float().double())
        torch.testing.assert_close(total, vae.decoder.log_prob(z, batch, order))
    taken = walk.batch()
    assert torch.equal(taken.codes, batch.codes) and taken.codes.dtype == batch.codes.dtype
    assert torch.equal(taken.values.float(), batch.values)


@pytest.mark.parametrize("dims", [(6,), (6, 9), (6, 5, 4, 9)])
def test_walks_compute_the_shared_layers_of_any_number(dims):
    """Their biases are moved into the normalisation, which must not change what comes out."""
    vae = VAE([Categorical(3), Categorical(2)], 2, (4,), dims, "autoregressive").double()
    enlarge(vae)
    state = torch.randn(50, 6, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    before = state.clone()
    with torch.no_grad():
        found = vae.decoder.drawing_layers().shared(state)
        torch.testing.assert_close(found, vae.decoder.shared(state))
    assert torch.equal(state, before)


@pytest.mark.parametrize("is_known", [False, True])
def test_walks_of_many_rows_are_those_of_few(is_known):
    """Rows that are computed in several blocks, as in calibration."""
    vae = some_vae("autoregressive").double()
    n_rows = 2 * CACHED_ROWS + 5
    rng = np.random.default_rng(0)
    rows = vae.layout.to_batch(encoded_rows(n_rows, heads=vae.layout.heads).T)
    rows = rows._replace(values=rows.values.double())
    recorded = torch.from_numpy(rng.random((n_rows, len(vae.layout.variables))) < 0.5)
    known = rows._replace(recorded=recorded) if is_known else None
    z = standard_normal(n_rows, 4).double()
    ends = slice(0, 9), slice(n_rows - 9, n_rows)
    with torch.no_grad():
        whole = vae.decoder.walk(z, given=known)
        parts = [vae.decoder.walk(z[end], given=known and known.rows(end)) for end in ends]
        assert all(part.heads == whole.heads for part in parts)
        for j in whole.heads:
            out, slot = whole.output(j), vae.layout.slot[j]
            assert out.std(dim=0).max() > 0.01
            if vae.layout.is_categorical(j):
                taken = rows.codes[:, slot].long() - vae.layout.span(j).start
            else:
                taken = rows.values[:, slot]
            whole.take(j, taken)
            for walk, end in zip(parts, ends, strict=True):
                torch.testing.assert_close(walk.output(j), out[end])
                walk.take(j, taken[end])


def test_shift_of_logits_of_which_one_is_nearly_certain():
    """Three rounds of fitting leave frequencies that are off by 0.14."""
    logits = 5 * standard_normal(5000, 3)
    frequency = torch.tensor([0.7, 0.25, 0.05])
    shifted = torch.softmax(logits + shift_to_frequency(logits, frequency), dim=1)
    torch.testing.assert_close(shifted.mean(0), frequency, atol=1e-3, rtol=0)
