"""Limits that the library promises, measured one at a time.

OMP_NUM_THREADS=1 python benchmarks/limits.py modes TRAIN.csv   seconds to fit the modes codec
                                                                on all numeric columns
python benchmarks/limits.py categories                          100,000 rows of one column with
                                                                10,000 categories: peak memory
python benchmarks/limits.py million TRAIN.csv                   a million rows sampled: rows a
                                                                second, peak memory
"""

import resource
import sys
import time

import numpy as np
import pandas as pd

from sktvae import XU2019, ModeCodec, TVAESynthesizer


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
    model = TVAESynthesizer(epochs=2, random_state=0).fit(table)
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
        f"{len(rows) / seconds:.0f} rows a second; peak memory {peak_mb()} MB, of which the rows "
        f"are {rows.memory_usage(deep=True).sum() // 2**20} MB"
    )


if __name__ == "__main__":
    what = {"modes": modes, "categories": categories, "million": million}.get(
        "".join(sys.argv[1:2])
    )
    what(*sys.argv[2:]) if what else sys.exit(__doc__)
