"""`FittingMixin`: the steps of `fit`, from a table to fitted networks."""

from __future__ import annotations

import copy
import os
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.base import clone

from sktvae._any_order import ANY_ORDER_DIMS, AnyOrder
from sktvae._collective import Group, current_group
from sktvae._device import FEWEST_CELLS_TO_PASS, resolve_device
from sktvae._encoding.encoder import EncodedTable, TableEncoder
from sktvae._encoding.quantile import QuantileCodec
from sktvae._encoding.routing import MIN_SAMPLES
from sktvae._model.independent import IndependentDecoder
from sktvae._model.layout import Batch, Layout
from sktvae._model.vae import VAE
from sktvae._privacy.rows import PrivateRows, private_rows
from sktvae._table.chunks import Chunks, as_chunks
from sktvae._threads import denormals_as_zero, one_thread, own_number
from sktvae._training.disk import RowsOnDisk
from sktvae._training.holdout import split
from sktvae._training.loop import Trained, train
from sktvae._training.plan import (
    CLIP,
    LEAST_PATIENCE,
    READOUT,
    TrainingPlan,
    default_batch_size,
    default_dropout,
    for_any_order,
    is_small,
)
from sktvae._training.rows import arrange, collect
from sktvae._training.watch import Abandoned, Watch
from sktvae._version import __version__
from sktvae._warm_start import check_unchanged, comparable, continued
from sktvae._warnings import warn_user

# Tables with fewer rows are not split for validation.
_FEWEST_ROWS_TO_SPLIT = 20
# In a step of the independent decoder, rows times weights that are worth several threads: some ten
# times those of the paper's network.
_LEAST_WORK_OF_THREADS = 2**29
# Parameters that ranks may choose for themselves; the seeds are those of rank 0.
_MAY_DIFFER = ("cache", "device", "n_jobs", "verbose", "random_state")
# In the representation of a function, which is elsewhere in the memory of each process.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+(?=>)")


class FittingMixin:
    """What `TVAESynthesizer.fit` does, step by step; it reads the parameters of the estimator."""

    # Parameters and fitted attributes of the estimator.
    any_order_: Any
    average: Any
    batch_size: Any
    cache: Any
    calibrate: Any
    categorical_features: Any
    compress_dims: Any
    conditional: Any
    decoder: Any
    decompress_dims: Any
    device: Any
    dropout: Any
    early_stopping: Any
    embedding_dim: Any
    encoder: Any
    encoder_: Any
    epochs: Any
    l2scale: Any
    learning_rate: Any
    loss_factor: Any
    min_samples: Any
    n_features_in_: Any
    n_iter_no_change: Any
    n_jobs: Any
    numerical: Any
    privacy: Any
    random_orders: Any
    rate_floor: Any
    refit: Any
    tol: Any
    vae_: Any
    validation_fraction: Any
    verbose: Any
    warm_start: Any
    weight_decay: Any

    def _fit_encoder(
        self, X: Any, sample_weight: Any, seed: int, partial: bool = False
    ) -> tuple[TableEncoder, EncodedTable]:
        """Return a fitted encoder, and the rows of positive weight in codes.

        If `partial`, missing cells are unknown, see `TableEncoder.fit_encode`.
        """
        if self.warm_start and hasattr(self, "encoder_"):
            check_unchanged(self._fitted_structure, self._structure())
            return self.encoder_, self._encode_again(X, sample_weight)
        encoder, group = self._new_encoder(seed), current_group()
        if group.size > 1:
            encoder.fit_chunks([X], gather=group.gather)
            (encoded,) = encoder.encode_chunks([X])
        else:
            encoded = encoder.fit_encode(X, sample_weight, partial)
        if self.verbose:
            for relation in encoder.suggestions_:
                print(
                    f"{relation} holds in every row. If it is meant to, declare it: "
                    "encoder=TableEncoder(relations=[...]).",
                    file=sys.stderr,
                )
        return encoder, encoded

    def _new_encoder(self, seed: int) -> TableEncoder:
        """Return the encoder that the parameters ask for, not fitted."""
        if self.encoder is None:
            numerical = self.numerical
            if self.privacy is not None and isinstance(numerical, str) and numerical == "quantile":
                # Fine bins have too few rows to be learned from noisy gradients.
                numerical = QuantileCodec(n_subbins=1, min_samples=self.min_samples)
            encoder = TableEncoder(
                numerical=numerical,
                categorical_features=self.categorical_features,
                min_samples=self.min_samples,
                n_jobs=self.n_jobs,
            )
        else:
            # Not compared with ==: each of them may be an array or a codec.
            words = (self.numerical, self.categorical_features)
            is_default = all(isinstance(w, str) for w in words) and self.numerical == "quantile"
            if not is_default or self.min_samples != MIN_SAMPLES:
                raise ValueError(
                    "The parameter encoder determines how every column is encoded, so numerical, "
                    "categorical_features and min_samples must keep their defaults. Set them on "
                    "the TableEncoder."
                )
            encoder = clone(self.encoder)
        if encoder.random_state is None:
            encoder.set_params(random_state=seed)
        return encoder

    def _learned_rows(
        self, X: Any, sample_weight: Any, seed: int
    ) -> tuple[TableEncoder, Batch | RowsOnDisk, PrivateRows | None]:
        """Return a fitted encoder and the rows that networks are to learn.

        If the fit is private, these are rows of a private model of the table; how they were made,
        and what this has cost, comes last.
        """
        if self.cache is not None and not os.path.isdir(self.cache):
            raise ValueError(f"cache must be a folder that exists, got {self.cache!r}.")
        chunks = as_chunks(X)
        if chunks is not None:
            return *self._rows_of_chunks(chunks, sample_weight, seed), None
        if self.privacy is None:
            self._refuse_warm_start("private", hasattr(self, "epsilon_"))
            encoder, encoded = self._fit_encoder(X, sample_weight, seed)
            rows = Layout(encoder.heads_).to_batch(encoded.heads)
            return encoder, arrange(rows, encoded.weight), None
        self._refuse_warm_start("fitted", hasattr(self, "encoder_"))
        if sample_weight is not None:
            raise ValueError(
                "A private fit takes no sample_weight, since the promise is about rows that count "
                "once. Leave it out, or set privacy=None."
            )
        # The noise of each step is drawn on the CPU, so that a GPU would wait for it.
        device = resolve_device(self.device, n_cells=0)
        learned = private_rows(X, self._new_encoder(seed), self.privacy, device, self.verbose)
        return learned.encoder, arrange(learned.rows), learned

    def _rows_of_chunks(
        self, chunks: Chunks, sample_weight: Any, seed: int
    ) -> tuple[TableEncoder, Batch | RowsOnDisk]:
        """Return an encoder fitted to a table that is read piece by piece, and its encoded rows."""
        for name, is_asked in (
            ("sample_weight", sample_weight is not None),
            ("privacy", self.privacy is not None),
            ("warm_start", self.warm_start and hasattr(self, "encoder_")),
        ):
            if is_asked:
                raise ValueError(
                    f"{name} is for tables in memory, and X is read piece by piece. Load the "
                    f"table, or a sample of its rows, into memory, or fit without {name}."
                )
        encoder = self._new_encoder(seed)
        n_rows = encoder.fit_chunks(chunks, current_group().gather)
        tables = (encoded.heads for encoded in encoder.encode_chunks(chunks))
        rows = collect(Layout(encoder.heads_), tables, n_rows, seed, self.cache)
        return encoder, rows

    def _refuse_warm_start(self, state: str, applies: bool) -> None:
        if self.warm_start and applies:
            raise ValueError(
                f"warm_start would go on from a {state} model, and so spend more than the promise "
                "of differential privacy allows. Set warm_start=False, or use a new estimator."
            )

    def _encode_again(self, X: Any, sample_weight: Any) -> EncodedTable:
        """Return rows in the codes of the last fit."""
        encoded = self.encoder_.encode(
            X, strict=True, owner=type(self).__name__, sample_weight=sample_weight
        )
        if encoded.clipped:
            warn_user(
                f"Columns {encoded.clipped} hold numbers outside the range of the first fit, "
                "which a warm start clips to that range. Set warm_start=False to learn them."
            )
        return encoded

    def _check_ranks(self, group: Group, sample_weight: Any) -> None:
        """Raise ValueError if several processes cannot fit this together."""
        if group.size == 1:
            return
        for name, is_asked in (
            ("sample_weight", sample_weight is not None),
            ("privacy", self.privacy is not None),
            ("warm_start", self.warm_start),
        ):
            if is_asked:
                group.refuse(name)
        with np.printoptions(threshold=sys.maxsize):
            parameters = {
                f"parameter {name}": _ADDRESS.sub("", repr(value))
                for name, value in self.get_params().items()  # type: ignore[attr-defined]
                if name not in _MAY_DIFFER
            }
        versions = {"version of sktvae": __version__, "version of torch": torch.__version__}
        group.check_same(versions | parameters)

    def _structure(self) -> dict:
        """Return the parameters that determine network and encoding, in comparable form."""
        structure = {
            "embedding_dim": int(self.embedding_dim),
            "compress_dims": _layer_sizes("compress_dims", self.compress_dims),
            "decompress_dims": _layer_sizes("decompress_dims", self.decompress_dims),
            "decoder": self.decoder,
        }
        for name in ("numerical", "categorical_features", "min_samples", "encoder"):
            structure[name] = comparable(getattr(self, name))
        return structure

    def _fit_network(
        self,
        encoder: TableEncoder,
        rows: Batch | RowsOnDisk,
        seeds: list[int],
        watch: Watch,
        any_order: bool = False,
    ) -> tuple[VAE, Trained]:
        """Return a network fitted to arranged rows, and the report of its training."""
        vae, n_rows = self._new_network(encoder, seeds[0], any_order), _n_rows_to_learn(rows)
        training, validation = self._split(rows, seeds[1])
        trained = self._train(vae, training, validation, seeds[2:], self.epochs, any_order, watch)
        must_refit = self.refit and validation is not None and is_small(n_rows)
        if must_refit and not trained.interrupted:
            again = self._new_network(encoder, seeds[0], any_order)
            epochs = trained.best_epoch
            if self._refit(again, rows, seeds[2:], epochs, any_order, watch):
                vae = again
            else:
                trained = trained._replace(interrupted=True)
        return vae, trained

    def _fit_networks(
        self, encoder: TableEncoder, rows: Batch | RowsOnDisk, seeds: list[int]
    ) -> tuple[VAE, Trained, AnyOrder | None]:
        """Return the network, the report of its training, and what answers conditions.

        The second network is None if it is not asked for, or if it was interrupted. Where torch may
        use several threads of a CPU, two networks are trained at the same time.
        """
        group = current_group()
        n_cells = rows.n_rows * len(Layout(encoder.heads_).variables)
        device = resolve_device(self.device, n_cells)
        on_threads = device.type == "cpu" and own_number() > 1
        watch = Watch(self.verbose and group.rank == 0)
        if not self.conditional:
            return *self._fit_network(encoder, rows, seeds[:4], watch), None
        if group.size > 1 or not on_threads:
            vae, trained = self._fit_network(encoder, rows, seeds[:4], watch)
            if trained.interrupted:
                return vae, trained, None
            second = partial(self._fit_any_order, encoder, rows, seeds[4:], watch)
            return vae, trained, self._fit_conditional(second, watch)
        beside = Watch(self.verbose, "any order", line=1)
        with ThreadPoolExecutor(1, "sktvae", initializer=own_number) as pool:
            pending = pool.submit(self._fit_any_order, encoder, rows, seeds[4:], beside)
            pending.add_done_callback(lambda done: _abandon_if_failed(watch, done))
            try:
                vae, trained = self._fit_network(encoder, rows, seeds[:4], watch)
            except Abandoned:
                pending.result()  # raises the error of the other network
                raise
            except BaseException:
                beside.abandon()
                raise
            if trained.interrupted:
                beside.stop()
            return vae, trained, self._fit_conditional(pending.result, beside)

    def _fit_conditional(self, result: Callable[[], AnyOrder], watch: Watch) -> AnyOrder | None:
        """Return what answers questions given any columns; None if it was interrupted."""
        try:
            return result()
        except KeyboardInterrupt:
            if current_group().size > 1:
                raise
            watch.stop()
        try:
            return result()
        except KeyboardInterrupt:
            warn_user(
                "The fit was interrupted while it learned to condition on columns. The model can "
                "draw rows, but not with conditions."
            )
            return None

    def _fit_any_order(
        self, encoder: TableEncoder, rows: Batch | RowsOnDisk, seeds: list[int], watch: Watch
    ) -> AnyOrder:
        """Return what answers questions given any columns, fitted to arranged rows."""
        network, trained = self._fit_network(encoder, rows, seeds, watch, any_order=True)
        return AnyOrder(network, trained.history, _n_rows(rows))

    def _new_network(self, encoder: TableEncoder, seed: int, any_order: bool) -> VAE:
        if any_order:
            return self._new_any_order(encoder, seed)
        if self.warm_start and hasattr(self, "vae_"):
            return copy.deepcopy(self.vae_)
        return VAE(
            encoder.heads_,
            self.embedding_dim,
            _layer_sizes("compress_dims", self.compress_dims),
            _layer_sizes("decompress_dims", self.decompress_dims),
            self.decoder,
            seed,
        )

    def _split(self, rows: Any, seed: int) -> Any:
        """Return training and validation rows; None for the latter if nothing is held out."""
        is_split = self.early_stopping and rows.n_rows >= _FEWEST_ROWS_TO_SPLIT
        seed = current_group().own_seed(seed)
        return split(rows, self.validation_fraction, seed) if is_split else (rows, None)

    def _new_any_order(self, encoder: TableEncoder, seed: int) -> VAE:
        before = getattr(self, "any_order_", None)
        if self.warm_start and before is not None:
            return copy.deepcopy(before.network)
        return VAE(encoder.heads_, 0, (), ANY_ORDER_DIMS, "autoregressive", seed)

    def _refit(
        self,
        vae: VAE,
        rows: Batch | RowsOnDisk,
        seeds: list[int],
        epochs: int,
        any_order: bool,
        watch: Watch,
    ) -> bool:
        """Fit a network in place to all rows; return whether this was not interrupted."""
        try:
            return not self._train(vae, rows, None, seeds, epochs, any_order, watch).interrupted
        except KeyboardInterrupt:
            if current_group().size > 1:
                raise
            warn_user(
                "The refit to all rows was interrupted; the model is that of the rows that were "
                "not held out."
            )
            return False

    def _train(
        self,
        vae: VAE,
        training: Batch | RowsOnDisk,
        validation: Batch | None,
        seeds: list[int],
        epochs: int,
        any_order: bool,
        watch: Watch,
    ) -> Trained:
        """Fit a network in place, on the device, and return it to the CPU."""
        group = current_group()
        n_rows = group.total(training.n_rows + (0 if validation is None else validation.n_rows))
        device = resolve_device(self.device, n_rows * len(vae.layout.variables))
        # In batches of one order, that order is the same on all ranks.
        host_seed = group.own_seed(seeds[1]) if any_order else seeds[1]
        plan = self._plan(group.total(training.n_rows), epochs, any_order)
        with self._computing(vae, plan):
            trained = train(
                vae.to(device),
                training.to(device),
                None if validation is None else validation.to(device),
                plan,
                generator=torch.Generator(device).manual_seed(group.own_seed(seeds[0])),
                host_generator=torch.Generator().manual_seed(host_seed),
                group=group,
                watch=watch,
            )
        vae.to("cpu")
        return trained

    def _device_to_pass(self, n_rows: int) -> torch.device:
        """Return the device on which so many rows pass through a fitted network once."""
        n_cells = n_rows * len(self.vae_.layout.variables)
        return resolve_device(self.device, n_cells, FEWEST_CELLS_TO_PASS)

    @contextmanager
    def _computing(self, vae: VAE, plan: TrainingPlan) -> Iterator[None]:
        """The context of a training: torch has one thread if a step is small operations."""
        # Those of the independent decoder are few, and large if its layers and the batch are.
        work = plan.batch_size * sum(parameter.numel() for parameter in vae.parameters())
        is_large = isinstance(vae.decoder, IndependentDecoder) and work >= _LEAST_WORK_OF_THREADS
        with nullcontext() if is_large else one_thread(), denormals_as_zero():
            yield

    def _plan(self, n_rows: int, epochs: int, any_order: bool) -> TrainingPlan:
        batch_size, dropout = self.batch_size, self.dropout
        if batch_size == "auto":
            batch_size = default_batch_size(n_rows)
        if dropout == "auto":
            # Random orders hide columns at random, which is enough.
            has_dropout = self.decoder == "autoregressive" and not any_order
            dropout = default_dropout(n_rows) if has_dropout else 0.0
        # On small tables it would help the posterior to know training rows from others.
        has_readout = self.decoder == "autoregressive" and self.rate_floor > 0
        has_readout = has_readout and not is_small(n_rows)
        plan = TrainingPlan(
            epochs=epochs,
            batch_size=int(batch_size),
            learning_rate=self.learning_rate,
            l2scale=self.l2scale,
            weight_decay=self.weight_decay,
            loss_factor=self.loss_factor,
            rate_floor=self.rate_floor,
            random_orders=self.random_orders,
            dropout=float(dropout),
            smooth=is_small(n_rows),
            least_patience=LEAST_PATIENCE,
            readout=READOUT if has_readout else 0.0,
            clip=CLIP if self.decoder == "autoregressive" else 0.0,  # the paper has no such limit
            average=self.average,
            calibrate=self.calibrate,
            n_iter_no_change=self.n_iter_no_change,
            tol=self.tol,
            n_ranks=current_group().size,
        )
        return for_any_order(plan) if any_order else plan

    def _keep(
        self,
        encoder: TableEncoder,
        vae: VAE,
        trained: Trained,
        conditional: AnyOrder | None,
        private: PrivateRows | None,
    ) -> None:
        """Set the fitted attributes, last and all at once, so that a failed fit leaves none."""
        history, n_epochs, structure = trained.history, trained.n_epochs, self._structure()
        if self.warm_start and hasattr(self, "history_"):
            history = continued(self.history_, history)
            n_epochs += self.n_iter_
        self.encoder_, self.vae_, self.any_order_ = encoder, vae, conditional
        self.history_: dict[str, list[float]] = history
        self.n_iter_: int = n_epochs
        self._fitted_structure = structure
        if private is not None:
            self.epsilon_, self.delta_ = private.epsilon, private.delta
            self._ledger = private.ledger  # no pandas objects, which skops does not save
        elif hasattr(self, "epsilon_"):
            del self.epsilon_, self.delta_, self._ledger
        self.n_features_in_ = encoder.n_features_in_
        if hasattr(encoder, "feature_names_in_"):
            self.feature_names_in_ = encoder.feature_names_in_
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_


def _abandon_if_failed(watch: Watch, other: Future) -> None:
    """End a training if the other one has failed."""
    if isinstance(other.exception(), Exception):
        watch.abandon()


def _layer_sizes(name: str, dims: Any) -> tuple[int, ...]:
    sizes = tuple(dims)
    if not sizes or not all(isinstance(d, Integral) and int(d) > 0 for d in sizes):
        raise ValueError(f"{name} must hold one or more positive integers, got {dims!r}.")
    return tuple(int(d) for d in sizes)


def _n_rows(rows: Batch | RowsOnDisk) -> float:
    n_rows = float(rows.n_rows if rows.weight is None else rows.weight.sum())
    return current_group().total(n_rows)


def _n_rows_to_learn(rows: Batch | RowsOnDisk) -> int:
    """The number of rows of all ranks; none of several ranks may have too few to be split."""
    of_ranks = current_group().gather(rows.n_rows)
    fewest = min(of_ranks)
    if len(of_ranks) > 1 and fewest < _FEWEST_ROWS_TO_SPLIT:
        raise ValueError(
            f"Rank {of_ranks.index(fewest)} has {fewest} row(s), but each of several ranks needs "
            f"{_FEWEST_ROWS_TO_SPLIT} at least. Give all ranks about equally many rows."
        )
    return sum(of_ranks)
