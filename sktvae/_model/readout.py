"""What linear maps of the posterior means tell about each column of a row."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sktvae._model.layout import Batch, Layout
from sktvae._model.likelihoods import PackedCategorical

# Dimensions with a standard deviation below about the root of this count for less, which keeps the
# means away from rounding errors.
_EPS = 1e-4
# A column that hardly varies counts for less than others: in nats, and as a variance.
_LEAST_ENTROPY, _LEAST_VARIANCE = 0.05, 1e-3
_LEAST_SHARE = 1e-4  # in the first bias of a category that no training row has


class Readout(nn.Module):
    """A linear map of the standardised posterior means that tells the columns of a row.

    A category is told by a softmax and a number by its rank, each by its first head alone: what
    refines a head (the fine bin in the coarse one) is a detail. The loss is::

        sum over the columns of (share of the column that remains unexplained)^2

    The share is that of the entropy for a category, and of the variance for a number. It is
    squared so that a column that nothing else tells about counts for more than what is left of
    columns that are nearly known.

    The means are standardised over the batch, so that the loss does not depend on their size, of
    which the rate of the posterior is a function. All weights start at zero, and the biases at the
    logarithms of the frequencies.

    Parameters
    ----------
    layout : Layout
    embedding_dim : int
    rows : Batch
        The training rows, for the frequencies.
    """

    def __init__(self, layout: Layout, embedding_dim: int, rows: Batch):
        super().__init__()
        first = [heads[0] for heads in layout.variables]
        share = _shares(layout, rows).cpu()
        numbers = [j for j in first if layout.n_ordered(j)]
        classes = [j for j in first if layout.is_categorical(j) and not layout.n_ordered(j)]
        values = [j for j in first if not layout.is_categorical(j)]
        self._register("number_slots", [layout.slot[j] for j in numbers])
        self._register("class_slots", [layout.slot[j] for j in classes])
        self._register("value_slots", [layout.slot[j] for j in values])

        # What each code of a number stands for: a rank, and whether it has a rank at all.
        ranks, ranked = torch.zeros_like(share), torch.zeros_like(share)
        for j in numbers:
            span, n_ordered = layout.span(j), layout.n_ordered(j)
            ordered = slice(span.start, span.start + n_ordered)
            ranks[ordered] = _standardised_ranks(share[ordered])
            ranked[span] = _standardised_indicator(share[span], n_ordered)
        self.register_buffer("ranks", ranks)
        self.register_buffer("ranked", ranked)
        value_mean, variance = _moments(rows)
        self.register_buffer("value_mean", value_mean[self.value_slots])
        scale = variance[self.value_slots].clamp_min(_LEAST_VARIANCE).rsqrt()
        self.register_buffer("value_scale", scale)

        sizes = [layout.n_categories(j) for j in classes]
        self.packed = PackedCategorical(sizes)
        starts = torch.tensor([0, *sizes]).cumsum(0)[:-1].tolist()
        shift = [start - layout.span(j).start for start, j in zip(starts, classes, strict=True)]
        self._register("shift", shift)
        frequency = [share[layout.span(j)] for j in classes]
        entropy = [torch.special.entr(p).sum().clamp_min(_LEAST_ENTROPY) for p in frequency]
        self.register_buffer("entropy", torch.stack(entropy) if entropy else share.new_zeros(0))
        log_share = torch.cat([*frequency, share[:0]]).clamp_min(_LEAST_SHARE).log()
        n_out = len(log_share) + 2 * len(numbers) + len(values)
        self.weight = nn.Parameter(share.new_zeros(embedding_dim, n_out))
        self.bias = nn.Parameter(torch.cat([log_share, share.new_zeros(n_out - len(log_share))]))
        self.to(rows.codes.device)

    def _register(self, name: str, indices: list[int]) -> None:
        self.register_buffer(name, torch.tensor(indices, dtype=torch.long))

    def forward(self, mu: Tensor, batch: Batch) -> Tensor:
        """The loss of a batch: (B, E) -> ()."""
        if batch.weight is None:
            mean = lambda x: x.mean(0)
        else:
            share = batch.weight / batch.weight.sum()
            mean = lambda x: share @ x
        centred = mu - mean(mu)
        standardised = centred * torch.rsqrt(mean(centred.square()) + _EPS)
        out = torch.addmm(self.bias, standardised, self.weight)
        n_logits = len(self.packed.slots)
        residual = out[:, n_logits:] - self._numbers(batch)
        loss = mean(residual.square()).square().sum()
        if n_logits:
            codes = batch.codes.index_select(1, self.class_slots).long() + self.shift
            log_prob = self.packed.of_heads(out[:, :n_logits], codes)
            loss = loss + (mean(log_prob) / self.entropy).square().sum()
        return loss

    def _numbers(self, batch: Batch) -> Tensor:
        """What is to be told about the numbers of each row."""
        codes = batch.codes.index_select(1, self.number_slots).long()
        values = batch.values.index_select(1, self.value_slots).float()
        values = torch.nan_to_num((values - self.value_mean) * self.value_scale)
        return torch.cat([self.ranks[codes], self.ranked[codes], values], dim=1)


def _shares(layout: Layout, rows: Batch) -> Tensor:
    """How often each of the K categories occurs, as a share of the rows."""
    weight = None
    if rows.weight is not None:
        weight = rows.weight[:, None].expand(rows.codes.shape).reshape(-1)
    counts = torch.bincount(rows.codes.long().reshape(-1), weight, minlength=layout.n_codes)
    total = rows.n_rows if rows.weight is None else rows.weight.sum()
    return (counts / total).float()


def _moments(rows: Batch) -> tuple[Tensor, Tensor]:
    """Mean and variance of each Gaussian head over the rows to which it applies, on the CPU."""
    values = rows.values.float().cpu()
    observed = (~torch.isnan(values)).float()
    if rows.weight is not None:
        observed *= rows.weight.float().cpu()[:, None]
    share = observed / observed.sum(0).clamp_min(1e-9)
    values = torch.nan_to_num(values)
    mean = (share * values).sum(0)
    return mean, (share * (values - mean).square()).sum(0)


def _standardised_ranks(share: Tensor) -> Tensor:
    """The mean rank of each ordered code, with a mean of 0 and a variance of 1 over the rows.

    Rows without a rank count as 0, the mean.
    """
    part = share / share.sum().clamp_min(1e-9)
    rank = part.cumsum(0) - part / 2 - 0.5
    variance = (share * rank.square()).sum().clamp_min(_LEAST_VARIANCE)
    return rank * variance.rsqrt()


def _standardised_indicator(share: Tensor, n_ordered: int) -> Tensor:
    """Whether a code is an ordered one, with a mean of 0 and a variance of 1 over the rows."""
    p = share[:n_ordered].sum()
    is_ordered = (torch.arange(len(share), device=share.device) < n_ordered).to(share.dtype)
    return (is_ordered - p) * (p * (1 - p)).clamp_min(10 * _LEAST_VARIANCE).rsqrt()
