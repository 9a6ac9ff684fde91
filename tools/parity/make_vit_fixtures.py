#!/usr/bin/env python3
"""Fixtures that hold the backbone `Vit` to timm, and a check of full-size models.

Needs torch 2.11, timm 1.0.22 and safetensors. From the repository's root:

    tools/parity/make_vit_fixtures.py                # writes backbones/vit/testdata/*.safetensors
    tools/parity/make_vit_fixtures.py --full         # compares the program's logits with timm's, at full size
    tools/parity/make_vit_fixtures.py --full deit_tiny_patch16_224 --program=bazel-bin/app/graticule

Each model fixture holds the weights of a small random timm model by name, `images`, `tokens` and `logits` of these, and
`grad/NAME`, the gradients of the mean of the squared logits. All are computed in double and stored in single precision.
The weights are drawn so that logits are of size 1, and so that a wrong epsilon or another GELU shows.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import timm
import torch
from safetensors.torch import load_file, save_file
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer

ROOT = pathlib.Path(__file__).resolve().parents[2]
TESTDATA = ROOT / "backbones" / "vit" / "testdata"
TOLERANCE = 5e-5
FULL_SIZE = [
    "vit_tiny_patch16_224",
    "vit_small_patch16_224",
    "vit_base_patch16_224",
    "deit_tiny_patch16_224",
    "deit_small_patch16_224",
    "deit_base_patch16_224",
]

SMALL = dict(patch_size=4, embed_dim=24, depth=2, num_heads=3, num_classes=10)
MODELS = {
    "class_token": dict(img_size=16),
    "average": dict(img_size=16, class_token=False, global_pool="avg", fc_norm=False),
    "rectangular": dict(img_size=(12, 20), qkv_bias=False, mlp_ratio=3.0),
}


def randomize(model, generator):
    """Weights under which every part of the model matters."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        with torch.no_grad():
            if name in ("cls_token", "pos_embed"):
                parameter.copy_(noise * 0.05)
            elif "norm" in name and name.endswith("weight"):
                parameter.copy_(1 + 0.2 * noise)
            elif name.endswith("bias"):
                parameter.copy_(0.1 * noise)
            else:
                fan_in = parameter[0].numel()
                # Small tokens come into the first norm, so that its epsilon counts.
                scale = 0.05 if name.startswith("patch_embed") else 1.0
                parameter.copy_(noise * scale / fan_in**0.5)


def largest_difference(a, b):
    return (a.double() - b.double()).abs().max().item()


def mutants(options):
    """The same model with one mistake each."""
    yield "tanh GELU", dict(options, act_layer=lambda: torch.nn.GELU(approximate="tanh"))
    yield "epsilon 1e-5", dict(options, norm_layer=lambda width, **rest: torch.nn.LayerNorm(width, eps=1e-5))


def make_model_fixture(name, options, generator):
    options = dict(SMALL, **options)
    model = VisionTransformer(**options).eval()
    randomize(model, generator)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    height, width = options["img_size"] if isinstance(options["img_size"], tuple) else (options["img_size"],) * 2
    images = torch.randn(2, 3, height, width, generator=generator)

    model.double()
    tokens = model.forward_features(images.double())
    logits = model.forward_head(tokens)
    logits.square().mean().backward()
    assert 0.3 < logits.std() < 3, f"{name}: logits of size {logits.std():.2f}"
    for mistake, mutated in mutants(options):
        mutant = VisionTransformer(**mutated).eval()
        mutant.load_state_dict(weights)
        difference = largest_difference(mutant.double()(images.double()), logits)
        assert difference > 2 * TOLERANCE, f"{name}: {mistake} costs only {difference:.1e}"
        print(f"{name}: {mistake} costs {difference:.1e}")

    tensors = dict(weights, images=images, tokens=tokens.detach(), logits=logits.detach())
    for key, parameter in model.named_parameters():
        tensors["grad/" + key] = parameter.grad
    save(name, tensors)


def make_resize_fixture(generator):
    """Position tables before and after timm's interpolation."""
    table = torch.randn(1, 1 + 4 * 4, 8, generator=generator)
    tensors = {"table": table}
    for height, width in [(6, 6), (3, 3), (5, 7)]:
        resized = resample_abs_pos_embed(table, [height, width], num_prefix_tokens=1)
        tensors[f"{height}x{width}"] = resized
    save("position_resize", tensors)


def save(name, tensors):
    TESTDATA.mkdir(parents=True, exist_ok=True)
    path = TESTDATA / f"{name}.safetensors"
    save_file({key: value.detach().float().contiguous() for key, value in tensors.items()}, path)
    path.chmod(0o644)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")


def check_full_size(name, program):
    """Whether the program's logits of a timm model with random weights are timm's."""
    generator = torch.Generator().manual_seed(0)
    model = timm.create_model(name, num_classes=1000).eval()
    randomize(model, generator)
    images = torch.randn(2, 3, 224, 224, generator=generator)
    with torch.no_grad():
        expected = model.double()(images.double())
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        save_file({key: value.float().contiguous() for key, value in model.state_dict().items()}, folder / "weights.safetensors")
        save_file({"images": images}, folder / "images.safetensors")
        subprocess.run(
            [
                program,
                "predict",
                ROOT / "configs" / "models" / f"{name}.textproto",
                f"--checkpoint={folder / 'weights.safetensors'}",
                f"--tensors={folder / 'images.safetensors'}",
                f"--output={folder / 'out.safetensors'}",
            ],
            check=True,
        )
        found = load_file(folder / "out.safetensors")["logits"]
    difference = largest_difference(found, expected)
    print(f"{name}: logits of size {expected.std():.2f} differ by at most {difference:.1e}")
    return difference <= TOLERANCE


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", nargs="*", metavar="MODEL", help="check these models (default: all six) at full size")
    parser.add_argument("--program", default=ROOT / "bazel-bin" / "app" / "graticule", help="the built program")
    arguments = parser.parse_args()
    if arguments.full is not None:
        passed = [check_full_size(name, arguments.program) for name in arguments.full or FULL_SIZE]
        sys.exit(0 if all(passed) else 1)
    generator = torch.Generator().manual_seed(1)
    for name, options in MODELS.items():
        make_model_fixture(name, options, generator)
    make_resize_fixture(generator)


if __name__ == "__main__":
    main()
