"""Rows per second of `sample` and `score_samples`, alone and beside a busy process.

    python benchmarks/generation.py DATA_DIR [--table adult] [--epochs 12] [--model MODEL.joblib]
        [--threads 1 2] [--busy 0 1] [--against OTHER_CHECKOUT] [--rows 100000] [--scored 4000]

The model is fitted once, or loaded if the file MODEL exists (and saved to it if not). Each line is
the best of `--repeats` runs in a process of its own, with so many threads of torch and beside so
many processes that compute all the time. With `--against`, another version of the package (a folder
that holds `sktvae/`) is measured in turn with this one, on the same model. Rates are rows per
second of wall-clock time, for other programs on the machine count; beside them is the processor
time of all threads per row.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

PACKAGE = pathlib.Path(__file__).parents[1]
COLUMNS = ("sample_rows_per_s", "sample_cpu_us", "score_rows_per_s", "score_cpu_us", "mean_score")


def read(folder, name):
    """The train and the test part of a shared table."""
    import pandas as pd

    (about,) = (
        d
        for d in json.loads((folder / "datasets.json").read_text())["datasets"]
        if d["name"] == name
    )
    files = about["file"], about.get("test_file", about["file"])
    tables = [pd.read_csv(folder / file) for file in files]
    for table in tables:
        for column in about["categorical"]:
            table[column] = table[column].astype(str)
    return tables


def best(function, n_rows, repeats):
    """Rows per second, and microseconds of processor time per row, in the best of some runs."""
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        function()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return round(n_rows / min(walls)), round(1e6 * min(cpus) / n_rows, 2)


def measure(model_file, folder, table, n_rows, n_scored, repeats):
    """Print the figures of one version of the package as JSON."""
    import joblib

    model = joblib.load(model_file)
    rows = read(folder, table)[1].iloc[:n_scored]
    model.sample(1000), model.score_samples(rows[:100])
    sample = best(lambda: model.sample(n_rows), n_rows, repeats)
    score = best(lambda: model.score_samples(rows), len(rows), repeats)
    mean = round(float(model.score_samples(rows).mean()), 6)
    print(json.dumps(dict(zip(COLUMNS, (*sample, *score, mean), strict=True))))


def busy_processes(n):
    """Processes that compute without end."""
    return [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]


def in_process(package, n_threads, n_busy, arguments):
    """The figures of `measure` in a process that uses a version of the package."""
    environment = os.environ | {"PYTHONPATH": str(package), "OMP_NUM_THREADS": str(n_threads)}
    others = busy_processes(n_busy)
    try:
        command = [sys.executable, __file__, *arguments, "--measure"]
        out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    finally:
        for process in others:
            process.kill()
            process.wait()
    return json.loads(out.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--table", default="adult")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--model", type=pathlib.Path, default=pathlib.Path("generation.joblib"))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--busy", type=int, nargs="+", default=[0])
    parser.add_argument("--against", type=pathlib.Path)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--scored", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.model, args.data, args.table, args.rows, args.scored, args.repeats)
        return
    if not args.model.exists():
        import joblib

        import sktvae

        settings = {"conditional": False, "random_state": 0, "epochs": args.epochs}
        train, _ = read(args.data, args.table)
        joblib.dump(sktvae.TVAESynthesizer(**settings).fit(train), args.model)
    packages = [args.against, PACKAGE] if args.against else [PACKAGE]
    print("| package | threads | busy processes | " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * (3 + len(COLUMNS)))
    for n_busy in args.busy:
        for n_threads in args.threads:
            for package in packages:
                which = "this" if package == PACKAGE else str(package)
                row = in_process(package, n_threads, n_busy, sys.argv[1:])
                cells = [which, n_threads, n_busy, *(row[name] for name in COLUMNS)]
                print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
