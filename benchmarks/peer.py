"""The paper's configuration against ctgan's TVAE: time, memory and fidelity, in one run.

    python benchmarks/peer.py YARDSTICK SPLITS NAME --peer-python PEER [--epochs E] [--config C]
        [--peer-epochs E]

YARDSTICK is `fidelity.py`, PEER the python of the environment its header describes, SPLITS the
folder its `splits` command has written NAME to. Each model is fitted in a process of its own, one
after the other; seconds are those of `fit` (as the yardstick's `ctgan` command counts them) and
peak memory is that of the whole process, reading the table and sampling included.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time


def variants():
    """The configurations that can be compared: the defaults, the paper's, one part switched off."""
    import sktvae

    class Unordered(sktvae.QuantileCodec):
        """Bins without their order."""

        def _fit(self, summary):
            super()._fit(summary)
            self.heads_ = tuple(
                dataclasses.replace(head, n_ordered=0) if hasattr(head, "n_ordered") else head
                for head in self.heads_
            )

    private = {
        f"epsilon {epsilon}{known}": {"privacy": sktvae.DifferentialPrivacy(epsilon)}
        for epsilon in (1, 3, 10)
        for known in ("", ", declared")
    }
    return {
        "default": {},
        "with the second network": {},
        "xu2019": sktvae.XU2019,
        "no autoregression": {"decoder": "independent"},
        "no fine bins": {"numerical": sktvae.QuantileCodec(n_subbins=1)},
        "no ties": {"encoder": sktvae.TableEncoder(ties=False)},
        "no protection": {"min_samples": 1},
        "no random orders": {"random_orders": 0.0},
        "no rate floor": {"rate_floor": 0.0},
        "no averaging": {"average": False},
        "no ordinal information": {"numerical": Unordered()},
        "no calibration": {"calibrate": False},
        "no weight decay": {"weight_decay": 0.0},
        **private,
    }


def declare(settings, train, categories):
    """Declare the bounds and categories of a table as public, as its private peers have them."""
    numbers = [i for i in range(train.shape[1]) if i not in categories]
    settings.set_params(
        bounds={
            train.columns[i]: (train.iloc[:, i].min(), train.iloc[:, i].max()) for i in numbers
        },
        categories={train.columns[i]: list(train.iloc[:, i].unique()) for i in categories},
    )


def fit_and_sample(splits, name, path, epochs, config, seed):
    """Fit sktvae on the train part, write as many synthetic rows; print times as JSON."""
    import pandas as pd

    import sktvae

    train = pd.read_csv(pathlib.Path(splits) / f"{name}.train.csv")
    roles = json.loads((pathlib.Path(splits) / f"{name}.json").read_text())
    categories = [train.columns.get_loc(c) for c in roles["cats"]]
    settings = {"categorical_features": categories, "random_state": seed}
    if config != "with the second network":  # which changes none of the figures but the costs
        settings["conditional"] = False
    settings |= {} if epochs is None else {"epochs": epochs}
    model = sktvae.TVAESynthesizer(**variants()[config] | settings)
    if config.endswith("declared"):
        declare(model.privacy, train, categories)
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
        "epsilon": getattr(model, "epsilon_", None),
        "fit_s": round(fitted - start, 2),
        "sample_rows_per_s": round(len(train) / (sampled - fitted)),
    }
    if "gap" in model.history_:
        best = min(range(model.n_iter_), key=model.history_["validation_loss"].__getitem__)
        for term in ("validation_loss", "gap", "validation_kl"):
            figures[term] = round(model.history_[term][best], 3)
    print(json.dumps(figures))


def run(command, read=json.loads):
    """The last line a command prints, as JSON, and the peak memory of its process in MB."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command} failed")
    line = read(text.strip().splitlines()[-1])
    return line | {"peak_mb": usage.ru_maxrss // 1024} if isinstance(line, dict) else line


def own(splits, name, path, epochs=None, config="default", seed=0):
    """The command that fits and samples in a process of its own."""
    settings = json.dumps([str(splits), name, str(path), epochs, config, seed])
    return [sys.executable, __file__, "--own", settings]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("yardstick")
    parser.add_argument("splits")
    parser.add_argument("name")
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--epochs", type=int, help="of sktvae; default: those of the config")
    parser.add_argument("--peer-epochs", type=int, default=300)
    parser.add_argument("--config", default="xu2019", help=f"one of {', '.join(variants())}")
    args = parser.parse_args()
    out = pathlib.Path(args.splits)
    rows = []
    for who in ("ctgan", "sktvae"):
        path = str(out / f"{args.name}.{who}.csv")
        if who == "ctgan":
            yardstick = [args.peer_python, args.yardstick]
            command = [*yardstick, "ctgan", args.splits, args.name, path, str(args.peer_epochs)]
        else:
            command = own(args.splits, args.name, path, args.epochs, args.config)
        figures = run(command)
        score = [args.peer_python, args.yardstick, "score", args.splits, args.name, path]
        figures |= {k: v for k, v in run(score).items() if k != "peak_mb"}
        print(json.dumps(figures), flush=True)
        rows.append(figures)
    peer, ours = rows
    print(f"fit: sktvae takes {ours['fit_s'] / peer['fit_s']:.3f} of ctgan's time")
    print(f"peak memory: {ours['peak_mb'] / peer['peak_mb']:.3f} of ctgan's")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--own"]:
        fit_and_sample(*json.loads(sys.argv[2]))
    else:
        main()
