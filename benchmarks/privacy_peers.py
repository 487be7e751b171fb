"""Differentially private synthesizers of other packages on one table: peers of `privacy=`.

    PYTHON -P benchmarks/privacy_peers.py METHOD EPSILON TRAIN.csv META.json OUT.csv

METHOD is `aim`, `mst`, `argn` or `clover`; TRAIN.csv and META.json are what the `splits` command
of the yardstick (`fidelity.py`, see `peer.py`) has written. As many rows as TRAIN has go to
OUT.csv, for the `score` command of the yardstick, and the cost of the fit is printed as JSON:
seconds by the clock and of the processor, and peak memory of the process. delta is 1 / rows. The
functions below say what each method gets without paying for it. -P keeps this folder, which has an
`sdmetrics.py`, out of the peers' imports. OMP_NUM_THREADS=1 makes it one core.

PYTHON is that of an environment of the method's own, outside the checkout, since the packages
exclude each other. Python 3.11; torch is a build for processors without CUDA:

    aim, mst    pip install dpmm==0.1.9 "setuptools<81"
    argn        pip install torch==2.13.0 mostlyai-engine==2.7.3
                pip uninstall torchvision torchaudio    (where they do not fit the build of torch)
    clover      pip install torch==2.13.0 "setuptools<81" opacus==1.4.0 sdv==1.3.0 numpy==1.23.5 \\
                    "pandas<2.2.3" "scikit-learn<1.5.3" "scipy<1.12" "category-encoders<3" \\
                    "datasynthesizer<0.2" "diffprivlib<0.7" "imbalanced-learn<0.13" tqdm==4.65.0 \\
                    "disjoint-set<1" "networkx<4" "matplotlib<3.10"
                pip install --no-deps --ignore-requires-python clover-synth==0.1.0

Licences: dpmm, mostlyai-engine, opacus and Clover's own code are under Apache-2.0; the parts of
ctgan and SDV in Clover, and sdv, ctgan and rdt, are under the Business Source License 1.1.
"""

import argparse
import json
import resource
import tempfile
import time

import pandas as pd


def bounds(train, roles):
    """The domain that the graphical models are told: bounds of numbers, lists of categories.

    dpmm draws uniformly in a bin and cuts decimals off, so an integer n stands for [n, n + 1).
    """
    domain = {}
    for name, column in train.items():
        if name in roles["cats"]:
            domain[name] = {"categories": sorted(column.unique())}
        else:
            width = int(column.dtype.kind == "i")
            domain[name] = {"lower": column.min().item(), "upper": column.max().item() + width}
    return domain


def graphical(train, roles, epsilon, options, seed):
    """AIM or MST of dpmm: marginals with noise, and the graphical model that fits them.

    Numbers are cut into at most 32 bins, by PrivTree, which gets a tenth of epsilon, or into bins
    of equal width (`--bins uniform`), which costs nothing. Bounds and categories are public. AIM's
    own limit is 80 MB and 1,000 iterations a round: hours on one core, at epsilon 3 and above.
    """
    from dpmm.models.base.mbi import FactoredInference
    from dpmm.pipelines import AIMPipeline, MSTPipeline

    Pipeline = {"aim": AIMPipeline, "mst": MSTPipeline}[options.method]
    privtree = options.bins == "privtree"
    binning = 0.1 * epsilon if privtree else 0.0
    model = Pipeline(
        epsilon=epsilon - binning,
        delta=1 / len(train),
        proc_epsilon=binning if privtree else None,
        binner_type="priv-tree" if privtree else "uniform",
        n_bins=32,
        max_model_size=options.model_mb,
        n_jobs=1,
        gen_kwargs={"n_iters": options.iterations} if options.method == "aim" else None,
    )
    model.fit(train, domain=bounds(train, roles), random_state=seed)
    generator = model.gen.generator
    if options.method == "aim":  # as its authors do: many steps only once all is measured
        engine = FactoredInference(generator.model.domain, iters=1000, prng=generator.prng)
        generator.model = engine.estimate(generator.measures)
    pairs = {clique for clique in generator.cliques if len(clique) > 1}
    notes = {"measurements": len(generator.measures), "pairs": len(pairs)}
    return lambda n: model.generate(n, random_state=seed), notes


def argn(train, roles, epsilon, options, seed):
    """TabularARGN of MOSTLY AI, trained by DP-SGD with the noise multiplier `--noise`.

    It stops at the end of the epoch that exceeds epsilon and keeps the best epoch before. Which
    epoch is best, the learning rate and stopping early depend on a fifth of the rows that are held
    out, and are not accounted for. Categories and the range of each digit are those of the rows
    and public here; with `--protect E` categories and bounds cost E of epsilon (its default is 1).
    Its own noise multiplier, 1.5, spends an epsilon of 1 in 11 epochs on Adult and 3 in about 90,
    and never 10. `--epochs 12 --noise 1.54` spends 1, `--epochs 20 --noise 0.95` 3 and
    `--epochs 12 --noise 0.58` 10.
    """
    from mostlyai.engine import TabularARGN
    from mostlyai.engine.domain import DifferentialPrivacyConfig

    folder = tempfile.mkdtemp()
    model = TabularARGN(
        max_epochs=options.epochs,
        value_protection=options.protect > 0,
        differential_privacy=DifferentialPrivacyConfig(
            max_epsilon=epsilon,
            delta=1 / len(train),
            noise_multiplier=options.noise,
            value_protection_epsilon=options.protect or None,
        ),
        device="cpu",
        workspace_dir=folder,
        random_state=seed,
    )
    model.fit(train)
    history = pd.read_csv(f"{folder}/ModelStore/model-data/progress-messages.csv")
    last = history[history.is_checkpoint == 1].iloc[-1]
    notes = {"epochs": last.epoch.item(), "steps": int(last.steps), "spent": last.dp_eps.item()}
    return lambda n: model.sample(n), notes


def clover(train, roles, epsilon, options, seed):
    """The TVAE of Clover: ctgan's, trained by opacus.

    All of epsilon goes to DP-SGD. The mixtures of the numbers are fitted to the rows and not
    accounted for; categories are public. Clover can also preprocess privately, but in 0.1.0 what
    that spends is not taken out of the epsilon of DP-SGD, and its histograms count each row a
    hundred times with the noise due to one, so that the total would be unknown. The mixtures are
    fitted to the rows instead of a hundred copies of them: the same, but a hundred times as fast.
    Its own 300 epochs take two hours on one core on Adult.
    """
    import torch
    from clover.generators import TVAEGenerator
    from clover.generators.external.ctgan.synthesizers import tvae

    fit = tvae.DataTransformer.fit
    tvae.DataTransformer.fit = lambda self, rows, *args, **kwargs: fit(
        self, rows.iloc[: len(train)], *args, **kwargs
    )
    torch.manual_seed(seed)  # Clover takes a seed, but does not use it for this fit
    numbers = [name for name in train if name not in roles["cats"]]
    metadata = {"continuous": numbers, "categorical": roles["cats"], "variable_to_predict": None}
    model = TVAEGenerator(
        train,
        metadata,
        random_state=seed,
        epochs=int(options.epochs),
        batch_size=options.batch,
        max_physical_batch_size=options.batch,
        compress_dims=(128, 128),  # ctgan's
        decompress_dims=(128, 128),
        epsilon={"preprocessing": 0.0, "fitting": epsilon},
        delta=1 / len(train),
    )
    folder = tempfile.mkdtemp()
    model.preprocess()
    model.fit(folder)
    notes = {"epochs": options.epochs, "batch": options.batch}
    return lambda n: model.sample(folder, n), notes


METHODS = {"aim": graphical, "mst": graphical, "argn": argn, "clover": clover}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("epsilon", type=float)
    parser.add_argument("train")
    parser.add_argument("meta")
    parser.add_argument("out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bins", choices=["privtree", "uniform"], default="privtree")
    parser.add_argument("--model-mb", type=float, default=5, help="of AIM's and MST's model")
    parser.add_argument("--iterations", type=int, default=100, help="in a round of AIM")
    parser.add_argument("--epochs", type=float, default=100, help="of ARGN and Clover at most")
    parser.add_argument("--noise", type=float, default=1.5, help="noise multiplier of ARGN")
    parser.add_argument("--batch", type=int, default=100, help="rows in a batch of Clover")
    parser.add_argument("--protect", type=float, default=0.0, help="of epsilon, for preprocessing")
    options = parser.parse_args()
    train = pd.read_csv(options.train)
    with open(options.meta) as file:
        roles = json.load(file)
    start, busy = time.perf_counter(), time.process_time()
    sample, notes = METHODS[options.method](train, roles, options.epsilon, options, options.seed)
    fitted, busy = time.perf_counter(), time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sample(len(train))[train.columns].to_csv(options.out, index=False)
    figures = {
        "method": options.method,
        "epsilon": options.epsilon,
        "fit_s": round(fitted - start, 1),
        "cpu_s": round(busy, 1),
        "sample_s": round(time.perf_counter() - fitted, 1),
        "peak_gb": round(peak / 2**20, 2),
    }
    print(json.dumps(figures | notes))


if __name__ == "__main__":
    main()
