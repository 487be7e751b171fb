"""The default estimator on the 27 small tables of Jolicoeur-Martineau et al. (2023).

    OMP_NUM_THREADS=1 python benchmarks/small.py TOOL --peer-python PEER --data SMALL27_DIR
        --out LINES.jsonl [--tables NAME ...] [--seeds 0 1 2] [--generations 5] [--tries 5]
        [--own JSON] [--method NAME]

TOOL is the project's `small27.py`, which defines the protocol and the figures, and PEER the python
of the environment that its header describes. For each table and seed, the synthesizer is fitted to
the training rows of the split, and as many rows are drawn `--generations` times. Roles of columns
(category, integer, continuous) are those of the benchmark, as for the published methods; nothing
else is set table by table. One line of figures per table and seed is appended to LINES.jsonl;
`TOOL table SMALL27_DIR/published.csv LINES.jsonl` puts their means beside the published ones.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile
import time

import pandas as pd

from sktvae import TVAESynthesizer

# California and bean have more than 10,000 rows: they are not small, and W1 is not taken for them.
TABLES = """
    iris wine parkinsons climate_model_crashes concrete_compression yacht_hydrodynamics
    airfoil_self_noise connectionist_bench_sonar ionosphere qsar_biodegradation seeds glass ecoli
    yeast libras planning_relax blood_transfusion breast_cancer_diagnostic
    connectionist_bench_vowel concrete_slump wine_quality_red wine_quality_white car congress
    tictactoe
""".split()  # noqa: SIM905


def load(folder, name, seed):
    """The training rows of a split, with the dtypes of the benchmark's roles."""
    roles = json.loads((folder / f"{name}.s{seed}.roles.json").read_text())
    rows = pd.read_csv(folder / f"{name}.s{seed}.train.csv", float_precision="round_trip")
    categories = [*roles["categorical"], *roles["binary"]]
    rows = rows.astype({column: int for column in [*categories, *roles["integer"]]})
    return rows.astype({column: "category" for column in categories})


def one(options, name, seed, folder):
    """Fit, draw and score one table; return the line of figures."""
    tool = [options.peer_python, options.tool]
    split = [*tool, "splits", options.data, name, folder, "--seed", str(seed)]
    subprocess.run(split, check=True, stdout=subprocess.DEVNULL)
    rows = load(folder, name, seed)
    start = time.perf_counter()
    model = TVAESynthesizer(**{"conditional": False, "random_state": seed} | options.own).fit(rows)
    seconds = time.perf_counter() - start
    files = []
    for i in range(options.generations):
        files.append(folder / f"{name}.s{seed}.g{i}.csv")
        drawn = model.sample(len(rows), random_state=1000 + i)
        drawn.astype(float).to_csv(files[-1], index=False)
    score = [*tool, "score", folder, name, *files, "--seed", str(seed)]
    score += ["--method", options.method, "--tries", str(options.tries), "--variants", "fd"]
    done = subprocess.run(score, check=True, capture_output=True, text=True)
    return {**json.loads(done.stdout), "fit_s": round(seconds, 2), "epochs": model.n_iter_}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("tool", type=pathlib.Path)
    parser.add_argument("--peer-python", type=pathlib.Path, required=True)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--tables", nargs="+", default=TABLES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--generations", type=int, default=5)
    parser.add_argument("--tries", type=int, default=5)
    parser.add_argument("--own", type=json.loads, default={})
    parser.add_argument("--method", default="sktvae")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, options.out.open("a") as out:
        for name in options.tables:
            for seed in options.seeds:
                line = one(options, name, seed, pathlib.Path(folder))
                print(json.dumps(line), file=out, flush=True)
                keys = ("W1_test", "coverage_test", "F1_fake", "R2_fake", "fit_s")
                shown = {key: round(line[key], 3) for key in keys if key in line}
                print(name, seed, shown, flush=True)


if __name__ == "__main__":
    main()
