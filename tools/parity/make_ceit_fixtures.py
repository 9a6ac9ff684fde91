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

import contextlib
import io
import sys
import warnings
from functools import partial

import common
import torch

TESTDATA = common.ROOT / "backbones" / "ceit" / "testdata"

STEM_WIDTH = 6
# patch_size is in pixels of the stem's output, a quarter of the image's.
SMALL = dict(img_size=32, patch_size=2, embed_dim=12, depth=3, num_heads=3, mlp_ratio=2.0, qkv_bias=True, num_classes=10)
MODELS = {
    "eval": dict(),
    "train": dict(),
    "kernel_5": dict(leff_local_size=5, qkv_bias=False),
}


SCALES = {"cls_token": 0.05, "pos_embed": 0.05, "pos_layer_embed": 0.05}
# Small tokens come into the first norm, so that its epsilon counts.
GAINS = {"i2t.proj": 0.05, ".leff.": 2.0}
MISTAKES = {"tanh GELU": common.tanh_gelu, "epsilon 1e-5": common.epsilon(1e-5)}


def build(ceit, **options):
    with contextlib.redirect_stdout(io.StringIO()):
        stem = ceit.Image2Tokens(out_chans=STEM_WIDTH)
        norm_layer = partial(torch.nn.LayerNorm, eps=1e-6)
        return ceit.CeIT(hybrid_backbone=stem, norm_layer=norm_layer, **dict(SMALL, **options))


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
    common.randomize(model, generator, SCALES, GAINS)
    images = torch.randn(2, 3, SMALL["img_size"], SMALL["img_size"], generator=generator)
    common.make_model_fixture(TESTDATA / f"{name}.safetensors", model, run, images, MISTAKES)


def print_macs(ceit):
    for name in ("ceit_tiny_patch16_224", "ceit_small_patch16_224"):
        with contextlib.redirect_stdout(io.StringIO()):
            model = getattr(ceit, name)().eval()
        common.print_counts(name, model, torch.zeros(1, 3, 224, 224))


def main():
    parser = common.new_parser(__doc__, official="of github.com/coeusguo/ceit")
    parser.add_argument("--macs", action="store_true", help="count the multiply-adds of the published models instead")
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.official))
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
