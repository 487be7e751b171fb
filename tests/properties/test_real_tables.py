"""Real tables go through fit and sample untouched, and keep their missing shares."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets

from tests.conftest import SHARED, small

SCIKIT_LEARN = ("iris", "wine", "breast_cancer", "diabetes", "digits", "linnerud")
SCIKIT_LEGO = ("abalone", "arrests", "chicken", "heroes", "hearts", "penguins", "creditcard")


def goes_through(X, epochs=5):
    """Fit and sample; the schema and the missing shares."""
    quick = {"compress_dims": (32,), "decompress_dims": (32,), "batch_size": "auto"}
    quick |= {"calibrate": True, "epochs": epochs}
    with np.errstate(all="raise", under="ignore"):
        synthesizer = small(**quick).fit(X)
        rows = synthesizer.sample(10_000)  # 2,000 differ by 0.02 by chance
    assert list(rows) == list(X)
    pd.testing.assert_series_equal(rows.dtypes, X.dtypes)
    for name in X:
        assert abs(rows[name].isna().mean() - X[name].isna().mean()) < 0.02, name
    return rows


@pytest.mark.filterwarnings("ignore:Column:UserWarning")  # keys
@pytest.mark.parametrize("name", SCIKIT_LEARN)
def test_scikit_learn(name):
    goes_through(getattr(datasets, f"load_{name}")(as_frame=True).frame)


@pytest.mark.filterwarnings("ignore:Column:UserWarning")
@pytest.mark.parametrize("name", SCIKIT_LEGO)
def test_scikit_lego(name):
    sklego = pytest.importorskip("sklego.datasets")
    load = getattr(sklego, f"load_{name}", None)
    if load is None:
        pytest.skip(f"this scikit-lego has no {name}")
    try:
        X = load(as_frame=True)
    except Exception as error:  # some are fetched, and there may be no network
        pytest.skip(f"{name} cannot be loaded: {error}")
    goes_through(X)


@pytest.mark.filterwarnings("ignore:Column:UserWarning")
@pytest.mark.parametrize("load", ["load_penguins", "load_penguins_raw"])
def test_palmerpenguins(load):
    goes_through(getattr(pytest.importorskip("palmerpenguins"), load)())


def shared_names():
    if not SHARED.is_dir():
        return ["none"]
    return [d["name"] for d in json.loads((SHARED / "datasets.json").read_text())["datasets"]]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Column:UserWarning")
@pytest.mark.parametrize("name", shared_names())
def test_shared_tables(shared_data, name):
    about = json.loads((shared_data / "datasets.json").read_text())["datasets"]
    X = pd.read_csv(shared_data / next(d for d in about if d["name"] == name)["file"])
    if len(X) > 100_000:  # the longest one would take as long as all others together
        X = X.sample(100_000, random_state=0)
    goes_through(X, epochs=1)
