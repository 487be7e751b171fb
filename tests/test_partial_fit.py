"""`partial_fit`: what a stream learns, keeps and refuses."""

import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io

from sktvae import CategoryCodec, DifferentialPrivacy, TableEncoder, _streaming
from sktvae._model.layout import Layout
from sktvae._model.vae import SIGMA_RANGE
from tests.conftest import people, small

CITIES = ["Bonn", "Oslo", "Rome"]


def piece(n, seed, p=(0.2, 0.2, 0.6)):
    """Cities of given frequencies, two numbers that correlate, and what depends on both."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    city = rng.choice(CITIES, n, p=p)
    warm = (city == "Rome") ^ (rng.random(n) < 0.1)
    y = np.round(0.8 * x + 0.6 * rng.normal(size=n), 2)
    return pd.DataFrame({"city": city, "x": np.round(x, 2), "y": y, "warm": warm})


def streaming(**params):
    defaults = {"batch_size": "auto", "compress_dims": (32,), "decompress_dims": (32,)}
    return small(**defaults | params)


def stream(pieces, **params):
    model = streaming(**params)
    for rows in pieces:
        model.partial_fit(rows)
    return model


@pytest.fixture(scope="module")
def rows():
    return piece(300, 0)


@pytest.fixture(scope="module")
def begun(rows):
    """Not to be changed by a test."""
    return stream([rows, piece(300, 1)])


def again(model):
    return pickle.loads(pickle.dumps(model))


def shares(table):
    return table["city"].value_counts(normalize=True).reindex(CITIES).fillna(0.0)


@pytest.mark.filterwarnings("ignore:Columns")  # numbers beyond the first rows
def test_a_stream_learns_what_its_first_rows_do_not_show():
    """Frequencies of which the first rows give a wrong idea, a correlation and a dependence."""
    first = piece(300, 0, p=(0.5, 0.3, 0.2))
    pieces = [first, *(piece(1000, seed) for seed in range(1, 16))]
    fresh = piece(2000, 99)
    model = streaming(calibrate=True).partial_fit(first)
    early, early_score = model.sample(10_000), model.score(fresh)
    for rows in pieces[1:]:
        model.set_params(calibrate=rows is pieces[-1]).partial_fit(rows)
    late = model.sample(10_000)
    seen = shares(pd.concat(pieces))
    assert (shares(late) - seen).abs().max() < 0.02 < (shares(early) - seen).abs().max()
    # Of ranks: within the coarse bins of the first 300 rows, numbers are drawn independently.
    correlation = [t["x"].corr(t["y"], method="spearman") for t in (early, late)]
    true = pd.concat(pieces)["x"].corr(pd.concat(pieces)["y"], method="spearman")
    assert abs(correlation[1] - true) < 0.05 < abs(correlation[0] - true)
    agrees = [((t["city"] == "Rome") == t["warm"]).mean() for t in (early, late)]
    assert abs(agrees[1] - 0.9) < 0.03 < abs(agrees[0] - 0.9)
    assert model.score(fresh) > early_score + 0.3


def test_frequencies_are_those_of_all_rows_seen():
    """Not of the last rows, and not of the rows of each call alike."""
    pieces = [piece(900, 0, p=(0.8, 0.1, 0.1)), piece(300, 1, p=(0.1, 0.1, 0.8))]
    model = stream(pieces, calibrate=True)
    seen = shares(pd.concat(pieces))
    assert (shares(model.sample(20_000)) - seen).abs().max() < 0.015
    layout = Layout(model.encoder_.heads_)
    counted = model._stream["counts"][layout.span(0)]
    np.testing.assert_array_equal(counted, pd.concat(pieces)["city"].value_counts().sort_index())


@pytest.mark.filterwarnings("ignore:Columns")
def test_conditions_are_learned():
    model = stream((piece(1500, seed) for seed in range(4)), conditional=True)
    drawn = model.sample(2000, conditions={"city": "Rome"})
    assert (drawn["city"] == "Rome").all() and abs(drawn["warm"].mean() - 0.9) < 0.05
    assert model.any_order_.n_rows == 6000
    assert len(model.any_order_.history["loss"]) == 4


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("kind", ["joblib", "skops"])
def test_a_saved_stream_goes_on_as_the_one_in_memory(rows, tmp_path, kind, conditional):
    """Bit for bit: weights, their average, the optimiser, the frequencies, the seeds."""
    model = stream([rows, piece(200, 1)], conditional=conditional, calibrate=True)
    path = tmp_path / "model"
    if kind == "joblib":
        joblib.dump(model, path)
        other = joblib.load(path)
    else:
        skops.io.dump(model, path)
        other = skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))
    later = piece(200, 2)
    for one in (model, other):
        one.partial_fit(later)
    for name in ["vae", "any_order"][: 1 + conditional]:
        for key, value in model._stream[name].items():
            np.testing.assert_array_equal(value, other._stream[name][key])
    pd.testing.assert_frame_equal(model.sample(50), other.sample(50))


def test_what_training_needs_is_sixteen_bytes_per_weight(begun):
    n_weights = sum(p.numel() for p in begun.vae_.parameters())
    without = again(begun)
    without._stream = {}
    kept = len(pickle.dumps(begun)) - len(pickle.dumps(without))
    assert 16 * n_weights < kept < 16 * n_weights + 8 * Layout(begun.encoder_.heads_).n_codes + 2000


def test_the_same_seed_gives_the_same_rows(rows, begun):
    other = stream([rows, piece(300, 1)])
    pd.testing.assert_frame_equal(begun.sample(50), other.sample(50))
    different = stream([rows, piece(300, 1)], random_state=1)
    assert not different.sample(50).equals(begun.sample(50))


def test_the_first_call_learns_from_the_very_encoding_of_fit(rows):
    other = streaming(epochs=1).fit(rows)
    first = streaming().partial_fit(rows)
    np.testing.assert_array_equal(first.encoder_.transform(rows), other.encoder_.transform(rows))
    shuffled = streaming().partial_fit(rows.sample(frac=1, random_state=0))
    pd.testing.assert_frame_equal(shuffled.sample(50), first.sample(50))


def test_calls_have_noise_of_their_own(rows):
    """With weights that do not change, the loss of the same rows differs from call to call."""
    still = {"learning_rate": 1e-12, "weight_decay": 0.0}
    history = stream([rows] * 4, batch_size=300, **still).history_
    assert len(set(history["reconstruction"])) == 4


def test_history_goes_on(begun, rows):
    assert begun.n_iter_ == 2 and list(begun.history_) == ["loss", "reconstruction", "kl"]
    assert all(len(values) == 2 for values in begun.history_.values())
    model = streaming(epochs=3).fit(rows)
    n_checks = len(model.history_["validation_loss"])
    model.partial_fit(rows)
    assert model.n_iter_ == 4 and len(model.history_["loss"]) == n_checks + 1
    assert np.isnan(model.history_["validation_loss"][-1])


def test_after_fit_a_few_rows_change_little():
    """The weights of a fit count as an average over its steps, its rows as rows seen."""
    model = streaming(epochs=8, early_stopping=False, calibrate=True).fit(piece(2000, 0))
    fresh = piece(1000, 99)
    before = model.score(fresh)
    model.partial_fit(piece(20, 1, p=(1.0, 0.0, 0.0)))
    assert model._stream["n_rows"] == 2020
    assert abs(model.score(fresh) - before) < 0.1
    assert (shares(model.sample(20_000)) - shares(piece(20_000, 7))).abs().max() < 0.03


def test_the_average_of_a_fit_counts_as_that_of_all_its_steps(rows):
    """24 steps of `fit`, and the 25th; see the test of the average over the steps of all calls."""
    model = streaming(epochs=8, batch_size=100, early_stopping=False).fit(rows)
    of_fit = np.concatenate([p.detach().numpy().ravel() for p in model.vae_.parameters()])
    model.partial_fit(rows[:50])
    live, average = (model._stream["vae"][name][: len(of_fit)] for name in ("live", "average"))
    assert np.abs(live - of_fit).max() > 1e-4
    np.testing.assert_allclose(average, of_fit + 5 / 29 * (live - of_fit), atol=1e-6)


def test_standard_deviations_stay_in_their_range():
    X = np.random.default_rng(0).normal(size=(200, 2))
    wild = {"numerical": "modes", "learning_rate": 0.9, "average": False}
    sigma = stream([X] * 3, batch_size=20, **wild).vae_.decoder.sigma.detach()
    assert len(sigma) and SIGMA_RANGE[0] <= sigma.min() and sigma.max() <= SIGMA_RANGE[1]


def test_fit_starts_anew(begun, rows):
    model = again(begun).fit(rows)
    pd.testing.assert_frame_equal(model.sample(50), streaming().fit(rows).sample(50))
    assert model._stream == {"n_rows": 300}


def test_weights_decay_once_per_pass_over_all_rows_seen(rows):
    """Without gradients, a call of as many rows as k - 1 before it lets a k-th of a share decay."""
    model = streaming(learning_rate=1e-12, weight_decay=0.3, average=False, batch_size=100)
    sizes = []
    for _ in range(3):
        model.partial_fit(rows)
        sizes.append(float(model.vae_.posterior.state_dict()[_first_matrix(model)].norm()))
    per_call = [(1 - 0.3 / (3 * k)) ** 3 for k in (2, 3)]
    np.testing.assert_allclose([sizes[1] / sizes[0], sizes[2] / sizes[1]], per_call, rtol=1e-5)


def _first_matrix(model):
    return next(n for n, p in model.vae_.posterior.named_parameters() if p.ndim == 2)


def test_ordered_codes_remain_smooth_as_long_as_few_rows_were_seen(rows):
    """See `Decoder.deviations`: what is zero at first stays so, and is learned later."""
    model = stream([rows, piece(300, 1)])
    assert _largest_deviation(model) == 0
    model.partial_fit(pd.concat([rows] * 15))
    assert _largest_deviation(model) > 0


def _largest_deviation(model):
    weights, sizes = dict(model.vae_.decoder.named_parameters()), []
    for name, which in model.vae_.decoder.deviations().items():
        sizes += [float(w.detach().abs().max()) for w in [weights[name][which]] if len(w)]
    return max(sizes)


def test_the_average_is_over_the_steps_of_all_calls(rows):
    """Shamir and Zhang 2013, equation 4, across calls of one step each."""
    model, average = streaming(batch_size=300), 0.0
    for step in range(1, 7):
        model.partial_fit(rows)
        live = model._stream["vae"]["live"]
        average = average + 5 / (step + 4) * (live - average)
    np.testing.assert_allclose(model._stream["vae"]["average"], average, atol=1e-6)
    kept = np.concatenate([p.detach().numpy().ravel() for p in model.vae_.parameters()])
    np.testing.assert_array_equal(kept, model._stream["vae"]["average"][: len(kept)])
    assert not np.allclose(live, average, atol=1e-4)


def test_auto_depends_on_all_rows_seen(monkeypatch):
    plans, learn = [], _streaming.stream.learn

    def noted(vae, weights, batch, plan, *args, **kwargs):
        plans.append(plan)
        return learn(vae, weights, batch, plan, *args, **kwargs)

    monkeypatch.setattr(_streaming.stream, "learn", noted)
    model = streaming()
    for seed in range(3):
        with pytest.warns(UserWarning) if seed else _nothing():
            model.partial_fit(piece(2400, seed))
    assert [plan.batch_size for plan in plans] == [2400 // 64, 4800 // 64, 7200 // 64]
    assert [plan.smooth for plan in plans] == [True, True, False]
    dropout = [plan.dropout for plan in plans]
    assert 0.5 > dropout[0] > dropout[1] > dropout[2] > 0


class _nothing:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False


def test_single_rows(begun, rows):
    model = again(begun)
    for i in range(3):
        model.partial_fit(rows.iloc[[i]])
    assert model.n_iter_ == 5 and model._stream["n_rows"] == 603
    assert np.isfinite(model.score_samples(rows)).all()


def test_conditional_can_be_switched(rows):
    model = stream([rows])
    with pytest.raises(ValueError, match="conditional=True"):
        model.sample(1, conditions={"city": "Rome"})
    model.set_params(conditional=True).partial_fit(rows)
    assert (model.sample(5, conditions={"city": "Rome"})["city"] == "Rome").all()
    assert model.set_params(conditional=False).partial_fit(rows).any_order_ is None


def test_numbers_beyond_the_first_rows_are_clipped(begun, rows):
    model, far = again(begun), rows.assign(x=rows["x"] * 100)
    with pytest.warns(UserWarning, match=r"\['x'\].*partial_fit clips"):
        model.partial_fit(far)
    assert model.sample(500)["x"].abs().max() <= rows["x"].abs().max() + 0.2


def test_unknown_categories_can_join_the_infrequent_ones(rows):
    codec = CategoryCodec(min_frequency=0.3, handle_unknown="infrequent_if_exist")
    encoder = TableEncoder([("city", codec, ["city"])])
    model = stream([rows], encoder=encoder, calibrate=True)
    paris = rows.assign(city="Paris")
    model.partial_fit(paris)
    drawn = shares(model.sample(10_000))
    assert drawn["Bonn"] + drawn["Oslo"] == pytest.approx(0.7, abs=0.06)
    assert drawn["Rome"] == pytest.approx(0.3, abs=0.06)


WRONG = {
    "category": (
        lambda t: t.assign(city="Paris"),
        {},
        r"'city'.*\['Paris'\].*handle_unknown='infrequent_if_exist'",
    ),
    "missing": (lambda t: t.assign(x=np.nan), {}, r"'x'.*missing value"),
    "column": (lambda t: t.drop(columns="x"), {}, r"'?x"),
    "dtype": (lambda t: t.assign(x="high"), {}, r"'x'"),
    "empty": (lambda t: t.iloc[:0], {}, "0 sample"),
    "divergence": (lambda t: t, {"learning_rate": 1e30}, "Lower learning_rate"),
    "structure": (lambda t: t, {"embedding_dim": 3}, "embedding_dim.*new estimator"),
    "parameter": (lambda t: t, {"batch_size": -1}, "batch_size"),
    "privacy": (lambda t: t, {"privacy": DifferentialPrivacy()}, "privacy=None"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_failed_call_leaves_the_estimator_as_it_was(begun, rows, name):
    change, params, message = WRONG[name]
    model = again(begun).set_params(**params)
    before = pickle.dumps(model)
    with pytest.raises((ValueError, TypeError), match=message):
        model.partial_fit(change(rows))
    assert pickle.dumps(model) == before
    model.set_params(**{key: getattr(begun, key) for key in params})
    pd.testing.assert_frame_equal(
        model.partial_fit(piece(100, 5)).sample(20),
        again(begun).partial_fit(piece(100, 5)).sample(20),
    )


def test_a_first_call_that_fails_leaves_an_unfitted_estimator(rows):
    model = streaming(learning_rate=1e30)
    before = vars(model).copy()
    with pytest.raises(ValueError, match="diverged"):
        model.partial_fit(rows)
    assert vars(model) == before


def test_an_interruption_leaves_the_estimator_as_it_was(begun, rows, monkeypatch):
    model = again(begun).set_params(calibrate=True)
    before = pickle.dumps(model)

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(_streaming.stream, "_calibrate_", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.partial_fit(rows)
    assert pickle.dumps(model) == before


def test_a_table_in_pieces_is_not_a_piece(rows):
    for pieces in ([rows, rows], iter([rows])):
        with pytest.raises(TypeError, match="one table at a time"):
            streaming().partial_fit(pieces)


@pytest.mark.slow
def test_a_private_fit_does_not_go_on(rows):
    promise = DifferentialPrivacy(epsilon=50, n_steps=5, batch_size=1000)
    model = small(privacy=promise, epochs=1, batch_size=1000).fit(people(400))
    with pytest.raises(ValueError, match="differential privacy"):
        model.set_params(privacy=None).partial_fit(people(400))
    with pytest.raises(ValueError, match="differential privacy"):
        small(privacy=DifferentialPrivacy()).partial_fit(rows)


@pytest.mark.parametrize("decoder", ["independent", "autoregressive"])
@pytest.mark.parametrize("numerical", ["modes", "quantile"])
def test_all_models_and_containers(decoder, numerical):
    X = np.random.default_rng(0).normal(size=(200, 3))
    params = {"decoder": decoder, "numerical": numerical, "average": False, "calibrate": True}
    model = stream([X, X], **params)
    assert isinstance(model.sample(5), np.ndarray) and model.n_iter_ == 2
