"""The paper's configuration against ctgan's TVAE: time, memory and fidelity, in one run.

    python benchmarks/peer.py YARDSTICK SPLITS NAME --peer-python PEER [--epochs E] [--config C]

YARDSTICK is `fidelity.py`, PEER the python of the environment its header describes, SPLITS the
folder its `splits` command has written NAME to. Each model is fitted in a process of its own, one
after the other; seconds are those of `fit` (as the yardstick's `ctgan` command counts them) and
peak memory is that of the whole process, reading the table and sampling included.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time


def fit_and_sample(splits, name, path, epochs, config):
    """Fit sktvae on the train part, write as many synthetic rows; print times as JSON."""
    import pandas as pd

    import sktvae

    train = pd.read_csv(pathlib.Path(splits) / f"{name}.train.csv")
    roles = json.loads((pathlib.Path(splits) / f"{name}.json").read_text())
    categories = [train.columns.get_loc(c) for c in roles["cats"]]
    settings = {"xu2019": sktvae.XU2019, "default": {}}[config]
    model = sktvae.TVAESynthesizer(
        **settings | {"epochs": epochs, "categorical_features": categories, "random_state": 0}
    )
    start = time.perf_counter()
    model.fit(train)
    fitted = time.perf_counter()
    synthetic = model.sample(len(train))
    sampled = time.perf_counter()
    synthetic.to_csv(path, index=False)
    figures = {
        "data": name,
        "peer": f"sktvae {config}",
        "epochs": model.n_iter_,
        "fit_s": round(fitted - start, 2),
        "sample_rows_per_s": round(len(train) / (sampled - fitted)),
    }
    print(json.dumps(figures))


def run(command):
    """The last line a command prints, as JSON, and the peak memory of its process in MB."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command} failed")
    return json.loads(text.strip().splitlines()[-1]) | {"peak_mb": usage.ru_maxrss // 1024}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("yardstick")
    parser.add_argument("splits")
    parser.add_argument("name")
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--config", choices=["xu2019", "default"], default="xu2019")
    args = parser.parse_args()
    out = pathlib.Path(args.splits)
    rows = []
    for who in ("ctgan", "sktvae"):
        path = str(out / f"{args.name}.{who}.csv")
        if who == "ctgan":
            yardstick = [args.peer_python, args.yardstick]
            command = [*yardstick, "ctgan", args.splits, args.name, path, str(args.epochs)]
        else:
            own = [args.splits, args.name, path, str(args.epochs), args.config]
            command = [sys.executable, __file__, "--own", *own]
        figures = run(command)
        score = [args.peer_python, args.yardstick, "score", args.splits, args.name, path]
        figures |= {k: v for k, v in run(score).items() if k != "peak_mb"}
        print(json.dumps(figures), flush=True)
        rows.append(figures)
    peer, own = rows
    print(f"fit: sktvae takes {own['fit_s'] / peer['fit_s']:.3f} of ctgan's time")
    print(f"peak memory: {own['peak_mb'] / peer['peak_mb']:.3f} of ctgan's")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--own"]:
        splits, name, path, epochs, config = sys.argv[2:]
        fit_and_sample(splits, name, path, int(epochs), config)
    else:
        main()
