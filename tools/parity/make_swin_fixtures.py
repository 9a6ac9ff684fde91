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

import argparse
import importlib.util
import pathlib
import subprocess
import sys
import tempfile
import warnings

import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models.swin_transformer import SwinTransformer
from torch import nn

ROOT = pathlib.Path(__file__).resolve().parents[2]
TESTDATA = ROOT / "backbones" / "swin" / "testdata"
TOLERANCE = 5e-5
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


def randomize(model, generator):
    """Weights under which every part of the model matters."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        with torch.no_grad():
            if "norm" in name and name.endswith("weight"):
                parameter.copy_(1 + 0.2 * noise)
            elif name.endswith("bias"):
                parameter.copy_(0.1 * noise)
            elif name.endswith("relative_position_bias_table"):
                parameter.copy_(0.5 * noise)
            elif name == "absolute_pos_embed":
                parameter.copy_(0.05 * noise)
            else:
                fan_in = parameter[0].numel()
                # Small tokens come into the first norm, so that its epsilon counts.
                scale = 0.05 if name.startswith("patch_embed") else 1.0
                parameter.copy_(noise * scale / fan_in**0.5)


def largest_difference(a, b):
    return (a.double() - b.double()).abs().max().item()


class TimmModel(nn.Module):
    """timm's model, giving tokens [B,N,C] and logits."""

    def __init__(self, **options):
        super().__init__()
        self.model = SwinTransformer(**options)

    def forward(self, images):
        tokens = self.model.forward_features(images)
        return tokens.flatten(1, 2), self.model.forward_head(tokens)


class OfficialModel(nn.Module):
    """A model of an official code, layer by layer: PositionalLabel's forward pass is written for 7×7 tokens of 768."""

    def __init__(self, code, keep_last_grid=False, **options):
        super().__init__()
        self.model = code.SwinTransformer(num_classes=CLASSES, **options)
        # Parts of the objective, which these fixtures leave out.
        for name in ("To2D", "head_coordinate"):
            if hasattr(self.model, name):
                delattr(self.model, name)
        if keep_last_grid:
            # The paper's Swin for absolute labels, for which its code has no branch: the last merging is LayerNorm and
            # Linear, and one window holds the whole map.
            *_, before, last = self.model.layers
            grid, width = before.input_resolution, before.dim
            before.downsample = nn.Sequential()
            before.downsample.norm = nn.LayerNorm(width)
            before.downsample.reduction = nn.Linear(width, 2 * width, bias=False)
            self.model.layers[-1] = code.BasicLayer(
                dim=2 * width, input_resolution=grid, depth=last.depth, num_heads=last.blocks[0].num_heads, window_size=max(grid)
            )

    def forward(self, images):
        x = self.model.patch_embed(images)
        if self.model.ape:
            x = x + self.model.absolute_pos_embed
        for layer in self.model.layers:
            x = layer(x)
        tokens = self.model.norm(x)
        return tokens, self.model.head(tokens.mean(1))


def mutants(make, options):
    """The same model with one mistake each."""
    yield "epsilon 1e-6", make(**options, norm_layer=lambda width, **rest: nn.LayerNorm(width, eps=1e-6))
    tanh = make(**options)
    for module in tanh.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.GELU):
                setattr(module, name, nn.GELU(approximate="tanh"))
    yield "tanh GELU", tanh


def make_model_fixture(name, make, options, generator):
    model = make(**options).eval()
    randomize(model.model, generator)
    weights = {key: value.clone() for key, value in model.model.state_dict().items()}
    size = options["img_size"]
    height, width = size if isinstance(size, tuple) else (size, size)
    images = torch.randn(2, 3, height, width, generator=generator)

    model.double()
    tokens, logits = model(images.double())
    logits.square().mean().backward()
    assert 0.2 < logits.std() < 3, f"{name}: logits of size {logits.std():.2f}"
    for mistake, mutant in mutants(make, options):
        mutant.model.load_state_dict(weights)
        difference = largest_difference(mutant.eval().double()(images.double())[1], logits)
        assert difference > 2 * TOLERANCE, f"{name}: {mistake} costs only {difference:.1e}"
        print(f"{name}: {mistake} costs {difference:.1e}")

    tensors = {key: value.float() for key, value in weights.items()}
    tensors.update(images=images, tokens=tokens, logits=logits)
    for key, parameter in model.model.named_parameters():
        tensors["grad/" + key] = parameter.grad
    save(name, tensors)


def make_resize_fixture(generator):
    """As in load_pretrained of Swin's utils.py."""
    table = torch.randn(7 * 7, 3, generator=generator)
    tensors = {"table": table}
    for window in (6, 3, 2):
        side = 2 * window - 1
        map_ = table.permute(1, 0).view(1, 3, 7, 7)
        resized = nn.functional.interpolate(map_, size=(side, side), mode="bicubic")
        tensors[f"{window}"] = resized.view(3, side * side).permute(1, 0)
    save("bias_resize", tensors)


def save(name, tensors):
    TESTDATA.mkdir(parents=True, exist_ok=True)
    path = TESTDATA / f"{name}.safetensors"
    save_file({key: value.detach().float().contiguous() for key, value in tensors.items()}, path)
    path.chmod(0o644)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")


def check_full_size(name, program, microsoft):
    """Whether the program's logits are timm's and Swin's, of the same random weights under the names of each."""
    generator = torch.Generator().manual_seed(0)
    model = timm.create_model(name).eval()
    randomize(model, generator)
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
    passed = True
    for code, module in (("timm", model), ("Swin's code", official)):
        with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            weights = {key: value.contiguous() for key, value in module.state_dict().items()}
            save_file(weights, folder / "weights.safetensors")
            save_file({"images": images}, folder / "images.safetensors")
            expected = module.double()(images.double())
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
        print(f"{name}, {code}: logits of size {expected.std():.2f} differ by at most {difference:.1e}")
        passed &= difference <= TOLERANCE
    return passed


def load(path):
    """A file of an official code as a module."""
    spec = importlib.util.spec_from_file_location(path.parent.parent.name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", type=pathlib.Path, required=True, help="the folder with the official codes")
    parser.add_argument("--full", nargs="*", metavar="MODEL", help="check these models (default: all) at full size")
    parser.add_argument("--program", default=ROOT / "bazel-bin" / "app" / "graticule", help="the built program")
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
        make_model_fixture(name, TimmModel, dict(SMALL, **options), generator)
    small = dict(SMALL, img_size=16)
    del small["num_classes"]

    def official(code, **fixed):
        return lambda **options: OfficialModel(code, **fixed, **options)

    make_model_fixture("absolute_position", official(microsoft, ape=True), small, generator)
    make_model_fixture("conditional_position", official(positional_label), small, generator)
    make_model_fixture("last_grid_kept", official(positional_label, keep_last_grid=True), small, generator)
    make_resize_fixture(generator)


if __name__ == "__main__":
    main()
