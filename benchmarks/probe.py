"""What the latent holds: linear probes from `transform`, beside principal components.

    python benchmarks/probe.py DATA NAME [--rows N] [--embedding-dim E] [--columns]

DATA is a folder with a `datasets.json`. Up to N rows (6,000 by default; two thirds of a short
table) are learned and 4,000 others tested. A logistic regression, or a ridge for a number, is
fitted to features of the learned rows: what does it tell about the target of the others (AUC; R^2
of the logarithm), without the target among the columns and with it? The features are the posterior
means; as many principal components of the standardised, one-hot encoded columns, with numbers as
they are or on a normal scale, whichever is better in the test; and all of these columns ("raw").

With `--columns`, what the means tell about each column instead: the accuracy beside the share of
the largest category, and for numbers the R^2 of their ranks.
"""

import argparse
import json
import pathlib
import sys

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeCV
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer, StandardScaler

from sktvae import TVAESynthesizer


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("name")
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--embedding-dim", type=int, default=16)
    parser.add_argument("--random-state", type=int, default=0)
    parser.add_argument("--columns", action="store_true")
    args = parser.parse_args()
    learned, tested, target, categories = tables(args.data, args.name, args.rows)
    if args.columns:
        tell_columns(learned, tested, categories, args)
        return
    print("| target | posterior means | principal components | raw |\n|---|---|---|---|")
    for where, left_out in (("not among the columns", [target]), ("among the columns", [])):
        X, X_test = (part.drop(columns=left_out) for part in (learned, tested))
        kept = [name for name in categories if name in X]
        y, y_test = (goal(part[target], target in categories) for part in (learned, tested))
        ours = probed(*means(X, X_test, kept, args), y, y_test)
        peers = []
        for on_normal_scale in (False, True):
            raw, raw_test = encoded(X, X_test, kept, on_normal_scale)
            components = PCA(min(args.embedding_dim, raw.shape[1]), random_state=0).fit(raw)
            reduced = (components.transform(raw), components.transform(raw_test))
            peers.append((probed(*reduced, y, y_test), probed(raw, raw_test, y, y_test)))
        print(
            f"| {where} | {ours:.3f} | " + " | ".join(f"{x:.3f}" for x in np.max(peers, 0)) + " |"
        )


def tables(folder, name, n_learned):
    """Rows to learn and to test, the target, and the columns that are categories."""
    sets = json.loads((folder / "datasets.json").read_text())["datasets"]
    about = next(d for d in sets if d["name"] == name)
    rows = pd.read_csv(folder / about["file"])
    target = about["target"]
    categories = [c for c in rows if c in about["categorical"]]
    if about["task"] != "regression" and target not in categories:
        categories.append(target)
    # What one row in a thousand lacks may not be seen by fit, which transform then refuses.
    rows = rows.dropna(subset=[c for c in rows if 0 < rows[c].isna().mean() < 0.01])
    rows = rows.sample(frac=1, random_state=0, ignore_index=True)
    n_learned = min(n_learned, 2 * len(rows) // 3)
    return rows[:n_learned], rows[n_learned:][:4000].reset_index(drop=True), target, categories


def goal(column, is_category):
    if is_category:
        return column.astype(str).to_numpy()
    return np.log1p(column - min(0, column.min())).to_numpy()


def means(X, X_test, categories, args):
    model = TVAESynthesizer(
        categorical_features=categories,
        embedding_dim=args.embedding_dim,
        conditional=False,
        random_state=args.random_state,
    ).fit(X)
    best = int(np.argmin(model.history_["validation_loss"]))
    terms = {name: round(values[best], 3) for name, values in model.history_.items()}
    print(terms, file=sys.stderr)
    return model.transform(X), model.transform(X_test)


def encoded(X, X_test, categories, on_normal_scale):
    numbers = [name for name in X if name not in categories]
    scale = StandardScaler()
    if on_normal_scale:
        scale = QuantileTransformer(
            n_quantiles=min(1000, len(X)), output_distribution="normal", random_state=0
        )
    encoder = make_column_transformer(
        (make_pipeline(scale, SimpleImputer(add_indicator=True)), numbers),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), categories),
    )
    encode = make_pipeline(encoder, StandardScaler())
    as_text = lambda part: part.astype({name: str for name in categories})
    return encode.fit_transform(as_text(X)), encode.transform(as_text(X_test))


def probed(Z, Z_test, y, y_test):
    """The AUC or R^2 on test rows of a linear model of the target."""
    if y.dtype.kind == "f":
        model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 7))).fit(Z, y)
        return r2_score(y_test, model.predict(Z_test))
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(Z, y)
    return roc_auc_score(y_test == model.classes_[1], model.predict_proba(Z_test)[:, 1])


def tell_columns(learned, tested, categories, args):
    Z, Z_test = means(learned, tested, categories, args)
    print("| column | linear probe | without z |\n|---|---|---|")
    for name in learned:
        known, known_test = learned[name].notna(), tested[name].notna()
        if name in categories:
            known, known_test = known | True, known_test | True  # missing is a category
            y, y_test = learned[name].astype(str), tested[name].astype(str)
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
            without = (y_test == y.mode()[0]).mean()
        else:
            y, y_test = learned[name][known].rank(pct=True), tested[name][known_test].rank(pct=True)
            model, without = LinearRegression(), 0.0
        probe = model.fit(Z[known], y).score(Z_test[known_test], y_test)
        print(f"| {name} | {probe:.3f} | {without:.3f} |")


if __name__ == "__main__":
    main()
