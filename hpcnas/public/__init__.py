"""`import hpcnas` from Python (API.md): runs and retrainings as objects, and what can be done with a genotype."""
