"""hpcnas: evolutionary architecture search over hierarchical genotypes, as an MPI batch program.

The system of *Hierarchical Representations for Efficient Architecture Search* (Liu, Simonyan, Vinyals, Fernando,
Kavukcuoglu; ICLR 2018). Importing this package starts nothing and loads nothing heavy; `python -m hpcnas --help` is
the way in.
"""

import sys

from hpcnas.renamed import OlderNames

__version__ = "0.2.0"

sys.meta_path.append(OlderNames)
