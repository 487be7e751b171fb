"""Published configurations of `TVAESynthesizer`."""

from typing import Any

#: The configuration of Xu et al. (2019): ``TVAESynthesizer(**XU2019)`` is the TVAE of the paper.
XU2019: dict[str, Any] = {
    "embedding_dim": 128,
    "compress_dims": (128, 128),
    "decompress_dims": (128, 128),
    "decoder": "independent",
    "numerical": "modes",
    "loss_factor": 2.0,
    "rate_floor": 0.0,
    "l2scale": 1e-5,
    "weight_decay": 0.0,
    "learning_rate": 1e-3,
    "dropout": 0.0,
    "average": False,
    "calibrate": False,
    "batch_size": 500,
    "epochs": 300,
    "early_stopping": False,
    "conditional": False,
}
