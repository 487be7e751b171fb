"""The length of the gradient of each row, against gradients that are computed one by one."""

import numpy as np
import pytest
import torch

from sktvae._heads import Categorical, Gaussian, Uniform
from sktvae._model.row_norms import log_prob_and_norms
from sktvae._model.vae import VAE

TABLES = {
    "codes": (Categorical(3), Categorical(9, n_ordered=8), Uniform(), Categorical(2)),
    "one column": (Categorical(4),),
    "fine bins": (
        Categorical(3),
        *(Categorical(6, n_ordered=5), Categorical(4, n_ordered=4, refines=True), Uniform()),
        *(Categorical(9, n_ordered=9), Categorical(4, refines=True), Categorical(3, refines=True)),
    ),
}


def network(heads, seed=0):
    """A decoder whose parameters are all different from their initial values."""
    decoder = VAE(heads, 0, (), (8, 6), "autoregressive", seed).decoder
    generator = torch.Generator().manual_seed(seed)
    for parameter in decoder.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    return decoder


def rows_of(decoder, n_rows, seed=0):
    rng = np.random.default_rng(seed)
    heads = decoder.layout.heads
    columns = [rng.integers(0, getattr(head, "n_categories", 2), n_rows) for head in heads]
    return decoder.layout.to_batch(columns)


@pytest.mark.parametrize("in_table_order", [True, False])
@pytest.mark.parametrize("heads", TABLES.values(), ids=TABLES.keys())
def test_norms_are_those_of_the_gradients_of_single_rows(heads, in_table_order):
    decoder = network(heads)
    batch = rows_of(decoder, 12)
    generator = torch.Generator().manual_seed(1)
    order = None if in_table_order else decoder.random_order(generator)
    log_prob, norms = log_prob_and_norms(decoder, batch, order)
    plain = decoder.log_prob(torch.zeros(12, 0), batch, order)
    torch.testing.assert_close(log_prob, plain)
    parameters = [p for p in decoder.parameters() if p.numel()]
    for i in range(12):
        gradients = torch.autograd.grad(plain[i], parameters, retain_graph=True, allow_unused=True)
        length = sum(g.double().square().sum() for g in gradients if g is not None).sqrt()
        torch.testing.assert_close(norms[i].double(), length, rtol=1e-5, atol=1e-6)


def test_what_it_cannot_measure_is_refused():
    with_z = VAE((Categorical(3),), 2, (4,), (8, 6), "autoregressive").decoder
    with_blocks = VAE((Categorical(3),), 0, (), (8, 4, 6), "autoregressive").decoder
    with_values = VAE((Categorical(3), Gaussian()), 0, (), (8, 6), "autoregressive").decoder
    for decoder in (with_z, with_blocks, with_values):
        with pytest.raises(ValueError, match="no z, no shared blocks and no Gaussian"):
            log_prob_and_norms(decoder, rows_of(network((Categorical(3),)), 2))
