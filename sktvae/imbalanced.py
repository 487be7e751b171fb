"""Samplers with the interface of imbalanced-learn, which the extra `imbalanced` installs."""

from sktvae._oversampler import TVAEOverSampler

__all__ = ["TVAEOverSampler"]
