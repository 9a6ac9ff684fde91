#!/usr/bin/env python3
"""Fixtures that hold the backbone `T2tVit` to the official code, and a check of full-size models.

Needs torch 2.11, timm 1.0.22, safetensors and a checkout of https://github.com/yitu-opensource/T2T-ViT. From the
repository's root:

    tools/parity/make_t2t_vit_fixtures.py --official=T2T-ViT            # backbones/t2t_vit/testdata/*.safetensors
    tools/parity/make_t2t_vit_fixtures.py --official=T2T-ViT --full     # the program's logits at full size
    tools/parity/make_t2t_vit_fixtures.py --official=T2T-ViT --count    # parameters and multiply-adds

Each fixture holds the weights of a small random official model by name, `images`, `tokens` and `logits` of these, and
`grad/NAME`, the gradients of the mean of the squared logits. All are computed in double and stored in single precision.
The weights are drawn so that logits are of size 1, and so that each of the mistakes below shows.
"""

import sys
import types
import unittest.mock
import warnings

import common
import torch

TESTDATA = common.ROOT / "backbones" / "t2t_vit" / "testdata"
FULL_SIZE = ["t2t_vit_7", "t2t_vit_10", "t2t_vit_12", "t2t_vit_14"]

SMALL = dict(embed_dim=24, depth=2, num_heads=3, token_dim=6, num_classes=10)
MODELS = {
    "performer": dict(img_size=48, tokens_type="performer", mlp_ratio=2.0),
    "transformer": dict(img_size=32, tokens_type="transformer", mlp_ratio=3.0, qkv_bias=True),
}


def import_official(folder):
    """The module models/t2t_vit.py, without the other models of its package."""
    package = types.ModuleType("models")
    package.__path__ = [str(folder / "models")]
    sys.modules["models"] = package
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm's old import paths
        from models import t2t_vit
    return t2t_vit


def in_double():
    """The performer asks for .float() against half precision; in double it would lose precision instead."""
    return unittest.mock.patch.object(torch.Tensor, "float", lambda tensor: tensor)


def randomize(model, generator):
    """The sinusoid and the random features are fixed."""
    common.randomize(model, generator, {"cls_token": 0.5})


def tokens_and_logits(model, images):
    """All tokens after the last norm, which forward_features cuts down to the class token."""
    tokens = []
    hook = model.norm.register_forward_hook(lambda module, inputs, output: tokens.append(output))
    with in_double():
        logits = model(images)
    hook.remove()
    return tokens[0], logits


def queries_first(model):
    for name, parameter in model.named_parameters():
        if "tokens_to_token" in name and any(part in name for part in ("kqv", "qkv")):
            first, second, values = parameter.chunk(3)
            parameter.copy_(torch.cat([second, first, values]))
    return model


def scale_of_the_width(model):
    for block in model.blocks:
        block.attn.scale = model.embed_dim**-0.5
    return model


MISTAKES = {
    "tanh GELU": common.tanh_gelu,
    "epsilon 1e-6": common.epsilon(1e-6),
    "another order of queries and keys": queries_first,
    "scale of the width": scale_of_the_width,
}


def make_fixture(official, name, options, generator):
    model = official.T2T_ViT(**SMALL, **options).eval()
    randomize(model, generator)
    # Low contrast, so that the epsilon of the first norm counts.
    images = 0.05 * torch.randn(2, 3, options["img_size"], options["img_size"], generator=generator)
    common.make_model_fixture(TESTDATA / f"{name}.safetensors", model, tokens_and_logits, images, MISTAKES)


def check_full_size(official, name, program):
    """Whether the program's logits of an official model with random weights are the official code's."""
    generator = torch.Generator().manual_seed(0)
    model = getattr(official, name)().eval()
    randomize(model, generator)
    images = torch.randn(2, 3, 224, 224, generator=generator)
    return common.check_full_size(name, program, name, model, images, lambda *inputs: tokens_and_logits(*inputs)[1])


def main():
    parser = common.new_parser(__doc__, official="checkout of the official code")
    parser.add_argument("--count", nargs="*", metavar="MODEL", help="print these models' parameters and multiply-adds")
    common.add_full_size(parser)
    arguments = parser.parse_args()
    official = import_official(arguments.official)
    if arguments.count is not None:
        for name in arguments.count or FULL_SIZE:
            model = getattr(official, name)().eval().to("meta")
            common.print_counts(name, model, torch.empty(1, 3, 224, 224, device="meta"))
    elif arguments.full is not None:
        passed = [check_full_size(official, name, arguments.program) for name in arguments.full or FULL_SIZE]
        sys.exit(0 if all(passed) else 1)
    else:
        torch.manual_seed(1)  # the random features are drawn from the default generator
        generator = torch.Generator().manual_seed(1)
        for name, options in MODELS.items():
            make_fixture(official, name, options, generator)


if __name__ == "__main__":
    main()
