"""`FittingMixin`: the steps of `fit`, from a table to fitted networks."""

from __future__ import annotations

import copy
import sys
from numbers import Integral
from typing import Any

import torch
from sklearn.base import clone

from sktvae._any_order import ANY_ORDER_DIMS, AnyOrder
from sktvae._device import resolve_device
from sktvae._encoding.encoder import EncodedTable, TableEncoder
from sktvae._encoding.quantile import QuantileCodec
from sktvae._encoding.routing import MIN_SAMPLES
from sktvae._model.layout import Batch, Layout
from sktvae._model.vae import VAE
from sktvae._privacy.rows import PrivateRows, private_rows
from sktvae._training.holdout import split
from sktvae._training.loop import Trained, train
from sktvae._training.plan import (
    LEAST_PATIENCE,
    TrainingPlan,
    default_batch_size,
    default_dropout,
    for_any_order,
    is_small,
)
from sktvae._training.rows import arrange
from sktvae._warm_start import check_unchanged, comparable, continued
from sktvae._warnings import warn_user

# Tables with fewer rows are not split for validation.
_FEWEST_ROWS_TO_SPLIT = 20


class FittingMixin:
    """What `TVAESynthesizer.fit` does, step by step; it reads the parameters of the estimator."""

    # Parameters and fitted attributes of the estimator.
    any_order_: Any
    average: Any
    batch_size: Any
    calibrate: Any
    categorical_features: Any
    compress_dims: Any
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
        encoder = self._new_encoder(seed)
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
    ) -> tuple[TableEncoder, Batch, PrivateRows | None]:
        """Return a fitted encoder and the rows that networks are to learn.

        If the fit is private, these are rows of a private model of the table; how they were made,
        and what this has cost, comes last.
        """
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
        device = resolve_device(self.device)
        learned = private_rows(X, self._new_encoder(seed), self.privacy, device, self.verbose)
        return learned.encoder, arrange(learned.rows), learned

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
        self, encoder: TableEncoder, rows: Batch, seeds: list[int], any_order: bool = False
    ) -> tuple[VAE, Trained]:
        """Return a network fitted to arranged rows, and the report of its training."""
        vae = self._new_network(encoder, seeds[0], any_order)
        training, validation = self._split(rows, seeds[1])
        trained = self._train(vae, training, validation, seeds[2:], self.epochs, any_order)
        must_refit = self.refit and validation is not None and is_small(rows.n_rows)
        if must_refit and not trained.interrupted:
            again = self._new_network(encoder, seeds[0], any_order)
            epochs = trained.best_epoch
            if self._refit(again, rows, seeds[2:], epochs, any_order):
                vae = again
            else:
                trained = trained._replace(interrupted=True)
        return vae, trained

    def _fit_conditional(
        self, encoder: TableEncoder, rows: Batch, seeds: list[int]
    ) -> AnyOrder | None:
        """Return what answers questions given any columns; None if it was interrupted."""
        try:
            return self._fit_any_order(encoder, rows, seeds)
        except KeyboardInterrupt:
            warn_user(
                "The fit was interrupted while it learned to condition on columns. The model can "
                "draw rows, but not with conditions."
            )
            return None

    def _fit_any_order(self, encoder: TableEncoder, rows: Batch, seeds: list[int]) -> AnyOrder:
        """Return what answers questions given any columns, fitted to arranged rows."""
        network, trained = self._fit_network(encoder, rows, seeds, any_order=True)
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
        return split(rows, self.validation_fraction, seed) if is_split else (rows, None)

    def _new_any_order(self, encoder: TableEncoder, seed: int) -> VAE:
        before = getattr(self, "any_order_", None)
        if self.warm_start and before is not None:
            return copy.deepcopy(before.network)
        return VAE(encoder.heads_, 0, (), ANY_ORDER_DIMS, "autoregressive", seed)

    def _refit(self, vae: VAE, rows: Batch, seeds: list[int], epochs: int, any_order: bool) -> bool:
        """Fit a network in place to all rows; return whether this was not interrupted."""
        try:
            return not self._train(vae, rows, None, seeds, epochs, any_order).interrupted
        except KeyboardInterrupt:
            warn_user(
                "The refit to all rows was interrupted; the model is that of the rows that were "
                "not held out."
            )
            return False

    def _train(
        self,
        vae: VAE,
        training: Batch,
        validation: Batch | None,
        seeds: list[int],
        epochs: int,
        any_order: bool,
    ) -> Trained:
        """Fit a network in place, on the device, and return it to the CPU."""
        device = resolve_device(self.device)
        trained = train(
            vae.to(device),
            training.to(device),
            None if validation is None else validation.to(device),
            self._plan(training.n_rows, epochs, any_order),
            generator=torch.Generator(device).manual_seed(seeds[0]),
            host_generator=torch.Generator().manual_seed(seeds[1]),
            verbose=self.verbose,
        )
        vae.to("cpu")
        return trained

    def _plan(self, n_rows: int, epochs: int, any_order: bool) -> TrainingPlan:
        batch_size, dropout = self.batch_size, self.dropout
        if batch_size == "auto":
            batch_size = default_batch_size(n_rows)
        if dropout == "auto":
            # Random orders hide columns at random, which is enough.
            has_dropout = self.decoder == "autoregressive" and not any_order
            dropout = default_dropout(n_rows) if has_dropout else 0.0
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
            average=self.average,
            calibrate=self.calibrate,
            n_iter_no_change=self.n_iter_no_change,
            tol=self.tol,
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


def _layer_sizes(name: str, dims: Any) -> tuple[int, ...]:
    sizes = tuple(dims)
    if not sizes or not all(isinstance(d, Integral) and int(d) > 0 for d in sizes):
        raise ValueError(f"{name} must hold one or more positive integers, got {dims!r}.")
    return tuple(int(d) for d in sizes)


def _n_rows(rows: Batch) -> float:
    return float(rows.n_rows if rows.weight is None else rows.weight.sum())
