"""From a real table to a synthetic one: abalones, as they come with scikit-lego.

    python docs/demo.py OUT_DIR

Fits, prints what was learned, and writes synthetic.csv, synthesizer.joblib and
real_vs_synthetic.png.
"""

import pathlib
import sys

import joblib
import matplotlib
import numpy as np
import pandas as pd
from sklego.datasets import load_abalone

from sktvae import TVAESynthesizer

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def compare(real, synthetic):
    """Mean, spread and range of numbers, shares of categories: real beside synthetic."""
    rows = {}
    for name in real:
        if pd.api.types.is_numeric_dtype(real[name]):
            for figure in ("mean", "std", "min", "max"):
                rows[name, figure] = [getattr(t[name], figure)() for t in (real, synthetic)]
        else:
            for value in real[name].value_counts().index[:5]:
                rows[name, f"share of {value}"] = [
                    (t[name] == value).mean() for t in (real, synthetic)
                ]
    return pd.DataFrame(rows, index=["real", "synthetic"]).T


def draw(real, synthetic, path):
    """Each column's distribution, and how the numeric columns correlate."""
    numbers = list(real.select_dtypes("number"))
    width = 4
    height = -(-(real.shape[1] + 3) // width)
    figure, axes = plt.subplots(height, width, figsize=(3.2 * width, 2.6 * height))
    axes = axes.ravel()
    for ax, name in zip(axes, real, strict=False):
        if name in numbers:
            bins = np.histogram_bin_edges(real[name], bins=40)
            for table, style in ((real, "stepfilled"), (synthetic, "step")):
                ax.hist(table[name], bins, density=True, histtype=style, alpha=0.8)
        else:
            shares = [t[name].value_counts(normalize=True) for t in (real, synthetic)]
            pd.concat(shares, axis=1).plot.bar(ax=ax, legend=False, rot=0, width=0.8)
            ax.set_xlabel("")
        ax.set_title(name, fontsize=9)
    at = real.shape[1]
    for title, table in (("real", real), ("synthetic", synthetic)):
        axes[at].imshow(table[numbers].corr(), vmin=-1, vmax=1, cmap="RdBu_r")
        axes[at].set_title(f"correlations, {title}", fontsize=9)
        at += 1
    one, two = numbers[-2:]
    for table, size in ((real, 6), (synthetic, 3)):
        axes[at].scatter(table[one], table[two], s=size, alpha=0.4, linewidths=0)
    axes[at].set_title(f"{two} against {one}", fontsize=9)
    for ax in axes[at + 1 :]:
        ax.axis("off")
    figure.suptitle("real (blue) and synthetic (orange) abalones")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main(out):
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    real = load_abalone(as_frame=True)
    print(f"{len(real)} abalones, {real.shape[1]} columns:\n\n{real.head(3)}\n")
    synthesizer = TVAESynthesizer(random_state=0, verbose=True).fit(real)
    last = {name: round(values[-1], 2) for name, values in synthesizer.history_.items()}
    print(f"\nlearned in {synthesizer.n_iter_} epochs; at the end {last}\n")
    synthetic = synthesizer.sample(len(real))
    print(f"{len(synthetic)} synthetic ones:\n\n{synthetic.head(3)}\n")
    print(compare(real, synthetic).round(3).to_string(), "\n")
    synthetic.to_csv(out / "synthetic.csv", index=False)
    joblib.dump(synthesizer, out / "synthesizer.joblib")
    draw(real, synthetic, out / "real_vs_synthetic.png")
    for name in ("synthetic.csv", "synthesizer.joblib", "real_vs_synthetic.png"):
        print(f"wrote {out / name}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "demo")
