#!/usr/bin/env python3
"""Prints learning rates of timm's CosineLRScheduler, as trainer/schedules/cosine/cosine_test.cc holds them. Needs timm."""

import torch
from timm.scheduler import CosineLRScheduler

EPOCHS, STEPS_PER_EPOCH, WARMUP_EPOCHS = 30, 10, 5
STEPS = [0, 1, 25, 49, 50, 51, 100, 150, 200, 298, 299, 300]


def learning_rates(warmup_prefix):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
    warmup = WARMUP_EPOCHS * STEPS_PER_EPOCH
    total = EPOCHS * STEPS_PER_EPOCH
    scheduler = CosineLRScheduler(
        optimizer,
        t_initial=total - warmup if warmup_prefix else total,
        lr_min=1e-5,
        warmup_t=warmup,
        warmup_lr_init=1e-6,
        warmup_prefix=warmup_prefix,
        t_in_epochs=False,
    )
    for step in STEPS:
        scheduler.step_update(step)
        yield step, optimizer.param_groups[0]["lr"]


for prefix in (False, True):
    print("warmup_prefix:", prefix)
    for step, learning_rate in learning_rates(prefix):
        print(f"{{{step}, {learning_rate!r}}},")
