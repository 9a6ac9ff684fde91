#!/usr/bin/env python3
"""Writes trainer/schedules/testdata/learning_rates.tsv: the learning rates of timm's and torch's schedulers.

A line has a plugin, its config and, of a training of 12 epochs with 5 steps each and a peak of 1e-3, the rate of each
step. Needs timm and torch.
"""

import pathlib

import torch
from timm.scheduler import CosineLRScheduler, MultiStepLRScheduler, PolyLRScheduler, StepLRScheduler
from torch.optim.lr_scheduler import MultiStepLR, OneCycleLR

EPOCHS, STEPS_PER_EPOCH, PEAK = 12, 5, 1e-3
STEPS = EPOCHS * STEPS_PER_EPOCH
OUTPUT = pathlib.Path(__file__).parents[2] / "trainer/schedules/testdata/learning_rates.tsv"

WARMUP = dict(warmup_t=2 * STEPS_PER_EPOCH, warmup_lr_init=1e-6)
WARMUP_CONFIG = "warmup_epochs: 2 warmup_learning_rate: 1e-6"


def optimizer():
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=PEAK, momentum=0.9)


def of_timm(scheduler, **arguments):
    sgd = optimizer()
    schedule = scheduler(sgd, t_in_epochs=False, **arguments)
    for step in range(STEPS):
        schedule.step_update(step)
        yield sgd.param_groups[0]["lr"]


def of_torch(scheduler, **arguments):
    sgd = optimizer()
    schedule = scheduler(sgd, **arguments)
    for step in range(STEPS):
        if step > 0:
            sgd.step()
            schedule.step()
        yield sgd.param_groups[0]["lr"]


def decaying(name, scheduler, field="", cycles=("", 1, {}), **arguments):
    """With and without warm-up, its prefix and a cool-down, which in timm is what comes after the last cycle."""
    text, lengths, cycle_arguments = cycles
    for warmup, prefix, cooldown in [(0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 0, 1), (1, 1, 1)]:
        config = [field, text, "min_learning_rate: 1e-5"]
        steps = STEPS
        if warmup:
            config.append(WARMUP_CONFIG)
        if prefix:
            config.append("warmup_prefix: true")
            steps -= WARMUP["warmup_t"]
        if cooldown:
            config.append("cooldown_epochs: 3")
            steps -= 3 * STEPS_PER_EPOCH
        rates = of_timm(
            scheduler,
            t_initial=steps / lengths,
            lr_min=1e-5,
            warmup_prefix=bool(prefix),
            **(WARMUP if warmup else {}),
            **cycle_arguments,
            **arguments,
        )
        yield name, " ".join(filter(None, config)), rates


def stepping(name, scheduler, field, **arguments):
    for config, prefix in [("", False), (WARMUP_CONFIG, False), (f"{WARMUP_CONFIG} warmup_prefix: true", True)]:
        rates = of_timm(scheduler, warmup_prefix=prefix, **(WARMUP if config else {}), **arguments)
        yield name, f"{field} {config}".strip(), rates


def cases():
    yield from decaying("Cosine", CosineLRScheduler)
    # Lengths in those of the first cycle: 1 + 1 + 1, and 1 + 2 + 4.
    three = dict(cycle_limit=3, cycle_decay=0.5)
    yield from decaying("Cosine", CosineLRScheduler, cycles=("cycles: 3 cycle_decay: 0.5", 3, three))
    growing = ("cycles: 3 cycle_decay: 0.5 cycle_multiplier: 2", 7, dict(**three, cycle_mul=2))
    yield from decaying("Cosine", CosineLRScheduler, cycles=growing)
    yield from decaying("LinearDecay", PolyLRScheduler, power=1)
    yield from decaying("PolynomialDecay", PolyLRScheduler, power=2)
    yield from decaying("PolynomialDecay", PolyLRScheduler, "power: 0.9", power=0.9)
    yield from stepping("StepDecay", StepLRScheduler, "decay_epochs: 3", decay_t=15, decay_rate=0.1)
    yield from stepping("StepDecay", StepLRScheduler, "decay_epochs: 2.4 decay_rate: 0.97", decay_t=12, decay_rate=0.97)
    # timm decays one step before a milestone, torch at it, as we do.
    milestones, rates = [20, 40, 47], "milestones: [4, 8, 9.4] decay_rate: 0.2"
    yield "MultiStepDecay", rates, of_torch(MultiStepLR, milestones=milestones, gamma=0.2)
    later = [milestone + 1 for milestone in milestones]
    yield from stepping("MultiStepDecay", MultiStepLRScheduler, rates, decay_t=later, decay_rate=0.2)
    yield from stepping("Constant", StepLRScheduler, "", decay_t=STEPS, decay_rate=1)
    for config, arguments in [
        ("", {}),
        ("anneal: LINEAR", dict(anneal_strategy="linear")),
        (
            "pct_start: 0.25 div_factor: 10 final_div_factor: 100",
            dict(pct_start=0.25, div_factor=10, final_div_factor=100),
        ),
        ("pct_start: 0 anneal: LINEAR", dict(pct_start=0.0, anneal_strategy="linear")),
        ("pct_start: 1", dict(pct_start=1.0)),
    ]:
        yield "OneCycle", config, of_torch(OneCycleLR, max_lr=PEAK, total_steps=STEPS, **arguments)


OUTPUT.parent.mkdir(exist_ok=True)
with OUTPUT.open("w") as file:
    for name, config, rates in cases():
        print(f"graticule.{name}", config, " ".join(f"{rate:.13g}" for rate in rates), sep="\t", file=file)
