import numpy as np
import pytest
import torch

from sktvae._heads import Categorical, Gaussian
from sktvae._model.layout import Batch, Layout
from sktvae._training.rows import TrainingRows, arrange
from tests.training.conftest import new_vae, plan


def turns(n_rows=1003, n_epochs=1, decoder="independent", **settings):
    batch = Batch(torch.arange(n_rows)[:, None], torch.zeros(n_rows, 0))
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    rows = TrainingRows(batch, new_vae(decoder).decoder, plan(**settings), *generators)
    return list(rows.turns(n_epochs))


def test_batches_hold_every_row_once_and_are_of_one_size():
    found = turns(batch_size=100)
    assert {turn.batch.n_rows for turn in found} == {91, 92}
    codes = torch.cat([turn.batch.codes for turn in found])[:, 0]
    assert (codes != torch.arange(1003)).any()
    torch.testing.assert_close(codes.sort().values, torch.arange(1003))
    assert sum(turn.share for turn in found) == pytest.approx(1)


def test_batches_are_views_of_rows_shuffled_anew_each_epoch():
    found = turns(n_epochs=2, batch_size=400)
    assert [turn.epoch for turn in found] == [1] * 3 + [2] * 3
    first, second = found[0].batch.codes, found[1].batch.codes
    assert first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
    assert (found[0].batch.codes != found[3].batch.codes).any()


@pytest.mark.parametrize(("steps", "expected"), [(11, [11]), (5, [4, 8, 11]), (1, range(1, 12))])
def test_checks_are_evenly_spaced_and_end_with_the_epoch(steps, expected):
    found = turns(batch_size=100, n_epochs=2, steps_per_check=steps)
    for epoch in (found[:11], found[11:]):
        assert [i for i, turn in enumerate(epoch, 1) if turn.check] == list(expected)


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.3, 0.2, 0.4), (1.0, 1, 1)])
def test_a_share_of_the_batches_has_a_random_order(share, low, high):
    orders = [t.order for t in turns(decoder="autoregressive", batch_size=2, random_orders=share)]
    random = [order for order in orders if order is not None]
    assert low <= len(random) / len(orders) <= high
    assert all(order.sort().values.tolist() == [0, 1, 2] for order in random)
    assert len({tuple(order.tolist()) for order in random}) in (0, 6)


def test_a_decoder_without_orders_has_none():
    assert all(turn.order is None for turn in turns(random_orders=1.0))


HEADS = [Categorical(3), Gaussian(), Categorical(40_000), Gaussian()]


def table(n=300, seed=0):
    rng = np.random.default_rng(seed)
    missing = rng.random(n) < 0.2
    encoded = np.column_stack(
        [
            rng.integers(0, 3, n),
            np.where(missing, np.nan, rng.integers(-2, 3, n) / 2),
            rng.integers(0, 4, n),
            rng.choice([0.0, -0.0, 0.25], n),
        ]
    )
    return encoded[rng.permutation(n)]


def batch_of(encoded):
    return Layout(HEADS).to_batch(encoded.T)


def assert_same(one, two):
    for a, b in zip(one, two, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_array_equal(a, b)


def test_the_order_of_the_rows_does_not_matter():
    encoded = table()
    shuffled = np.random.default_rng(1).permutation(encoded)
    one, two = arrange(batch_of(encoded)), arrange(batch_of(shuffled))
    assert_same(one, two)
    assert one.weight is None and one.codes.dtype == torch.int32
    rows = lambda batch: np.sort(np.hstack([batch.codes, batch.values.nan_to_num(9)]), 0)
    np.testing.assert_array_equal(rows(one), rows(batch_of(encoded)))


def test_arranged_rows_are_mixed():
    """The order is that of a hash: the first rows have all kinds of values."""
    column = np.arange(40_000)
    codes = arrange(Layout([Categorical(40_000)]).to_batch([column])).codes[:, 0].numpy()
    assert abs(codes[:2000].mean() - 20_000) < 1500
    assert abs(np.corrcoef(codes, column)[0, 1]) < 0.03
    assert abs(np.corrcoef(codes[1:], codes[:-1])[0, 1]) < 0.03
    assert (codes != np.roll(codes, 1)).all()


def test_bit_patterns_of_nan_and_zero_do_not_matter():
    encoded = np.array([[0, np.nan, 1, 0.0], [1, 0.5, 0, 1.0], [0, 0.25, 2, 0.5]])
    other = batch_of(encoded[::-1].copy())
    other.values.view(torch.int32)[2, 0] ^= 0x400001  # another NaN
    other.values[2, 1] = -0.0
    assert torch.isnan(other.values[2, 0])
    assert_same(arrange(batch_of(encoded)), arrange(other))


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
def test_integer_weights_are_repeated_rows(kind):
    encoded, rng = table(), np.random.default_rng(2)
    weight = rng.integers(1, 5, len(encoded)).astype(float)
    repeated = rng.permutation(np.repeat(encoded, weight.astype(int), axis=0))
    order = rng.permutation(len(encoded))
    one = arrange(batch_of(repeated))
    assert_same(one, arrange(batch_of(encoded), kind(weight)))
    assert_same(one, arrange(batch_of(encoded[order]), kind(weight[order])))
    assert_same(one, arrange(batch_of(repeated), kind(np.ones(len(repeated)))))
    assert one.n_rows == weight.sum()


@pytest.mark.parametrize(
    "weight",
    [np.random.default_rng(0).random(300) + 0.1, np.full(300, 11), np.r_[np.ones(299), 1.5]],
)
def test_other_weights_are_kept(weight):
    """Fractional ones, and those that would make the table more than ten times as long."""
    encoded = table()
    order = np.random.default_rng(1).permutation(300)
    one = arrange(batch_of(encoded), weight)
    assert_same(
        one,
        arrange(batch_of(encoded[order]), weight[order] * 0.5 if weight[0] % 1 else weight[order]),
    )
    assert one.n_rows == 300 and one.weight.dtype == torch.float32
    np.testing.assert_allclose(one.weight.mean(), 1, rtol=1e-6)
    np.testing.assert_allclose(np.sort(one.weight), np.sort(weight / weight.mean()), rtol=1e-6)
    total = lambda batch, w: sum(w[batch.codes[:, 0] == k].sum() for k in (2,))
    np.testing.assert_allclose(
        total(one, one.weight.numpy()), total(batch_of(encoded), weight) / weight.mean(), rtol=1e-5
    )
