"""Attacks: what does a synthesizer give away about the rows that it was trained on?

    OMP_NUM_THREADS=1 python benchmarks/attacks.py DATA_DIR [--tables NAME:ROWS ...] [--seeds 0 1 2]
        [--own JSON] [--memorise] [--json LINES.jsonl]

DATA_DIR holds `datasets.json` and the tables that it names. For each table and seed, the rows are
shuffled and divided into three parts: as many members as ROWS says, on which the synthesizer is
fitted; the attacker's own reference rows, at most as many; and fresh rows of the same table, at
most 5,000. `sktvae.metrics.privacy_attacks` then runs all attacks, and says what each of them is:
on membership, with the model in hand (alone, and with a reference model that is fitted to the
reference rows), with as many synthetic rows as there are members, and with ten times as many (at
most 10,000), which somebody who has the model can draw; singling out, linkability and attribute
inference. "any order" is one more: the likelihood under the network behind conditions, mean over
eight orders.

Printed are means over the seeds. For membership: the AUC (0.5 is chance), and the shares of members
that are found when 1 % and 10 % of the fresh rows are falsely taken for members. For the others:
the rate of success on members, that of guessing, that on fresh rows, and the risk. Intervals are
95 % (Hanley and McNeil 1982 for the AUC, Wilson's for the shares). The gain is ``2 AUC - 1``, or
the risk; "worst" is the attack with the largest gain at the lower end of the interval.

`--memorise` fits 60 epochs without early stopping, dropout or protection, and with as fine bins as
possible: the attacks must find that model. `--own` holds parameters of `TVAESynthesizer`.
"""

import argparse
import json
import pathlib
import time
import warnings

import numpy as np
import pandas as pd
import torch
from sklearn.base import clone

from sktvae import QuantileCodec, TVAESynthesizer
from sktvae.metrics import likelihood_membership, privacy_attacks
from sktvae.metrics._detection import auc_error
from sktvae.metrics._intervals import wilson

DEFAULT_TABLES = ("titanic:400", "shoppers:600", "shoppers:2300", "default:600", "default:2300")
DEFAULT_TABLES += ("adult:500", "adult:2000", "adult:10000")
_MOST_FRESH = 5_000
_MAX_ROWS = 10_000


def load(data_dir, name):
    """One table of `datasets.json`; text and listed columns are categories."""
    sets = json.loads((data_dir / "datasets.json").read_text())["datasets"]
    about = next(one for one in sets if one["name"] == name)
    table = pd.read_csv(data_dir / about["file"])
    listed = [*about["categorical"]]
    if about["task"] != "regression":
        listed.append(about["target"])
    return table.astype({column: "category" for column in listed if column in table})


def divide(table, n_members, seed):
    """Members, reference rows and fresh rows, disjoint."""
    order = np.random.default_rng(seed).permutation(len(table))
    n_left = len(table) - n_members
    n_reference = min(n_members, n_left // 2)
    parts = np.split(order, [n_members, n_members + n_reference])
    members, reference, fresh = (table.iloc[part].reset_index(drop=True) for part in parts)
    return members, reference, fresh.iloc[:_MOST_FRESH]


class AnyOrder:
    """The network behind conditions, as an object with `score_samples`."""

    def __init__(self, model, n_orders=8):
        self.model = model
        self.n_orders = n_orders

    @torch.no_grad()
    def score_samples(self, X):
        """The log-likelihood of rows, mean over random orders of the columns."""
        network, generator = self.model.any_order_.network, torch.Generator().manual_seed(0)
        encoded = self.model.encoder_.encode(X, log_density=True)
        batch = network.layout.to_batch(encoded.heads)
        z = torch.zeros(batch.n_rows, 0)
        draws = [
            network.decoder.log_prob(z, batch, network.decoder.random_orders(len(X), generator))
            for _ in range(self.n_orders)
        ]
        return torch.stack(draws).mean(dim=0).numpy() + encoded.log_density


def attack(members, reference, fresh, synthesizer, seed):
    """Fit a synthesizer and attack it.

    Returns
    -------
    attacks : dict of str to dict
        The figures of each attack, without those that are not known.
    about : dict
        Seconds to fit, the epochs, and the scores of members and of fresh rows.
    """
    start = time.perf_counter()
    model = clone(synthesizer).set_params(random_state=seed).fit(members)
    about = {"fit_s": round(time.perf_counter() - start, 2), "epochs": model.n_iter_}
    other = clone(synthesizer).set_params(random_state=seed + 1000).fit(reference)
    synthetic = model.sample(len(members), random_state=seed + 2000)
    found = privacy_attacks(
        members,
        synthetic,
        fresh,
        X_reference=reference,
        estimator=model,
        reference=other,
        max_rows=_MAX_ROWS,
        random_state=seed,
    )
    attacks = {name: line.dropna().to_dict() for name, line in found.iterrows()}
    if model.any_order_ is not None:
        any_order = likelihood_membership(AnyOrder(model), members, fresh)
        about_it = {"kind": "membership", "needs": "model", "gain_low": 2 * any_order.low - 1}
        attacks["any order"] = {**about_it, **any_order._asdict()}
    about["fresh_score"] = float(model.score_samples(fresh).mean())
    about["gap"] = float(model.score_samples(members).mean()) - about["fresh_score"]
    return attacks, about


def markdown(lines):
    """One row per table and attack, means over the seeds."""
    tables = {}
    for line in lines:
        tables.setdefault((line["table"].split(":")[0], line["members"]), []).append(line)
    membership = ["| table | members | attack | has | AUC | TPR@1% | TPR@10% | |"]
    risks = ["| table | members | attack | success | guessing | fresh rows | risk | |"]
    for out in (membership, risks):
        out.append("|" + "---|" * 8)
    for (table, n_members), runs in tables.items():
        gains = {name: mean(runs, name, "gain_low") for name in runs[0]["attacks"]}
        worst = max(gains, key=gains.get)
        for name, figures in runs[0]["attacks"].items():
            is_membership = figures["kind"] == "membership"
            cells = (summary if is_membership else risk_of_runs)(runs, name)
            if is_membership:
                cells.insert(0, figures["needs"])
            row = [table, str(n_members), name, *cells, "worst" if name == worst else ""]
            (membership if is_membership else risks).append("| " + " | ".join(row) + " |")
    return "\n".join([*membership, "", *risks])


def mean(runs, name, figure):
    """The mean of a figure over the seeds."""
    return float(np.mean([run["attacks"][name].get(figure, np.nan) for run in runs]))


def summary(runs, name):
    """The figures of one attack on membership, with the intervals for all seeds together."""
    n_members = sum(run["members"] for run in runs)
    n_fresh = sum(run["fresh"] for run in runs)
    auc = mean(runs, name, "auc")
    cells = [f"{auc:.3f} ± {1.96 * auc_error(auc, n_members, n_fresh):.3f}"]
    for rate in ("tpr_1", "tpr_10"):
        share = mean(runs, name, rate)
        low, high = wilson(share, n_members)
        cells.append(f"{share:.3f} ({low:.3f} to {high:.3f})")
    return cells


def risk_of_runs(runs, name):
    """The figures of one attack of another kind; the interval narrows with the number of seeds."""
    rates = ("attack_rate", "baseline_rate", "control_rate")
    cells = [f"{mean(runs, name, rate):.3f}" for rate in rates]
    risk, low, high = (mean(runs, name, f) for f in ("gain", "gain_low", "gain_high"))
    low, high = (risk + (end - risk) / np.sqrt(len(runs)) for end in (low, high))
    return [*cells, f"{risk:.3f} ({low:.3f} to {high:.3f})"]


def run(data_dir, tables, seeds, synthesizer, write=print):
    """Attack each table and seed; return one dict per run."""
    lines = []
    for table in tables:
        name, n_members = table.split(":")
        full = load(data_dir, name)
        for seed in seeds:
            parts = divide(full, int(n_members), seed)
            attacks, about = attack(*parts, synthesizer, seed)
            sizes = {"members": len(parts[0]), "fresh": len(parts[2])}
            lines.append({"table": table, "seed": seed, **sizes, **about, "attacks": attacks})
            write(json.dumps(lines[-1]))
    return lines


MEMORISING = {
    "numerical": QuantileCodec(min_samples_bin=2, min_samples=1),
    "min_samples": 1,
    "dropout": 0.0,
    "early_stopping": False,
    "epochs": 60,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data_dir", type=pathlib.Path)
    parser.add_argument("--tables", nargs="+", default=DEFAULT_TABLES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--own", type=json.loads, default={})
    parser.add_argument("--memorise", action="store_true")
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", module="sklearn")
    own = MEMORISING if options.memorise else options.own
    lines = run(options.data_dir, options.tables, options.seeds, TVAESynthesizer(**own))
    if options.json:
        options.json.write_text("".join(json.dumps(line) + "\n" for line in lines))
    print(markdown(lines))


if __name__ == "__main__":
    main()
