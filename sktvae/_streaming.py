"""`StreamingMixin`: training on a table that comes in pieces."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from sklearn.base import _fit_context

from sktvae._any_order import AnyOrder
from sktvae._collective import current_group
from sktvae._device import resolve_device
from sktvae._encoding.encoder import TableEncoder
from sktvae._fitting import FittingMixin
from sktvae._model.layout import Batch, Layout
from sktvae._model.vae import VAE
from sktvae._random import seeds_of
from sktvae._table.chunks import as_chunks
from sktvae._training import stream
from sktvae._training.loop import Trained
from sktvae._training.rows import arrange
from sktvae._warm_start import check_unchanged, continued
from sktvae._warnings import warn_user


class StreamingMixin(FittingMixin):
    """`TVAESynthesizer.partial_fit`, and what the estimator keeps from one call to the next.

    `_stream` holds "n_rows", the rows that the estimator has learned from, and after a call of
    `partial_fit` also "counts" of their categories and the weights in training: "vae" and
    "any_order".
    """

    conditional: Any
    random_state: Any
    _validate_params: Any
    _stream: dict[str, Any]

    # prefer_skip_nested_validation=False: a codec of the user validates its own parameters.
    @_fit_context(prefer_skip_nested_validation=False)
    def partial_fit(self, X: Any, y: Any = None) -> StreamingMixin:
        """Learn from the next rows of a stream: one pass over them.

        After each call the estimator is an ordinary fitted one. The rows of all calls are taken for
        one long table in random order: what depends on the length of the table in `fit` depends on
        the number of rows seen so far, which concerns "auto" for `batch_size` and `dropout`, the
        epoch of `weight_decay`, and the last fifth of the steps if `average`. `calibrate` is to the
        frequencies of all rows seen. No rows are held out, so that `epochs`, `early_stopping` and
        `refit` with what belongs to them have no effect, nor has `warm_start`.

        The first call also chooses the encoding, once and for all. Its rows should be a random
        piece of the table of some thousand rows, or more: categories that it lacks cannot be
        learned later, numbers beyond its range are clipped, and what it takes for a number, a key
        or a whole number remains one. After `fit`, it goes on with the model and the encoding of
        `fit`, and with a new optimiser; `fit` after it starts anew.

        What training needs to go on is saved with the estimator: 16 bytes per weight of the
        networks, in addition to the 4 bytes of each weight itself. The other parameters than those
        of the encoding and of the sizes of the networks can be changed between calls. Calibration
        takes about a second per call (twice that if `conditional`), however few rows there are, so
        rows should come in thousands; or set ``calibrate=False`` for all calls but the last.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            With the columns of the first call.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If a column cannot be modelled; or, after the first call, if columns differ from those
            of the first, or hold a category, or a missing value, that it lacked (see
            `handle_unknown` of :class:`~sktvae.CategoryCodec` for the way out). Also with
            `privacy`, and in several processes that fit together. The estimator is left as it was,
            as it is if training diverges or is interrupted.

        See Also
        --------
        fit : Also learns from tables that are larger than the memory, and better, since it passes
            over the rows until their loss no longer improves.

        Examples
        --------
        >>> import pandas as pd
        >>> from sktvae import TVAESynthesizer
        >>> synthesizer = TVAESynthesizer(conditional=False, random_state=0)
        >>> for day in range(3):
        ...     X = pd.DataFrame({"age": [31, 54] * 50, "smoker": ["no", "yes"] * 50})
        ...     synthesizer = synthesizer.partial_fit(X)
        >>> synthesizer.n_iter_, synthesizer.sample(5).shape
        (3, (5, 2))
        """
        is_first = not hasattr(self, "encoder_")
        seeds = seeds_of(self.random_state, 8, 0 if is_first else self.n_iter_)
        encoder, rows = self._next_rows(X, seeds[0], is_first)
        seen = self._seen(encoder, seeds[1]).and_rows(rows, Layout(encoder.heads_))
        vae, weights, history = self._learn(encoder, rows, seen, seeds[2:5], any_order=False)
        kept = {"vae": weights}
        conditional = None
        if self.conditional:
            network, weights, report = self._learn(encoder, rows, seen, seeds[5:], any_order=True)
            before = getattr(self, "any_order_", None)
            report = report if before is None else continued(before.history, report)
            conditional = AnyOrder(network, report, seen.n_rows)
            kept["any_order"] = weights
        if is_first:
            self._keep(encoder, vae, Trained(history, 1, 1, False), conditional, None)
        else:
            self.vae_, self.any_order_ = vae, conditional
            self.history_, self.n_iter_ = continued(self.history_, history), self.n_iter_ + 1
        self._stream = {"n_rows": seen.n_rows, "counts": seen.counts} | kept
        return self

    def _next_rows(self, X: Any, seed: int, is_first: bool) -> tuple[TableEncoder, Batch]:
        """Return the encoder, fitted if it is not yet, and rows in an order of their own."""
        current_group().refuse("partial_fit")
        if isinstance(X, Iterator) or as_chunks(X) is not None:
            raise TypeError(
                f"X is a {type(X).__name__}, a table in pieces, and partial_fit takes one table at "
                "a time. Call it with each piece in turn, or use fit."
            )
        if self.privacy is not None or hasattr(self, "epsilon_"):
            raise ValueError(
                "partial_fit cannot keep a promise of differential privacy, which is about one "
                "table. Use fit, or set privacy=None in a new estimator."
            )
        if is_first:
            encoder, encoded = self._fit_encoder(X, None, seed)
        else:
            self._validate_params()
            way_out = "call fit, or use a new estimator, to start from scratch"
            before, now = self._fitted_structure, self._structure()
            check_unchanged(before, now, "partial_fit continues", way_out)
            encoder = self.encoder_
            encoded = encoder.encode(X, strict=True, owner=type(self).__name__)
            if encoded.clipped:
                warn_user(
                    f"Columns {encoded.clipped} hold numbers outside the range of the first rows, "
                    "which partial_fit clips to that range. Begin with rows that span it."
                )
        return encoder, arrange(Layout(encoder.heads_).to_batch(encoded.heads))

    @property
    def _so_far(self) -> dict[str, Any]:
        return getattr(self, "_stream", {"n_rows": 0})

    def _seen(self, encoder: TableEncoder, seed: int) -> stream.Seen:
        """Return what the estimator has learned from before this call."""
        so_far = self._so_far
        if "counts" in so_far:
            return stream.Seen(so_far["n_rows"], so_far["counts"])
        if not so_far["n_rows"]:
            return stream.Seen(0, np.zeros(Layout(encoder.heads_).n_codes))
        generator = torch.Generator().manual_seed(seed)
        return stream.Seen.by(self.vae_, so_far["n_rows"], generator)

    def _learn(
        self,
        encoder: TableEncoder,
        rows: Batch,
        seen: stream.Seen,
        seeds: list[int],
        any_order: bool,
    ) -> tuple[VAE, stream.Weights, dict[str, list[float]]]:
        """Return a network that has learned from more rows; the one before stays as it was."""
        plan = self._plan(seen.n_rows, 1, any_order)
        before: Any = getattr(self, "vae_", None)
        if any_order:
            before = getattr(self, "any_order_", None)
            before = None if before is None else before.network
        if before is None:
            vae = self._new_network(encoder, seeds[0], any_order)
            weights = stream.begin(vae)
        else:
            vae = copy.deepcopy(before)
            so_far = self._so_far
            n_steps = self.n_iter_ * -(-so_far["n_rows"] // plan.batch_size)  # of `fit`
            name = "any_order" if any_order else "vae"
            weights = so_far[name] if name in so_far else stream.begin(vae, n_steps)
        device = resolve_device(self.device, rows.n_rows * len(vae.layout.variables))
        with self._computing(vae, plan):
            weights, history = stream.learn(
                vae.to(device),
                weights,
                rows.to(device),
                plan,
                seen,
                generator=torch.Generator(device).manual_seed(seeds[1]),
                host_generator=torch.Generator().manual_seed(seeds[2]),
            )
        return vae.to("cpu"), weights, history
