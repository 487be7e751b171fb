import pytest
import torch
from torch import nn

from sktvae._model.layers import InputLayer, hidden_layers, linear, position_features
from sktvae._model.layout import Layout
from tests.model.conftest import HEADS, encoded_rows, one_hot_rows


def test_linear_layers_begin_as_those_of_torch():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        theirs = nn.Linear(7, 5), nn.Linear(5, 9)
    generator = torch.Generator().manual_seed(3)
    ours, n_out = hidden_layers(7, (5, 9), generator)
    assert n_out == 9
    for one, two in zip((ours[0], ours[2]), theirs, strict=True):
        assert torch.equal(one.weight, two.weight) and torch.equal(one.bias, two.bias)
    assert linear(2, 3, generator).weight.requires_grad


@pytest.mark.parametrize("widest", [0, 10_000])
def test_one_hot_times_linear_is_the_embedding_sum(widest):
    """Both ways of computing the input layer equal a plain linear layer on dense rows."""
    layer = InputLayer(Layout(HEADS), 6, torch.Generator().manual_seed(0), widest)
    encoded = encoded_rows(40)
    dense = torch.tensor(one_hot_rows(encoded), dtype=torch.float32)
    ours = layer(Layout(HEADS).to_batch(encoded.T))
    torch.testing.assert_close(ours, dense @ layer.weight + layer.bias, atol=1e-6, rtol=1e-5)
    ours.square().sum().backward()
    slope = 2 * dense.T @ (dense @ layer.weight + layer.bias)
    torch.testing.assert_close(layer.weight.grad, slope.detach(), atol=1e-4, rtol=1e-4)


def test_near_positions_have_near_features():
    place = torch.linspace(0, 1, 513)
    features = position_features(place)
    assert features.shape == (513, 13)
    near = (features[1:] - features[:-1]).norm(dim=1).max()
    far = torch.cdist(features, features)[(place[:, None] - place).abs() > 0.02].min()
    assert near < 0.5 * far
