"""Does a classifier rank rare rows better if rows of TVAEOverSampler are added?

    pip install "sktvae[imbalanced]"
    OMP_NUM_THREADS=1 python benchmarks/oversampling.py DATA_DIR [--tables NAME ...]
        [--methods NAME ...] [--seeds 0 1 2] [--folds 5] [--json LINES.jsonl]

DATA_DIR holds the project's shared tables: `datasets.json`, and the folder `small27` of small
tables. Those used here have a class with less than 20 % of the rows:

    shoppers   visits that ended with a purchase, 15 % of 6,000 rows drawn at random
    climate    simulations that crashed, 8.5 % of 540 rows
    wine       white wines of quality 4 or less, 3.7 % of 4,898 rows

For each seed the rows are divided into stratified folds, and for each fold a
HistGradientBoostingClassifier with its default parameters is fitted to the other folds:

    nothing    as they are
    balanced   with class_weight="balanced"
    repeat     after RandomOverSampler
    SMOTENC    after SMOTENC (SMOTE for a table without categories)
    TVAE       after TVAEOverSampler with default parameters
    joint      after rows drawn by `TVAESynthesizer.sample(conditions=...)` from a model of the
               rows of both classes (not by default: it takes long)

Over-samplers make both classes equally large. The figure is the average precision on the fold that
was left out: its mean and standard deviation over folds and seeds, and the mean difference from
"nothing" on the same folds. Its 95 % interval is that of the corrected resampled t-test (Nadeau and
Bengio, "Inference for the generalization error", 2003), since training rows are shared by folds.

Expected before the full run: average precision depends only on the ranking of the rows, which
gradient boosting learns from the original rows. No over-sampler adds information about the classes,
so none is better than "nothing" by more than the interval. TVAE is about as good as SMOTENC, and
"joint" is worse.

Found: the first is so. TVAE has a higher mean than SMOTENC on shoppers and a lower one on climate
and wine; on wine it is worse than "nothing" by more than the interval. "joint" has a lower mean
than TVAE on each table (one seed).
"""

import argparse
import json
import pathlib
import time
import warnings

import numpy as np
import pandas as pd
from imblearn.over_sampling import SMOTE, SMOTENC, RandomOverSampler
from scipy import stats
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold

from sktvae import TVAESynthesizer
from sktvae.imbalanced import TVAEOverSampler

MOST_ROWS = 6_000
SMALL = {
    "climate": ("climate_model_crashes", lambda y: y == 0),
    "wine": ("wine_quality_white", lambda y: y <= 4),
}
TABLES = ("shoppers", *SMALL)
METHODS = ("nothing", "balanced", "repeat", "SMOTENC", "TVAE")


def load(folder, name):
    """Return the features, with categories as such, and whether a row is of the rare class."""
    if name in SMALL:
        file, is_rare = SMALL[name]
        table = pd.read_csv(folder / "small27" / f"{file}.csv.gz")
        y = is_rare(table.pop("y"))
    else:
        listed = json.loads((folder / "datasets.json").read_text())["datasets"]
        about = next(d for d in listed if d["name"] == name)
        table = pd.read_csv(folder / about["file"])
        y = table.pop(about["target"])  # a boolean, true for the rare class
        categories = [c for c in about["categorical"] if c in table]
        table = table.astype({c: "category" for c in categories})
    rows = np.random.default_rng(0).permutation(len(table))[:MOST_ROWS]
    return table.iloc[rows].reset_index(drop=True), y.iloc[rows].astype(int).to_numpy()


class Joint:
    """Rows of the rare class, drawn by a condition from a model of all rows."""

    def __init__(self, seed):
        self.seed = seed

    def fit_resample(self, X, y):
        table = X.assign(is_rare=np.where(y, "yes", "no"))
        model = TVAESynthesizer(random_state=self.seed).fit(table)
        n_drawn = int((y == 0).sum() - (y == 1).sum())
        rows = model.sample(n_drawn, conditions={"is_rare": "yes"}).drop(columns="is_rare")
        X_new = pd.concat([X, rows.astype(X.dtypes)], ignore_index=True)
        return X_new, np.append(y, np.ones(n_drawn, dtype=int))


def sampler(method, X, seed):
    if method == "repeat":
        return RandomOverSampler(random_state=seed)
    if method == "SMOTENC":
        categories = list(X.select_dtypes("category"))
        return SMOTENC(categories, random_state=seed) if categories else SMOTE(random_state=seed)
    if method == "TVAE":
        return TVAEOverSampler(random_state=seed)
    return Joint(seed)


def score(method, X, y, training, test, seed):
    """Return the average precision of a fold, and the seconds of resampling."""
    X_fit, y_fit = X.iloc[training].reset_index(drop=True), y[training]
    start = time.perf_counter()
    if method not in ("nothing", "balanced"):
        X_fit, y_fit = sampler(method, X, seed).fit_resample(X_fit, y_fit)
    seconds = time.perf_counter() - start
    weight = "balanced" if method == "balanced" else None
    model = HistGradientBoostingClassifier(
        categorical_features="from_dtype", class_weight=weight, random_state=seed
    )
    drawn = model.fit(X_fit, y_fit).predict_proba(X.iloc[test])[:, 1]
    return float(average_precision_score(y[test], drawn)), seconds


def interval(differences, n_folds):
    """Half the width of a 95 % interval of a mean difference over repeated cross-validation."""
    n = len(differences)
    variance = np.var(differences, ddof=1) * (1 / n + 1 / (n_folds - 1))
    return stats.t.ppf(0.975, n - 1) * np.sqrt(variance)


def report(lines, methods, n_folds):
    """Print one row a method, for each table."""
    table = pd.DataFrame(lines)
    print("| table | method | AP | sd | difference from nothing | 95 % | better in | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for name, own in table.groupby("table", sort=False):
        by_method = {m: rows.set_index(["seed", "fold"])["ap"] for m, rows in own.groupby("method")}
        for method in methods:
            ap = by_method[method]
            cells = [name, method, f"{ap.mean():.4f}", f"{ap.std():.4f}"]
            if method != "nothing" and "nothing" in by_method:
                d = (ap - by_method["nothing"]).to_numpy()
                cells += [f"{d.mean():+.4f}", f"± {interval(d, n_folds):.4f}"]
                cells += [f"{(d > 0).sum()} of {len(d)}"]
            else:
                cells += ["", "", ""]
            seconds = own.loc[own["method"] == method, "seconds"].mean()
            print("| " + " | ".join([*cells, f"{seconds:.1f}"]) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--tables", nargs="+", default=TABLES, choices=TABLES)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=[*METHODS, "joint"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--json", type=pathlib.Path, help="append a line a fit")
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)  # about rare categories, in every fit
    lines = []
    for name in options.tables:
        X, y = load(options.data, name)
        print(f"{name}: {len(X)} rows, {X.shape[1]} features, {y.mean():.1%} rare", flush=True)
        for seed in options.seeds:
            folds = StratifiedKFold(options.folds, shuffle=True, random_state=seed).split(X, y)
            for fold, (training, test) in enumerate(folds):
                for method in options.methods:
                    ap, seconds = score(method, X, y, training, test, seed)
                    line = {"table": name, "method": method, "seed": seed, "fold": fold}
                    lines.append(line | {"ap": ap, "seconds": seconds})
                    if options.json:
                        with options.json.open("a") as file:
                            file.write(json.dumps(lines[-1]) + "\n")
    report(lines, options.methods, options.folds)


if __name__ == "__main__":
    main()
