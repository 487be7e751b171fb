"""What the two processes of test_distributed.py do: python ranks.py task folder rank."""

import json
import os
import pathlib
import signal
import sys
import threading

import joblib
import numpy as np
import pandas as pd
import torch.distributed as dist
from sklearn.compose import make_column_selector

from sktvae import TableEncoder, TVAEImputer, TVAESynthesizer
from sktvae._training import rows

SETTINGS = {"epochs": 12, "batch_size": 64, "compress_dims": (32,), "decompress_dims": (32, 32)}


def table(n=800, seed=0):
    rng = np.random.default_rng(seed)
    group = rng.choice(["a", "b", "c"], n, p=[0.6, 0.3, 0.1])
    number = rng.normal(np.where(group == "a", 0.0, 3.0), 1).round(2)
    number[rng.random(n) < 0.05] = np.nan
    return pd.DataFrame({"number": number, "group": group, "count": rng.poisson(2, n)})


def part(X, rank, share=0.5):
    """The rows of this rank; sorted, so that the ranks have different distributions."""
    X = X.sort_values("number", ignore_index=True)
    n = int(share * len(X))
    return X[:n] if rank == 0 else X[n:]


def error_of(call):
    try:
        call()
    except (ValueError, TypeError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def fits(folder, rank):
    X = part(table(), rank)
    strange = X.assign(group=[{}] * len(X)) if rank == 1 else X
    model = TVAESynthesizer(**SETTINGS)
    errors = {
        "column": lambda: model.fit(strange),
        "parameter": lambda: TVAESynthesizer(epochs=12 + rank).fit(X),
        "names": lambda: model.fit(X.rename(columns={"count": f"count{rank}"})),
        "few rows": lambda: model.fit(part(table(), rank, 0.01)),
        "fewer rows than steps": lambda: TVAESynthesizer(batch_size=4).fit(
            part(table(), rank, 0.05)
        ),
        "sample_weight": lambda: model.fit(X, sample_weight=np.ones(len(X))),
        "imputer": lambda: TVAEImputer().fit(X),
        "selector": lambda: TVAESynthesizer(
            epochs=1,
            conditional=False,
            calibrate=False,
            encoder=TableEncoder(codecs=[("left", "drop", make_column_selector("count"))]),
        ).fit(X),
    }
    found = {name: error_of(call) for name, call in errors.items()}
    (folder / f"errors{rank}.json").write_text(json.dumps(found))
    # After so many errors, the ranks still understand each other.
    model = TVAESynthesizer(**SETTINGS, refit=False)
    joblib.dump(model.fit(part(table(), rank, 0.4)), folder / f"default{rank}")
    model = TVAESynthesizer(**SETTINGS, conditional=False, random_state=0)
    few = part(table(), rank, 0.1)
    joblib.dump(model.set_params(calibrate=False, refit=False).fit(few), folder / f"lopsided{rank}")
    model.set_params(calibrate=True, refit=True)
    rows._MOST_BYTES_IN_MEMORY = 0  # so that the encoded rows of a table in pieces go to the disk
    X = part(table(), rank, 0.3)
    joblib.dump(model.fit(X if rank == 0 else [X[:100], X[100:]]), folder / f"unequal{rank}")
    dist.barrier()
    dist.destroy_process_group()


def killed(folder, rank):
    if rank == 1:
        threading.Timer(1, os.kill, (os.getpid(), signal.SIGKILL)).start()
    model = TVAESynthesizer(epochs=10**6, early_stopping=False)
    (folder / f"error{rank}").write_text(str(error_of(lambda: model.fit(part(table(), rank)))))


if __name__ == "__main__":
    folder, rank = pathlib.Path(sys.argv[2]), int(sys.argv[3])
    dist.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=2)
    {"fits": fits, "killed": killed}[sys.argv[1]](folder, rank)
