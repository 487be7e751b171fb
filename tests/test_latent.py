"""What the posterior means tell about a row: features for other models."""

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sktvae import TVAESynthesizer
from sktvae._training.plan import READOUT

N_TRAINED = 5000


def table(n=2 * N_TRAINED):
    """Six columns, of which only `a` and `e` tell anything about each other."""
    rng = np.random.default_rng(0)
    a, d = rng.normal(size=n), rng.poisson(2, n)
    return pd.DataFrame(
        {
            "a": a,
            "b": rng.exponential(size=n),
            "c": rng.choice(list("pqr"), n),
            "d": d,
            "e": a + 0.5 * rng.normal(size=n),
            "f": rng.choice(list("uvwx"), n),
        }
    )


def probed(features, y):
    """The AUC on the second half of a linear model of the first."""
    model = make_pipeline(StandardScaler(), LogisticRegression())
    model.fit(features[:N_TRAINED], y[:N_TRAINED])
    return roc_auc_score(y[N_TRAINED:], model.decision_function(features[N_TRAINED:]))


@pytest.mark.parametrize("embedding_dim", [4, 16])
def test_the_means_tell_at_least_what_principal_components_do(embedding_dim):
    """A function of a column that no other column, and so no decoder, needs z for."""
    X = table()
    y = X["d"].to_numpy() > 2
    model = TVAESynthesizer(
        embedding_dim=embedding_dim,
        epochs=8,
        early_stopping=False,
        conditional=False,
        random_state=0,
    )
    ours = model.fit(X[:N_TRAINED]).transform(X)
    encoded = make_column_transformer(
        (OneHotEncoder(sparse_output=False), ["c", "f"]), remainder="passthrough"
    ).fit_transform(X)
    components = PCA(min(embedding_dim, encoded.shape[1]), random_state=0)
    theirs = components.fit_transform(StandardScaler().fit_transform(encoded))
    assert ours.shape == (len(X), embedding_dim)
    assert probed(ours, y) > probed(theirs, y) - 0.02
    assert probed(ours, y) > 0.9


def test_only_a_posterior_that_the_decoder_could_do_without_is_taught():
    weight = lambda any_order=False, n_rows=5000, **parameters: (
        TVAESynthesizer(**parameters)._plan(n_rows, 10, any_order).readout
    )
    assert weight() == READOUT
    assert weight(n_rows=4999) == 0
    assert weight(rate_floor=0) == weight(decoder="independent") == weight(any_order=True) == 0
