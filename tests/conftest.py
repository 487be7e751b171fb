import pathlib

import numpy as np
import pandas as pd
import pytest

from sktvae import TVAESynthesizer

SHARED = pathlib.Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real tables that only the project's own machines have."""
    if not SHARED.is_dir():
        pytest.skip("the shared tables are not on this machine")
    return SHARED


def people(n=400, seed=0):
    """A small table of mixed types, whose columns depend on each other."""
    rng = np.random.default_rng(seed)
    smoker = rng.random(n) < 0.3
    age = rng.integers(18, 90, n)
    return pd.DataFrame(
        {
            "age": age,
            "weight": np.round(60 + 0.2 * age + rng.normal(0, 8, n), 1),
            "dose": np.where(smoker, 0.0, np.round(rng.lognormal(1, 0.5, n), 2)),
            "smoker": smoker,
            "city": rng.choice(["Bonn", "Rome", "Oslo"], n, p=[0.6, 0.3, 0.1]),
            "risk": pd.Categorical(
                np.where(smoker, "high", "low"), categories=["low", "mid", "high"], ordered=True
            ),
            "seen": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 365, n), "D"),
        }
    )


@pytest.fixture(scope="session")
def table():
    return people()


# Most of the time of a small fit, and beside the point of most tests: a calibration draws some
# ten thousand rows however small the table is, and a refit is a second fit.
ONE_FIT = {"calibrate": False, "refit": False}


def small(**params):
    """A synthesizer that fits in a moment."""
    quick = ONE_FIT | {
        "embedding_dim": 4,
        "compress_dims": (16,),
        "decompress_dims": (16,),
        "epochs": 3,
        "batch_size": 100,
        "conditional": False,
        "random_state": 0,
    }
    return TVAESynthesizer(**(quick | params))


@pytest.fixture(scope="session")
def fitted(table):
    """Not to be changed by a test."""
    return small().fit(table)
