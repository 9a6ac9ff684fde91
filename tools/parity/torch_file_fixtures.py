#!/usr/bin/env python3
"""Writes the fixtures of nn/torch_file_test.cc: files of torch.save, and the same tensors as safetensors.

Needs torch, numpy and safetensors. Run from the repository's root. Files, under nn/testdata/:
  torch_state_dict.safetensors  what all of the following have
  torch_state_dict.pth          a plain state dict, zipped
  torch_state_dict_v4.pth       the same by pickle protocol 4
  torch_legacy.pth              the same in the format before PyTorch 1.6
  torch_checkpoint.pth          as training programs leave it: model, its EMA (one tensor), optimizer, arguments
  torch_script.pt               TorchScript
"""

import argparse
import collections
import datetime
import pathlib
import sys
import types

import numpy
import torch
from safetensors.torch import save_file


def state_dict():
    state = collections.OrderedDict()
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        state[name] = torch.tensor([[0.0, 0.5, -1.25], [3.0, float("inf"), -2.0]], dtype=dtype)
    for dtype in (torch.int64, torch.int32, torch.int16, torch.int8):
        name = str(dtype).removeprefix("torch.")
        limits = torch.iinfo(dtype)
        state[name] = torch.tensor([[0, 1, -1], [100, limits.max, limits.min]], dtype=dtype)
    state["uint8"] = torch.tensor([0, 1, 2, 128, 255], dtype=torch.uint8)
    state["bool"] = torch.tensor([True, False, True])
    state["scalar"] = torch.tensor(2.5)
    state["empty"] = torch.zeros(0, 3)
    state["parameter"] = torch.nn.Parameter(torch.arange(4.0))
    tagged = torch.nn.Parameter(torch.arange(5.0))
    tagged.note = "a parameter with attributes"
    state["tagged"] = tagged

    base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    state["blocks.0.naïve"] = base
    state["transposed"] = base.transpose(0, 2)
    state["row"] = base[1, 2]
    state["column"] = base[:, 1, 2]
    state["tied"] = base
    state["expanded"] = torch.tensor([7.0]).expand(3, 2)
    state["channels_last"] = torch.arange(24.0).reshape(1, 2, 3, 4).contiguous(memory_format=torch.channels_last)
    state._metadata = {"": {"version": 1}}
    return state


def config_node():
    """What Swin's checkpoints have; yacs itself is not needed to write one."""
    module = types.ModuleType("yacs.config")
    module.CfgNode = type("CfgNode", (dict,), {"__module__": "yacs.config"})
    sys.modules["yacs"] = types.ModuleType("yacs")
    sys.modules["yacs.config"] = module
    node = module.CfgNode(IMG_SIZE=224, MODEL=module.CfgNode(NAME="swin"))
    node.__dict__["__immutable__"] = True
    return node


def checkpoint(state):
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimizer.step()
    return {
        "model": state,
        "model_ema": {"float32": torch.ones(2, 3)},
        "optimizer": optimizer.state_dict(),
        "epoch": 299,
        "loss": 0.5,
        "args": argparse.Namespace(output_dir=pathlib.PosixPath("/runs/1"), device=torch.device("cpu"), clip=None),
        "config": config_node(),
        "metrics": collections.defaultdict(list, top1=[numpy.float64(71.5)]),
        "curve": numpy.arange(3.0),
        "seed": 1 << 100,
        "dtype": torch.bfloat16,
        "size": torch.Size([1, 2]),
        "tags": {"a", "b"},
        "when": datetime.date(2021, 1, 1),
        "raw": b"\x00\xff",
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("nn/testdata"))
    folder = parser.parse_args().folder
    state = state_dict()
    save_file(
        {name: tensor.detach().contiguous().clone() for name, tensor in state.items()},
        folder / "torch_state_dict.safetensors",
    )
    torch.save(state, folder / "torch_state_dict.pth")
    torch.save(state, folder / "torch_state_dict_v4.pth", pickle_protocol=4)
    torch.save(state, folder / "torch_legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(checkpoint(state), folder / "torch_checkpoint.pth")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 1)), folder / "torch_script.pt")


if __name__ == "__main__":
    main()
