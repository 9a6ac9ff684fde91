#!/usr/bin/env python3
"""Fixtures that hold the backbone `Vit` to timm; check_timm.py does at full size.

Needs torch 2.11, timm 1.0.22 and safetensors. From the repository's root:

    tools/parity/make_vit_fixtures.py                # writes backbones/vit/testdata/*.safetensors

iRPE's fixture wants the folder iRPE/DeiT-with-iRPE of microsoft/Cream besides: --irpe=FOLDER; without it this one is left.

Each model fixture holds the weights of a small random timm model by name, `images`, `tokens` and `logits` of these, and
`grad/NAME`, the gradients of the mean of the squared logits. All are computed in double and stored in single precision.
The weights are drawn so that logits are of size 1, and so that a wrong epsilon or another GELU shows.
"""

import importlib
import pathlib
import sys
import types

import common
import torch
from timm.layers import resample_abs_pos_embed
from timm.models.eva import Eva
from timm.models.twins import PosConv
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_relpos import VisionTransformerRelPos

TESTDATA = common.ROOT / "backbones" / "vit" / "testdata"

SMALL = dict(patch_size=4, embed_dim=24, depth=2, num_heads=3, num_classes=10)
MODELS = {
    "class_token": dict(img_size=16),
    "average": dict(img_size=16, class_token=False, global_pool="avg", fc_norm=False),
    "rectangular": dict(img_size=(12, 20), qkv_bias=False, mlp_ratio=3.0),
}


ROPE = dict(
    SMALL,
    img_size=(12, 20),
    attn_type="rope",
    qkv_bias=True,
    init_values=1e-5,
    use_rot_pos_emb=True,
    rope_grid_indexing="xy",
    use_abs_pos_emb=False,
    global_pool="token",
)
ENCODINGS = {
    "rope_axial": lambda: Eva(**ROPE, rope_temperature=100.0),
    "rope_mixed": lambda: Eva(**ROPE, rope_type="mixed", rope_temperature=10.0),
    "relative_bias": lambda: VisionTransformerRelPos(
        **SMALL, img_size=(12, 20), rel_pos_type="bias", class_token=True, global_pool="token", init_values=None
    ),
}
# Ours where it is another one.
RENAMED = {"attn.rel_pos.relative_position_bias_table": "attn.relative_position_bias_table"}


class Conditional(VisionTransformer):
    """timm's ViT without positions, with the PEG of its Twins after the first layer."""

    def __init__(self):
        super().__init__(**SMALL, img_size=(12, 20), pos_embed="none")
        self.pos_block = torch.nn.ModuleList([PosConv(SMALL["embed_dim"], SMALL["embed_dim"])])

    def forward_features(self, x, attn_mask=None):
        x = self.patch_embed(x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1)
        for layer, block in enumerate(self.blocks):
            x = block(x)
            if layer == 0:
                x = torch.cat([x[:, :1], self.pos_block[0](x[:, 1:], (3, 5))], 1)
        return self.norm(x)


class IrpeAttention(torch.nn.Module):
    """timm's attention with the official encoding of keys."""

    def __init__(self, attention, irpe, grid):
        super().__init__()
        self.qkv, self.proj = attention.qkv, attention.proj
        self.heads, self.scale, self.grid = attention.num_heads, attention.scale, grid
        config = irpe.get_rpe_config(ratio=1.9, method="product", mode="ctx", shared_head=True, skip=1, rpe_on="k")
        _, self.rpe_k, _ = irpe.build_rpe(config, head_dim=attention.head_dim, num_heads=attention.num_heads)

    def forward(self, x, **unused):
        b, n, d = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        q = q * self.scale
        logits = q @ k.transpose(-2, -1) + self.rpe_k(q, height=self.grid[0], width=self.grid[1])
        return self.proj((logits.softmax(-1) @ v).transpose(1, 2).reshape(b, n, d))


def irpe_model(folder):
    # The official code asks for this package only to make a dictionary with attributes.
    sys.modules.setdefault("easydict", types.SimpleNamespace(EasyDict=lambda *a, **k: types.SimpleNamespace(**dict(*a, **k))))
    sys.path.insert(0, str(folder))
    irpe = importlib.import_module("irpe")

    def build():
        # Wide enough that offsets fall into one bucket together.
        model = VisionTransformer(**SMALL, img_size=(12, 36))
        for block in model.blocks:
            block.attn = IrpeAttention(block.attn, irpe, (3, 9))
        return model

    return build


SCALES = {"freqs": 0.5, "pos_block": 0.3, "bias_table": 1, "lookup_table": 1, "cls_token": 0.05, "pos_embed": 0.05}
# Small tokens come into the first norm, so that its epsilon counts.
GAINS = {"patch_embed": 0.05}
MISTAKES = {"tanh GELU": common.tanh_gelu, "epsilon 1e-5": common.epsilon(1e-5)}


def ours(name):
    for theirs, other in RENAMED.items():
        name = name.replace(theirs, other)
    return name


def run(model, images):
    tokens = model.forward_features(images)
    return tokens, model.forward_head(tokens)


def make_model_fixture(name, model, generator):
    common.randomize(model.eval(), generator, SCALES, GAINS)
    images = torch.randn(2, 3, *model.patch_embed.img_size, generator=generator)
    # timm's mixed rotations work in single precision alone.
    precision = torch.float32 if name == "rope_mixed" else torch.float64
    common.make_model_fixture(
        TESTDATA / f"{name}.safetensors", model, run, images, MISTAKES, rename=ours, precision=precision
    )


def make_resize_fixture(generator):
    """Position tables before and after timm's interpolation."""
    table = torch.randn(1, 1 + 4 * 4, 8, generator=generator)
    tensors = {"table": table}
    for height, width in [(6, 6), (3, 3), (5, 7)]:
        resized = resample_abs_pos_embed(table, [height, width], num_prefix_tokens=1)
        tensors[f"{height}x{width}"] = resized
    common.save(TESTDATA / "position_resize.safetensors", tensors)


def main():
    parser = common.new_parser(__doc__)
    parser.add_argument("--irpe", type=pathlib.Path, metavar="FOLDER", help="the official code of iRPE with DeiT")
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(1)
    for name, options in MODELS.items():
        make_model_fixture(name, VisionTransformer(**SMALL, **options), generator)
    make_resize_fixture(generator)
    builders = dict(ENCODINGS, conditional=Conditional)
    if arguments.irpe:
        builders["irpe"] = irpe_model(arguments.irpe)
    for name, build in builders.items():
        make_model_fixture(name, build(), generator)


if __name__ == "__main__":
    main()
