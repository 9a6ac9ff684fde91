#!/usr/bin/env python3
"""Measures what the training loop adds to a step: processes, overhead, memory, the start of a resumed run.

usage: tools/measure_training.py processes|overhead|memory|start [--program PATH] [--rounds N]

processes   two Gloo processes of one thread each against one process of two threads: DeiT-Ti, batch 16, 224²
overhead    what the loop takes besides forward, backward and optimizer, as a share of a step, from a trace of seven
            steps of the same model: reading a batch, logging, exchanging wishes, progress
memory      resident memory in the course of 2,000 steps of a small model
start       time to the first new step of a run that goes on in the middle of an epoch, against that of a fresh one

The sides take turns; the result is the median of the ratios of neighbours, as in compare_timm.py.
"""

import argparse
import csv
import json
import pathlib
import re
import shutil
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEIT = ROOT / "configs" / "models" / "deit_tiny_patch16_224.textproto"
# Images that cost next to nothing to load, so that the loop is what is measured.
IMAGES = (
    "data.dataset=[type.googleapis.com/graticule.Synthetic] { train_size: %d height: %d val_size: 16 num_classes: 10 }",
    "data.cache.kind=DECODED",
    "data.train_transforms=[]",
    "data.batch_transforms=[]",
    "data.augmentation_repeats=1",
    "data.threads=1",
)
STEP = (
    "trainer.device=CPU",
    "trainer.batch_size=16",
    "trainer.ema_decay=0",
    "backbone.drop_path_rate=0",
)


def settings(values):
    return [argument for value in values for argument in ("--set", value)]


def train(program, folder, more, extra=()):
    """Runs a training and returns the images per second of its log's lines."""
    command = [program, "train", DEIT, f"--output={folder}", *extra, *settings(more)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        return [float(row["images_per_second"]) for row in csv.DictReader(file) if row["images_per_second"]]


def loop(program, more, extra=(), steps=12):
    """Images per second of a short DeiT-Ti training; its first lines, with the first look at each image, are left out."""
    images = IMAGES[0] % (32, 224)
    with tempfile.TemporaryDirectory() as folder:
        values = [images, *IMAGES[1:], *STEP, f"trainer.epochs={steps}", "trainer.log_interval=2"]
        values += ["trainer.eval_interval=1000", "trainer.checkpoint_interval=1000", *more]
        return statistics.median(train(program, pathlib.Path(folder) / "run", values, extra)[3:])


def compare(name, first, second, rounds):
    """Prints the median of second / first."""
    first(), second()
    ratios = []
    for number in range(rounds):
        a, b = first(), second()
        ratios.append(b / a)
        print(f"{name} {number + 1}/{rounds}: {a:.2f}, {b:.2f}, ratio {b / a:.3f}", flush=True)
    print(f"{name}: {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


def processes(arguments):
    one = lambda: loop(arguments.program, ["trainer.threads=2"])  # noqa: E731
    two = lambda: loop(arguments.program, ["trainer.threads=1"], ["--processes=2"])  # noqa: E731
    compare("two processes / one process, img/s", one, two, arguments.rounds)


def overhead(arguments):
    with tempfile.TemporaryDirectory() as folder:
        run = pathlib.Path(folder) / "run"
        values = [IMAGES[0] % (32, 224), *IMAGES[1:], *STEP, "trainer.epochs=6", "trainer.log_interval=2"]
        values += ["trainer.eval_interval=1000", "trainer.checkpoint_interval=1000"]
        train(arguments.program, run, values, ["--profile=3:9"])
        trace = json.loads((run / "trace-rank0-steps-3-9.json").read_text(encoding="utf-8"))
    ranges = [event for event in trace["traceEvents"] if event.get("ph") == "X"]
    steps = [event for event in ranges if event["name"].startswith("step ")]
    begin = min(event["ts"] for event in steps)
    end = max(event["ts"] + event["dur"] for event in steps)
    work = ("forward", "backward", "optimizer")
    inside = sum(event["dur"] for event in ranges if event["name"] in work and begin <= event["ts"] <= end)
    outside = end - begin - inside
    print(f"{outside / len(steps) / 1000:.2f} of {(end - begin) / len(steps) / 1000:.1f} ms a step: "
          f"{100 * outside / (end - begin):.2f} %")


def resident(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024


def memory(arguments):
    spec = ROOT / "configs" / "quickstart.textproto"
    more = ["trainer.epochs=91", "trainer.log_interval=100", "trainer.checkpoint_steps=50", "trainer.eval_interval=5"]
    with tempfile.TemporaryDirectory() as folder:
        command = [arguments.program, "train", spec, f"--output={folder}/run", *settings(more)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                if match := re.match(r"step ([\d,]+)/", line):
                    print(f"step {match.group(1)}: {resident(process.pid):.1f} MiB", flush=True)


def start(arguments):
    steps = 2000
    values = [IMAGES[0] % (16 * steps, 32), *IMAGES[2:], *STEP, "trainer.epochs=1", "trainer.log_interval=1"]
    values += ["trainer.schedule.warmup_epochs=0"]
    values += ["trainer.checkpoint_steps=1", "data.image_size=32", "backbone.depth=2"]

    def first_step(folder, until=None):
        command = [arguments.program, "train", DEIT, f"--output={folder}", *settings(values)]
        begin = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                if line.startswith("step "):
                    seconds = time.perf_counter() - begin
                    break
            for line in process.stdout if until else ():
                if line.startswith(until):
                    break
            process.kill()
        return seconds

    with tempfile.TemporaryDirectory() as folder:
        kept = pathlib.Path(folder) / "kept"
        first_step(kept, until="step 50")

        def fresh():
            shutil.rmtree(f"{folder}/run", ignore_errors=True)
            return first_step(f"{folder}/run")

        def resumed():
            shutil.rmtree(f"{folder}/run", ignore_errors=True)
            shutil.copytree(kept, f"{folder}/run", symlinks=True)
            return first_step(f"{folder}/run")

        compare("resumed / fresh, seconds to the first step", fresh, resumed, arguments.rounds)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("processes", "overhead", "memory", "start"))
    parser.add_argument("--program", default=ROOT / "graticule", help="the program that is measured [%(default)s]")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of measurements [%(default)s]")
    arguments = parser.parse_args()
    globals()[arguments.what](arguments)


if __name__ == "__main__":
    main()
