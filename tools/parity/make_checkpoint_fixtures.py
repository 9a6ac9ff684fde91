#!/usr/bin/env python3
"""Checkpoints of small models as other codes write them, for tests/checkpoints_test.cc.

Needs torch 2.11, timm 1.0.22 and safetensors, and the official code in a folder that has LaPE/ (Ingrid725/LaPE) and
PositionalLabel/ (zhangzhemin/PositionalLabel). From the repository's root:

    tools/parity/make_checkpoint_fixtures.py --official=FOLDER      # writes tests/testdata/checkpoints/

    timm.safetensors         timm's VisionTransformer
    config.json              what timm writes for it with save_config_for_hf
    deit.pth                 the same weights as DeiT publishes them: {"model": state dict}
    deit_distilled.pth       with a distillation token and its head
    lape.pth                 LaPE's model with 1-D sinusoids, whose table has no axis for the batch
    positional_label.pth     the ViT of the positional-label paper, with APL's head
    expected.safetensors     "images", "images_24", and the logits of each by its name, computed in double
"""

import importlib
import sys

import common
import timm
import torch
from safetensors.torch import save_file
from timm.models._hub import save_config_for_hf
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

TESTDATA = common.ROOT / "tests" / "testdata" / "checkpoints"
WIDTH = 16
CLASSES = 10
SMALL = dict(img_size=16, patch_size=4, embed_dim=WIDTH, depth=2, num_heads=2, num_classes=CLASSES)


def randomize(model, generator):
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        with torch.no_grad():
            if not parameter.requires_grad:
                continue
            if name.endswith("bias"):
                parameter.copy_(0.1 * noise)
            elif parameter.dim() == 1:
                parameter.copy_(1 + 0.2 * noise)
            elif "token" in name or "pos_embed" in name:
                parameter.copy_(0.5 * noise)
            else:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
    return model.eval()


def state_of(model):
    return {name: tensor.detach().float().clone() for name, tensor in model.state_dict().items()}


def logits_of(model, images):
    with torch.no_grad():
        return model.double()(images.double())


def lape(folder):
    sys.path.insert(0, str(folder / "LaPE"))
    # It imports a module of an old timm for its registry of models alone.
    module = importlib.import_module("vision_transformer")
    sys.path.pop(0)
    return module.VisionTransformer(
        qkv_bias=True,
        norm_layer=lambda width: torch.nn.LayerNorm(width, eps=1e-6),
        pe="1D_sin",
        join_type="LaPE",
        **SMALL,
    )


def positional_label(folder):
    sys.path.insert(0, str(folder / "PositionalLabel" / "PositionalLabel(ViT-B_APL)" / "models"))
    module = importlib.import_module("ViT_B")
    sys.path.pop(0)
    model = module.VisionTransformer(**SMALL)
    # Its sizes are those of ViT-B.
    model.To2D = module.Coordinate_zhang(WIDTH // 2, WIDTH // 2, WIDTH // 4)
    model.head_coordinate = torch.nn.Linear(WIDTH // 4, 16)
    return model


def logits_of_positional_label(model, images):
    model.double()
    with torch.no_grad():
        tokens = model.norm(model.blocks(model.patch_embed(images.double()) + model.pos_embed))
        coordinates = model.head_coordinate(model.To2D(tokens[:, :, : WIDTH // 2]))
        return model.head(tokens.mean(1)), coordinates


def main():
    arguments = common.new_parser(__doc__, official="with LaPE/ and PositionalLabel/").parse_args()
    generator = torch.Generator().manual_seed(1)
    TESTDATA.mkdir(parents=True, exist_ok=True)
    images = torch.randn(2, 3, 16, 16, generator=generator)
    images_24 = torch.randn(2, 3, 24, 24, generator=generator)
    expected = {"images": images, "images_24": images_24}

    model_args = {key: value for key, value in SMALL.items() if key not in ("img_size", "num_classes")}
    plain = randomize(timm.create_model("vit_base_patch16_224", **SMALL), generator)
    state = state_of(plain)
    save_file(state, TESTDATA / "timm.safetensors")
    torch.save({"model": state, "epoch": 299}, TESTDATA / "deit.pth")
    save_config_for_hf(plain, TESTDATA / "config.json", model_args=model_args)
    expected["timm"] = logits_of(plain, images)
    larger = VisionTransformer(**dict(SMALL, img_size=24)).eval()
    larger.load_state_dict(checkpoint_filter_fn(state, larger))
    expected["timm_24"] = logits_of(larger, images_24)

    distilled = randomize(VisionTransformerDistilled(**SMALL), generator)
    torch.save({"model": state_of(distilled)}, TESTDATA / "deit_distilled.pth")
    expected["deit_distilled"] = logits_of(distilled, images)

    model = randomize(lape(arguments.official), generator)
    torch.save({"model": state_of(model), "epoch": 299}, TESTDATA / "lape.pth")
    expected["lape"] = logits_of(model, images)

    model = randomize(positional_label(arguments.official), generator)
    torch.save({"model": state_of(model)}, TESTDATA / "positional_label.pth")
    expected["positional_label"], expected["positional_label_apl"] = logits_of_positional_label(model, images)

    save_file({name: tensor.float().contiguous() for name, tensor in expected.items()}, TESTDATA / "expected.safetensors")
    for name, tensor in expected.items():
        print(f"{name}: {list(tensor.shape)}, of size {tensor.std():.2f}")
    for path in sorted(TESTDATA.iterdir()):
        path.chmod(0o644)
        print(f"{path.relative_to(common.ROOT)}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
