import math

import pytest
import torch

from sktvae._model.likelihoods import (
    PackedCategorical,
    draw_code,
    draw_value,
    gaussian_log_prob,
    log_prob_of_code,
    uniforms,
)


def test_heads_far_apart_do_not_underflow():
    logits = torch.tensor([[500.0, 499.0, -500.0, -501.0]])
    packed = PackedCategorical([2, 2])
    exp, total, top = packed.exponentials(logits)
    log_norm = total.log() + top
    expected = [logits[0, :2].logsumexp(0), logits[0, 2:].logsumexp(0)]
    torch.testing.assert_close(log_norm[0], torch.stack(expected))
    assert torch.isfinite(exp).all()


def test_packed_heads_are_softmaxes_side_by_side():
    sizes = [3, 1, 4]
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 8, dtype=torch.double, generator=generator) * 3
    local = torch.stack([torch.randint(n, (6,), generator=generator) for n in sizes], dim=1)
    codes = local + torch.tensor([0, 3, 4])
    packed = PackedCategorical(sizes).double()
    expected = sum(
        torch.log_softmax(head, 1).gather(1, local[:, [c]])[:, 0]
        for c, head in enumerate(logits.split(sizes, dim=1))
    )
    torch.testing.assert_close(packed(logits, codes), expected)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: packed(x, codes), logits)


def test_no_categorical_head_has_log_likelihood_zero():
    packed = PackedCategorical([])
    found = packed(torch.zeros(4, 0, requires_grad=True), torch.zeros(4, 0, dtype=torch.long))
    assert found.tolist() == [0] * 4


def test_gaussian_density_leaves_out_missing_values():
    value = torch.tensor([0.3, math.nan], dtype=torch.double)
    mean = torch.tensor([0.1, 0.5], dtype=torch.double, requires_grad=True)
    sigma = torch.tensor([0.2, 0.4], dtype=torch.double, requires_grad=True)
    found = gaussian_log_prob(value, mean, sigma)
    expected = torch.distributions.Normal(0.1, 0.2).log_prob(torch.tensor(0.3)).double()
    torch.testing.assert_close(found[0], expected, atol=1e-6, rtol=0)
    assert found[1] == 0
    found.sum().backward()
    assert mean.grad[1] == sigma.grad[1] == 0 and torch.isfinite(mean.grad).all()


def test_codes_are_drawn_as_often_as_the_softmax_says():
    logits = torch.tensor([[0.0, 1.0, -torch.inf, -2.0]])
    n = 100_000
    u = uniforms(n, torch.Generator().manual_seed(0))
    codes = draw_code(logits.expand(n, 4), u)
    frequency = torch.bincount(codes, minlength=4) / n
    torch.testing.assert_close(frequency, torch.softmax(logits[0], 0), atol=0.005, rtol=0)
    assert frequency[2] == 0


@pytest.mark.parametrize("n_codes", [2, 17, 1000])
def test_the_frequency_of_a_code_is_its_probability(n_codes):
    """With one number in each stratum it is so up to rounding, and to one number in a million."""
    n = 1_000_000
    logits = 3 * torch.randn(1, n_codes, generator=torch.Generator().manual_seed(0))
    u = uniforms(n, torch.Generator().manual_seed(0), stratified=True)
    codes = torch.cat(
        [draw_code(logits.expand(len(part), n_codes), part) for part in u.split(2000)]
    )
    frequency = torch.bincount(codes, minlength=n_codes).double() / n
    torch.testing.assert_close(frequency, torch.softmax(logits[0].double(), 0), atol=5e-6, rtol=0)


@pytest.mark.parametrize("n_codes", [1, 2, 17])
def test_log_prob_of_code_is_the_log_softmax(n_codes):
    logits = 30 * torch.randn(4, 50, n_codes, generator=torch.Generator().manual_seed(0))
    logits[:, :, 1:][..., 0:1][:, ::2] = -torch.inf
    before = logits.clone()
    code = torch.zeros(4, 50, dtype=torch.long)
    expected = torch.log_softmax(logits, -1).gather(-1, code[..., None])[..., 0]
    torch.testing.assert_close(log_prob_of_code(logits, code), expected)
    assert torch.equal(logits, before)


@pytest.mark.parametrize("u", [0.0, 1 - 2**-23])
def test_codes_at_the_ends_of_the_unit_interval_exist(u):
    logits = torch.tensor([[-torch.inf, 0.0, 0.0]])
    assert draw_code(logits, torch.tensor([[u]])).item() == (1 if u == 0 else 2)


def test_stratified_numbers_are_one_in_each_stratum():
    u = uniforms(1000, torch.Generator().manual_seed(0), stratified=True)[:, 0]
    assert (u.sort().values * 1000).floor().unique().numel() == 1000
    assert (u.diff() < 0).any()


def test_values_are_clamped():
    value = draw_value(torch.full((1000,), 0.9), torch.tensor(0.5), torch.Generator())
    assert value.max() == 1 and value.min() >= -1 and 0.5 < value.mean() < 0.9
