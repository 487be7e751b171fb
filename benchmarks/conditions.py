"""Rows drawn under conditions: against the truth of a known distribution, and on Adult.

    OMP_NUM_THREADS=1 python benchmarks/conditions.py truth [--orders 3] [--seed 0]
    OMP_NUM_THREADS=1 python benchmarks/conditions.py rare [--seeds 0 1 2]
    OMP_NUM_THREADS=1 python benchmarks/conditions.py adult YARDSTICK SPLITS [--seeds 0 1 2]

`truth` fits 50,000 rows of a Bayesian network of five categorical and two numeric columns, in
several orders of the columns, and draws 50,000 rows for each of twelve conditions on one, two and
four columns: values, ranges and lists. The truth is what five million rows of the network hold, of
those that satisfy the condition. Printed is the total variation between the two for each column
that is not known (numbers cut at their deciles): the mean and the largest over columns. Beside
them is the mean that the rows of the fitted table have which satisfy the condition, and the mean
that as many draws from the truth would have.

`rare` fits tables with a class of few rows, in which two columns have a mean of 2, and 0 elsewhere.
Printed are the means of these columns in rows that are drawn given the class, and in those of the
table.

`adult` needs the yardstick (`fidelity.py`) and its splits. Rows are drawn with the condition that
the income is above 50,000, with a rare country, for women who are executives, for people from
Mexico, and with age, sex, race and country of the test rows; a classifier tells them from real rows
that satisfy the condition (AUC; 0.5 is best): test rows, or train and test rows where there are
fewer than 1,500 of these. Times are those of 10,000 rows. Last comes the negative log-likelihood of
test rows in the table's order and in random orders.
"""

import argparse
import importlib.util
import os
import pathlib
import time

import numpy as np
import pandas as pd
import torch

from sktvae import TVAESynthesizer

N_ROWS, N_TRUE = 50_000, 5_000_000


def network(n, seed):
    """Rows of a Bayesian network: a -> b, (a, b) -> c, c -> x, (x, b) -> y, y -> d, (d, a) -> e."""
    random = np.random.default_rng(seed)
    tables = np.random.default_rng(123)

    def child(*parents, n_values):
        index = np.zeros(n, dtype=int)
        size = 1
        for parent, n_parent in parents:
            index, size = index * n_parent + parent, size * n_parent
        until = tables.dirichlet(np.full(n_values, 0.8), size=size).cumsum(axis=1)
        return (random.random(n)[:, None] > until[index]).sum(axis=1).clip(max=n_values - 1)

    a = child(n_values=4)
    b = child((a, 4), n_values=3)
    c = child((a, 4), (b, 3), n_values=6)
    x = np.array([0.0, 1.0, 4.0, 4.5, -3.0, 8.0])[c] + random.gamma(2.0, 0.7, n)
    y = np.where(b == 0, -x, x) + random.normal(size=n) * np.array([0.5, 1.5, 1.0])[b]
    d = child((np.digitize(y, [-3, 0, 2, 6]), 5), n_values=5)
    e = child((d, 5), (a, 4), n_values=2)
    letters = [np.array([f"{name}{k}" for k in range(6)]) for name in "abcde"]
    columns = {
        name: letter[codes]
        for name, letter, codes in zip("abcde", letters, (a, b, c, d, e), strict=True)
    }
    return pd.DataFrame({**columns, "x": x.round(2), "y": y.round(2)})


CONDITIONS = (
    {"a": "a1"},
    {"e": "e1"},
    {"x": pd.Interval(1, 3)},
    {"d": ["d0", "d3"]},
    {"y": pd.Interval(-10, -1)},
    {"b": "b1", "e": "e0"},
    {"c": ["c1", "c2"], "y": pd.Interval(2, 6)},
    {"a": ["a0", "a2"], "d": ["d1", "d2", "d4"]},
    {"x": pd.Interval(0, 4), "y": pd.Interval(-4, 4)},
    {"a": "a0", "c": "c0", "d": ["d0", "d1"], "e": "e0"},
    {"b": ["b0", "b2"], "d": "d3", "x": pd.Interval(0, 6), "e": ["e0", "e1"]},
    {"c": ["c0", "c3", "c5"], "e": "e1", "x": pd.Interval(-1, 9), "y": pd.Interval(-2, 12)},
)


def satisfies(rows, condition):
    mask = np.ones(len(rows), dtype=bool)
    for name, wanted in condition.items():
        values = rows[name]
        if isinstance(wanted, pd.Interval):
            mask &= ((values > wanted.left) & (values <= wanted.right)).to_numpy()
        else:
            mask &= values.isin(wanted if isinstance(wanted, list) else [wanted]).to_numpy()
    return mask


def shares(column, like):
    if column.dtype.kind == "f":
        edges = np.unique(np.quantile(like, np.linspace(0, 1, 11))[1:-1])
        return np.bincount(np.digitize(column, edges), minlength=len(edges) + 1) / len(column)
    categories = np.unique(like)
    return column.value_counts(normalize=True).reindex(categories, fill_value=0).to_numpy()


def distance(rows, true):
    """Mean and largest total variation over columns, and what as many true rows would have."""
    found, chance = [], []
    again = true.sample(len(rows), replace=True, random_state=0)
    for name in true:
        expected = shares(true[name], true[name])
        found.append(0.5 * np.abs(shares(rows[name], true[name]) - expected).sum())
        chance.append(0.5 * np.abs(shares(again[name], true[name]) - expected).sum())
    return np.mean(found), np.max(found), np.mean(chance)


def truth(n_orders, seed):
    everything = network(N_TRUE, 1)
    rows = network(N_ROWS, 2)
    for k in range(n_orders):
        order = list(np.random.default_rng(k).permutation(rows.columns)) if k else list(rows)
        start = time.perf_counter()
        model = TVAESynthesizer(random_state=seed).fit(rows[order])
        print(f"order {' '.join(order)}: fit {time.perf_counter() - start:.0f} s", flush=True)
        everywhere = []
        for condition in CONDITIONS:
            true = everything[satisfies(everything, condition)]
            drawn = model.sample(N_ROWS, conditions=condition)
            assert satisfies(drawn, condition).all()
            unknown = [name for name in rows if not isinstance(condition.get(name), str)]
            mean, largest, chance = distance(drawn[unknown], true[unknown])
            fitted, _, _ = distance(rows[satisfies(rows, condition)][unknown], true[unknown])
            everywhere.append((mean, largest))
            stated = {k: str(v) for k, v in condition.items()}
            print(
                f"  P={len(true) / N_TRUE:.3f}  TV mean {mean:.4f}  max {largest:.4f}  "
                f"(table {fitted:.4f}, chance {chance:.4f})  {stated}",
                flush=True,
            )
        mean, largest = np.array(everywhere).T
        print(f"  mean over conditions {mean.mean():.4f}, largest {largest.max():.4f}", flush=True)


def table_with_rare_class(n_rare, n_others, seed):
    random = np.random.default_rng(seed)
    n = n_rare + n_others
    group = np.repeat(["rare", "other"], [n_rare, n_others])
    shift = np.where(group == "rare", 2.0, 0.0)
    return pd.DataFrame(
        {
            "a": (shift + random.normal(size=n)).round(2),
            "b": (shift + random.normal(size=n)).round(2),
            "noise": random.normal(size=n).round(2),
            "letter": random.choice(list("uvw"), n),
            "group": group,
        }
    )


def rare(seeds):
    for n_rare, n_others in ((10, 1000), (20, 1000), (50, 1000), (50, 6000)):
        for seed in seeds:
            rows = table_with_rare_class(n_rare, n_others, seed)
            model = TVAESynthesizer(random_state=seed).fit(rows)
            drawn = model.sample(5000, conditions={"group": "rare"})
            means = {
                name: table[["a", "b"]].mean().round(2).tolist()
                for name, table in (("drawn", drawn), ("table", rows[rows["group"] == "rare"]))
            }
            print(f"{n_rare} of {len(rows)} rows, seed {seed}: {means}", flush=True)


def module_of(path):
    spec = importlib.util.spec_from_file_location("yardstick", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def adult(yardstick, splits, seeds):
    tool = module_of(yardstick)
    _, _, about = tool.load(splits, "adult")
    train, test = (pd.read_csv(splits / f"adult.{part}.csv") for part in ("train", "test"))
    both = pd.concat([train, test], ignore_index=True)
    frequency = train["native.country"].value_counts(normalize=True)
    rare = (frequency - 0.002).abs().idxmin()
    rich = next(value for value in test["income"].unique() if ">50K" in value)
    cases = {
        "income >50K": {"income": rich},
        "executive women": {"sex": "Female", "occupation": "Exec-managerial"},
        "Mexico": {"native.country": "Mexico"},
    }
    for seed in seeds:
        model = TVAESynthesizer(random_state=seed)
        start = time.perf_counter()
        model.fit(train)
        line = f"seed {seed}: fit {time.perf_counter() - start:.0f} s"
        for name, condition in cases.items():
            real = _meeting(test, condition)
            real = real if len(real) >= 1500 else _meeting(both, condition)
            drawn = model.sample(len(real), conditions=condition)
            line += f"; {name} {_auc(tool, about, real, drawn):.3f} ({len(real)} rows)"
        known = ["age", "sex", "race", "native.country"]
        seen = test[test["native.country"].isin(model.sample(50_000)["native.country"].unique())]
        drawn = model.sample(conditions=seen[known])
        line += f"; demographics {_auc(tool, about, seen, drawn):.3f} ({len(seen)} rows)"
        print(line, flush=True)
        seconds = {}
        for name, arguments in {
            "none": {},
            "income": {"conditions": {"income": rich}},
            f"{rare} ({frequency[rare]:.2%})": {"conditions": {"native.country": rare}},
        }.items():
            start = time.perf_counter()
            model.sample(10_000, **arguments)
            seconds[name] = round(time.perf_counter() - start, 2)
        print(f"  seconds for 10,000 rows: {seconds}")
        print(f"  {_likelihoods(model, test)}", flush=True)


def _meeting(rows, condition):
    mask = np.ones(len(rows), dtype=bool)
    for name, value in condition.items():
        mask &= (rows[name] == value).to_numpy()
    return rows[mask]


def _auc(tool, about, real, drawn):
    real, drawn = (tool.as_text(rows.copy(), about["cats"]) for rows in (real, drawn))
    return tool.c2st(real, drawn, about["cats"])


@torch.no_grad()
def _likelihoods(model, rows):
    """Negative log-likelihood per row under the any-order network, by orders of the columns."""
    network = model.any_order_.network
    encoded = model.encoder_.encode(rows, log_density=True)
    batch = network.layout.to_batch(encoded.heads)
    generator = torch.Generator().manual_seed(0)
    nll = {"the table's order": [], "random orders": []}
    for start in range(0, batch.n_rows, 1000):
        part = batch.rows(slice(start, start + 1000))
        z = torch.zeros(part.n_rows, 0)
        orders = network.decoder.random_orders(part.n_rows, generator)
        nll["the table's order"].append(-network.decoder.log_prob(z, part))
        nll["random orders"].append(-network.decoder.log_prob(z, part, orders))
    density = encoded.log_density.mean()
    found = {
        name: round(float(torch.cat(parts).mean() - density), 3) for name, parts in nll.items()
    }
    bound = model.score_samples(rows)
    return {**found, "VAE, bound of eight draws": round(-float(bound.mean()), 3)}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("truth")
    command.add_argument("--orders", type=int, default=3)
    command.add_argument("--seed", type=int, default=0)
    command = commands.add_parser("rare")
    command.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    command = commands.add_parser("adult")
    command.add_argument("yardstick", type=pathlib.Path)
    command.add_argument("splits", type=pathlib.Path)
    command.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 2)))
    if arguments.command == "truth":
        truth(arguments.orders, arguments.seed)
    elif arguments.command == "rare":
        rare(arguments.seeds)
    else:
        adult(arguments.yardstick, arguments.splits, arguments.seeds)


if __name__ == "__main__":
    main()
