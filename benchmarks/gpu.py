"""What a CUDA device does: the checks that need one, and its times beside those of the CPU.

    python benchmarks/gpu.py [--device cuda] [--out FIGURES.json] [--parts steps fit ...]
    python benchmarks/gpu.py --device cpu --small     (tries the script itself, without a GPU)

The table is generated: 6 numbers, 5 categories and a column with missing cells, which depend on
each other. Nothing is downloaded. The parts are

    steps     the loss of 200 training steps that are taken one operation at a time, twice, and as a
              CUDA graph: the graph may differ by as much as rounding does; seconds per step of
              both, and of the CPU, for the default, the network for conditions, the paper's
              configuration and a table of 200 columns; the device memory of training
    fallback  a step that cannot be recorded: a warning, and the losses of steps without a graph
    fit       the default fit on both devices: seconds, and the AUC with which a classifier tells
              rows of the one from fresh rows of the table, and from rows of the other
    uses      sampling, scores, latents, conditions and imputation of a model on the device, and
              that the saved model gives the same rows on the CPU as one that was never elsewhere
    sample    rows per second and device memory
    auto      seconds to fit tables of growing size on both devices, and which of them
              device="auto" takes: the limits in sktvae/_device.py are guesses until this was run

Every check prints "ok" or "FAILED", and a failed one makes the exit status 1. All parts are meant
to take less than five minutes on an H100 with 16 processors; they have not been run on one.
"""

import argparse
import json
import os
import pickle
import sys
import time
import warnings

import numpy as np
import pandas as pd
import torch

from sktvae import XU2019, TVAESynthesizer
from sktvae._device import FEWEST_CELLS_TO_FIT, FEWEST_CELLS_TO_PASS, resolve_device
from sktvae._training.learner import Learner
from sktvae._training.rows import TrainingRows
from sktvae.metrics import detection_auc

os.environ["SKTVAE_CUDA_GRAPHS"] = "1"

FAILED = []
FIGURES = {}
NETWORKS = {
    "default": ({}, False),
    "for conditions": ({}, True),
    "xu2019": (XU2019 | {"numerical": "quantile"}, False),
}


def report(name, value, unit=""):
    FIGURES[name] = value
    shown = f"{value:.4g}" if isinstance(value, float) else value
    print(f"{name}: {shown} {unit}".rstrip(), flush=True)


def check(name, is_true):
    FIGURES[f"check: {name}"] = bool(is_true)
    print(f"{'ok' if is_true else 'FAILED'}: {name}", flush=True)
    if not is_true:
        FAILED.append(name)


def table(n_rows, seed=0, times=1):
    """Rows of a distribution whose columns depend on each other; 12 columns, several times."""
    rng = np.random.default_rng(seed)
    columns = {}
    for k in range(times):
        hidden = rng.normal(size=(n_rows, 2))
        group = rng.integers(0, 4, n_rows)
        for i in range(6):
            mean = hidden @ [np.cos(i), np.sin(i)] + (group == i % 4) * 2.0
            columns[f"number {i}, {k}"] = (mean + 0.3 * rng.normal(size=n_rows)).round(3)
        columns[f"group {k}"] = np.array([*"abcd"], dtype=object)[group]
        for i, n in enumerate((2, 4, 8, 40)):
            cut = np.argsort(np.argsort(hidden[:, i % 2] + rng.normal(size=n_rows))) * n // n_rows
            columns[f"category {i}, {k}"] = np.array([f"c{j}" for j in range(n)], dtype=object)[cut]
        holey = hidden[:, 0].round(2)
        columns[f"holey {k}"] = np.where(
            rng.random(n_rows) < 0.1 + 0.2 * (group == 0), np.nan, holey
        )
    return pd.DataFrame(columns)


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(function, device):
    synchronize(device)
    start = time.perf_counter()
    result = function()
    synchronize(device)
    return time.perf_counter() - start, result


def peak_mb(device):
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else 0.0


def training(x, device, graph, any_order=False, **settings):
    """Return a learner on the device, and its endless turns."""
    model = TVAESynthesizer(**{"random_state": 0} | settings)
    encoder, rows, _ = model._learned_rows(x, None, 0)
    vae = model._new_network(encoder, 0, any_order).to(device)
    plan, rows = model._plan(rows.n_rows, 1, any_order), rows.to(device)
    generator, host = torch.Generator(device).manual_seed(0), torch.Generator().manual_seed(0)
    turns = TrainingRows(rows, vae.decoder, plan, generator, host).turns(10**6)
    learner = Learner(vae, rows, plan, generator)
    if not graph:
        learner.record(None)
    return learner, turns


def losses(learner, turns, n_steps):
    return torch.stack([learner.step(next(turns))[0] for _ in range(n_steps)]).cpu()


def step_seconds(learner, turns, device, n_steps):
    """Seconds per step, once each kind of step has been recorded."""
    losses(learner, turns, 30)
    return seconds(lambda: losses(learner, turns, n_steps), device)[0] / n_steps


def difference(one, other):
    """The largest relative difference of two series of losses."""
    return float(((one - other).abs() / other.abs().clamp(min=1.0)).max())


def steps(device, size):
    n_steps = 200
    for name, (settings, any_order) in NETWORKS.items():
        x = table(20_000 // size)
        of = lambda graph, device=device: training(x, device, graph, any_order, **settings)  # noqa: B023
        eager, again = (losses(*of(False), n_steps) for _ in range(2))
        learner, turns = of(True)
        graph = losses(learner, turns, n_steps)
        noise, found = difference(again, eager), difference(graph, eager)
        report(f"{name}: losses of two runs without a graph differ by", noise)
        report(f"{name}: losses with a graph differ by", found)
        check(f"{name}: a graph gives the losses", found <= max(1e-3, 5 * noise))
        check(f"{name}: the losses fall", graph[-20:].mean() < graph[:20].mean())
        if device.type == "cuda":
            n_recorded = learner._recorded.n_recorded if learner._recorded else 0
            check(f"{name}: steps were recorded ({n_recorded} kinds)", n_recorded > 0)
    settings = {name: (x, *of) for name, of in NETWORKS.items() for x in [table(20_000 // size)]}
    settings["200 columns"] = (table(20_000 // size, times=17), {}, False)
    for name, (x, own, any_order) in settings.items():
        for graph in (False, True):
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            parts = training(x, device, graph, any_order, **own)
            how = "graph" if graph else "eager"
            report(f"{name}: {how}", 1e3 * step_seconds(*parts, device, 200 // size), "ms per step")
            report(f"{name}: {how}, peak device memory", peak_mb(device), "MB")
            del parts
        cpu = torch.device("cpu")
        parts = training(x, cpu, False, any_order, **own)
        report(f"{name}: CPU", 1e3 * step_seconds(*parts, cpu, 40 // size), "ms per step")


def fallback(device, size):
    """A step that reads a number from the device, which a graph cannot."""
    x, expected = table(5000 // size), None
    for reads in (False, True):
        learner, turns = training(x, device, graph=reads)
        step = learner._step

        def reading(*args, step=step):
            terms = step(*args)
            terms.sum().item()
            return terms

        if reads:
            learner._step = reading
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = losses(learner, turns, 60)
        if not reads:
            expected = found
    if device.type == "cuda":
        check(
            "a step that cannot be recorded: a warning", any("CUDA graph" in str(w) for w in caught)
        )
    report("fallback: losses differ by", difference(found, expected))
    check("a step that cannot be recorded: the losses", difference(found, expected) <= 1e-3)
    numbers = torch.randn(1000, device=device)
    check("the default generator can still be used", float(numbers.std()) > 0.9)


def fit(device, size):
    n_rows = 20_000 // size
    x, fresh, samples = table(n_rows), table(n_rows, seed=1), {}
    for name in (str(device), "cpu"):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        model = TVAESynthesizer(epochs=10, device=name, random_state=0)
        took, _ = seconds(lambda model=model: model.fit(x), device)
        report(f"fit on {name}", took, "s")
        report(f"fit on {name}: peak device memory", peak_mb(device), "MB")
        samples[name] = model.sample(n_rows)
    tell = lambda a, b: detection_auc(a, b, return_std=True, random_state=0)
    aucs = {name: tell(fresh, rows) for name, rows in samples.items()}
    for name, (auc, error) in aucs.items():
        report(f"AUC of fresh rows and those of {name}", float(auc), f"+- {error:.3f}")
    (one, error), (other, _) = aucs[str(device)], aucs["cpu"]
    check("both devices fit equally well", abs(one - other) <= 0.02 + 3 * error)
    report("AUC of the rows of both", float(tell(samples["cpu"], samples[str(device)])[0]))


def uses(device, size):
    x = table(4000 // size)
    model = TVAESynthesizer(epochs=3, device=str(device), random_state=0).fit(x)
    cpu = pickle.loads(pickle.dumps(model)).set_params(device="cpu")
    rows, n = x.head(500), "number 0, 0"
    check(
        "scores are those of the CPU",
        np.allclose(model.score_samples(rows), cpu.score_samples(rows), atol=0.01),
    )
    check(
        "latents are those of the CPU",
        np.allclose(model.transform(rows), cpu.transform(rows), atol=1e-3),
    )
    check(
        "means are those of the CPU",
        np.allclose(model.conditional_mean(rows, n), cpu.conditional_mean(rows, n), atol=0.01),
    )
    drawn = model.sample(300, conditions={"group 0": "a", n: pd.Interval(0, 5)})
    check("conditions hold", (drawn["group 0"] == "a").all() and drawn[n].between(0, 5).all())
    check(
        "imputed rows have no holes",
        model.impute(rows).drop(columns="holey 0").notna().all(axis=None),
    )
    check("inverse_transform", len(model.inverse_transform(model.transform(rows))) == len(rows))
    stream = TVAESynthesizer(device=str(device), random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stream.partial_fit(x).partial_fit(table(4000 // size, seed=2))
    check("a stream", len(stream.sample(100)) == 100)


def sample(device, size):
    model = TVAESynthesizer(epochs=2, conditional=False, random_state=0).fit(table(20_000 // size))
    for name, n_rows in ((str(device), 1_000_000 // size), ("cpu", 200_000 // size)):
        model.set_params(device=name)
        model.sample(1000)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        took, rows = seconds(lambda n_rows=n_rows: model.sample(n_rows), device)
        check(f"{n_rows} rows from {name}", len(rows) == n_rows)
        report(f"sample on {name}", n_rows / took, "rows per second")
        report(f"sample on {name}: peak device memory", peak_mb(device), "MB")


def auto(device, size):
    for n_rows in (1000, 3000, 10_000, 30_000, 100_000):
        x = table(n_rows // size)
        for name in (str(device), "cpu"):
            model = TVAESynthesizer(epochs=2, conditional=False, device=name, random_state=0)
            took, _ = seconds(lambda model=model, x=x: model.fit(x), device)
            report(f"{x.shape[0]} rows x {x.shape[1]}: two epochs on {name}", took, "s")
        report(
            f'{x.shape[0]} rows x {x.shape[1]}: "auto" fits on', str(resolve_device("auto", x.size))
        )
    report("cells from which auto fits on a GPU", FEWEST_CELLS_TO_FIT)
    report("cells from which auto draws and scores on a GPU", FEWEST_CELLS_TO_PASS)


PARTS = {f.__name__: f for f in (steps, fallback, fit, uses, sample, auto)}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="a tenth of the rows")
    parser.add_argument("--out", help="a JSON file for the figures")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    device = torch.device(options.device)
    warnings.filterwarnings("ignore", "Categories in fewer|Column .* has a different value")
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit(
            f"torch {torch.__version__} finds no CUDA device here. Run this on a machine that has "
            "one; --device cpu --small only tries the script."
        )
    report("torch", torch.__version__)
    report("processors", os.cpu_count())
    if device.type == "cuda":
        report("device", torch.cuda.get_device_name(device))
        report("start of the device", seconds(lambda: torch.ones(1, device=device), device)[0], "s")
    for name in options.parts:
        print(f"\n{name}", flush=True)
        took, _ = seconds(lambda name=name: PARTS[name](device, 10 if options.small else 1), device)
        report(f"{name}: took", took, "s")
    if options.out:
        with open(options.out, "w") as file:
            json.dump(FIGURES, file, indent=1)
    if FAILED:
        sys.exit(f"{len(FAILED)} check(s) failed: {FAILED}")


if __name__ == "__main__":
    main()
