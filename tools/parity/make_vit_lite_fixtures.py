#!/usr/bin/env python3
"""Fixtures that hold the backbone `VitLite` to the official Compact Transformers, and a check of full-size models.

Needs torch 2.11, safetensors and a copy of github.com/SHI-Labs/Compact-Transformers. From the repository's root:

    tools/parity/make_vit_lite_fixtures.py --official=FOLDER         # writes backbones/vit_lite/testdata/*.safetensors
    tools/parity/make_vit_lite_fixtures.py --official=FOLDER --full  # compares the program's logits with the official
                                                                     # models', at full size

Each fixture holds the weights of a small random model by their official names, `images`, `tokens` (after the last norm)
and `logits` of these, and `grad/NAME`, the gradients of the mean of the squared logits. All are computed in double and
stored in single precision. The weights are drawn so that logits are of size 1, and so that a wrong epsilon, another
GELU or another residual shows.
"""

import importlib
import sys

import common
import torch

TESTDATA = common.ROOT / "backbones" / "vit_lite" / "testdata"
# Our spec of a model, and the official function that makes it.
FULL_SIZE = {
    "vit_lite_6_4_32": ("vit", "vit_6_4_32", 10),
    "vit_lite_7_4_32": ("vit", "vit_7_4_32", 10),
    "vit_lite_7_4_32_c100": ("vit", "vit_7_4_32", 100),
    "cvt_7_4_32": ("cvt", "cvt_7_4_32", 10),
    "cvt_7_4_32_c100": ("cvt", "cvt_7_4_32", 100),
    "cct_7_3x1_32": ("cct", "cct_7_3x1_32", 10),
    "cct_7_3x1_32_c100": ("cct", "cct_7_3x1_32_c100", 100),
}

SMALL = dict(embedding_dim=24, num_layers=2, num_heads=3, mlp_ratio=2.0, num_classes=10)
MODELS = {
    "vit_lite": ("vit", "ViTLite", dict(img_size=16, kernel_size=4)),
    "vit_lite_sine": ("vit", "ViTLite", dict(img_size=16, kernel_size=4, positional_embedding="sine")),
    "cvt": ("cvt", "CVT", dict(img_size=16, kernel_size=4)),
    "cct": ("cct", "CCT", dict(img_size=24, kernel_size=7, stride=2, padding=3)),
    "cct_two_convolutions": (
        "cct",
        "CCT",
        dict(img_size=18, kernel_size=3, stride=1, padding=1, n_conv_layers=2, embedding_dim=16, num_heads=2),
    ),
}


SCALES = {"class_emb": 0.05, "positional_emb": 0.05}
# Small tokens come into the first norm, so that its epsilon counts; the MLP must be heard.
GAINS = {"tokenizer": 0.05, "linear": 1.5}


def tanh_gelu(model):
    for block in model.classifier.blocks:
        block.activation = lambda x: torch.nn.functional.gelu(x, approximate="tanh")
    return model


def usual_residual(model):
    """The MLP's residual from the stream before the norm, as in other transformers."""

    def forward(block, x):
        x = x + block.self_attn(block.pre_norm(x))
        return x + block.linear2(block.activation(block.linear1(block.norm1(x))))

    for block in model.classifier.blocks:
        block.forward = forward.__get__(block)
    return model


def run(model, images):
    """Tokens after the last norm, and logits."""
    seen = []
    hook = model.classifier.norm.register_forward_hook(lambda module, inputs, output: seen.append(output))
    logits = model(images)
    hook.remove()
    return seen[0], logits


def make_model_fixture(name, model, options, generator):
    common.randomize(model.eval(), generator, SCALES, GAINS)
    images = torch.randn(2, 3, options["img_size"], options["img_size"], generator=generator)
    mistakes = {"tanh GELU": tanh_gelu, "the usual residual": usual_residual}
    if options.get("positional_embedding") != "sine":  # whose entries of size 1 drown any epsilon
        mistakes["epsilon 1e-6"] = common.epsilon(1e-6)
    common.make_model_fixture(TESTDATA / f"{name}.safetensors", model, run, images, mistakes)


def check_full_size(name, model, program):
    """Whether the program's logits of an official model with random weights are that model's."""
    generator = torch.Generator().manual_seed(0)
    common.randomize(model.eval(), generator, SCALES, GAINS)
    images = torch.randn(2, 3, 32, 32, generator=generator)
    return common.check_full_size(name, program, name, model, images)


def main():
    parser = common.new_parser(__doc__, official="the official code")
    common.add_full_size(parser)
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.official))

    def official(module, function):
        return getattr(importlib.import_module(f"src.{module}"), function)

    if arguments.full is not None:
        passed = []
        for name in arguments.full or FULL_SIZE:
            module, function, classes = FULL_SIZE[name]
            passed.append(check_full_size(name, official(module, function)(num_classes=classes), arguments.program))
        sys.exit(0 if all(passed) else 1)
    generator = torch.Generator().manual_seed(1)
    for name, (module, function, options) in MODELS.items():
        make_model_fixture(name, official(module, function)(**dict(SMALL, **options)), options, generator)


if __name__ == "__main__":
    main()
