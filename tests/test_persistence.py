import copy
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io

from sktvae import TableEncoder, TVAESynthesizer
from tests.conftest import people, small


@pytest.mark.parametrize(
    "copied", [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy], ids=["pickle", "deepcopy"]
)
def test_copies_sample_the_same(fitted, table, copied):
    other = copied(fitted)
    pd.testing.assert_frame_equal(other.sample(30), fitted.sample(30))
    np.testing.assert_array_equal(other.score_samples(table), fitted.score_samples(table))
    assert copied(TVAESynthesizer(epochs=7)).get_params()["epochs"] == 7


def test_a_copy_shares_no_weights(fitted, table):
    other = copy.deepcopy(fitted)
    other.set_params(warm_start=True).fit(table)
    assert not other.sample(30).equals(fitted.sample(30))


def test_a_fresh_process_samples_the_same(fitted, tmp_path):
    path = tmp_path / "model.joblib"
    joblib.dump(fitted, path)
    code = (
        f"import joblib; m = joblib.load({str(path)!r});"
        f"m.sample(30, random_state=4).to_pickle({str(tmp_path / 'rows.pkl')!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    rows = pd.read_pickle(tmp_path / "rows.pkl")
    pd.testing.assert_frame_equal(rows, fitted.sample(30, random_state=4))


def test_no_value_of_a_single_row_is_kept_by_modes():
    """Neither as eight bytes nor as text, for any value of a column of distinct numbers."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"x": rng.normal(size=300), "n": rng.permutation(10**6)[:300], "k": 1})
    saved = pickle.dumps(small(numerical="modes", epochs=1).fit(X), protocol=4)
    for value in X["x"]:
        for kept in (np.float64(value), np.float32(value)):
            assert kept.tobytes() not in saved and kept.byteswap().tobytes() not in saved
    for value in X["n"]:
        assert np.float64(value).tobytes() not in saved
        assert np.float64(value).byteswap().tobytes() not in saved


def test_the_saved_model_does_not_grow_with_the_table():
    sizes = [
        len(pickle.dumps(small(numerical=numerical, epochs=1).fit(people(n))))
        for numerical in ("quantile", "modes")
        for n in (5000, 20_000)
    ]
    assert sizes[1] < 1.5 * sizes[0] and sizes[3] < 1.5 * sizes[2]


def test_another_version_is_warned_of(fitted):
    state = fitted.__getstate__()
    state["_sktvae_version"] = "0.0.1"
    with pytest.warns(
        UserWarning, match=r"saved by sktvae 0.0.1 .* pip install|saved by sktvae 0.0.1"
    ):
        TVAESynthesizer().__setstate__(state)
    assert state["_sktvae_version"] == "0.0.1"


def test_an_encoder_of_another_version_is_warned_of(table):
    state = TableEncoder().fit(table).__getstate__()
    state["_sktvae_version"] = "0.0.1"
    with pytest.warns(UserWarning, match=r"This TableEncoder was saved by sktvae 0.0.1") as caught:
        TableEncoder().__setstate__(state)
    assert caught[0].filename == __file__


def test_encoder_alone(table):
    before = TableEncoder(min_samples=1).fit(table)
    after = pickle.loads(pickle.dumps(before))
    Z = before.transform(table)
    np.testing.assert_array_equal(after.transform(table), Z)
    pd.testing.assert_frame_equal(after.inverse_transform(Z), table)


def test_skops(fitted, tmp_path):
    path = tmp_path / "model.skops"
    skops.io.dump(fitted, path)
    unknown = skops.io.get_untrusted_types(file=path)
    other = skops.io.load(path, trusted=unknown)
    pd.testing.assert_frame_equal(other.sample(30), fitted.sample(30))
