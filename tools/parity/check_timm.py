#!/usr/bin/env python3
"""Compares full-size models with timm's, in both directions: timm's weights in the program, exported ones in timm.

Needs timm 1.0.22 and safetensors, and the built program. From the repository's root:

    tools/parity/check_timm.py                                            # all models, some minutes
    tools/parity/check_timm.py swin_tiny_patch4_window7_224 --program=bazel-bin/app/graticule

For each model it draws weights, lets the program predict with them, and compares the logits with timm's. Then it lets
the program export them, and compares the logits of the model that timm makes of the exported folder.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import timm
import torch
from safetensors.torch import load_file, save_file

ROOT = pathlib.Path(__file__).absolute().parents[2]
TOLERANCE = 5e-5
CLASSES = 1000
PLUGINS = "type.googleapis.com/graticule"
# timm's name; else the spec, what of it is overridden, timm's name and arguments.
MODELS = {
    name: (name, [], name, {})
    for name in [
        "vit_tiny_patch16_224",
        "vit_small_patch16_224",
        "vit_base_patch16_224",
        "deit_tiny_patch16_224",
        "deit_small_patch16_224",
        "deit_base_patch16_224",
        "deit_tiny_distilled_patch16_224",
        "deit_small_distilled_patch16_224",
        "deit_base_distilled_patch16_224",
        "swin_tiny_patch4_window7_224",
        "swin_small_patch4_window7_224",
        "swin_base_patch4_window7_224",
        "nest_tiny",
        "nest_small",
        "nest_base",
        "nest_tiny_jx",
        "nest_small_jx",
        "nest_base_jx",
    ]
}
MODELS["vit_tiny_patch16_224 with average pooling"] = (
    "vit_tiny_patch16_224",
    [f"pooling=[{PLUGINS}.Average] {{}}"],
    "vit_tiny_patch16_224",
    dict(global_pool="avg", class_token=False, fc_norm=False),
)
for name, kind in [("vit_small_patch16_rope_224", "AXIAL"), ("vit_small_patch16_rope_mixed_224", "MIXED")]:
    overrides = ["backbone.position=NONE", "backbone.layer_scale=1e-5", f"backbone.attention_position.rope.kind={kind}"]
    MODELS[name] = ("vit_small_patch16_224", overrides, name, {})


def randomize(model, generator):
    """Weights under which every part matters and logits are of size 1."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        with torch.no_grad():
            if name.endswith("bias"):
                parameter.copy_(0.1 * noise)
            elif parameter.dim() == 1:
                parameter.copy_(1 + 0.2 * noise)
            elif "token" in name or "pos_embed" in name:
                parameter.copy_(0.05 * noise)
            elif name.endswith("bias_table"):
                parameter.copy_(0.5 * noise)
            else:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)


def check(name, program, folder):
    """The size of the logits of timm's model, and how far the program's and the exported model's are from them."""
    spec, overrides, timm_name, arguments = MODELS[name]
    generator = torch.Generator().manual_seed(0)
    model = timm.create_model(timm_name, num_classes=CLASSES, **arguments).eval()
    randomize(model, generator)
    images = torch.randn(2, 3, 224, 224, generator=generator)
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    weights, inputs, output = (folder / f"{part}.safetensors" for part in ("weights", "images", "out"))
    save_file(state, weights)
    save_file({"images": images}, inputs)

    def run(subcommand, *more):
        command = [program, subcommand, ROOT / "configs" / "models" / f"{spec}.textproto", f"--checkpoint={weights}"]
        for override in overrides:
            command += ["--set", override]
        result = subprocess.run([*command, *more], capture_output=True, text=True)
        if result.returncode != 0:
            sys.exit(f"{name}: {subcommand}: {result.stderr}")

    run("predict", f"--tensors={inputs}", f"--output={output}")
    run("export", f"--output={folder / 'exported'}")
    exported = timm.create_model(
        f"local-dir:{folder / 'exported'}", checkpoint_path=folder / "exported" / "model.safetensors"
    ).eval()
    assert type(exported) is type(model) and exported.state_dict().keys() == state.keys(), name
    for key in ("input_size", "first_conv", "classifier", "num_classes"):
        ours, theirs = exported.pretrained_cfg[key], model.pretrained_cfg[key]
        assert ours == (list(theirs) if isinstance(theirs, tuple) else theirs), f"{name}: {key} is {ours}, not {theirs}"

    with torch.no_grad():
        expected, again = model(images), exported(images)
    size = expected.std().item()
    assert 0.1 < size < 10, f"{name}: logits of size {size}"
    return size, *((found - expected).abs().max().item() for found in (load_file(output)["logits"], again))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", default=list(MODELS), help="default: all")
    parser.add_argument("--program", default=ROOT / "bazel-bin" / "app" / "graticule", help="the built program")
    arguments = parser.parse_args()
    passed = True
    for name in arguments.models:
        with tempfile.TemporaryDirectory() as folder:
            size, imported, exported = check(name, pathlib.Path(arguments.program).resolve(), pathlib.Path(folder))
        print(f"{name}: logits of size {size:.2f}; the program's differ by {imported:.1e}, the export's by {exported:.1e}")
        passed &= max(imported, exported) <= TOLERANCE
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
