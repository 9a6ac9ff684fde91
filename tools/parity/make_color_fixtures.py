#!/usr/bin/env python3
"""Makes what the tests of the colour transforms, of SimpleRandomCrop and of Mixup compare with.

  python3 -m venv venv && venv/bin/pip install pillow==13.0.0 torchvision==0.26.0 timm==1.0.22 safetensors
  venv/bin/python tools/parity/make_color_fixtures.py

Images in data/transforms/testdata are Pillow's and torchvision's results on picture.png, which make_image_fixtures.py
makes, and on `colors.png`, 4096 random colours. data/batch_transforms/mixup/testdata holds timm's FastCollateMixup
under fixed lambdas and boxes: `images`, `labels`, and for each mode `lambda` [B], `box` [B,4] (top, left, height, width;
-1 where there is none), `mixed` and `targets`, with label smoothing 0.1.
"""

import pathlib

import numpy as np
import timm.data.mixup
import torch
from PIL import Image, ImageFilter
from safetensors.torch import save_file
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

ROOT = pathlib.Path(__file__).resolve().parents[2]
TESTDATA = ROOT / "data/transforms/testdata"
MIXUP = ROOT / "data/batch_transforms/mixup/testdata/mixup.safetensors"

BATCH, HEIGHT, WIDTH, CLASSES, SMOOTHING = 6, 5, 7, 4, 0.1
BOXES = [(1, 2, 3, 4), (0, 0, 5, 2), (2, 0, 2, 7)]
# Of each image, in the order of FastCollateMixup: a lambda, or the number of a box, or nothing.
MIXINGS = {
    "batch_mixup": [0.3],
    "batch_cutmix": [0],
    "pair": [0.71, 1, None],
    "elem": [0.9, 2, None, 0.25, 0, 1],
}


class FixedMixup(timm.data.mixup.FastCollateMixup):
    def __init__(self, mode, mixings):
        super().__init__(mode=mode, label_smoothing=SMOOTHING, num_classes=CLASSES)
        self.mixings = mixings

    def _params_per_elem(self, batch_size):
        assert batch_size == len(self.mixings)
        lam = [1 if m is None else m if isinstance(m, float) else 0.5 for m in self.mixings]
        return np.array(lam, dtype=np.float32), np.array([isinstance(m, int) for m in self.mixings])

    def _params_per_batch(self):
        lam, cutmix = self._params_per_elem(1)
        return float(lam[0]), bool(cutmix[0])


def share_outside(box):
    return 1 - box[2] * box[3] / (HEIGHT * WIDTH)


def mixup_tensors():
    generator = np.random.default_rng(1)
    images = generator.integers(0, 256, (BATCH, 3, HEIGHT, WIDTH), dtype=np.uint8)
    labels = generator.integers(0, CLASSES, BATCH)
    tensors = {"images": torch.from_numpy(images), "labels": torch.from_numpy(labels)}
    for name, mixings in MIXINGS.items():
        boxes = iter([BOXES[m] for m in mixings if isinstance(m, int)])

        def next_box(*_, **__):
            top, left, height, width = box = next(boxes)
            return (top, top + height, left, left + width), share_outside(box)

        timm.data.mixup.cutmix_bbox_and_lam = next_box
        collate = FixedMixup(name.split("_")[0], mixings)
        mixed, targets = collate([(image.copy(), label) for image, label in zip(images, labels)])
        of_images = {1: mixings * BATCH, 3: mixings + mixings[::-1], 6: mixings}[len(mixings)]
        lambdas = [1 if m is None else share_outside(BOXES[m]) if isinstance(m, int) else m for m in of_images]
        tensors[f"{name}/lambda"] = torch.tensor(lambdas, dtype=torch.float64)
        tensors[f"{name}/box"] = torch.tensor([BOXES[m] if isinstance(m, int) else (-1,) * 4 for m in of_images])
        tensors[f"{name}/mixed"] = mixed
        tensors[f"{name}/targets"] = targets.double()
    return tensors


def jittered(image):
    image = F.adjust_saturation(image, 1.4)
    image = F.adjust_brightness(image, 0.7)
    image = F.adjust_hue(image, 0.1)
    return F.adjust_contrast(image, 1.3)


def main():
    picture = Image.open(TESTDATA / "picture.png")
    colors = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    colors[0], colors[1, :, 1:] = colors[0, :, :1], colors[1, :, :1]  # greys, and colours of two equal channels
    colors = Image.fromarray(colors)
    images = {"colors": colors, "jittered": jittered(picture)}
    for factor in ["-0.5", "-0.21", "0.004", "0.1", "0.37"]:
        images[f"hue_{factor}"] = F.adjust_hue(colors, float(factor))
    for radius in ["0.1", "0.7", "1.3", "2", "6.5"]:
        images[f"blur_{radius}"] = picture.filter(ImageFilter.GaussianBlur(float(radius)))
    images["blur_strip"] = picture.crop((0, 0, 20, 3)).filter(ImageFilter.GaussianBlur(5))
    images["reflected"] = F.pad(picture, 4, padding_mode="reflect")
    images["reflected_tiny"] = F.pad(picture.crop((0, 0, 3, 2)), 7, padding_mode="reflect")
    small = F.resize(picture, 32, InterpolationMode.BICUBIC)
    images["small_reflected"] = F.pad(small, 4, padding_mode="reflect")
    for name, image in images.items():
        image.save(TESTDATA / f"{name}.png")
    MIXUP.parent.mkdir(parents=True, exist_ok=True)
    save_file(mixup_tensors(), MIXUP)
    MIXUP.chmod(0o644)


if __name__ == "__main__":
    main()
