"""The autoregressive decoder p(x | z): variables given z and those before them, in any order.

Notation in the shape comments: B rows of a batch, C categorical heads, G Gaussian heads, V
variables, H heads side by side, K the categories of all heads together, E the size of the latent.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from sktvae._decoders import calibration
from sktvae._layout import Batch

N_FREQUENCIES = 6


def position_features(position):
    """Features of a position in [0, 1]: itself, and sines and cosines of doubling frequencies.

    A wave counts by the root of its length, so that a linear map of the features, with weights of
    one size, is a smooth function of the position.

    Parameters
    ----------
    position : tensor of shape (...)

    Returns
    -------
    features : tensor of shape (..., 13)
    """
    position = position[..., None]
    frequency = 2.0 ** torch.arange(N_FREQUENCIES, device=position.device)
    angle = math.pi * frequency * position
    size = frequency.rsqrt().to(position.dtype)
    return torch.cat([2 * position - 1, angle.sin() * size, angle.cos() * size], dim=-1)


N_FEATURES = 2 * N_FREQUENCIES + 1


def stacked_linear(n_heads, width_in, width_out):
    """A weight matrix for each head, with the initial sizes of `nn.Linear`."""
    bound = 1 / math.sqrt(width_in)
    return nn.Parameter(torch.empty(n_heads, width_in, width_out).uniform_(-bound, bound))


class OutputLayer(nn.Module):
    """Linear layers from hidden units to logits, one for each of some heads of similar width.

    They are padded to the widest head; the logits of the padding are -inf. The weights of ordered
    codes have a part that is a linear map of the features of their position: it learns first, and
    neighbouring codes learn together.

    Parameters
    ----------
    layout : Layout
    heads : list of int
    hidden : int
    """

    def __init__(self, layout, heads, hidden):
        super().__init__()
        self.sizes = [layout.width(j) for j in heads]
        widest = max(self.sizes)
        weight = stacked_linear(len(heads), hidden, widest)
        index = torch.full((len(heads), 1, widest), layout.n_codes)
        features = torch.zeros(len(heads), N_FEATURES, widest)
        for i, j in enumerate(heads):
            n_ordered = layout.n_ordered(j)
            index[i, 0, : self.sizes[i]] = layout.codes_of(j)
            place = (torch.arange(n_ordered) + 0.5) / max(n_ordered, 1)
            features[i, :, :n_ordered] = position_features(place).t()
            weight.data[i, :, :n_ordered] = 0
        self.weight = weight
        slope = torch.zeros(len(heads), hidden, N_FEATURES)
        self.slope = nn.Parameter(slope) if features.any() else None
        self.register_buffer("index", index, persistent=False)
        self.register_buffer("features", features, persistent=False)
        columns = [layout.column[j] for j in heads]
        self.register_buffer("columns", torch.tensor(columns), persistent=False)

    def parameters_for(self, padded_bias):
        """Weight (H, hidden, widest) and bias (H, 1, widest)."""
        weight = self.weight
        if self.slope is not None:
            weight = torch.baddbmm(weight, self.slope, self.features)
        return weight, padded_bias[self.index]

    def log_prob(self, hidden, padded_bias, local):
        """Sum over the heads: (H, B, hidden), local codes (C, B) -> (B,)."""
        weight, bias = self.parameters_for(padded_bias)
        logits = torch.baddbmm(bias, hidden, weight)
        target = local[self.columns]
        loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
        return -loss.view(target.shape).sum(0)


class GaussianOutput(nn.Module):
    """The tanh^-1 of the means of some Gaussian heads, from hidden units."""

    def __init__(self, layout, heads, hidden):
        super().__init__()
        self.weight = stacked_linear(len(heads), hidden, 1)
        self.bias = nn.Parameter(torch.zeros(len(heads), 1, 1))
        columns = [layout.column[j] for j in heads]
        self.register_buffer("columns", torch.tensor(columns), persistent=False)

    def log_prob(self, hidden, sigma, values):
        """Sum over the heads: (H, B, hidden), values (G, B) -> (B,); NaN counts 0."""
        mean = torch.tanh(torch.baddbmm(self.bias, hidden, self.weight)[..., 0])
        value, sigma = values[self.columns], sigma[self.columns, None]
        score = (torch.nan_to_num(value) - mean) / sigma
        log_prob = -0.5 * score.square() - sigma.log() - 0.5 * math.log(2 * math.pi)
        return torch.where(torch.isnan(value), 0.0, log_prob).sum(0)


class Heads(nn.Module):
    """For each of some heads a hidden layer and an output layer of its own.

    Parameters
    ----------
    layout : Layout
    heads : list of int
        In the order of the states that they will be given.
    width, hidden : int
        Of a state and of a hidden layer.
    """

    def __init__(self, layout, heads, width, hidden):
        super().__init__()
        self.weight = stacked_linear(len(heads), width, hidden)
        self.bias = nn.Parameter(torch.zeros(len(heads), 1, hidden))
        # Heads of similar width lie side by side, so that a wide one does not widen the others.
        groups = []
        for j in heads:
            widths = [layout.width(i) for i in (groups[-1] if groups else [])] + [layout.width(j)]
            if len(widths) > 1 and min(widths) >= 0.6 * max(widths):
                groups[-1].append(j)
            else:
                groups.append([j])
        self.group_sizes = [len(group) for group in groups]
        self.outputs = nn.ModuleList(
            (OutputLayer if layout.width(group[0]) else GaussianOutput)(layout, group, hidden)
            for group in groups
        )

    def hidden(self, states, more=None):
        """(H, B, width) -> (H, B, hidden); `more` is added before the ReLU."""
        hidden = torch.baddbmm(self.bias, states, self.weight)
        return F.relu(hidden if more is None else hidden + more, inplace=True)

    def log_prob(self, hidden, padded_bias, sigma, local, values):
        """Sum over the heads, (B,)."""
        total = 0
        groups = hidden.split(self.group_sizes)  # its gradient is one concatenation
        for output, group in zip(self.outputs, groups, strict=True):
            if isinstance(output, OutputLayer):
                total = total + output.log_prob(group, padded_bias, local)
            else:
                total = total + output.log_prob(group, sigma, values)
        return total

    def each(self, padded_bias):
        """Weight and bias of the hidden and of the output layer of every head, for drawing."""
        first = zip(self.weight, self.bias, strict=True)
        for output in self.outputs:
            if isinstance(output, OutputLayer):
                weight, bias = output.parameters_for(padded_bias)
                sizes = output.sizes
            else:
                weight, bias, sizes = output.weight, output.bias, [1] * len(output.weight)
            for w, b, size in zip(weight, bias, sizes, strict=True):
                yield *next(first), w[:, :size].contiguous(), b[:, :size]


class AutoregressiveDecoder(nn.Module):
    """p(x | z) with every variable dependent on z and on the variables before it.

    The state of variable j is a sum of embeddings::

        h_j = c_j + W z + sum over variables i before j of E_i[x_i]

    Normalised, it goes through residual blocks that all variables share, if any, and through a
    hidden and an output layer of the variable's own. The sums of all variables, in whatever order,
    are one product with a matrix of zeros and ones, and the layers of all heads are batched
    products: training has no loop over columns. What is not visible adds nothing to the sum, so
    that the state says which variables are.

    A head that refines another (a fine bin, the position in a mode) is conditioned on that one
    too. The embeddings of ordered codes begin as a smooth function of their position
    (`position_features`), and learn to differ.

    Parameters
    ----------
    layout : Layout
    embedding_dim : int
    decompress_dims : sequence of int
        Width of the state; hidden widths of the shared residual blocks, if any; width of the
        hidden layer of each head. A single number is the first and the last.
    """

    def __init__(self, layout, embedding_dim, decompress_dims):
        super().__init__()
        width, *blocks = decompress_dims
        hidden = blocks.pop() if blocks else width
        self.layout = layout
        # Variables with refining heads first, then by width, so that groups lie side by side.
        self.variables = sorted(layout.variables, key=lambda v: (-len(v), -layout.width(v[0])))
        owner = {j: i for i, heads in enumerate(self.variables) for j in heads}

        self.from_z = nn.Linear(embedding_dim, width)
        self.variable_bias = nn.Parameter(0.3 * torch.randn(len(self.variables), 1, width))
        self.embedding = nn.Parameter(0.3 * torch.randn(layout.n_codes, width))
        self.value_slope = nn.Parameter(0.3 * torch.randn(len(layout.gaussian), 1, width))
        self.value_bias = nn.Parameter(0.3 * torch.randn(len(layout.gaussian), 1, width))
        ordered = [i for i, heads in enumerate(self.variables) if layout.n_ordered(heads[0])]
        self.slope = nn.Parameter(0.2 * torch.randn(len(ordered), N_FEATURES, width))
        for j in layout.categorical:
            self.embedding.data[layout.codes_of(j)[: layout.n_ordered(j)]] = 0

        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, n), nn.ReLU(inplace=True), nn.Linear(n, width))
            for n in blocks
        )
        self.block_norms = nn.ModuleList(nn.LayerNorm(width) for _ in blocks)
        depth = max(map(len, self.variables))
        levels = [[v[i] for v in self.variables if len(v) > i] for i in range(depth)]
        self.levels = nn.ModuleList(Heads(layout, heads, width, hidden) for heads in levels)
        n_refined = layout.n_codes if depth > 1 else 0
        self.refined = nn.Parameter(0.1 * torch.randn(n_refined, hidden))
        self.category_bias = nn.Parameter(torch.zeros(layout.n_codes))
        self.sigma = nn.Parameter(torch.full((len(layout.gaussian),), 0.1))

        fine = [next((j for j in self.variables[i][1:] if layout.width(j)), None) for i in ordered]
        first = [self.variables[i][0] for i in ordered]
        ranks = sorted(range(len(self.variables)), key=lambda i: self.variables[i][0])
        buffers = {
            "first_code": list(layout.first),
            "table_order": ranks,
            "code_owner": [owner[j] for j in layout.categorical],
            "value_owner": [owner[j] for j in layout.gaussian],
            "ordered": ordered,
            "coarse_column": [layout.column[j] for j in first],
            "fine_column": [
                len(layout.categorical) if j is None else layout.column[j] for j in fine
            ],
            "n_coarse": [[layout.n_ordered(j)] for j in first],
            "n_fine": [[1 if j is None else layout.width(j)] for j in fine],
        }
        for name, numbers in buffers.items():
            self.register_buffer(name, torch.tensor(numbers, dtype=torch.long), persistent=False)
        self.n_refining = [len(heads) for heads in levels]

    @property
    def width(self):
        """Numbers a row in the widest tensor of `log_prob`."""
        return max(len(self.variables), len(self.layout.categorical)) * max(
            self.from_z.out_features, self.levels[0].weight.shape[2]
        )

    @property
    def draw_width(self):
        """Numbers a row in the widest tensor of `draw`."""
        return max(self.from_z.out_features, self.levels[0].weight.shape[2], *self.layout.sizes)

    def random_order(self, generator):
        """A random order of the variables, for `log_prob` and `draw`."""
        return torch.randperm(len(self.variables), generator=generator, device=generator.device)

    def log_prob(self, z, batch, order=None):
        """log p(x | z) of each row, summed over the heads.

        Parameters
        ----------
        z : tensor of shape (B, E)
        batch : Batch of B rows
        order : int tensor of shape (n_variables,), default=None
            Indices into `variables`, each after those that it depends on; None is the order of
            the table.

        Returns
        -------
        log_prob : tensor of shape (B,)
        """
        codes, values = batch.codes.t(), batch.values.t().to(z.dtype)  # (C, B), (G, B)
        local = codes - self.first_code[:, None]
        states = self.states(z, codes, local, values, order)
        padded_bias = F.pad(self.category_bias, (0, 1), value=-math.inf)
        total = 0
        for depth, level in enumerate(self.levels):
            n = self.n_refining[depth]
            more = self.refinement(codes, depth) if depth else None
            hidden = level.hidden(states[:n] if n < len(states) else states, more)
            total = total + level.log_prob(hidden, padded_bias, self.sigma, local, values)
        return total

    def states(self, z, codes, local, values, order):
        """The normalised states of all variables, (V, B, width)."""
        order = self.table_order if order is None else order
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order), device=order.device)
        visible = lambda owner: (rank[owner] < rank[:, None]).to(z.dtype)  # (V, inputs)
        state = self.from_z(z) + self.variable_bias  # (V, B, width)
        shape, state = state.shape, state.flatten(1)
        embedded = F.embedding(codes, self.embedding)
        state = torch.addmm(state, visible(self.code_owner), embedded.flatten(1))
        if len(self.ordered):
            padded = F.pad(local, (0, 0, 0, 1))  # 0 where there is no fine bin
            features = self.position_features(padded[self.coarse_column], padded[self.fine_column])
            embedded = torch.bmm(features, self.slope)  # (ordered, B, width)
            state = torch.addmm(state, visible(self.ordered), embedded.flatten(1))
        if len(values):
            embedded = self.embed_values(values[..., None])  # (G, B, width)
            state = torch.addmm(state, visible(self.value_owner), embedded.flatten(1))
        return self.shared(state.view(shape))

    def embed_values(self, values, which=slice(None)):
        """What values of Gaussian heads add to the states: (..., B, 1) -> (..., B, width)."""
        embedded = torch.nan_to_num(values) * self.value_slope[which]
        return embedded + ~torch.isnan(values) * self.value_bias[which]

    def has_place(self, j, codes):
        """Which rows have a code of head j that has a place in its order, (B,)."""
        c = self.layout.column[j]
        return codes[c] - int(self.layout.first[c]) < self.layout.heads[j].n_ordered

    def shared(self, state):
        """The layers that all variables share."""
        state = self.norm(state)
        for block, norm in zip(self.blocks, self.block_norms, strict=True):
            state = norm(state + block(state))
        return state

    def position_features(self, coarse, fine, which=slice(None)):
        """Features of ordered variables from the codes of their heads: (..., 13).

        The position is that of the fine bin in the coarse one, where there is a fine bin; a code
        that has no place in the order, as that of a missing value, has none of them.
        """
        n_coarse, n_fine = self.n_coarse[which], self.n_fine[which]
        place = (coarse + (fine + 0.5) / n_fine) / n_coarse
        features = position_features(place.to(self.slope.dtype))
        return features * (coarse < n_coarse)[..., None]

    def refinement(self, codes, depth):
        """What the hidden layers of refining heads know of the heads that they refine."""
        refining = self.variables[: self.n_refining[depth]]
        columns = [[self.layout.column[v[i]] for v in refining] for i in range(depth)]
        return sum(F.embedding(codes[one], self.refined) for one in columns)

    def draw(self, z, generator, order=None, frequency=None):
        """Draw a row for each z, variable by variable.

        Parameters
        ----------
        z : tensor of shape (B, E)
        generator : torch.Generator
        order : int tensor of shape (n_variables,), default=None
            As in `log_prob`.
        frequency : tensor of shape (K,), default=None
            Shift the biases of the categories on the way, so that the rows have these frequencies.

        Returns
        -------
        batch : Batch of B rows
        """
        layout, n_rows = self.layout, len(z)
        order = self.table_order if order is None else order
        codes = torch.zeros(len(layout.categorical), n_rows, dtype=torch.long, device=z.device)
        values = z.new_full((len(layout.gaussian), n_rows), math.nan)
        padded_bias = F.pad(self.category_bias, (0, 1), value=-math.inf)
        layers = [list(level.each(padded_bias)) for level in self.levels]
        tables = list(self.tables())
        state = self.from_z(z)
        for i in order.tolist():
            shared = self.shared(state + self.variable_bias[i])
            more = None
            for depth, j in enumerate(self.variables[i]):
                weight, bias, out_weight, out_bias = layers[depth][i]
                hidden = torch.addmm(bias, shared, weight)
                hidden = F.relu_(hidden if more is None else hidden.add_(more))
                out = torch.addmm(out_bias, hidden, out_weight)
                c = layout.column[j]
                if layout.width(j):
                    if frequency is not None:
                        own = layout.codes_of(j)
                        shift = calibration(out, frequency[own])
                        self.category_bias[own] += shift
                        out += shift
                    u = uniforms(n_rows, generator, stratified=frequency is not None)
                    codes[c] = int(layout.first[c]) + draw_codes(out, u)
                    if depth + 1 < len(self.variables[i]):
                        one = self.refined[codes[c]]
                        more = one if more is None else more + one
                else:
                    noise = torch.randn(n_rows, generator=generator, device=z.device)
                    value = (torch.tanh(out[:, 0]) + self.sigma[c] * noise).clamp_(-1, 1)
                    if depth:  # as where a value is missing: no mode, and no position in it
                        applies = self.has_place(self.variables[i][0], codes)
                        value = torch.where(applies, value, math.nan)
                    values[c] = value
                    state += self.embed_values(value[:, None], c)
            heads, table = tables[i]
            index = 0
            for j in heads:
                c = layout.column[j]
                index = index * layout.width(j) + codes[c] - int(layout.first[c])
            if heads:
                state += F.embedding(index, table)
            for j in self.variables[i]:
                if layout.width(j) and j not in heads:
                    state += self.embedding[codes[layout.column[j]]]
        return Batch(codes.t(), values.t())

    @torch.no_grad()
    def calibrate_(self, z, frequency, generator):
        """Shift the biases of the categories so that rows drawn at z have these frequencies.

        Each variable is calibrated on rows whose earlier variables were drawn, not given.

        Parameters
        ----------
        z : tensor of shape (B, E)
            Draws from the prior.
        frequency : tensor of shape (K,)
        generator : torch.Generator
        """
        self.draw(z, generator, frequency=frequency)

    def tables(self):
        """Of each variable: its categorical heads, and what it adds to the states after it.

        Yields
        ------
        heads : list of int
            None to two; of a variable of more, the others add their own embeddings.
        table : tensor of shape (n_codes or n_codes * n_fine_codes, width)
        """
        for i, heads in enumerate(self.variables):
            heads = [j for j in heads if self.layout.width(j)][:2]
            if not heads:
                yield heads, None
                continue
            total = self.embedding[self.layout.codes_of(heads[0]), None]  # (n, 1, width)
            fine = torch.arange(self.layout.width(heads[1]) if len(heads) > 1 else 1)
            fine = fine.to(total.device)
            if len(heads) > 1:
                total = total + self.embedding[self.layout.codes_of(heads[1])]
            for k in torch.nonzero(self.ordered == i).flatten().tolist():
                coarse = torch.arange(len(total), device=total.device)[:, None]
                total = total + self.position_features(coarse, fine, k) @ self.slope[k]
            yield heads, total.flatten(0, 1)


def uniforms(n, generator, stratified=False):
    """Uniform numbers, (n, 1); if stratified, one in each n-th part of [0, 1), shuffled."""
    u = torch.rand(n, generator=generator, device=generator.device)
    if stratified:
        u = (u + torch.randperm(n, generator=generator, device=generator.device)) / n
    return u[:, None]


def draw_codes(logits, u):
    """A code from each softmax, with a uniform number for each: (B, n), (B, 1) -> (B,)."""
    cumulative = torch.softmax(logits, dim=1).cumsum(1)
    codes = torch.searchsorted(cumulative, u * cumulative[:, -1:], right=True)[:, 0]
    return codes.clamp_(max=logits.shape[1] - 1)
