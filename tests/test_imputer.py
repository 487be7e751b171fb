import datetime
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import skops.io
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils.estimator_checks import parametrize_with_checks

from sktvae import (
    FixedCombinations,
    LessEqual,
    SumOf,
    TableEncoder,
    TVAEImputer,
    TVAESynthesizer,
)
from sktvae._imputer import _observed_rows
from tests.conftest import ONE_FIT, people, small

STRATEGIES = ["draw", "mean", "median"]


def imputer(epochs=2, random_state=0, **params):
    """Return an imputer that fits in a moment."""
    synthesizer = TVAESynthesizer(epochs=epochs, batch_size=100, **ONE_FIT)
    return TVAEImputer(synthesizer, random_state=random_state).set_params(**params)


def thorough():
    """An imputer that learns well enough for its figures to be compared."""
    return imputer(epochs=30, synthesizer__batch_size=32, synthesizer__calibrate=True)


def holed(X, share=0.25, seed=0):
    """A table with cells missing completely at random."""
    return X.mask(np.random.default_rng(seed).random(X.shape) < share)


def related(n=800, seed=0):
    """y = 2 x + noise, and a category that depends on x."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    kind = np.where(x + rng.normal(0, 0.3, n) > 0, "high", "low")
    return pd.DataFrame({"x": x, "y": 2 * x + rng.normal(0, 0.5, n), "kind": kind})


@parametrize_with_checks([imputer(random_state=None)])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks([imputer(random_state=None, strategy="mean", add_indicator=True)])
def test_scikit_learn_checks_with_indicators(estimator, check):
    check(estimator)


def odd_table(n=150):
    """A table of many dtypes, each with missing cells in its own way."""
    rng = np.random.default_rng(0)
    texts = rng.choice(["a", "b", "c"], n)
    seconds = pd.to_timedelta(rng.integers(0, 10**6, n), "s")
    days = [datetime.date(2024, 1, 1) + datetime.timedelta(int(k)) for k in rng.integers(0, 99, n)]
    X = pd.DataFrame(
        {
            "float64": np.where(rng.random(n) < 0.5, -0.0, rng.normal(size=n)),
            "float32": rng.normal(size=n).astype("float32"),
            "Int64": pd.array(2**52 + rng.integers(0, 2**51, n), dtype="Int64"),
            "UInt8": pd.array(rng.integers(0, 255, n), dtype="UInt8"),
            "string": pd.Series(texts, dtype="string"),
            "category": pd.Categorical(texts, categories=["c", "z", "a", "b"], ordered=True),
            "zone": pd.Timestamp("2024-03-30", tz="Europe/Paris") + seconds,
            "duration": seconds,
            "boolean": pd.array(rng.random(n) < 0.5, dtype="boolean"),
            "arrow": pd.array(rng.integers(0, 9, n), dtype=pd.ArrowDtype(pa.int64())),
        },
    )
    X = holed(X)
    for name, values in {"object": texts, "bool": rng.random(n) < 0.5, "date": days}.items():
        X[name] = pd.Series(values, dtype=object).where(rng.random(n) > 0.25, None)
    X.index = 3 * np.arange(n)
    return X


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_observed_cells_and_dtypes_stay(strategy):
    X = odd_table()
    before = X.copy()
    filled = imputer(strategy=strategy).fit_transform(X)
    pd.testing.assert_frame_equal(X, before)
    assert not filled.isna().any(axis=None)
    assert filled.index.equals(X.index) and filled.columns.equals(X.columns)
    pd.testing.assert_series_equal(filled.dtypes, X.dtypes)
    for name in X:
        present = X[name].notna()
        now, then = filled.loc[present, name].tolist(), X.loc[present, name].tolist()
        assert [(type(v), repr(v)) for v in now] == [(type(v), repr(v)) for v in then], name
    assert {type(v) for v in filled["bool"]} == {bool}


def as_polars(X):
    kept = X[["float64", "float32", "Int64", "string", "category", "zone", "boolean"]]
    return pl.from_pandas(kept.astype({"category": "object"})).with_columns(
        pl.col("category").cast(pl.Enum(["c", "z", "a", "b"])),
        pl.col("float32").fill_null(float("nan")),
    )


@pytest.mark.parametrize("as_arrow", [False, True])
def test_polars_and_arrow_tables(as_arrow):
    given = as_polars(odd_table())
    table = given.to_arrow() if as_arrow else given
    filled = imputer(add_indicator=True).fit_transform(table)
    assert type(filled) is type(table)
    if as_arrow:
        filled = pl.from_arrow(filled)
    flags, filled = filled[:, given.width :], filled[:, : given.width]
    assert filled.schema == given.schema
    for name in given.columns:
        values = given[name]
        present = values.is_not_null()
        if values.dtype.is_float():
            present &= values.is_not_nan().fill_null(False)
            assert not filled[name].is_nan().any()
        assert not filled[name].has_nulls()
        assert filled[name].filter(present).equals(values.filter(present))
        assert (flags[f"missingindicator_{name}"] == ~present).all()


@pytest.mark.parametrize("dtype", ["float64", "float32", object])
def test_arrays_give_arrays(dtype):
    X = holed(related(200)[["x", "y"]]).to_numpy().astype(dtype)
    filled = imputer().fit_transform(X)
    assert type(filled) is np.ndarray and filled.dtype == X.dtype
    present = ~pd.isna(X)
    assert not present.all() and not pd.isna(filled).any()
    np.testing.assert_array_equal(filled[present], X[present])


def test_lists_give_arrays():
    X = holed(related(100))
    numbers = X[["x", "y"]].astype(object).where(X[["x", "y"]].notna(), None).to_numpy().tolist()
    filled = imputer().fit_transform(numbers)
    assert type(filled) is np.ndarray and filled.dtype == float and not np.isnan(filled).any()
    np.testing.assert_array_equal(filled, imputer().fit_transform(X[["x", "y"]].to_numpy()))
    mixed = imputer().fit_transform(X.to_numpy().tolist())
    assert mixed.dtype == object and not pd.isna(mixed).any()


def test_nothing_missing_changes_nothing():
    X = people(100)
    fitted = imputer(add_indicator=True).fit(X)
    filled = fitted.transform(X)
    pd.testing.assert_frame_equal(filled, X)
    assert filled is not X
    filled.columns = [f"{name}!" for name in X]
    assert list(X) == list(people(100))


def test_without_holes_the_network_is_that_of_a_synthesizer():
    """And it learns nothing else, so that this is also where the random state ends up."""
    X = people(150)
    synthesizer = clone(imputer().synthesizer).set_params(random_state=4).fit(X)
    for fitted in (
        imputer(random_state=4).fit(X),
        TVAEImputer(clone(synthesizer)).fit(X),
    ):
        assert fitted.history_ == synthesizer.any_order_.history
        assert not hasattr(fitted, "vae_")
        one, other = fitted.any_order_.network, synthesizer.any_order_.network
        for name, weight in one.state_dict().items():
            assert weight.equal(other.state_dict()[name])


@pytest.fixture(scope="module")
def table():
    return related()


@pytest.fixture(scope="module")
def fitted(table):
    """Not to be changed by a test."""
    return thorough().fit(holed(table))


@pytest.fixture(scope="module")
def filled(table, fitted):
    X = holed(table)
    return {s: _with(fitted, strategy=s).transform(X) for s in STRATEGIES}


class TestQuality:
    def rows(self, table, name):
        """Where a cell is missing and x is observed."""
        X = holed(table)
        return X[name].isna() & X["x"].notna()

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_numbers_follow_the_others(self, table, filled, strategy):
        rows = self.rows(table, "y")
        correlation = np.corrcoef(filled[strategy].loc[rows, "y"], table.loc[rows, "y"])[0, 1]
        assert correlation > 0.8  # that of draws from the true distribution is 0.94

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_categories_follow_the_others(self, table, filled, strategy):
        rows = self.rows(table, "kind")
        right = (filled[strategy].loc[rows, "kind"] == table.loc[rows, "kind"]).mean()
        assert right > 0.75  # the most frequent category would be right in about half of the rows

    def test_draws_keep_the_variance_and_means_shrink_it(self, fitted, table):
        X = table.assign(y=np.nan, x=np.nan, kind=None)  # nothing is known
        drawn = _with(fitted, strategy="draw").transform(X)["y"]
        mean = _with(fitted, strategy="mean").transform(X)["y"]
        assert 0.85 < drawn.std() / table["y"].std() < 1.15
        assert mean.std() < 0.1 * table["y"].std()

    def test_missing_cells_of_a_row_are_drawn_jointly(self, fitted, table):
        X = table.assign(y=np.nan, x=np.nan)
        drawn = fitted.transform(X)
        assert np.corrcoef(drawn["x"], drawn["y"])[0, 1] > 0.8


def _with(fitted, **params):
    copied = pickle.loads(pickle.dumps(fitted))
    return copied.set_params(**params)


def test_missing_at_random_does_not_bias():
    """A column that is missing where another is large; the complete cases are biased."""
    rng = np.random.default_rng(0)
    n = 1500
    x = rng.normal(size=n)
    y = np.round(x + rng.normal(0, 0.5, n), 1)
    kind = np.where(x + rng.normal(0, 0.5, n) > 0, "high", "low")
    X = pd.DataFrame({"x": x, "y": y, "kind": kind})
    absent = rng.random(n) < 1 / (1 + np.exp(-1.5 * x))
    given = X.assign(y=X["y"].mask(absent), kind=X["kind"].mask(absent))
    filled = thorough().fit_transform(given)
    for true, complete, imputed in (
        (X["y"].mean(), given["y"].mean(), filled["y"].mean()),
        [(t["kind"].dropna() == "high").mean() for t in (X, given, filled)],
    ):
        assert abs(complete - true) > 0.2
        assert abs(imputed - true) < 0.4 * abs(complete - true)


def test_missing_cells_are_not_learned():
    """Were a missing value one more value, the loss could not fall below log 2."""
    X = pd.DataFrame({"one": [None, "only"] * 200, "two": "p"}, dtype=object)
    fitted = imputer(epochs=10, synthesizer__batch_size=32).fit(X)
    assert fitted.history_["validation_loss"][-1] < 0.1
    rows = _observed_rows(fitted.encoder_, fitted.encoder_.fit_encode(X, partial=True))
    assert rows.recorded.float().mean(dim=0).tolist() == [0.5, 1]
    assert (fitted.transform(X) == ["only", "p"]).all(axis=None)


def test_rows_of_missing_cells():
    X = holed(related(200))
    X.iloc[::4] = None
    fitted = imputer().fit(X)
    assert np.isfinite(fitted.history_["loss"]).all()
    assert fitted.any_order_.n_rows == X.notna().any(axis=1).sum() < 200
    assert not fitted.transform(X).isna().any(axis=None)
    without = imputer().fit(X.dropna(how="all"))
    assert without.any_order_.n_rows == fitted.any_order_.n_rows


def test_columns_without_values_are_left_out():
    X = holed(related(200)).assign(none=np.nan, text=None)[["none", "x", "text", "y", "kind"]]
    with pytest.warns(UserWarning, match=r"Columns \['none', 'text'\] hold no value at all"):
        fitted = imputer(add_indicator=True).fit(X)
    filled = fitted.transform(X)
    flags = [f"missingindicator_{name}" for name in X]
    assert list(filled) == ["x", "y", "kind", *flags] == fitted.get_feature_names_out().tolist()
    assert not filled.isna().any(axis=None)
    later = X.assign(none=1.0, text="new")  # says nothing
    pd.testing.assert_frame_equal(
        fitted.transform(later)[["x", "y", "kind"]], filled[["x", "y", "kind"]]
    )
    for strategy in STRATEGIES:
        _with(fitted, strategy=strategy).transform(X)
    array = X[["none", "x", "y"]].to_numpy()
    with pytest.warns(UserWarning, match=r"Columns \['x0'\] hold no value"):
        assert imputer().fit_transform(array).shape == (200, 2)
    with pytest.warns(UserWarning, match="hold no value"):
        assert imputer().fit_transform(pl.from_pandas(X[["x", "none"]])).columns == ["x"]


def test_a_table_without_values_is_an_error():
    with pytest.raises(ValueError, match="all of its cells are missing"):
        imputer().fit(pd.DataFrame({"a": [np.nan] * 9, "b": [None] * 9}))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_synthesizer_leaves_columns_without_values_as_they_are(strategy):
    X = related(200).assign(none=np.nan)
    model = small(epochs=1, conditional=True).fit(X)
    with pytest.warns(UserWarning, match=r"Columns \['none'\] are not learned"):
        filled = model.impute(holed(X), strategy=strategy)
    assert filled["none"].isna().all() and not filled.drop(columns="none").isna().any(axis=None)


def test_dropped_columns_stay_as_they_are():
    X = holed(related(200))
    encoder = TableEncoder([("out", "drop", ["y"])])
    fitted = imputer(synthesizer__encoder=encoder).fit(X)
    with pytest.warns(UserWarning, match=r"Columns \['y'\] are not learned"):
        filled = fitted.transform(X)
    pd.testing.assert_series_equal(filled["y"], X["y"])
    assert not filled[["x", "kind"]].isna().any(axis=None)


def test_an_unknown_category_is_named():
    X = holed(related(200))
    fitted = imputer().fit(X)
    with pytest.raises(ValueError, match=r"Column 'kind': found unknown categories \['new'\]"):
        fitted.transform(X.assign(kind="new"))


def test_columns_that_were_complete_in_fit():
    fitted = imputer().fit(people(200))
    filled = fitted.transform(people(50).mask(np.arange(350).reshape(50, 7) % 3 == 0))
    assert not filled.isna().any(axis=None)


def test_category_dtype_of_a_later_table():
    X = holed(people(200))
    filled = imputer().fit(X).transform(X.iloc[:30])
    assert filled["risk"].dtype == X["risk"].dtype


@pytest.fixture(scope="module")
def stays():
    """A table whose columns are tied together."""
    rng = np.random.default_rng(0)
    n = 300
    city = rng.choice(["Oslo", "Rome", "Bari"], n)
    begin, rooms = rng.integers(1990, 2010, n), rng.integers(10, 99, n)
    return pd.DataFrame(
        {
            "begin": begin,
            "end": begin + rng.integers(0, 9, n),
            "city": city,
            "country": np.where(city == "Oslo", "N", "I"),
            "total": rooms + 5.0,
            "rooms": rooms,
            "drugs": 5.0,
        }
    )


class TestRelations:
    relations = (
        LessEqual("begin", "end"),
        FixedCombinations(["city", "country"]),
        SumOf("total", ["rooms", "drugs"]),
    )

    def imputer(self):
        return imputer(synthesizer__encoder=TableEncoder(relations=list(self.relations)))

    def test_they_hold_in_imputed_rows(self, stays):
        X = stays.astype(object)
        rng = np.random.default_rng(1)
        for names in (["end"], ["begin", "end"], ["city", "country"], ["total", "rooms"]):
            X.loc[rng.random(300) < 0.2, names] = None
        X = X.infer_objects()
        filled = self.imputer().fit_transform(X)
        assert not filled.isna().any(axis=None)
        assert (filled["begin"] <= filled["end"]).all()
        assert ((filled["city"] == "Oslo") == (filled["country"] == "N")).all()
        np.testing.assert_allclose(filled["total"], filled["rooms"] + filled["drugs"])

    def test_fit_takes_rows_that_are_partly_known(self, stays):
        X = holed(stays)
        fitted = self.imputer().fit(X)
        observed = X.notna()
        known = [
            observed["begin"],
            observed["begin"] & observed["end"],
            observed["city"] & observed["country"],
            observed["rooms"],
            observed["drugs"],
        ]
        rows = _observed_rows(fitted.encoder_, fitted.encoder_.fit_encode(X, partial=True))
        assert rows.recorded.sum(dim=0).tolist() == [int(k.sum()) for k in known]
        combinations = fitted.encoder_.codecs_[2].categories_
        assert sorted(combinations) == [("Bari", "I"), ("Oslo", "N"), ("Rome", "I")]
        codes = np.zeros((1, len(fitted.encoder_.heads_)))
        codes[0, list(fitted.encoder_.get_feature_names_out()).index("city")] = 3
        decoded = fitted.encoder_.inverse_transform(codes)
        assert decoded[["city", "country"]].isna().all(axis=None)
        assert not fitted.transform(stays.assign(total=np.nan)).isna().any(axis=None)
        with pytest.raises(ValueError, match="only some of them are known"):
            fitted.transform(X)

    def test_a_broken_relation_is_an_error(self, stays):
        X = holed(stays)
        complete = X[["begin", "end"]].notna().all(axis=1)
        X.loc[complete, "end"] = X.loc[complete, "begin"] - 1
        with pytest.raises(ValueError, match=r"LessEqual\('begin', 'end'\) does not hold"):
            self.imputer().fit(X)

    def test_a_relation_that_no_row_shows_is_an_error(self, stays):
        X = stays.assign(country=None)
        with pytest.raises(ValueError, match="no row in which all of them have a value"):
            self.imputer().fit(X)


def test_weights():
    X = holed(related(150))
    weight = np.random.default_rng(0).integers(0, 3, 150)
    weighted = imputer().fit(X, sample_weight=weight)
    repeated = imputer().fit(X.loc[X.index.repeat(weight)])
    assert weighted.history_ == repeated.history_
    pd.testing.assert_frame_equal(weighted.transform(X), repeated.transform(X))


def test_the_order_of_the_rows_makes_no_difference():
    X = holed(related(150))
    assert imputer().fit(X).history_ == imputer().fit(X.iloc[::-1]).history_


def test_seeds():
    X = holed(related(200))
    fitted = imputer(random_state=3).fit(X)
    first = fitted.transform(X)
    pd.testing.assert_frame_equal(fitted.transform(X), first)
    pd.testing.assert_frame_equal(imputer(random_state=3).fit(X).transform(X), first)
    assert not _with(fitted, random_state=4).transform(X).equals(first)
    instance = _with(fitted, random_state=np.random.RandomState(0))
    assert not instance.transform(X).equals(instance.transform(X))
    nested = imputer(random_state=None, synthesizer__random_state=3).fit(X)
    pd.testing.assert_frame_equal(nested.transform(X), first)


def test_the_synthesizer_is_cloned():
    X = holed(related(100))
    fitted = imputer().fit(X)
    assert not hasattr(fitted.synthesizer, "any_order_")
    copied = clone(fitted)
    assert not hasattr(copied, "any_order_") and copied.synthesizer is not fitted.synthesizer
    assert copied.get_params()["synthesizer__epochs"] == 2
    assert TVAEImputer().get_params() == {
        "synthesizer": None,
        "strategy": "draw",
        "add_indicator": False,
        "random_state": None,
    }


def test_a_failed_fit_leaves_the_estimator_as_it_was():
    X = holed(related(100))
    fitted = imputer().fit(X)
    before = dict(vars(fitted))
    for params in ({"strategy": "mode"}, {"synthesizer__epochs": 0}, {"synthesizer": 3}):
        broken = _with(fitted, **params)
        kept = dict(vars(broken))
        with pytest.raises(ValueError, match="parameter of TVAE"):
            broken.fit(X)
        assert vars(broken) == kept
    with pytest.raises(ValueError, match="all of its cells are missing"):
        fitted.fit(pd.DataFrame({"other": [None] * 9}))
    assert vars(fitted) == before


def test_an_interrupted_fit_leaves_the_estimator_as_it_was(monkeypatch):
    X = holed(related(100))
    fitted = imputer().fit(X)
    before = dict(vars(fitted))

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("sktvae._fitting.train", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fitted.fit(X)
    assert vars(fitted) == before


def test_indicator_columns():
    X = holed(related(200)).assign(z=1.5)
    fitted = imputer(add_indicator=True).fit(X)
    names = fitted.get_feature_names_out().tolist()
    assert names[4:] == ["missingindicator_x", "missingindicator_y", "missingindicator_kind"]
    filled = fitted.transform(X)
    assert list(filled) == names
    for name in ("x", "y", "kind"):
        assert (filled[f"missingindicator_{name}"] == X[name].isna()).all()
        assert filled[f"missingindicator_{name}"].dtype == bool
    assert list(fitted.transform(X.assign(z=np.nan))) == names  # z was never missing in fit
    array = X[["x", "y"]].to_numpy()
    fitted = imputer(add_indicator=True).fit(array)
    assert fitted.get_feature_names_out().tolist() == [
        *("x0", "x1", "missingindicator_x0", "missingindicator_x1")
    ]
    assert fitted.get_feature_names_out(["a", "b"])[-1] == "missingindicator_b"
    filled = fitted.transform(array)
    assert filled.dtype == float
    np.testing.assert_array_equal(filled[:, 2:], np.isnan(array))


@pytest.mark.parametrize("labels", [[0, 1], [("a", "b"), ("a", "c")], ["x", 2]])
def test_indicators_of_columns_with_other_labels(labels):
    X = holed(related(100)[["x", "y"]])
    X.columns = pd.MultiIndex.from_tuples(labels) if isinstance(labels[0], tuple) else labels
    filled = imputer(add_indicator=True).fit_transform(X)
    assert filled.shape == (100, 4) and list(filled)[:2] == labels
    assert not filled.isna().any(axis=None)


@pytest.mark.parametrize("wanted", ["pandas", "polars"])
@pytest.mark.parametrize("given", ["pandas", "polars", "arrow", "numpy"])
def test_set_output(given, wanted):
    X = odd_table()[["float64", "Int64", "string", "boolean"]]
    table = {
        "pandas": lambda: X,
        "polars": lambda: pl.from_pandas(X),
        "arrow": lambda: pl.from_pandas(X).to_arrow(),
        "numpy": lambda: X[["float64"]].to_numpy(),
    }[given]()
    fitted = imputer(add_indicator=True).set_output(transform=wanted).fit(table)
    out = fitted.transform(table)
    assert isinstance(out, pd.DataFrame if wanted == "pandas" else pl.DataFrame)
    assert list(out.columns) == fitted.get_feature_names_out().tolist()
    plain = fitted.set_output(transform="default").transform(table)
    values = plain.tolist() if given == "numpy" else None
    if given != "numpy":
        plain = pl.from_arrow(plain) if given == "arrow" else plain
        values = list(
            map(list, plain.itertuples(index=False) if given == "pandas" else plain.rows())
        )
    found = out.itertuples(index=False) if wanted == "pandas" else out.rows()
    assert list(map(list, found)) == values
    if given == wanted == "pandas":
        assert (out.dtypes == plain.dtypes).all() and out.index.equals(X.index)
    elif given != "numpy" and wanted == "pandas":
        assert [d.kind for d in out.dtypes][:2] == ["f", "i"]


@pytest.mark.slow
def test_in_a_pipeline_with_a_search():
    X = holed(related(300), 0.15)
    y = related(300)["kind"]
    classifier = make_pipeline(
        imputer(add_indicator=True),
        make_column_transformer((OneHotEncoder(), ["kind"]), remainder="passthrough"),
        LogisticRegression(),
    )
    assert classifier.fit(X, y).score(X, y) > 0.8
    grid = {"tvaeimputer__synthesizer__epochs": [1, 2], "tvaeimputer__strategy": ["draw", "mean"]}
    search = GridSearchCV(classifier, grid, cv=2, error_score="raise").fit(X, y)
    assert len(search.cv_results_["params"]) == 4
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_a_fresh_process_imputes_the_same(tmp_path):
    X = holed(people(150))
    fitted = imputer(add_indicator=True).fit(X)
    joblib.dump(fitted, tmp_path / "imputer.joblib")
    X.to_pickle(tmp_path / "X.pkl")
    code = (
        "import joblib, pandas; "
        "joblib.load('imputer.joblib').transform(pandas.read_pickle('X.pkl')).to_pickle('out.pkl')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    pd.testing.assert_frame_equal(pd.read_pickle(tmp_path / "out.pkl"), fitted.transform(X))
    skops.io.dump(fitted, tmp_path / "imputer.skops")
    unknown = skops.io.get_untrusted_types(file=tmp_path / "imputer.skops")
    other = skops.io.load(tmp_path / "imputer.skops", trusted=unknown)
    pd.testing.assert_frame_equal(other.transform(X), fitted.transform(X))
    state = fitted.__getstate__()
    assert state["_sktvae_version"]
    with pytest.warns(UserWarning, match=r"This TVAEImputer was saved by sktvae 0\.0\.1"):
        TVAEImputer().__setstate__(state | {"_sktvae_version": "0.0.1"})
