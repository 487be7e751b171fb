"""Encoded rows and networks that the tests of the model share."""

import numpy as np
import pytest
import torch

from sktvae._heads import Categorical, Gaussian, Uniform
from sktvae._model.vae import VAE

HEADS = [Categorical(3), Gaussian(), Categorical(5), Uniform(), Gaussian(), Categorical(2)]

# A variable of each kind that the autoregressive decoder knows: a coarse and a fine bin with a code
# for missing values, a mode and a position in it, plain categories, a number alone.
VARIABLES = [
    Categorical(4, n_ordered=3),
    Categorical(3, n_ordered=3, refines=True),
    Uniform(),
    Categorical(2),
    Categorical(3, n_ordered=3),
    Gaussian(refines=True),
    Gaussian(),
    Categorical(5),
]


def encoded_rows(n, seed=0, heads=HEADS):
    rng = np.random.default_rng(seed)
    columns = {
        Categorical: lambda h: rng.integers(0, h.n_categories, n),
        Gaussian: lambda h: rng.uniform(-1, 1, n),
        Uniform: lambda h: rng.random(n),
    }
    return np.column_stack([columns[type(head)](head) for head in heads])


def one_hot_rows(encoded):
    """The dense rows of the paper: one-hot categories of all heads, then the Gaussian values."""
    codes = [
        np.eye(head.n_categories)[encoded[:, j].astype(int)]
        for j, head in enumerate(HEADS)
        if isinstance(head, Categorical)
    ]
    values = [encoded[:, [j]] for j, head in enumerate(HEADS) if isinstance(head, Gaussian)]
    return np.hstack(codes + values)


def weights(vae):
    return {name: p.detach().double().numpy() for name, p in vae.named_parameters()}


def enlarge(module, size=0.7):
    """Add noise to all weights, so that every one of them matters."""
    with torch.no_grad():
        for p in module.parameters():
            generator = torch.Generator().manual_seed(p.numel())
            p += size * torch.randn(p.shape, generator=generator, dtype=p.dtype)


def some_vae(decoder="independent", heads=VARIABLES):
    """A small network whose weights are large enough for all of them to matter."""
    vae = VAE(heads, 4, (8, 6), (6, 5, 9), decoder, seed=0)
    enlarge(vae, 0.1)
    vae.project_()
    return vae


@pytest.fixture
def vae():
    return VAE(HEADS, 4, (8, 6), (7, 9), "independent", seed=0)


@pytest.fixture(params=["independent", "autoregressive"])
def decoder(request):
    return request.param
