"""What is searched: the space, genotypes and their mutation, the cell as a graph and its identity, the network around
it and its size. No torch, files or MPI."""
