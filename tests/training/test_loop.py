import threading

import numpy as np
import pytest
import torch

from sktvae._heads import Categorical
from sktvae._model.objective import negative_bound, row_terms
from sktvae._model.vae import VAE
from sktvae._training import loop
from tests.model.conftest import VARIABLES, encoded_rows, weights
from tests.training.conftest import Impatient, data, fit, memorised, new_vae, plan


def test_the_loss_falls_and_its_terms_add_up():
    history, n_epochs, *_ = fit(new_vae(), data(), loss_factor=2.0)
    assert list(history) == ["loss", "reconstruction", "kl"]
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    np.testing.assert_allclose(
        history["loss"], 2 * np.array(history["reconstruction"]) + history["kl"], rtol=1e-4
    )
    assert n_epochs == len(history["loss"]) == 30


def test_the_best_weights_are_restored():
    """The weights at the end give the least validation loss seen, and not the last one."""
    vae, held, history = memorised(epochs=100, n_iter_no_change=100)
    losses = history["validation_loss"]
    assert min(losses) < losses[-1] - 1  # it does over-fit
    noise = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))  # what `train` drew
    with torch.no_grad():
        now = negative_bound(vae, vae.layout.to_batch(held.T), noise)[0].item()
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


def test_averaged_weights_are_steadier():
    """The validation loss of averages goes straighter than that of live weights."""
    moves = []
    for average in (False, True):
        history = fit(new_vae(), data(), data(seed=1), average=average, learning_rate=0.03).history
        moves.append(np.abs(np.diff(history["validation_loss"][15:], n=2)).mean())
    assert moves[1] < 0.5 * moves[0]


def test_a_floor_on_the_rate_keeps_the_latent_in_use(decoder):
    """Where x can be coded without z, only a floor keeps z informative, and about as much."""
    rates = {}
    for floor in (0.0, 0.7):
        vae = VAE([Categorical(4)], 3, (16,), (16,), decoder)
        rows = np.random.default_rng(0).integers(0, 4, (2000, 1))
        steps = {"epochs": 30, "batch_size": 256, "learning_rate": 0.02}
        history = fit(vae, rows, rows[:500], rate_floor=floor, **steps).history
        rates[floor] = history["validation_kl"][-1]
    assert rates[0.0] < 0.1
    assert 0.5 < rates[0.7] < 1.1


def test_known_frequencies_are_learned():
    """Two dependent categories: their joint frequencies come out of a fitted decoder again."""
    vae, rows = VAE([Categorical(3)] * 2, 3, (16,), (16,), "independent"), data(3000)[:, :2]
    fit(vae, rows, epochs=30)
    generator = torch.Generator().manual_seed(1)
    drawn = vae.draw(torch.randn(20_000, 3, generator=generator), generator)
    joint = [np.histogram2d(*pair, bins=3)[0] / len(pair[0]) for pair in (rows.T, drawn)]
    assert np.abs(joint[0] - joint[1]).sum() / 2 < 0.06


def test_divergence_is_an_error():
    with pytest.raises(ValueError, match=r"Training diverged.*in epoch \d+.*Lower learning_rate"):
        fit(new_vae(), data(), learning_rate=1e4)


def test_a_keyboard_interrupt_keeps_what_was_learned():
    vae = new_vae(kind=Impatient)
    with pytest.warns(UserWarning, match="interrupted after 2 of 30 epochs"):
        history, n_epochs, _, interrupted = fit(vae, data(), data(seed=1))
    assert [len(v) for v in history.values()] == [2] * 7
    assert n_epochs == 3 and interrupted
    rows = vae.layout.to_batch(data(500, seed=1).T)
    noise = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.isfinite(row_terms(vae, rows, noise).log_prob).all()
        kept = negative_bound(vae, rows, noise)[0].item()
    np.testing.assert_allclose(kept, min(history["validation_loss"]), rtol=1e-5)


def test_without_validation_an_interrupt_keeps_the_weights_of_the_last_check():
    """Steps after it, which may be half an epoch, count for nothing."""
    whole, interrupted = new_vae(), new_vae(kind=Impatient)
    fit(whole, data(), epochs=2)
    with pytest.warns(UserWarning, match="interrupted after 2 of 30 epochs"):
        fit(interrupted, data())
    for name, w in weights(whole).items():
        np.testing.assert_array_equal(w, weights(interrupted)[name])


@pytest.mark.parametrize("validation", [None, data(seed=1)])
def test_an_interrupt_before_the_first_check_is_raised(validation):
    vae = new_vae(kind=Impatient)
    vae.last = 5
    with pytest.raises(KeyboardInterrupt):
        fit(vae, data(), validation)


def test_an_interrupt_of_the_calibration_is_raised():
    def interrupted(*args):
        raise KeyboardInterrupt

    vae = new_vae()
    vae.decoder.walk = interrupted  # rows are drawn for the calibration only
    with pytest.raises(KeyboardInterrupt):
        fit(vae, data(), epochs=1, calibrate=True)


def test_long_epochs_are_checked_on_the_way():
    """8 steps per epoch, at most 3 of them between two checks: 3 checks per epoch."""
    history, n_epochs, *_ = fit(new_vae(), data(), data(seed=1), epochs=2, steps_per_check=3)
    assert n_epochs == 2 and [len(v) for v in history.values()] == [6] * 7
    assert history["loss"][1] < history["loss"][0]
    once = fit(new_vae(), data(), data(seed=1), epochs=2, steps_per_check=8).history
    assert len(once["loss"]) == 2
    np.testing.assert_allclose(once["validation_loss"], history["validation_loss"][2::3])
    mean = np.mean(history["loss"][:3])
    np.testing.assert_allclose(once["loss"][0], mean, rtol=0.1)  # parts of 2, 3 and 3 steps


def test_training_stops_within_an_epoch():
    vae = new_vae()
    history, n_epochs, *_ = fit(
        vae, data(), data(seed=1), steps_per_check=1, n_iter_no_change=2, tol=100.0
    )
    assert n_epochs == 1 and len(history["loss"]) == 3  # the first one is an improvement


def test_in_epochs_of_several_checks_an_improvement_counts_by_the_steps_it_took(monkeypatch):
    """The loss falls by more than `tol` between the first two checks, but not so much per step."""
    held, settings = data(seed=1), {"steps_per_check": 4, "epochs": 3}
    first, second = fit(new_vae(), data(), held, **settings).history["validation_loss"][:2]
    assert first > second
    settings |= {"n_iter_no_change": 1, "tol": (first - second) / 2}
    n_checks = {}
    for steps in (1, 4):  # of the 4 steps between two checks
        monkeypatch.setattr(loop, "STEPS_OF_TOL", steps)
        monkeypatch.setattr(loop, "ROWS_OF_TOL", 64 * steps)
        n_checks[steps] = len(fit(new_vae(), data(), held, **settings).history["loss"])
    assert n_checks[1] == 2 < n_checks[4]


@pytest.mark.parametrize("n_steps", [1, 64, 65, 1000])
def test_where_each_epoch_has_a_check_tol_is_what_it_says(n_steps):
    stopping = loop._early_stopping(plan(tol=0.004, batch_size=512), n_steps, 1)
    assert stopping.tol == 0.004


def stops_after(batch_size, steps_per_check, n_steps=100_000, tol=0.004, rate=0.5):
    """When training stops whose loss falls as the inverse root of the number of steps."""
    n_checks = -(-n_steps // steps_per_check)
    settings = {"batch_size": batch_size, "tol": tol, "n_iter_no_change": 1}
    stopping, steps = loop._early_stopping(plan(**settings), n_steps, n_checks), 0.0
    while not stopping.should_stop:
        steps += n_steps / n_checks
        stopping.update((steps / 1000) ** -rate)
    return steps


def test_long_tables_stop_at_one_rate_of_improvement():
    """It does not matter how often the loss is checked, nor how long the table is."""
    often, seldom, longer = (
        stops_after(512, 500),
        stops_after(512, 1000),
        stops_after(512, 1000, n_steps=10**6),
    )
    # The derivative of the loss is -tol / 64 there.
    exact = 1000 * (0.004 / 64 * 1000 / 0.5) ** (-1 / 1.5)
    assert seldom == longer
    for steps, width in ((often, 500), (seldom, 1000)):
        assert exact <= steps <= exact + 1.5 * width
    assert stops_after(512, 1000, tol=0.0005) > 3 * seldom


def test_small_batches_are_given_the_steps_for_as_many_rows():
    """1,000 steps of 32 rows are no more than an epoch of a table of ordinary size."""
    for batch_size, factor in ((8, 1), (32, 1), (128, 1000 * 128 / 2**15), (512, 1000 / 64)):
        stopping = loop._early_stopping(plan(tol=0.004, batch_size=batch_size), 20_000, 20)
        assert stopping.tol == pytest.approx(0.004 * factor)
    # Large batches learn no more in a step, or not much.
    assert loop._early_stopping(plan(tol=1.0, batch_size=10_000), 640, 10).tol == 1
    assert loop._early_stopping(plan(tol=1.0, batch_size=10_000), 6400, 10).tol == 10


def test_tol_grows_with_the_number_of_checks_of_an_epoch():
    """So that a table of two checks per epoch stops hardly before one of a single check."""
    found = [
        loop._early_stopping(plan(tol=1.0, batch_size=512), 1000 * n_checks, n_checks).tol
        for n_checks in (1, 2, 3, 15, 16, 100)
    ]
    assert found == [1, 2, 3, 15, 1000 / 64, 1000 / 64]


def test_fits_in_threads_are_those_alone(decoder):
    """Same weights, and the global random state is left alone."""
    rows, n_threads = encoded_rows(300, heads=VARIABLES), 4
    settings = {"epochs": 2, "random_orders": 0.5, "average": True, "calibrate": True}

    def fitted():
        vae = VAE(VARIABLES, 3, (16,), (16, 8, 16), decoder, seed=1)
        fit(vae, rows, rows[:50], **settings)
        return weights(vae)

    torch.manual_seed(0)
    state = torch.get_rng_state()
    alone, found, start = fitted(), [], threading.Barrier(n_threads)

    def in_thread():
        start.wait()
        found.append(fitted())

    threads = [threading.Thread(target=in_thread) for _ in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(torch.get_rng_state(), state)
    assert len(found) == n_threads
    for one in found:
        for name, w in alone.items():
            np.testing.assert_array_equal(one[name], w)


def test_integer_weights_train_as_repeated_rows_do():
    """With batches of all rows the gradients are the same; the noise of the rows is not."""
    rows = data(400)
    times = 1 + 3 * (rows[:, 0] == 2)
    losses = []
    for weight, table in ((None, np.repeat(rows, times, axis=0)), (times, rows), (None, rows)):
        vae = new_vae()
        batch = vae.layout.to_batch(table.T)
        if weight is not None:
            batch = batch._replace(weight=torch.tensor(weight / weight.mean()).float())
        generator = torch.Generator().manual_seed(0)
        history, *_ = loop.train(
            vae,
            batch,
            None,
            plan(batch_size=10_000),
            generator=generator,
            host_generator=generator,
        )
        losses.append(history["reconstruction"][-1])
    assert abs(losses[0] - losses[1]) < 0.3 * abs(losses[0] - losses[2])
