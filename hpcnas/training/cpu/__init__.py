"""Training on a CPU: a network as flat arrays that compiled C kernels read and write."""
