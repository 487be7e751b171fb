"""What is done so that tables of few rows are learned and not memorised."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from sktvae import QuantileCodec, TVAESynthesizer
from sktvae._heads import Categorical
from sktvae._model.layers import Dropout
from sktvae._model.vae import VAE
from sktvae._training.plan import TrainingPlan
from tests.training.conftest import Impatient, data, fit, new_vae, plan


def noise_table(n_rows, seed=0):
    """Columns that tell nothing about each other, but for the label."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(rng.normal(size=(n_rows, 6)), columns=list("abcdef"))
    return table.assign(label=np.where(table["a"] + table["b"] > 0, "high", "low"))


def weights(model):
    return np.concatenate([w.ravel() for w in model.vae_.__getstate__()["weights"].values()])


def test_the_refit_is_a_fit_to_all_rows():
    """As many epochs as were best with rows held out, and no row held out any more."""
    table = noise_table(300)
    model = TVAESynthesizer(epochs=40, conditional=False, random_state=0).fit(table)
    best = 1 + int(np.argmin(model.history_["validation_loss"]))
    whole = TVAESynthesizer(
        epochs=best, early_stopping=False, conditional=False, random_state=0
    ).fit(table)
    np.testing.assert_array_equal(weights(model), weights(whole))
    without = TVAESynthesizer(epochs=40, refit=False, conditional=False, random_state=0).fit(table)
    assert not np.array_equal(weights(model), weights(without))
    assert model.history_ == without.history_


class InterruptedRefit(TVAESynthesizer):
    """Ctrl-C is pressed in step `last` of the second VAE."""

    n_networks, last = 0, 1

    def _new_network(self, encoder, seed, any_order):
        vae = super()._new_network(encoder, seed, any_order)
        if any_order:
            return vae
        self.n_networks += 1
        if self.n_networks == 2:
            vae.__class__ = type("Interrupted", (Impatient,), {"last": self.last})
        return vae


@pytest.mark.parametrize("last", [1, 25])  # before the first epoch has ended, and later
def test_an_interrupted_refit_leaves_the_first_fit(last):
    table = noise_table(300)
    model = InterruptedRefit(epochs=10, random_state=0)
    model.last = last
    with pytest.warns(UserWarning, match="interrupted"):
        model.fit(table)
    assert model.n_networks == 2
    alone = TVAESynthesizer(epochs=10, refit=False, conditional=False, random_state=0).fit(table)
    np.testing.assert_array_equal(weights(model), weights(alone))


def test_large_tables_are_not_fitted_twice():
    table = noise_table(5000)
    one, other = (
        TVAESynthesizer(
            4, (8,), (8,), epochs=1, refit=refit, conditional=False, random_state=0
        ).fit(table)
        for refit in (True, False)
    )
    np.testing.assert_array_equal(weights(one), weights(other))


def test_an_epoch_of_few_steps_does_not_use_up_the_patience():
    """8 steps per epoch; no check improves by so much as `tol`."""
    settings = {"n_iter_no_change": 2, "tol": 100.0, "epochs": 30}
    soon = fit(new_vae(), data(), data(seed=1), **settings)
    late = fit(new_vae(), data(), data(seed=1), least_patience=80, **settings)
    assert soon.n_epochs == 3 and late.n_epochs == 11


def test_the_best_epoch_is_that_of_the_lowest_loss():
    trained = fit(new_vae(), data(), data(seed=1), learning_rate=0.05, epochs=20)
    assert trained.best_epoch == 1 + int(np.argmin(trained.history["validation_loss"]))


def test_ordered_codes_stay_a_smooth_function():
    """The weights by which they would differ from it stay at zero; the others are learned."""
    heads = [Categorical(20, n_ordered=20), Categorical(4, n_ordered=3), Categorical(3)]
    rows = np.random.default_rng(0).integers(0, 3, (400, 3))
    for smooth in (True, False):
        vae = VAE(heads, 3, (16,), (16, 16), "autoregressive")
        before = {name: p.detach().clone() for name, p in vae.decoder.named_parameters()}
        fit(vae, rows, epochs=3, smooth=smooth, weight_decay=0.1, l2scale=1e-3)
        after = dict(vae.decoder.named_parameters())
        deviations = vae.decoder.deviations()
        assert deviations["embedding"].sum() == 23 * 16
        for name, which in deviations.items():
            assert not before[name][which].any()
            assert (not after[name][which].any()) == smooth
            moved = after[name] != before[name]
            assert moved[~which].any() or which.all()


def test_dropout_keeps_the_mean_and_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    hidden = torch.full((400, 500), 2.0)
    dropped = Dropout(0.3, torch.Generator().manual_seed(0))(hidden)
    assert abs((dropped == 0).float().mean() - 0.3) < 0.01
    assert abs(dropped.mean() - 2) < 0.02
    again = Dropout(0.3, torch.Generator().manual_seed(0))(hidden)
    assert torch.equal(dropped, again)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("decoder", ["autoregressive", "independent"])
def test_dropout_keeps_noise_from_being_memorised(decoder):
    gaps = []
    rows = np.random.default_rng(0).integers(0, 12, (60, 3))
    held = np.random.default_rng(1).integers(0, 12, (300, 3))
    for rate in (0.0, 0.6):
        vae = VAE([Categorical(12)] * 3, 3, (32,), (32, 64), decoder)
        history = fit(vae, rows, held, dropout=rate, epochs=60, learning_rate=0.01).history
        gaps.append(history["gap"][-1])
    assert gaps[1] < 0.8 * gaps[0]


def test_the_plan_depends_on_the_number_of_rows():
    model = TVAESynthesizer()
    plans = [model._plan(n, 10, any_order=False) for n in (300, 1000, 4999, 5000, 20_000, 500_000)]
    assert [p.smooth for p in plans] == [True] * 3 + [False] * 3
    rates = [p.dropout for p in plans]
    assert rates[:2] == [0.5, 0.5] and rates[4:] == [0, 0] and 0.5 > rates[2] > rates[3] > 0
    independent = TVAESynthesizer(decoder="independent")
    assert independent._plan(300, 10, any_order=False).dropout == 0
    assert isinstance(plan(), TrainingPlan) and plan().dropout == 0


@pytest.mark.slow
def test_likelihoods_do_not_tell_training_rows():
    """An attacker with the model finds the rows of a memorising model, and not those of ours."""
    table, fresh = noise_table(400), noise_table(2000, seed=1)
    member = np.repeat([1, 0], [400, 2000])
    memorising = {
        "numerical": QuantileCodec(min_samples_bin=2, min_samples=1),
        "early_stopping": False,
        "epochs": 60,
        "dropout": 0.0,
    }
    auc = [
        roc_auc_score(
            member,
            TVAESynthesizer(conditional=False, random_state=0, **params)
            .fit(table)
            .score_samples(pd.concat([table, fresh])),
        )
        for params in ({}, memorising)
    ]
    assert auc[0] < 0.6 and auc[1] > 0.65
