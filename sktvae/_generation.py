"""Tables, latents and scores from a fitted encoder and a fitted network, in blocks of rows.

How the network draws a row is in `sktvae._model.drawing`. Blocks go to threads, see
`sktvae._threads`.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterable, Iterator
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from sktvae._encoding.decoding import parts_to_decode
from sktvae._encoding.encoder import EncodedTable, TableEncoder
from sktvae._model.decoder import CACHED_ROWS
from sktvae._model.drawing import draw
from sktvae._model.layout import Batch, row_blocks
from sktvae._model.vae import VAE
from sktvae._threads import in_threads

# Draws of z per row in `score_rows`, the same for every row.
_SCORE_DRAWS = 8
# Rows that are drawn together, from a seed of their own, and the numbers in the widest tensor of
# such a block. The rows that a seed gives depend on both.
_DRAWN_ROWS, _DRAWN_NUMBERS = CACHED_ROWS, 4_000_000
# The fewest rows that are drawn at a time for tables of fewer rows.
_FEWEST_ROWS = 16 * _DRAWN_ROWS
# The most rows that `draw_codes` draws at a time.
_MOST_DRAWN_ROWS = 32 * _DRAWN_ROWS
# Rows of a table that go to a thread together. Products with fewer rows than the second number are
# computed in other ways, and would differ in their last bits from those with more.
_BLOCK_ROWS, _LEAST_BLOCK = 1024, 16
# By how much blocks are larger on other devices than CPUs.
_DEVICE_FACTOR = 64


def draw_table(
    encoder: TableEncoder,
    vae: VAE,
    n_rows: int,
    generator: Generator,
    z: Tensor | None = None,
) -> Any:
    """Draw rows.

    Parameters
    ----------
    encoder : TableEncoder
    vae : VAE
        It is copied to the device of the generator.
    n_rows : int
    generator : torch.Generator
        Its device and its seed are used.
    z : tensor of shape (n_rows, E), default=None
        On the device of the generator. None draws from the prior.

    Returns
    -------
    table : DataFrame, ndarray, ...
        With the container, columns and dtypes that `encoder` saw in `fit`.
    """
    heads = _Drawn(vae, n_rows, generator, z).heads(slice(0, n_rows))
    return decode_table(encoder, heads, n_rows, 0)


def draw_tables(
    encoder: TableEncoder, vae: VAE, n_rows: int, batch_size: int, generator: Generator
) -> Iterator[Any]:
    """Draw the rows of `draw_table` in tables of at most `batch_size` rows each.

    No rows are one empty table.
    """
    if not n_rows:
        yield draw_table(encoder, vae, 0, generator)
    drawn = _Drawn(vae, n_rows, generator)
    # Small tables are cut from many rows, as rows are drawn in blocks.
    at_once = batch_size * -(-_FEWEST_ROWS // batch_size)
    for rows in row_blocks(n_rows, at_once):
        heads = drawn.heads(rows)
        for part in row_blocks(rows.stop - rows.start, batch_size):
            own = [head[part] for head in heads]
            yield decode_table(encoder, own, part.stop - part.start, rows.start + part.start)


def draw_codes(vae: VAE, generator: Generator) -> Iterator[tuple[list[np.ndarray], int]]:
    """Draw rows in codes, without end: a few at first, then more and more at a time.

    Parameters
    ----------
    vae : VAE
    generator : torch.Generator
        See `draw_table`.

    Yields
    ------
    heads : list of ndarray of shape (n_rows,)
        An array for each head.
    n_rows : int
    """
    drawn = _Drawn(vae, sys.maxsize, generator)
    first, n_blocks = 0, -(-_DRAWN_ROWS // drawn.size)
    while True:
        n_rows = n_blocks * drawn.size
        yield drawn.heads(slice(first, first + n_rows)), n_rows
        first += n_rows
        if n_rows < _MOST_DRAWN_ROWS:
            n_blocks *= 2


def decode_tables(
    encoder: TableEncoder, pieces: Iterable[tuple[list[np.ndarray], int]], batch_size: int
) -> Iterator[Any]:
    """Decode rows in codes to tables of `batch_size` rows each, but for the last one.

    Parameters
    ----------
    encoder : TableEncoder
    pieces : iterable of tuple (heads, n_rows)
        As those of `draw_codes`.
    batch_size : int

    Yields
    ------
    table : DataFrame, ndarray, ...
        A single one without rows if there are none.
    """
    first, n_waiting, waiting = 0, 0, []
    for heads, n_rows in pieces:
        waiting.append(heads)
        n_waiting += n_rows
        n_whole = n_waiting - n_waiting % batch_size
        if n_whole:
            joined = [np.concatenate(parts) for parts in zip(*waiting, strict=True)]
            for rows in row_blocks(n_whole, batch_size):
                own = [head[rows] for head in joined]
                yield decode_table(encoder, own, batch_size, first + rows.start)
            waiting = [[head[n_whole:] for head in joined]]
            first, n_waiting = first + n_whole, n_waiting - n_whole
    if n_waiting or not first:
        waiting = waiting or [[np.empty(0) for _ in encoder.heads_]]
        joined = [np.concatenate(parts) for parts in zip(*waiting, strict=True)]
        yield decode_table(encoder, joined, n_waiting, first)


def check_batch_size(batch_size: Any) -> int:
    """Return the number of rows of a table; raise ValueError if it is not an integer >= 1."""
    is_integer = isinstance(batch_size, Integral) and not isinstance(batch_size, bool)
    if not is_integer or batch_size < 1:
        raise ValueError(f"batch_size must be an integer >= 1, got {batch_size!r}.")
    return int(batch_size)


def decode_table(
    encoder: TableEncoder, heads: list[np.ndarray], n_rows: int, first_row: int
) -> Any:
    """Return a table of rows in codes, those of a larger one from `first_row` on."""
    parts = parts_to_decode(encoder.fitted, heads, n_rows, first_row=first_row)
    columns: dict = {}
    for part in in_threads(lambda part: part(), parts, torch.device("cpu")):
        columns |= part
    return encoder.schema_.assemble(columns)


class _Drawn:
    """Rows of a sample, of which any can be drawn, in any order and by any number of threads.

    Parameters
    ----------
    vae : VAE
    n_rows : int
        The rows of the whole sample.
    generator : torch.Generator
    z : tensor of shape (n_rows, E), default=None

    Attributes
    ----------
    size : int
        The number of rows that are drawn together.
    """

    def __init__(self, vae: VAE, n_rows: int, generator: Generator, z: Tensor | None = None):
        self.device, self._seed = generator.device, generator.initial_seed()
        self._n_rows, self._z = n_rows, z
        self._vae = _on(vae, self.device, torch.float32)
        self._layers = self._vae.decoder.drawing_layers()
        factor = 1 if self.device.type == "cpu" else _DEVICE_FACTOR
        numbers = factor * _DRAWN_NUMBERS // self._vae.decoder.numbers_per_drawn_row
        self.size = max(1, min(factor * _DRAWN_ROWS, numbers))

    def heads(self, rows: slice) -> list[np.ndarray]:
        """Return the codes of some rows, an array for each head."""
        if rows.start == rows.stop:
            return [np.empty(0) for _ in self._vae.layout.heads]
        first, last = rows.start // self.size, (rows.stop - 1) // self.size
        blocks = in_threads(self._block, range(first, last + 1), self.device)
        start = first * self.size
        part = slice(rows.start - start, rows.stop - start)
        return [np.concatenate(parts)[part] for parts in zip(*blocks, strict=True)]

    @torch.inference_mode()
    def _block(self, k: int) -> list[np.ndarray]:
        rows = slice(k * self.size, min((k + 1) * self.size, self._n_rows))
        # torch's generator keeps 32 bits of a seed. The factor is odd, so no two blocks share one.
        generator = Generator(self.device).manual_seed((self._seed + k * 0x9E3779B1) % 2**32)
        if self._z is None:
            shape = (rows.stop - rows.start, self._vae.embedding_dim)
            z = torch.randn(shape, generator=generator, device=self.device)
        else:
            z = self._z[rows]
        batch = draw(self._vae.decoder, z, generator, layers=self._layers)
        return self._vae.layout.to_columns(batch, generator)


def posterior_means(vae: VAE, encoded: EncodedTable, device: torch.device) -> np.ndarray:
    """Return the posterior mean of z of each row, of shape (n_samples, embedding_dim).

    It is computed in float64, so that rows do not affect each other.
    """
    device = _with_float64(device)
    vae = _on(vae, device, torch.float64)
    return _by_blocks(vae, encoded, device, vae.posterior_mean)


def score_rows(vae: VAE, encoded: EncodedTable, device: torch.device) -> np.ndarray:
    """Return a lower bound of the log-likelihood of each row, of shape (n_samples,).

    The network computes in float32, and the terms of a row are summed up in float64.

    Parameters
    ----------
    vae : VAE
    encoded : EncodedTable
        With its log-density.
    device : torch.device
    """
    device = _with_float64(device)
    vae = _on(vae, device, torch.float32)
    noise = _score_noise(vae.embedding_dim).to(device, torch.float32)
    bound = _by_blocks(vae, encoded, device, lambda batch: vae.log_prob_bound(batch, noise))
    return bound + encoded.log_density


def _score_noise(embedding_dim: int) -> Tensor:
    """Return standard normal noise of shape (8, embedding_dim), the same in every call.

    The noise is shared by all rows, so its error does not average out over rows. A scrambled Sobol
    sequence (Owen 1998) covers the normal distribution evenly: eight of its points give a mean
    score that varies less with the seed than that of sixteen independent draws (docs/model.md).
    """
    sobol = torch.quasirandom.SobolEngine(embedding_dim, scramble=True, seed=0)
    uniform = sobol.draw(_SCORE_DRAWS, dtype=torch.float64)
    return torch.special.ndtri(uniform.clamp(1e-9, 1 - 1e-9))


def _by_blocks(
    vae: VAE, encoded: EncodedTable, device: torch.device, function: Callable[[Batch], Tensor]
) -> np.ndarray:
    """Apply a function of a network to blocks of rows."""

    def of_block(rows: slice) -> np.ndarray:
        n_rows = rows.stop - rows.start
        repeated = max(n_rows, _LEAST_BLOCK)
        heads = [np.resize(head[rows], repeated) for head in encoded.heads]
        batch = vae.layout.to_batch(heads).to(device)
        return function(batch).cpu().numpy()[:n_rows]

    factor = 1 if device.type == "cpu" else _DEVICE_FACTOR
    blocks = row_blocks(encoded.n_samples, factor * _BLOCK_ROWS)
    return np.concatenate(in_threads(of_block, blocks, device))


def _with_float64(device: torch.device) -> torch.device:
    """Return a device; a CPU in place of one that has no float64."""
    return torch.device("cpu") if device.type == "mps" else device


def _on(vae: VAE, device: torch.device, dtype: torch.dtype) -> VAE:
    """Return the network on a device; the fitted one stays where it is."""
    if device.type == "cpu" and dtype == torch.float32:
        return vae
    return copy.deepcopy(vae).to(device, dtype)
