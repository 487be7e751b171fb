"""Anomalies by likelihood: attacks on a network among normal connections (KDD Cup 1999).

    OMP_NUM_THREADS=1 python benchmarks/anomaly.py DATA_DIR [--rows 20000] [--seeds 0 1 2]
    OMP_NUM_THREADS=1 python benchmarks/anomaly.py --bound SPLITS [--rows 1000]

The first command fits every model to normal connections only, and prints the ROC AUC with which its
score tells attacks from other normal connections, as many of each; the peers see one-hot categories
and quantile-transformed numbers. The second one fits Adult, and compares `score_samples`, a bound
of eight draws, with bounds of 16 and 512 draws on test rows: how tight it is.
"""

import argparse
import json
import os
import pathlib
import time

import numpy as np
import pandas as pd
import torch
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer

from sktvae import TVAESynthesizer
from sktvae._generation import score_rows


def attacks(data_dir, n_rows, seeds):
    about = next(
        d
        for d in json.loads((data_dir / "datasets.json").read_text())["datasets"]
        if d["name"] == "kddcup99_10"
    )
    table = pd.read_csv(data_dir / about.get("file", "kddcup99_10.csv.gz"))
    target = about.get("target") or table.columns[-1]
    is_normal = table[target].astype(str).str.contains("normal")
    table = table.drop(columns=target)
    for seed in seeds:
        normal = table[is_normal].sample(frac=1, random_state=seed)
        train, fresh = normal[:n_rows], normal[n_rows : 2 * n_rows]
        bad = table[~is_normal].sample(len(fresh), random_state=seed)
        test = pd.concat([fresh, bad])
        labels = np.repeat([0, 1], len(fresh))
        found = {}
        for name, model in models(seed).items():
            start = time.perf_counter()
            score = model.fit(train).score_samples(test)
            auc = roc_auc_score(labels, -score)
            found[name] = f"{auc:.4f} ({time.perf_counter() - start:.0f} s)"
        print(f"seed {seed}, {n_rows} rows:", found, flush=True)


def models(seed):
    def prepared(model):
        text = make_column_selector(dtype_exclude="number")
        number = make_column_selector(dtype_include="number")
        return make_pipeline(
            make_column_transformer(
                (OneHotEncoder(handle_unknown="ignore", sparse_output=False), text),
                (QuantileTransformer(output_distribution="normal", random_state=seed), number),
            ),
            model,
        )

    return {
        "TVAESynthesizer": TVAESynthesizer(conditional=False, random_state=seed),
        "IsolationForest": prepared(IsolationForest(random_state=seed)),
        "LocalOutlierFactor": prepared(LocalOutlierFactor(novelty=True)),
        "GaussianMixture": prepared(
            GaussianMixture(10, reg_covar=1e-3, max_iter=200, random_state=seed)
        ),
    }


def bound(splits, n_rows):
    train, test = (pd.read_csv(splits / f"adult.{part}.csv") for part in ("train", "test"))
    model = TVAESynthesizer(conditional=False, random_state=0).fit(train)
    encoded = model.encoder_.encode(test[:n_rows], log_density=True)
    network = model.vae_.double()
    batch = network.layout.to_batch(encoded.heads)
    by_draws = {8: score_rows(model.vae_, encoded, torch.device("cpu"))}
    for n_draws in (16, 512):
        sobol = torch.quasirandom.SobolEngine(network.embedding_dim, scramble=True, seed=1)
        uniform = sobol.draw(n_draws, dtype=torch.float64).clamp(1e-9, 1 - 1e-9)
        noise = torch.special.ndtri(uniform)
        by_draws[n_draws] = network.log_prob_bound(batch, noise).numpy() + encoded.log_density
    best = by_draws[512]
    for n_draws, scores in by_draws.items():
        print(
            f"{n_draws:4d} draws: mean {scores.mean():.3f}; below 512 draws by "
            f"{(best - scores).mean():.3f} on average, standard deviation "
            f"{(best - scores).std():.3f}; rank correlation "
            f"{pd.Series(scores).corr(pd.Series(best), method='spearman'):.4f}"
        )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--bound", action="store_true")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 2)))
    if arguments.bound:
        bound(arguments.folder, min(arguments.rows, 1000))
    else:
        attacks(arguments.folder, arguments.rows, arguments.seeds)


if __name__ == "__main__":
    main()
