import numpy as np
import pytest
import torch

from sktvae._heads import Categorical, Gaussian, Uniform
from sktvae._model.layout import Batch, Layout
from tests.model.conftest import HEADS, encoded_rows


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int8])
def test_columns_make_the_round_trip(dtype):
    layout, encoded = Layout(HEADS), encoded_rows(50).astype(dtype)
    batch = layout.to_batch(list(encoded.T))
    columns = layout.to_columns(batch, torch.Generator().manual_seed(0))
    assert [c.dtype.name for c in columns] == ["int16", "float32"] + ["int16"] + ["float32"] * 2 + [
        "int16"
    ]
    for j in layout.categorical + layout.gaussian:
        np.testing.assert_array_equal(columns[j], encoded[:, j].astype(columns[j].dtype))
    assert ((columns[3] >= 0) & (columns[3] < 1)).all() and columns[3].std() > 0.1


def test_columns_may_have_different_dtypes():
    layout = Layout([Categorical(200), Gaussian(), Categorical(3)])
    columns = [np.array([199, 0], np.uint8), np.array([0.5, np.nan]), np.array([2.0, 1.0])]
    batch = layout.to_batch(columns)
    assert batch.codes.tolist() == [[199, 202], [0, 201]]
    np.testing.assert_array_equal(batch.values, [[0.5], [np.nan]])


@pytest.mark.parametrize(
    ("sizes", "dtype"), [((32_768,), "int16"), ((20_000, 20_000), "int32"), ((40_000,), "int32")]
)
def test_codes_rest_in_the_smallest_dtype_that_holds_them(sizes, dtype):
    layout = Layout([Categorical(n) for n in sizes])
    columns = [np.array([0, n - 1]) for n in sizes]
    batch = layout.to_batch(columns)
    assert batch.codes.dtype == layout.code_dtype == getattr(torch, dtype)
    assert batch.codes[1].tolist() == (np.cumsum(sizes) - 1).tolist()
    back = layout.to_columns(batch, torch.Generator())
    np.testing.assert_array_equal(back, columns)


def test_slices_are_views_and_selections_are_copies():
    recorded = torch.eye(5, 2, dtype=torch.bool)
    batch = Batch(torch.arange(10).reshape(5, 2), torch.zeros(5, 1), torch.arange(5.0), recorded)
    part = batch.rows(slice(1, 3))
    assert all(
        a.data_ptr() == b[1].data_ptr() and len(a) == 2 for a, b in zip(part, batch, strict=True)
    )
    taken = batch.take(torch.tensor([4, 0]))
    assert taken.codes.tolist() == [[8, 9], [0, 1]] and taken.weight.tolist() == [4, 0]
    assert taken.recorded.tolist() == [[False, False], [True, False]]
    assert batch._replace(weight=None).rows(slice(2)).weight is None
    assert batch.to("cpu").n_rows == 5


def test_variables_are_heads_with_those_that_refine_them():
    layout = Layout([Categorical(3), Gaussian(refines=True), Uniform(), Categorical(2), Gaussian()])
    assert layout.variables == [[0, 1], [3], [4]]
    assert layout.span(3) == slice(3, 5) and layout.slot == {0: 0, 3: 1, 1: 0, 4: 1}
    assert [layout.n_categories(j) for j in range(5)] == [3, 0, 0, 2, 0]
