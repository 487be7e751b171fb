"""Routing: which codec encodes which column, and why.

`RULES` is an ordered tuple of functions; the first one that returns a `Route` for a column decides.
A new rule is one function and one entry of the tuple.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from sklearn.utils._indexing import _get_column_indices

from sktvae._encoding.category import CategoryCodec
from sktvae._encoding.codec import Codec
from sktvae._encoding.evidence import Evidence
from sktvae._encoding.key import DropCodec, KeyCodec
from sktvae._encoding.mode import ModeCodec
from sktvae._encoding.quantile import QuantileCodec
from sktvae._table.schema import TableSchema
from sktvae._warnings import warn_user

NUMERICAL = {"quantile": QuantileCodec, "modes": ModeCodec}
# What a column without a codec of its own keeps rests on at least this many rows.
MIN_SAMPLES = 3
# Rare values of text that is nearly unique are replaced by this label.
INFREQUENT = "infrequent"
# A column without a codec of its own keeps this many categories; the others are infrequent.
MAX_CATEGORIES = 1000


@dataclass(frozen=True)
class Route:
    """The decision about one column.

    Attributes
    ----------
    codec : Codec or None
        Not fitted; None if a relation encodes the column together with another one.
    reason : str
        The answer to "why this codec?", for ``encoder_.columns_``.
    by_default : bool
        Whether the user did not choose it, and should be told what it does.
    is_named : bool
        Whether the user named this very codec, so that it keeps what it is asked to keep.
    """

    codec: Codec | None
    reason: str
    by_default: bool = False
    is_named: bool = False


@dataclass
class Question:
    """A column that is to be routed, and what the rules may look at.

    Attributes
    ----------
    position : int
    column : Column
    evidence : Evidence
        What is known of the values of the column.
    kind : str or None
        What is learned: the column's own kind, or what a relation makes of it; None for nothing.
    relation : Relation or None
        The relation that encodes the column, or that needs it for decoding.
    settings : Settings
    """

    position: int
    column: Any
    evidence: Evidence
    kind: str | None
    relation: Any
    settings: Settings


@dataclass
class Settings:
    """The parameters of the encoder that decide about codecs.

    Attributes
    ----------
    named : dict of int -> (str, codec)
        The codecs of `codecs`, keyed by the positions of their columns.
    numerical : Codec
    categorical_features : set of int
        Positions.
    min_samples : int
        What default codecs keep rests on at least so many rows.
    """

    named: dict[int, tuple[str, Codec]]
    numerical: Codec
    categorical_features: set[int] = field(default_factory=set)
    min_samples: int = MIN_SAMPLES

    def category_codec(self) -> CategoryCodec:
        return CategoryCodec(max_categories=MAX_CATEGORIES, min_samples=self.min_samples)

    @classmethod
    def of(
        cls,
        frame: pd.DataFrame,
        codecs: list,
        numerical: Any,
        categorical_features: Any,
        min_samples: int,
    ) -> Settings:
        """Resolve names, masks, slices and callables to positions of columns."""
        named: dict[int, tuple[str, Codec]] = {}
        for name, codec, key in codecs:
            codec = DropCodec() if isinstance(codec, str) and codec == "drop" else codec
            if not isinstance(codec, Codec):
                raise TypeError(
                    f"The codec {name!r} is {codec!r}. It must be 'drop' or a codec such as "
                    "QuantileCodec()."
                )
            for i in _get_column_indices(frame, key(frame) if callable(key) else key):
                if i in named:
                    raise ValueError(
                        f"Column {frame.columns[i]!r} is given to two codecs, {named[i][0]!r} and "
                        f"{name!r}. Remove it from one of them."
                    )
                named[i] = name, codec
        categorical = set()
        if not isinstance(categorical_features, str):
            categorical = set(_get_column_indices(frame, list(categorical_features)))
        if numerical == "quantile":
            numerical = QuantileCodec(min_samples=min_samples)
        elif isinstance(numerical, str):
            numerical = NUMERICAL[numerical]()
        return cls(named, numerical, categorical, min_samples)


def _named(question: Question) -> Route | None:
    if question.position not in question.settings.named:
        return None
    name, codec = question.settings.named[question.position]
    column = question.column
    if question.kind is None:
        raise ValueError(
            f"Column {column.name!r} is given to the codec {name!r}, but a relation encodes it "
            "with another column. Remove it from one of them."
        )
    return Route(codec, f"named by {name!r}", is_named=True)


def _encoded_by_a_relation(question: Question) -> Route | None:
    if question.kind is not None:
        return None
    return Route(None, f"encoded by {question.relation}")


def _empty(question: Question) -> Route | None:
    is_combination = question.relation is not None and question.kind == "category"
    if not is_combination and question.evidence.is_empty:
        return Route(CategoryCodec(), "holds no value")
    return None


def _asked_for(question: Question) -> Route | None:
    if question.position in question.settings.categorical_features:
        return Route(question.settings.category_codec(), "listed in categorical_features")
    return None


def _key(question: Question) -> Route | None:
    if question.relation is None and question.evidence.is_key(question.column):
        return Route(KeyCodec(), "a different value in every row", by_default=True)
    return None


def _nearly_unique(question: Question) -> Route | None:
    least = question.settings.min_samples
    if question.kind != "category" or question.relation is not None or least == 1:
        return None
    if not question.evidence.is_nearly_unique(least):
        return None
    codec = question.settings.category_codec().set_params(infrequent_label=INFREQUENT)
    return Route(codec, f"text that is nearly unique: rare values become {INFREQUENT!r}", True)


def _labelled(question: Question) -> Route | None:
    if question.kind != "category" or not question.column.can_hold_text:
        return None
    codec = question.settings.category_codec().set_params(infrequent_label=INFREQUENT)
    return Route(codec, f"default for categories: rare values become {INFREQUENT!r}")


def _category(question: Question) -> Route | None:
    if question.kind == "category":
        codec = question.settings.category_codec()
        return Route(codec, "default for categories", by_default=question.relation is None)
    return None


def _number(question: Question) -> Route | None:
    by_default = question.relation is None
    return Route(question.settings.numerical, "default for numbers and times", by_default)


RULES: tuple[Callable[[Question], Route | None], ...] = (
    _named,
    _encoded_by_a_relation,
    _empty,
    _asked_for,
    _key,
    _nearly_unique,
    _category,
    _number,
)


# For private fits: these look at names and dtypes alone.
PRIVATE_RULES: tuple[Callable[[Question], Route | None], ...] = (
    _named,
    _labelled,
    _asked_for,
    _category,
    _number,
)


def route(question: Question, rules: tuple = RULES) -> Route:
    """Return the decision of the first rule that applies."""
    decision = next(d for rule in rules if (d := rule(question)) is not None)
    if decision.codec is not None:
        related = question.relation is not None
        decision.codec.check_column(question.column, question.kind or "", related)
    return decision


def questions(
    schema: TableSchema, evidence: Sequence[Evidence], settings: Settings, relations: list
) -> list[Question]:
    """Return one question per column, knowing what relations make of the columns."""
    out = [
        Question(i, column, known, column.kind, None, settings)
        for i, (column, known) in enumerate(zip(schema.columns, evidence, strict=True))
    ]
    for relation in relations:
        targets = [out[schema.names.index(name)] for name in relation.targets]
        for question in [*targets, *(out[schema.names.index(name)] for name in relation.sources)]:
            question.relation = question.relation or relation
        for i, question in enumerate(targets):
            question.kind = relation.kind if i == 0 else None
            question.relation = relation
    return out


def warn_about(names: list, routes: list[Route], fitted: list, n_rows: int, least: int) -> None:
    """Warn about keys and about categories that are not kept, and give the codecs' advice.

    Parameters
    ----------
    names : list
        Of the columns.
    routes : list of Route
    fitted : list of FittedColumn
    n_rows : int
    least : int
        The parameter `min_samples` of the encoder.
    """
    keys = [
        name
        for name, decision in zip(names, routes, strict=True)
        if isinstance(decision.codec, KeyCodec) and decision.by_default
    ]
    if keys:
        warn_user(key_warning(keys, n_rows))
    rare = {
        name: len(column.forgotten)
        for name, decision, column in zip(names, routes, fitted, strict=True)
        if column.forgotten and not decision.is_named
    }
    if rare:
        warn_user(forgotten_warning(rare, least))
    for i, (name, decision, column) in enumerate(zip(names, routes, fitted, strict=True)):
        if decision.by_default and column.advice:
            warn_user(
                f"Column {name!r} {column.advice}. To choose a codec for it, or to silence this "
                f"warning, use encoder=TableEncoder([('column {i}', codec, [{name!r}])]), where "
                f"codec is {column.codec.alternatives}."
            )


def key_warning(names: list, n_rows: int) -> str:
    """Return the warning about columns that were taken for keys."""
    columns, have = ("Columns", "have") if len(names) > 1 else ("Column", "has")
    keys = "keys" if len(names) > 1 else "a key"
    listed = ", ".join(map(repr, names))
    return (
        f"{columns} {listed} {have} a different value in each of the {n_rows} rows and {have} been "
        f"taken for {keys}, from which nothing can be learned: synthetic rows get new values. To "
        f"confirm this, encode the table with TableEncoder([('keys', KeyCodec(), {names!r})]); to "
        "leave the column out, use 'drop' in place of KeyCodec(); to model it, use CategoryCodec() "
        "or QuantileCodec(). Pass the encoder to a TVAESynthesizer as encoder=."
    )


def forgotten_warning(n_categories: dict, min_samples: int) -> str:
    """Return the warning about categories that are not kept."""
    listed = ", ".join(f"{name!r} ({n})" for name, n in n_categories.items())
    return (
        f"Categories in fewer than {min_samples} rows are not kept, so that no row can be "
        "recognised by them; samples have other categories in their place, or 'infrequent' in text "
        f"that is nearly unique. Columns, and how many of their categories: {listed}. To keep "
        "them, use min_samples=1, or a CategoryCodec() for the column; to give identifiers new "
        "values, use a KeyCodec(): encoder=TableEncoder([('own', codec, [column])])."
    )


def and_forgotten(n_categories: int) -> str:
    """Return what ``columns_`` says about categories that are not kept."""
    if not n_categories:
        return ""
    return "; " + (
        f"{n_categories} rare categories are not kept"
        if n_categories > 1
        else "1 rare category is not kept"
    )
