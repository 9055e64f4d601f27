"""Pictures of runs and genotypes, as matplotlib figures that a person can go on with. No pyplot, no window."""
