"""
Unusual rows
============

``score_samples`` tells how likely each row is. Rows that are unlike the table score low, even if
each of their cells is ordinary.
"""

# %%
# Measurements of 569 tumours, 357 of them benign. We learn some columns of the benign ones only.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from sktvae import TVAESynthesizer

data = load_breast_cancer(as_frame=True)
columns = ["mean radius", "mean texture", "mean smoothness", "mean concavity", "radius error"]
benign = data.data.loc[data.target == 1, columns]
malignant = data.data.loc[data.target == 0, columns]
known, unseen = train_test_split(benign, test_size=0.4, random_state=0)
model = TVAESynthesizer(conditional=False, random_state=0).fit(known)

# %%
# Benign tumours that ``fit`` did not see, and malignant ones, of which it knows nothing. No
# column had to be scaled.

scores = {
    "benign, unseen": model.score_samples(unseen),
    "malignant": model.score_samples(malignant),
}
figure, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
edges = np.linspace(-60, -32, 40)
for (name, values), colour in zip(scores.items(), ("#0072B2", "#E69F00"), strict=True):
    ax.hist(values, edges, density=True, color=colour, alpha=0.4, label=name)
ax.set(xlabel="score_samples, in nats", ylabel="density")
ax.legend(frameon=False)

# %%
# How well does the score tell them apart? An AUC of 1 would be perfect, and 0.5 chance.

is_malignant = np.repeat([0, 1], [len(unseen), len(malignant)])
auc = roc_auc_score(is_malignant, -np.concatenate(list(scores.values())))
print(f"{auc:.2f}")

# %%
# A threshold is best taken from scores of rows that ``fit`` did not see: here, one in twenty of
# them is a false alarm.

threshold = np.quantile(scores["benign, unseen"], 0.05)
found = (scores["malignant"] < threshold).mean()
print(f"{found:.0%} of the malignant tumours are found")
