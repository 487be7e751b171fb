import os
import threading
import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import sktvae
from sktvae import ModeCodec, QuantileCodec, TableEncoder, TVAESynthesizer
from tests.conftest import people, small


@parametrize_with_checks([small(random_state=None), small(numerical="modes", random_state=None)])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks([TVAESynthesizer(epochs=2, compress_dims=(16,), decompress_dims=(16,))])
def test_scikit_learn_checks_of_the_other_defaults(estimator, check):
    """Both networks, the refit and the calibration; only the networks and epochs are smaller."""
    check(estimator)


def test_xu2019_is_the_configuration_of_the_paper():
    """Xu et al. 2019, section 5 and supplement: as published, not as our defaults happen to be."""
    model = TVAESynthesizer(**sktvae.XU2019)
    assert model.embedding_dim == 128
    assert tuple(model.compress_dims) == tuple(model.decompress_dims) == (128, 128)
    assert model.decoder == "independent"
    assert (model.batch_size, model.epochs, model.learning_rate) == (500, 300, 1e-3)
    assert (model.loss_factor, model.l2scale, model.early_stopping) == (2, 1e-5, False)
    model.set_params(epochs=1).fit(people(60))
    codecs = [c for c in model.encoder_.codecs_ if not isinstance(c, sktvae.CategoryCodec)]
    assert codecs and all(isinstance(c, ModeCodec) and c.n_components == 10 for c in codecs)
    layers = [tuple(p.shape) for n, p in model.vae_.named_parameters() if n.endswith("weight")]
    width = model.vae_.layout.data_dim
    assert layers == [
        (width, 128),
        (128, 128),
        (256, 128),
        (128, 128),
        (128, 128),
        (width, 128),
    ]


@pytest.mark.parametrize("numerical", ["quantile", "modes"])
def test_sample_has_the_schema_of_the_table(table, numerical):
    rows = small(numerical=numerical).fit(table).sample(500)
    assert (rows.dtypes == table.dtypes).all() and list(rows) == list(table)
    assert isinstance(rows.index, pd.RangeIndex) and len(rows) == 500
    for name in ("city", "risk", "smoker"):
        assert set(rows[name]) <= set(table[name])
    for name in ("age", "weight", "dose", "seen"):
        # the ends of the range are not the extremes, but close to them
        slack = (table[name].max() - table[name].min()) / 20
        assert rows[name].min() >= table[name].min() - slack
        assert rows[name].max() <= table[name].max() + slack
    assert (rows["dose"].round(2) == rows["dose"]).all()
    assert (rows["seen"] == rows["seen"].dt.normalize()).all()


def test_the_paper_s_configuration_learns_the_table():
    """Shares, a mean and two dependences, with batches and epochs for some thousand rows."""
    real = people(3000)
    settings = sktvae.XU2019 | {"epochs": 80, "batch_size": 100, "random_state": 0}
    rows = TVAESynthesizer(**settings).fit(real).sample(4000)
    for name in ("city", "risk", "smoker"):
        shares = [t[name].value_counts(normalize=True) for t in (real, rows)]
        assert shares[0].sub(shares[1], fill_value=0).abs().sum() / 2 < 0.05
    assert abs(rows["age"].mean() - real["age"].mean()) < 3
    assert ((rows["risk"] == "high") == rows["smoker"]).mean() > 0.9
    assert abs(rows["age"].corr(rows["weight"]) - real["age"].corr(real["weight"])) < 0.1


@pytest.mark.parametrize("numerical", ["quantile", "modes"])
def test_missing_values_are_learned(numerical):
    real = people(3000)
    real.loc[real["smoker"], "weight"] = np.nan
    real["city"] = real["city"].where(np.arange(3000) % 5 > 0, None)
    model = small(numerical=numerical, epochs=10, learning_rate=1e-2, calibrate=True).fit(real)
    rows = model.sample(4000)
    assert abs(rows["city"].isna().mean() - 0.2) < 0.04
    assert abs(rows["weight"].isna().mean() - real["smoker"].mean()) < 0.05
    assert (rows["weight"].isna() == rows["smoker"]).mean() > 0.95
    assert np.isfinite(model.score_samples(real)).all()


def test_sample_sizes(fitted, table):
    empty = fitted.sample(0)
    assert empty.shape == (0, table.shape[1]) and (empty.dtypes == table.dtypes).all()
    assert fitted.sample().shape == (1, table.shape[1])
    assert len(fitted.sample(np.int64(40_000))) == 40_000  # more than a block
    for wrong in (-1, 2.5, "3", True):
        with pytest.raises(ValueError, match="n_samples"):
            fitted.sample(wrong)


def test_random_states(table, fitted):
    same = lambda a, b: a.equals(b)
    assert same(fitted.sample(50), fitted.sample(50))  # the constructor's integer
    assert same(fitted.sample(50, random_state=7), fitted.sample(50, random_state=7))
    assert not same(fitted.sample(50, random_state=7), fitted.sample(50, random_state=8))
    state = np.random.RandomState(0)
    assert not same(fitted.sample(50, random_state=state), fitted.sample(50, random_state=state))
    assert same(small().fit(table).sample(50), fitted.sample(50))
    one, two = (small(calibrate=True, refit=True).fit(table) for _ in range(2))
    assert same(one.sample(50), two.sample(50)) and not same(one.sample(50), fitted.sample(50))
    assert not same(small(random_state=1).fit(table).sample(50), fitted.sample(50))
    free = small(random_state=None).fit(table)
    assert not same(free.sample(50), free.sample(50))


def test_global_random_states_are_left_alone(table):
    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()
    whole = {"conditional": True, "calibrate": True, "refit": True}
    for params in (whole | {"random_state": None}, {"numerical": "modes"}):
        model = small(**params).fit(table)
        model.sample(10)
        model.score(table)
        model.inverse_transform(model.transform(table))
    assert (np.random.get_state()[1] == numpy_state).all()
    assert (torch.get_rng_state() == torch_state).all()


def test_score_samples(fitted, table):
    scores = fitted.score_samples(table)
    assert scores.shape == (len(table),) and np.isfinite(scores).all()
    np.testing.assert_array_equal(scores, fitted.score_samples(table))
    np.testing.assert_allclose(scores[::-1], fitted.score_samples(table.iloc[::-1]), rtol=1e-10)
    np.testing.assert_allclose(scores[5:6], fitted.score_samples(table.iloc[5:6]), rtol=1e-10)
    assert fitted.score(table) == pytest.approx(scores.mean())


def test_score_ranks_likely_rows_higher(table):
    model = small(epochs=60, learning_rate=5e-3).fit(table)
    wrong = table.assign(
        risk=table["risk"].map({"low": "high", "high": "low"}).astype(table["risk"].dtype)
    )
    assert model.score(table) > model.score(wrong) + 1


def test_score_is_on_the_scale_of_the_table():
    """Codecs agree on the likelihood of one Gaussian column, whose truth is known.

    Its density is that of N(0, 10^2); in units of 0.01 a value's mass is density / 100.
    """
    rng = np.random.default_rng(0)
    x = pd.DataFrame({"x": np.round(rng.normal(0, 10, 4000), 2)})
    new = pd.DataFrame({"x": np.round(rng.normal(0, 10, 4000), 2)})
    truth = -0.5 * np.log(2 * np.pi * 100) - 0.5 + np.log(0.01)
    # Without free bits z is not used, so that the bound does not depend on its noise.
    # Lower bounds: sixteen bins are a coarse histogram (see below), the modes codec counts one of
    # the modes that could have given a value, and the default of 512 bins takes repeats by chance,
    # two of 4,000 rows, for a property of the column.
    coarse = QuantileCodec(n_bins=16, n_subbins=1)
    for numerical, slack in (
        (coarse, 0.3),
        (QuantileCodec(), 0.4),
        (ModeCodec(), 0.4),
    ):
        model = small(
            numerical=numerical, epochs=40, learning_rate=3e-3, n_iter_no_change=10, rate_floor=0
        )
        score = model.fit(x).score(new)
        assert truth - slack < score < truth + 0.03, (numerical, score, truth)
        if numerical is coarse:  # the likelihood of a histogram of these bins
            codes = model.encoder_.transform(new)[:, 0].astype(int)
            log_share = np.log(np.bincount(codes) / len(codes))[codes]
            best = (log_share + model.encoder_.log_density(new)).mean()
            assert abs(score - best) < 0.06


def test_transform_is_the_posterior_mean(fitted, table):
    Z = fitted.transform(table)
    assert Z.shape == (len(table), 4) and Z.dtype == np.float64
    batch = fitted.vae_.layout.to_batch(fitted.encoder_.transform(table).T)
    with torch.no_grad():
        mu = fitted.vae_.posterior.moments(batch)[0].numpy()
    np.testing.assert_allclose(Z, mu, atol=1e-5)
    rows = fitted.inverse_transform(Z)
    assert (rows.dtypes == table.dtypes).all() and len(rows) == len(table)
    with pytest.raises(ValueError, match="4 columns"):
        fitted.inverse_transform(Z[:, :2])


def test_feature_names_out(fitted, table):
    names = [f"tvaesynthesizer{i}" for i in range(4)]
    assert list(fitted.get_feature_names_out()) == names
    out = clone(fitted).set_output(transform="pandas").fit(table).transform(table)
    assert list(out.columns) == names
    assert list(fitted.feature_names_in_) == list(table)
    assert "TVAESynthesizer" in fitted._repr_html_()


@pytest.mark.parametrize("as_list", [False, True])
def test_arrays_and_lists(as_list):
    X = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    rows = small().fit(X.tolist() if as_list else X).sample(5)
    assert isinstance(rows, np.ndarray) and rows.shape == (5, 3)
    assert as_list or rows.dtype == np.float32


def test_grid_search_over_network_and_codec(table):
    search = GridSearchCV(
        small(numerical=QuantileCodec()),
        {"embedding_dim": [2, 3], "compress_dims": [(8,), (8, 8)], "numerical__n_bins": [4, 8]},
        cv=2,
        error_score="raise",
    )
    search.fit(table)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.sample(3).shape == (3, table.shape[1])


def test_grid_search_over_a_named_codec(table):
    encoder = TableEncoder([("bins", QuantileCodec(), ["age", "weight"])])
    search = GridSearchCV(small(encoder=encoder), {"encoder__bins__n_bins": [2, 6]}, cv=2)
    search.fit(table)
    chosen = search.best_params_["encoder__bins__n_bins"]
    assert search.best_estimator_.encoder_.codecs_[0].n_bins == chosen
    assert len(set(search.cv_results_["mean_test_score"])) == 2


def test_workers_share_the_cores(table):
    """joblib's workers together use no more torch threads than there are cores."""
    threads = Parallel(n_jobs=2)(delayed(_fit_and_count_threads)(table) for _ in range(2))
    assert sum(threads) <= max(os.cpu_count(), 2)


def _fit_and_count_threads(table):
    small(epochs=1).fit(table)
    return torch.get_num_threads()


def test_pipelines(table):
    y = table["smoker"]
    X = table.drop(columns=["smoker", "risk"])
    # with the independent decoder z carries everything that the columns say of each other
    latent = small(epochs=60, early_stopping=False, decoder="independent", decompress_dims=(16, 16))
    middle = make_pipeline(latent, LogisticRegression())
    assert middle.fit(X, y).score(X, y) > 0.8
    last = make_pipeline("passthrough", small()).fit(table)
    assert last[-1].sample(3).shape == (3, table.shape[1])
    assert np.isfinite(last.score(table))
    assert last.transform(table).shape == (len(table), 4)


def test_warm_start_goes_on(table):
    cold = small(epochs=2).fit(table)
    warm = small(epochs=2, warm_start=True).fit(table)
    first = warm.vae_
    loss = warm.history_["loss"][-1]
    warm.fit(table)
    assert warm.n_iter_ == 4 and len(warm.history_["loss"]) == 4
    assert warm.history_["loss"][2] < loss
    assert warm.vae_ is not first
    torch.testing.assert_close(first.state_dict(), cold.vae_.state_dict())
    assert cold.fit(table).n_iter_ == 2


def test_validation_rows(table):
    assert "validation_loss" in small().fit(table).history_
    assert "validation_loss" not in small(early_stopping=False).fit(table).history_
    assert "validation_loss" not in small().fit(table.iloc[:10]).history_


def test_one_row(table):
    rows = small().fit(table.iloc[:1]).sample(3)
    pd.testing.assert_frame_equal(rows, pd.concat([table.iloc[:1]] * 3, ignore_index=True))


def test_verbose_shows_the_losses(table, capsys):
    small(verbose=True).fit(table)
    text = capsys.readouterr().err
    assert "3/3" in text and "validation_loss=" in text
    small().fit(table)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"device": "quantum"}, r"device='quantum' cannot be used here.*'auto' or one of \['cpu'"),
        ({"device": "cuda:99"}, r"device='cuda:99' cannot be used here.*'auto'"),
        ({"embedding_dim": 0}, "'embedding_dim' parameter"),
        ({"decoder": "none"}, "'decoder' parameter"),
        ({"compress_dims": (0,)}, "compress_dims must hold one or more positive integers"),
        ({"encoder": TableEncoder(), "numerical": "modes"}, "encoder determines how every column"),
        ({"encoder": TableEncoder(), "categorical_features": [0]}, "encoder determines how every"),
        ({"numerical": QuantileCodec(n_bins=0)}, "'n_bins' parameter"),
    ],
)
def test_wrong_parameters(table, params, match):
    model = small(**params)
    with pytest.raises(ValueError, match=f"(?s){match}"):
        model.fit(table)
    assert not [name for name in vars(model) if name.endswith("_")]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda X: X.iloc[:0],
        lambda X: X.assign(age=[[1]] * len(X)),
        lambda X: X.assign(weight=np.inf),
        lambda X: pd.concat([X, X[["age"]]], axis=1),
        lambda X: X.assign(city=pd.Series(["a", 1] * 200, dtype=object)),
    ],
)
def test_a_failed_fit_changes_nothing(table, spoil):
    model = small()
    with pytest.raises((ValueError, TypeError), match=r"age|weight|city|sample"):
        model.fit(spoil(table))
    with pytest.raises(NotFittedError):
        model.sample(1)
    model.fit(table)
    before = model.sample(20)
    kept = dict(vars(model))
    with pytest.raises((ValueError, TypeError)):
        model.fit(spoil(table))
    assert vars(model) == kept
    pd.testing.assert_frame_equal(model.sample(20), before)


@pytest.mark.parametrize("method", ["transform", "score", "score_samples"])
def test_other_columns_than_in_fit(fitted, table, method):
    with pytest.raises(ValueError, match=r"(?s)now missing: \['dose'\].*Add them"):
        getattr(fitted, method)(table.drop(columns="dose"))
    with pytest.raises(ValueError, match=r"(?s)same order.*'seen'.*Select them"):
        getattr(fitted, method)(table[list(table)[::-1]])
    if method == "transform":
        with pytest.raises(ValueError, match=r"'city': found unknown categories"):
            fitted.transform(table.assign(city="Nice"))


@pytest.mark.parametrize("method", ["sample", "transform", "inverse_transform", "score"])
def test_unfitted_use(table, method):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(small(), method)(3 if method == "sample" else table)


def test_no_warnings(table):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = small(numerical="modes").fit(table)
        model.sample(5)
        model.score(table)


@pytest.mark.filterwarnings("ignore:Column 'key' has 10000 different texts")
def test_a_column_of_many_categories():
    """10,000 categories: a code for the rare ones and which of them it is; all can come out."""
    X = pd.DataFrame({"key": [f"k{i % 10_000}" for i in range(20_000)], "x": np.arange(20_000) % 9})
    model = small(epochs=1, batch_size=1000, min_samples=1, calibrate=True).fit(X)
    assert list(model.encoder_.get_feature_names_out()) == ["key", "key__position", "x"]
    assert model.encoder_.heads_[0].n_categories == 1000
    rows = model.sample(20_000)
    assert rows["key"].nunique() > 5000 and set(rows["key"]) <= set(X["key"])


def test_fits_in_threads_are_those_of_one_thread():
    """Neither the models nor the global generators know of other fits."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"x": rng.normal(size=300).round(2), "t": rng.choice(list("abc"), 300)})
    fit_and_sample = lambda: small(epochs=2, conditional=True).fit(X).sample(200)
    expected, state = fit_and_sample(), torch.get_rng_state()
    for _ in range(2):
        made = []
        keep = lambda made=made: made.append(fit_and_sample())
        threads = [threading.Thread(target=keep) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 4 and all(rows.equals(expected) for rows in made)
    assert (torch.get_rng_state() == state).all()


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda Z: Z * np.nan, "contains NaN"),
        (lambda Z: np.where(Z > 0, np.inf, Z), "infinity"),
        (lambda Z: Z + 1j, "Complex data not supported"),
        (lambda Z: Z + 1e300, "at most 1e.15 in size"),
        (lambda Z: Z + 1e16, "at most 1e.15 in size"),
        (lambda Z: Z[0], "Expected 2D array"),
    ],
)
def test_latents_must_be_numbers(fitted, table, spoil, match):
    with pytest.raises(ValueError, match=match):
        fitted.inverse_transform(spoil(fitted.transform(table)))


def test_seeds_of_a_sample_are_checked(fitted):
    one, two = (fitted.sample(5, random_state=np.random.default_rng(3)) for _ in range(2))
    pd.testing.assert_frame_equal(one, two)
    for wrong in (-1, 1.5, True, "7"):
        with pytest.raises(ValueError, match=r"random_state must be an integer >= 0.* got"):
            fitted.sample(5, random_state=wrong)


class Impatient(QuantileCodec):
    """A codec whose user presses Ctrl-C."""

    def _encode(self, column, log_density):
        raise KeyboardInterrupt


def test_an_interrupt_before_the_first_check_changes_nothing(table):
    model = small().fit(table)
    before = dict(vars(model))
    model.set_params(numerical=Impatient())
    with pytest.raises(KeyboardInterrupt):
        model.fit(table)
    assert vars(model) == before | {"numerical": model.numerical}


@pytest.mark.parametrize(
    "changed",
    [
        {"embedding_dim": 5},
        {"decoder": "independent"},
        {"numerical": "modes"},
        {"categorical_features": ["age"]},
        {"compress_dims": (16, 16)},
        {"encoder": TableEncoder()},
    ],
)
def test_a_warm_start_refuses_what_it_cannot_change(table, changed):
    model = small(warm_start=True).fit(table)
    model.set_params(**changed)
    with pytest.raises(ValueError, match=rf"warm_start=True continues.*{next(iter(changed))}"):
        model.fit(table)
    model.set_params(**small(warm_start=True).get_params(deep=False)).set_params(epochs=1)
    assert model.fit(table).n_iter_ == 4


def test_a_warm_start_takes_what_changes_nothing(table):
    encoder = TableEncoder([("few", QuantileCodec(n_bins=4), ["age"])])
    model = small(warm_start=True, encoder=encoder).fit(table)
    encoder.set_output(transform="pandas").set_params(n_jobs=1).fit(table)
    encoder.codecs = [("few", QuantileCodec(n_bins=4), np.array(["age"]))]
    assert model.fit(table).n_iter_ == 6
    encoder.set_params(few__n_bins=5)
    with pytest.raises(ValueError, match="encoder changed since then"):
        model.fit(table)


def test_the_history_of_a_warm_start_keeps_what_there_was(table):
    model = small(warm_start=True).fit(table)
    first = model.history_
    model.set_params(early_stopping=False).fit(table)
    assert model.history_["gap"][:3] == first["gap"]
    assert len(model.history_["gap"]) == 6 and np.isnan(model.history_["gap"][3:]).all()


def test_a_warm_start_leaves_out_rows_of_weight_zero(table):
    weight = np.ones(len(table))
    weight[0] = 0
    odd = table.assign(city=np.where(table.index == 0, "Atlantis", table["city"]))
    assert small(warm_start=True).fit(table).fit(odd, sample_weight=weight).n_iter_ == 6


def test_a_fit_leaves_no_names_and_no_gradients_behind(table):
    model = small(epochs=1).fit(table)
    assert all(p.grad is None for p in model.vae_.parameters())
    assert list(model.feature_names_in_) == list(table)
    model.fit(table[["age", "weight"]].to_numpy())
    assert not hasattr(model, "feature_names_in_")


def test_a_warm_start_of_parameters_that_cannot_be_pickled(table):
    encoder = TableEncoder([("few", QuantileCodec(n_bins=4), lambda X: ["age"])])
    model = small(warm_start=True, encoder=encoder).fit(table)
    assert model.fit(table).n_iter_ == 6


@pytest.mark.parametrize("numerical", ["quantile", "modes"])
def test_a_warm_start_on_the_same_table_clips_nothing(table, numerical, recwarn):
    small(warm_start=True, numerical=numerical).fit(table).fit(table)
    assert not recwarn


def test_a_warm_start_says_what_it_clips(table):
    model = small(warm_start=True).fit(table)
    with pytest.warns(UserWarning, match=r"\['weight'\] hold numbers outside the range"):
        model.fit(table.assign(weight=table["weight"] + 500))


def test_the_order_of_the_rows_does_not_matter(table):
    shuffled = table.sample(frac=1, random_state=3)
    one, two = (small(epochs=2, calibrate=True, refit=True).fit(X) for X in (table, shuffled))
    pd.testing.assert_frame_equal(one.sample(50), two.sample(50))


def test_integer_weights_are_repeated_rows(table):
    weight = np.random.default_rng(0).integers(0, 3, len(table))
    repeated = table.iloc[np.arange(len(table)).repeat(weight)]
    model = small(epochs=2, calibrate=True, refit=True)
    one, two = clone(model).fit(table, sample_weight=weight), clone(model).fit(repeated)
    pd.testing.assert_frame_equal(one.sample(50), two.sample(50))
    assert one.score(table, sample_weight=weight) == pytest.approx(two.score(repeated))


def test_fractional_weights_shift_the_frequencies():
    real = people(3000)
    weight = np.where(real["smoker"], 2.3, 0.7)
    expected = weight[real["smoker"]].sum() / weight.sum()
    assert abs(real["smoker"].mean() - expected) > 0.2
    for calibrate, slack in ((False, 0.08), (True, 0.03)):
        model = small(epochs=5, learning_rate=1e-2, calibrate=calibrate)
        model.fit(real, sample_weight=weight)
        assert abs(model.sample(4000)["smoker"].mean() - expected) < slack


def test_weights_are_routed():
    with sklearn.config_context(enable_metadata_routing=True):
        model = small(epochs=1).set_fit_request(sample_weight=True)
        pipeline = make_pipeline("passthrough", model)
        table, weight = people(100), np.random.default_rng(0).integers(1, 3, 100)
        pipeline.fit(table, sample_weight=weight)
        alone = small(epochs=1).fit(table, sample_weight=weight)
        pd.testing.assert_frame_equal(pipeline[-1].sample(20), alone.sample(20))
