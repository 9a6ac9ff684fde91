#!/usr/bin/env python3
"""Makes what the tests of AutoAugment and RandAugment compare with: the results of timm's operations on one picture, and
what timm reads from policies' strings.

  python3 -m venv venv && venv/bin/pip install pillow==13.0.0 timm==1.0.22
  venv/bin/python tools/parity/make_auto_augment_fixtures.py

augmentation_colors.png and augmentation_affine.png hold the results one below the other, in the order of the lines of
augmentation.tsv: image, operation, level, sign, interpolation, left and width of the picture's columns that went in.
rand_augment.tsv: string, operations per image, deviation and bound of the magnitude, operation, its probability,
magnitude and weight. auto_augment.tsv: string, sequence, deviation, operation, its probability and magnitude.
"""

import pathlib
from unittest import mock

from PIL import Image
from timm.data import auto_augment

TESTDATA = pathlib.Path(__file__).resolve().parents[2] / "data/transforms/testdata"
FILL = (124, 116, 104)
# What random.uniform() gives, between its bounds.
UNIFORM = 0.25

COLORS = [
    ("AutoContrast", 5, 1),
    ("Equalize", 5, 1),
    ("Invert", 5, 1),
    ("Posterize", 7.6, 1),
    ("PosterizeIncreasing", 2.4, 1),
    ("PosterizeIncreasing", 7.6, 1),
    ("PosterizeOriginal", 6, 1),
    ("PosterizeOriginal", 10, 1),
    ("Solarize", 3.3, 1),
    ("SolarizeIncreasing", 9.13, 1),
    ("SolarizeAdd", 8.7, 1),
    ("Color", 1, 1),
    ("ColorIncreasing", 9.4, 1),
    ("Contrast", 9.2, 1),
    ("ContrastIncreasing", 9, -1),
    ("Brightness", 2, 1),
    ("BrightnessIncreasing", 8.81, 1),
    ("Sharpness", 0.5, 1),
    ("SharpnessIncreasing", 9, 1),
    ("Desaturate", 4, 1),
    ("GaussianBlur", 7, 1),
    ("GaussianBlurRand", 10, 1),
]
AFFINE = [
    ("Rotate", 9.3, 1, "BICUBIC"),
    ("Rotate", 4.1, -1, "BILINEAR"),
    ("ShearX", 9, 1, "BICUBIC"),
    ("ShearX", 5.5, -1, "BILINEAR"),
    ("ShearY", 8.7, -1, "BICUBIC"),
    ("ShearY", 9, 1, "BILINEAR"),
    ("TranslateXRel", 3.9, 1, "BICUBIC"),
    ("TranslateXRel", 6.2, -1, "BILINEAR"),
    ("TranslateYRel", 4.6, -1, "BICUBIC"),
    ("TranslateYRel", 7, 1, "BILINEAR"),
]

RAND = [
    "rand",
    "rand-m9-mstd0.5-inc1",
    "rand-m15-n3-p0.75-mmax20",
    "rand-mstd101-inc1",
    "rand-n1-tweights",
    "rand-m7-t3a",
    "rand-t3aw-inc1",
]
AUTO = ["original", "originalr", "v0", "v0r-mstd0.5", "3a"]


def apply(picture, name, level, sign, interpolation):
    resample = Image.Resampling[interpolation]
    with mock.patch("random.random", lambda: 0.9 if sign < 0 else 0.1), mock.patch(
        "random.uniform", lambda low, high: low + (high - low) * UNIFORM
    ):
        op = auto_augment.AugmentOp(
            name, prob=1, magnitude=level, hparams={"img_mean": FILL, "interpolation": resample}
        )
        return op(picture)


def strip(picture, image, left, width, operations):
    """Writes the results and returns the index's rows."""
    window = picture.crop((left, 0, left + width, picture.height))
    result = Image.new("RGB", (width, picture.height * len(operations)))
    rows = []
    for i, (name, level, sign, interpolation) in enumerate(operations):
        result.paste(apply(window, name, level, sign, interpolation), (0, i * picture.height))
        rows.append((image, name, level, sign, interpolation, left, width))
    result.save(TESTDATA / f"{image}.png", optimize=True)
    return rows


def rand_policies():
    for policy in RAND:
        transform = auto_augment.rand_augment_transform(policy, {})
        weights = transform.choice_weights
        for i, op in enumerate(transform.ops):
            weight = 0 if weights is None else weights[i]
            most = op.magnitude_max or 10
            yield policy, transform.num_layers, op.magnitude_std, most, op.name, op.prob, op.magnitude, weight


def auto_policies():
    for policy in AUTO:
        for i, sequence in enumerate(auto_augment.auto_augment_transform(policy, {"img_mean": FILL}).policy):
            for op in sequence:
                yield policy, i, op.magnitude_std, op.name, op.prob, op.magnitude


def write_table(name, rows):
    (TESTDATA / name).write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))


def main():
    picture = Image.open(TESTDATA / "picture.png").convert("RGB")
    colors = [(*operation, "BICUBIC") for operation in COLORS]
    rows = strip(picture, "augmentation_colors", 28, 40, colors)
    rows += strip(picture, "augmentation_affine", 0, picture.width, AFFINE)
    write_table("augmentation.tsv", rows)
    write_table("rand_augment.tsv", rand_policies())
    write_table("auto_augment.tsv", auto_policies())


if __name__ == "__main__":
    main()
