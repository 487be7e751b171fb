"""The pictures of docs/: run ``python docs/pictures.py``, which takes about a minute."""

import pathlib

import matplotlib
import numpy as np
import pandas as pd
from sklego.datasets import load_abalone

from sktvae import TVAEImputer, TVAESynthesizer
from sktvae.imbalanced import TVAEOverSampler

matplotlib.use("Agg")
import matplotlib.pyplot as plt

IMAGES = pathlib.Path(__file__).parent / "images"
# Colours that colour-blind people and grey printers tell apart (Okabe, Ito 2008).
BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#BBBBBB"


def clinic(n, seed=0):
    random = np.random.default_rng(seed)
    age = random.integers(20, 90, n)
    smoker = np.where(random.random(n) < 0.3, "yes", "no")
    pressure = 95 + 0.6 * age + 12 * (smoker == "yes") + random.normal(0, 9, n)
    ward = np.where(pressure + random.normal(0, 8, n) > 145, "cardiology", "other")
    return pd.DataFrame({"age": age, "smoker": smoker, "pressure": pressure.round(), "ward": ward})


def save(figure, name):
    for ax in figure.axes:
        ax.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(IMAGES / f"{name}.png", dpi=110)
    plt.close(figure)


def marginals():
    real = load_abalone(as_frame=True).round(4)
    model = TVAESynthesizer(conditional=False, random_state=0).fit(real)
    synthetic = model.sample(len(real))
    figure, axes = plt.subplots(1, 4, figsize=(10, 2.6))
    shares = [t["sex"].value_counts(normalize=True).sort_index() for t in (real, synthetic)]
    at = np.arange(len(shares[0]))
    axes[0].bar(at - 0.2, shares[0], 0.4, color=BLUE, alpha=0.45, label="real")
    axes[0].bar(at + 0.2, shares[1], 0.4, fill=False, ec="black", lw=1.2, label="synthetic")
    axes[0].set_xticks(at, shares[0].index)
    axes[0].set(xlabel="sex", ylabel="share of the rows", ylim=(0, 0.52))
    for ax, name, edges in (
        (axes[1], "rings", np.arange(0.5, 26)),
        (axes[2], "whole_weight", np.linspace(0, 2.6, 40)),
    ):
        ax.hist(real[name], edges, density=True, color=BLUE, alpha=0.45)
        ax.hist(synthetic[name], edges, density=True, histtype="step", color="black", lw=1.2)
        ax.set(xlabel=name, yticks=[])
    for table, style in (
        (real, {"s": 22, "color": BLUE, "alpha": 0.45, "lw": 0}),
        (synthetic, {"s": 3, "color": "black", "lw": 0}),
    ):
        some = table.sample(400, random_state=0)
        axes[3].scatter(some["length"], some["whole_weight"], **style)
    axes[3].set(xlabel="length", ylabel="whole_weight")
    axes[0].legend(frameon=False, fontsize=8, loc="upper left")
    save(figure, "marginals")


def conditions():
    model = TVAESynthesizer(random_state=0).fit(clinic(2_000))
    truth = clinic(400_000, seed=1)
    figure, ax = plt.subplots(figsize=(6.4, 3.2))
    edges = np.arange(110, 190, 2)
    for smoker, colour, style in (("no", BLUE, "-"), ("yes", ORANGE, "--")):
        old = {"age": pd.Interval(65, 90, closed="left"), "smoker": smoker}
        drawn = model.sample(5_000, conditions=old)["pressure"]
        true = truth.loc[(truth["age"] >= 65) & (truth["smoker"] == smoker), "pressure"]
        label = f"drawn, smoker: {smoker}"
        ax.hist(drawn, edges, density=True, alpha=0.35, color=colour, label=label)
        height, _ = np.histogram(true, edges, density=True)
        ax.plot(edges[:-1] + 1, height, style, color=colour, lw=2, label=f"true, smoker: {smoker}")
    ax.set(xlabel="blood pressure at 65 or more years", ylabel="density")
    ax.legend(frameon=False, fontsize=8)
    save(figure, "conditions")


def imputation():
    table = clinic(1_500).drop(columns="ward")
    random = np.random.default_rng(1)
    hole = random.random(len(table)) < (table["age"] - 20) / 100
    holes = table.assign(pressure=table["pressure"].where(~hole))
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.2), sharey=True)
    imputer = TVAEImputer(random_state=0).fit(holes)
    for ax, strategy in zip(axes, ("draw", "mean"), strict=True):
        filled = imputer.set_params(strategy=strategy).transform(holes)
        ax.scatter(holes["age"], holes["pressure"], s=6, color=GREY, label="known")
        ax.scatter(
            table["age"][hole],
            filled["pressure"][hole],
            s=10,
            marker="x",
            lw=0.8,
            color=BLUE,
            label=f'filled, strategy="{strategy}"',
        )
        ax.set_xlabel("age")
        ax.legend(frameon=False, fontsize=8)
    axes[0].set_ylabel("blood pressure")
    save(figure, "imputation")


def anomalies():
    table = clinic(2_000).drop(columns=["smoker", "ward"])
    model = TVAESynthesizer(conditional=False, random_state=0).fit(table)
    scores = model.score_samples(table)
    low = scores <= np.quantile(scores, 0.01)
    figure, ax = plt.subplots(figsize=(6.4, 3.4))
    shown = ax.scatter(table["age"], table["pressure"], c=scores, s=8, cmap="cividis")
    ax.scatter(
        table["age"][low],
        table["pressure"][low],
        s=60,
        facecolors="none",
        edgecolors="black",
        label="the least likely hundredth",
    )
    figure.colorbar(shown, label="score_samples (nats)")
    ax.set(xlabel="age", ylabel="blood pressure")
    ax.legend(frameon=False, fontsize=8, loc="upper left")
    save(figure, "anomalies")


def oversampling():
    table = clinic(1_200)[["age", "pressure"]]
    random = np.random.default_rng(0)
    ill = table["pressure"] + random.normal(0, 8, len(table)) > 158
    state = pd.Series(np.where(ill, "ill", "well"), name="state")
    X, _ = TVAEOverSampler(random_state=0).fit_resample(table, state)
    new = X.iloc[len(table) :].sample(300, random_state=0)
    figure, ax = plt.subplots(figsize=(6.4, 3.4))
    ax.scatter(table["age"][~ill], table["pressure"][~ill], s=5, color=GREY, label="well")
    ax.scatter(
        new["age"], new["pressure"], s=12, marker="x", lw=0.8, color=BLUE, label="ill, drawn"
    )
    ax.scatter(table["age"][ill], table["pressure"][ill], s=14, color=ORANGE, label="ill, real")
    ax.set(xlabel="age", ylabel="blood pressure")
    ax.legend(frameon=False, fontsize=8)
    save(figure, "oversampling")


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    for picture in (marginals, conditions, imputation, anomalies, oversampling):
        picture()
