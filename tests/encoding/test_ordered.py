"""One number per column of rows in codes."""

import numpy as np
import pandas as pd
import pytest

from sktvae import KeyCodec, LessEqual, ModeCodec, TableEncoder
from sktvae._encoding.ordered import ordered_codes
from tests.conftest import people
from tests.encoding.test_ties import paid

NO_KEY = {"codecs": [("key", "drop", ["id"])]}


def codes_of(encoder, X):
    encoded = encoder.encode(X)
    return ordered_codes(encoder.fitted, encoded.heads, encoded.n_samples)


def random_heads(encoder, n, seed=0):
    """Codes of which each is drawn on its own, so that ties have codes that do not hold."""
    rng = np.random.default_rng(seed)
    return [
        rng.integers(0, h.n_categories, n) if hasattr(h, "n_categories") else rng.random(n)
        for h in encoder.heads_
    ]


def test_numbers_are_in_order_and_missing_ones_are_nan():
    X = people(1000)[["weight", "seen"]]
    X.loc[::7, "weight"] = np.nan
    codes = codes_of(TableEncoder().fit(X), X)
    assert codes.shape == (1000, 2) and codes.dtype == np.float32
    for name, code in zip(X, codes.T, strict=True):
        np.testing.assert_array_equal(np.isnan(code), X[name].isna())
        known = ~np.isnan(code)
        assert (np.diff(code[known][np.argsort(X[name][known], kind="stable")]) >= 0).all()
        assert len(np.unique(code[known])) > 10


def test_categories_are_told_apart():
    X = people(1000)[["city", "smoker"]]
    codes = codes_of(TableEncoder().fit(X), X)
    for name, code in zip(X, codes.T, strict=True):
        pairs = pd.DataFrame({"value": X[name], "code": code}).drop_duplicates()
        assert len(pairs) == X[name].nunique() == pairs["code"].nunique()


def test_none_tells_more_than_a_bin():
    """A threshold between two of them is never the value of a row."""
    X = people(1000)
    codes = codes_of(TableEncoder().fit(X), X)
    assert codes.shape[1] == X.shape[1]
    assert (codes == np.round(codes)).all()


def test_rows_that_decode_to_the_same_table_have_the_same_numbers():
    X = paid()
    encoder = TableEncoder().fit(X)
    assert encoder.ties_
    heads = random_heads(encoder, 3000)
    decoded = encoder.decode(heads, 3000)
    codes = ordered_codes(encoder.fitted, heads, 3000)
    again = codes_of(encoder, decoded)
    assert ((codes == again) | (np.isnan(codes) & np.isnan(again))).mean() > 0.999
    # A code of the tie that was drawn need not hold.
    tie = encoder.fitted.places[2].tie
    assert (heads[tie] != codes[:, tie]).any()


@pytest.mark.parametrize(
    ("settings", "n_codes"),
    [
        ({"codecs": [("key", KeyCodec(), ["id"]), ("none", "drop", ["seen"])]}, 6),
        ({"numerical": ModeCodec(random_state=0), **NO_KEY}, 11),
        ({"relations": [LessEqual("dose", "weight")], **NO_KEY}, 7),
    ],
    ids=["keys and dropped columns", "modes", "relations"],
)
def test_other_encodings(settings, n_codes):
    X = people(500).assign(id=np.arange(500))
    encoder = TableEncoder(**settings, random_state=0).fit(X)
    codes = codes_of(encoder, X)
    assert codes.shape == (500, n_codes)
