"""Does `sktvae.metrics.evaluate` see what is wrong with a table, and nothing where nothing is?

    OMP_NUM_THREADS=1 python benchmarks/judgement.py DATA_DIR [--tables NAME ...] [--seeds 0 1 2]
        [--rows 20000] [--json LINES.jsonl]

DATA_DIR holds `datasets.json` with the tables that it names, and may hold a folder `small27` of the
same kind. No synthesizer is fitted: each table is divided into halves at random. One half stands
for the real table; the other, as it is or spoiled in one way, for the synthetic one:

    halves         as it is: nothing must be "poor"
    thirds         the same with thirds of the table, the last as holdout
    independent    each column is shuffled: `worst_pair`, `mutual_information_error` or
                   `detection_auc` must be "poor"
    broken pair    one of the two columns that depend most on each other is shuffled: `worst_pair`
                   or `mutual_information_error` must be "poor" and name that column
    copies         5 % of the rows are replaced by real ones: `copied_rows` must be "poor"
    copies, holdout  the same with thirds of the table, the last as holdout
    lost category  the rows of a category of about 3 % are replaced by others:
                   `rare_category_coverage` must be "poor" and name the category

A spoiled table is left out where it cannot be told from a good one: a category of fewer than 20
rows, a table without categories, fewer than 10 copies, or copies in a table where more than 5 % of
the real rows, or of the rows of independent columns, equal a real row anyway. Every false alarm and
every miss is printed.
"""

import argparse
import json
import pathlib
import time
import warnings

import numpy as np
import pandas as pd

from sktvae.metrics import copied_rows, evaluate, mutual_information_error

_SHARE = 0.05
_CATEGORY_SHARE = 0.03
_LEAST_ROWS = 20
_LEAST_COPIES = 10


def load(folder, about, n_rows, seed):
    """One table in random order; listed columns are categories."""
    table = pd.read_csv(folder / about["file"])
    listed = [*about["categorical"], *about.get("binary", [])]
    if about["task"] != "regression":
        listed.append(about["target"])
    table = table.astype({name: "category" for name in listed if name in table})
    return table.sample(frac=1, random_state=seed).head(n_rows).reset_index(drop=True)


def independent(real, good, rng):
    return good.apply(lambda column: column.take(rng.permutation(len(good))).to_numpy()), None


def broken_pair(real, good, rng):
    constant = real.iloc[[0] * len(real)].reset_index(drop=True)  # without any information
    names = list(real.columns)
    dependence = mutual_information_error(real, constant, average=None).to_numpy()
    one, other = np.unravel_index(np.nanargmax(dependence), dependence.shape)
    name = names[max(one, other)]
    shuffled = good[name].take(rng.permutation(len(good))).to_numpy()
    return good.assign(**{name: pd.Series(shuffled, good.index).astype(good[name].dtype)}), name


def copies(real, good, rng):
    found = copied_rows(real, good, random_state=0)
    if max(found.duplicate_share, found.independent_share) > _SHARE:
        return None, None
    n_copies = int(_SHARE * len(good))
    if n_copies < _LEAST_COPIES:
        return None, None
    taken = real.take(rng.permutation(len(real))[:n_copies])
    return pd.concat([good.iloc[n_copies:], taken], ignore_index=True), None


def lost_category(real, good, rng):
    best = None
    for name in real.select_dtypes("category"):
        counts = real[name].value_counts()
        for category, count in counts[counts >= _LEAST_ROWS].items():
            distance = abs(count / len(real) - _CATEGORY_SHARE)
            if count < len(real) / 3 and (best is None or distance < best[0]):
                best = distance, name, category
    if best is None:
        return None, None
    _, name, category = best
    kept = good[good[name] != category]
    extra = kept.sample(len(good) - len(kept), replace=True, random_state=rng.integers(2**31))
    # Repeated rows would be told by the repetition; only the category is meant to be wrong.
    return pd.concat([kept, extra], ignore_index=True), category


SPOILED = {
    "independent": (independent, ("worst_pair", "mutual_information_error", "detection_auc")),
    "broken pair": (broken_pair, ("worst_pair", "mutual_information_error")),
    "copies": (copies, ("copied_rows",)),
    "lost category": (lost_category, ("rare_category_coverage",)),
}


def alarms(figures):
    """The figures that are poor."""
    return list(figures.index[figures["verdict"] == "poor"])


def judge_halves(table, seed):
    """A line about the two halves as they are."""
    half = len(table) // 2
    real, good = table.iloc[:half], table.iloc[half : 2 * half].reset_index(drop=True)
    figures = evaluate(real, good, random_state=seed)
    yield as_it_is("halves", figures), figures
    rng = np.random.default_rng(seed)
    for kind, (spoil, expected) in SPOILED.items():
        made, name = spoil(real, good, rng)
        if made is not None:
            yield verdict(kind, evaluate(real, made, random_state=seed), expected, name)
    third = len(table) // 3
    real, good, holdout = (table.iloc[i * third : (i + 1) * third] for i in range(3))
    figures = evaluate(real, good, holdout, random_state=seed)
    yield as_it_is("thirds", figures), figures
    made, _ = copies(real, good, rng)
    if made is not None:
        figures = evaluate(real, made, holdout, random_state=seed)
        yield verdict("copies, holdout", figures, ("copied_rows",), None)


def as_it_is(kind, figures):
    """A line about a table that is not spoiled."""
    counts = figures["verdict"].value_counts().to_dict()
    return {"kind": kind, "ok": not alarms(figures), "poor": alarms(figures), "verdicts": counts}


def verdict(kind, figures, expected, name):
    """A line about a spoiled table."""
    poor = alarms(figures)
    found = [figure for figure in expected if figure in poor]
    named = name is None or any(repr(name) in figures.loc[f, "message"] for f in found)
    line = {"kind": kind, "ok": bool(found) and named, "poor": poor}
    line["values"] = {
        f: [round(figures.loc[f, c], 4) for c in ("value", "chance")] for f in expected
    }
    return {**line, "verdicts": {f: figures.loc[f, "verdict"] for f in expected}}, figures


def datasets(data_dir):
    """Folder and description of every table."""
    for folder in (data_dir, data_dir / "small27"):
        if (folder / "datasets.json").exists():
            sets = json.loads((folder / "datasets.json").read_text())
            if "datasets" in sets:
                yield from ((folder, about) for about in sets["datasets"])
                continue
            for name, about in sets.items():
                yield folder, {"name": name, "file": f"{name}.csv.gz", **about}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data_dir", type=pathlib.Path)
    parser.add_argument("--tables", nargs="+")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", module="sklearn")
    lines = []
    for folder, about in datasets(options.data_dir):
        if options.tables and about["name"] not in options.tables:
            continue
        for seed in options.seeds:
            table = load(folder, about, options.rows, seed)
            start = time.perf_counter()
            for line, figures in judge_halves(table, seed):
                lines.append({"table": about["name"], "rows": len(table), "seed": seed, **line})
                if not line["ok"]:
                    print(json.dumps(lines[-1]))
                    for figure in line["poor"]:
                        if line["kind"] in ("halves", "thirds"):
                            print("   ", figure, *figures.loc[figure].tolist())
            seconds = time.perf_counter() - start
            print(
                f"{about['name']:26} {len(table):6} rows, seed {seed}: {seconds:.1f} s", flush=True
            )
    if options.json:
        options.json.write_text("".join(json.dumps(line) + "\n" for line in lines))
    frame = pd.DataFrame(lines)
    print(frame.groupby("kind", sort=False)["ok"].agg(["sum", "size"]).to_string())


if __name__ == "__main__":
    main()
