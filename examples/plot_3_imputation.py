"""
Filling gaps in a pipeline
==========================

``TVAEImputer`` is a scikit-learn transformer for mixed tables. It learns from a table that has
gaps itself, and each missing cell is filled given what is known of its row.
"""

# %%
# Six measurements of 178 wines of three kinds. We remove a third of the cells.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_wine
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktvae import TVAEImputer, TVAESynthesizer

wine, kind = load_wine(return_X_y=True, as_frame=True)
wine = wine[["alcohol", "malic_acid", "magnesium", "flavanoids", "hue", "proline"]]
random = np.random.default_rng(0)
hole = random.random(wine.shape) < 0.35
gaps = wine.mask(hole).round(2)

# %%
# Single best guesses: conditional medians, against the values that were removed.

imputer = TVAEImputer(TVAESynthesizer(epochs=40), strategy="median", random_state=0)
filled = imputer.fit_transform(gaps)

figure, axes = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained")
for ax, name in zip(axes, ["flavanoids", "proline"], strict=True):
    missing = gaps[name].isna()
    ax.axline((wine[name].min(),) * 2, slope=1, color="#BBBBBB")
    ax.scatter(wine[name][missing], filled[name][missing], s=15, color="#0072B2")
    ax.axhline(gaps[name].median(), color="#E69F00", ls="--", label="the column's median")
    ax.set(title=name, xlabel="removed value", ylabel="filled in")
axes[0].legend(frameon=False)

# %%
# In a pipeline, the imputer is fitted within each fold, so that nothing of the test rows is
# learned.


def accuracy(imputer):
    model = make_pipeline(imputer, StandardScaler(), LogisticRegression())
    return cross_val_score(model, gaps, kind, cv=2)


scores = {
    "TVAEImputer": accuracy(imputer),
    "the columns' medians": accuracy(SimpleImputer(strategy="median")),
}
pd.DataFrame(scores).rename_axis("fold").round(3)

# %%
# For an analysis whose standard errors matter, draw several times (``strategy="draw"``, or
# ``TVAESynthesizer.impute(X, n_draws=5)``) and pool the results.
