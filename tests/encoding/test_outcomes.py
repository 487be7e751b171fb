"""Means and quantiles of bins and atoms are those of numbers that are drawn from them."""

import numpy as np
import pytest

from sktvae import QuantileCodec
from sktvae._encoding import outcomes

RNG = np.random.default_rng(0)
COLUMNS = {
    "floats": RNG.normal(size=500),
    "cents": np.round(RNG.lognormal(3, 1, 500), 2),
    "integers": RNG.integers(0, 40, 500).astype(float),
    "many zeros": np.where(RNG.random(500) < 0.4, 0, RNG.lognormal(0, 1, 500).round(1)),
}


def mixture(codec, values, rng):
    """Probabilities of bins and of three numbers, the second of which is twice there."""
    numbers = rng.choice(values, 2)[[0, 1, 1]]
    shares = rng.dirichlet(np.ones(4))
    follow = [(np.full(1, x), np.full(1, p)) for x, p in zip(numbers, shares[:3], strict=True)]
    bins = rng.dirichlet(np.full(codec.bins_.max() + 1, 0.3), 2)
    present, atoms = outcomes.with_atoms(bins[:1], bins[1:], follow)
    np.testing.assert_allclose(present.sum() + atoms.mass.sum(), 1)
    return present, atoms


def drawn(codec, present, atoms, rng, n=100_000):
    share = present[0][codec.bins_] * codec.shares()[0]
    from_cell = codec.numbers_at(rng.choice(len(share), n, p=share / share.sum()), rng.random(n))
    mass = atoms.mass[0]
    which = rng.choice(len(mass) + 1, n, p=[*mass, max(0.0, 1 - mass.sum())])
    return np.where(which < len(mass), np.append(atoms.numbers[0], 0)[which], from_cell)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("values", COLUMNS.values(), ids=COLUMNS)
def test_means_and_quantiles_are_those_of_draws(values, seed):
    rng, codec = np.random.default_rng(seed), QuantileCodec().fit(values)
    present, atoms = mixture(codec, values, rng)
    draws = drawn(codec, present, atoms, rng)
    mean = outcomes.mean(codec, present, atoms)[0]
    assert abs(mean - draws.mean()) < 0.02 * draws.std()
    levels = np.linspace(0.02, 0.98, 25)
    found = outcomes.quantile(codec, present, levels, atoms)[0]
    below = np.array([(draws < x - 1e-9).mean() for x in found])
    up_to = np.array([(draws < x + 1e-9).mean() for x in found])
    assert (below < levels + 0.01).all() and (up_to > levels - 0.01).all()
    assert (np.diff(found) >= 0).all()


def test_numbers_that_are_sure_to_follow_from_others():
    codec = QuantileCodec().fit(COLUMNS["floats"])
    atoms = outcomes.Atoms(np.array([[1.0, -1.0, -2.0]]), np.array([[0.5, 0.5, 0.0]]))
    nothing = np.zeros((1, codec.bins_.max() + 1))
    found = outcomes.quantile(codec, nothing, np.array([0, 0.2, 0.8, 1]), atoms)
    assert found.tolist() == [[-1, -1, 1, 1]] and outcomes.mean(codec, nothing, atoms) == 0
