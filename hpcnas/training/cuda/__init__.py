"""Training on a GPU: several networks of one genotype as one graph of blocks, by Triton kernels."""
