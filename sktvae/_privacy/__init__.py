"""Differential privacy: noisy histograms of the columns, and the account of what is spent."""
