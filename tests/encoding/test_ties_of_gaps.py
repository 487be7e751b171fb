"""Ties of columns that have missing values: that one is missing is no reason not to follow."""

import numpy as np
import pandas as pd
import pytest

from sktvae import TableEncoder
from sktvae._encoding.partial import present_shares
from tests.conftest import small
from tests.encoding.test_ties import paid, share_equal


@pytest.fixture(scope="module")
def gaps():
    """Bills of which 60 % are missing, which is one more value for a synthesizer."""
    whole = paid(seed=4)
    return whole, whole.assign(bill=whole["bill"].where(whole.index % 5 > 2))


def test_a_tie_says_that_a_number_is_missing(gaps):
    whole, X = gaps
    encoder = TableEncoder().fit(X)
    column = list(encoder.get_feature_names_out()).index("payment__tie")
    codes, is_equal = encoder.transform(X)[:, column], X["bill"] == X["payment"]
    np.testing.assert_array_equal(codes, np.where(X["bill"].isna(), 2, is_equal))
    assert present_shares(encoder)[column].tolist() == [1, 1, 0]
    assert encoder.heads_[column].n_categories == 3
    without = TableEncoder().fit(whole)
    column = list(without.get_feature_names_out()).index("payment__tie")
    assert without.heads_[column].n_categories == 2 and column not in present_shares(without)


def test_missing_numbers_are_imputed_as_equal_as_often_as_known_ones(gaps):
    whole, X = gaps
    model = small(epochs=30, conditional=True, early_stopping=False).fit(X)
    filled, was_missing = model.impute(X, random_state=0), X["bill"].isna()
    assert abs(share_equal(filled[was_missing]) - share_equal(whole[was_missing])) < 0.05


@pytest.mark.parametrize("names", [["first"], ["second"], ["first", "second"]])
def test_missing_numbers_of_near_columns_come_back(names):
    rng = np.random.default_rng(0)
    first = np.round(rng.lognormal(8, 1, 2000), 3)
    X = pd.DataFrame({"first": first, "second": first * rng.uniform(1.0001, 1.001, 2000)})
    X.loc[X.index % 7 < 3, names] = np.nan
    encoder = TableEncoder().fit(X)
    assert encoder.ties_ == {"second": ["about first"]}
    Z = encoder.transform(X)
    pd.testing.assert_frame_equal(encoder.inverse_transform(Z).isna(), X.isna())
    tie = list(encoder.get_feature_names_out()).index("second__tie")
    last = encoder.heads_[tie].n_categories - 1
    np.testing.assert_array_equal(Z[:, tie] == last, X.isna().any(axis=1))
