#!/usr/bin/env python3
"""Compares the speed of loading images with that of torchvision 0.26 and timm 1.0.22, on one core of this machine.

usage: tools/compare_loader.py [CASE...] [--data FOLDER] [--program PATH] [--rounds N] [--images N]

Cases, all of them by default:
  photos-pillow       photos of ImageNet's sizes: Pillow, RandomResizedCrop 224 bicubic, flip, normalise
  photos-torchvision  the same photos: torchvision's JPEG decoder, uint8 bilinear with antialiasing, flip; not normalised
  small-pillow        files of 224×224, as photos-pillow
  small-torchvision   files of 224×224, as photos-torchvision
  photos-deit         photos, DeiT's whole recipe by timm's loader: RandAugment, erasing, mixup and CutMix
  small-deit          files of 224×224, as photos-deit
  cifar               CIFAR-10's 32×32 from memory: RandomCrop with padding 4 and flip; torchvision on Pillow images

The two sides take turns on the same files, each bound to the same single core, after a round that is not counted. Each
pair of neighbours gives a ratio, and the median of the ratios is the result: above 1, Graticule is the faster. Both go
from files (which the system has in memory by then) to batches of 64: normalised floats, in Graticule's case by the loader
and by the normalising on the device, which its report times apart; or uint8 where the case says so.

Of photos that training crops and shrinks, Graticule decodes the crop alone, at a fraction of its size where that is
enough; the others decode whole images. --exact has it do the same.

Needs imagenet-samples (a flat folder of photos, WNID_name.JPEG), imagenette-mini (train/WNID) and cifar10-jpg
(train/CLASS) under --data. torchvision and timm are installed into a virtual environment of their own on first use.
"""

import argparse
import contextlib
import json
import os
import pathlib
import sys
import tempfile
import time

import peer

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH = 64
DATA = {"photos": "imagenet-samples", "small": "imagenette-mini", "cifar": "cifar10-jpg"}
CASES = [
    "photos-pillow",
    "photos-torchvision",
    "small-pillow",
    "small-torchvision",
    "photos-deit",
    "small-deit",
    "cifar",
]


def parse_arguments():
    data = os.environ.get("GRATICULE_DATA", pathlib.Path("~/.cache/graticule/data").expanduser())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("cases", nargs="*", metavar="CASE", help="[all]")
    add("--data", type=pathlib.Path, default=data, help="folder of the image folders [%(default)s]")
    add("--rounds", type=int, default=7, help="pairs of measurements [%(default)s]")
    add("--images", type=int, default=640, help="images of one measurement; of CIFAR 50 times as many [%(default)s]")
    add("--core", type=int, default=max(os.sched_getaffinity(0)), help="that both are bound to [%(default)s]")
    add("--exact", action="store_true", help="decode whole images (data.decoding.exact)")
    add("--program", default=peer.ROOT / "graticule", help="the program that is measured [%(default)s]")
    add("--venv", type=pathlib.Path, default=peer.cache_folder() / "venv-timm", help="[%(default)s]")
    add("--worker", nargs=2, metavar=("CASE", "TREE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - set(CASES):
        parser.error(f"unknown case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    return arguments


@contextlib.contextmanager
def image_tree(folder):
    """A folder with train/CLASS/*, of links where `folder` is flat."""
    if (folder / "train").is_dir():
        yield folder
        return
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpeg", ".jpg"))
    if not files:
        sys.exit(f"compare_loader: no images in {folder}; --data=FOLDER names the folder that holds it")
    with tempfile.TemporaryDirectory() as name:
        tree = pathlib.Path(name)
        for path in files:
            for split in ("train", "val"):
                link = tree / split / path.name.split("_")[0] / path.name
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path)
        yield tree


def images_of(case, arguments):
    return arguments.images * (50 if case == "cifar" else 1)


def torchvision_batches(tree, load):
    """Endless normalised batches of load(path) in a random order."""
    import torch  # pylint: disable=import-outside-toplevel
    from torchvision.datasets import ImageFolder  # pylint: disable=import-outside-toplevel

    dataset = ImageFolder(tree / "train", loader=lambda path: path)
    paths = [path for path, _ in dataset.samples]
    while True:
        order = torch.randperm(len(paths)).tolist()
        for begin in range(0, len(order) - BATCH + 1, BATCH):
            yield torch.stack([load(paths[i]) for i in order[begin : begin + BATCH]])


def pillow_batches(tree):
    from PIL import Image  # pylint: disable=import-outside-toplevel
    from torchvision import transforms as T  # pylint: disable=import-outside-toplevel

    transform = T.Compose(
        [
            T.RandomResizedCrop(224, interpolation=T.InterpolationMode.BICUBIC),
            T.RandomHorizontalFlip(),
            T.ToTensor(),
            T.Normalize(MEAN, STD),
        ]
    )

    def load(path):
        with open(path, "rb") as file:
            return transform(Image.open(file).convert("RGB"))

    return torchvision_batches(tree, load)


def tensor_batches(tree):
    from torchvision import io  # pylint: disable=import-outside-toplevel
    from torchvision.transforms import v2  # pylint: disable=import-outside-toplevel

    augment = v2.Compose([v2.RandomResizedCrop(224, antialias=True), v2.RandomHorizontalFlip()])

    def load(path):
        return augment(io.decode_jpeg(io.read_file(path), mode=io.ImageReadMode.RGB))

    return torchvision_batches(tree, load)


def timm_batches(tree):
    import torch  # pylint: disable=import-outside-toplevel
    from timm import data  # pylint: disable=import-outside-toplevel

    dataset = data.ImageDataset(str(tree / "train"))
    loader = data.create_loader(
        dataset,
        input_size=(3, 224, 224),
        batch_size=BATCH,
        is_training=True,
        use_prefetcher=True,
        device=torch.device("cpu"),
        re_prob=0.25,
        re_mode="pixel",
        color_jitter=0.4,
        auto_augment="rand-m9-mstd0.5-inc1",
        interpolation="bicubic",
        mean=MEAN,
        std=STD,
        num_workers=0,
        pin_memory=False,
        persistent_workers=False,
        collate_fn=data.FastCollateMixup(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=1000),
    )
    while True:
        for images, _ in loader:
            yield images


def cifar_batches(tree):
    import torch  # pylint: disable=import-outside-toplevel
    from PIL import Image  # pylint: disable=import-outside-toplevel
    from torchvision import transforms as T  # pylint: disable=import-outside-toplevel

    transform = T.Compose(
        [T.RandomCrop(32, padding=4), T.RandomHorizontalFlip(), T.ToTensor(), T.Normalize(MEAN, STD)]
    )
    paths = sorted((tree / "train").glob("*/*.jpg"))[:2000]
    images = [Image.open(path).convert("RGB") for path in paths]
    while True:
        order = torch.randint(len(images), (BATCH,)).tolist()
        yield torch.stack([transform(images[i]) for i in order])


PEERS = {"pillow": pillow_batches, "torchvision": tensor_batches, "deit": timm_batches, "cifar": cifar_batches}


def worker(arguments):
    """Loads with the peer: for each line on standard input some batches, and their images per second as an answer."""
    import torch  # pylint: disable=import-outside-toplevel

    torch.set_num_threads(1)
    case, tree = arguments.worker
    batches = PEERS[case.split("-")[-1]](pathlib.Path(tree))
    steps = max(1, arguments.images // BATCH)
    next(batches)
    for _ in sys.stdin:
        begin = time.perf_counter()
        for _ in range(steps):
            next(batches)
        rate = BATCH * steps / (time.perf_counter() - begin)
        print(json.dumps({"images_per_second": rate}), flush=True)


def spec_of(case, tree, exact):
    """A spec whose loader does the case's work; its model is not built."""

    def plugin(field, name, config=""):
        return f"{field} {{ [type.googleapis.com/graticule.{name}] {{ {config} }} }}\n"

    size, data = 224, plugin("dataset", "ImageFolder", f'path: "{tree}"')
    if case == "cifar":
        size = 32
        data = plugin("dataset", "ImageFolder", f'path: "{tree}" val: "test"') + "cache { kind: DECODED }\n"
        data += plugin("train_transforms", "RandomCrop", "padding: 4")
    else:
        bilinear = "interpolation: BILINEAR" if case.endswith("torchvision") else ""
        data += plugin("train_transforms", "RandomResizedCrop", bilinear)
    data += plugin("train_transforms", "RandomHorizontalFlip")
    if exact:
        data += "decoding { exact: true }\n"
    if case.endswith("deit"):
        data += plugin("train_transforms", "RandAugment", 'policy: "rand-m9-mstd0.5-inc1"')
        data += plugin("train_transforms", "RandomErasing", "probability: 0.25 mode: PIXEL")
        data += plugin("batch_transforms", "Mixup", "mixup_alpha: 0.8 cutmix_alpha: 1")
    return (
        plugin("task", "Classification", "num_classes: 1000")
        + plugin("backbone", "Vit", f"patch_size: {size // 8} embed_dim: 32 depth: 1 num_heads: 1")
        + plugin("pooling", "Average")
        + f"data {{\nimage_size: {size}\n{data}}}\n"
        + f"trainer {{ batch_size: {BATCH} epochs: 1 learning_rate: 1 threads: 1 device: CPU }}\n"
    )


def run(case, arguments):
    folder = arguments.data / DATA[case.split("-")[0]]
    if not folder.is_dir():
        sys.exit(f"compare_loader: {folder} is not there; --data=FOLDER names the folder that holds it")
    steps = max(1, images_of(case, arguments) // BATCH)
    bind = ["taskset", "--cpu-list", str(arguments.core)]
    with image_tree(folder) as tree, tempfile.NamedTemporaryFile("w", suffix=".textproto") as spec:
        spec.write(spec_of(case, tree, arguments.exact))
        spec.flush()
        theirs = peer.Side(
            "peer",
            [
                *(*bind, sys.executable, sys.argv[0], f"--images={images_of(case, arguments)}"),
                *(f"--venv={arguments.venv}", "--worker", case, str(tree)),
            ],
            lambda report: report["images_per_second"],
        )

        def rate(report):
            seconds = 1 / report["loader"][0]["images_per_second"]
            if not case.endswith("torchvision"):
                seconds += report["normalize_seconds_per_image"]
            return 1 / seconds

        ours = peer.Side(
            "graticule",
            [
                *(*bind, arguments.program, "bench", spec.name, "--data", "--threads=1", "--interactive", "--json"),
                *(f"--rounds={arguments.rounds + 1}", f"--batch-size={BATCH}", f"--steps={steps}"),
            ],
            rate,
        )
        peer.compare(case, theirs, ours, arguments.rounds)


def main():
    arguments = parse_arguments()
    peer.enter(arguments.venv)
    if arguments.worker:
        worker(arguments)
        return
    for case in arguments.cases or CASES:
        run(case, arguments)


if __name__ == "__main__":
    main()
