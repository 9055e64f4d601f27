"""hpcnas: evolutionary architecture search over hierarchical genotypes, as an MPI batch program.

The system of *Hierarchical Representations for Efficient Architecture Search* (Liu, Simonyan, Vinyals, Fernando,
Kavukcuoglu; ICLR 2018). Importing this package starts nothing and loads nothing heavy; `python -m hpcnas --help` is
the way in.
"""

__version__ = "0.1.0"
