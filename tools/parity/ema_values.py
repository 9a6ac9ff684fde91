#!/usr/bin/env python3
"""Prints decays and averages of timm's ModelEmaV3 with warm-up, as trainer/ema_test.cc holds them. Needs timm."""

import torch
from timm.utils import ModelEmaV3

STEPS = [0, 1, 2, 9, 999, 999_998, 999_999, 2_000_000]

# timm's train.py counts updates from 1, Graticule steps from 0.
average = ModelEmaV3(torch.nn.Linear(1, 1), decay=0.9999, use_warmup=True)
print("decays:", ", ".join(f"{{{step}, {average.get_decay(step + 1)!r}}}" for step in STEPS))

model = torch.nn.Linear(3, 1)
average = ModelEmaV3(model, decay=0.75, use_warmup=True)
averages = []
for step in range(10):
    with torch.no_grad():
        model.weight.fill_(10 * (step + 1))
    average.update(model, step=step + 1)
    averages.append(average.module.weight[0, 0].item())
print("averages:", ", ".join(map(repr, averages)))
