"""`python -m hpcnas`: controller and workers, the folder and files of a run, what a person sees; and its simulation."""
