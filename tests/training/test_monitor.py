import numpy as np
import torch

from sktvae._model.objective import negative_bound
from sktvae._training.monitor import Monitor
from tests.training.conftest import data, fit, memorised, new_vae, plan


def test_history_weighs_rows_equally():
    """The means over batches of 32 and 33 rows are means over 65 rows."""
    vae, rows = new_vae(), data(65)
    history = fit(vae, rows, rows, epochs=1, learning_rate=1e-12).history
    np.testing.assert_allclose(history["kl"], history["validation_kl"], rtol=1e-5)
    batch = vae.layout.to_batch(rows.T)
    noise = torch.zeros(65, 3)
    mean = negative_bound(vae, batch, noise)[0].item()
    each = [
        negative_bound(vae, batch.rows(slice(i, i + 1)), noise[:1])[0].item() for i in range(65)
    ]
    np.testing.assert_allclose(mean, np.mean(each), rtol=1e-5)


def test_the_gap_shows_what_was_learned_by_heart():
    _, _, history = memorised(epochs=60, n_iter_no_change=60)
    assert abs(history["gap"][0]) < 0.5
    assert history["gap"][-1] > 2


def test_each_check_covers_the_steps_since_the_last_one():
    vae = new_vae()
    batch = vae.layout.to_batch(data().T)
    monitor = Monitor(vae, plan(), batch, None, torch.Generator(), torch.Generator())
    monitor.add(torch.tensor([1.0, 2.0, 3.0]), 10)
    monitor.add(torch.tensor([4.0, 2.0, 6.0]), 20)
    assert monitor.check(1) == 3
    monitor.add(torch.tensor([7.0, 7.0, 7.0]), 5)
    assert monitor.check(1) == 7 and monitor.n_checks == 2
    assert monitor.history == {"loss": [3, 7], "reconstruction": [2, 7], "kl": [5, 7]}


def test_the_scale_of_the_weights_of_validation_rows_does_not_matter():
    vae = new_vae()
    batch = vae.layout.to_batch(data(100).T)
    losses = []
    for weight in (None, torch.full((100,), 0.5), torch.arange(1.0, 101)):
        held, generator = batch._replace(weight=weight), torch.Generator().manual_seed(0)
        monitor = Monitor(vae, plan(), batch, held, generator, torch.Generator())
        monitor.add(torch.ones(3), 1)
        losses.append(monitor.check(1))
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)
    assert abs(losses[0] - losses[2]) > 1e-3
