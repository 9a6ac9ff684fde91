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

import argparse
import importlib
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
TESTDATA = ROOT / "backbones" / "vit_lite" / "testdata"
TOLERANCE = 5e-5
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


def randomize(model, generator):
    """Weights under which every part of the model matters."""
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        noise = torch.randn(parameter.shape, generator=generator)
        with torch.no_grad():
            if name.endswith("_emb"):
                parameter.copy_(noise * 0.05)
            elif "norm" in name and name.endswith("weight"):
                parameter.copy_(1 + 0.2 * noise)
            elif name.endswith("bias"):
                parameter.copy_(0.1 * noise)
            else:
                fan_in = parameter[0].numel()
                # Small tokens come into the first norm, so that its epsilon counts; the MLP must be heard.
                scale = 0.05 if name.startswith("tokenizer") else 1.5 if "linear" in name else 1.0
                parameter.copy_(noise * scale / fan_in**0.5)


def largest_difference(a, b):
    return (a.double() - b.double()).abs().max().item()


def mutate_gelu(model):
    for block in model.classifier.blocks:
        block.activation = lambda x: torch.nn.functional.gelu(x, approximate="tanh")


def mutate_epsilon(model):
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-6


def mutate_residual(model):
    """The MLP's residual from the stream before the norm, as in other transformers."""

    def forward(block, x):
        x = x + block.self_attn(block.pre_norm(x))
        return x + block.linear2(block.activation(block.linear1(block.norm1(x))))

    for block in model.classifier.blocks:
        block.forward = forward.__get__(block)


def mutants(options):
    """What must show in the logits."""
    yield mutate_gelu
    yield mutate_residual
    if options.get("positional_embedding") != "sine":  # whose entries of size 1 drown any epsilon
        yield mutate_epsilon


def run(model, images):
    """Tokens after the last norm, and logits."""
    seen = []
    hook = model.classifier.norm.register_forward_hook(lambda module, inputs, output: seen.append(output))
    logits = model(images)
    hook.remove()
    return seen[0], logits


def make_model_fixture(name, make, options, generator):
    model = make().eval()
    randomize(model, generator)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    images = torch.randn(2, 3, options["img_size"], options["img_size"], generator=generator)

    tokens, logits = run(model.double(), images.double())
    logits.square().mean().backward()
    assert 0.3 < logits.std() < 3, f"{name}: logits of size {logits.std():.2f}"
    for mutate in mutants(options):
        mutant = make().eval()
        mutant.load_state_dict(weights)
        mutate(mutant)
        difference = largest_difference(run(mutant.double(), images.double())[1], logits)
        assert difference > 2 * TOLERANCE, f"{name}: {mutate.__name__} costs only {difference:.1e}"
        print(f"{name}: {mutate.__name__} costs {difference:.1e}")

    tensors = dict(weights, images=images, tokens=tokens, logits=logits)
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            tensors["grad/" + key] = parameter.grad
    TESTDATA.mkdir(parents=True, exist_ok=True)
    path = TESTDATA / f"{name}.safetensors"
    save_file({key: value.detach().float().contiguous() for key, value in tensors.items()}, path)
    path.chmod(0o644)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")


def check_full_size(name, model, program):
    """Whether the program's logits of an official model with random weights are that model's."""
    generator = torch.Generator().manual_seed(0)
    model.eval()
    randomize(model, generator)
    images = torch.randn(2, 3, 32, 32, generator=generator)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        expected = model.double()(images.double())
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        save_file(weights, folder / "weights.safetensors")
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
    parser.add_argument("--official", required=True, metavar="FOLDER", help="the official code")
    parser.add_argument("--full", nargs="*", metavar="MODEL", help="check these models (default: all) at full size")
    parser.add_argument("--program", default=ROOT / "bazel-bin" / "app" / "graticule", help="the built program")
    arguments = parser.parse_args()
    sys.path.insert(0, arguments.official)

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
        make_model_fixture(name, lambda: official(module, function)(**dict(SMALL, **options)), options, generator)


if __name__ == "__main__":
    main()
