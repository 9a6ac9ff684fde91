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

import argparse
import pathlib
import subprocess
import sys
import tempfile
import types
import unittest.mock
import warnings

import torch
from safetensors.torch import load_file, save_file
from torch.utils.flop_counter import FlopCounterMode

ROOT = pathlib.Path(__file__).resolve().parents[2]
TESTDATA = ROOT / "backbones" / "t2t_vit" / "testdata"
TOLERANCE = 5e-5
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
    """Weights under which every part of the model matters; the sinusoid and the random features stay."""
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        noise = torch.randn(parameter.shape, generator=generator)
        with torch.no_grad():
            if name == "cls_token":
                parameter.copy_(noise * 0.5)
            elif "norm" in name and name.endswith("weight"):
                parameter.copy_(1 + 0.2 * noise)
            elif name.endswith("bias"):
                parameter.copy_(0.1 * noise)
            else:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)


def tokens_and_logits(model, images):
    """All tokens after the last norm, which forward_features cuts down to the class token."""
    tokens = []
    hook = model.norm.register_forward_hook(lambda module, inputs, output: tokens.append(output))
    with in_double():
        logits = model(images)
    hook.remove()
    return tokens[0], logits


def mutants(official, options):
    """The same model with one mistake each, as (its name, a function from weights to a model)."""

    def build(weights, **changes):
        model = official.T2T_ViT(**dict(options, **changes)).eval()
        model.load_state_dict(weights)
        return model

    def tanh_gelu(weights):
        model = build(weights)
        for module in model.modules():
            if isinstance(module, torch.nn.GELU):
                module.approximate = "tanh"
        return model

    def other_epsilon(weights):
        model = build(weights)
        for module in model.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.eps = 1e-6
        return model

    def queries_first(weights):
        def swapped(name, tensor):
            if "tokens_to_token" not in name or not any(part in name for part in ("kqv", "qkv")):
                return tensor
            first, second, values = tensor.chunk(3)
            return torch.cat([second, first, values])

        return build({name: swapped(name, tensor) for name, tensor in weights.items()})

    yield "tanh GELU", tanh_gelu
    yield "epsilon 1e-6", other_epsilon
    yield "another order of queries and keys", queries_first
    yield "scale of the width", lambda weights: build(weights, qk_scale=options["embed_dim"] ** -0.5)


def make_fixture(official, name, options, generator):
    options = dict(SMALL, **options)
    model = official.T2T_ViT(**options).eval()
    randomize(model, generator)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    size = options["img_size"]
    # Low contrast, so that the epsilon of the first norm counts.
    images = 0.05 * torch.randn(2, 3, size, size, generator=generator)

    tokens, logits = tokens_and_logits(model.double(), images.double())
    logits.square().mean().backward()
    assert 0.3 < logits.std() < 3, f"{name}: logits of size {logits.std():.2f}"
    for mistake, mutate in mutants(official, options):
        difference = (tokens_and_logits(mutate(weights).double(), images.double())[1] - logits).abs().max().item()
        assert difference > 2 * TOLERANCE, f"{name}: {mistake} costs only {difference:.1e}"
        print(f"{name}: {mistake} costs {difference:.1e}")

    tensors = dict(weights, images=images, tokens=tokens, logits=logits)
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            tensors["grad/" + key] = parameter.grad
    TESTDATA.mkdir(parents=True, exist_ok=True)
    path = TESTDATA / f"{name}.safetensors"
    save_file({key: value.detach().float().contiguous() for key, value in tensors.items()}, path)
    path.chmod(0o644)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")


def check_full_size(official, name, program):
    """Whether the program's logits of an official model with random weights are the official code's."""
    generator = torch.Generator().manual_seed(0)
    model = getattr(official, name)().eval()
    randomize(model, generator)
    images = torch.randn(2, 3, 224, 224, generator=generator)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        save_file({key: value.contiguous() for key, value in model.state_dict().items()}, folder / "weights.safetensors")
        save_file({"images": images}, folder / "images.safetensors")
        with torch.no_grad():
            expected = tokens_and_logits(model.double(), images.double())[1]
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
    difference = (found.double() - expected).abs().max().item()
    print(f"{name}: logits of size {expected.std():.2f} differ by at most {difference:.1e}")
    return difference <= TOLERANCE


def print_counts(official, name):
    model = getattr(official, name)().eval().to("meta")
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(torch.empty(1, 3, 224, 224, device="meta"))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    print(f"{name}: {parameters:,} parameters, {trained:,} trained, {counter.get_total_flops() // 2:,} multiply-adds")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", required=True, type=pathlib.Path, help="checkout of the official code")
    parser.add_argument("--full", nargs="*", metavar="MODEL", help="check these models (default: all four) at full size")
    parser.add_argument("--count", nargs="*", metavar="MODEL", help="print these models' parameters and multiply-adds")
    parser.add_argument("--program", default=ROOT / "bazel-bin" / "app" / "graticule", help="the built program")
    arguments = parser.parse_args()
    official = import_official(arguments.official)
    if arguments.count is not None:
        for name in arguments.count or FULL_SIZE:
            print_counts(official, name)
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
