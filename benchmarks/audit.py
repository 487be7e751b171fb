"""Audit of differentially private training: what a single run proves about its epsilon.

    OMP_NUM_THREADS=1 python benchmarks/audit.py [--epsilon 1 10] [--canaries 16384] [--steps 100]
        [--delta 1e-5] [--rate 0.1] [--guessed 0.01] [--seeds 0]
        [--builds honest "half the noise" ...]

A promise of privacy that a mistake in the code has voided looks like one that holds. An audit tries
to break it: canaries, rows that nobody else resembles, are put into the table or left out by the
toss of a coin; after training, the auditor guesses which ones were in. Somebody who guesses better
than epsilon allows has disproved it (Steinke, Nasr, Jagielski, "Privacy auditing with one (1)
training run", NeurIPS 2023: theorem 5.2 gives the lower bound of epsilon, which is exceeded in 5 %
of audits if the promise holds).

Each canary has a category of its own. The auditor sees the noisy gradients of all steps, for which
the promise holds, and scores a canary by the sum of those of the bias of its category. The highest
scores are guessed "in" and the lowest ones "out", a fixed share of each. Training is
`sktvae._training.private.train_privately`, as in `fit`, with the accounting of `fit`: honest, and
sabotaged in three ways that must be found: with half the noise, with rows that are not clipped, and
without noise. The guesses of several seeds are counted together: the runs have no rows in common,
so that together they keep the promise of each.
"""

import argparse
import math
import time

import numpy as np
import torch
from scipy.stats import binom

from sktvae._heads import Categorical
from sktvae._model.vae import VAE
from sktvae._privacy.budget import Budget
from sktvae._privacy.settings import DifferentialPrivacy
from sktvae._training.private import PrivatePlan, train_privately

BUILDS = ("honest", "half the noise", "no clipping", "no noise")
_CONFIDENCE = 0.95
# With states of length one, the gradient of a canary is that of its own bias and little else, so
# that no noise is wasted: the worst case that the promise covers.
_DIMS = (1, 1)
_CLIP = 0.1  # well below the length of the gradients


def lower_bound(n_canaries, n_guesses, n_right, delta):
    """The largest epsilon that so many right guesses disprove.

    Parameters
    ----------
    n_canaries, n_guesses, n_right : int
        All canaries; those that were guessed, and rightly.
    delta : float
    """
    if p_value(n_canaries, n_guesses, n_right, 0.0, delta) > 1 - _CONFIDENCE:
        return 0.0
    low, high = 0.0, 50.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        disproved = p_value(n_canaries, n_guesses, n_right, middle, delta) <= 1 - _CONFIDENCE
        low, high = (middle, high) if disproved else (low, middle)
    return low


def p_value(n_canaries, n_guesses, n_right, epsilon, delta):
    """The probability, at most, of so many right guesses about a fit that keeps its promise.

    Under (epsilon, 0) a guess is right with a probability of at most 1 / (1 + exp(-epsilon)),
    whatever the others are. Delta may make the best i of all guesses right for free, at a price
    that rises with i; the second term is the worst of these.
    """
    share = 1 / (1 + math.exp(-epsilon))
    usual = binom.sf(n_right - 1, n_guesses, share)
    bonus = np.arange(1, n_right + 1)
    helped = np.cumsum(binom.pmf(n_right - bonus, n_guesses, share))
    return float(min(usual + 2 * n_canaries * delta * (helped / bonus).max(), 1.0))


def audit(epsilon, sabotage, options, seed):
    """Train once with canaries and guess which ones were in.

    Returns
    -------
    right, guesses : int
        The number of right guesses, and of all.
    """
    n_canaries, sampling_rate = options.canaries, options.rate
    rng = np.random.default_rng(seed)
    is_in = rng.random(n_canaries) < 0.5
    network = VAE((Categorical(n_canaries),), 0, (), _DIMS, "autoregressive", seed)
    rows = network.layout.to_batch([np.flatnonzero(is_in)])
    budget = Budget(DifferentialPrivacy(epsilon=epsilon, delta=options.delta), rows.n_rows)
    plan = PrivatePlan(
        n_steps=options.steps,
        sampling_rate=sampling_rate,
        batch_size=sampling_rate * rows.n_rows,
        max_grad_norm=1e9 if sabotage == "no clipping" else _CLIP,
        noise_multiplier=budget.for_training(sampling_rate, options.steps),
        learning_rate=6e-3,
    )
    sizes = {name: p.numel() for name, p in network.named_parameters()}
    begin = sum(list(sizes.values())[: list(sizes).index("decoder.category_bias")])
    score = np.zeros(n_canaries)
    share = {"half the noise": 0.5, "no noise": 0.0}.get(sabotage, 1.0)
    deviation = share * plan.noise_multiplier
    if sabotage == "no clipping":
        deviation *= _CLIP / plan.max_grad_norm  # of noise for clipped rows
    generator = torch.Generator().manual_seed(seed)

    def mechanism(total, _):
        noisy = total + deviation * torch.randn(len(total), generator=generator)
        # The gradient of a loss: that of a canary lowers it where its category gets more likely.
        score[:] -= noisy[begin : begin + n_canaries].numpy()
        return noisy

    train_privately(network, rows, plan, generator=generator, mechanism=mechanism)
    order = np.argsort(score, kind="stable")
    k = int(options.guessed * n_canaries)
    right = (~is_in[order[:k]]).sum() + is_in[order[-k:]].sum()
    return int(right), 2 * k


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--epsilon", nargs="+", type=float, default=[1.0, 10.0])
    parser.add_argument("--canaries", type=int, default=16384)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--delta", type=float, default=1e-5)
    parser.add_argument("--rate", type=float, default=0.1, help="of sampling")
    parser.add_argument("--guessed", type=float, default=0.01, help="at either end")
    parser.add_argument("--builds", nargs="+", choices=BUILDS, default=BUILDS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    options = parser.parse_args()
    print("| epsilon | build | right guesses | epsilon is at least | verdict | seconds |")
    print("|---|---|---|---|---|---|")
    n_runs = len(options.seeds)
    for epsilon in options.epsilon:
        for build in options.builds:
            start = time.perf_counter()
            runs = [audit(epsilon, build, options, seed) for seed in options.seeds]
            right, guesses = np.sum(runs, axis=0)
            bound = lower_bound(n_runs * options.canaries, guesses, right, options.delta)
            verdict = "disproved" if bound > epsilon else "not disproved"
            seconds = time.perf_counter() - start
            print(
                f"| {epsilon:g} | {build} | {right / guesses:.3f} of {guesses} | {bound:.2f} | "
                f"{verdict} | {seconds:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
