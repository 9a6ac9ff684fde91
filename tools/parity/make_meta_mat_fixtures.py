#!/usr/bin/env python3
"""Writes data/datasets/imagenet/testdata/*.mat: a meta.mat like that of ImageNet's development kit, of five classes.

Needs SciPy (1.17 wrote the committed files), which is independent of our reader. The real file, too, lists the classes
in the order of ILSVRC2012_ID, which is not the order of their WNIDs, and has fields that hold arrays.

usage: make_meta_mat_fixtures.py [FOLDER]
"""

import pathlib
import sys

import numpy as np
from scipy.io import savemat

CLASSES = [
    (1, "n02119789", "kit fox, Vulpes macrotis", []),
    (2, "n02100735", "English setter", []),
    (3, "n01440764", "tench, Tinca tinca", []),
    (4, "n02110185", "Siberian husky", []),
    (1860, "n00001740", "entity", [1, 2, 3, 4]),
]


def synsets(number):
    array = np.zeros(
        (len(CLASSES), 1),
        dtype=[(name, object) for name in ("ILSVRC2012_ID", "WNID", "words", "num_children", "children")],
    )
    for row, (identifier, wnid, words, children) in zip(array[:, 0], CLASSES):
        row["ILSVRC2012_ID"] = number(identifier)
        row["WNID"] = wnid
        row["words"] = words
        row["num_children"] = number(len(children))
        row["children"] = np.array([children], dtype=number)
    return array


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "data/datasets/imagenet/testdata")
    folder.mkdir(parents=True, exist_ok=True)
    written = {
        "meta.mat": ({"version": 12.0, "synsets": synsets(np.float64)}, True),
        "meta_uncompressed.mat": ({"synsets": synsets(np.uint16)}, False),
        "other.mat": ({"synsets": {"WNID": "n02119789"}, "x": np.eye(3)}, True),
    }
    for name, (contents, compressed) in written.items():
        savemat(folder / name, contents, do_compression=compressed)
        # The header says when and by whom; the same fixtures whenever they are made.
        bytes_ = bytearray((folder / name).read_bytes())
        bytes_[:116] = b"MATLAB 5.0 MAT-file".ljust(116)
        (folder / name).write_bytes(bytes_)


if __name__ == "__main__":
    main()
