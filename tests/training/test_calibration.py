import numpy as np
import pytest
import torch

from sktvae._heads import Categorical, Gaussian
from sktvae._model.layout import Layout
from sktvae._model.vae import VAE
from sktvae._training.calibration import calibrate_, calibrate_any_order_, frequencies
from tests.training.conftest import fit


def test_calibration_gives_the_frequencies_of_the_data(decoder):
    """Even an untrained decoder then draws each category as often as the data have it."""
    heads = [Categorical(3), Categorical(4, n_ordered=4), Categorical(2, refines=True)]
    rng = np.random.default_rng(0)
    shares = [0.7, 0.2, 0.1], [0.1, 0.6, 0.05, 0.25], [0.9, 0.1]
    rows = np.column_stack([rng.choice(len(p), 5000, p=p) for p in shares])
    frequency = lambda t: np.bincount(t.astype(int), minlength=4) / len(t)
    far = []
    for calibrate in (False, True):
        vae = VAE(heads, 3, (8,), (8,), decoder, seed=3)
        fit(vae, rows, epochs=1, learning_rate=1e-9, calibrate=calibrate)
        generator = torch.Generator().manual_seed(1)
        drawn = vae.draw(torch.randn(20_000, 3, generator=generator), generator)
        pairs = zip(drawn, rows.T, strict=True)
        far.append(max(np.abs(frequency(d) - frequency(r)).max() for d, r in pairs))
    assert far[1] < 0.02 < 0.1 < far[0]


def test_categories_of_held_out_rows_alone_do_not_vanish():
    vae = VAE([Categorical(3)], 2, (8,), (8,), "autoregressive")
    seen, held = np.repeat([[0], [1]], 450, axis=0), np.full((100, 1), 2)
    fit(vae, seen, held, calibrate=True, epochs=3)
    generator = torch.Generator().manual_seed(0)
    (drawn,) = vae.draw(torch.randn(20_000, 2, generator=generator), generator)
    np.testing.assert_allclose(np.bincount(drawn) / 20_000, [0.45, 0.45, 0.1], atol=0.02)


@pytest.mark.parametrize("parts", [1, 3])
def test_frequencies_count_weights(parts):
    layout = Layout([Categorical(3), Gaussian(), Categorical(2)])
    rng = np.random.default_rng(0)
    columns = [rng.integers(0, 2, 90), rng.random(90), rng.integers(0, 2, 90)]
    times = torch.tensor(rng.integers(1, 4, 90))
    batch = layout.to_batch(columns)
    weighted = batch._replace(weight=(times / times.double().mean()).float())
    split = [weighted.rows(slice(i, None, parts)) for i in range(parts)]
    found = frequencies(split, layout)
    expected = frequencies([batch.take(torch.repeat_interleave(times))], layout)
    torch.testing.assert_close(found, expected)
    assert found[2] == 0 and found.dtype == torch.float32
    torch.testing.assert_close(found[:3].sum(), torch.ones(()))
    assert (found - frequencies([batch], layout)).abs().max() > 0.005


def test_frequencies_of_a_long_table_count_every_row():
    """Rows are counted block by block."""
    layout = Layout([Categorical(3)])
    codes = np.repeat([0, 1, 2], [100_000, 50_000, 50_000])
    found = frequencies([layout.to_batch([codes])], layout)
    torch.testing.assert_close(found, torch.tensor([0.5, 0.25, 0.25]))


def test_numbers_alone_need_no_calibration(decoder):
    vae = VAE([Gaussian()], 2, (8,), (8,), decoder)
    batch = vae.layout.to_batch([np.zeros(10)])
    calibrate_(vae, [batch], torch.Generator())


def test_variables_that_are_not_always_recorded_are_left_as_they_are():
    """Their frequency where they are recorded need not be that in all rows."""
    heads = [Categorical(3), Categorical(4), Categorical(2, refines=True), Categorical(2)]
    vae = VAE(heads, 0, (), (8,), "autoregressive")
    rng = np.random.default_rng(0)
    batch = vae.layout.to_batch([rng.integers(0, head.n_categories, 90) for head in heads])
    recorded = torch.ones(90, 3, dtype=torch.bool)
    recorded[5, 1] = False
    before = vae.decoder.category_bias.clone()
    generator = torch.Generator().manual_seed(0)
    batches = [
        batch._replace(recorded=torch.ones_like(recorded)),
        batch._replace(recorded=recorded),
    ]
    calibrate_any_order_(vae, batches, generator, generator, max_rows=64)
    changed = vae.decoder.category_bias != before
    assert changed.tolist() == [True] * 3 + [False] * 6 + [True] * 2
