"""sktvae: the tabular variational autoencoder as a scikit-learn estimator."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sktvae._version import __version__

if TYPE_CHECKING:
    from sktvae._encoding.category import CategoryCodec
    from sktvae._encoding.encoder import TableEncoder
    from sktvae._encoding.key import KeyCodec
    from sktvae._encoding.mode import ModeCodec
    from sktvae._encoding.quantile import QuantileCodec
    from sktvae._encoding.relations import FixedCombinations, LessEqual, SumOf
    from sktvae._encoding.suggestions import suggest_relations
    from sktvae._imputer import TVAEImputer
    from sktvae._presets import XU2019
    from sktvae._privacy.settings import DifferentialPrivacy
    from sktvae._rejection import RejectionSynthesizer
    from sktvae._synthesizer import TVAESynthesizer

__all__ = [
    "XU2019",
    "CategoryCodec",
    "DifferentialPrivacy",
    "FixedCombinations",
    "KeyCodec",
    "LessEqual",
    "ModeCodec",
    "QuantileCodec",
    "RejectionSynthesizer",
    "SumOf",
    "TVAEImputer",
    "TVAESynthesizer",
    "TableEncoder",
    "__version__",
    "suggest_relations",
]

# Imported when they are first used: torch takes a second or two, which `sktvae --help` need not.
_HOMES = {
    "XU2019": "_presets",
    "CategoryCodec": "_encoding.category",
    "DifferentialPrivacy": "_privacy.settings",
    "FixedCombinations": "_encoding.relations",
    "KeyCodec": "_encoding.key",
    "LessEqual": "_encoding.relations",
    "ModeCodec": "_encoding.mode",
    "QuantileCodec": "_encoding.quantile",
    "RejectionSynthesizer": "_rejection",
    "SumOf": "_encoding.relations",
    "TVAEImputer": "_imputer",
    "TVAESynthesizer": "_synthesizer",
    "TableEncoder": "_encoding.encoder",
    "suggest_relations": "_encoding.suggestions",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sktvae' has no attribute {name!r}")
    value = getattr(import_module(f"sktvae.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
