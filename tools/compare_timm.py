#!/usr/bin/env python3
"""Compares the speed of a training step with that of timm 1.0.22 in eager PyTorch, on this machine.

usage: tools/compare_timm.py [--model NAME] [--program PATH] [--batch-size N] [--precision fp32 bf16] [--rounds N] [--steps N]

A machine's clock and its other work change from minute to minute, so single runs of two programs say little. Here the
two take turns, a few steps each: timm, Graticule, timm, Graticule, … Each pair of neighbours gives a ratio, and the
median of the ratios is the result: above 1, Graticule is the faster.

Both do the same work: the model in training mode on one fixed batch of random images, cross-entropy, backward, fused
AdamW, with autocast to bfloat16 or without, on the same number of threads; what the spec has besides (dropout, drop
path, label smoothing, moving average) is switched off. Each side is a process that lives through all rounds, is warmed up once, and
sleeps while it is the other's turn.

PyTorch and timm are installed into a virtual environment of their own on first use (3 GB).
"""

import argparse
import json
import os
import pathlib
import re
import sys
import time

import peer

WARM_UP_STEPS = 3


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", default="deit_tiny_patch16_224", help="timm's name, and configs/models/NAME.textproto [%(default)s]")
    add("--batch-size", type=int, default=16, help="images a step [%(default)s]")
    add("--precision", nargs="+", choices=("fp32", "bf16"), default=("fp32", "bf16"), help="[both]")
    add("--rounds", type=int, default=7, help="pairs of measurements [%(default)s]")
    add("--steps", type=int, default=8, help="training steps of one measurement [%(default)s]")
    add("--threads", type=int, default=len(os.sched_getaffinity(0)), help="threads of the kernels [%(default)s]")
    add("--program", default=peer.ROOT / "graticule", help="the program that is measured [%(default)s]")
    add("--venv", type=pathlib.Path, default=peer.cache_folder() / "venv-timm", help="[%(default)s]")
    add("--timm-worker", metavar="PRECISION", help=argparse.SUPPRESS)
    return parser.parse_args()


def timm_worker(arguments):
    """Trains with timm: for each line on standard input a few steps, and their images per second as an answer."""
    import timm  # pylint: disable=import-outside-toplevel
    import torch  # pylint: disable=import-outside-toplevel

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = timm.create_model(arguments.model, drop_path_rate=0.0).train()
    _, height, width = model.default_cfg["input_size"]
    images = torch.randn(arguments.batch_size, 3, height, width)
    targets = torch.randint(model.num_classes, (arguments.batch_size,))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05, fused=True)
    criterion = torch.nn.CrossEntropyLoss()

    def train(steps):
        for _ in range(steps):
            with torch.autocast("cpu", torch.bfloat16, enabled=arguments.timm_worker == "bf16"):
                loss = criterion(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    train(WARM_UP_STEPS)
    for _ in sys.stdin:
        begin = time.perf_counter()
        train(arguments.steps)
        rate = arguments.batch_size * arguments.steps / (time.perf_counter() - begin)
        print(json.dumps({"train": {"images_per_second": rate}}), flush=True)


def read_with_bases(spec):
    text = spec.read_text()
    return text + "".join(read_with_bases(spec.parent / base) for base in re.findall(r'base: "(.+?)"', text))


def sides(arguments, precision):
    spec = peer.ROOT / "configs" / "models" / f"{arguments.model}.textproto"
    dropouts = set(re.findall(r"\w+_dropout(?=:)", read_with_bases(spec)))
    graticule = [
        *(arguments.program, "bench", spec),
        *(f"--set=backbone.{dropout}=0" for dropout in dropouts),
        *("--set=backbone.drop_path_rate=0", "--set=task.label_smoothing=0", "--set=trainer.ema_decay=0"),
        "--set=trainer.device=CPU",
        *("--model-only", "--interactive", "--json", f"--rounds={arguments.rounds + 1}"),
        *(f"--batch-size={arguments.batch_size}", f"--steps={arguments.steps}", f"--threads={arguments.threads}"),
        f"--precision={precision}",
    ]
    timm = [sys.executable, *sys.argv, f"--timm-worker={precision}"]

    def rate(report):
        return report["train"]["images_per_second"]

    return peer.Side("timm", timm, rate), peer.Side("graticule", graticule, rate)


def main():
    arguments = parse_arguments()
    peer.enter(arguments.venv)
    if arguments.timm_worker:
        timm_worker(arguments)
        return

    print(
        f"{arguments.model}, batch {arguments.batch_size}, {arguments.threads} threads, "
        f"{arguments.steps} steps a measurement"
    )
    for precision in arguments.precision:
        timm, graticule = sides(arguments, precision)
        peer.compare(precision, timm, graticule, arguments.rounds)


if __name__ == "__main__":
    main()
