#!/usr/bin/env python3
"""Fixtures that hold the backbone `Swin` to timm and two official codes, and a check of full-size models.

Needs torch 2.11, timm 1.0.22 and safetensors, and microsoft/Swin-Transformer and zhangzhemin/PositionalLabel side by
side in one folder. From the repository's root:

    tools/parity/make_swin_fixtures.py --official=FOLDER   # writes backbones/swin/testdata/*.safetensors
    tools/parity/make_swin_fixtures.py --official=FOLDER --full [MODEL…]   # the program's logits at full size

Each model fixture holds the weights of a small random model by the names of
its code, `images`, `tokens` (after the last norm) and `logits` of these, and `grad/NAME`, the gradients of the mean of
the squared logits. All are computed in double and stored in single precision. The weights are drawn so that logits are
of size 1, and so that a wrong epsilon or another GELU shows. `bias_resize` holds a table of relative position biases and
what Swin's code makes of it for windows of other sizes.
"""

import importlib.util
import sys
import warnings

import common
import timm
import torch
from timm.models.swin_transformer import SwinTransformer
from torch import nn

TESTDATA = common.ROOT / "backbones" / "swin" / "testdata"
CLASSES = 5
FULL_SIZE = [f"swin_{size}_patch4_window7_224" for size in ("tiny", "small", "base")]

SMALL = dict(patch_size=2, embed_dim=8, depths=(2, 2), num_heads=(2, 4), window_size=4, num_classes=CLASSES)
TIMM_MODELS = {
    # 16×16 and 8×8 tokens, windows of 4×4, shifted in every second layer.
    "shifted": dict(img_size=32),
    # 10×18 and 5×9 tokens, which windows of 4×4 don't tile.
    "padded": dict(img_size=(20, 36), mlp_ratio=2.0),
    # 4×12 and 2×6 tokens: windows are smaller than 4×4, and shifted along one axis alone.
    "clipped": dict(img_size=(8, 24), qkv_bias=False),
}


SCALES = {"bias_table": 0.5, "absolute_pos_embed": 0.05}
# Small tokens come into the first norm, so that its epsilon counts.
GAINS = {"patch_embed": 0.05}
MISTAKES = {"tanh GELU": common.tanh_gelu, "epsilon 1e-6": common.epsilon(1e-6)}


def run_timm(model, images):
    """Tokens [B,N,C] and logits."""
    tokens = model.forward_features(images)
    return tokens.flatten(1, 2), model.forward_head(tokens)


def official_model(code, keep_last_grid=False, **options):
    model = code.SwinTransformer(num_classes=CLASSES, **options)
    # Parts of the objective, which these fixtures leave out.
    for name in ("To2D", "head_coordinate"):
        if hasattr(model, name):
            delattr(model, name)
    if keep_last_grid:
        # The paper's Swin for absolute labels, for which its code has no branch: the last merging is LayerNorm and
        # Linear, and one window holds the whole map.
        *_, before, last = model.layers
        grid, width = before.input_resolution, before.dim
        before.downsample = nn.Sequential()
        before.downsample.norm = nn.LayerNorm(width)
        before.downsample.reduction = nn.Linear(width, 2 * width, bias=False)
        model.layers[-1] = code.BasicLayer(
            dim=2 * width, input_resolution=grid, depth=last.depth, num_heads=last.blocks[0].num_heads, window_size=max(grid)
        )
    return model


def run_official(model, images):
    """Layer by layer: PositionalLabel's forward pass is written for 7×7 tokens of 768."""
    x = model.patch_embed(images)
    if model.ape:
        x = x + model.absolute_pos_embed
    for layer in model.layers:
        x = layer(x)
    tokens = model.norm(x)
    return tokens, model.head(tokens.mean(1))


def make_model_fixture(name, model, run, generator):
    common.randomize(model.eval(), generator, SCALES, GAINS)
    images = torch.randn(2, 3, *model.patch_embed.img_size, generator=generator)
    common.make_model_fixture(TESTDATA / f"{name}.safetensors", model, run, images, MISTAKES)


def make_resize_fixture(generator):
    """As in load_pretrained of Swin's utils.py."""
    table = torch.randn(7 * 7, 3, generator=generator)
    tensors = {"table": table}
    for window in (6, 3, 2):
        side = 2 * window - 1
        map_ = table.permute(1, 0).view(1, 3, 7, 7)
        resized = nn.functional.interpolate(map_, size=(side, side), mode="bicubic")
        tensors[f"{window}"] = resized.view(3, side * side).permute(1, 0)
    common.save(TESTDATA / "bias_resize.safetensors", tensors)


def check_full_size(name, program, microsoft):
    """Whether the program's logits are timm's and Swin's, of the same random weights under the names of each."""
    generator = torch.Generator().manual_seed(0)
    model = timm.create_model(name).eval()
    common.randomize(model, generator, SCALES, GAINS)
    images = torch.randn(2, 3, 224, 224, generator=generator)
    stages = {"depths": [len(stage.blocks) for stage in model.layers]}
    stages["num_heads"] = [stage.blocks[0].attn.num_heads for stage in model.layers]
    official = microsoft.SwinTransformer(embed_dim=model.embed_dim, **stages).eval()
    weights = official.state_dict()
    for key, value in model.state_dict().items():
        parts = key.replace("head.fc.", "head.").split(".")
        if "downsample" in parts:
            parts[1] = str(int(parts[1]) - 1)
        weights[".".join(parts)] = value
    official.load_state_dict(weights)
    checks = {f"{name}, timm": model, f"{name}, Swin's code": official}
    return all([common.check_full_size(what, program, name, module, images) for what, module in checks.items()])


def load(path):
    """A file of an official code as a module."""
    spec = importlib.util.spec_from_file_location(path.parent.parent.name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main():
    parser = common.new_parser(__doc__, official="the folder with the official codes")
    common.add_full_size(parser)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    microsoft = load(arguments.official / "Swin-Transformer" / "models" / "swin_transformer.py")
    if arguments.full is not None:
        models = arguments.full or FULL_SIZE
        passed = [check_full_size(name, arguments.program, microsoft) for name in models]
        sys.exit(0 if all(passed) else 1)
    folder = arguments.official / "PositionalLabel" / "PositionalLabel(Swin-T_RPL)"
    positional_label = load(folder / "models" / "swin_transformer.py")

    generator = torch.Generator().manual_seed(1)
    for name, options in TIMM_MODELS.items():
        make_model_fixture(name, SwinTransformer(**SMALL, **options), run_timm, generator)
    small = dict(SMALL, img_size=16)
    del small["num_classes"]
    for name, model in {
        "absolute_position": official_model(microsoft, ape=True, **small),
        "conditional_position": official_model(positional_label, **small),
        "last_grid_kept": official_model(positional_label, keep_last_grid=True, **small),
    }.items():
        make_model_fixture(name, model, run_official, generator)
    make_resize_fixture(generator)


if __name__ == "__main__":
    main()
