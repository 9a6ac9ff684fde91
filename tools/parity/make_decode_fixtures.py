#!/usr/bin/env python3
"""Makes the small image files that data/decode is tested and fuzzed with, and what Pillow decodes of them.

  python3 -m venv venv && venv/bin/pip install pillow==13.0.0 numpy
  venv/bin/python tools/parity/make_decode_fixtures.py
"""

import pathlib
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps

TESTDATA = pathlib.Path(__file__).resolve().parents[2] / "data/decode/testdata"
HEIGHT, WIDTH = 37, 53
BACKGROUND = (200, 100, 50)
ORIENTATION = 0x0112
# First column and row, and the step between columns and rows, of PNG's seven interlaced passes.
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def picture(shift=0):
    """Waves in three colours, a hard edge, and alpha from left to right."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64)
    x += shift
    waves = np.stack([np.sin(x / 5 + y / 9), np.cos(x / 3 - y / 7), np.sin(x * y / 300)], axis=-1) * 90 + 128
    waves[10:20, 15:30] = [250, 10, 128]
    alpha = np.clip(x * 6 - 20, 0, 255)[..., None]
    return Image.fromarray(np.concatenate([waves, alpha], axis=-1).clip(0, 255).astype(np.uint8), "RGBA")


def exif(orientation):
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    return tags


def interlaced_png(path, image):
    pixels = np.asarray(image.convert("RGBA"))
    passes = [pixels[top::down, left::right] for left, top, right, down in ADAM7]
    rows = b"".join(b"\0" + row.tobytes() for one in passes if one.shape[1] for row in one)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", image.width, image.height, 8, 6, 0, 0, 1)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    )


def over_background(image):
    return Image.alpha_composite(Image.new("RGBA", image.size, BACKGROUND), image.convert("RGBA")).convert("RGB")


def save_expected(name):
    with Image.open(TESTDATA / name) as image:
        upright = ImageOps.exif_transpose(image)
        over_background(upright).save(TESTDATA / f"{name}.expected.png")


def main():
    TESTDATA.mkdir(parents=True, exist_ok=True)
    image = picture()
    rgb = image.convert("RGB")
    rgb.save(TESTDATA / "baseline.jpg", quality=85)
    rgb.save(TESTDATA / "progressive.jpg", quality=85, progressive=True, exif=exif(6))
    rgb.convert("CMYK").save(TESTDATA / "cmyk.jpg", quality=70)
    rgb.save(TESTDATA / "rgb.png", exif=exif(5))
    rgb.quantize(16).save(TESTDATA / "palette.png", bits=4, transparency=3)
    interlaced_png(TESTDATA / "interlaced_alpha.png", image)
    rgb.save(TESTDATA / "lossy.webp", quality=80, exif=exif(8))
    image.save(TESTDATA / "lossy_alpha.webp", quality=60)
    image.save(TESTDATA / "lossless_alpha.webp", lossless=True)
    image.save(TESTDATA / "animation.webp", save_all=True, append_images=[picture(9)], quality=50, duration=50)
    for path in sorted(TESTDATA.iterdir()):
        # Pillow converts CMYK by a formula of its own.
        if path.name != "cmyk.jpg" and not path.name.endswith(".expected.png"):
            save_expected(path.name)


if __name__ == "__main__":
    main()
