"""The two networks of a fit are trained at the same time, each on one thread."""

import sys
import threading

import numpy as np
import pandas as pd
import pytest
import torch

from sktvae import TVAESynthesizer, _fitting
from sktvae._model.vae import VAE
from sktvae._threads import one_thread


def noise_table(n_rows=400):
    rng = np.random.default_rng(0)
    return pd.DataFrame({"x": rng.normal(size=n_rows).round(2), "t": rng.choice([*"abc"], n_rows)})


def weights(network):
    return {name: p.detach().numpy() for name, p in network.named_parameters()}


@pytest.fixture(autouse=True)
def n_threads():
    """Sets torch's number of threads, with one of which nothing is side by side, to two."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_a_fit_does_not_depend_on_the_number_of_threads(n_threads):
    table = noise_table()
    fitted = []
    for n in (1, 3):
        n_threads(n)
        fitted.append(TVAESynthesizer(epochs=3, random_state=0).fit(table))
        assert torch.get_num_threads() == n
    one, other = fitted
    for network in (lambda model: model.vae_, lambda model: model.any_order_.network):
        for name, p in weights(network(one)).items():
            np.testing.assert_array_equal(p, weights(network(other))[name])


@pytest.mark.parametrize(("width", "expected"), [(128, 1), (1536, 3)])
def test_operations_share_threads_only_if_they_are_large(n_threads, monkeypatch, width, expected):
    """Beside other processes, threads that wait for each other take tens of times as long."""
    seen, train = [], _fitting.train

    def watched(*args, **kwargs):
        seen.append(torch.get_num_threads())
        return train(*args, **kwargs)

    monkeypatch.setattr(_fitting, "train", watched)
    n_threads(3)
    layers = {"decoder": "independent", "decompress_dims": (width, width), "batch_size": 400}
    TVAESynthesizer(**layers, epochs=1, conditional=False).fit(noise_table())
    assert set(seen) == {expected} and torch.get_num_threads() == 3


@pytest.mark.parametrize("before", [False, True])
def test_only_training_takes_denormal_numbers_as_zero(monkeypatch, before):
    """In a long training, they would make steps several times as slow."""
    are_zero = lambda: bool(torch.tensor([1e-30]) * 1e-10 == 0) and sys.float_info.min * 0.5 == 0
    seen, train = [], _fitting.train

    def watched(*args, **kwargs):
        seen.append(are_zero())
        return train(*args, **kwargs)

    monkeypatch.setattr(_fitting, "train", watched)
    if not torch.set_flush_denormal(before):
        pytest.skip("this processor cannot do it")
    try:
        TVAESynthesizer(epochs=1).fit(noise_table())  # both networks, one in another thread
        assert are_zero() == before
    finally:
        torch.set_flush_denormal(False)
    assert len(seen) >= 2 and all(seen)


def test_one_thread_is_for_the_caller_alone(n_threads):
    n_threads(3)
    with one_thread():
        assert torch.get_num_threads() == 1 and number_in_a_new_thread() == 3
    assert torch.get_num_threads() == 3


def test_partial_fit_does_not_depend_on_the_number_of_threads(n_threads):
    table, kept = noise_table(), []
    for n in (1, 3):
        n_threads(n)
        model = TVAESynthesizer(calibrate=False, random_state=0).partial_fit(table)
        kept.append(model._stream)
        assert torch.get_num_threads() == n
    for network in ("vae", "any_order"):
        np.testing.assert_array_equal(*(one[network]["live"] for one in kept))


def number_in_a_new_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


def test_threads_that_start_at_the_same_time_leave_the_number_for_all(n_threads):
    """A thread must not take the number that another one sets for itself for that of all."""
    n_threads(3)

    def limited():
        with one_thread():
            pass

    for _ in range(100):
        both = [threading.Thread(target=limited) for _ in range(2)]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
        assert number_in_a_new_thread() == 3


class Ends(VAE):
    """A network whose training ends in its 30th step, by an error or by Ctrl-C."""

    error: type[BaseException] = KeyboardInterrupt
    n_steps = 0

    def project_(self):
        super().project_()
        self.n_steps += 1
        if self.n_steps == 30:
            raise self.error


class OneEnds(TVAESynthesizer):
    """Of whose networks one ends early; the other would take hours."""

    def _new_network(self, encoder, seed, any_order):
        network = super()._new_network(encoder, seed, any_order)
        if any_order == self.of_any_order:
            network.__class__ = type("Ends", (Ends,), {"error": self.error})
        return network


def one_ends(error, of_any_order, epochs):
    model = OneEnds(epochs=epochs, early_stopping=False, random_state=0)
    model.error, model.of_any_order = error, of_any_order
    return model


def test_ctrl_c_ends_both_networks():
    model = one_ends(KeyboardInterrupt, False, 1_000_000)
    with pytest.warns(UserWarning, match="interrupted"):
        model.fit(noise_table())
    assert model.n_iter_ < 10 and len(model.sample(5)) == 5
    if model.any_order_ is not None:  # it has been checked once at least
        assert len(model.any_order_.history["loss"]) < 1_000_000
        assert (model.sample(5, conditions={"t": "a"})["t"] == "a").all()


def test_an_error_in_one_network_ends_both_and_changes_nothing():
    model = one_ends(ValueError("spoilt"), False, 1_000_000)
    with pytest.raises(ValueError, match="spoilt"):
        model.fit(noise_table())
    assert not hasattr(model, "encoder_")


@pytest.mark.parametrize("error", [ValueError, ZeroDivisionError])
def test_an_error_in_the_second_network_is_raised_and_ends_the_first(error):
    model = one_ends(error("spoilt"), True, 1_000_000)
    with pytest.raises(error, match="spoilt"):
        model.fit(noise_table())
    assert not hasattr(model, "encoder_")
