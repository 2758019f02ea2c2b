"""The CPU backend: layout, kernels, and the trainer that calls them."""
