"""Imputation beside scikit-learn's imputers, miceforest and MissForest.

    OMP_NUM_THREADS=1 python benchmarks/imputation.py run DATA_DIR WORK_DIR [--peers PYTHON]
        [--tables adult default magic beijing titanic] [--rows 2000] [--rules mcar mar] [--seed 0]

PYTHON is that of an environment of its own, in which to

    pip install miceforest MissForest tqdm scikit-learn "lightgbm==4.5.0" "pandas<3"

Of each table a sample of rows is taken and a fifth of its cells removed: completely at random
(mcar), or with a probability that rises with the rank of a column that stays complete (mar). Each
method is given the table with holes, and fills it once with its best guess and, if it draws, ten
times.

Printed for each method:
    accuracy    share of the removed categories that the best guess finds
    MAE, RMSE   of removed numbers, in standard deviations of their columns, mean over columns
    coverage    share of the removed numbers between the 5 % and the 95 % quantile of the draws
    width       mean length of these intervals, in standard deviations
    bias        distance of the pooled coefficients of a regression of the target (least squares, on
                standardised numbers) from those of the complete table, in standard errors, mean
    seconds     to fit and fill
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time
import warnings

import numpy as np
import pandas as pd

warnings.filterwarnings("ignore")
N_DRAWS = 10
OWN = ("TVAEImputer",)
SCIKIT_LEARN = ("mode and median", "KNNImputer", "IterativeImputer")
PEERS = ("miceforest", "MissForest")


# Tables with holes


def table_of(data_dir, name, n_rows, seed):
    sets = json.loads((data_dir / "datasets.json").read_text())["datasets"]
    about = next(d for d in sets if d["name"] == name)
    table = pd.read_csv(data_dir / about["file"])
    table = table.dropna(axis=1, thresh=int(0.7 * len(table))).dropna()
    table = table.sample(min(n_rows, len(table)), random_state=seed).reset_index(drop=True)
    is_text = [c for c in table if not pd.api.types.is_numeric_dtype(table[c])]
    categories = [c for c in table if c in about["categorical"] or c in is_text]
    table[categories] = table[categories].astype(str)
    numbers = [c for c in table if c not in categories]
    table = table.drop(columns=[c for c in numbers if table[c].nunique() < 2])
    table = table.astype({c: float for c in numbers if c in table})
    return table, categories, about["target"]


def holes_in(table, rule, seed):
    """Which cells to remove: a fifth."""
    random = np.random.default_rng(seed)
    shape = table.shape
    if rule == "mcar":
        return random.random(shape) < 0.2
    numbers = table.select_dtypes("number")
    cause = numbers.columns[0]
    rank = table[cause].rank(pct=True, method="first").to_numpy()
    probability = 0.4 * rank[:, None] * np.ones(shape)  # 0.2 on average
    probability[:, list(table).index(cause)] = 0
    return random.random(shape) < probability


# Methods: a table with holes -> its best guess, and draws if there are any


def fill_own(method, table, categories, seed):
    from sktvae import TVAEImputer

    imputer = TVAEImputer(strategy="median", random_state=seed).fit(table)
    best = imputer.transform(table)
    draws = imputer.set_params(strategy="draw")
    return best, [draws.set_params(random_state=seed + k).transform(table) for k in range(N_DRAWS)]


def fill_scikit_learn(method, table, categories, seed):
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer, KNNImputer

    numbers = [c for c in table if c not in categories]
    if method == "mode and median":
        best = table.copy()
        for name in table:
            fill = table[name].mode()[0] if name in categories else table[name].median()
            best[name] = best[name].fillna(fill)
        return best, []
    wide = [((table[numbers] - table[numbers].mean()) / table[numbers].std())]
    for name in categories:
        hot = pd.get_dummies(table[name], prefix=name, prefix_sep="\0").astype(float)
        hot[table[name].isna()] = np.nan
        wide.append(hot)
    wide = pd.concat(wide, axis=1)

    def back(array):
        filled, out = pd.DataFrame(array, columns=wide.columns), table.copy()
        out[numbers] = filled[numbers] * table[numbers].std() + table[numbers].mean()
        for name in categories:
            hot = filled[[c for c in wide if c.startswith(name + "\0")]]
            guess = hot.idxmax(axis=1).str.split("\0").str[1]
            out[name] = table[name].where(table[name].notna(), guess)
        return out

    if method == "KNNImputer":
        return back(KNNImputer(n_neighbors=10).fit_transform(wide)), []
    kind = {"max_iter": 5, "n_nearest_features": 30, "random_state": seed}
    best = back(IterativeImputer(**kind).fit_transform(wide))
    draws = []
    for k in range(3):
        kind["random_state"] = seed + k
        draws.append(back(IterativeImputer(sample_posterior=True, **kind).fit_transform(wide)))
    return best, draws


def fill_peer(method, table, categories, seed):
    if method == "MissForest":
        from missforest import MissForest

        codes, values = table.copy(), {}
        for name in categories:
            found, values[name] = pd.factorize(table[name])
            codes[name] = np.where(found < 0, np.nan, found)
        forest = MissForest(categorical=categories or None, verbose=0)
        best = forest.fit_transform(codes)
        for name in categories:
            best[name] = np.asarray(values[name])[best[name].astype(int)]
        return best, []
    import miceforest

    typed = table.astype({name: "category" for name in categories})
    typed.columns = [f"c{i}" for i in range(typed.shape[1])]
    kernel = miceforest.ImputationKernel(typed, num_datasets=N_DRAWS, random_state=seed)
    try:
        kernel.mice(4)
    except ValueError:  # its matching of categories fails where a probability is 0 or 1
        kernel = miceforest.ImputationKernel(
            typed, num_datasets=N_DRAWS, random_state=seed, mean_match_strategy="fast"
        )
        kernel.mice(4)
    draws = [kernel.complete_data(k) for k in range(N_DRAWS)]
    for draw in draws:
        draw.columns = list(table)
    best = draws[0].copy()  # of draws: the median, and the most frequent category
    for name in table:
        values = pd.concat([draw[name].astype(object) for draw in draws], axis=1)
        best[name] = values.mode(axis=1)[0] if name in categories else values.median(axis=1)
    return best, draws


# Figures


def figures(table, holes, categories, target, best, draws):
    numbers = [c for c in table if c not in categories]
    at = {c: list(table).index(c) for c in table}
    row = {}
    hits = [
        (best[c].astype(str).to_numpy() == table[c].astype(str).to_numpy())[holes[:, at[c]]]
        for c in categories
    ]
    row["accuracy"] = np.concatenate(hits).mean() if hits else np.nan
    errors = {
        c: (best[c].astype(float) - table[c]).to_numpy()[holes[:, at[c]]] / table[c].std()
        for c in numbers
        if holes[:, at[c]].any()
    }
    row["MAE"] = np.mean([np.abs(e).mean() for e in errors.values()])
    row["RMSE"] = np.mean([np.sqrt(np.square(e).mean()) for e in errors.values()])
    if len(draws) >= N_DRAWS:
        inside, width = [], []
        for c in errors:
            values = np.stack([d[c].astype(float).to_numpy() for d in draws])[:, holes[:, at[c]]]
            low, high = np.quantile(values, [0.05, 0.95], axis=0)
            true = table[c].to_numpy()[holes[:, at[c]]]
            inside.append(((low <= true) & (true <= high)).mean())
            width.append((high - low).mean() / table[c].std())
        row["coverage"], row["width"] = np.mean(inside), np.mean(width)
    complete, error = regression(table, numbers, target, table)
    pooled = np.mean([regression(d, numbers, target, table)[0] for d in draws or [best]], axis=0)
    row["bias"] = np.mean(np.abs(pooled - complete) / error)
    return row


def regression(rows, numbers, target, like):
    """Coefficients and standard errors of the target on the standardised numbers."""
    numbers = [c for c in numbers if c != target]
    X = ((rows[numbers].astype(float) - like[numbers].mean()) / like[numbers].std()).to_numpy()
    X = np.column_stack([np.ones(len(X)), X])
    y = rows[target]
    if like[target].dtype.kind != "f":
        y = (y.astype(str) == sorted(like[target].astype(str).unique())[-1]).astype(float)
    y = y.astype(float).to_numpy()
    gram = X.T @ X + 1e-3 * np.eye(X.shape[1])
    beta = np.linalg.solve(gram, X.T @ y)
    variance = np.square(y - X @ beta).sum() / (len(y) - len(beta))
    return beta[1:], np.sqrt(variance * np.diag(np.linalg.inv(gram)))[1:]


# Commands


def fill(method, folder, seed):
    about = json.loads((folder / "about.json").read_text())
    table = pd.read_csv(folder / "holes.csv", dtype={c: str for c in about["categories"]})
    how = fill_own if method in OWN else fill_peer if method in PEERS else fill_scikit_learn
    start = time.perf_counter()
    best, draws = how(method, table, about["categories"], seed)
    seconds = time.perf_counter() - start
    pd.to_pickle(
        [t.astype({c: str for c in about["categories"]}) for t in [best, *draws]],
        folder / f"{method}.pickle",
    )
    (folder / f"{method}.json").write_text(json.dumps(seconds))


def run(arguments):
    for name in arguments.tables:
        table, categories, target = table_of(
            arguments.data_dir, name, arguments.rows, arguments.seed
        )
        for rule in arguments.rules:
            folder = arguments.work_dir / f"{name}-{rule}"
            folder.mkdir(parents=True, exist_ok=True)
            holes = holes_in(table, rule, arguments.seed)
            table.mask(holes).to_csv(folder / "holes.csv", index=False)
            (folder / "about.json").write_text(json.dumps({"categories": categories}))
            methods = [*OWN, *SCIKIT_LEARN, *(PEERS if arguments.peers else ())]
            print(f"{name}, {rule}: {table.shape}, {holes.mean():.0%} removed", flush=True)
            for method in [m for m in methods if m not in arguments.skip]:
                python = arguments.peers if method in PEERS else sys.executable
                seed = str(arguments.seed)
                command = [python, __file__, "fill", method, str(folder), seed]
                done = subprocess.run(command, capture_output=True, text=True, timeout=900)
                if done.returncode:
                    print(f"  {method:16s} failed: {done.stderr.strip().splitlines()[-1]}")
                    continue
                best, *draws = pd.read_pickle(folder / f"{method}.pickle")
                row = figures(table, holes, categories, target, best, draws)
                row["seconds"] = json.loads((folder / f"{method}.json").read_text())
                line = "  ".join(f"{k} {v:.3f}" for k, v in row.items())
                print(f"  {method:16s} {line}", flush=True)


def main():
    if len(sys.argv) > 1 and sys.argv[1] == "fill":
        return fill(sys.argv[2], pathlib.Path(sys.argv[3]), int(sys.argv[4]))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["run"])
    parser.add_argument("data_dir", type=pathlib.Path)
    parser.add_argument("work_dir", type=pathlib.Path)
    parser.add_argument("--peers", help="the python of the peers' environment")
    parser.add_argument(
        "--tables", nargs="+", default=["adult", "default", "magic", "beijing", "titanic"]
    )
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--rules", nargs="+", default=["mcar", "mar"])
    parser.add_argument("--skip", nargs="*", default=[], help="methods to leave out")
    parser.add_argument("--seed", type=int, default=0)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return run(parser.parse_args())


if __name__ == "__main__":
    main()
