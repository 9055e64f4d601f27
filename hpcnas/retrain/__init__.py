"""`python -m hpcnas.retrain`: the large network of a found cell, trained by all ranks together."""
