"""Who is born next: the population and the strategies, by ask and tell, pure. No files, MPI or torch."""
