"""What the latent holds: linear probes from `transform` to the columns of a table.

    python benchmarks/probe.py SPLITS NAME [--decoder D] [--rate-floor R]

For each column that is a category, the accuracy on the test part of a logistic regression fitted on
the posterior means of the train part, beside the share of the largest category; for numbers, the
R^2 of a linear regression of their ranks. One Markdown table.
"""

import argparse
import json
import pathlib

import pandas as pd
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktvae import TVAESynthesizer


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("splits", type=pathlib.Path)
    parser.add_argument("name")
    parser.add_argument("--decoder", default="autoregressive")
    parser.add_argument("--rate-floor", type=float, default=2.0)
    args = parser.parse_args()
    train, test = (
        pd.read_csv(args.splits / f"{args.name}.{part}.csv") for part in ("train", "test")
    )
    categories = json.loads((args.splits / f"{args.name}.json").read_text())["cats"]
    model = TVAESynthesizer(
        categorical_features=categories,
        decoder=args.decoder,
        rate_floor=args.rate_floor,
        conditional=False,
        random_state=0,
    ).fit(train)
    best = min(range(model.n_iter_), key=model.history_["validation_loss"].__getitem__)
    print({name: round(values[best], 3) for name, values in model.history_.items()})
    z, z_test = model.transform(train), model.transform(test)
    print("| column | linear probe | without z |\n|---|---|---|")
    for name in train:
        if name in categories:
            y, y_test = train[name].astype(str), test[name].astype(str)
            probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(z, y)
            without = (y_test == y.mode()[0]).mean()
        else:
            y, y_test = train[name].rank(pct=True), test[name].rank(pct=True)
            probe, without = LinearRegression().fit(z, y), 0.0
        print(f"| {name} | {probe.score(z_test, y_test):.3f} | {without:.3f} |")


if __name__ == "__main__":
    main()
