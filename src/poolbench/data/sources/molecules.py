"""What the columns of OGB's molecular graphs mean (Hu et al., Open Graph Benchmark, arXiv 2005.00687, appendix).

`ogb.utils.features` numbers the values of each property; the last number of most of them, `misc`, stands for every
value that is not in its list. The peptides of LRGB have the same columns.
"""

from __future__ import annotations

from torch import Tensor

from poolbench.data.features import Features

#: Property of an atom -> how many values it can have; those marked + count `misc`.
ATOM = {
    "atomic number": 119,  # 1 to 118 +
    "chirality": 5,  # unspecified, tetrahedral clockwise, counter-clockwise, other +
    "degree": 12,  # 0 to 10 +
    "formal charge": 12,  # -5 to 5 +
    "hydrogens": 10,  # 0 to 8 +
    "radical electrons": 6,  # 0 to 4 +
    "hybridisation": 6,  # sp, sp2, sp3, sp3d, sp3d2 +
    "aromatic": 2,
    "in ring": 2,
}
#: Property of a bond -> how many values it can have.
BOND = {
    "bond type": 5,  # single, double, triple, aromatic +
    "stereo": 6,  # none, Z, E, cis, trans, any
    "conjugated": 2,
}


def atoms(values: Tensor) -> Features:
    """[N, 9] int64 as categories."""
    return Features(values, list(ATOM), tuple(ATOM.values()))


def bonds(values: Tensor) -> Features:
    """[E, 3] int64 as categories."""
    return Features(values, list(BOND), tuple(BOND.values()))
