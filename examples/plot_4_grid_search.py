"""
Choosing parameters by a grid search
====================================

``TVAESynthesizer`` is an ordinary scikit-learn estimator, so ``GridSearchCV`` chooses its
parameters. By default it maximises ``score``, the log-likelihood of held-out rows, which is
comparable even between codecs.
"""

# %%
# A table of 600 invented flats.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.model_selection import GridSearchCV

from sktvae import QuantileCodec, TVAESynthesizer

random = np.random.default_rng(0)
n = 600
rooms = random.integers(1, 7, n)
area = (rooms * 19 + random.gamma(4, 6, n)).round()
city = random.choice(["Oslo", "Rome", "Wien"], n, p=[0.2, 0.5, 0.3])
rent = (
    area * pd.Series(city).map({"Oslo": 24, "Rome": 15, "Wien": 18}) * random.lognormal(0, 0.15, n)
)
flats = pd.DataFrame({"rooms": rooms, "area": area, "city": city, "rent": rent.round(-1)})

# %%
# Parameters of a codec are reached by two underscores. Few epochs keep this example short.

search = GridSearchCV(
    TVAESynthesizer(numerical=QuantileCodec(), epochs=6, conditional=False, random_state=0),
    {"numerical__n_bins": [4, 16], "decoder": ["autoregressive", "independent"]},
    cv=2,
).fit(flats)
results = pd.DataFrame(search.cv_results_)
shown = ["param_decoder", "param_numerical__n_bins", "mean_test_score", "std_test_score"]
results[shown].sort_values("mean_test_score", ascending=False)

# %%
# The best one was fitted again to all rows.

rows = search.best_estimator_.sample(600)
figure, axes = plt.subplots(1, 2, figsize=(8, 3.5), layout="constrained", sharex=True, sharey=True)
for ax, table, title in zip(axes, (flats, rows), ("real", "synthetic"), strict=True):
    for name, colour, marker in (
        ("Oslo", "#0072B2", "o"),
        ("Rome", "#E69F00", "x"),
        ("Wien", "black", "."),
    ):
        at = table["city"] == name
        ax.scatter(
            table["area"][at],
            table["rent"][at],
            s=10,
            color=colour,
            marker=marker,
            label=name,
            lw=0.8,
        )
    ax.set(title=title, xlabel="area", ylabel="rent")
axes[0].legend(frameon=False)
