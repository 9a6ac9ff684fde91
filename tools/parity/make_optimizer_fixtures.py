#!/usr/bin/env python3
"""Writes the fixtures of the optimizers, of gradient clipping and of layer-wise learning rates under trainer/optimizers/.

Needs torch, timm and safetensors. The optimizers are PyTorch's SGD and Muon and timm's Lamb and Lion, on given
gradients: each file has learning_rates, start.NAME, grad.STEP.NAME (where there is one) and, by case, CASE.STEP.NAME, the
parameters after the step, and CASE.state.STATE.NAME after the last. What the cases are is in the tests beside the files.
"""

import functools
import pathlib
import unittest.mock

import timm
import timm.optim.muon
import torch
from safetensors.torch import save_file
from timm.optim import Lamb, Lion, param_groups_layer_decay
from timm.utils import adaptive_clip_grad

ROOT = pathlib.Path(__file__).resolve().parents[2] / "trainer/optimizers"
LEARNING_RATES = [1e-2, 2e-2, 3e-2, 2e-2, 1e-2, 5e-3]
LATE = 3  # the step at which `late` gets its first gradient


class Problem:
    """Parameters, and gradients for each step."""

    def __init__(self, shapes, seed):
        generator = torch.Generator().manual_seed(seed)
        self.start = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
        self.gradients = [
            {
                # Larger and smaller than the norms that they may be clipped to.
                name: torch.randn(shape, generator=generator) * 0.6 ** (2 * (step % 3))
                for name, shape in shapes.items()
                if name != "late" or step >= LATE
            }
            for step in range(len(LEARNING_RATES))
        ]
        self.out = {f"start.{name}": tensor.clone() for name, tensor in self.start.items()}
        self.out["learning_rates"] = torch.tensor(LEARNING_RATES, dtype=torch.float64)
        for step, gradients in enumerate(self.gradients):
            self.out.update({f"grad.{step}.{name}": tensor.clone() for name, tensor in gradients.items()})

    def run(self, case, make_optimizer, names=None, rate=1.0):
        """Adds a case: `make_optimizer` gets the parameters of these names."""
        parameters = {
            name: tensor.clone().requires_grad_() for name, tensor in self.start.items() if not names or name in names
        }
        optimizer = make_optimizer(parameters)
        for step, gradients in enumerate(self.gradients):
            for name, tensor in parameters.items():
                tensor.grad = gradients[name].clone() if name in gradients else None
            for group in optimizer.param_groups:
                group["lr"] = rate * LEARNING_RATES[step]
            optimizer.step()
            self.out.update({f"{case}.{step}.{name}": t.detach().clone() for name, t in parameters.items()})
        for name, tensor in parameters.items():
            for key, value in optimizer.state[tensor].items():
                if torch.is_tensor(value) and value.dim() > 0:
                    self.out[f"{case}.state.{key}.{name}"] = value.clone()

    def save(self, name):
        path = ROOT / name / "testdata" / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(self.out, path)


def groups(parameters, weight_decay, undecayed=("bias",)):
    """As the optimizer's arguments: all but `undecayed` decay."""
    return [
        {"params": [t for name, t in parameters.items() if name not in undecayed], "weight_decay": weight_decay},
        {"params": [t for name, t in parameters.items() if name in undecayed], "weight_decay": 0.0},
    ]


def make_sgd():
    problem = Problem({"weight": (5, 3), "bias": (3,), "late": (2, 2)}, seed=1)
    for case, weight_decay, options in [
        ("plain", 0.1, {"momentum": 0}),
        ("momentum", 0.1, {"momentum": 0.9}),
        ("nesterov", 0.0, {"momentum": 0.8, "nesterov": True}),
        ("dampening", 0.1, {"momentum": 0.9, "dampening": 0.5}),
    ]:
        problem.run(case, lambda p: torch.optim.SGD(groups(p, weight_decay), lr=1, foreach=False, **options))
    problem.save("sgd")


def make_lamb():
    problem = Problem({"weight": (5, 3), "zero": (2, 3), "bias": (3,)}, seed=2)
    problem.start["zero"].zero_()
    problem.out["start.zero"].zero_()
    problem.run("default", lambda p: Lamb(groups(p, 0.01), lr=1))
    options = {"betas": (0.8, 0.95), "eps": 1e-4, "bias_correction": False, "max_grad_norm": None}
    problem.run("variant", lambda p: Lamb(groups(p, 0.1), lr=1, trust_clip=True, always_adapt=True, **options))
    problem.save("lamb")


def make_lion():
    problem = Problem({"weight": (5, 3), "bias": (3,), "late": (2, 2)}, seed=3)
    problem.run("default", lambda p: Lion(groups(p, 0.0), lr=1, foreach=False))
    problem.run("variant", lambda p: Lion(groups(p, 0.3), lr=1, betas=(0.8, 0.95), foreach=False))
    problem.save("lion")


def make_muon():
    # `kernel` is that of a convolution, [6,2,3,3], as PyTorch's wants it; timm's leaves narrower ones than these to AdamW,
    # which `bias` and `head` are for.
    problem = Problem({"tall": (12, 4), "wide": (4, 12), "kernel": (6, 18), "bias": (3,), "head": (4, 8)}, seed=4)
    matrices = ["tall", "wide", "kernel"]
    # They compute in bfloat16 on the CPU too; a copy in fp32 in its place shows the rest of the digits.
    in_fp32 = unittest.mock.patch.object(torch.Tensor, "bfloat16", lambda tensor: tensor.float().clone())
    for adjust in ("original", "match_rms_adamw"):
        for case, weight_decay, nesterov in [(adjust, 0.2, True), (f"{adjust}.variant", 0.0, False)]:
            options = {"lr": 1, "weight_decay": weight_decay, "nesterov": nesterov, "adjust_lr_fn": adjust}
            with in_fp32:
                problem.run(case, lambda p: torch.optim.Muon(list(p.values()), **options), names=matrices)
            problem.run(f"{case}.bf16", lambda p: torch.optim.Muon(list(p.values()), **options), names=matrices)
            # timm's agrees.
            iterations = functools.partial(timm.optim.muon.zeropower_via_newtonschulz, dtype=torch.float32)
            with unittest.mock.patch.object(timm.optim.muon, "zeropower_via_newtonschulz", iterations):
                timms = functools.partial(timm.optim.muon.Muon, ns_coefficients="original", **options)
                problem.run("timm", lambda p: timms(list(p.values())), names=matrices)
            for key in [key for key in problem.out if key.startswith("timm.")]:
                torch.testing.assert_close(problem.out.pop(key), problem.out[case + key.removeprefix("timm")])
    for case in [case for case in problem.out if ".bf16." in case and f".{len(LEARNING_RATES) - 1}." not in case]:
        del problem.out[case]
    adamw = functools.partial(torch.optim.AdamW, lr=1, betas=(0.9, 0.95), eps=1e-8, foreach=False)
    problem.run("adamw", lambda p: adamw(groups(p, 0.1)), names=["bias", "head"], rate=0.5)
    problem.save("muon")


def make_clip():
    """start.NAME, grad.NAME, and CASE.NAME: the gradients after clipping; norm."""
    generator = torch.Generator().manual_seed(5)
    shapes = {"kernel": (4, 2, 3, 3), "weight": (5, 3), "bias": (3,), "position": (1, 4, 3), "scale": ()}
    shapes |= {"head.weight": (3, 5), "head.bias": (3,)}
    start = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    gradients = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    start["weight"][1] = 0
    gradients["weight"][2] = 0
    gradients["kernel"][0] *= 1e-3  # below what it may be
    out = {f"start.{name}": tensor for name, tensor in start.items()}
    out |= {f"grad.{name}": tensor.clone() for name, tensor in gradients.items()}

    def run(case, clip):
        parameters = {name: tensor.clone().requires_grad_() for name, tensor in start.items()}
        for name, tensor in parameters.items():
            tensor.grad = gradients[name].clone()
        norm = clip(list(parameters.values()))
        out.update({f"{case}.{name}": tensor.grad.clone() for name, tensor in parameters.items()})
        return norm

    out["norm"] = run("norm", lambda p: torch.nn.utils.clip_grad_norm_(p, 0.5))
    run("high_norm", lambda p: torch.nn.utils.clip_grad_norm_(p, 100))
    run("value", lambda p: torch.nn.utils.clip_grad_value_(p, 0.3))
    run("adaptive", lambda p: adaptive_clip_grad(p[:-2], 0.05))  # without the head, as timm's model_parameters
    (ROOT / "testdata").mkdir(exist_ok=True)
    save_file(out, ROOT / "testdata/clip.safetensors")


def make_layer_decay():
    """Lines of MODEL, NAME, multiple of the learning rate at a layer decay of 0.75, and of the weight decay."""
    models = {
        "vit": timm.models.VisionTransformer(
            img_size=16, patch_size=4, embed_dim=8, depth=3, num_heads=2, num_classes=3
        ),
        "swin": timm.models.SwinTransformer(
            img_size=32, patch_size=4, embed_dim=8, depths=(2, 4), num_heads=(2, 2), window_size=4, num_classes=3
        ),
        "nest": timm.models.Nest(
            img_size=32, patch_size=4, num_levels=2, embed_dims=(8, 16), depths=(2, 3), num_heads=(2, 2), num_classes=3
        ),
    }
    lines = []
    for model_name, model in models.items():
        names = {id(tensor): name for name, tensor in model.named_parameters()}
        found = param_groups_layer_decay(
            model, weight_decay=1, no_weight_decay_list=model.no_weight_decay(), layer_decay=0.75
        )
        for group in found:
            for tensor in group["params"]:
                lines.append(f"{model_name} {names[id(tensor)]} {group['lr_scale']!r} {group['weight_decay']:g}\n")
    (ROOT / "testdata/layer_decay.txt").write_text("".join(sorted(lines)))


if __name__ == "__main__":
    make_sgd()
    make_lamb()
    make_lion()
    make_muon()
    make_clip()
    make_layer_decay()
