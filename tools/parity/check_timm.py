#!/usr/bin/env python3
"""Compares full-size models with timm's, in both directions: timm's weights in the program, exported ones in timm.

Needs timm 1.0.22 and safetensors, and the built program. From the repository's root:

    tools/parity/check_timm.py                                            # all models, some minutes
    tools/parity/check_timm.py swin_tiny_patch4_window7_224 --program=bazel-bin/app/graticule

For each model it draws weights, lets the program predict with them, and compares the logits with timm's. Then it lets
the program export them, and compares the logits of the model that timm makes of the exported folder.
"""

import pathlib
import sys
import tempfile

import common
import timm
import torch

# Where a build lays the files out, else the repository.
ROOT = pathlib.Path(__file__).absolute().parents[2]
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


def check(name, program, folder):
    """The size of the logits of timm's model, and how far the program's and the exported model's are from them."""
    spec, overrides, timm_name, arguments = MODELS[name]
    generator = torch.Generator().manual_seed(0)
    model = timm.create_model(timm_name, num_classes=CLASSES, **arguments).eval()
    common.randomize(model, generator, {"token": 0.05, "pos_embed": 0.05, "bias_table": 0.5})
    images = torch.randn(2, 3, 224, 224, generator=generator)
    state = model.state_dict()
    spec = ROOT / "configs" / "models" / f"{spec}.textproto"
    overrides = [f"--set={override}" for override in overrides]
    predicted = common.predict(program, spec, state, images, *overrides)
    common.run_program(program, "export", spec, state, *overrides, f"--output={folder / 'exported'}")
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
    return size, *(common.largest_difference(found, expected) for found in (predicted, again))


def main():
    parser = common.new_parser(__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", default=list(MODELS), help="default: all")
    parser.add_argument("--program", default=ROOT / "bazel-bin" / "app" / "graticule", help="the built program")
    arguments = parser.parse_args()
    passed = True
    for name in arguments.models:
        with tempfile.TemporaryDirectory() as folder:
            size, imported, exported = check(name, pathlib.Path(arguments.program).resolve(), pathlib.Path(folder))
        print(f"{name}: logits of size {size:.2f}; the program's differ by {imported:.1e}, the export's by {exported:.1e}")
        passed &= max(imported, exported) <= common.TOLERANCE
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
