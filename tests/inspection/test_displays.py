"""The Displays show what the tables hold, and leave the user's matplotlib alone."""

import itertools
import warnings

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator

from sktvae.inspection import (
    LatentSpaceDisplay,
    MarginalsDisplay,
    PairTrendsDisplay,
    TrainingHistoryDisplay,
)
from tests.conftest import small
from tests.inspection.conftest import drawn, outside, visits


def marginal(display, name):
    return next(m for m in display.marginals if m.name == name)


def test_every_kind_of_column_has_a_panel_with_its_shares(two_samples):
    real, synthetic = two_samples
    display = MarginalsDisplay.from_tables(real, synthetic)
    assert [m.name for m in display.marginals] == list(real)
    assert len(display.axes_) == real.shape[1]
    for m in display.marginals:
        apart = (m.spike[1], m.spike[2]) if m.spike else (0, 0)
        if m.name == "empty":
            assert m.missing == (1.0, 1.0) and not len(m.real)
            continue
        assert m.real.sum() + apart[0] == pytest.approx(1)
        assert m.synthetic.sum() + apart[1] == pytest.approx(1)
        for share, table in zip(m.missing, two_samples, strict=True):
            assert share == pytest.approx(table[m.name].isna().mean())
    grade = marginal(display, "grade")
    assert grade.labels == ("0", "1", "2", "3")
    np.testing.assert_allclose(grade.real, real["grade"].value_counts(normalize=True).sort_index())
    ward = marginal(display, "ward")
    shares = synthetic["ward"].value_counts(normalize=True)
    np.testing.assert_allclose(ward.synthetic, [shares[value] for value in ward.labels])


def test_a_histogram_counts_the_rows_of_each_bin_and_a_frequent_number_apart(two_samples):
    real, synthetic = two_samples
    dose = marginal(MarginalsDisplay.from_tables(real, synthetic), "dose")
    known = real["dose"].dropna()
    assert dose.spike[0] == "0"
    assert dose.spike[1] == pytest.approx((known == 0).mean())
    low, high = dose.edges[3:5]
    assert dose.real[3] == pytest.approx(((known >= low) & (known < high)).mean())
    assert dose.linear_width is not None  # lognormal: nearly all would be in one bin


def test_values_that_only_synthetic_rows_have_are_in_the_picture(two_samples):
    real, _ = two_samples
    far = real.assign(**{"stay": pd.Timedelta(1000, "D"), "grade": 9, "ward": "elsewhere"})
    display = MarginalsDisplay.from_tables(real, far, columns=["stay", "grade", "ward"])
    stay, grade, ward = display.marginals
    assert stay.synthetic.sum() == pytest.approx(1) and stay.synthetic[-1] == pytest.approx(1)
    assert grade.labels[-1] == "9" and grade.synthetic[-1] == 1 and grade.real[-1] == 0
    assert "elsewhere" in ward.labels and ward.synthetic[ward.labels.index("elsewhere")] == 1


def test_integers_lie_in_bins_of_as_many_integers_each():
    x = pd.DataFrame({"x": np.arange(1000) % 95})
    (m,) = MarginalsDisplay.from_tables(x, x).marginals
    widths = np.diff(m.edges)
    assert np.ptp(widths) == 0 and widths[0] == np.rint(widths[0])


def test_many_categories_share_a_bar():
    names = [f"c{i:02d}" for i in range(30)]
    table = pd.DataFrame({"x": np.repeat(names, np.arange(30, 0, -1))})
    (m,) = MarginalsDisplay.from_tables(table, table).marginals
    assert m.labels == (*names[:6], "24 others")
    assert m.real[-1] == pytest.approx(sum(range(1, 25)) / sum(range(1, 31)))


def test_long_and_strange_names_fit_and_are_no_formulas(two_samples):
    name = "a column whose name is longer than any sensible person would make it"
    real, synthetic = (
        # As a formula, the value would be wrong, and an error.
        table.rename(columns={"dose": name}).replace({"ward": {"$x^2$": r"$\frac$"}})
        for table in two_samples
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        displays = [
            MarginalsDisplay.from_tables(real, synthetic),
            PairTrendsDisplay.from_tables(real, synthetic),
        ]
        for display in displays:
            assert not outside(display.figure_)
    assert any("cost" in text for text in drawn(displays[0].figure_))


def test_sixty_columns_are_readable():
    rng = np.random.default_rng(0)
    names = [f"measured_quantity_{i}" for i in range(60)]
    real, synthetic = (pd.DataFrame(rng.normal(size=(300, 60)), columns=names) for _ in range(2))
    display = MarginalsDisplay.from_tables(real, synthetic)
    drawn(display.figure_)
    boxes = [ax.get_tightbbox() for ax in display.axes_]
    for i, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[:i]), names[i]
    display = PairTrendsDisplay.from_tables(real, synthetic)
    drawn(display.figure_)
    labels = [label.get_window_extent() for label in display.ax_.get_yticklabels()]
    assert len(labels) == 59
    assert not any(one.overlaps(other) for one, other in itertools.pairwise(labels))


def test_real_and_synthetic_differ_in_more_than_colour(two_samples):
    display = MarginalsDisplay.from_tables(*two_samples, columns=["cost $ <b>of</b> $ all", "ward"])
    filled, line = display.axes_[0].patches
    assert filled.get_fill() and not line.get_fill()
    bars = display.axes_[1].patches
    assert {bar.get_hatch() for bar in bars} == {None, "/////"}


def test_a_broken_pair_is_the_worst_one(two_samples):
    rng = np.random.default_rng(0)
    x = rng.normal(size=500)
    real = pd.DataFrame({"a": x, "b": x + 0.1 * rng.normal(size=500), "c": rng.normal(size=500)})
    broken = real.assign(b=rng.permutation(real["b"]))
    display = PairTrendsDisplay.from_tables(real, broken)
    assert display.worst_[0][:2] == ("a", "b")
    assert display.worst_[0][2] > 3 * display.worst_[1][2] and display.worst_[0][3] < 0.3
    assert any("1. a and b" in text for text in drawn(display.figure_))


def test_a_pair_that_differs_by_chance_is_not_the_worst_one():
    rng = np.random.default_rng(0)
    tables = []
    for _ in range(2):
        x = rng.integers(0, 4, 600)
        columns = {"id": rng.integers(0, 300, 600).astype(str), "c": rng.integers(0, 300, 600)}
        tables.append(pd.DataFrame({"a": x, "b": x, **columns, "d": rng.normal(size=600)}))
    tables[1].loc[:299, "b"] = rng.permutation(tables[1]["b"][:300])
    display = PairTrendsDisplay.from_tables(*tables)
    assert np.nanmax(display.errors) > display.errors.loc["a", "b"]
    assert display.worst_[0][:2] == ("a", "b")


def test_rows_are_drawn_from_an_estimator(table, fitted):
    display = MarginalsDisplay.from_estimator(fitted, table, columns=["city", "age"])
    same = MarginalsDisplay.from_tables(table, fitted.sample(len(table)), columns=["city", "age"])
    for one, other in zip(display.marginals, same.marginals, strict=True):
        np.testing.assert_array_equal(one.synthetic, other.synthetic)
    few = PairTrendsDisplay.from_estimator(fitted, table, n_samples=50, random_state=3)
    rows = fitted.sample(50, random_state=3)
    pd.testing.assert_frame_equal(few.errors, PairTrendsDisplay.from_tables(table, rows).errors)


def test_history(table, fitted):
    display = TrainingHistoryDisplay.from_estimator(fitted)
    assert len(display.axes_) == 2
    held_out = display.axes_[0].lines[1].get_ydata()
    np.testing.assert_array_equal(held_out, fitted.history_["validation_loss"])
    both = TrainingHistoryDisplay.from_estimator(small(conditional=True, epochs=1).fit(table))
    assert len(both.axes_) == 3
    assert not outside(both.figure_)
    without = small(early_stopping=False).fit(table)
    assert len(TrainingHistoryDisplay.from_estimator(without).axes_[0].lines) == 1
    with pytest.raises(ValueError, match="no attribute history_"):
        TrainingHistoryDisplay.from_estimator(small())


@pytest.mark.parametrize("color", [None, "age", "city", "smoker", "seen"])
def test_latent_space(table, fitted, color):
    display = LatentSpaceDisplay.from_estimator(fitted, table, color=color)
    assert display.points.shape == (len(table), 2)
    latent = fitted.transform(table)
    spread = np.linalg.svd(latent - latent.mean(axis=0), compute_uv=False) ** 2
    np.testing.assert_allclose(display.explained, spread[:2] / spread.sum(), rtol=1e-4)
    assert not outside(display.figure_)


def test_latent_space_of_a_part_of_the_rows(table, fitted):
    few = LatentSpaceDisplay.from_estimator(fitted, table, color="city", n_samples=40)
    assert len(few.points) == len(few.values) == 40
    with pytest.raises(ValueError, match="'nowhere' is not a column"):
        LatentSpaceDisplay.from_estimator(fitted, table, color="nowhere")


def test_axes_of_the_user_are_used(two_samples, fitted, table):
    figure, axes = plt.subplots(1, 3, figsize=(12, 3))
    display = MarginalsDisplay.from_tables(*two_samples, columns=["stay", "ward"], ax=axes[:2])
    assert list(display.axes_) == list(axes[:2]) and display.figure_ is figure
    assert LatentSpaceDisplay.from_estimator(fitted, table, ax=axes[2]).ax_ is axes[2]
    figure, ax = plt.subplots()
    divided = MarginalsDisplay.from_tables(*two_samples, ax=ax)
    assert divided.figure_ is figure and len(figure.axes) == 1 + two_samples[0].shape[1]
    part = plt.figure().subfigures(1, 2)[0]
    assert TrainingHistoryDisplay.from_estimator(fitted, ax=part.subplots()).figure_ is part
    assert PairTrendsDisplay.from_tables(*two_samples, ax=part.subplots()).figure_ is part
    with pytest.raises(ValueError, match="holds 3 Axes, and 9 are needed"):
        MarginalsDisplay.from_tables(*two_samples, ax=axes)


def test_the_tables_and_the_settings_of_matplotlib_stay(two_samples):
    before = [table.copy() for table in two_samples]
    settings = dict(matplotlib.rcParams)
    for display in (MarginalsDisplay, PairTrendsDisplay):
        display.from_tables(*two_samples)
    for table, old in zip(two_samples, before, strict=True):
        pd.testing.assert_frame_equal(table, old)
    assert dict(matplotlib.rcParams) == settings


def test_wrong_columns_are_named(two_samples):
    real, synthetic = two_samples
    with pytest.raises(ValueError, match=r"'age' is not in the real table"):
        MarginalsDisplay.from_tables(real, synthetic, columns=["age"])
    with pytest.raises(ValueError, match="share no column"):
        MarginalsDisplay.from_tables(real[["dose"]], synthetic[["stay"]])
    with pytest.raises(ValueError, match="'dose' only"):
        PairTrendsDisplay.from_tables(real[["dose"]], synthetic)
    with pytest.raises(TypeError, match="'dose' is a number in the real table"):
        MarginalsDisplay.from_tables(real, synthetic.assign(dose="much"))
    with pytest.raises(TypeError, match="no method sample"):
        MarginalsDisplay.from_estimator(BaseEstimator(), real)


def test_other_containers():
    pl = pytest.importorskip("polars")
    real, synthetic = (visits(50, i)[["dose", "ward", "stay"]] for i in range(2))
    one = MarginalsDisplay.from_tables(real, synthetic)
    other = MarginalsDisplay.from_tables(pl.from_pandas(real), pl.from_pandas(synthetic))
    for m, n in zip(one.marginals, other.marginals, strict=True):
        assert m.labels == n.labels
        np.testing.assert_allclose(m.real, n.real)
    array = np.random.default_rng(0).normal(size=(30, 2))
    assert len(MarginalsDisplay.from_tables(array, array + 1).marginals) == 2


def test_latent_space_by_many_categories_and_by_numbers_with_gaps(fitted, table):
    shown = LatentSpaceDisplay.from_estimator(fitted, table, color="weight")
    values = shown.values.copy()
    values[:30] = np.nan
    parts = {"points": shown.points, "explained": shown.explained, "name": "weight"}
    gaps = LatentSpaceDisplay(**parts, values=values, as_text=shown.as_text).plot()
    assert [len(c.get_offsets()) for c in gaps.ax_.collections] == [30, len(table) - 30]
    assert any("x: missing" in text for text in drawn(gaps.figure_))
    values[:] = np.nan
    drawn(LatentSpaceDisplay(**parts, values=values, as_text=shown.as_text).plot().figure_)
    letters = np.array(list("abcdefgh"), dtype=object)[np.arange(len(table)) % 8]
    many = LatentSpaceDisplay(**parts, values=letters).plot()
    labels = [text.get_text() for text in many.ax_.get_legend().get_texts()]
    assert len(labels) == 6 and labels[-1] == "3 others"
    assert not outside(many.figure_)


def test_a_latent_of_one_dimension_is_refused(table):
    flat = small(embedding_dim=1, epochs=1).fit(table)
    with pytest.raises(ValueError, match="at least two rows and two dimensions"):
        LatentSpaceDisplay.from_estimator(flat, table)


def test_short_durations_and_a_single_date():
    table = pd.DataFrame(
        {
            "wait": pd.to_timedelta(np.arange(50) % 40, "min"),
            "beat": pd.to_timedelta(np.arange(50) * 20, "ms"),
            "day": pd.Timestamp("2024-02-29"),
        }
    )
    display = MarginalsDisplay.from_tables(table, table)
    wait, beat, day = display.marginals
    assert (wait.unit, beat.unit) == ("min", "s")
    assert wait.edges[-1] == pytest.approx(39, abs=2) and beat.edges[-1] == pytest.approx(0.98)
    assert day.real.tolist() == [1.0] and "2024-02-29" in day.description
    assert any("min" in text for text in drawn(display.figure_))


def test_an_axes_that_cannot_be_divided_is_refused(two_samples):
    ax = plt.figure().add_axes([0.1, 0.1, 0.8, 0.8])
    with pytest.raises(ValueError, match="must be divided into 9 parts"):
        MarginalsDisplay.from_tables(*two_samples, ax=ax)
    one = MarginalsDisplay.from_tables(*two_samples, columns=["stay"], ax=ax)  # one needs not be
    assert one.axes_[0] is ax


def test_identifiers_are_shown_only_if_they_are_named(two_samples):
    tables = [one.assign(code=[f"p{i}" for i in range(len(one))]) for one in two_samples]
    shown = [m.name for m in MarginalsDisplay.from_tables(*tables).marginals]
    assert shown == list(two_samples[0])
    assert "code" not in PairTrendsDisplay.from_tables(*tables).errors
    (named,) = MarginalsDisplay.from_tables(*tables, columns=["code"]).marginals
    assert named.name == "code"
    plt.close("all")
