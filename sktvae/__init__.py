"""sktvae: the tabular variational autoencoder as a scikit-learn estimator."""

from sktvae._encoding.category import CategoryCodec
from sktvae._encoding.encoder import TableEncoder
from sktvae._encoding.key import KeyCodec
from sktvae._encoding.mode import ModeCodec
from sktvae._encoding.quantile import QuantileCodec
from sktvae._encoding.relations import FixedCombinations, LessEqual, SumOf
from sktvae._imputer import TVAEImputer
from sktvae._presets import XU2019
from sktvae._synthesizer import TVAESynthesizer
from sktvae._version import __version__

__all__ = [
    "XU2019",
    "CategoryCodec",
    "FixedCombinations",
    "KeyCodec",
    "LessEqual",
    "ModeCodec",
    "QuantileCodec",
    "SumOf",
    "TVAEImputer",
    "TVAESynthesizer",
    "TableEncoder",
    "__version__",
]
