"""A small table, a network for it and how to fit it: what the tests of training share."""

import numpy as np
import pytest
import torch

from sktvae._heads import Categorical, Gaussian
from sktvae._model.vae import VAE
from sktvae._training.loop import train
from sktvae._training.plan import TrainingPlan

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


def new_vae(decoder="independent", kind=VAE):
    return kind([Categorical(3), Categorical(3), Gaussian()], 3, (16,), (16,), decoder)


def plan(**settings):
    return TrainingPlan(**(SETTINGS | settings))


def fit(vae, rows, validation=None, **settings):
    """The history, and the number of epochs."""
    to_batch = lambda rows: vae.layout.to_batch(rows.T)
    held = None if validation is None else to_batch(validation)
    generator = torch.Generator().manual_seed(0)
    return train(
        vae,
        to_batch(rows),
        held,
        plan(**settings),
        generator=generator,
        host_generator=generator,
    )


def memorised(**settings):
    """A network that fits 30 rows of noise by heart, and the rows it is validated on."""
    vae = VAE([Categorical(30)] * 2, 3, (32,), (32,), "independent")
    rows, held = (
        np.random.default_rng(seed).integers(0, 30, (n, 2)) for seed, n in enumerate((30, 200))
    )
    return vae, held, fit(vae, rows, held, learning_rate=0.02, **settings).history


class Impatient(VAE):
    """Interrupted in the step of this number."""

    n_steps, last = 0, 20

    def project_(self):
        super().project_()
        self.n_steps += 1
        if self.n_steps == self.last:
            raise KeyboardInterrupt


@pytest.fixture(params=["independent", "autoregressive"])
def decoder(request):
    return request.param
