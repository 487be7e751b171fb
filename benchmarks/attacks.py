"""Membership attacks: can somebody tell which rows a synthesizer was trained on?

    OMP_NUM_THREADS=1 python benchmarks/attacks.py DATA_DIR [--tables NAME:ROWS ...] [--seeds 0 1 2]
        [--own JSON] [--memorise] [--json LINES.jsonl]

DATA_DIR holds `datasets.json` and the tables that it names. For each table and seed, the rows are
shuffled and divided into three parts: as many members as ROWS says, on which the synthesizer is
fitted; the attacker's own reference rows, at most as many; and fresh rows of the same table, at
most 5,000. Each attack gives every member and every fresh row a number that should be higher for
members.

With the model in hand:
    likelihood      the model's `score_samples`
    any order       the likelihood under the network behind conditions, mean over eight orders
    calibrated      the same, less that of a reference model: the same synthesizer fitted on the
                    reference rows (Carlini et al., "Membership inference attacks from first
                    principles", 2022, with a single model)
With as many synthetic rows in hand as there are members:
    distance        minus the distance to the closest synthetic row
    distance ratio  distance to the closest reference row, less that to the closest synthetic row
    density ratio   log-density of the synthetic rows less that of the reference rows, both kernel
                    estimates on principal components (DOMIAS: van Breugel et al., "Membership
                    inference attacks against synthetic data through overfitting detection", 2023)
    classifier      log-odds of gradient boosting that tells synthetic rows from reference rows

An AUC of 0.5 is chance. TPR@1% is the share of members found when 1 % of the fresh rows are falsely
taken for members. Intervals are 95 % (Hanley and McNeil 1982 for the AUC, Wilson's for the shares)
for all seeds together. `--memorise` fits 60 epochs without early stopping, dropout or protection,
and with as fine bins as possible: the attacks must find that model. `--own` holds parameters of
`TVAESynthesizer`.
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
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KernelDensity, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, QuantileTransformer

from sktvae import QuantileCodec, TVAESynthesizer

DEFAULT_TABLES = ("titanic:400", "shoppers:600", "shoppers:2300", "default:600", "default:2300")
DEFAULT_TABLES += ("adult:2000", "adult:10000")
MODEL_IN_HAND = ("likelihood", "any order", "calibrated")
ROWS_IN_HAND = ("distance", "distance ratio", "density ratio", "classifier")
FALSE_POSITIVES = (0.01, 0.10)
_MOST_FRESH = 5_000


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


def coordinates(reference):
    """A transformer to numbers: ranks in [0, 1] of numbers, one-hot categories."""
    names = reference.columns[reference.dtypes == "category"]
    numbers = [name for name in reference if name not in set(names)]
    ranks = make_pipeline(
        QuantileTransformer(n_quantiles=min(1000, len(reference)), random_state=0),
        SimpleImputer(strategy="constant", fill_value=-0.5),  # well below the others
    )
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32)
    return make_column_transformer((ranks, numbers), (one_hot, list(names))).fit(reference)


def closest(rows, others):
    """Distance of each row to the closest of others: L1, where two categories are 2 apart."""
    neighbours = NearestNeighbors(n_neighbors=1, metric="manhattan", algorithm="brute")
    return neighbours.fit(others).kneighbors(rows)[0][:, 0]


def density_ratio(rows, synthetic, reference):
    """Log-ratio of two kernel density estimates in at most eight principal components."""
    components = PCA(min(8, reference.shape[1]), whiten=True, random_state=0).fit(reference)
    rows, synthetic, reference = map(components.transform, (rows, synthetic, reference))
    log = [
        KernelDensity(bandwidth="scott").fit(part).score_samples(rows)
        for part in (synthetic, reference)
    ]
    return log[0] - log[1]


def classify(rows, synthetic, reference):
    """Log-odds that a row is synthetic rather than a reference row."""
    names = reference.columns[reference.dtypes == "category"]
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    both = pd.concat([synthetic, reference], ignore_index=True)
    encoder.fit(both[names])
    numbers = lambda part: np.column_stack(
        [part.drop(columns=names).to_numpy(float), encoder.transform(part[names])]
    )
    label = np.repeat([1, 0], [len(synthetic), len(reference)])
    model = HistGradientBoostingClassifier(max_iter=50, random_state=0)
    return model.fit(numbers(both), label).decision_function(numbers(rows))


@torch.no_grad()
def any_order_likelihood(model, rows, n_orders=8):
    """The log-likelihood of rows under the network behind conditions, mean over random orders."""
    network, generator = model.any_order_.network, torch.Generator().manual_seed(0)
    encoded = model.encoder_.encode(rows, log_density=True)
    batch = network.layout.to_batch(encoded.heads)
    z = torch.zeros(batch.n_rows, 0)
    draws = [
        network.decoder.log_prob(z, batch, network.decoder.random_orders(len(rows), generator))
        for _ in range(n_orders)
    ]
    return torch.stack(draws).mean(dim=0).numpy() + encoded.log_density


def attack(members, reference, fresh, synthesizer, seed):
    """Fit a synthesizer and attack it.

    Returns
    -------
    scores : dict of str to ndarray of shape (n_members + n_fresh,)
        One entry per attack; members come first.
    about : dict
        Seconds to fit, and the epochs.
    """
    start = time.perf_counter()
    model = clone(synthesizer).set_params(random_state=seed).fit(members)
    about = {"fit_s": round(time.perf_counter() - start, 2), "epochs": model.n_iter_}
    other = clone(synthesizer).set_params(random_state=seed + 1000).fit(reference)
    candidates = pd.concat([members, fresh], ignore_index=True)
    score = model.score_samples(candidates)
    scores = {"likelihood": score, "calibrated": score - other.score_samples(candidates)}
    if model.any_order_ is not None:
        scores["any order"] = any_order_likelihood(model, candidates)
    synthetic = model.sample(len(members), random_state=seed + 2000)
    to_numbers = coordinates(reference)
    known = to_numbers.transform(reference)
    drawn, rows = to_numbers.transform(synthetic), to_numbers.transform(candidates)
    near = closest(rows, drawn)
    scores["distance"] = -near
    scores["distance ratio"] = closest(rows, known) - near
    scores["density ratio"] = density_ratio(rows, drawn, known)
    scores["classifier"] = classify(candidates, synthetic, reference)
    about["gap"] = float(score[: len(members)].mean() - score[len(members) :].mean())
    about["fresh_score"] = float(score[len(members) :].mean())
    return scores, about


def figures(score, n_members):
    """AUC and true positive rates of one attack."""
    member = np.arange(len(score)) < n_members
    rng = np.random.default_rng(0)
    score = score + 1e-9 * rng.random(len(score))  # ties in a random order
    out = {"auc": float(roc_auc_score(member, score))}
    for rate in FALSE_POSITIVES:
        limit = np.quantile(score[~member], 1 - rate)
        out[f"tpr@{rate:.0%}"] = float((score[member] > limit).mean())
    return out


def auc_error(auc, n_members, n_fresh):
    """Standard error of an AUC (Hanley and McNeil 1982, equation 2)."""
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc)
    variance += (n_members - 1) * (q1 - auc**2) + (n_fresh - 1) * (q2 - auc**2)
    return float(np.sqrt(variance / (n_members * n_fresh)))


def wilson(share, n):
    """95 % interval of a share of n (Wilson 1927)."""
    z = 1.96
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return middle - half, middle + half


def markdown(lines):
    """One row per table and attack, means over the seeds."""
    out = ["| table | members | attack | AUC | TPR@1% | TPR@10% |", "|---|---|---|---|---|---|"]
    for table in dict.fromkeys(line["table"] for line in lines):
        runs = [line for line in lines if line["table"] == table]
        for name in [n for n in (*MODEL_IN_HAND, *ROWS_IN_HAND) if n in runs[0]["attacks"]]:
            cells = " | ".join(summary(runs, name))
            out.append(f"| {table.split(':')[0]} | {runs[0]['members']} | {name} | {cells} |")
    return "\n".join(out)


def summary(runs, name):
    """The figures of one attack on one table, with their intervals."""
    n_members = sum(run["members"] for run in runs)
    n_fresh = sum(run["fresh"] for run in runs)
    auc = np.mean([run["attacks"][name]["auc"] for run in runs])
    cells = [f"{auc:.3f} ± {1.96 * auc_error(auc, n_members, n_fresh):.3f}"]
    for rate in FALSE_POSITIVES:
        share = np.mean([run["attacks"][name][f"tpr@{rate:.0%}"] for run in runs])
        low, high = wilson(share, n_members)
        cells.append(f"{share:.3f} ({low:.3f} to {high:.3f})")
    return cells


def run(data_dir, tables, seeds, synthesizer, write=print):
    """Attack each table and seed; return one dict per run."""
    lines = []
    for table in tables:
        name, n_members = table.split(":")
        full = load(data_dir, name)
        for seed in seeds:
            parts = divide(full, int(n_members), seed)
            scores, about = attack(*parts, synthesizer, seed)
            n = len(parts[0])
            found = {key: figures(score, n) for key, score in scores.items()}
            line = {"table": table, "seed": seed, "members": n, "fresh": len(parts[2]), **about}
            lines.append({**line, "attacks": found})
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
