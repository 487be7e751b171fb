"""Fitting a VAE to the rows of an encoded table."""
