"""`evaluate`: what is wrong is found and named, and nothing where nothing is."""

import warnings

import numpy as np
import pandas as pd
import pytest

from sktvae import metrics
from sktvae.metrics import detection_auc, evaluate
from sktvae.metrics._judge import judge

NAMES = [
    "column_shape_score",
    "worst_column",
    "missing_rate_error",
    "rare_category_coverage",
    "pair_trend_score",
    "pair_error",
    "worst_pair",
    "mutual_information_error",
    "detection_auc",
    "precision",
    "recall",
    "density",
    "coverage",
    "copied_rows",
    "closest_record_share",
    "membership_auc",
]


def spoiled(real, other, what):
    """Rows of the same source, spoiled in one way; the figure and a name in its message."""
    rng = np.random.default_rng(0)
    if what == "independent":
        made = other.apply(lambda column: rng.permutation(column.to_numpy()))
        return made, "detection_auc", "a classifier tells"
    if what == "pair":
        return other.assign(risk=rng.permutation(other["risk"])), "worst_pair", "'risk'"
    if what == "column":
        return other.assign(weight=other["weight"] + 8), "worst_column", "'weight'"
    if what == "copies":
        return (
            pd.concat([other[60:], real[:60]], ignore_index=True),
            "copied_rows",
            "equal a real row",
        )
    if what == "category":
        made = other.assign(city=other["city"].replace("Nice", "Bonn"))
        return made, "rare_category_coverage", "'Nice' of 'city'"
    made = other.assign(weight=other["weight"].fillna(80.0))
    return made, "missing_rate_error", "'weight'"


def test_nothing_is_wrong_with_rows_of_the_same_source(real, other, holdout):
    steps = []
    figures = metrics.evaluate(
        real, other, holdout, target="smoker", random_state=0, callback=lambda *s: steps.append(s)
    )
    assert figures.index.tolist() == [*NAMES, "utility_score"]
    columns = ["value", "standard_error", "chance", "best", "verdict", "message"]
    assert figures.columns.tolist() == columns
    assert set(figures["verdict"]) <= {"good", "unknown"}, figures["message"].tolist()
    assert figures.loc["detection_auc", "message"].startswith("AUC 0.5")
    assert [done for done, _, _ in steps] == list(range(len(steps)))
    assert steps[-1][:2] == (steps[-1][1], steps[-1][1])


@pytest.mark.parametrize("what", ["independent", "pair", "column", "copies", "category", "missing"])
def test_what_is_wrong_is_found_and_named(real, other, what):
    made, figure, name = spoiled(real, other, what)
    figures = metrics.evaluate(real, made, random_state=0)
    assert figures.loc[figure, "verdict"] == "poor", figures.loc[figure, "message"]
    assert name in figures.loc[figure, "message"]
    if what in ("copies", "category"):
        poor = set(figures.index[figures["verdict"] == "poor"])
        assert poor == {figure}


def test_few_rows_are_too_few_to_tell(real, other):
    figures = metrics.evaluate(real[:30], other[:30], random_state=0)
    assert figures.loc["detection_auc", "verdict"] == "unknown"
    assert "too few to tell" in figures.loc["detection_auc", "message"]
    assert "poor" not in set(figures["verdict"])


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame({"x": [1.0, 2.0, 3.0]}),
        pd.DataFrame({"x": ["a", "b", "a"], "y": [None, None, None]}),
        pd.DataFrame({"x": [5] * 20, "y": ["a"] * 20}),
        pd.DataFrame({"x": [1.0]}),
        pd.DataFrame({"when": pd.to_datetime(["2024-01-01", None, "2024-01-03"] * 5), "x": True}),
    ],
)
def test_any_table_is_judged(table):
    figures = metrics.evaluate(table, table.copy(), table.copy(), target="x", random_state=0)
    assert set(figures["verdict"]) <= {"good", "fair", "poor", "unknown"}
    assert figures["message"].str.endswith(".").all()


def test_the_same_seed_gives_the_same_figures(real, other, holdout):
    one, two = (
        metrics.evaluate(real[:300], other[:300], holdout[:300], random_state=4) for _ in range(2)
    )
    pd.testing.assert_frame_equal(one, two)


def test_the_target_must_be_a_column(real, other):
    with pytest.raises(ValueError, match="target='sex' is not a column"):
        metrics.evaluate(real, other, target="sex")


def test_judgement():
    limits = (0.1, 0.2)
    assert judge(0.05, 0.01, limits) == "good"
    assert judge(0.15, 0.01, limits) == "fair"
    assert judge(0.15, 0.18, limits) == "good"  # may be chance, and a poor one would be seen
    assert judge(0.15, 0.25, limits) == "unknown"
    assert judge(0.30, 0.25, limits) == "poor"
    assert judge(np.nan, 0.01, limits) == "unknown"


def test_identifiers_are_left_out_with_a_warning(real, other):
    named = real.assign(row=np.arange(len(real)))
    synthetic = other.assign(row=np.arange(len(other)) + len(real))
    with pytest.warns(UserWarning, match=r"\['row'\], which look like identifiers"):
        figures = evaluate(named, synthetic, random_state=0)
    pd.testing.assert_frame_equal(figures, evaluate(real, other, random_state=0))


def test_a_target_is_no_identifier(real, other):
    tables = [one.assign(row=np.arange(len(one))) for one in (real, other)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "utility_score" in evaluate(*tables, target="row", random_state=0).index


def test_many_categories_of_few_rows_give_no_rows_away():
    """Categories that one table lacks tell nothing if the other lacks as many."""
    rng = np.random.default_rng(0)
    tables = [
        pd.DataFrame({"cabin": [f"{prefix}{i}" for i in range(150)] + ["none"] * 150})
        for prefix in "ab"
    ]
    tables = [table.assign(x=rng.normal(size=300)) for table in tables]
    assert detection_auc(*tables, random_state=0) < 0.56


@pytest.mark.parametrize("values", [[np.nan], [1e-200, 2e-200], [-1e308, 1e308], [1e200, 5e-324]])
def test_numbers_without_room_for_bins_are_judged(values):
    rng = np.random.default_rng(0)
    tables = [
        pd.DataFrame({"odd": rng.choice(values, 100), "x": rng.normal(size=100)}) for _ in range(2)
    ]
    figures = evaluate(*tables, random_state=0)
    assert (figures["verdict"] != "poor").all()


@pytest.mark.parametrize("n_rows", [60, 300])
def test_an_auc_below_one_half_is_a_guess_and_no_figure(n_rows):
    table = pd.DataFrame(np.random.default_rng(2).normal(size=(2 * n_rows, 3)), columns=list("abc"))
    figure = evaluate(table[:n_rows], table[n_rows:], random_state=0).loc["detection_auc"]
    assert figure["value"] < 0.49
    assert figure["verdict"] == ("unknown" if n_rows < 100 else "good")
    assert "guess" in figure["message"] and "copies" not in figure["message"]
    assert f"{figure['value']:.2f}" not in figure["message"]


def test_a_classifier_that_near_copies_mislead_is_no_good_sign():
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(300, 4)), columns=list("abcd"))
    figure = evaluate(table, table + 1e-3, random_state=0).loc["detection_auc"]
    assert figure["value"] < 0.1
    assert "near-copies" in figure["message"]


def test_three_rows_are_too_few_to_accuse_the_synthesizer():
    """An AUC of 1, whose own standard error is 0, is not rare for three rows."""
    rng = np.random.default_rng(0)
    holdout = pd.DataFrame({"x": rng.uniform(2, 3, 40), "y": rng.uniform(2, 3, 40)})
    real = pd.DataFrame({"x": [0.0, 0.1, 0.2], "y": [0.0, 0.1, 0.2]})
    figure = evaluate(real, real + 0.05, holdout, random_state=0).loc["membership_auc"]
    assert figure["value"] == 1.0
    assert figure["verdict"] == "unknown"


@pytest.mark.filterwarnings("error")
def test_one_row_is_judged_without_warnings_of_numpy():
    table = pd.DataFrame({"x": [1.0, 2.0, 4.0], "y": [2.0, 3.0, 7.0]})
    assert evaluate(table[:1], table, random_state=0).loc["detection_auc", "verdict"] == "unknown"


def test_missing_values_are_blamed_on_a_column_only_beyond_chance():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 500, 2))
    tables = [pd.DataFrame(one, columns=["a", "b"]).mask(rng.random((500, 2)) < 0.2) for one in x]
    # As many missing values in both tables, but for one: less than chance would give.
    equal = tables[0].iloc[::-1].assign(a=tables[0]["a"].iloc[:-1])
    message = evaluate(tables[0], equal, random_state=0).loc["missing_rate_error", "message"]
    assert message == "The shares of missing values differ no more than those of one source would."
    worse = tables[1].assign(b=tables[1]["b"].mask(rng.random(500) < 0.3))
    message = evaluate(tables[0], worse, random_state=0).loc["missing_rate_error", "message"]
    assert "most beyond chance in 'b'" in message
