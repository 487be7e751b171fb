"""
Are the synthetic rows any good?
================================

A classifier, a figure for every question, a verdict in words, and pictures; and what they say of
rows that are bad.
"""

# %%
# A table of flowers, of which a third is kept back.

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from sktvae import TVAESynthesizer
from sktvae.inspection import MarginalsDisplay, PairTrendsDisplay, report
from sktvae.metrics import evaluate

random = np.random.default_rng(0)
kind = random.choice(["early", "late", "wild"], 900, p=[0.5, 0.35, 0.15])
centre = pd.Series(kind).map({"early": 24, "late": 41, "wild": 30})
height = (centre + random.normal(0, 4, 900)).round(2)
petals = (5 + height / 10 + random.poisson(1.5, 900)).round().astype(int)
flowers = pd.DataFrame({"kind": kind, "height": height, "petals": petals})
train, unseen = train_test_split(flowers, test_size=300, random_state=0)

# %%
model = TVAESynthesizer(conditional=False, random_state=0).fit(train)
rows = model.sample(600)
figures = evaluate(train, rows, unseen, target="kind", random_state=0)
figures[["value", "standard_error", "chance", "verdict"]].round(3)

# %%
# The same in words. In a notebook, a report shows itself; ``to_html`` writes it to a file.

print(report(train, rows, unseen, random_state=0))

# %%
# Now rows of which each column is right, but whose columns have nothing to do with each other.

bad = train.copy()
for i, name in enumerate(bad):
    bad[name] = bad[name].sample(frac=1, random_state=i).to_numpy()
print(report(train, bad, unseen, random_state=0))

# %%
# The columns by themselves show nothing.

MarginalsDisplay.from_tables(train, bad)

# %%
# The pairs do.

PairTrendsDisplay.from_tables(train, bad)
