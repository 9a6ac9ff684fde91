#!/usr/bin/env python3
"""Makes the images that the tests of data/transforms compare with: Pillow's and torchvision's results on one picture.

  python3 -m venv venv && venv/bin/pip install pillow==13.0.0 torch==2.11.0 torchvision==0.26.0 numpy
  venv/bin/python tools/parity/make_image_fixtures.py
"""

import pathlib

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import functional as F
from torchvision.transforms import InterpolationMode
from torchvision.transforms import v2

TESTDATA = pathlib.Path(__file__).resolve().parents[2] / "data/transforms/testdata"
HEIGHT, WIDTH = 61, 97
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def picture():
    """Smooth waves, hard edges and noise, so that every part of a filter shows."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64)
    waves = np.stack([np.sin(x / 5 + y / 9), np.cos(x / 3 - y / 7), np.sin(x * y / 300)], axis=-1) * 70 + 128
    waves[20:40, 30:60] = [250, 10, 128]
    waves[:, 80:83] = 255
    noise = np.random.default_rng(0).integers(-20, 21, waves.shape)
    noise[:, WIDTH // 2 :] = 0
    return Image.fromarray(np.clip(waves + noise, 0, 255).astype(np.uint8))


def main():
    TESTDATA.mkdir(parents=True, exist_ok=True)
    image = picture()
    image.save(TESTDATA / "picture.png")
    for name, resample in FILTERS.items():
        for height, width in [(32, 32), (20, 97), (61, 11), (90, 140), (45, 60)]:
            image.resize((width, height), resample).save(TESTDATA / f"{name}_{height}x{width}.png")
        top, left, h, w = 11, 23, 37, 41
        window = image.crop((left, top, left + w, top + h))
        window.resize((32, 24), resample).save(TESTDATA / f"{name}_window_24x32.png")
        mode = InterpolationMode(name)
        # torchvision computes 8-bit tensors without antialiasing otherwise than Pillow ever does.
        tensor = torch.from_numpy(np.array(window)).permute(2, 0, 1)
        plain = v2.functional.resize(tensor, [24, 32], v2.InterpolationMode(name), antialias=False)
        Image.fromarray(plain.permute(1, 2, 0).numpy()).save(TESTDATA / f"{name}_plain_24x32.png")
        # torchvision: the shorter side becomes 36, the longer one keeps the ratio.
        F.resize(image, 36, mode).save(TESTDATA / f"{name}_shorter_36.png")
        F.resize(image.transpose(Image.Transpose.TRANSPOSE), 36, mode).save(
            TESTDATA / f"{name}_tall_shorter_36.png"
        )
    for size in [(32, 32), (35, 36), (61, 97), (80, 80), (20, 130), (90, 121)]:
        F.center_crop(image, list(size)).save(TESTDATA / f"center_{size[0]}x{size[1]}.png")


if __name__ == "__main__":
    main()
