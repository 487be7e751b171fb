"""Limits that the library promises, measured one at a time.

OMP_NUM_THREADS=1 python benchmarks/limits.py modes TRAIN.csv   seconds to fit the modes codec
                                                                on all numeric columns
python benchmarks/limits.py categories                          100,000 rows of one column with
                                                                10,000 categories: peak memory
python benchmarks/limits.py million TRAIN.csv                   a million rows sampled: rows per
                                                                second, peak memory
python benchmarks/limits.py encode                              a million rows of 20 mixed columns
                                                                encoded: seconds, peak memory as a
                                                                multiple of the table's own
python benchmarks/limits.py costs TRAIN.csv                     the default estimator: seconds to
                                                                fit, to sample 200,000 rows and to
                                                                score the table; peak memory
python benchmarks/limits.py noise TRAIN.csv TEST.csv            how much the mean score depends on
                                                                the noise that all rows share
"""

import copy
import pathlib
import resource
import sys
import threading
import time

import numpy as np
import pandas as pd
import torch

from sktvae import XU2019, CategoryCodec, ModeCodec, TableEncoder, TVAESynthesizer


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def modes(path):
    table = pd.read_csv(path).select_dtypes("number")
    total = 0.0
    for name in table:
        start = time.perf_counter()
        codec = ModeCodec(random_state=0).fit(table[name])
        seconds = time.perf_counter() - start
        total += seconds
        print(f"{name}: {len(codec.means_)} modes, {seconds:.2f} s")
    print(f"{len(table)} rows, {table.shape[1]} numeric columns: {total:.2f} s")


def categories():
    rng = np.random.default_rng(0)
    keys = np.array([f"key {i}" for i in range(10_000)], dtype=object)
    table = pd.DataFrame({"key": keys[rng.integers(0, 10_000, 100_000)], "x": rng.random(100_000)})
    before = peak_mb()
    start = time.perf_counter()
    encoder = TableEncoder([("all", CategoryCodec(), ["key"])])
    model = TVAESynthesizer(epochs=2, encoder=encoder, conditional=False, random_state=0).fit(table)
    fitted = time.perf_counter()
    rows = model.sample(100_000)
    print(
        f"2 epochs in {fitted - start:.0f} s, 100,000 rows sampled in "
        f"{time.perf_counter() - fitted:.0f} s with {rows['key'].nunique()} of 10,000 categories; "
        f"peak memory {peak_mb()} MB, {before} MB of it before fit"
    )


def million(path):
    model = TVAESynthesizer(**XU2019 | {"epochs": 2, "random_state": 0}).fit(pd.read_csv(path))
    start = time.perf_counter()
    rows = model.sample(1_000_000)
    seconds = time.perf_counter() - start
    print(
        f"{len(rows) / seconds:.0f} rows per second; peak memory {peak_mb()} MB, of which the rows "
        f"are {rows.memory_usage(deep=True).sum() // 2**20} MB"
    )


def mixed(n_rows):
    """Twenty columns of floats, prices, integers, texts, dates, times, missing values."""
    rng = np.random.default_rng(0)
    start = pd.Timestamp("2020-01-01")
    texts = [[f"value {k}" for k in range(10 ** (i + 1))] for i in range(4)]
    return pd.DataFrame(
        {
            **{f"float {i}": rng.normal(size=n_rows) for i in range(4)},
            **{f"price {i}": np.round(rng.lognormal(3, 1, n_rows), 2) for i in range(3)},
            **{f"integer {i}": rng.integers(0, 10 ** (i + 1), n_rows) for i in range(4)},
            **{f"text {i}": rng.choice(texts[i], n_rows) for i in range(4)},
            "flag": rng.random(n_rows) < 0.3,
            "day": start + pd.to_timedelta(rng.integers(0, 1000, n_rows), "D"),
            "time": start + pd.to_timedelta(rng.integers(0, 10**8, n_rows), "s"),
            "category": pd.Categorical(rng.choice(list("abc"), n_rows)),
            "gaps": np.where(rng.random(n_rows) < 0.3, np.nan, rng.normal(size=n_rows)),
        }
    )


def encode():
    table = mixed(1_000_000)
    own = table.memory_usage(deep=True).sum() / 2**20
    resident = lambda: int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20
    before = most = resident()
    done = threading.Event()

    def watch():
        nonlocal most
        while not done.wait(0.005):
            most = max(most, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    TableEncoder(random_state=0).fit_transform(table)
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    print(
        f"{table.shape[0]} rows of {table.shape[1]} columns, {own:.0f} MB, encoded in "
        f"{seconds:.1f} s; peak memory {(most - before) / own:.1f} times the table's own"
    )


def costs(path):
    table = pd.read_csv(path)
    model = TVAESynthesizer(conditional=False, random_state=0)
    for name, function in (
        ("fit", lambda: model.fit(table)),
        ("200,000 rows sampled", lambda: model.sample(200_000)),
        (f"{len(table)} rows scored", lambda: model.score_samples(table)),
    ):
        start = time.perf_counter()
        function()
        seconds = time.perf_counter() - start
        print(f"{name}: {seconds:.1f} s; peak memory of the process so far {peak_mb()} MB")
    print(f"{model.n_iter_} epochs")


def noise(train, test):
    """How much the mean score of a table depends on the noise that all rows share."""
    model = TVAESynthesizer(epochs=8, conditional=False, random_state=0).fit(pd.read_csv(train))
    vae = copy.deepcopy(model.vae_).double()
    encoded = model.encoder_.encode(pd.read_csv(test).head(1500), log_density=True)
    batch = vae.layout.to_batch(encoded.heads)

    def independent(n, seed):
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(n, vae.embedding_dim, generator=generator, dtype=torch.double)

    def sobol(n, seed):
        engine = torch.quasirandom.SobolEngine(vae.embedding_dim, scramble=True, seed=seed)
        return torch.special.ndtri(engine.draw(n, dtype=torch.double).clamp(1e-9, 1 - 1e-9))

    for draw, n_draws, n_seeds in (
        (independent, 8, 8),
        (independent, 16, 8),
        (sobol, 8, 8),
        (sobol, 16, 8),
        (sobol, 256, 1),
    ):
        means = [
            (vae.log_prob_bound(batch, draw(n_draws, seed)).numpy() + encoded.log_density).mean()
            for seed in range(n_seeds)
        ]
        print(
            f"{n_draws} {draw.__name__} draws: mean score {np.mean(means):.3f} nats per row, "
            f"standard deviation over {n_seeds} seeds {np.std(means):.3f}"
        )


if __name__ == "__main__":
    tasks = {"modes": modes, "categories": categories, "million": million, "encode": encode}
    tasks |= {"costs": costs, "noise": noise}
    what = tasks.get("".join(sys.argv[1:2]))
    what(*sys.argv[2:]) if what else sys.exit(__doc__)
