import numpy as np
import pytest
import torch

from sktvae._heads import Categorical, Gaussian
from sktvae._training import _parts, train
from sktvae._vae import VAE, Batch, negative_bound

SETTINGS = {
    "epochs": 30,
    "batch_size": 64,
    "learning_rate": 5e-3,
    "l2scale": 0.0,
    "loss_factor": 1.0,
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
    """A last batch of a single row counts as one row, not as a batch."""
    vae, rows = new_vae(), data(65)
    history = fit(vae, rows, rows, epochs=1, learning_rate=1e-12)
    assert abs(history["loss"][0] - history["validation_loss"][0]) < 0.3
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
    assert [len(v) for v in history.values()] == [2] * 6
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
    parts = list(_parts(vae, batch, noise, max_numbers=8 * vae.layout.data_dim))
    assert [len(part.codes) for part, _, _ in parts] == [8] * 6 + [2]
    losses = [share * negative_bound(vae, part, eps, 2.0)[0] for part, eps, share in parts]
    torch.testing.assert_close(sum(losses), whole)
    for ours, theirs in zip(
        torch.autograd.grad(sum(losses), list(vae.parameters())), expected, strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
