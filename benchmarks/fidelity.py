"""Fidelity of the default estimator on real tables, as one Markdown table.

    python benchmarks/fidelity.py YARDSTICK --peer-python PEER --data DATA_DIR [--tables NAME ...]
        [--csv FILE ...] [--configs C ...] [--seeds 0 1 2] [--out TABLE.md] [--json ROWS.jsonl]

YARDSTICK is the project's `fidelity.py`, PEER the python of the environment its header describes.
The tables are those of DATA_DIR's `datasets.json`, or the NAMEs of them, and any CSV files given:
there, text columns are categories and the last column is the target. Each model is fitted in a
process of its own, one after the other; figures are means over the seeds. `--configs` compares
configurations, such as those of the ablation in docs/benchmarks.md (see `variants` in peer.py).
"""

import argparse
import json
import pathlib
import statistics
import tempfile

import pandas as pd
from peer import own, run, variants

FIGURES = ("shape_err", "trend_err", "pair_err", "c2st_auc", "c2st_train", "mle", "mle_real")
FIGURES += ("dcr_share", "copies")
COSTS = ("fit_s", "sample_rows_per_s", "peak_mb")
# Published figures, beside which ours are printed: TabularARGN as measured by this project's
# prototypes (2.7, default settings, the same yardstick), TabSyn (Zhang et al., ICLR 2024) and
# TabDiff (Shi et al., ICLR 2025) as their papers give shape and trend, trained on GPUs.
PUBLISHED = {
    "adult": ("0.594 / 0.577", "0.81 / 1.93", "0.63 / 1.49"),
    "default": ("0.873 / 0.921", "1.01 / 2.81", "1.24 / 2.55"),
    "shoppers": ("0.658 / 0.810", "1.44 / 2.13", "1.28 / 1.74"),
    "magic": ("0.577 / 0.687", "1.03 / 0.88", "0.78 / 0.76"),
    "beijing": ("", "1.26 / 3.13", "1.03 / 2.59"),
}


def describe(csv, folder):
    """A data folder for the yardstick that holds one CSV file."""
    table = pd.read_csv(csv)
    target = table.columns[-1]
    text = [c for c in table if not pd.api.types.is_numeric_dtype(table[c])]
    few = target in text or table[target].nunique() <= 20
    about = {
        "name": csv.stem,
        "file": csv.name,
        "target": target,
        "task": "classification" if few else "regression",
        "categorical": text,
    }
    (folder / csv.name).symlink_to(csv.resolve())
    (folder / "datasets.json").write_text(json.dumps({"datasets": [about]}))
    return folder


def markdown(rows):
    """One line a table and configuration, means over the seeds."""
    head = ["table", "config", "seeds", *FIGURES, *COSTS]
    head += ["TabularARGN c2st", "TabSyn shape / trend", "TabDiff shape / trend"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for key in dict.fromkeys((row["data"], row["config"]) for row in rows):
        of = [row for row in rows if (row["data"], row["config"]) == key]
        means = [statistics.fmean(row[figure] for row in of) for figure in (*FIGURES, *COSTS)]
        cells = [f"{m:,.0f}" if m >= 1000 else f"{m:.4g}" for m in means]
        cells = [*key, str(len(of)), *cells, *PUBLISHED.get(key[0], ("", "", ""))]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("yardstick")
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--tables", nargs="*", help="of DATA_DIR; default: all with a target")
    parser.add_argument("--csv", nargs="*", type=pathlib.Path, default=[])
    parser.add_argument("--configs", nargs="*", default=["default"], choices=list(variants()))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--json", type=pathlib.Path, help="append a line a run")
    args = parser.parse_args()
    yardstick, rows = [args.peer_python, args.yardstick], []
    with tempfile.TemporaryDirectory() as folder:
        splits = pathlib.Path(folder) / "splits"
        jobs = []
        if args.data:
            there = json.loads((args.data / "datasets.json").read_text())["datasets"]
            names = [d["name"] for d in there if d.get("target")]
            jobs = [(args.data, name) for name in args.tables or names]
        for csv in args.csv:
            own_folder = pathlib.Path(folder) / f"csv{len(jobs)}"
            own_folder.mkdir()
            jobs.append((describe(csv, own_folder), csv.stem))
        for data, name in jobs:
            run([*yardstick, "splits", str(data), name, str(splits)], read=str)
            for config in args.configs:
                for seed in args.seeds:
                    path = splits / f"{name}.synthetic.csv"
                    row = {"config": config, "seed": seed}
                    row |= run(own(splits, name, path, config=config, seed=seed))
                    score = run([*yardstick, "score", str(splits), name, str(path)])
                    row |= {k: v for k, v in score.items() if k != "peak_mb"}
                    print(json.dumps(row), flush=True)
                    rows.append(row)
                    if args.json:
                        with args.json.open("a") as file:
                            file.write(json.dumps(row) + "\n")
    table = markdown(rows)
    print(table)
    if args.out:
        args.out.write_text(table + "\n")


if __name__ == "__main__":
    main()
