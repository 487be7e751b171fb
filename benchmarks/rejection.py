"""What rejection by classifiers is worth, what it costs, and what it tells about training rows.

    OMP_NUM_THREADS=1 python benchmarks/rejection.py YARDSTICK XGB SPLITS NAME ...
        --peer-python PEER [--seeds 0 1 2] [--rounds 3] [--out ROWS.jsonl]

YARDSTICK and XGB are the project's `fidelity.py` and `xgb.py`, PEER the python of the environment
their headers describe, SPLITS the folder to which `fidelity.py splits` has written each NAME. A
`RejectionSynthesizer` is fitted once per table and seed, in a process of its own; its synthesizer
alone gives the figures "alone". One Markdown line each: figures of both tools, the CPU seconds of
the fit of the synthesizer and of the classifiers, rows sampled per CPU second, and the AUC of three
attacks that hold the model, on training rows against test rows: by the score of the synthesizer, by
the odds of the classifiers, and by the sum of both.
"""

import argparse
import json
import pathlib
import sys
import tempfile
import time

import numpy as np
from peer import run

FIGURES = ("shape_err", "trend_err", "pair_err", "c2st_auc", "c2st_train", "mle", "mle_real")
FIGURES = ("c2st_xgb", *FIGURES, "dcr_share", "copies")
COSTS = ("rounds", "accepted", "fit_cpu_s", "rows_per_cpu_s", "likelihood", "odds", "both")


def read(splits, name, part):
    import pandas as pd

    roles = json.loads((pathlib.Path(splits) / f"{name}.json").read_text())
    table = pd.read_csv(pathlib.Path(splits) / f"{name}.{part}.csv")
    return table.astype(dict.fromkeys(roles["cats"], str))


def cpu_seconds(function):
    start = time.process_time()
    result = function()
    return result, time.process_time() - start


def attacks(model, train, test):
    """The AUC of attacks on training rows, given the model."""
    from sklearn.metrics import roc_auc_score

    from sktvae._encoding.ordered import ordered_codes
    from sktvae._rejection import Rejection

    encoder = model.synthesizer_.encoder_
    rejection = Rejection(tuple(model.classifiers_), model._slopes)

    def odds(X):
        encoded = encoder.encode(X)
        codes = ordered_codes(encoder.fitted, encoded.heads, encoded.n_samples)
        return rejection.log_odds(codes)

    is_member = np.repeat([1, 0], [len(train), len(test)])
    scores = {
        "likelihood": np.concatenate([model.synthesizer_.score_samples(X) for X in (train, test)]),
        "odds": np.concatenate([odds(X) for X in (train, test)]),
    }
    scores["both"] = scores["likelihood"] + scores["odds"]
    return {name: round(roc_auc_score(is_member, s), 3) for name, s in scores.items()}


def fit_and_sample(splits, name, folder, n_rounds, seed):
    """Write as many rows as there are training rows, of both; print costs and attacks as JSON."""
    from sktvae import RejectionSynthesizer, TVAESynthesizer

    class Timed(TVAESynthesizer):
        def fit(self, X, y=None, sample_weight=None):
            _, self.seconds_ = cpu_seconds(lambda: super(Timed, self).fit(X, y, sample_weight))
            return self

    train, test = read(splits, name, "train"), read(splits, name, "test")
    model = RejectionSynthesizer(Timed(conditional=False, random_state=seed), n_rounds=n_rounds)
    _, seconds = cpu_seconds(lambda: model.fit(train))
    alone = model.synthesizer_.seconds_
    rows = [
        {"who": "alone", "rounds": 0, "accepted": 1.0, "fit_cpu_s": round(alone)},
        {"who": "rejection", "rounds": len(model.classifiers_)}
        | {"accepted": round(model.acceptance_rate_, 3), "fit_cpu_s": round(seconds - alone)},
    ]
    for row, source in zip(rows, (model.synthesizer_, model), strict=True):
        drawn, sampling = cpu_seconds(lambda source=source: source.sample(len(train)))
        path = f"{folder}/{name}.{seed}.{row['who']}.csv"
        drawn.to_csv(path, index=False)
        row |= {"path": path, "rows_per_cpu_s": round(len(train) / sampling)}
    rows[1] |= attacks(model, train, test)
    print(json.dumps(rows))


def markdown(rows):
    head = ["table", "rows", "seed", *FIGURES, *COSTS]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [row["data"], row["who"], row["seed"], *(row.get(k, "") for k in FIGURES + COSTS)]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("yardstick")
    parser.add_argument("xgb")
    parser.add_argument("splits")
    parser.add_argument("names", nargs="+")
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path, help="each row as JSON, as it comes")
    args = parser.parse_args()
    every = []
    with tempfile.TemporaryDirectory() as folder:
        for name, seed in ((n, s) for n in args.names for s in args.seeds):
            own = json.dumps([args.splits, name, folder, args.rounds, seed])
            for row in run([sys.executable, __file__, "--own", own]):
                path = row.pop("path")
                for tool in ([args.yardstick, "score"], [args.xgb]):
                    row |= run([args.peer_python, *tool, args.splits, name, path])
                row["seed"] = seed
                every.append(row)
                if args.out is not None:
                    with args.out.open("a") as file:
                        print(json.dumps(row), file=file)
    print(markdown(every))


if __name__ == "__main__":
    if sys.argv[1] == "--own":
        fit_and_sample(*json.loads(sys.argv[2]))
    else:
        main()
