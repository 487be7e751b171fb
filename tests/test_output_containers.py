"""Every public method works, and does the same, under every `set_output` and `set_config`."""

import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktvae import TableEncoder
from tests.conftest import small

CONTAINERS = [None, "default", "pandas", "polars"]


def results(model, table):
    """What the public methods return, as arrays and tables."""
    fitted = clone(model).fit(table)
    return {
        "transform": np.asarray(fitted.transform(table)),
        "fit_transform": np.asarray(clone(model).fit_transform(table)),
        "score_samples": fitted.score_samples(table),
        "score": fitted.score(table),
        "inverse_transform": fitted.inverse_transform(fitted.transform(table)),
        "sample": fitted.sample(20),
        "encoder": np.asarray(fitted.encoder_.transform(table)),
        "encoder back": fitted.encoder_.inverse_transform(fitted.encoder_.transform(table)),
        "encoder density": fitted.encoder_.log_density(table),
    }


@pytest.fixture(scope="module")
def expected(table):
    return results(small(encoder=TableEncoder()), table)


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(value, other[name])
        else:
            np.testing.assert_array_equal(value, other[name], err_msg=name)


@pytest.mark.parametrize("container", CONTAINERS)
def test_global_configuration(table, expected, container):
    with sklearn.config_context(transform_output=container or "default"):
        assert_same(expected, results(small(encoder=TableEncoder()), table))


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("where", ["synthesizer", "encoder"])
def test_set_output(table, expected, container, where):
    model = small(encoder=TableEncoder())
    target = model if where == "synthesizer" else model.encoder
    target.set_output(transform=container)
    assert_same(expected, results(model, table))


@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_output_is_in_the_container(table, container):
    with sklearn.config_context(transform_output=container):
        model = small().fit(table)
        for out in (model.transform(table), model.encoder_.transform(table)):
            assert type(out).__module__.startswith(container)
        assert list(model.transform(table).columns) == list(model.get_feature_names_out())


def test_pipeline_and_grid_search_under_pandas_output(table, tmp_path):
    """Fitted in worker processes, saved, and loaded in a fresh process."""
    X, y = table.drop(columns="smoker"), table["smoker"]
    with sklearn.config_context(transform_output="pandas"):
        pipeline = make_pipeline(small(), StandardScaler(), LogisticRegression())
        search = GridSearchCV(
            pipeline,
            {"tvaesynthesizer__embedding_dim": [2, 3]},
            cv=2,
            n_jobs=2,
            error_score="raise",
        ).fit(X, y)
        expected = search.predict_proba(X)
    joblib.dump(search, tmp_path / "search.joblib")
    code = (
        "import sys, joblib, numpy as np, pandas as pd, sklearn;"
        "sklearn.set_config(transform_output='pandas');"
        "search = joblib.load(sys.argv[1]);"
        "np.save(sys.argv[3], search.predict_proba(pd.read_pickle(sys.argv[2])))"
    )
    X.to_pickle(tmp_path / "X.pkl")
    files = [tmp_path / name for name in ("search.joblib", "X.pkl", "proba.npy")]
    subprocess.run([sys.executable, "-c", code, *map(str, files)], check=True)
    np.testing.assert_allclose(np.load(files[2]), expected, rtol=1e-6)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("given", ["polars", "array"])
def test_tables_that_are_not_of_pandas(container, given):
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=60).round(2), rng.integers(0, 3, 60)])
    X = X if given == "array" else pl.DataFrame(X, schema=["a", "b"])
    expected = results(small(epochs=1, encoder=TableEncoder()), X)
    with sklearn.config_context(transform_output=container or "default"):
        found = results(small(epochs=1, encoder=TableEncoder()), X)
    for name, value in expected.items():
        assert type(found[name]) is type(value), name
        np.testing.assert_array_equal(np.asarray(found[name]), np.asarray(value), err_msg=name)
