"""Completion of partly known rows, against the enumeration of all rows of small networks.

What an any-order network says of a variable may depend on the order of those before it, so that
expectations are always taken along the orders that the code itself draws.
"""

import math

import numpy as np
import pytest
import torch

from sktvae._heads import Categorical, Gaussian, Uniform
from sktvae._model import completion
from sktvae._model.drawing import draw
from sktvae._model.layout import Batch
from sktvae._model.vae import VAE
from tests.model.conftest import VARIABLES, encoded_rows, enlarge

PLAIN = [Categorical(3), Categorical(4, n_ordered=4), Categorical(2)]
COARSE_FINE = [
    Categorical(4, n_ordered=3),
    Categorical(3, n_ordered=3, refines=True),
    Categorical(2),
    Categorical(3),
]
N = 20_000


def network(heads, seed=16, size=0.6):
    """An untrained decoder without a latent, whose weights are large enough for all to matter."""
    vae = VAE(heads, 0, (), (6, 5, 7), "autoregressive", seed=seed)
    enlarge(vae.decoder, size)
    with torch.no_grad():
        vae.decoder.sigma.fill_(0.4)
    return vae


def all_rows(vae):
    sizes = [head.n_categories for head in vae.layout.heads]
    rows = np.array(list(np.ndindex(*sizes)))
    return rows, vae.layout.to_batch(rows.T)


def no_latent(batch):
    return torch.zeros(batch.n_rows, 0)


@torch.no_grad()
def log_prob(vae, batch, order=None):
    return vae.decoder.log_prob(no_latent(batch), batch, order)


def index_of(vae, first):
    """The place of a variable in orders, by its first head."""
    return next(i for i, heads in enumerate(vae.decoder.variables) if heads[0] == first)


def order_of(vae, *firsts):
    return torch.tensor([index_of(vae, first) for first in firsts])


def known(vae, values, n=N):
    """Rows in which variables are known, by their first heads: {first: (code, ...)}."""
    columns = [np.zeros(n, dtype=int) for _ in vae.layout.heads]
    recorded = torch.zeros(n, len(vae.layout.variables), dtype=torch.bool)
    for i, heads in enumerate(vae.layout.variables):
        if heads[0] in values:
            recorded[:, i] = True
            for j, code in zip(heads, values[heads[0]], strict=True):
                columns[j] = np.full(n, code)
    return vae.layout.to_batch(columns)._replace(recorded=recorded)


def complete(vae, rows, limits=None, allowed=None, seed=0):
    done = completion.complete(
        vae.decoder,
        rows,
        limits or {},
        allowed or {},
        torch.Generator().manual_seed(seed),
        torch.Generator().manual_seed(seed + 1),
    )
    assert done.batch.n_rows == rows.n_rows == len(done.log_mass)
    return done


def orders_used(vae, n, seed=0):
    """The orders that `complete` draws, and the share of the rows that each of them gets."""
    generator = torch.Generator().manual_seed(seed + 1)
    size = min(
        max(-(-n // completion._MOST_ORDERS), completion._FEWEST_ROWS), completion._MOST_ROWS
    )
    for start in range(0, n, size):
        order = vae.decoder.random_order(generator)
        yield order, (min(start + size, n) - start) / n


def frequencies(vae, batch):
    sizes = [head.n_categories for head in vae.layout.heads]
    codes = (batch.codes.long() - torch.tensor(vae.layout.offsets)).numpy()
    index = np.ravel_multi_index(codes.T, sizes)
    return np.bincount(index, minlength=np.prod(sizes)) / batch.n_rows


def normalised(log_weight):
    return torch.softmax(torch.as_tensor(log_weight), dim=0).numpy()


# Known values


def test_what_is_known_stays_and_the_rest_is_conditional_on_it():
    """With one variable unknown, its distribution depends on no order."""
    vae = network(PLAIN)
    rows, batch = all_rows(vae)
    done = complete(vae, known(vae, {0: (2,), 2: (1,)}))
    last = log_prob(vae, batch, order_of(vae, 0, 2, 1))
    fits = (rows[:, 0] == 2) & (rows[:, 2] == 1)
    expected = normalised(torch.where(torch.from_numpy(fits), last, -torch.inf))
    found = frequencies(vae, done.batch)
    assert found[~fits].sum() == 0
    assert expected[fits].std() > 0.05
    np.testing.assert_allclose(found, expected, atol=0.012)
    assert (done.log_mass == 0).all()


def test_two_unknown_variables_follow_each_order_in_its_turn():
    vae = network(PLAIN)
    rows, batch = all_rows(vae)
    found = frequencies(vae, complete(vae, known(vae, {1: (3,)})).batch)
    expected = np.zeros(len(rows))
    for order, share in orders_used(vae, N):
        unknown = [i for i in order.tolist() if i != index_of(vae, 1)]
        logs = log_prob(vae, batch, torch.tensor([index_of(vae, 1), *unknown]))
        fits = torch.from_numpy(rows[:, 1] == 3)
        expected += share * normalised(torch.where(fits, logs, -torch.inf))
    np.testing.assert_allclose(found, expected, atol=0.012)


def test_rows_may_know_different_variables():
    vae = network(PLAIN)
    rows, batch = all_rows(vae)
    one, two = known(vae, {0: (1,)}, 8000), known(vae, {1: (2,), 2: (0,)}, 8000)
    mixed = Batch(*(torch.stack([a, b], 1).flatten(0, 1) if a is not None else None
                    for a, b in zip(one, two, strict=True)))  # fmt: skip
    drawn = complete(vae, mixed).batch
    codes = drawn.codes.long() - torch.tensor(vae.layout.offsets)
    assert (codes[::2, 0] == 1).all()
    assert (codes[1::2, 1] == 2).all() and (codes[1::2, 2] == 0).all()
    fits = torch.from_numpy((rows[:, 1] == 2) & (rows[:, 2] == 0))
    expected = torch.where(fits, log_prob(vae, batch, order_of(vae, 1, 2, 0)), -torch.inf)
    found = frequencies(vae, drawn.rows(slice(1, None, 2)))
    np.testing.assert_allclose(found, normalised(expected), atol=0.02)


def test_rows_that_are_all_known_come_back():
    vae = network(VARIABLES)
    batch = vae.layout.to_batch(encoded_rows(50, heads=VARIABLES).T)
    everything = torch.ones(50, len(vae.layout.variables), dtype=torch.bool)
    done = complete(vae, batch._replace(recorded=everything)).batch
    torch.testing.assert_close(done.codes, batch.codes)
    torch.testing.assert_close(done.values, batch.values, equal_nan=True)


def test_numbers_that_are_known_stay_and_others_are_drawn():
    vae = network(VARIABLES)
    batch = vae.layout.to_batch(encoded_rows(300, heads=VARIABLES).T)
    recorded = torch.rand(300, len(vae.layout.variables)) < 0.5
    drawn = complete(vae, batch._replace(recorded=recorded)).batch
    for i, heads in enumerate(vae.layout.variables):
        for j in heads:
            field = "codes" if vae.layout.is_categorical(j) else "values"
            was, now = (getattr(b, field)[:, vae.layout.slot[j]] for b in (batch, drawn))
            same = torch.where(torch.isnan(was.float()), torch.isnan(now.float()), was == now)
            assert same[recorded[:, i]].all()
            assert not same[~recorded[:, i]].all()


# Limits


@pytest.mark.parametrize("share", [[0.0, 1.0, 0.25, 0.0], [1.0, 0.0, 0.0, 0.5]])
def test_one_limited_variable_is_drawn_from_its_distribution_within(share):
    vae = network(PLAIN)
    rows, batch = all_rows(vae)
    share = torch.tensor(share)
    done = complete(vae, known(vae, {0: (2,)}), {1: share})
    logs = log_prob(vae, batch, order_of(vae, 0, 1, 2)) + share.log()[rows[:, 1]]
    fits = torch.from_numpy(rows[:, 0] == 2)
    logs = torch.where(fits, logs, -torch.inf)
    found = frequencies(vae, done.batch)
    assert found[share.numpy()[rows[:, 1]] == 0].sum() == 0
    np.testing.assert_allclose(found, normalised(logs), atol=0.012)
    given = torch.where(fits, log_prob(vae, batch, order_of(vae, 0, 1, 2)), -torch.inf)
    mass = torch.logsumexp(logs, 0) - torch.logsumexp(given, 0)
    assert mass < -0.05
    torch.testing.assert_close(done.log_mass, mass.expand(N), atol=1e-4, rtol=0)


def test_two_limited_variables_are_drawn_jointly():
    """Among 32 candidates each, so that the result is near, not at, the distribution."""
    vae = network(PLAIN, seed=16, size=0.6)
    rows, batch = all_rows(vae)
    shares = {0: torch.tensor([1.0, 0.0, 0.3]), 1: torch.tensor([0.0, 0.02, 0.0, 1.0])}
    done = complete(vae, known(vae, {}), shares)
    weight = shares[0].log()[rows[:, 0]] + shares[1].log()[rows[:, 1]]
    expected, unweighted, mass = np.zeros(len(rows)), np.zeros(len(rows)), 0.0
    for order, part in orders_used(vae, N):
        limited = [i for i in order.tolist() if i != index_of(vae, 2)]
        path = torch.tensor([*limited, index_of(vae, 2)])
        logs = log_prob(vae, batch, path)
        expected += part * normalised(logs + weight)
        mass += part * float((logs + weight).exp().sum())
        # Without weights, the first variable would be drawn as if the second had no limit.
        first = vae.decoder.variables[limited[0]][0]
        p_first = np.bincount(rows[:, first], (logs + shares[first].log()[rows[:, first]]).exp())
        joint = (logs + weight).exp().numpy()
        within = np.bincount(rows[:, first], joint)
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.nan_to_num(p_first / p_first.sum() / within)
        unweighted += part * joint * ratio[rows[:, first]]
    found = frequencies(vae, done.batch)
    assert found[torch.isinf(weight).numpy()].sum() == 0
    assert np.abs(unweighted - expected).max() > 0.03
    np.testing.assert_allclose(found, expected, atol=0.012)
    np.testing.assert_allclose(done.log_mass.exp().mean(), mass, rtol=0.03)


def coarse_fine_shares():
    share = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.4, 1.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    return {"range": share, "all": torch.ones(4, 3), "part": torch.full((4, 3), 0.5),
            "missing": torch.tensor([[0.0] * 3, [0.0] * 3, [0.2, 0, 0], [1.0] * 3])}  # fmt: skip


@pytest.mark.parametrize("name", coarse_fine_shares())
def test_limits_of_coarse_and_fine_codes(name):
    vae = network(COARSE_FINE)
    rows, batch = all_rows(vae)
    share = coarse_fine_shares()[name]
    done = complete(vae, known(vae, {2: (1,)}), {0: share})
    given = log_prob(vae, batch, order_of(vae, 2, 0, 3))
    given = torch.where(torch.from_numpy(rows[:, 2] == 1), given, -torch.inf)
    logs = given + share.log()[rows[:, 0], rows[:, 1]]
    found = frequencies(vae, done.batch)
    assert found[share[rows[:, 0], rows[:, 1]].numpy() == 0].sum() == 0
    np.testing.assert_allclose(found, normalised(logs), atol=0.012)
    mass = torch.logsumexp(logs, 0) - torch.logsumexp(given, 0)
    torch.testing.assert_close(done.log_mass, mass.expand(N), atol=1e-4, rtol=0)


def test_an_unlikely_limit_is_never_left():
    """However certain the network is of codes beyond the limit."""
    vae = network([Categorical(3), Categorical(2)])
    with torch.no_grad():
        vae.decoder.category_bias[:3] += torch.tensor([500.0, 0.0, 0.0])
    done = complete(vae, known(vae, {}), {0: torch.tensor([0.0, 1e-6, 1.0])})
    assert (done.batch.codes[:, 0] > 0).all()
    assert (done.log_mass < -400).all() and torch.isfinite(done.log_mass).all()


def test_what_is_allowed_restricts_a_draw_and_not_those_before_it():
    vae = network(PLAIN)
    rows, batch = all_rows(vae)
    allowed = torch.tensor([0.0, 1.0, 0.0, 1.0])
    found = frequencies(vae, complete(vae, known(vae, {2: (0,)}), allowed={1: allowed}).batch)
    expected = np.zeros(len(rows))
    for order, part in orders_used(vae, N):
        unknown = [i for i in order.tolist() if i != index_of(vae, 2)]
        p = log_prob(vae, batch, torch.tensor([index_of(vae, 2), *unknown])).exp().numpy()
        p = np.where(rows[:, 2] == 0, p, 0)
        p /= p.sum()
        group = rows[:, 0] if unknown[0] == index_of(vae, 0) else np.zeros(len(rows), dtype=int)
        within = p * allowed.numpy()[rows[:, 1]]
        expected += part * within * (np.bincount(group, p) / np.bincount(group, within))[group]
    assert found[allowed.numpy()[rows[:, 1]] == 0].sum() == 0
    np.testing.assert_allclose(found, expected, atol=0.012)


# Distributions


@pytest.mark.parametrize("heads", [PLAIN, COARSE_FINE], ids=["plain", "coarse and fine"])
def test_the_distribution_of_one_variable_is_that_of_all_rows(heads):
    vae = network(heads)
    rows, batch = all_rows(vae)
    variables = vae.layout.variables
    for heads in variables:
        others = {h[0]: tuple(1 for _ in h) for h in variables if h is not heads}
        some = known(vae, others, 4)
        some.codes[:, heads[0]] += 1  # what is said of the variable itself is not used
        some.recorded[2:, variables.index(heads)] = True
        found = completion.log_probabilities(vae.decoder, some, heads[0])
        order = order_of(vae, *others, heads[0])
        fits = np.all([rows[:, j] == 1 for h in variables if h is not heads for j in h], axis=0)
        logs = log_prob(vae, batch, order)[torch.from_numpy(fits)]
        expected = torch.log_softmax(logs, 0).view(found.shape[1:])
        assert expected.std() > 0.1
        torch.testing.assert_close(found, expected.expand(4, *expected.shape), atol=1e-4, rtol=1e-4)


def test_the_probability_of_what_is_known():
    """Against the sum over all rows that agree with it, of which what is known comes first."""
    vae = network(COARSE_FINE)
    rows, batch = all_rows(vae)
    some = known(vae, {0: (1, 2), 3: (2,)}, 3000)
    found = completion.log_prob_of_known(vae.decoder, some, torch.Generator().manual_seed(0))
    fits = torch.from_numpy((rows[:, 0] == 1) & (rows[:, 1] == 2) & (rows[:, 3] == 2))
    sums = [
        torch.logsumexp(log_prob(vae, batch, order_of(vae, *order))[fits], 0)
        for order in ((0, 3, 2), (3, 0, 2))
    ]
    assert abs(sums[0] - sums[1]) > 1e-3
    near = torch.stack([(found - one).abs() for one in sums]).amin(dim=0)
    assert near.max() < 1e-4
    for one in sums:  # both orders are taken
        assert ((found - one).abs() < 1e-4).float().mean() > 0.2


def test_independent_probabilities_are_products_of_those_alone():
    vae = network(COARSE_FINE)
    rows, batch = all_rows(vae)
    limits = {2: torch.tensor([0.5, 0.0])}
    some = known(vae, {0: (1, 2), 3: (2,)}, 5)
    some.recorded[3:, 2] = False  # the third variable, in some rows only
    found = completion.log_independent(vae.decoder, some, limits)
    alone = lambda first: log_prob(vae, batch, order_of(
        vae, first, *(h[0] for h in vae.layout.variables if h[0] != first)))  # fmt: skip
    p = lambda first, fits: alone(first).exp()[torch.from_numpy(fits)].sum().log()
    limited = p(2, rows[:, 2] == 0) + math.log(0.5)
    first = p(0, (rows[:, 0] == 1) & (rows[:, 1] == 2))
    second = p(3, rows[:, 3] == 2)
    expected = first + limited + torch.tensor([1.0, 1, 1, 0, 0]) * second
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_independent_probabilities_of_numbers():
    """A mode and the number in it: the density that `log_prob` gives to the variable alone."""
    heads = [Categorical(3, n_ordered=3), Gaussian(refines=True), Categorical(2), Uniform()]
    vae = network(heads)
    batch = vae.layout.to_batch(encoded_rows(20, heads=heads).T)
    recorded = torch.tensor([[True, False]]).expand(20, 2)
    some = batch._replace(recorded=recorded)
    found = completion.log_independent(vae.decoder, some, {})
    torch.testing.assert_close(found, log_prob(vae, some), atol=1e-5, rtol=1e-5)
    assert found.std() > 0.1


# Several orders, and variables that are not recorded


@pytest.mark.parametrize(("n", "n_orders"), [(12, 3), (13, 4), (10, 4), (5, 4), (7, 7), (9, 1)])
def test_several_orders_are_those_of_groups_of_rows(n, n_orders):
    vae = network(VARIABLES).double()
    batch = vae.layout.to_batch(encoded_rows(n, heads=VARIABLES).T)
    orders = torch.stack([torch.randperm(len(vae.layout.variables)) for _ in range(n_orders)])
    size = -(-n // n_orders)
    with torch.no_grad():
        z = torch.zeros(n, 0, dtype=torch.double)
        found = vae.decoder.log_prob(z, batch, orders)
        expected = torch.cat(
            [
                vae.decoder.log_prob(z[i : i + size], batch.rows(slice(i, i + size)), order)
                for i, order in zip(range(0, n, size), orders, strict=False)
            ]
        )
        assert (found - vae.decoder.log_prob(z, batch, orders[0])).abs().max() > 0.01 or n == 9
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("n", "n_orders"), [(512, 32), (64, 8), (7, 1), (1, 1), (1000, 32)])
def test_a_batch_has_many_orders(n, n_orders):
    vae = network(VARIABLES)
    orders = vae.decoder.random_orders(n, torch.Generator().manual_seed(0))
    n_variables = len(vae.layout.variables)
    assert orders.shape == (n_orders, n_variables)
    assert (orders.sort(dim=1).values == torch.arange(n_variables)).all()
    assert len(orders.unique(dim=0)) > n_orders / 2


@pytest.mark.parametrize("order", [(0, 2, 3), (3, 2, 0), (2, 0, 3)])
def test_probabilities_of_recorded_variables_sum_to_one(order):
    vae = network(COARSE_FINE)
    rows, batch = all_rows(vae)
    recorded = torch.tensor([[True, False, True]]).expand(len(rows), 3)
    p = log_prob(vae, batch._replace(recorded=recorded), order_of(vae, *order)).exp()
    # Each combination of what is recorded occurs twice, with either code of the hidden variable.
    torch.testing.assert_close(p.sum() / 2, torch.ones(()))
    assert p.std() > 0.005


def some_recorded(n):
    vae = network(VARIABLES)
    batch = vae.layout.to_batch(encoded_rows(n, heads=VARIABLES).T)
    generator = torch.Generator().manual_seed(5)
    recorded = torch.rand(n, len(vae.layout.variables), generator=generator) < 0.6
    return vae, batch._replace(recorded=recorded)


def hidden_changed(vae, batch):
    """The same rows, with other codes and values where they are not recorded."""
    other = vae.layout.to_batch(encoded_rows(batch.n_rows, seed=9, heads=VARIABLES).T)
    codes, values = other.codes.clone(), other.values.clone()
    for i, heads in enumerate(vae.layout.variables):
        shown = batch.recorded[:, i]
        for j in heads:
            slot = vae.layout.slot.get(j)
            new, old = (codes, batch.codes) if vae.layout.is_categorical(j) else (
                values, batch.values)  # fmt: skip
            new[shown, slot] = old[shown, slot]
    assert (codes != batch.codes).any() and (values != batch.values).any()
    return batch._replace(codes=codes, values=values)


@pytest.mark.parametrize("n_orders", [0, 5])
def test_what_is_not_recorded_changes_nothing(n_orders):
    """Neither the likelihood nor any gradient."""
    vae, batch = some_recorded(40)
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(len(vae.layout.variables), generator=generator) for _ in range(5)]
    orders = torch.stack(orders) if n_orders else orders[0]
    results = []
    for rows in (batch, hidden_changed(vae, batch)):
        vae.zero_grad()
        each = vae.decoder.log_prob(no_latent(rows), rows, orders)
        each.sum().backward()
        grads = [p.grad.clone() for p in vae.parameters() if p.grad is not None]
        results.append((each.detach(), *grads))
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two)
    whole = vae.decoder.log_prob(no_latent(batch), batch._replace(recorded=None), orders)
    assert (whole - results[0][0]).abs().min() >= 0 and (whole - results[0][0]).abs().max() > 0.5


def test_recorded_variables_are_as_likely_as_if_they_came_first():
    """Row by row: in a table that has only the variables that the row records, in its order."""
    vae, batch = some_recorded(12)
    order = torch.randperm(len(vae.layout.variables), generator=torch.Generator().manual_seed(2))
    found = log_prob(vae, batch, order)
    for k in range(batch.n_rows):
        row = batch.rows(slice(k, k + 1))
        shown = [i for i in order.tolist() if row.recorded[0, vae.decoder.place[i]]]
        total = torch.zeros(())
        for position in range(len(shown)):
            # The conditional of one variable, as a difference of likelihoods of prefixes.
            for prefix, sign in ((shown[: position + 1], 1), (shown[:position], -1)):
                only = torch.zeros_like(row.recorded)
                only[0, vae.decoder.place[prefix]] = True
                first = [*prefix, *(v for v in order.tolist() if v not in prefix)]
                part = row._replace(recorded=only)
                total = total + sign * log_prob(vae, part, torch.tensor(first))[0]
        torch.testing.assert_close(found[k], total, atol=1e-4, rtol=1e-4)


def test_a_walk_with_given_rows_gives_their_likelihood():
    """What is given is visible from the start; the outputs of the rest are those of `log_prob`."""
    vae = network(COARSE_FINE)
    _, batch = all_rows(vae)
    order = order_of(vae, 3, 0, 2)
    recorded = torch.tensor([[False, True, False]]).expand(batch.n_rows, 3)
    given = batch._replace(recorded=recorded)
    with torch.no_grad():
        walk = vae.decoder.walk(no_latent(batch), order, given)
        assert walk.variables == [[3], [0, 1]]
        total = torch.zeros(batch.n_rows)
        for j in walk.heads:
            codes = batch.codes[:, vae.layout.slot[j]].long() - vae.layout.span(j).start
            total += torch.log_softmax(walk.output(j), 1).gather(1, codes[:, None])[:, 0]
            walk.take(j, codes)
        first = log_prob(vae, given, order)
    whole = log_prob(vae, batch, order_of(vae, 2, 3, 0))
    torch.testing.assert_close(total + first, whole, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(walk.batch().codes, batch.codes)


def test_nothing_known_is_a_draw_from_the_model():
    vae = network(PLAIN)
    rows, _ = all_rows(vae)
    order = order_of(vae, 0, 1, 2)
    drawn = draw(vae.decoder, torch.zeros(N, 0), torch.Generator().manual_seed(0), order)
    walked = vae.decoder.walk(torch.zeros(N, 0), order, known(vae, {}))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for heads in walked.variables:
            mass = completion.draw_variable(walked, heads, None, generator)
            assert (mass == 0).all()
    torch.testing.assert_close(walked.batch().codes, drawn.codes)
    assert len(rows) == 24
