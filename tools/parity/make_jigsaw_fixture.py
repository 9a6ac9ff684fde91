#!/usr/bin/env python3
"""Fixture that holds the objective `Jigsaw`, and the pass of `Vit` that it needs, to the authors' code,
https://github.com/yingyichen-cyy/JigsawViT.

Needs torch 2.11, timm 1.0.22 and safetensors, and that code in a folder. From the repository's root:

    tools/parity/make_jigsaw_fixture.py --official=FOLDER      # writes tests/testdata/jigsaw_vit.safetensors

It holds the weights of a small random model by the authors' names, `images`, `labels`, `jigsaw_logits` and
`jigsaw_targets` of the patches that PyTorch draws after manual_seed(7), both losses, and `grad/NAME`, the gradients of
their sum with the weight 0.1. All is computed in double (the noise that shuffles the patches in single precision) and
stored in single precision.
"""

import importlib
import sys
import types

import common
import torch
import torch.nn.functional as F

OUTPUT = common.ROOT / "tests" / "testdata" / "jigsaw_vit.safetensors"


def import_official(folder):
    munch = types.ModuleType("munch")

    class Munch(dict):
        __getattr__ = dict.__getitem__
        __setattr__ = dict.__setitem__

    munch.Munch = Munch
    sys.modules["munch"] = munch
    sys.modules.setdefault("einops", types.ModuleType("einops"))  # imported and not used
    sys.path.insert(0, str(folder / "imagenet" / "jigsaw-deit"))
    return importlib.import_module("models_jigsaw")


def main():
    arguments = common.new_parser(__doc__, official="folder of JigsawViT").parse_args()
    official = import_official(arguments.official)
    torch.manual_seed(1)
    model = official.JigsawVisionTransformer(
        mask_ratio=0.5, use_jigsaw=True, img_size=16, patch_size=4, embed_dim=24, depth=2, num_heads=3, num_classes=10
    )
    for name, parameter in model.named_parameters():
        parameter.data.normal_(1 if "norm" in name and name.endswith("weight") else 0, 0.15)
    model = model.double()
    images, labels = torch.randn(2, 3, 16, 16, dtype=torch.double), torch.tensor([3, 8])

    single = torch.rand
    torch.rand = lambda *shape, **_: single(*shape, dtype=torch.float32)
    torch.manual_seed(7)
    outputs = model(images)
    torch.rand = single
    loss = F.cross_entropy(outputs.sup, labels)
    jigsaw_loss = F.cross_entropy(outputs.pred_jigsaw, outputs.gt_jigsaw)
    (loss + 0.1 * jigsaw_loss).backward()

    fixture = {
        "images": images,
        "labels": labels,
        "jigsaw_targets": outputs.gt_jigsaw,
        "jigsaw_logits": outputs.pred_jigsaw,
        "loss": loss,
        "jigsaw_loss": jigsaw_loss,
        "logits": outputs.sup,
    }
    for name, parameter in model.named_parameters():
        fixture[name] = parameter
        fixture["grad/" + name] = parameter.grad
    common.save(OUTPUT, fixture)
    print(loss.item(), jigsaw_loss.item())


if __name__ == "__main__":
    main()
