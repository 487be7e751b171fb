"""One fit on several processes: seconds per step, losses, and whether all of them end alike.

    torchrun --nproc-per-node N benchmarks/distributed.py TABLE.csv [--epochs 300] [--seed 0]
        [--conditional] [--batch-size auto] [--shares 3 1] [--test TEST.csv]
        [--sample SYNTHETIC.csv] [--model MODEL.joblib] [--json LINES.jsonl]

Every process learns from its own rows of the table: each N-th one, or as many as its share says.
If TABLE is a folder, it learns from each N-th Parquet file in it, read piece by piece. Without
torchrun it is the fit of one process. Text columns are categories.
"""

import argparse
import json
import os
import pathlib
import resource
import time

import joblib
import numpy as np
import pandas as pd
import pyarrow.dataset
import torch
import torch.distributed as dist

from sktvae import TVAESynthesizer, _fitting


class Timed:
    """Wraps the training of a network, to tell its seconds from those of the encoding."""

    def __init__(self, train):
        self.train, self.seconds, self.cpu_seconds = train, [], []

    def __call__(self, *args, **kwargs):
        start, cpu_start = time.perf_counter(), time.process_time()
        trained = self.train(*args, **kwargs)
        self.seconds.append(time.perf_counter() - start)
        self.cpu_seconds.append(time.process_time() - cpu_start)
        return trained


def rows_of(table, rank, size, shares):
    """The rows of one process, and their number in this and in all processes."""
    if table.is_dir():
        files = sorted(map(str, table.glob("*.parquet")))
        own = pyarrow.dataset.dataset(files[rank::size])
        return own, own.count_rows(), pyarrow.dataset.dataset(files).count_rows()
    X = pd.read_csv(table)
    if shares is None:
        return X[rank::size], len(X[rank::size]), len(X)
    ends = np.concatenate([[0], np.cumsum(shares)]) / np.sum(shares) * len(X)
    shuffled = X.sample(frac=1, random_state=0)
    start, end = int(ends[rank]), int(ends[rank + 1])
    return shuffled[start:end], end - start, len(X)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=pathlib.Path)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--conditional", action="store_true")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--shares", nargs="*", type=float)
    parser.add_argument("--test", help="score these rows")
    parser.add_argument("--sample", help="write as many rows as the table has")
    parser.add_argument("--model", help="save the fitted model with joblib")
    parser.add_argument("--json", help="append a line")
    args = parser.parse_args()
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if size > 1:
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    own, n_own, n_rows = rows_of(args.table, rank, size, args.shares)
    _fitting.train = timed = Timed(_fitting.train)
    batch_size = args.batch_size or min(max(n_rows // 64, 32), 512)
    model = TVAESynthesizer(
        epochs=args.epochs,
        batch_size=batch_size,
        conditional=args.conditional,
        random_state=args.seed,
    )
    start = time.perf_counter()
    model.fit(own)
    seconds = time.perf_counter() - start
    encoder = model.encoder_
    n_steps = -(-(n_rows - min(n_rows // 10, 50_000 * size)) // batch_size)  # per epoch
    n_checks = -(-n_steps // 1000)
    n_steps *= len(model.history_["loss"]) / n_checks
    found = {
        "rows": n_own,
        # All but the relations that are suggested, which several processes do not look for.
        "encoder": joblib.hash((encoder.schema_, encoder.codecs_, encoder.heads_)),
        "weights": joblib.hash(model.vae_),
        "model": joblib.hash(model),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    of_ranks = [found]
    if size > 1:
        of_ranks = [None] * size
        dist.all_gather_object(of_ranks, found)
    if rank == 0:
        for r, line in enumerate(of_ranks):
            print(f"rank {r}: {line}", flush=True)
        line = {
            "processes": size,
            "fit_s": seconds,
            "step_ms": 1000 * timed.seconds[0] / n_steps,
            "step_cpu_ms": 1000 * timed.cpu_seconds[0] / n_steps,
            "epochs": model.n_iter_,
            "validation_loss": min(model.history_["validation_loss"]),
            "history": model.history_["validation_loss"],
            "kl": model.history_["validation_kl"],
            "same_encoder": len({of["encoder"] for of in of_ranks}) == 1,
            "same_model": len({of["model"] for of in of_ranks}) == 1,
            "encoder": found["encoder"],
            "rows": [of["rows"] for of in of_ranks],
            "peak_mb": max(of["peak_mb"] for of in of_ranks),
        }
        if args.test:
            line["test_score"] = model.score(pd.read_csv(args.test))
        print(json.dumps(line))
        if args.json:
            with open(args.json, "a") as file:
                file.write(json.dumps(line) + "\n")
        if args.model:
            joblib.dump(model, args.model)
        if args.sample:
            model.sample(n_rows).to_csv(args.sample, index=False)
    if size > 1:
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
