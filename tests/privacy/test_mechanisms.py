"""Histograms with noise: as much of it as claimed, and no key of a single row."""

import sys

import numpy as np
import pytest
from scipy.stats import kstest, norm

from sktvae._privacy.mechanisms import Histograms, noisy_integers, private_count


@pytest.mark.parametrize("sigma", [0.8, 20.0])
def test_counts_have_the_noise_that_is_claimed(sigma):
    histograms = Histograms(sigma, 1e-6)
    rows = np.zeros(500, dtype=int)
    noise = histograms.of_bins("x", "bins", rows, 3000)
    noise[0] -= 500
    assert np.std(noise) == pytest.approx(sigma, rel=0.1)
    assert abs(np.mean(noise)) < 5 * sigma / np.sqrt(3000)
    assert histograms.releases[0].rho == pytest.approx(1 / (2 * sigma**2))
    assert histograms.releases[0].delta == 0


def test_noise_is_different_each_time():
    histograms = Histograms(30.0, 1e-6)
    bins = np.zeros(10, dtype=int)
    a, b = (histograms.of_bins("x", "bins", bins, 50) for _ in range(2))
    assert np.mean(a == b) < 0.2


@pytest.mark.parametrize(("sigma", "rows"), [(5.0, 1), (50.0, 3)])
def test_a_key_of_one_row_is_released_as_rarely_as_delta_says(sigma, rows):
    """With a delta so large that it can be seen; 4,000 keys are as many independent releases.

    With much noise, keys of single rows are never released, and those of three as rarely as delta.
    """
    histograms = Histograms(sigma, delta=0.1)
    found, _, _ = histograms.of_keys("x", "keys", np.repeat(np.arange(4000), rows))
    share, deviation = len(found) / 4000, np.sqrt(0.1 * 0.9 / 4000)
    assert share < 0.1 + 4 * deviation
    assert share > 0.05  # the threshold is no higher than it must be
    release = histograms.releases[0]
    assert release.delta <= 0.1
    assert release.rho == pytest.approx(1 / (2 * sigma**2))
    if rows > 1:
        assert not len(histograms.of_keys("x", "keys", np.arange(4000))[0])


def test_frequent_keys_come_back_with_their_counts():
    histograms = Histograms(3.0, delta=1e-9)
    keys = np.repeat([-(2**62), 7, 2**62], [500, 400, 1])
    apart = np.arange(901) < 100
    found, counts, n_apart = histograms.of_keys("x", "keys", keys, apart)
    assert found.tolist() == [-(2**62), 7]
    assert counts == pytest.approx([400, 400], abs=20)
    assert n_apart == pytest.approx(100, abs=20)


def test_keys_are_those_of_a_threshold_that_grows_with_the_noise():
    for sigma in (1.0, 40.0):
        keys = np.repeat(np.arange(2000), 1 + int(norm.isf(1e-6) * sigma / 2))
        found, _, _ = Histograms(sigma, 1e-6).of_keys("x", "keys", keys)
        assert len(found) < 2000 * 0.05  # half way to the threshold, hardly any passes


def test_every_histogram_counts_all_rows():
    histograms = Histograms(1.0, 1e-6, n_rows=5)
    with pytest.raises(RuntimeError, match="4 rows in a table of 5"):
        histograms.of_bins("x", "bins", np.zeros(4, dtype=int), 2)
    with pytest.raises(RuntimeError, match="6 rows in a table of 5"):
        histograms.of_keys("x", "keys", np.zeros(6, dtype=int))


def test_private_count():
    counts = np.array([private_count(1000, 10.0)[0] for _ in range(300)])
    assert np.std(counts) == pytest.approx(10, rel=0.25)
    assert np.mean(counts) == pytest.approx(1000, abs=4)
    assert min(private_count(1, 50.0)[0] for _ in range(30)) == 1
    assert private_count(5, 10.0)[1].rho == pytest.approx(1 / 200)


def test_integers_get_discrete_normal_noise():
    noisy = noisy_integers(np.full(2000, 2**40), 2.0**30)
    assert kstest((noisy - 2.0**40) / 2.0**30, "norm").pvalue > 1e-6
    assert np.array_equal(noisy, np.rint(noisy))


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "opendp", None)
    monkeypatch.setitem(sys.modules, "opendp.prelude", None)
    with pytest.raises(ImportError, match=r'pip install "sktvae\[privacy\]"'):
        Histograms(1.0, 1e-6).of_bins("x", "bins", np.zeros(3, dtype=int), 2)
