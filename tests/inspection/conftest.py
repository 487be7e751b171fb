import matplotlib
import numpy as np
import pandas as pd
import pytest


@pytest.fixture(autouse=True)
def closed_figures():
    """Figures are drawn off the screen, and closed after each test."""
    import matplotlib.pyplot as plt

    backend = matplotlib.get_backend()
    plt.switch_backend("Agg")
    yield
    plt.close("all")
    plt.switch_backend(backend)


def visits(n=400, seed=0):
    """Times, durations, missing values, a frequent number, and names that need care."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "admitted": pd.Timestamp("2021-03-01") + pd.to_timedelta(rng.integers(0, 900, n), "D"),
            "stay": pd.to_timedelta(rng.gamma(2, 70, n).round(), "h"),
            "dose": np.where(rng.random(n) < 0.3, 0, rng.lognormal(1, 1.2, n).round(2)),
            "cost $ <b>of</b> $ all": rng.lognormal(8, 0.5, n).round(2),
            "ward": rng.choice(["ICU", "surgery", "<script>alert(1)</script>", "$x^2$"], n),
            "grade": rng.integers(0, 4, n),
            "insured": rng.random(n) < 0.8,
            "empty": np.nan,
            "constant": 1,
        }
    )
    table.loc[rng.random(n) < 0.25, "admitted"] = pd.NaT
    table.loc[rng.random(n) < 0.1, "ward"] = None
    table.loc[rng.random(n) < 0.4, "dose"] = np.nan
    return table


@pytest.fixture(scope="session")
def two_samples():
    """Two samples of the same source."""
    return visits(400, 0), visits(400, 1)


def drawn(figure):
    """Draw a figure, which is when labels and ticks are made; return all its texts."""
    figure.canvas.draw()
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text)]


def outside(figure):
    """By how many inches something is cut off at each side of a figure: what is more than 0.02."""
    figure.canvas.draw()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    beyond = {"left": -box.x0, "bottom": -box.y0, "right": box.x1 - width, "top": box.y1 - height}
    return {side: inches for side, inches in beyond.items() if inches > 0.02}
