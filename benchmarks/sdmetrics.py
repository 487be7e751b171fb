"""Column shapes and pair trends beside those of SDMetrics.

    OMP_NUM_THREADS=1 python benchmarks/sdmetrics.py DATA_DIR --peer-python PEER
        [--tables adult titanic ...] [--seed 0]

PEER is the python of an environment with sdmetrics (0.11.1 was compared), which runs in a process
of its own. Each table is divided into halves at random; the second half stands for the synthetic
table, once as it is and once with each column shuffled. The largest difference over the columns, or
the pairs of columns, is printed beside both means, and the seconds that both take (with the tables
in memory). SDMetrics reports no correlation of a constant column, and neither do we.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile
import time

import numpy as np
import pandas as pd

from sktvae.metrics import column_shape_score, pair_trend_score

# Run by the other python: it knows nothing of sktvae.
PEER = """
import json, sys, time, warnings
warnings.filterwarnings("ignore")
import pandas as pd
from sdmetrics.reports.single_table import QualityReport
kinds = json.loads(sys.argv[3])
text = {n: str for n, k in kinds.items() if k == "categorical"}
read = lambda path: pd.read_csv(path, dtype=text, float_precision="round_trip")
real, synthetic = read(sys.argv[1]), read(sys.argv[2])
report, start = QualityReport(), time.perf_counter()
report.generate(real, synthetic, {"columns": {n: {"sdtype": k} for n, k in kinds.items()}}, False)
seconds = time.perf_counter() - start
shapes, pairs = (report.get_details(p) for p in ("Column Shapes", "Column Pair Trends"))
print(json.dumps({
    "seconds": seconds,
    "shapes": dict(zip(shapes["Column"], shapes["Score"])),
    "pairs": pairs[["Column 1", "Column 2", "Score"]].values.tolist(),
}))
"""


def load(data_dir, name, seed):
    """One table in random order; listed columns are categories."""
    sets = json.loads((data_dir / "datasets.json").read_text())["datasets"]
    about = next(one for one in sets if one["name"] == name)
    table = pd.read_csv(data_dir / about["file"])
    listed = [*about["categorical"]]
    if about["task"] != "regression":
        listed.append(about["target"])
    table = table.astype({column: "category" for column in listed if column in table})
    return table.sample(frac=1, random_state=seed).reset_index(drop=True)


def peer(python, real, synthetic):
    """What SDMetrics says."""
    numeric = real.dtypes.map(pd.api.types.is_numeric_dtype)
    kinds = {
        name: "numerical" if is_number else "categorical" for name, is_number in numeric.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        files = [pathlib.Path(folder) / f"{name}.csv" for name in ("real", "synthetic")]
        for file, table in zip(files, (real, synthetic), strict=True):
            table.to_csv(file, index=False)
        command = [python, "-c", PEER, *files, json.dumps(kinds)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def compare(python, real, synthetic):
    """One row of the table of results."""
    theirs = peer(python, real, synthetic)
    start = time.perf_counter()
    shapes = column_shape_score(real, synthetic, average=None)
    pairs = pair_trend_score(real, synthetic, average=None)
    seconds = time.perf_counter() - start
    their_shapes = pd.Series(theirs["shapes"])
    their_pairs = np.array([np.nan if s is None else s for *_, s in theirs["pairs"]], dtype=float)
    own = np.array([pairs.loc[a, b] for a, b, _ in theirs["pairs"]])
    assert (np.isnan(own) == np.isnan(their_pairs)).all(), (
        "one has a score where the other has none"
    )
    return {
        "shapes": shapes.mean(),
        "their shapes": their_shapes.mean(),
        "largest difference": (shapes - their_shapes).abs().max(),
        "pairs": np.nanmean(own),
        "their pairs": np.nanmean(their_pairs),
        "largest difference of a pair": np.nanmax(np.abs(own - their_pairs)),
        "seconds": seconds,
        "their seconds": theirs["seconds"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data_dir", type=pathlib.Path)
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--tables", nargs="+", default=["adult", "titanic"])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    lines = {}
    for name in options.tables:
        table = load(options.data_dir, name, options.seed)
        half = len(table) // 2
        real, synthetic = table[:half], table[half : 2 * half].reset_index(drop=True)
        rng = np.random.default_rng(options.seed)
        shuffled = synthetic.apply(lambda c, rng=rng: c.take(rng.permutation(len(c))).to_numpy())
        lines[name, "halves"] = compare(options.peer_python, real, synthetic)
        lines[name, "shuffled"] = compare(options.peer_python, real, shuffled)
    print(pd.DataFrame(lines).T.round(5).to_string())


if __name__ == "__main__":
    main()
