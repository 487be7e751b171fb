"""The autoregressive decoder p(x | z): each variable given z and those before it, in any order.

Further notation in the shape comments: V variables, W the length of a state (`state_dim`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from sktvae._model.decoder import CACHED_ROWS, Decoder, Walk
from sktvae._model.head_layers import CategoricalOutput, HeadLayers
from sktvae._model.layers import (
    N_FEATURES,
    Dropout,
    SharedLayers,
    add_sums_before,
    linear,
    position_features,
)
from sktvae._model.layout import Batch, Layout, row_blocks
from sktvae._model.likelihoods import IGNORED, gaussian_log_prob, log_prob_of_code

# A batch that is learned in random orders is divided into groups of rows, one order for each: many
# orders in a batch make a gradient that depends little on chance.
_MOST_ORDERS, _FEWEST_ROWS_PER_ORDER = 32, 8
# With more variables, what is visible is summed up and not multiplied by a matrix of zeros and
# ones, whose products grow with the square of their number.
_MOST_IN_PRODUCTS = 256


class _Rows(NamedTuple):
    """A batch with one row of memory per head, in the dtypes that the layers use."""

    codes: Tensor  # int64 (C, B), among the categories of all heads
    local: Tensor  # int64 (C, B), from 0 on in each head
    values: Tensor  # (G, B)
    recorded: Tensor | None  # bool (V, B)


class DrawingLayers(NamedTuple):
    """What walks need that does not depend on the rows.

    Attributes
    ----------
    of_head : dict of int to tuple of tensor
        See `HeadLayers.each`.
    shared : SharedLayers
        See `AutoregressiveDecoder.shared`.
    tables : list of tuple
        See `AutoregressiveDecoder.tables`.
    biases : tuple of tensor of shape (1, W)
        Of each variable.
    """

    of_head: dict
    shared: SharedLayers
    tables: list
    biases: tuple[Tensor, ...]


class AutoregressiveDecoder(Decoder):
    """p(x | z) in which every variable depends on z and on the variables before it.

    The state of variable j is a sum of embeddings::

        h_j = c_j + W z + sum over variables i before j of E_i[x_i]

    It is normalised and passed through the residual blocks that all variables share, if any, and
    then through a hidden and an output layer of the variable's own. For any order of the
    variables, the sums of all of them are one product with a matrix of zeros and ones, and the
    layers of all heads are batched products, so that training does not loop over the variables. A
    variable that is not visible adds nothing to the sum, so the state shows which ones are.

    A head that refines another (a fine bin, the position in a mode) also depends on that one. The
    embeddings of ordered codes start as a smooth function of their position
    (`position_features`) and learn to differ from it.

    Parameters
    ----------
    layout : Layout
    embedding_dim : int
        With 0 there is no z: the decoder is a distribution of rows.
    decompress_dims : sequence of int
        Length of the state; hidden units of each shared residual block, if any; hidden units of
        each head. A single number is both the first and the last.
    generator : torch.Generator
        For the initial weights.
    """

    def __init__(
        self,
        layout: Layout,
        embedding_dim: int,
        decompress_dims: Sequence[int],
        generator: Generator,
    ):
        super().__init__()
        state_dim, *block_dims = decompress_dims
        hidden_dim = block_dims.pop() if block_dims else state_dim
        self.layout, self.state_dim, self.hidden_dim = layout, state_dim, hidden_dim
        # Variables with refining heads come first, then those with many categories, so that heads
        # that are computed together are adjacent.
        self.variables = sorted(
            layout.variables, key=lambda heads: (-len(heads), -layout.n_categories(heads[0]))
        )
        normal = lambda size, *shape: nn.Parameter(size * torch.randn(shape, generator=generator))
        n_variables, n_values = len(self.variables), len(layout.gaussian)
        self.from_z = linear(embedding_dim, state_dim, generator)
        self.variable_bias = normal(0.3, n_variables, 1, state_dim)
        # Without z, what is visible is all that a state holds. Categories that are far apart from
        # the beginning need fewer steps, and so fewer rows, until they tell about other columns.
        size = 0.3 if embedding_dim else 1.0
        self.embedding = normal(size, layout.n_codes, state_dim)
        self.value_slope = normal(0.3, n_values, 1, state_dim)
        self.value_bias = normal(0.3, n_values, 1, state_dim)
        is_ordered = [layout.n_ordered(heads[0]) > 0 for heads in self.variables]
        self.slope = normal(0.2, sum(is_ordered), N_FEATURES, state_dim)
        for j in layout.categorical:
            self.embedding.data[layout.span(j)][: layout.n_ordered(j)] = 0

        self.norm = nn.LayerNorm(state_dim)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                linear(state_dim, n, generator),
                nn.ReLU(inplace=True),
                linear(n, state_dim, generator),
            )
            for n in block_dims
        )
        self.block_norms = nn.ModuleList(nn.LayerNorm(state_dim) for _ in block_dims)
        # Level d has head d of each variable that has so many.
        depth = max(map(len, self.variables))
        levels = [[heads[d] for heads in self.variables if len(heads) > d] for d in range(depth)]
        self.levels = nn.ModuleList(
            HeadLayers(layout, heads, state_dim, hidden_dim, generator) for heads in levels
        )
        self.refined = normal(0.1, layout.n_codes if depth > 1 else 0, hidden_dim)
        self.category_bias = nn.Parameter(torch.zeros(layout.n_codes))
        self.sigma = nn.Parameter(torch.full((n_values,), 0.1))
        self._register_indices([i for i in range(n_variables) if is_ordered[i]])

    def _register_indices(self, ordered: list[int]) -> None:
        """Buffers that say which variable, code or value is meant where."""
        layout, variables = self.layout, self.variables
        owner = {j: i for i, heads in enumerate(variables) for j in heads}
        first = [variables[i][0] for i in ordered]
        fine = [
            next((j for j in variables[i][1:] if layout.is_categorical(j)), None) for i in ordered
        ]
        n_slots = len(layout.categorical)
        indices = {
            "offsets": layout.offsets,
            "table_order": sorted(range(len(variables)), key=lambda i: variables[i][0]),
            "code_owner": [owner[j] for j in layout.categorical],  # the variable of each head
            "value_owner": [owner[j] for j in layout.gaussian],
            "place": [layout.variables.index(heads) for heads in variables],  # in the layout
            "ordered": ordered,
            "coarse_slot": [layout.slot[j] for j in first],
            "fine_slot": [n_slots if j is None else layout.slot[j] for j in fine],
            "n_coarse": [[layout.n_ordered(j)] for j in first],
            "n_fine": [[1 if j is None else layout.n_categories(j)] for j in fine],
        }
        for depth in range(1, len(self.levels)):
            refining = [heads for heads in variables if len(heads) > depth]
            slots = [[layout.slot[heads[d]] for heads in refining] for d in range(depth)]
            indices[f"refined_slots_{depth}"] = slots
        for name, numbers in indices.items():
            self.register_buffer(name, torch.tensor(numbers, dtype=torch.long), persistent=False)

    @property
    def numbers_per_row(self) -> int:
        n_side_by_side = max(len(self.variables), len(self.layout.categorical))
        return n_side_by_side * max(self.state_dim, self.hidden_dim)

    @property
    def numbers_per_drawn_row(self) -> int:
        return max(self.state_dim, self.hidden_dim, *self.layout.sizes)

    def random_order(self, generator: Generator) -> Tensor:
        return torch.randperm(len(self.variables), generator=generator)

    def random_orders(self, n_rows: int, generator: Generator) -> Tensor:
        n_orders = max(1, min(n_rows // _FEWEST_ROWS_PER_ORDER, _MOST_ORDERS))
        return torch.rand(n_orders, len(self.variables), generator=generator).argsort(dim=1)

    def log_prob(
        self,
        z: Tensor,
        batch: Batch,
        order: Tensor | None = None,
        dropout: Dropout | None = None,
    ) -> Tensor:
        rows = self._rows(batch, z.dtype)
        state = self.add_visible(self.from_z(z) + self.variable_bias, rows, order)
        return self._log_prob_of(state, rows, self._level_inputs(rows), dropout)

    @torch.no_grad()
    def log_prob_draws(
        self, z: Tensor, batch: Batch, layers: DrawingLayers | None = None
    ) -> Tensor:
        # A walk that is given all columns: one variable at a time, whose tensors are small enough
        # to stay in the cache, where the states of all of them at once would not be.
        n_draws, n_rows, _ = z.shape
        rows = self._rows(batch, z.dtype)
        walk = self.walk(z.flatten(0, 1), layers=layers)
        total = z.new_zeros(n_draws, n_rows, dtype=torch.float64)
        for j in walk.heads:
            slot, out = self.layout.slot[j], walk.output(j).unflatten(0, (n_draws, n_rows))
            if self.layout.is_categorical(j):
                known = rows.local[slot].expand(n_draws, -1)
                total += log_prob_of_code(out, known)
            else:
                known = rows.values[slot].expand(n_draws, -1)
                total += gaussian_log_prob(known, out, self.sigma[slot])
            walk.take(j, known.flatten())
        return total

    def _rows(self, batch: Batch, dtype: torch.dtype) -> _Rows:
        codes = batch.codes.long().t()
        values = batch.values.t().to(dtype)
        recorded = batch.recorded
        if recorded is not None:
            recorded = recorded.t()[self.place]
            values = values.masked_fill(~recorded[self.value_owner], math.nan)
        return _Rows(codes, codes - self.offsets[:, None], values, recorded)

    def add_visible(self, state: Tensor, rows: _Rows, order: Tensor | None = None) -> Tensor:
        """Add to the state of each variable the embeddings of those before it: (V, B, W).

        With several orders (O, V), the rows are divided into as many groups of consecutive rows.
        """
        order = self.table_order if order is None else order
        inputs = list(self._inputs(rows))
        if order.ndim == 1:
            return self._add_in_order(state, inputs, order)
        n_rows = state.shape[1]
        size = -(-n_rows // len(order))
        n_full = n_rows // size
        parts = [(slice(0, n_full * size), order[:n_full])]
        if n_full * size < n_rows:
            parts.append((slice(n_full * size, n_rows), order[n_full : n_full + 1]))
        sums = [
            self._add_in_order(
                state[:, rows], [(owner, each[:, rows]) for owner, each in inputs], orders
            )
            for rows, orders in parts
        ]
        return sums[0] if len(sums) == 1 else torch.cat(sums, dim=1)

    def _add_in_order(
        self, state: Tensor, inputs: list[tuple[Tensor, Tensor]], order: Tensor
    ) -> Tensor:
        """One order for all rows, (V,), or one for each of O groups of equal size, (O, V)."""
        rank = torch.empty_like(order)
        place = torch.arange(order.shape[-1], device=order.device)
        rank.scatter_(-1, order, place.expand_as(order))
        n_variables, n_rows, width = state.shape
        if n_variables > _MOST_IN_PRODUCTS:
            return add_sums_before(state, inputs, rank)
        # Whether each variable sees each input that belongs to `owner`, (O, V, inputs).
        visible = lambda owner: (rank[..., None, owner] < rank[..., None]).to(state.dtype)
        if order.ndim == 1:
            state = state.flatten(1)
            for owner, embedded in inputs:
                state = torch.addmm(state, visible(owner), embedded.flatten(1))
            return state.view(n_variables, n_rows, width)
        grouped = lambda x: x.reshape(len(x), len(order), -1).transpose(0, 1)
        total = grouped(state)
        for owner, embedded in inputs:
            total = torch.baddbmm(total, visible(owner), grouped(embedded))
        return total.transpose(0, 1).reshape(n_variables, n_rows, width)

    def _inputs(self, rows: _Rows) -> Iterator[tuple[Tensor, Tensor]]:
        """What variables add to the states after them, (inputs, B, W), and whose it is."""
        hide = lambda embedded, owner: (
            embedded if rows.recorded is None else embedded * rows.recorded[owner][..., None]
        )
        yield self.code_owner, hide(F.embedding(rows.codes, self.embedding), self.code_owner)
        if len(self.ordered):
            local = F.pad(rows.local, (0, 0, 0, 1))  # 0 where there is no fine bin
            features = self.features(local[self.coarse_slot], local[self.fine_slot])
            yield self.ordered, hide(torch.bmm(features, self.slope), self.ordered)
        if len(rows.values):
            yield self.value_owner, self.embed_values(rows.values[..., None])

    def embed_values(self, values: Tensor, which: int | slice = slice(None)) -> Tensor:
        """What values of Gaussian heads add to a state: (..., B, 1) -> (..., B, W)."""
        embedded = torch.nan_to_num(values) * self.value_slope[which]
        return embedded + ~torch.isnan(values) * self.value_bias[which]

    def features(self, coarse: Tensor, fine: Tensor, which: int | slice = slice(None)) -> Tensor:
        """Features of the position of ordered variables, from their codes: (..., N_FEATURES).

        The position is that of the fine bin in the coarse one, where there is a fine bin. A code
        outside the order, such as that of a missing value, has features of zero.
        """
        n_coarse, n_fine = self.n_coarse[which], self.n_fine[which]
        position = (coarse + (fine + 0.5) / n_fine) / n_coarse
        features = position_features(position.to(self.slope.dtype))
        return features * (coarse < n_coarse)[..., None]

    def shared(self, state: Tensor) -> Tensor:
        """The layers that all variables share."""
        state = self.norm(state)
        for block, norm in zip(self.blocks, self.block_norms, strict=True):
            state = norm(state + block(state))
        return state

    def _level_inputs(self, rows: _Rows) -> list[tuple[list, Tensor | None]]:
        """For each level, its output layers and what its heads know of those that they refine."""
        padded_bias = self.padded_bias()
        return [
            (level.output_layers(padded_bias), self._refinement(rows.codes, d) if d else None)
            for d, level in enumerate(self.levels)
        ]

    def _log_prob_of(
        self, state: Tensor, rows: _Rows, inputs: list, dropout: Dropout | None = None
    ) -> Tensor:
        """log p(x | z), (B,), from the states of all variables, (V, B, W)."""
        state = self.shared(state)
        total, target = 0, rows.local
        if rows.recorded is not None:
            target = target.masked_fill(~rows.recorded[self.code_owner], IGNORED)
        for level, (layers, refined) in zip(self.levels, inputs, strict=True):
            n_heads = len(level.heads)
            hidden = level.hidden(state[:n_heads] if n_heads < len(state) else state, refined)
            if dropout is not None:
                hidden = dropout(hidden)
            total = total + level.log_prob(hidden, layers, self.sigma, target, rows.values)
        return total

    def deviations(self) -> dict[str, Tensor]:
        is_ordered = torch.zeros(len(self.embedding), 1, dtype=torch.bool)
        for j in self.layout.categorical:
            is_ordered[self.layout.span(j)][: self.layout.n_ordered(j)] = True
        found = {"embedding": is_ordered.expand(self.embedding.shape)}
        for d, level in enumerate(self.levels):
            for i, output in enumerate(level.outputs):
                if isinstance(output, CategoricalOutput):
                    found[f"levels.{d}.outputs.{i}.weight"] = output.deviations()
        return found

    def padded_bias(self) -> Tensor:
        """The biases of all categories, and one of -inf for padding: (K + 1,)."""
        return F.pad(self.category_bias, (0, 1), value=-math.inf)

    def _refinement(self, codes: Tensor, depth: int) -> Tensor:
        """What the heads of a level know of the heads that they refine, (H, B, hidden_dim)."""
        slots = self.get_buffer(f"refined_slots_{depth}")  # a list would be copied to the device
        return sum(F.embedding(codes[one], self.refined) for one in slots)

    def walk(
        self,
        z: Tensor,
        order: Tensor | None = None,
        given: Batch | None = None,
        layers: DrawingLayers | None = None,
    ) -> AutoregressiveWalk:
        """Begin to draw one row for each z.

        Parameters
        ----------
        z : tensor of shape (B, E)
        order : int64 tensor of shape (n_variables,), default=None
            None is the order of the table.
        given : Batch of B rows, default=None
            What is recorded in them is visible to all variables from the start, and stays. A
            variable that is recorded in every row has no head in the walk.
        layers : DrawingLayers, default=None
            From `drawing_layers`, to be shared by several walks.

        Returns
        -------
        walk : AutoregressiveWalk
        """
        order = self.table_order if order is None else order
        return AutoregressiveWalk(self, z, order, given, layers or self.drawing_layers())

    @torch.no_grad()
    def drawing_layers(self) -> DrawingLayers:
        """What walks need that does not depend on the rows."""
        padded_bias = self.padded_bias()
        each = dict(pair for level in self.levels for pair in level.each(padded_bias))
        shared = SharedLayers([self.norm, *self.block_norms], list(self.blocks))
        return DrawingLayers(each, shared, self.tables(), self.variable_bias.unbind())

    def tables(self) -> list[tuple[list[int], Tensor | None]]:
        """What the codes of each variable add to the states after it.

        Returns
        -------
        tables : list of n_variables tuples (heads, table)
            The first two categorical heads of the variable, or fewer, and a table of shape
            (n_codes, W) or (n_codes * n_fine_codes, W). Any other head of the variable adds its
            own embedding.
        """
        tables = []
        place = {i: k for k, i in enumerate(self.ordered.tolist())}
        for i, heads in enumerate(self.variables):
            heads = [j for j in heads if self.layout.is_categorical(j)][:2]
            if not heads:
                tables.append((heads, None))
                continue
            total = self.embedding[self.layout.span(heads[0]), None]  # (n, 1, W)
            n_fine = self.layout.n_categories(heads[1]) if len(heads) > 1 else 1
            if len(heads) > 1:
                total = total + self.embedding[self.layout.span(heads[1])]
            if i in place:
                coarse = torch.arange(len(total), device=total.device)[:, None]
                fine = torch.arange(n_fine, device=total.device)
                features = self.features(coarse, fine, place[i])
                total = total + features @ self.slope[place[i]]
            tables.append((heads, total.flatten(0, 1)))
        return tables

    @torch.no_grad()
    def shift_biases_(self, shift: Tensor) -> None:
        self.category_bias += shift


class AutoregressiveWalk(Walk):
    """Rows drawn variable by variable; `state` has the sum of z and of what is visible.

    Parameters
    ----------
    decoder : AutoregressiveDecoder
    z : tensor of shape (B, E)
    order : int64 tensor of shape (n_variables,)
    given : Batch of B rows or None
    layers : DrawingLayers

    Attributes
    ----------
    variables : list of list of int
        The heads of the variables that are to be drawn, in order.
    """

    def __init__(
        self,
        decoder: AutoregressiveDecoder,
        z: Tensor,
        order: Tensor,
        given: Batch | None,
        layers: DrawingLayers,
    ):
        order = order.tolist()
        self.decoder = decoder
        self._given = None if given is None else decoder._rows(given, z.dtype)
        if self._given is not None:
            assert self._given.recorded is not None
            everywhere = self._given.recorded.all(dim=1).tolist()
            order = [i for i in order if not everywhere[i]]
        self.variables = [decoder.variables[i] for i in order]
        super().__init__(decoder.layout, [j for heads in self.variables for j in heads], z)
        self.state = decoder.from_z(z)
        self._index = {j: i for i, heads in enumerate(decoder.variables) for j in heads}
        self._layers, self._shared_layers, self._tables, self._biases = layers
        size = CACHED_ROWS if z.device.type == "cpu" else max(len(z), 1)
        self._blocks = row_blocks(len(z), size) or [slice(0)]
        self._biased = -1  # the variable whose bias the state includes
        self._shared = None  # of the variable whose heads are being drawn
        self._refined = None  # what its heads so far tell those that refine them
        if self._given is not None:
            self._show(self._given)

    def _show(self, given: _Rows) -> None:
        """Make what is recorded visible."""
        self._codes.copy_(given.local)
        self._values.copy_(given.values)
        assert given.recorded is not None
        for i, shown in enumerate(given.recorded):
            if shown.any():
                self._add_to_state(i, None if shown.all() else shown)

    def output(self, j: int) -> Tensor:
        weight, lowest, out_weight, out_bias = self._layers[j]
        self._add_bias(self._index[j])
        if self._shared is None and len(self._variable_of[j]) > 1:
            self._shared = self._in_blocks(self._shared_state)  # once for all heads

        def of_rows(rows: slice) -> Tensor:
            shared = self._shared_state(rows) if self._shared is None else self._shared[rows]
            hidden = torch.mm(shared, weight)
            if self._refined is not None:
                hidden += self._refined[rows]
            return torch.addmm(out_bias, hidden.clamp_(min=lowest), out_weight)

        out = self._in_blocks(of_rows)
        return out if self.layout.is_categorical(j) else torch.tanh(out[:, 0])

    def _add_bias(self, i: int) -> None:
        """Let the state include the bias of variable i, in place of that of another one."""
        if i != self._biased:
            bias = self._biases[i]
            self.state += bias if self._biased < 0 else bias - self._biases[self._biased]
            self._biased = i

    def _shared_state(self, rows: slice) -> Tensor:
        """The states of some rows after the shared layers."""
        return self._shared_layers(self.state[rows])

    def _in_blocks(self, of_rows: Callable[[slice], Tensor]) -> Tensor:
        """Compute something of all rows block by block."""
        first, *others = self._blocks
        part = of_rows(first)
        if not others:
            return part
        out = part.new_empty(len(self.state), part.shape[1])
        out[first] = part
        for rows in others:
            out[rows] = of_rows(rows)
        return out

    def output_if(self, j: int, code: int) -> Tensor:
        """What `output` of head j would be if the head that it refines had a code."""
        before = self._refined
        first = self._variable_of[j][0]
        self._refined = self.decoder.refined[self.layout.span(first)][code].expand(
            len(self.state), -1
        )
        out = self.output(j)
        self._refined = before
        return out

    def take(self, j: int, drawn: Tensor) -> None:
        i, given = self._index[j], self._given
        if given is not None:
            assert given.recorded is not None
            known = given.local if self.layout.is_categorical(j) else given.values
            drawn = torch.where(given.recorded[i], known[self.layout.slot[j]], drawn)
        super().take(j, drawn)
        if j == self._variable_of[j][-1]:
            self._shared = self._refined = None  # `_shared` is as large as the state
            self._add_to_state(i, None if given is None else ~given.recorded[i])
        elif self.layout.is_categorical(j):
            refined = self.decoder.refined[self.layout.span(j)].index_select(0, drawn)
            self._refined = refined if self._refined is None else self._refined + refined

    def _add_to_state(self, i: int, only: Tensor | None) -> None:
        """Make a variable visible to those after it, in all rows or in some only."""
        for rows in self._blocks:
            for embedded in self._embedded(i, rows):
                self.state[rows].add_(embedded if only is None else embedded * only[rows, None])

    def _embedded(self, i: int, rows: slice) -> Iterator[Tensor]:
        """What a variable adds to the states of some rows, in one or more terms."""
        layout, slot = self.layout, self.layout.slot
        heads, table = self._tables[i]
        for j in self.decoder.variables[i]:
            if not layout.is_categorical(j):
                values = self._values[slot[j], rows, None]
                yield self.decoder.embed_values(values, slot[j])
            elif j not in heads:
                embedding = self.decoder.embedding[layout.span(j)]
                yield embedding.index_select(0, self._codes[slot[j], rows])
        if heads:
            index = self._codes[slot[heads[0]], rows]
            for j in heads[1:]:
                index = index * layout.n_categories(j) + self._codes[slot[j], rows]
            yield table.index_select(0, index)
