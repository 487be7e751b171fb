"""The VAE in torch: what a row is, how likely it is, how one is drawn."""
