"""The accounting of differential privacy, against formulas and against another accountant."""

import math

import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent, rdp
from scipy.optimize import brentq
from scipy.stats import norm

from sktvae import DifferentialPrivacy
from sktvae._privacy.accounting import Ledger, Spending, least_scale
from sktvae._privacy.budget import Budget


def gaussian_epsilon(sigma, delta):
    """The exact epsilon of the Gaussian mechanism (Balle, Wang 2018, theorem 8)."""

    def excess(epsilon):
        a, b = 1 / (2 * sigma), epsilon * sigma
        return norm.cdf(a - b) - math.exp(epsilon) * norm.cdf(-a - b) - delta

    return brentq(excess, 0, 50)


@pytest.mark.parametrize("sigma", [0.7, 3.0, 40.0])
@pytest.mark.parametrize("delta", [1e-5, 1e-3])
def test_epsilon_of_a_gaussian_is_the_exact_one(sigma, delta):
    found = Ledger([Spending("", "Gaussian", sigma)]).epsilon(delta)
    exact = gaussian_epsilon(sigma, delta)
    assert exact - 1e-9 <= found <= exact + 2e-3


@pytest.mark.parametrize("mechanism", ["Gaussian", "discrete Gaussian"])
def test_many_gaussians_cost_as_much_as_one_of_less_noise(mechanism):
    together = Ledger([Spending("one", mechanism, 40.0, 10), Spending("two", mechanism, 40.0, 15)])
    assert together.epsilon(1e-5) == pytest.approx(gaussian_epsilon(8.0, 1e-5), abs=5e-3)


def test_sampling_is_accounted_as_tightly_as_by_renyi_divergences_or_more():
    rate, sigma, n_steps, delta = 0.05, 2.0, 300, 1e-5
    found = Ledger([Spending("", "Gaussian", sigma, n_steps, rate)]).epsilon(delta)
    accountant = rdp.RdpAccountant()
    accountant.compose(
        SelfComposedDpEvent(PoissonSampledDpEvent(rate, GaussianDpEvent(sigma)), n_steps)
    )
    upper = accountant.get_epsilon(delta)
    # By the central limit theorem, the losses add up to that of a single Gaussian.
    lower = gaussian_epsilon(1 / (rate * math.sqrt(n_steps * (math.exp(sigma**-2) - 1))), delta)
    assert 0.9 * lower <= found <= upper
    everybody = Ledger([Spending("", "Gaussian", sigma, n_steps)]).epsilon(delta)
    assert found < everybody / 3


def test_what_keys_may_reveal_is_taken_from_delta():
    keys = Spending("", "discrete Gaussian", 5.0, 4, delta=1e-6)
    plain = Spending("", "discrete Gaussian", 5.0, 4)
    assert Ledger([keys]).epsilon(1e-5) == Ledger([plain]).epsilon(1e-5 - 4e-6)
    assert Ledger([keys]).epsilon(4e-6) == math.inf


def test_the_least_noise_is_enough_and_no_more():
    epsilon_of = lambda scale: Ledger([Spending("", "Gaussian", scale)]).epsilon(1e-5)
    scale = least_scale(epsilon_of, 1.0)
    assert epsilon_of(scale) <= 1.0 < epsilon_of(scale / 1.004)
    with pytest.raises(ValueError, match="No amount of noise"):
        least_scale(lambda scale: 2.0, 1.0)


@pytest.mark.parametrize("epsilon", [0.5, 3.0])
def test_a_fit_spends_its_budget_and_no_more(epsilon):
    budget = Budget(DifferentialPrivacy(epsilon=epsilon, delta=1e-5), 10_000)
    sigma, delta = budget.for_histograms(20, 15)
    budget.ledger.entries += [
        Spending(f"column {i}", "discrete Gaussian", sigma, delta=delta * (i < 15))
        for i in range(20)
    ]
    histograms = Ledger(budget.ledger.entries[1:]).epsilon(1e-5)
    assert histograms == pytest.approx(0.3 * epsilon, rel=0.02)
    budget.for_training(0.05, 200)
    assert 0.99 * epsilon < budget.spent <= epsilon
    alone = [record["epsilon_alone"] for record in budget.ledger.records(budget.delta)]
    assert len(alone) == 22 and max(alone) < epsilon
    # Spending adds up like the sides of a right angle rather than in a line.
    assert alone[-1] > 0.85 * epsilon


def test_delta_is_one_divided_by_the_number_of_rows_as_it_is_known():
    budget = Budget(DifferentialPrivacy(epsilon=1.0), 10_000)
    assert budget.delta == 1 / budget.n_rows
    assert abs(budget.n_rows - 10_000) < 6 * 20
    counts = {Budget(DifferentialPrivacy(epsilon=1.0), 10_000).n_rows for _ in range(10)}
    assert len(counts) > 5, "the number of rows has no noise"
