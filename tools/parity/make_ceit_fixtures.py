#!/usr/bin/env python3
"""Fixtures that hold the backbone `Ceit` to the official code of CeiT, and the multiply-adds of the published models.

Needs torch 2.11, timm 1.0.22, safetensors, and a copy of github.com/coeusguo/ceit. From the repository's root:

    tools/parity/make_ceit_fixtures.py --official=FOLDER             # writes backbones/ceit/testdata/*.safetensors
    tools/parity/make_ceit_fixtures.py --official=FOLDER --macs      # prints the multiply-adds at 224×224

Each fixture holds the weights of a small random official model by name, `images`, `tokens` (the class token after the
last norm, as the classifier gets it, and the last layer's patch tokens after it, which the official model drops),
`logits`, and `grad/NAME`, the gradients of the mean of the squared logits. `train` was computed in train mode, with
the batch's statistics, and has the moving averages after that step as `after/NAME`. All are computed in double and
stored in single precision. The weights are drawn so that logits are of size 1, and so that a wrong epsilon or another
GELU shows.
"""

import argparse
import contextlib
import io
import pathlib
import sys
import warnings
from functools import partial

import torch
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

ROOT = pathlib.Path(__file__).resolve().parents[2]
TESTDATA = ROOT / "backbones" / "ceit" / "testdata"
TOLERANCE = 5e-5

STEM_WIDTH = 6
# patch_size is in pixels of the stem's output, a quarter of the image's.
SMALL = dict(img_size=32, patch_size=2, embed_dim=12, depth=3, num_heads=3, mlp_ratio=2.0, qkv_bias=True, num_classes=10)
MODELS = {
    "eval": dict(),
    "train": dict(),
    "kernel_5": dict(leff_local_size=5, qkv_bias=False),
}


def build(ceit, epsilon=1e-6, activation=None, **options):
    norm_layer = partial(torch.nn.LayerNorm, eps=epsilon)
    with contextlib.redirect_stdout(io.StringIO()):
        stem = ceit.Image2Tokens(out_chans=STEM_WIDTH)
        model = ceit.CeIT(hybrid_backbone=stem, norm_layer=norm_layer, **dict(SMALL, **options))
    if activation is not None:
        for module in model.modules():
            if hasattr(module, "act"):
                module.act = activation
    return model


def randomize(model, generator):
    """Weights and moving averages under which every part of the model matters."""
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        is_norm = ".bn" in name or "norm" in name
        if name.endswith("running_var"):
            value = (0.3 * noise).exp()
        elif name.endswith(("bias", "running_mean")):
            value = 0.1 * noise
        elif is_norm:
            value = 1 + 0.2 * noise
        elif name in ("cls_token", "pos_embed", "pos_layer_embed"):
            value = noise * 0.05
        else:
            # Small tokens come into the first norm, so that its epsilon counts.
            scale = 0.05 if name == "i2t.proj.weight" else 2.0 if ".leff." in name else 1.0
            value = noise * scale / tensor[0].numel() ** 0.5
        tensor.copy_(value)


def run(model, images):
    """Tokens and logits."""
    patches = []
    hook = model.blocks[-1].register_forward_hook(lambda module, inputs, output: patches.append(output[0][:, 1:]))
    class_token = model.forward_features(images)
    hook.remove()
    tokens = torch.cat((class_token[:, None], model.norm(patches[0])), dim=1)
    return tokens, model.head(class_token)


def make_fixture(ceit, name, options, generator):
    model = build(ceit, **options).train(name == "train")
    randomize(model, generator)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    images = torch.randn(2, 3, SMALL["img_size"], SMALL["img_size"], generator=generator)

    model.double()
    tokens, logits = run(model, images.double())
    logits.square().mean().backward()
    assert 0.3 < logits.std() < 3, f"{name}: logits of size {logits.std():.2f}"
    mistakes = {
        "tanh GELU": dict(activation=torch.nn.GELU(approximate="tanh")),
        "epsilon 1e-5": dict(epsilon=1e-5),
    }
    for mistake, change in mistakes.items():
        mutant = build(ceit, **options, **change).train(name == "train")
        mutant.load_state_dict(weights)
        difference = (mutant.double()(images.double()) - logits).abs().max().item()
        assert difference > 2 * TOLERANCE, f"{name}: {mistake} costs only {difference:.1e}"
        print(f"{name}: {mistake} costs {difference:.1e}")

    tensors = dict(weights, images=images, tokens=tokens, logits=logits)
    for key, parameter in model.named_parameters():
        tensors["grad/" + key] = parameter.grad
    if name == "train":
        for key, value in model.named_buffers():
            tensors["after/" + key] = value
    TESTDATA.mkdir(parents=True, exist_ok=True)
    path = TESTDATA / f"{name}.safetensors"
    stored = {}
    for key, value in tensors.items():
        value = value.detach().contiguous()
        stored[key] = value.float() if value.is_floating_point() else value
    save_file(stored, path)
    path.chmod(0o644)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")


def print_macs(ceit):
    for name in ("ceit_tiny_patch16_224", "ceit_small_patch16_224"):
        with contextlib.redirect_stdout(io.StringIO()):
            model = getattr(ceit, name)().eval()
        parameters = sum(p.numel() for p in model.parameters())
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 3, 224, 224))
        print(f"{name}: {parameters:,} parameters, {counter.get_total_flops() // 2:,} multiply-adds")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", required=True, metavar="FOLDER", help="of github.com/coeusguo/ceit")
    parser.add_argument("--macs", action="store_true", help="count the multiply-adds of the published models instead")
    arguments = parser.parse_args()
    sys.path.insert(0, arguments.official)
    # It was written for timm 0.3.2, whose modules have moved since.
    warnings.filterwarnings("ignore", category=FutureWarning)
    import ceit_model  # pylint: disable=import-outside-toplevel,import-error

    if arguments.macs:
        print_macs(ceit_model)
        return
    generator = torch.Generator().manual_seed(1)
    for name, options in MODELS.items():
        make_fixture(ceit_model, name, options, generator)


if __name__ == "__main__":
    main()
