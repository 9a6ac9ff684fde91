#!/usr/bin/env python3
"""Writes trainer/optimizers/adamw/testdata/adamw.safetensors: six steps of PyTorch's AdamW on given gradients.

Needs torch and safetensors. Run from the repository's root. `weight` decays, `bias` does not, `late` gets its first
gradient at step 3. Per step s the file has grad.S.NAME and after.S.NAME; besides, start.NAME and the final
exp_avg.NAME, exp_avg_sq.NAME, step.NAME.
"""

import torch
from safetensors.torch import save_file

LEARNING_RATES = [1e-3, 2e-3, 3e-3, 2e-3, 1e-3, 5e-4]


def main():
    torch.manual_seed(0)
    parameters = {"weight": torch.randn(5, 3), "bias": torch.randn(3), "late": torch.randn(2, 2)}
    out = {f"start.{name}": tensor.clone() for name, tensor in parameters.items()}
    for tensor in parameters.values():
        tensor.requires_grad_()
    optimizer = torch.optim.AdamW(
        [
            {"params": [parameters["weight"], parameters["late"]], "weight_decay": 0.1},
            {"params": [parameters["bias"]], "weight_decay": 0.0},
        ],
        betas=(0.8, 0.95),
        eps=1e-6,
        foreach=False,
    )
    for step, learning_rate in enumerate(LEARNING_RATES):
        for name, tensor in parameters.items():
            if name == "late" and step < 3:
                continue
            tensor.grad = torch.randn_like(tensor)
            out[f"grad.{step}.{name}"] = tensor.grad.clone()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        optimizer.step()
        for name, tensor in parameters.items():
            out[f"after.{step}.{name}"] = tensor.detach().clone()
    for name, tensor in parameters.items():
        for key, value in optimizer.state[tensor].items():
            out[f"{key}.{name}"] = value
    out["learning_rates"] = torch.tensor(LEARNING_RATES, dtype=torch.float64)
    save_file(out, "trainer/optimizers/adamw/testdata/adamw.safetensors")


if __name__ == "__main__":
    main()
