"""The CUDA backend: the rooms of the CPU's, upstairs; needs the extra `fastmlp[cuda]`."""
