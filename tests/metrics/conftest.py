import numpy as np
import pandas as pd
import pytest


def mixed(n=1_200, seed=0):
    """A table of every kind of column, with dependent columns and missing values."""
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 90, n)
    smoker = rng.random(n) < 0.2 + 0.005 * (age - 18)
    weight = np.round(60 + 0.4 * age + rng.normal(0, 5, n), 1)
    return pd.DataFrame(
        {
            "age": age,
            "weight": np.where(rng.random(n) < 0.1, np.nan, weight),
            "smoker": smoker,
            "city": rng.choice(["Bonn", "Rome", "Oslo", "Nice"], n, p=[0.5, 0.3, 0.15, 0.05]),
            "risk": np.where(rng.random(n) < 0.1, None, np.where(smoker, "high", "low")),
            "seen": pd.Timestamp("2024-01-01") + pd.to_timedelta(3 * age, "D"),
        }
    )


@pytest.fixture(scope="session")
def real():
    return mixed(seed=0)


@pytest.fixture(scope="session")
def other():
    """Rows from the same source."""
    return mixed(seed=1)


@pytest.fixture(scope="session")
def holdout():
    return mixed(seed=2)
