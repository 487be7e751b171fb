"""Time and peak memory of large tables: in rows, in columns and in categories.

    python benchmarks/scale.py axes OUT [--data DIR] [--axes rows columns categories]
        [--largest-rows 100000] [--largest-columns 100] [--largest-categories 1000]
        [--from dataset|memory]
    python benchmarks/scale.py point OUT --rows 1000000 --categories 100000 [--max-categories K]
    python benchmarks/scale.py point OUT --rows 5000 --columns 2000
    python benchmarks/scale.py large OUT [--data DIR] [--rows 10000000] [--from dataset|memory]
    python benchmarks/scale.py stream OUT --data DIR [--pieces 20] [--first ROWS] [--passes 1 3]
    python benchmarks/scale.py peer OUT TRAIN.csv --peer-python PEER [--peer-epochs 300]

Tables are drawn from a generator, the default TVAESynthesizer (with random_state=0) fitted once to
twenty columns of `default.csv.gz` in DIR (30,000 clients of a bank: ten categories, ten numbers),
or to the abalones of `make demo` if there is no such folder; they are written to OUT as Parquet,
batch by batch. Nothing is downloaded. A table of more columns consists of draws side by side, which
are independent of each other. A table of categories has one column of text, with so many categories
whose frequencies fall as 1 / rank (each occurs), and a number that depends on it.

Every stage is a process of its own, in which the seconds and the CPU seconds (of all threads, with
what the system does for them) are those of the stage, and the peak memory is `ru_maxrss` of the
whole process: imports (about 300 MB), the model and the table included. The stages are

    summary   a TableEncoder is fitted
    encode    the table is encoded, in batches of 100,000 rows
    epoch     one epoch of training (the process fits: its peak is that of summary and encoding too)
    sample    as many rows as the table has are written to Parquet, batch by batch

`axes` prints a table of all points and of exponents, the slopes of log(CPU seconds) against
log(size), and draws OUT/scale.png. CPU seconds depend less than seconds on what else the machine
does. `large` fits until validation stops it, samples as many rows through the
command line, and judges them by the classifier two-sample test against fresh rows of the generator.
`stream` passes over the train part of Adult in pieces, by partial_fit, whose first piece chooses
the encoding, and in as many epochs by fit; it judges both on the test part.
`peer` compares the peak memory of fit and sample on one table with that of ctgan's TVAE, for which
PEER is the python of an environment that has ctgan.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import threading
import time

from scale_figures import draw, tell

# Nothing heavy is imported here: the peak memory of a process is never below that of its parent.

BATCH = 100_000
ROWS = [10**4, 10**5, 10**6, 10**7]
COLUMNS = [10, 20, 50, 100, 200, 500]
CATEGORIES = [10, 100, 1000, 10_000, 100_000]
# Rows of the tables of the other two axes.
ROWS_OF_COLUMNS, ROWS_OF_CATEGORIES = 10_000, 100_000
LEFT_OUT = ["BILL_AMT5", "BILL_AMT6", "PAY_AMT5", "PAY_AMT6"]  # of 24 columns


# In processes of their own


class Clock:
    """Seconds and CPU seconds of what is done within its contexts, one after the other."""

    def __init__(self):
        self.seconds = self.cpu_s = 0.0

    def __enter__(self):
        self._start = time.perf_counter() - self.seconds, time.process_time() - self.cpu_s
        return self

    def __exit__(self, *_):
        self.seconds = time.perf_counter() - self._start[0]
        self.cpu_s = time.process_time() - self._start[1]

    @property
    def figures(self):
        return {"seconds": self.seconds, "cpu_s": self.cpu_s}


def read_real(data):
    """The real table behind the generator, with categories as text."""
    import pandas as pd

    if data and (pathlib.Path(data) / "default.csv.gz").exists():
        about = json.loads((pathlib.Path(data) / "datasets.json").read_text())["datasets"]
        (about,) = (d for d in about if d["name"] == "default")
        table = pd.read_csv(pathlib.Path(data) / about["file"]).drop(columns=LEFT_OUT)
        return table.astype({name: str for name in [*about["categorical"], about["target"]]})
    from sklego.datasets import load_abalone

    return load_abalone(as_frame=True)


def make_generator(data, model):
    import joblib

    import sktvae

    table = read_real(data)
    generator = sktvae.TVAESynthesizer(conditional=False, random_state=0).fit(table)
    joblib.dump(generator, model)
    return {"rows": len(table), "columns": table.shape[1], "epochs": generator.n_iter_}


def drawn(generator, n_rows, n_columns, seed):
    """Tables of the generator, side by side where there are not enough columns."""
    import pandas as pd

    width = generator.n_features_in_
    n_columns = n_columns or width
    streams = [
        generator.sample_batches(n_rows, batch_size=BATCH, random_state=seed + k)
        for k in range(-(-n_columns // width))
    ]
    for parts in zip(*streams, strict=True):
        parts = [part.add_suffix(f" {k}" if k else "") for k, part in enumerate(parts)]
        yield pd.concat(parts, axis=1).iloc[:, :n_columns]


def ranked(n_rows, n_categories, seed):
    """Tables with a column of categories of frequencies as 1 / rank, each of which occurs."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, n_categories + 1)
    names = np.array([f"category {k}" for k in range(n_categories)], dtype=object)
    rank = rng.choice(n_categories, n_rows, p=share / share.sum())
    rank[: min(n_rows, n_categories)] = np.arange(min(n_rows, n_categories))
    rank = rng.permutation(rank)
    for start in range(0, n_rows, BATCH):
        part = rank[start : start + BATCH]
        number = np.log1p(part) + rng.normal(size=len(part))
        yield pd.DataFrame({"category": names[part], "number": number})


def make_table(model, path, n_rows, n_columns, n_categories, seed):
    import joblib

    tables = (
        ranked(n_rows, n_categories, seed)
        if n_categories
        else drawn(joblib.load(model), n_rows, n_columns, seed)
    )
    write(tables, path)
    return {"mb": round(os.path.getsize(path) / 2**20, 1)}


def write(tables, path):
    """Write tables to one Parquet file, under its final name once it is complete."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer, unfinished = None, f"{path}.part"
    for table in tables:
        if not isinstance(table, pa.Table):
            table = pa.Table.from_pandas(table, preserve_index=False)
        writer = writer or pq.ParquetWriter(unfinished, table.schema)
        writer.write_table(table)
    writer.close()
    os.replace(unfinished, path)


def table_of(path, source):
    """A table in memory, or on disk."""
    import pandas as pd
    import pyarrow.dataset

    return pd.read_parquet(path) if source == "memory" else pyarrow.dataset.dataset(path)


def new_encoder(max_categories):
    """The default encoder, or, given a number, one of so many codes for the first column."""
    import sktvae

    if max_categories is None:
        return sktvae.TableEncoder(random_state=0)
    codec = sktvae.CategoryCodec(max_categories=max_categories)
    return sktvae.TableEncoder([("categories", codec, [0])], random_state=0)


def summary(path, source, max_categories, encoder):
    import joblib

    X, new = table_of(path, source), new_encoder(max_categories)
    with Clock() as clock:
        new.fit(X)
    joblib.dump(new, encoder)
    return clock.figures | {"encoded_columns": len(new.heads_)}


def encode(path, encoder):
    import joblib
    import pyarrow.parquet as pq

    fitted, clock = joblib.load(encoder), Clock()
    # A dataset would read ahead, gigabytes of a large file.
    for batch in pq.ParquetFile(path).iter_batches(BATCH):
        X = batch.to_pandas()
        with clock:
            fitted.transform(X)
    return clock.figures


def timed_fit(path, source, model, **settings):
    """A fitted synthesizer, and the clocks of `fit` and of training alone.

    That of training runs from the start of the first network to the end of the last: they are
    trained at the same time if there are two threads, and else one after the other.
    """
    import joblib

    import sktvae
    import sktvae._fitting

    train, lock, clock, started = sktvae._fitting.train, threading.Lock(), Clock(), []

    def timed(*args, **kwargs):
        with lock:
            if not started:
                started.append(clock.__enter__())
        trained = train(*args, **kwargs)
        clock.__exit__()  # anew for the second network
        return trained

    sktvae._fitting.train = timed
    synthesizer = sktvae.TVAESynthesizer(random_state=0, **settings)
    X = table_of(path, source)
    with Clock() as whole:
        synthesizer.fit(X)
    joblib.dump(synthesizer, model)
    return synthesizer, whole, clock


def epoch(path, source, max_categories, model):
    settings = {"epochs": 1, "early_stopping": False, "calibrate": False, "conditional": False}
    encoder = new_encoder(max_categories)
    _, whole, training = timed_fit(path, source, model, encoder=encoder, **settings)
    return training.figures | {"fit_s": whole.seconds}


def sample(model, path, n_rows):
    import joblib

    synthesizer = joblib.load(model)
    with Clock() as clock:
        write(synthesizer.sample_batches(n_rows, batch_size=BATCH, random_state=1), path)
    return clock.figures


def fit_until_stopped(path, source, model, tol):
    synthesizer, whole, training = timed_fit(path, source, model, tol=tol)
    losses = synthesizer.history_["validation_loss"]
    any_order = synthesizer.any_order_.history["validation_loss"]
    return whole.figures | {
        "training_s": training.seconds,
        "training_cpu_s": training.cpu_s,
        "summary_and_encoding_s": whole.seconds - training.seconds,
        "summary_and_encoding_cpu_s": whole.cpu_s - training.cpu_s,
        "epochs_begun": synthesizer.n_iter_,
        "checks": len(losses),
        "validation_loss": min(losses),
        "checks_any_order": len(any_order),
        "validation_loss_any_order": min(any_order),
    }


def judge(generator, path, n_rows, n_judged):
    """AUC of a classifier of sampled rows against fresh rows of the generator."""
    import joblib
    import numpy as np
    import pandas as pd
    import pyarrow.parquet as pq

    from sktvae.metrics import detection_auc

    fresh = joblib.load(generator).sample(n_judged, random_state=10**6)
    chosen = np.sort(np.random.default_rng(0).choice(n_rows, n_judged, replace=False))
    parts, start = [], 0
    for batch in pq.ParquetFile(path).iter_batches(BATCH):
        index = chosen[(chosen >= start) & (chosen < start + len(batch))] - start
        parts.append(batch.take(index).to_pandas())
        start += len(batch)
    auc = detection_auc(fresh, pd.concat(parts), max_rows=n_judged, return_std=True, random_state=0)
    return {"c2st": auc[0], "std": auc[1], "rows": n_judged}


def read_adult(data):
    """Train and test part of Adult, and the names of its columns of categories."""
    import pandas as pd

    about = json.loads((pathlib.Path(data) / "datasets.json").read_text())["datasets"]
    (about,) = (d for d in about if d["name"] == "adult")
    tables = [pd.read_csv(pathlib.Path(data) / about[part]) for part in ("file", "test_file")]
    return *tables, [*about["categorical"], about["target"]]


def stream_of_pieces(data, n_pieces, n_passes, seed, n_first=None):
    """Fit, or with `n_pieces` learn piece by piece, and judge the rows on the test part."""
    import numpy as np

    import sktvae
    from sktvae.metrics import detection_auc

    train, test, categories = read_adult(data)
    settings = {"conditional": False, "random_state": seed}
    if n_passes:
        settings |= {"epochs": n_passes, "early_stopping": False}
    start = time.perf_counter()
    if n_pieces:
        codec = sktvae.CategoryCodec(min_samples=3, handle_unknown="infrequent_if_exist")
        encoder = sktvae.TableEncoder([("categories", codec, categories)])
        model = sktvae.TVAESynthesizer(encoder=encoder, calibrate=False, **settings)
        order = np.random.default_rng(seed).permutation(len(train))
        n_first = n_first or len(order) // n_pieces
        parts = [order[:n_first], *np.array_split(order[n_first:], n_pieces - 1)] * n_passes
        for i, part in enumerate(parts, start=1):
            model.set_params(calibrate=i == len(parts)).partial_fit(train.iloc[part])
    else:
        model = sktvae.TVAESynthesizer(**settings).fit(train)
    seconds = time.perf_counter() - start
    rows = model.sample(len(test), random_state=1)
    auc = detection_auc(test, rows, random_state=0)
    return {"seconds": seconds, "c2st": auc, "score": model.score(test), "epochs": model.n_iter_}


def fit_and_sample(path, conditional):
    import pandas as pd

    import sktvae

    X = pd.read_csv(path)
    start = time.perf_counter()
    synthesizer = sktvae.TVAESynthesizer(conditional=conditional, random_state=0).fit(X)
    fitted = time.perf_counter()
    synthesizer.sample(len(X))
    return {"fit_s": fitted - start, "sample_s": time.perf_counter() - fitted}


# Run by the python of the peer's environment: it must not import sktvae.
PEER = """
import json, resource, sys, time
import pandas as pd
from ctgan import TVAE
X = pd.read_csv(sys.argv[1])
texts = [name for name in X if X[name].dtype.kind not in "iuf"]
start = time.perf_counter()
model = TVAE(epochs=int(sys.argv[2]))
model.fit(X, texts)
fitted = time.perf_counter()
model.sample(len(X))
figures = {"fit_s": fitted - start, "sample_s": time.perf_counter() - fitted}
figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
print(json.dumps(figures))
"""

TASKS = {
    "generator": make_generator,
    "table": make_table,
    "summary": summary,
    "encode": encode,
    "epoch": epoch,
    "sample": sample,
    "fit": fit_until_stopped,
    "judge": judge,
    "stream": stream_of_pieces,
    "fit and sample": fit_and_sample,
}


def work(task, arguments):
    """Do a task in this process, and print its figures as JSON."""
    start = time.perf_counter()
    figures = TASKS[task](*arguments)
    figures["process_s"] = time.perf_counter() - start
    figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in figures.items()}))


# In the process that starts the others


def run(task, *arguments, limit=None):
    """The figures of a task in a process of its own."""
    arguments = json.dumps([str(a) if isinstance(a, pathlib.Path) else a for a in arguments])
    return figures_of([sys.executable, __file__, "--task", task, arguments], limit)


def figures_of(command, limit=None):
    """The JSON in the last line that a command prints; what went wrong if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done in {limit} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip() or f"exit {done.returncode}").splitlines()[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def note(out, **figures):
    """Print figures, and append them to OUT/figures.jsonl."""
    print(json.dumps(figures), flush=True)
    with (out / "figures.jsonl").open("a") as file:
        file.write(json.dumps(figures) + "\n")
    return figures


def generator_in(out, data):
    """The file of the generator, fitted if there is none."""
    model = out / "generator.joblib"
    if not model.exists():
        note(out, stage="generator", **run("generator", data, model))
    return model


def measure_point(args, axis, size, rows, columns=None, categories=None, max_categories=None):
    """The stages of one table, each in a process of its own; the table is removed afterwards."""
    out, found = args.out, []
    generator = None if categories else generator_in(out, args.data)
    path, synthetic = out / f"{axis}-{size}.parquet", out / "synthetic.parquet"
    encoder, model = out / "encoder.joblib", out / "model.joblib"
    about = {"axis": axis, "size": size, "rows": rows, "from": args.source}
    made = run("table", generator, path, rows, columns, categories, 1)
    note(out, **about, stage="table", **made)
    for stage, *arguments in (
        ("summary", path, args.source, max_categories, encoder),
        ("encode", path, encoder),
        ("epoch", path, args.source, max_categories, model),
        ("sample", model, synthetic, rows),
    ):
        if "failed" in made:
            break  # what follows needs it
        made = run(stage, *arguments, limit=args.limit)
        found.append(note(out, **about, stage=stage, **made))
    for file in (path, synthetic, encoder, model):
        file.unlink(missing_ok=True)
    return found


def up_to(sizes, largest):
    """The sizes up to the largest, which is one of them."""
    return [*(size for size in sizes if size < largest), largest]


def axes(args):
    found = []
    for axis in args.axes:
        if axis == "rows":
            for size in up_to(ROWS, args.largest_rows):
                found += measure_point(args, axis, size, size)
        elif axis == "columns":
            for size in up_to(COLUMNS, args.largest_columns):
                found += measure_point(args, axis, size, ROWS_OF_COLUMNS, columns=size)
        else:
            for size in up_to(CATEGORIES, args.largest_categories):
                options = {"categories": size, "max_categories": size + 1}
                found += measure_point(args, axis, size, ROWS_OF_CATEGORIES, **options)
    found = [point for point in found if "failed" not in point]
    for axis in args.axes:
        tell(axis, [point for point in found if point["axis"] == axis])
    draw(found, args.axes, args.out / "scale.png")


def point(args):
    if args.categories:
        options = {"categories": args.categories, "max_categories": args.max_categories}
        measure_point(args, "categories", args.categories, args.rows, **options)
    else:
        measure_point(args, "columns", args.columns or 20, args.rows, columns=args.columns)


def large(args):
    out, n_rows = args.out, args.rows
    generator = generator_in(out, args.data)
    path, model, synthetic = out / f"{n_rows}.parquet", out / "large.joblib", out / "large.parquet"
    if not path.exists():
        made = run("table", generator, path, n_rows, None, None, 1)
        note(out, stage="table", rows=n_rows, **made)
    about = {"rows": n_rows, "from": args.source, "tol": args.tol}
    note(out, stage="fit", **about, **run("fit", path, args.source, model, args.tol))
    start = time.perf_counter()
    command = [sys.executable, "-m", "sktvae", "sample", str(model), "-n", str(n_rows)]
    process = subprocess.Popen([*command, "-o", str(synthetic), "--seed", "1"])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit("sktvae sample failed")
    seconds, peak = round(time.perf_counter() - start, 1), usage.ru_maxrss // 1024
    cpu_s = round(usage.ru_utime + usage.ru_stime, 1)
    note(out, stage="sample", rows=n_rows, seconds=seconds, cpu_s=cpu_s, peak_mb=peak)
    judged = min(n_rows, args.judged)
    note(out, stage="judge", **run("judge", generator, synthetic, n_rows, judged))


def stream(args):
    for seed in args.seeds:
        for n_passes in args.passes:
            for n_pieces in (args.pieces, 0):
                about = {"pieces": n_pieces, "first": args.first, "passes": n_passes, "seed": seed}
                made = run("stream", args.data, n_pieces, n_passes, seed, args.first)
                note(args.out, stage="stream" if n_pieces else "fit", **about, **made)
        about = {"seed": seed, **run("stream", args.data, 0, 0, seed)}
        note(args.out, stage="fit until validation stops it", **about)


def peer(args):
    command = [args.peer_python, "-c", PEER, args.train, str(args.peer_epochs)]
    other = note(args.out, stage="ctgan", epochs=args.peer_epochs, **figures_of(command))
    for conditional in (False, True):
        made = run("fit and sample", args.train, conditional)
        own = note(args.out, stage="sktvae", conditional=conditional, **made)
        if "failed" not in own | other:
            print(f"peak memory: {own['peak_mb'] / other['peak_mb']:.2f} of ctgan's")


def parsed():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for function in (axes, point, large, stream, peer):
        command = commands.add_parser(function.__name__)
        command.set_defaults(function=function)
        command.add_argument("out", type=pathlib.Path)
        if function is peer:
            command.add_argument("train")
            command.add_argument("--peer-python", required=True)
            command.add_argument("--peer-epochs", type=int, default=300)
            continue
        command.add_argument("--data", help="the folder of real tables")
        if function is stream:
            command.add_argument("--pieces", type=int, default=20)
            command.add_argument("--first", type=int, help="rows of the first piece")
            command.add_argument("--passes", type=int, nargs="+", default=[1, 3])
            command.add_argument("--seeds", type=int, nargs="+", default=[0])
            continue
        command.add_argument(
            "--from", dest="source", choices=("dataset", "memory"), default="dataset"
        )
        command.add_argument("--limit", type=float, help="seconds for a stage")
        if function is axes:
            names = ("rows", "columns", "categories")
            command.add_argument("--axes", nargs="+", choices=names, default=names)
            command.add_argument("--largest-rows", type=int, default=100_000)
            command.add_argument("--largest-columns", type=int, default=100)
            command.add_argument("--largest-categories", type=int, default=1000)
            continue
        command.add_argument("--rows", type=int, default=10_000_000)
        if function is large:
            command.add_argument("--judged", type=int, default=50_000)
            command.add_argument("--tol", type=float, default=4e-3, help="of the synthesizer")
        else:
            command.add_argument("--columns", type=int)
            command.add_argument("--categories", type=int)
            command.add_argument("--max-categories", type=int)
    return parser.parse_args()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--task"]:
        work(sys.argv[2], json.loads(sys.argv[3]))
    else:
        options = parsed()
        options.out.mkdir(parents=True, exist_ok=True)
        options.function(options)
