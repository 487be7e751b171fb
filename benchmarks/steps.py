"""CPU time of a training step of the paper's configuration, and of ctgan's TVAE beside it.

    python benchmarks/steps.py SPLITS NAME [--peer-python PEER] [--epochs E] [--repeats R]
        [--threads T]

SPLITS is the folder to which the yardstick's `splits` command has written NAME, PEER the python of
the environment that its header describes. Every fit has a process of its own; those of sktvae and
of ctgan alternate. A step lasts from the end of the step before to its own end; the figures are
medians over the steps of a fit.
"""

import argparse
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time


def milliseconds(ends):
    """The median time of a step from the times at which steps ended."""
    times = [1e3 * (later - earlier) for earlier, later in itertools.pairwise(ends)]
    return statistics.median(times[len(times) // 10 :])


def own(train, categories, epochs, ends):
    """Fit sktvae, and note the CPU time at which each step ends."""
    import sktvae
    from sktvae._training import loop

    class Timed(loop.Learner):
        def step(self, *args, **kwargs):
            terms = super().step(*args, **kwargs)
            ends.append(time.process_time())
            return terms

    loop.Learner = Timed
    parameters = sktvae.XU2019 | {"epochs": epochs, "random_state": 0}
    indices = [train.columns.get_loc(name) for name in categories]
    sktvae.TVAESynthesizer(**parameters, categorical_features=indices).fit(train)


def ctgan(train, categories, epochs, ends):
    """Fit ctgan's TVAE, and note the CPU time at which each step ends."""
    import torch
    from ctgan.synthesizers import tvae

    class Timed(torch.optim.Adam):
        def step(self, *args, **kwargs):
            super().step(*args, **kwargs)
            ends.append(time.process_time())

    tvae.Adam = Timed
    tvae.TVAE(epochs=epochs).fit(train, categories)


def measure(splits, name, who, epochs, threads):
    """Fit one of them in this process, and print milliseconds of CPU time per step."""
    import pandas as pd
    import torch

    torch.set_num_threads(threads)
    train = pd.read_csv(pathlib.Path(splits) / f"{name}.train.csv")
    categories = json.loads((pathlib.Path(splits) / f"{name}.json").read_text())["cats"]
    ends = []
    {"sktvae": own, "ctgan": ctgan}[who](train, categories, epochs, ends)
    print(milliseconds(ends))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("splits")
    parser.add_argument("name")
    parser.add_argument("--peer-python", help="default: sktvae is measured alone")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    pythons = {"sktvae": sys.executable}
    if args.peer_python:
        pythons["ctgan"] = args.peer_python
    for _ in range(args.repeats):
        found = {}
        for who, python in pythons.items():
            settings = json.dumps([args.splits, args.name, who, args.epochs, args.threads])
            command = [python, "-W", "ignore", __file__, "--measure", settings]
            environment = os.environ | {"OMP_NUM_THREADS": str(args.threads)}
            run = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
            if run.returncode:
                sys.exit(f"{command} failed")
            found[who] = float(run.stdout.split()[-1])
        line = ", ".join(f"{who} {took:.2f} ms" for who, took in found.items())
        if "ctgan" in found:
            line += f", ratio {found['sktvae'] / found['ctgan']:.2f}"
        print(line, flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(*json.loads(sys.argv[2]))
    else:
        main()
