"""`TableEncoder.fit_encode(private=...)`: of the table itself, it learns names and dtypes."""

import numpy as np
import pandas as pd
import pytest

from sktvae import QuantileCodec, TableEncoder
from sktvae._encoding.summary import ColumnSummary


class Same:
    """Gives the same summaries, whatever the table holds, and counts what it was asked."""

    def __init__(self, summaries):
        self.summaries, self.asked = summaries, []

    def begin(self, learned, n_rows):
        self.asked.append([column.name for column, _ in learned])

    def refine(self, column, codec, series):
        return column

    def summarise(self, column, codec, plain):
        self.asked.append(column.name)
        return self.summaries[column.name]

    def finish(self):
        self.asked.append("finish")


def summary(values, counts, missing=0.0):
    values, counts = np.asarray(values), np.asarray(counts, dtype=float)
    return ColumnSummary(values, counts, missing, counts)


SUMMARIES = {
    "number": summary(np.arange(100.0), np.full(100, 5)),
    "text": summary(np.array(["a", "b"], dtype=object), [300, 200]),
    "category": summary(np.array(["u"], dtype=object), [500], 20.0),
}


def table(numbers, texts, categories, more=()):
    dtype = pd.CategoricalDtype(["u", *more])
    columns = {"number": numbers, "text": texts, "category": pd.Series(categories, dtype=dtype)}
    return pd.DataFrame(columns)


TABLES = {
    "usual": table([1.5, 20.0] * 50, ["a", "b"] * 50, ["u"] * 100),
    "unlike the summaries": table([-1e9, np.nan] * 50, ["c", None] * 50, ["v"] * 100, ["v", "w"]),
    "keys": table(np.arange(100.0), [f"key {i}" for i in range(100)], [None] * 100, "xyz"),
    "no value": table(np.full(100, np.nan), pd.Series([None] * 100, dtype=str), [None] * 100),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.filterwarnings("error")
def test_the_encoder_is_the_same_whatever_the_table_holds(name):
    private = Same(SUMMARIES)
    encoder = TableEncoder(random_state=0)
    encoded = encoder.fit_encode(TABLES[name], private=private)
    assert private.asked == [[*SUMMARIES], *SUMMARIES, "finish"]
    usual = TableEncoder(random_state=0)
    usual.fit_encode(TABLES["usual"], private=Same(SUMMARIES))
    pd.testing.assert_frame_equal(encoder.columns_, usual.columns_)
    assert encoder.schema_ == usual.schema_ and encoder.suggestions_ == []
    for one, other in zip(encoder.codecs_, usual.codecs_, strict=True):
        assert repr(one) == repr(other) and one.heads_ == other.heads_
    # What the summaries do not hold has the code of something else.
    assert encoded.n_samples == 100
    codes = [encoded.heads[i] for i in range(len(encoder.heads_))]
    back = encoder.decode(codes, 100)
    assert set(back["text"]) <= {"a", "b", "infrequent"}
    assert set(back["category"].dropna()) <= {"u", "infrequent"}
    assert back["number"].between(0, 99).all()


def test_columns_to_learn_leave_out_dropped_ones_and_do_not_look_at_values():
    encoder = TableEncoder([("no", "drop", ["text"]), ("own", QuantileCodec(n_bins=4), ["number"])])
    for X in TABLES.values():
        learned = encoder.columns_to_learn(X)
        assert [column.name for column, _ in learned] == ["number", "category"]
        assert learned[0][1].n_bins == 4
    assert not hasattr(encoder, "codecs_")


def test_a_private_fit_of_a_partial_table_says_which_cells_are_observed():
    encoded = TableEncoder().fit_encode(
        TABLES["unlike the summaries"], partial=True, private=Same(SUMMARIES)
    )
    assert encoded.observed.mean(axis=0).tolist() == [0.5, 0.5, 1.0]
