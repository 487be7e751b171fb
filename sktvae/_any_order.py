"""What a synthesizer answers given any of its columns: rows, missing cells, distributions."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sktvae._encoding import outcomes
from sktvae._encoding.category import CategoryCodec
from sktvae._encoding.codec import Codec
from sktvae._encoding.columns import with_name
from sktvae._encoding.conditions import Group, groups_of, parts_of
from sktvae._encoding.encoder import TableEncoder
from sktvae._encoding.key import DropCodec
from sktvae._encoding.partial import (
    KnownRows,
    check_can_condition,
    frame_of,
    known_rows,
    limits_of,
    place_within,
    present_shares,
    uniform_groups,
    variables_of,
)
from sktvae._encoding.ties import Tie, contradicted, that_follow
from sktvae._model.autoregressive import AutoregressiveDecoder
from sktvae._model.completion import (
    complete,
    log_independent,
    log_prob_of_known,
    log_probabilities,
)
from sktvae._model.layout import Batch, row_blocks
from sktvae._model.vae import VAE
from sktvae._table.containers import as_frame, missing_cells
from sktvae._warnings import warn_user

# Length of the state, hidden units of the shared block, and of each column.
ANY_ORDER_DIMS = (96, 32, 64)

# A combination has no support if the model expects less than this many rows of it in the table
# that was fitted, and this share of what independent columns would have: below the first limits
# there is a warning, below the second number of rows an error.
_FEW_ROWS, _NO_ROWS, _LEAST_LIFT = 0.1, 1e-3, 1e-3
_ROWS_CHECKED = 1000  # if all of them are the same
_MOST_TRIES = 4  # to draw a row that does not contradict which known numbers are equal
# How often a mean or a quantile asks the network which codes of ties are consistent, and what is
# left of the probability of codes that contradict known numbers: all of them may do so.
_MOST_CALLS, _SHARE_OF_CONTRADICTED = 64, 1e-6
_BLOCK_NUMBERS = 4_000_000  # in the probabilities of a block of rows


@dataclass
class AnyOrder:
    """A network that has learned every column given any others.

    Attributes
    ----------
    network : VAE
        Without a latent, on the CPU.
    history : dict of list of float
        As `history_` of the synthesizer.
    n_rows : float
        The number of rows that it learned from, by weight.
    """

    network: VAE
    history: dict[str, list[float]]
    n_rows: float


class Conditional:
    """An encoder and a network on a device, for one call.

    Parameters
    ----------
    encoder : TableEncoder
    any_order : AnyOrder
    device : torch.device
    seed : int
    """

    def __init__(self, encoder: TableEncoder, any_order: AnyOrder, device: torch.device, seed: int):
        network = any_order.network
        if device.type != "cpu":
            network = copy.deepcopy(network).to(device)
        self.encoder, self.n_rows = encoder, any_order.n_rows
        assert isinstance(network.decoder, AutoregressiveDecoder)
        self.layout, self.decoder = network.layout, network.decoder
        self.device = device
        self.generator = torch.Generator(device).manual_seed(seed)
        self.host_generator = torch.Generator().manual_seed(seed)
        self.random = np.random.default_rng(seed)

    # Rows that satisfy conditions

    def sample(self, n_samples: int, conditions: Any, first_row: int = 0) -> Any:
        """Draw rows that satisfy conditions, see `TVAESynthesizer.sample`.

        Keys are those of a table from row `first_row` on.
        """
        groups = self._groups(n_samples, conditions)
        drawn = [self._draw_group(group) for group in groups]
        if not drawn:
            return self.encoder.decode([np.empty(0) for _ in self.encoder.heads_], 0)
        order = np.argsort(np.concatenate([group.rows for group in groups]))
        heads = [np.concatenate(parts)[order] for parts in zip(*(d[0] for d in drawn), strict=True)]
        kept = _gathered([d[1] for d in drawn], groups, n_samples, (False, None))
        bounds = _gathered([d[2] for d in drawn], groups, n_samples, (-np.inf, np.inf))
        columns = self.encoder.written(heads, n_samples, kept, bounds, first_row)
        return self.encoder.schema_.assemble(columns)

    def sample_batches(self, n_samples: int, conditions: Any, batch_size: int) -> Iterator[Any]:
        """Draw rows in tables of at most `batch_size` rows, see `TVAESynthesizer.sample_batches`.

        What can be wrong with the conditions themselves is looked for before the first table.
        """
        if not n_samples:
            return iter([self.sample(0, conditions)])
        if not isinstance(conditions, Mapping):
            frame, _ = as_frame(conditions)
            self._check(n_samples, frame)
            slices = row_blocks(n_samples, batch_size)
            return self._batches(n_samples, (frame.iloc[rows] for rows in slices), batch_size)
        options = {
            name: list(value) if isinstance(value, Mapping) else [value]
            for name, value in conditions.items()
        }
        conditions = dict(conditions)
        self._groups(1, conditions)  # reads the shares
        first = {name: values[0] for name, values in options.items()}
        for name, values in options.items():
            for value in values:
                self._check(1, first | {name: value})
        parts = parts_of(conditions, self.encoder.schema_, n_samples, batch_size, self.random)
        return self._batches(n_samples, parts, batch_size)

    def _batches(self, n_samples: int, parts: Iterator[Any], batch_size: int) -> Iterator[Any]:
        for rows, part in zip(row_blocks(n_samples, batch_size), parts, strict=True):
            yield self.sample(rows.stop - rows.start, part, rows.start)

    def _groups(self, n_samples: int, conditions: Any) -> list[Group]:
        return [
            part
            for group in groups_of(conditions, self.encoder.schema_, n_samples, self.random)
            for part in uniform_groups(self.encoder, group)
        ]

    def _check(self, n_samples: int, conditions: Any) -> None:
        """Raise what `sample` would because of conditions that cannot be met by single columns."""
        for group in self._groups(n_samples, conditions):
            frame, observed = frame_of(self.encoder, limits_of(self.encoder, group)[0])
            known_rows(self.encoder, frame, observed, slack=group.slack)

    def _draw_group(self, group: Group) -> tuple[list[np.ndarray], dict, dict]:
        """Return heads, known values and bounds of the rows of a group."""
        group, limits = limits_of(self.encoder, group)
        frame, observed = frame_of(self.encoder, group)
        known = known_rows(self.encoder, frame, observed, slack=group.slack)
        batch = self._batch(known)
        first = variables_of(self.encoder)
        shares = {first[i]: self._tensor(limit.share) for i, limit in limits.items()}
        heads, log_mass = self._complete(batch, shares, {}, known.kept)
        self._check_support(group, batch, shares, log_mass)
        return heads, known.kept, place_within(self.encoder, heads, limits)

    def _complete(
        self,
        batch: Batch,
        limits: dict[int, Tensor],
        allowed: dict[int, Tensor],
        kept: Mapping[int, tuple[np.ndarray, Any]],
    ) -> tuple[list[np.ndarray], Tensor]:
        """Draw what is not known, again in rows in which it contradicts known numbers."""
        heads, log_mass = self._drawn(batch, limits, allowed)
        fitted = self.encoder.fitted
        for _ in range(_MOST_TRIES if fitted.ties else 0):
            codes = {i: heads[p.tie] for i, p in fitted.places.items() if p.tie is not None}
            rows = contradicted(fitted.ties, fitted.codecs, codes, kept)
            if not len(rows):
                break
            again, _ = self._drawn(
                batch.take(torch.from_numpy(rows).to(self.device)), limits, allowed
            )
            for head, new in zip(heads, again, strict=True):
                head[rows] = new
        return heads, log_mass

    def _drawn(
        self, batch: Batch, limits: dict[int, Tensor], allowed: dict[int, Tensor]
    ) -> tuple[list[np.ndarray], Tensor]:
        drawn = complete(self.decoder, batch, limits, allowed, self.generator, self.host_generator)
        return self.layout.to_columns(drawn.batch, self.generator), drawn.log_mass

    def _check_support(
        self, group: Group, batch: Batch, limits: dict[int, Tensor], log_mass: Tensor
    ) -> None:
        """Say so if the model has never seen anything like the combination of conditions."""
        if (batch.codes == batch.codes[0]).all():
            batch, log_mass = batch.rows(slice(_ROWS_CHECKED)), log_mass[:_ROWS_CHECKED]
        _, same = torch.unique(batch.codes, dim=0, return_inverse=True)
        n_same = torch.bincount(same)
        average = lambda p: torch.zeros(len(n_same)).to(p).index_add_(0, same, p) / n_same
        joint = log_prob_of_known(self.decoder, batch, self.host_generator) + log_mass
        joint = average(joint.double().exp())
        independent = average(log_independent(self.decoder, batch, limits).double().exp())
        n_expected = self.n_rows * joint
        rare = (n_expected < _FEW_ROWS) & (joint < _LEAST_LIFT * independent)
        if not rare.any():
            return
        rarest = int(torch.where(rare, n_expected, torch.inf).argmin())
        n_rows = float(n_expected[rarest])
        row = int(torch.nonzero(same == rarest)[0, 0])
        names = [self.encoder.schema_.names[i] for i in [*group.known, *group.accepted]]
        text = (
            f"The conditions on {names!r} contradict each other in row {group.rows[row]}: "
            f"the model expects {n_rows:.1g} such rows in a table like that of fit "
            f"({self.n_rows:.0f} rows)."
        )
        if n_rows < _NO_ROWS:
            raise ValueError(f"{text} Drop a condition, or change it.")
        warn_user(f"{text} The other columns are extrapolated.")

    # Missing cells

    def impute(self, X: Any, strategy: str, n_draws: int, owner: str) -> list:
        """Return tables without missing cells, see `TVAESynthesizer.impute`."""
        _, container = as_frame(X)
        frame = self.encoder.schema_.conform(X, owner)
        warn_of_holes(frame, not_learned(self.encoder))
        filled = self.filled(frame, strategy, n_draws)
        return [container.write(columns, list(frame.columns)) for columns in filled]

    def filled(self, frame: pd.DataFrame, strategy: str, n_draws: int) -> list[list[pd.Series]]:
        """Return the columns of tables without missing cells.

        Columns of which nothing is learned stay as they are, and tell nothing about others.
        """
        absent = missing_cells(frame)
        observed = ~absent
        ignored = not_learned(self.encoder)
        absent[:, ignored] = observed[:, ignored] = False
        rows = np.flatnonzero(absent.any(axis=1))
        known = known_rows(self.encoder, frame.iloc[rows], observed[rows])
        filled = []
        for _ in range(n_draws):
            written = self._imputed(known, strategy) if len(rows) else {}
            columns = []
            for i in range(frame.shape[1]):
                column, holes = frame.iloc[:, i], absent[:, i]
                if holes.any() and i in written:
                    column = _replaced(
                        column, np.flatnonzero(holes), written[i].iloc[np.flatnonzero(holes[rows])]
                    )
                columns.append(column)
            filled.append(columns)
        return filled

    def _imputed(self, known: KnownRows, strategy: str) -> dict[int, pd.Series]:
        """Return columns without missing values of rows that are partly known."""
        encoder = self.encoder
        allowed = {j: self._tensor(share) for j, share in present_shares(encoder).items()}
        heads, _ = self._complete(self._batch(known), {}, allowed, known.kept)
        written = encoder.written(heads, len(known.recorded), known.kept)
        if strategy == "draw":
            return written
        ignored = not_learned(encoder)
        for i in variables_of(encoder):
            is_known = known.kept[i][0] if i in known.kept else np.zeros(known.n_rows, dtype=bool)
            rows = np.flatnonzero(~is_known)
            codec, column = encoder.codecs_[i], encoder.schema_.columns[i]
            if not len(rows) or i in encoder.related or i in ignored:
                continue
            of_rows = self._batch(known).take(torch.from_numpy(rows).to(self.device))
            present, _ = with_name(column.name, self._distribution, codec, of_rows, i)
            if codec is not None and not column.is_numeric:
                values = column.write(codec.outcomes()[present.argmax(axis=1)])
                written[i] = _replaced(written[i], rows, values)
                continue
            present, atoms = self._with_atoms(codec, present, of_rows, i, known.kept, rows)
            if strategy == "mean":
                values = column.write(codec.rounded(outcomes.mean(codec, present, atoms)))
            else:
                middle = outcomes.quantile(codec, present, np.array([0.5]), atoms)
                values = column.write(middle[:, 0])
            written[i] = _replaced(written[i], rows, values)
        return written

    # Distributions of one column

    def probabilities(self, X: Any, name: Hashable, owner: str) -> tuple[Codec, np.ndarray, Any]:
        """Return the codec of a column, the probability of its outcomes in each row, and the index.

        Missing values of the column do not count.
        """
        codec, i, known, index = self._asked(X, name, owner)
        present, _ = with_name(name, self._distribution, codec, self._batch(known), i)
        return codec, present / present.sum(axis=1, keepdims=True), index

    def numbers(
        self, X: Any, name: Hashable, owner: str
    ) -> tuple[Codec, np.ndarray, outcomes.Atoms]:
        """Return the codec of a column, the mass of its outcomes in each row, and that of atoms.

        Atoms are numbers that follow from those of other columns, see `outcomes.with_atoms`.
        """
        codec, i, known, _ = self._asked(X, name, owner)
        batch = self._batch(known)
        present, _ = with_name(name, self._distribution, codec, batch, i)
        rows = np.arange(known.n_rows)
        return codec, *self._with_atoms(codec, present, batch, i, known.kept, rows)

    def _asked(self, X: Any, name: Hashable, owner: str) -> tuple[Codec, int, KnownRows, Any]:
        """Return the codec and the position of a column, what else is known, and the index."""
        i = self.encoder.schema_.position(name)
        check_can_condition(self.encoder, i)
        if i in self.encoder.related:
            raise ValueError(
                f"Column {name!r} is tied to others by a relation, so it has no distribution of "
                "its own. Fit without the relation."
            )
        codec = self.encoder.codecs_[i]
        assert codec is not None
        frame, index = self._others(X, i, owner)
        return codec, i, known_rows(self.encoder, frame, ~missing_cells(frame)), index

    def _others(self, X: Any, i: int, owner: str) -> tuple[pd.DataFrame, Any]:
        """Return a table in which column i is unknown, and its index; it may lack the column."""
        schema = self.encoder.schema_
        frame, container = as_frame(X)
        lacks = frame.shape[1] == len(schema.columns) - 1 and (
            not container.named or schema.names[i] not in list(frame.columns)
        )
        if not lacks:
            frame = schema.conform(X, owner)
        columns = [frame.iloc[:, k] for k in range(frame.shape[1])]
        names = list(frame.columns if container.named else schema.names)
        unknown = pd.Series(np.full(len(frame), None), index=frame.index, dtype=object)
        if lacks:
            columns.insert(i, unknown)
            if container.named:
                names.insert(i, schema.names[i])
        else:
            columns[i] = unknown
        full = pd.concat(columns, axis=1)
        full.columns = pd.Index(names, tupleize_cols=False)
        return schema.conform(full, owner), frame.index

    def _with_atoms(
        self,
        codec: Any,
        present: np.ndarray,
        batch: Batch,
        i: int,
        kept: Mapping[int, tuple[np.ndarray, Any]],
        rows: np.ndarray,
    ) -> tuple[np.ndarray, outcomes.Atoms]:
        """Return what is left of the probabilities of bins, and numbers that follow from others.

        Parameters
        ----------
        codec : QuantileCodec
        present : ndarray of shape (n_rows, n_bins)
        batch : Batch of n_rows rows
        i : int
            The position of the column.
        kept : dict
            What is known of rows, see `KnownRows`.
        rows : int ndarray of shape (n_rows,)
            Those of them that are meant.
        """
        fitted = self.encoder.fitted
        found = that_follow(fitted.ties, fitted.codecs, kept, i)
        exact = {j for j, code, _ in found if code <= len(fitted.ties[j].sources)}
        by_tie = {j: self._of_tie(batch, j) for j in {j for j, _, _ in found}}
        by_tie |= self._of_consistent_ties(batch, sorted(exact), kept, rows)
        follow: list[tuple[np.ndarray, np.ndarray]] = []
        assert batch.recorded is not None
        recorded = batch.recorded.clone()
        for j, code, numbers in found:
            follow.append((numbers[rows], by_tie[j][:, code]))
            # The code of what is not recorded is 0, which says that the number does not follow.
            is_known = torch.from_numpy(~np.isnan(numbers[rows])).to(self.device)
            recorded[is_known, self.layout.variables.index([self._tie_head(j)])] = True
        if not follow:
            return present, outcomes.Atoms(*np.empty((2, len(rows), 0)))
        left, _ = self._distribution(codec, batch._replace(recorded=recorded), i)
        return outcomes.with_atoms(present, left, follow)

    def _of_tie(self, batch: Batch, j: int) -> np.ndarray:
        """Return the probability of each code of the tie of column j; no number is missing."""
        by_code = np.concatenate(list(self._by_code(batch, self._tie_head(j))))
        by_code[:, self.encoder.fitted.ties[j].says_missing(np.arange(by_code.shape[1]))] = 0.0
        return by_code / by_code.sum(axis=1, keepdims=True)

    def _of_consistent_ties(
        self,
        batch: Batch,
        at: list[int],
        kept: Mapping[int, tuple[np.ndarray, Any]],
        rows: np.ndarray,
    ) -> dict[int, np.ndarray]:
        """Return the probability of each code of several ties if they do not contradict `kept`.

        Such codes are drawn again, see `_complete`. Of many ties only the first are looked at.
        """
        fitted = self.encoder.fitted
        ties: dict[int, Tie] = {}
        n_calls, n_joint = 0, 1  # of the network, and of combinations of codes
        for j in at:
            if n_calls + n_joint <= _MOST_CALLS:
                ties[j] = fitted.ties[j]
                n_calls, n_joint = n_calls + n_joint, n_joint * ties[j].head.n_categories
        if len(ties) < 2:
            return {}
        tied = {i for tie in ties.values() for i in tie.positions} & kept.keys()
        known = {i: (kept[i][0][rows], kept[i][1][rows]) for i in tied}
        by_tie = {j: np.zeros((len(rows), tie.head.n_categories)) for j, tie in ties.items()}
        for codes, mass in self._joint(batch, list(ties)):
            drawn = {j: np.full(len(rows), code) for j, code in codes.items()}
            mass[contradicted(ties, fitted.codecs, drawn, known)] *= _SHARE_OF_CONTRADICTED
            for j, code in codes.items():
                by_tie[j][:, code] += mass
        return {j: of_code / of_code.sum(axis=1, keepdims=True) for j, of_code in by_tie.items()}

    def _joint(self, batch: Batch, at: list[int]) -> Iterator[tuple[dict[int, int], np.ndarray]]:
        """Yield each combination of codes of ties, and its probability in each row."""
        if not at:
            yield {}, np.ones(batch.n_rows)
            return
        j, *others = at
        for code, probability in enumerate(self._of_tie(batch, j).T):
            given = self._with_code(batch, j, code) if others else batch
            for codes, mass in self._joint(given, others):
                yield codes | {j: code}, mass * probability

    def _with_code(self, batch: Batch, j: int, code: int) -> Batch:
        """Return rows in which the tie of column j is known to have a code."""
        head = self._tie_head(j)
        assert batch.recorded is not None
        codes, recorded = batch.codes.clone(), batch.recorded.clone()
        codes[:, self.layout.slot[head]] = self.layout.span(head).start + code
        recorded[:, self.layout.variables.index([head])] = True
        return batch._replace(codes=codes, recorded=recorded)

    def _tie_head(self, j: int) -> int:
        """Return the head of the tie of column j."""
        head = self.encoder.fitted.places[j].tie
        assert head is not None
        return head

    def _distribution(self, codec: Codec, batch: Batch, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the probability of each outcome of column i, and of a missing value."""
        first = variables_of(self.encoder)[i]
        parts = [outcomes.probabilities(codec, part) for part in self._by_code(batch, first)]
        present, missing = (np.concatenate(part) for part in zip(*parts, strict=True))
        return present, missing

    def _by_code(self, batch: Batch, first: int) -> Iterator[np.ndarray]:
        """Yield the probabilities of the codes of a variable in blocks of rows."""
        fine = self.layout.n_categories(first + 1) if first + 1 < self.layout.n_heads else 1
        size = max(1, _BLOCK_NUMBERS // (self.layout.n_categories(first) * max(fine, 1) + 1))
        for rows in row_blocks(batch.n_rows, size):
            log_prob = log_probabilities(self.decoder, batch.rows(rows), first)
            yield log_prob.exp().double().cpu().numpy()

    def _batch(self, known: KnownRows) -> Batch:
        batch = self.layout.to_batch(known.heads)
        return batch._replace(recorded=torch.from_numpy(known.recorded)).to(self.device)

    def _tensor(self, share: np.ndarray) -> Tensor:
        return torch.from_numpy(share).float().to(self.device)


def not_learned(encoder: TableEncoder) -> list[int]:
    """Return the positions of columns that are dropped, or that had no value in `fit`."""
    related = encoder.related
    return [
        i
        for i, codec in enumerate(encoder.codecs_)
        if isinstance(codec, DropCodec)
        or (isinstance(codec, CategoryCodec) and i not in related and not len(codec.outcomes()))
    ]


def warn_of_holes(frame: pd.DataFrame, columns: list[int]) -> None:
    """Warn about columns that are not learned and have missing cells."""
    has_holes = np.asarray(missing_cells(frame).any(axis=0))
    names = [frame.columns[i] for i in columns if has_holes[i]]
    if names:
        warn_user(f"Columns {names!r} are not learned, so their missing cells stay missing.")


def _gathered(parts: list[dict], groups: list[Group], n_samples: int, empty: tuple) -> dict:
    """Put pairs of columns of groups of rows together, by the position of the column."""
    gathered: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for part, group in zip(parts, groups, strict=True):
        for i, pair in part.items():
            if i not in gathered:
                dtype = np.asarray(pair[1]).dtype
                filler = np.full(n_samples, empty[1], dtype=object if empty[1] is None else dtype)
                gathered[i] = np.full(n_samples, empty[0]), filler
            for whole, own in zip(gathered[i], pair, strict=True):
                whole[group.rows] = own
    return gathered


def _replaced(series: pd.Series, rows: np.ndarray, values: pd.Series) -> pd.Series:
    """Return a column with other values in some rows; its dtype stays if it can hold them."""
    replaced = series.copy()
    if isinstance(replaced.dtype, pd.CategoricalDtype):
        values = values.astype(object)
        new = [v for v in pd.unique(values) if v not in replaced.cat.categories]
        replaced = replaced.cat.add_categories(new) if new else replaced
    elif values.dtype != replaced.dtype and replaced.dtype != object:
        try:
            values = values.astype(replaced.dtype)
        except (TypeError, ValueError):  # for instance text, if all cells were NaN
            replaced = replaced.astype(values.dtype)
    replaced.iloc[rows] = values.array
    return replaced
