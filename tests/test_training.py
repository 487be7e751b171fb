import numpy as np
import pytest
import torch

from sktvae._heads import Categorical, Gaussian
from sktvae._layout import Batch
from sktvae._training import _batches, _parts, train
from sktvae._vae import VAE, negative_bound

SETTINGS = {
    "epochs": 30,
    "batch_size": 64,
    "learning_rate": 5e-3,
    "l2scale": 0.0,
    "weight_decay": 0.0,
    "loss_factor": 1.0,
    "rate_floor": 0.0,
    "random_orders": 0.0,
    "average": False,
    "calibrate": False,
    "n_iter_no_change": 30,
    "tol": 0.0,
}


def data(n=500, seed=0):
    rng = np.random.default_rng(seed)
    code = rng.integers(0, 3, n)
    return np.column_stack([code, (code + rng.integers(0, 2, n)) % 3, np.tanh(code - 1.0)])


def new_vae():
    return VAE([Categorical(3), Categorical(3), Gaussian()], 3, (16,), (16,), "independent")


def fit(vae, rows, validation=None, **settings):
    to_batch = vae.layout.to_batch
    held = None if validation is None else to_batch(validation)
    generator = torch.Generator().manual_seed(0)
    return train(vae, to_batch(rows), held, generator=generator, **(SETTINGS | settings))


def test_the_loss_falls_and_its_terms_add_up():
    history = fit(new_vae(), data(), loss_factor=2.0)
    assert list(history) == ["loss", "reconstruction", "kl"]
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    np.testing.assert_allclose(
        history["loss"], 2 * np.array(history["reconstruction"]) + history["kl"], rtol=1e-4
    )


def test_history_weighs_rows_equally():
    """The means over batches of 32 and 33 rows are means over 65 rows."""
    vae, rows = new_vae(), data(65)
    history = fit(vae, rows, rows, epochs=1, learning_rate=1e-12)
    np.testing.assert_allclose(history["kl"], history["validation_kl"], rtol=1e-5)
    batch = vae.layout.to_batch(rows)
    noise = torch.zeros(65, 3)
    mean = negative_bound(vae, batch, noise)[0].item()
    each = [
        negative_bound(vae, batch.rows(slice(i, i + 1)), noise[:1])[0].item() for i in range(65)
    ]
    np.testing.assert_allclose(mean, np.mean(each), rtol=1e-5)


def memorised(**settings):
    """A network that fits 30 rows of noise by heart, and the rows it is validated on."""
    vae = VAE([Categorical(30)] * 2, 3, (32,), (32,), "independent")
    rows, held = (
        np.random.default_rng(seed).integers(0, 30, (n, 2)) for seed, n in enumerate((30, 200))
    )
    return vae, held, fit(vae, rows, held, learning_rate=0.02, **settings)


def test_the_best_weights_are_restored():
    """The weights at the end give the least validation loss seen, and not the last one."""
    vae, held, history = memorised(epochs=100, n_iter_no_change=100)
    losses = history["validation_loss"]
    assert min(losses) < losses[-1] - 1  # it does over-fit
    noise = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))  # what `train` drew
    with torch.no_grad():
        now = negative_bound(vae, vae.layout.to_batch(held), noise)[0].item()
    np.testing.assert_allclose(now, min(losses), rtol=1e-5)


def test_early_stopping_waits_as_long_as_told():
    _, _, history = memorised(epochs=500, n_iter_no_change=7)
    losses = history["validation_loss"]
    assert len(losses) < 500
    assert len(losses) - 1 - int(np.argmin(losses)) == 7


def test_the_l2_penalty_shrinks_the_weights():
    norms = []
    for l2scale in (0.0, 0.1):
        vae = new_vae()
        fit(vae, data(), l2scale=l2scale)
        norms.append(sum(p.square().sum().item() for p in vae.parameters()))
    assert norms[1] < 0.5 * norms[0]


def test_weight_decay_is_per_epoch_and_spares_biases():
    """With a learning rate of nothing, weights lose their share of an epoch and biases nothing."""
    sizes = []
    for batch_size in (50, 500):
        vae = new_vae()
        start = {name: p.detach().clone() for name, p in vae.named_parameters()}
        fit(vae, data(), epochs=1, batch_size=batch_size, learning_rate=1e-12, weight_decay=0.3)
        for name, p in vae.named_parameters():
            if p.ndim == 1:
                torch.testing.assert_close(p.detach(), start[name])
        sizes.append((vae.decoder.output.weight / start["decoder.output.weight"]).mean().item())
    np.testing.assert_allclose(sizes, [(1 - 0.3 / 10) ** 10, 0.7], rtol=1e-3)


def test_averaged_weights_are_steadier():
    """The validation loss of averages goes straighter than that of live weights."""
    moves = []
    for average in (False, True):
        history = fit(new_vae(), data(), data(seed=1), average=average, learning_rate=0.03)
        moves.append(np.abs(np.diff(history["validation_loss"][15:], n=2)).mean())
    assert moves[1] < 0.5 * moves[0]


def test_the_gap_shows_what_was_learned_by_heart():
    _, _, history = memorised(epochs=60, n_iter_no_change=60)
    assert abs(history["gap"][0]) < 0.5
    assert history["gap"][-1] > 2


def test_batches_hold_every_row_once_and_are_of_one_size():
    batch = Batch(torch.arange(1003)[:, None], torch.zeros(1003, 0))
    parts = list(_batches(batch, 100, torch.Generator().manual_seed(0)))
    assert {len(part.codes) for _, part in parts} == {91, 92}
    codes = torch.cat([part.codes for _, part in parts])[:, 0]
    assert (codes != torch.arange(1003)).any()
    torch.testing.assert_close(codes.sort().values, torch.arange(1003))
    assert sum(share for share, _ in parts) == pytest.approx(1)


@pytest.mark.parametrize("decoder", ["independent", "autoregressive"])
def test_a_floor_on_the_rate_keeps_the_latent_in_use(decoder):
    """Where x can be coded without z, only a floor keeps z informative, and about as much."""
    rates = {}
    for floor in (0.0, 0.7):
        vae = VAE([Categorical(4)], 3, (16,), (16,), decoder)
        rows = np.random.default_rng(0).integers(0, 4, (2000, 1))
        history = fit(vae, rows, rows[:500], rate_floor=floor, epochs=60)
        rates[floor] = history["validation_kl"][-1]
    assert rates[0.0] < 0.1
    assert 0.5 < rates[0.7] < 1.1


@pytest.mark.parametrize("decoder", ["independent", "autoregressive"])
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
        pairs = zip(drawn.T, rows.T, strict=True)
        far.append(max(np.abs(frequency(d) - frequency(r)).max() for d, r in pairs))
    assert far[1] < 0.02 < 0.1 < far[0]


def test_categories_of_held_out_rows_alone_do_not_vanish():
    vae = VAE([Categorical(3)], 2, (8,), (8,), "autoregressive")
    seen, held = np.repeat([[0], [1]], 450, axis=0), np.full((100, 1), 2)
    fit(vae, seen, held, calibrate=True, epochs=3)
    generator = torch.Generator().manual_seed(0)
    drawn = vae.draw(torch.randn(20_000, 2, generator=generator), generator)[:, 0]
    np.testing.assert_allclose(
        np.bincount(drawn.astype(int)) / 20_000, [0.45, 0.45, 0.1], atol=0.02
    )


def test_a_keyboard_interrupt_keeps_what_was_learned():
    class Impatient(VAE):
        steps = 0

        def project_(self):
            super().project_()
            self.steps += 1
            if self.steps == 20:
                raise KeyboardInterrupt

    vae = Impatient([Categorical(3), Categorical(3), Gaussian()], 3, (16,), (16,), "independent")
    with pytest.warns(UserWarning, match="interrupted after 2 of 30 epochs"):
        history = fit(vae, data(), data(seed=1))
    assert [len(v) for v in history.values()] == [2] * 7
    assert torch.isfinite(vae(vae.layout.to_batch(data(5)), torch.zeros(5, 3))[0]).all()


def test_known_frequencies_are_learned():
    """Two dependent categories: their joint frequencies come out of a fitted decoder again."""
    vae, rows = VAE([Categorical(3)] * 2, 3, (16,), (16,), "independent"), data(3000)[:, :2]
    fit(vae, rows, epochs=30)
    generator = torch.Generator().manual_seed(1)
    drawn = vae.draw(torch.randn(20_000, 3, generator=generator), generator)
    joint = [np.histogram2d(t[:, 0], t[:, 1], bins=3)[0] / len(t) for t in (rows, drawn)]
    assert np.abs(joint[0] - joint[1]).sum() / 2 < 0.06


def test_batches_are_views():
    batch = Batch(torch.arange(10).reshape(5, 2), torch.zeros(5, 1))
    assert batch.rows(slice(1, 3)).codes.data_ptr() == batch.codes[1].data_ptr()


def test_divergence_is_an_error():
    with pytest.raises(ValueError, match=r"Training diverged.*Lower learning_rate"):
        fit(new_vae(), data(), learning_rate=1e4)


def test_parts_of_a_batch_give_its_gradient():
    """Wide heads are computed a few rows at a time: the same loss, the same gradient."""
    vae = new_vae()
    batch, noise = vae.layout.to_batch(data(50)), torch.randn(50, 3)
    whole = negative_bound(vae, batch, noise, 2.0)[0]
    expected = torch.autograd.grad(whole, list(vae.parameters()))
    parts = list(_parts(vae, batch, noise, max_numbers=8 * vae.width))
    assert [len(part.codes) for part, _, _ in parts] == [7] * 7 + [1]
    losses = [share * negative_bound(vae, part, eps, 2.0)[0] for part, eps, share in parts]
    torch.testing.assert_close(sum(losses), whole)
    for ours, theirs in zip(
        torch.autograd.grad(sum(losses), list(vae.parameters())), expected, strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
