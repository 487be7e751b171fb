import numpy as np
import pytest
import torch

from sktvae._heads import Categorical, Gaussian
from sktvae._model.layout import Layout
from sktvae._model.readout import Readout
from tests.model.conftest import VARIABLES, encoded_rows

LAYOUT = Layout(VARIABLES)
# A rank and whether there is one, for two numbers; two categories; a value.
N_TOLD = 2 * 2 + 2 + 1


def rows(n=400, seed=0):
    return LAYOUT.to_batch(encoded_rows(n, seed, VARIABLES).T)


def fitted(readout, mu, batch, n_steps=400):
    """The loss of the best readout from fixed means."""
    optimizer = torch.optim.Adam(readout.parameters(), lr=0.05)
    for _ in range(n_steps):
        optimizer.zero_grad()
        loss = readout(mu, batch)
        loss.backward()
        optimizer.step()
    return loss.item()


def test_at_the_start_all_of_each_column_is_unexplained():
    """The share is 1 of each; the second number has a rank in every row, which leaves nothing."""
    readout, batch = Readout(LAYOUT, 3, rows()), rows()
    loss = readout(torch.randn(400, 3), batch)
    torch.testing.assert_close(loss, torch.tensor(N_TOLD - 1.0), atol=1e-4, rtol=0)


def test_values_that_do_not_apply_count_for_nothing():
    layout = Layout([Gaussian(), Categorical(2)])
    codes = np.arange(100) % 2
    batch = layout.to_batch([np.full(100, np.nan), codes])
    readout = Readout(layout, 2, batch)
    torch.testing.assert_close(readout(torch.randn(100, 2), batch), torch.tensor(1.0))


@pytest.mark.parametrize(("told", "left"), [("number", 4.0), ("category", 5.0), ("value", 5.0)])
def test_a_column_that_the_means_tell_is_explained(told, left):
    """Means that hold one column leave nearly nothing of it, and nearly all of the others."""
    batch = rows(4000)
    codes = batch.codes.long()
    columns = {
        "number": torch.stack([codes[:, 0] == k for k in range(4)], 1).float(),
        "category": codes[:, [2]].float(),
        "value": batch.values[:, [1]],
    }
    mu = torch.nn.functional.pad(columns[told], (0, 4 - columns[told].shape[1]))
    loss = fitted(Readout(LAYOUT, 4, batch), mu, batch)
    assert abs(loss - left) < 0.15


def test_ranks_have_the_distance_of_the_rows_between_them():
    """Three codes of 80, 10 and 10 of 100 rows have the mean ranks 40, 85 and 95."""
    layout = Layout([Categorical(3, n_ordered=3)])
    batch = layout.to_batch([np.repeat([0, 1, 2], [80, 10, 10])])
    ranks = Readout(layout, 1, batch).ranks
    torch.testing.assert_close((ranks[1] - ranks[0]) / (ranks[2] - ranks[1]), torch.tensor(4.5))
    told = ranks[batch.codes.long()]
    torch.testing.assert_close(told.mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(told.var(correction=0), torch.tensor(1.0))


def test_size_and_place_of_the_means_do_not_matter():
    batch, mu = rows(), torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    readout = Readout(LAYOUT, 3, batch)
    with torch.no_grad():
        readout.weight += 0.3
    moved = mu * torch.tensor([2.0, 0.5, 7.0]) + 3
    torch.testing.assert_close(readout(moved, batch), readout(mu, batch), rtol=1e-3, atol=0)


def test_integer_weights_equal_repeated_rows():
    batch, mu = rows(50), torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    times = torch.arange(50) % 3 + 1
    repeated = batch.take(torch.repeat_interleave(times))
    weighted = batch._replace(weight=times / times.float().mean())
    losses = []
    for each, means in ((repeated, torch.repeat_interleave(mu, times, dim=0)), (weighted, mu)):
        readout = Readout(LAYOUT, 3, each)
        with torch.no_grad():
            readout.weight += 0.3
        losses.append(readout(means, each))
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-4)


def test_a_single_row_has_no_gradient_and_is_finite():
    mu = torch.randn(1, 3, requires_grad=True)
    readout = Readout(LAYOUT, 3, rows())
    with torch.no_grad():
        readout.weight += 0.3
    loss = readout(mu, rows(1))
    loss.backward()
    assert torch.isfinite(loss) and not mu.grad.any()
