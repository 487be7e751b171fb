"""
A first synthetic table
=======================

A table of 442 patients with diabetes comes with scikit-learn. We learn it, draw as many new
patients, and compare.
"""

# %%
# The table needs no description. Only ``sex`` is a category that is written as a number, so we
# name it.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes

from sktvae import TVAESynthesizer

patients = load_diabetes(as_frame=True, scaled=False).frame
patients.head()

# %%
synthesizer = TVAESynthesizer(categorical_features=["sex"], conditional=False, random_state=0)
synthesizer.fit(patients)

# %%
# The fitted encoder tells how each column was read, and why.

synthesizer.encoder_.columns_

# %%
# ``sample`` returns the same columns with the same dtypes. Every row is new.

rows = synthesizer.sample(442)
rows.head()

# %%
# Each column on its own: cumulative distributions of the real and the synthetic numbers.

names = ["age", "bmi", "bp", "s5", "s6", "target"]
figure, axes = plt.subplots(2, 3, figsize=(9, 5), layout="constrained", sharey=True)
for ax, name in zip(axes.flat, names, strict=True):
    ax.ecdf(patients[name], color="#0072B2", lw=2, label="real")
    ax.ecdf(rows[name], color="black", lw=1, ls="--", label="synthetic")
    ax.set_xlabel(name)
axes[0, 0].legend(frameon=False)

# %%
# All pairs of columns: rank correlations. On a table this small, associations come out a little
# weaker than they are.

real, synthetic = (t.corr("spearman").to_numpy() for t in (patients, rows))
above = np.triu_indices_from(real, 1)
figure, ax = plt.subplots(figsize=(4, 4), layout="constrained")
ax.axline((0, 0), slope=1, color="#BBBBBB")
ax.scatter(real[above], synthetic[above], s=15, color="#0072B2")
ax.set(xlabel="correlation, real", ylabel="correlation, synthetic", aspect="equal")
