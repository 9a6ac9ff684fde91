#!/usr/bin/env python3
"""Fixtures that hold the backbone `Nest` to timm.

Needs torch 2.11, timm 1.0.22 and safetensors. From the repository's root:

    tools/parity/make_nest_fixtures.py               # writes backbones/nest/testdata/*.safetensors

Each model fixture holds the weights of a small random timm model by name, `images`, `tokens` and `logits` of these, and
`grad/NAME`, the gradients of the mean of the squared logits. All are computed in double and stored in single precision.
The weights are drawn so that logits are of size 1, and so that a wrong epsilon, another GELU or the other padding shows.
`position_resize` holds a position table of blocks before and after antialiased bicubic interpolation of its map.
"""

import common
import torch
from timm.layers import resample_abs_pos_embed
from timm.models.nest import Nest, blockify, deblockify

TESTDATA = common.ROOT / "backbones" / "nest" / "testdata"

# A map of 8×8 patches, in 4×4, 2×2 and 1 block of 2×2.
SMALL = dict(
    img_size=16, patch_size=2, embed_dims=(8, 12, 16), num_heads=(1, 2, 4), depths=(1, 1, 2), mlp_ratio=2.0, num_classes=10
)
MODELS = {
    "symmetric": dict(),
    "same": dict(pad_type="same"),
    "two_levels": dict(
        img_size=12, num_levels=2, embed_dims=(8, 12), num_heads=(2, 3), depths=(2, 1), qkv_bias=False, pad_type="same"
    ),
}


# Small tokens come into the first norm, so that its epsilon counts.
GAINS = {"patch_embed": 0.05, "": 1.5}


def run(model, images):
    """Tokens and logits."""
    features = model.forward_features(images)
    return features.flatten(2).transpose(1, 2), model.forward_head(features)


def make_model_fixture(name, options, generator):
    options = dict(SMALL, **options)
    model = Nest(**options).eval()
    common.randomize(model, generator, {"pos_embed": 0.05}, GAINS)
    images = torch.randn(2, 3, options["img_size"], options["img_size"], generator=generator)
    other = dict(options, pad_type="" if options.get("pad_type") else "same")
    mistakes = {
        "tanh GELU": common.tanh_gelu,
        "epsilon 1e-5": common.epsilon(1e-5),
        "the other padding": lambda model: common.with_weights_of(model, Nest(**other)),
    }
    common.make_model_fixture(TESTDATA / f"{name}.safetensors", model, run, images, mistakes)


def make_resize_fixture(generator):
    """2×2 blocks of 3×3, made to fit blocks of 2×2 and 5×5."""
    table = torch.randn(1, 4, 9, 8, generator=generator)
    tensors = {"table": table}
    for side in (2, 5):
        raster = deblockify(table, 3).flatten(1, 2)
        resized = resample_abs_pos_embed(raster, [2 * side, 2 * side], num_prefix_tokens=0)
        tensors[f"{side}x{side}"] = blockify(resized.unflatten(1, (2 * side, 2 * side)), side)
    common.save(TESTDATA / "position_resize.safetensors", tensors)


def main():
    common.new_parser(__doc__).parse_args()
    generator = torch.Generator().manual_seed(1)
    for name, options in MODELS.items():
        make_model_fixture(name, options, generator)
    make_resize_fixture(generator)


if __name__ == "__main__":
    main()
