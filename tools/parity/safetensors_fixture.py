#!/usr/bin/env python3
"""Writes nn/testdata/python.safetensors with Python's safetensors: every dtype, odd shapes, odd names.

Needs torch and safetensors. Run from the repository's root; nn/safetensors_test.cc knows the values.
With --check=FILE it reads a file that nn/safetensors_test.cc wrote (its WhatIsWrittenIsRead, run with TEST_TMPDIR set) and verifies it instead.
"""

import argparse

import torch
from safetensors import safe_open
from safetensors.torch import save_file

FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
INTEGERS = {"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8}


def tensors():
    made = {}
    for name, dtype in FLOATS.items():
        made[name] = torch.tensor([[0.0, 0.5, -1.25], [3.0, float("inf"), -2.0]], dtype=dtype)
    for name, dtype in INTEGERS.items():
        made[name] = torch.tensor([[0, 1, -1], [100, torch.iinfo(dtype).max, torch.iinfo(dtype).min]], dtype=dtype)
    made["U8"] = torch.tensor([[0, 1, 2], [100, 128, 255]], dtype=torch.uint8)
    made["BOOL"] = torch.tensor([True, False, True])
    made["scalar"] = torch.tensor(2.5)
    made["empty"] = torch.zeros(0, 3)
    made["blocks.0.\"naïve\"\\weight"] = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="nn/testdata/python.safetensors")
    parser.add_argument("--check", metavar="FILE")
    arguments = parser.parse_args()
    metadata = {"format": "pt", "note": "line\nbreak"}
    expected = tensors()
    if not arguments.check:
        save_file(expected, arguments.output, metadata)
        return
    with safe_open(arguments.check, "pt") as file:
        assert file.metadata() == metadata, file.metadata()
        assert set(file.keys()) == set(expected), file.keys()
        for name, tensor in expected.items():
            found = file.get_tensor(name)
            assert found.dtype == tensor.dtype and found.shape == tensor.shape and torch.equal(found, tensor), name
    print(f"{arguments.check}: all {len(expected)} tensors as expected")


if __name__ == "__main__":
    main()
