"""Models on another device than the CPU: a pretended one, which finds what would fail on a GPU."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch

from sktvae import DifferentialPrivacy, QuantileCodec, TVAESynthesizer
from sktvae._device import FEWEST_CELLS_TO_FIT, FEWEST_CELLS_TO_PASS, resolve_device
from sktvae._heads import Categorical
from sktvae._training import calibration, rows
from sktvae._training.learner import Learner
from tests.other_device import OTHER, OtherDevice, OtherGenerator, tensor
from tests.training.test_recorded import new_learner


def table(n=300, seed=0):
    rng = np.random.default_rng(seed)
    x = pd.DataFrame({"number": rng.normal(size=n).round(3), "letter": rng.choice([*"xyz"], n)})
    x["twice"] = (2 * x["number"] + rng.normal(size=n)).where(rng.random(n) < 0.9)
    return x


@pytest.fixture
def other_device(monkeypatch):
    """The other device exists, and its tensors stay there during a step."""
    mode, step = OtherDevice(), Learner._step

    def closed_step(learner, *args):
        if learner.generator.device != OTHER:
            return step(learner, *args)
        with mode.closed():
            return step(learner, *args)

    monkeypatch.setattr(Learner, "_step", closed_step)
    monkeypatch.setattr(calibration, "_N_ROUNDS", 1)  # of four, to save time
    monkeypatch.setattr(torch, "tensor", tensor)
    for module in ("torch", "sktvae._generation", "sktvae._privacy.rows"):
        monkeypatch.setattr(f"{module}.Generator", OtherGenerator)
    with mode:
        yield mode


def test_what_the_other_device_refuses(other_device):
    there, here = torch.ones(3, device=OTHER), torch.ones(3)
    assert there.device == OTHER and (there + 1).tolist() == [2.0] * 3
    with pytest.raises(AssertionError, match="mixes devices"):
        there + here
    with other_device.closed():
        there.add_(1.0)
        for read in (
            lambda: there.cpu(),
            lambda: there[0].item(),
            lambda: bool(there.sum() > 0),
            lambda: there.copy_(here),
            lambda: here.to(OTHER),
            lambda: torch.tensor([1.0], device=OTHER),
            lambda: there + torch.ones(()),
        ):
            with pytest.raises(AssertionError, match=r"host wait|mixes devices"):
                read()
    assert there.tolist() == [2.0] * 3


MANY_CODES = [Categorical(700, n_ordered=9), Categorical(5), Categorical(700)]
MANY_VARIABLES = [Categorical(2)] * 260


@pytest.mark.parametrize(
    ("decoder", "settings"),
    [
        ("independent", {"weighted": True}),
        ("independent", {"heads": MANY_CODES}),
        ("autoregressive", {"weighted": True}),
        ("autoregressive", {"any_order": True, "rate_floor": 0.0, "readout": 0.0}),
        ("autoregressive", {"heads": MANY_CODES}),
        ("autoregressive", {"heads": MANY_VARIABLES, "readout": 0.0, "n_epochs": 1}),
    ],
)
def test_a_step_stays_on_the_device(other_device, decoder, settings):
    """For each kind of variable, with many categories, and with many variables."""
    settings = {"n_epochs": 2} | settings
    terms = []
    for device in ("cpu", OTHER):
        learner, turns = new_learner(decoder, device=device, **settings)
        terms.append(torch.stack([learner.step(turn).cpu() for turn in turns]))
    assert other_device.n_closed > 500
    assert torch.equal(*terms)


def used(model, x):
    """What a fitted model says and draws."""
    latents = model.transform(x[:30])
    said = {
        "rows": model.sample(50),
        "latents": latents,
        "decoded": model.inverse_transform(latents),
        "scores": model.score_samples(x[:30]),
    }
    if model.conditional:
        within = {"number": pd.Interval(0, 1), "letter": ["x", "y"]}
        said |= {
            "given": model.sample(conditions=x[["letter"]][:20]),
            "within": model.sample(20, conditions=within),
            "imputed": model.impute(x[:30]),
            "probabilities": model.conditional_proba(x[:10], "letter"),
            "means": model.conditional_mean(x[:10], "twice"),
        }
    return said


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, of_cpu in expected.items():
        if isinstance(of_cpu, pd.DataFrame):
            pd.testing.assert_frame_equal(found[name], of_cpu)
        else:
            np.testing.assert_array_equal(found[name], of_cpu, err_msg=name)


def fitted(device, **settings):
    settings = {"epochs": 2, "batch_size": 150, "refit": False, "device": device} | settings
    settings |= {"random_state": 0, "compress_dims": (8,), "embedding_dim": 3}
    settings |= {"numerical": QuantileCodec(n_bins=8, min_samples_bin=2)}  # with fine bins
    return TVAESynthesizer(**settings)


@pytest.mark.parametrize("conditional", [True, False])
def test_the_other_device_gives_the_model_of_the_cpu(other_device, conditional):
    """Every part of the model computes where its tensors are, with the same numbers."""
    x, settings = table(), {"conditional": conditional}
    if not conditional:
        settings |= {"decoder": "independent", "rate_floor": 0.0}
    expected = used(fitted("cpu", **settings).fit(x), x)
    n_before = other_device.n_operations
    model = fitted(OTHER, **settings).fit(x)
    assert other_device.n_closed > 500
    n_fit = other_device.n_operations
    assert_same(used(model, x), expected)
    assert n_fit > n_before and other_device.n_operations > n_fit
    elsewhere = pickle.loads(pickle.dumps(model)).set_params(device="cpu")
    n_used = other_device.n_operations
    assert_same(used(elsewhere, x), expected)
    assert other_device.n_operations == n_used  # a machine without the device needs none


@pytest.mark.slow
def test_a_private_fit_on_the_other_device(other_device):
    """Its secret seeds are new in each fit, so that nothing can be compared."""
    promise = DifferentialPrivacy(epsilon=5.0, delta=1e-3, n_steps=22)
    model = fitted(OTHER, privacy=promise, conditional=False).fit(table()[["letter"]])
    assert other_device.n_operations > 1000 and other_device.n_closed > 0
    assert set(model.sample(20)["letter"]) <= set("xyz")


def in_pieces(device, x, monkeypatch):
    """A table that is read piece by piece, whose rows lie on disk."""
    monkeypatch.setattr(rows, "_MOST_BYTES_IN_MEMORY", 0)
    return fitted(device, conditional=False).fit([x[:150], x[150:]])


def in_a_stream(device, x, monkeypatch):
    return fitted(device, conditional=False).partial_fit(x[:200]).partial_fit(x[200:])


@pytest.mark.filterwarnings("ignore:Columns .* hold numbers outside the range")
@pytest.mark.parametrize("fit", [in_pieces, in_a_stream])
def test_rows_that_come_piece_by_piece(other_device, fit, monkeypatch):
    x = table()
    expected = used(fit("cpu", x, monkeypatch), x)
    model = fit(OTHER, x, monkeypatch)
    assert other_device.n_closed > 300
    assert_same(used(model, x), expected)


def test_a_gpu_is_chosen_for_tables_with_enough_cells(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto").type == "cuda"
    for fewest in (FEWEST_CELLS_TO_FIT, FEWEST_CELLS_TO_PASS):
        assert resolve_device("auto", fewest - 1, fewest).type == "cpu"
        assert resolve_device("auto", fewest, fewest).type == "cuda"
    assert resolve_device("cpu", 10**9).type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto", 10**9).type == "cpu"


def test_a_small_table_stays_on_the_cpu(monkeypatch):
    """Were the GPU chosen in any of the calls, they would fail, since there is none."""
    x = table()
    expected = used(fitted("cpu").fit(x), x)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert_same(used(fitted("auto").fit(x), x), expected)
    assert_same(used(fitted("auto").partial_fit(x), x), used(fitted("cpu").partial_fit(x), x))


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU that is there does not fail")
def test_a_large_table_goes_to_the_gpu(monkeypatch):
    model = fitted("auto", conditional=False).fit(table())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert model._device_to_pass(FEWEST_CELLS_TO_PASS // 3).type == "cpu"
    for use in (
        lambda: model.sample(FEWEST_CELLS_TO_PASS // 3 + 1),
        lambda: fitted("auto", conditional=False).fit(table(FEWEST_CELLS_TO_FIT // 3 + 1)),
    ):
        with pytest.raises((AssertionError, RuntimeError), match="CUDA"):
            use()
