#!/usr/bin/env python3
"""Fixtures that hold the backbone `Nest` to timm.

Needs torch 2.11, timm 1.0.22 and safetensors. From the repository's root:

    tools/parity/make_nest_fixtures.py               # writes backbones/nest/testdata/*.safetensors

Each model fixture holds the weights of a small random timm model by name, `images`, `tokens` and `logits` of these, and
`grad/NAME`, the gradients of the mean of the squared logits. All are computed in double and stored in single precision.
The weights are drawn so that logits are of size 1, and so that a wrong epsilon, another GELU or the other padding shows.
`position_resize` holds a position table of blocks before and after antialiased bicubic interpolation of its map.
"""

import pathlib
from functools import partial

import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from timm.models.nest import Nest, blockify, deblockify

ROOT = pathlib.Path(__file__).resolve().parents[2]
TESTDATA = ROOT / "backbones" / "nest" / "testdata"
TOLERANCE = 5e-5

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


def randomize(model, generator):
    """Weights under which every part of the model matters."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        with torch.no_grad():
            if name.endswith("pos_embed"):
                parameter.copy_(noise * 0.05)
            elif "norm" in name and name.endswith("weight"):
                parameter.copy_(1 + 0.2 * noise)
            elif name.endswith("bias"):
                parameter.copy_(0.1 * noise)
            else:
                # Small tokens come into the first norm, so that its epsilon counts.
                scale = 0.05 if name.startswith("patch_embed") else 1.5
                parameter.copy_(noise * scale / parameter[0].numel() ** 0.5)


def run(model, images):
    """Tokens and logits."""
    features = model.forward_features(images)
    return features.flatten(2).transpose(1, 2), model.forward_head(features)


def make_model_fixture(name, options, generator):
    options = dict(SMALL, **options)
    model = Nest(**options).eval()
    randomize(model, generator)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    images = torch.randn(2, 3, options["img_size"], options["img_size"], generator=generator)

    model.double()
    tokens, logits = run(model, images.double())
    logits.square().mean().backward()
    assert 0.3 < logits.std() < 3, f"{name}: logits of size {logits.std():.2f}"
    mistakes = {
        "tanh GELU": dict(act_layer=lambda: torch.nn.GELU(approximate="tanh")),
        "epsilon 1e-5": dict(norm_layer=partial(torch.nn.LayerNorm, eps=1e-5)),
        "the other padding": dict(pad_type="" if options.get("pad_type") else "same"),
    }
    for mistake, change in mistakes.items():
        mutant = Nest(**dict(options, **change)).eval()
        mutant.load_state_dict(weights)
        difference = (mutant.double()(images.double()) - logits).abs().max().item()
        assert difference > 2 * TOLERANCE, f"{name}: {mistake} costs only {difference:.1e}"
        print(f"{name}: {mistake} costs {difference:.1e}")

    tensors = dict(weights, images=images, tokens=tokens, logits=logits)
    for key, parameter in model.named_parameters():
        tensors["grad/" + key] = parameter.grad
    save(name, tensors)


def make_resize_fixture(generator):
    """2×2 blocks of 3×3, made to fit blocks of 2×2 and 5×5."""
    table = torch.randn(1, 4, 9, 8, generator=generator)
    tensors = {"table": table}
    for side in (2, 5):
        raster = deblockify(table, 3).flatten(1, 2)
        resized = resample_abs_pos_embed(raster, [2 * side, 2 * side], num_prefix_tokens=0)
        tensors[f"{side}x{side}"] = blockify(resized.unflatten(1, (2 * side, 2 * side)), side)
    save("position_resize", tensors)


def save(name, tensors):
    TESTDATA.mkdir(parents=True, exist_ok=True)
    path = TESTDATA / f"{name}.safetensors"
    save_file({key: value.detach().float().contiguous() for key, value in tensors.items()}, path)
    path.chmod(0o644)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")


def main():
    generator = torch.Generator().manual_seed(1)
    for name, options in MODELS.items():
        make_model_fixture(name, options, generator)
    make_resize_fixture(generator)


if __name__ == "__main__":
    main()
