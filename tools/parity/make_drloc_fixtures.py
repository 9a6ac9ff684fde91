#!/usr/bin/env python3
"""Fixtures that hold the objective `Drloc` to its authors' code, https://github.com/yhlleo/VTs-Drloc.

Needs torch 2.11 and safetensors, and that code in a folder. From the repository's root:

    tools/parity/make_drloc_fixtures.py --official=FOLDER      # writes labels/drloc/testdata/*.safetensors

Each fixture holds the head's weights by the authors' names, `tokens` [B,N,D], what the head says of all pairs (`logits`),
the `loss` over the pairs that PyTorch draws after manual_seed(7), all first ones, then all second ones, and
`grad/NAME`, its gradients. The authors' width of 512 is made 16. All is computed in double and stored in single
precision.
"""

import importlib
import sys
import types

import common
import torch

TESTDATA = common.ROOT / "labels" / "drloc" / "testdata"
SIDE, WIDTH, BATCH, PAIRS, HIDDEN = 3, 6, 2, 5, 16
CASES = {
    "l1": dict(drloc_mode="l1", out_dim=2, use_abs=True),
    "l1_signed": dict(drloc_mode="l1", out_dim=2, use_abs=False),
    "l1_normalized": dict(drloc_mode="l1", out_dim=2, use_abs=True),
    "ce": dict(drloc_mode="ce", out_dim=SIDE, use_abs=True),
    "ce_signed": dict(drloc_mode="ce", out_dim=SIDE, use_abs=False),
    "cbr": dict(drloc_mode="cbr", out_dim=SIDE, use_abs=True),
}


class NarrowLayers:
    """torch.nn with 512 replaced."""

    def __getattr__(self, name):
        return getattr(torch.nn, name)

    def Linear(self, *sizes):
        return torch.nn.Linear(*[HIDDEN if size == 512 else size for size in sizes])


def import_official(folder):
    munch = types.ModuleType("munch")
    munch.Munch = dict
    sys.modules["munch"] = munch
    sys.path.insert(0, str(folder))
    modules, losses = importlib.import_module("drloc.aux_modules"), importlib.import_module("drloc.losses")
    modules.nn = NarrowLayers()
    return modules, losses


def main():
    arguments = common.new_parser(__doc__, official="folder of VTs-Drloc").parse_args()
    modules, losses = import_official(arguments.official)
    torch.set_default_dtype(torch.float64)
    for name, options in CASES.items():
        torch.manual_seed(sum(map(ord, name)))
        head = modules.DenseRelativeLoc(in_dim=WIDTH, sample_size=PAIRS, **options)
        for parameter in head.parameters():
            parameter.data.normal_(0, 0.4)
        tokens = torch.randn(BATCH, SIDE * SIDE, WIDTH, requires_grad=True)

        def run(first, second):
            # The code draws rows and columns of the first patches, then of the second.
            draws = iter(torch.stack([cells // SIDE, cells % SIDE], -1) for cells in (first, second))
            modules.randn_sampling = lambda *_: next(draws)
            return head(tokens.transpose(1, 2).reshape(BATCH, WIDTH, SIDE, SIDE), normalize=name.endswith("normalized"))

        cells = torch.arange(SIDE * SIDE)
        first, second = torch.meshgrid(cells, cells, indexing="ij")
        logits, _ = run(first.flatten().expand(BATCH, -1), second.flatten().expand(BATCH, -1))
        # [B·N²,2], or [B·N²,distances,2] to rows, then columns.
        logits = logits.movedim(-1, 1).reshape(BATCH, SIDE**4, -1)

        torch.manual_seed(7)
        said, target = run(*(torch.randint(SIDE * SIDE, (BATCH, PAIRS)) for _ in range(2)))
        loss = getattr(losses, "relative_constraint_" + options["drloc_mode"])(target, said)
        loss.backward()

        fixture = {"tokens": tokens, "logits": logits, "loss": loss, "grad/tokens": tokens.grad}
        for key, parameter in head.named_parameters():
            fixture["drloc." + key] = parameter
            fixture["grad/drloc." + key] = parameter.grad
        common.save(TESTDATA / f"{name}.safetensors", fixture)
        print(name, loss.item())


if __name__ == "__main__":
    main()
