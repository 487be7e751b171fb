"""
Rows of which something is known
================================

What would patients of 65 and more look like? ``sample(conditions=...)`` draws only such rows.
"""

# %%
# Age, smoking and blood pressure of 800 invented patients.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sktvae import TVAESynthesizer

random = np.random.default_rng(0)
n = 800
age = random.integers(20, 90, n)
smoker = np.where(random.random(n) < 0.3, "yes", "no")
pressure = (95 + 0.6 * age + 12 * (smoker == "yes") + random.normal(0, 9, n)).round()
clinic = pd.DataFrame({"age": age, "smoker": smoker, "pressure": pressure})
model = TVAESynthesizer(epochs=20, random_state=0).fit(clinic)

# %%
# A condition is a value, a range, a list, or shares. Several conditions hold together.

old = pd.Interval(65, 90, closed="left")
model.sample(4, conditions={"age": old, "smoker": "yes"})

# %%
# Shares: half of the rows are smokers, whatever their share in the table is.

balanced = model.sample(2_000, conditions={"smoker": {"yes": 0.5, "no": 0.5}})
balanced["smoker"].value_counts().to_frame()

# %%
# The blood pressure of old smokers and of other old people, drawn, against the distribution from
# which the table was made.

figure, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
truth = np.random.default_rng(1)
years = truth.integers(65, 90, 100_000)
for answer, extra, colour in (("no", 0, "#0072B2"), ("yes", 12, "#E69F00")):
    drawn = model.sample(3_000, conditions={"age": old, "smoker": answer})["pressure"]
    true = 95 + 0.6 * years + extra + truth.normal(0, 9, len(years))
    edges = np.arange(105, 190, 4)
    ax.hist(drawn, edges, density=True, color=colour, alpha=0.4, label=f"drawn, smoker: {answer}")
    ax.hist(true, edges, density=True, histtype="step", color=colour, lw=2, label="true")
ax.set(xlabel="blood pressure at 65 and more", ylabel="density")
ax.legend(frameon=False)

# %%
# If a distribution is wanted, and not rows, ask for it directly. A missing cell is one that is
# not known.

question = pd.DataFrame({"age": [30, 75], "smoker": ["no", None]})
quantiles = model.conditional_quantile(
    question.assign(pressure=np.nan), "pressure", [0.05, 0.5, 0.95]
)
pd.DataFrame(quantiles, columns=["5 %", "median", "95 %"]).join(question)
