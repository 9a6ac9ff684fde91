"""What the scripts of this folder share: random weights, fixtures, and the built program's logits."""

import argparse
import copy
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file
from torch.utils.flop_counter import FlopCounterMode

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOLERANCE = 5e-5  # of outputs, as in the tests
WHOLE = ("num_batches_tracked", "labels", "targets")  # ends of the names of what is stored in whole numbers


def randomize(model, generator, scales=None, gains=None):
    """Weights and moving averages under which every part of the model matters; fixed parameters stay.

    Matrices are drawn so that they keep the size of what goes through them. Of `scales` and `gains` the first part that
    a name has counts: with a scale a tensor is normal of this deviation, with a gain a matrix is this much larger.
    """

    def find(name, table):
        return next((value for part, value in (table or {}).items() if part in name), None)

    parameters = dict(model.named_parameters())
    for name, tensor in model.state_dict().items():
        is_drawn = parameters[name].requires_grad if name in parameters else name.endswith(("running_mean", "running_var"))
        if not is_drawn:
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        scale, gain = find(name, scales), find(name, gains)
        if scale is not None:
            tensor.copy_(scale * noise)
        elif name.endswith("running_var"):
            tensor.copy_((0.3 * noise).exp())
        elif name.endswith(("bias", "running_mean")):
            tensor.copy_(0.1 * noise)
        elif tensor.dim() == 1:
            tensor.copy_(1 + 0.2 * noise)
        else:
            tensor.copy_(noise * (1.0 if gain is None else gain) / tensor[0].numel() ** 0.5)


def largest_difference(a, b):
    return (a.double() - b.double()).abs().max().item()


def save(path, tensors):
    """Writes a fixture in single precision."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().contiguous()
        stored[name] = tensor if name.endswith(WHOLE) else tensor.float()
    save_file(stored, path)
    path.chmod(0o644)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")


def tanh_gelu(model):
    for module in model.modules():
        if isinstance(module, torch.nn.GELU):
            module.approximate = "tanh"
    return model


def epsilon(value):
    def change(model):
        for module in model.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.eps = value
        return model

    return change


def with_weights_of(model, other):
    """`other` with the weights, the mode and the precision of `model`."""
    other.load_state_dict(model.state_dict())
    return other.train(model.training).to(next(model.parameters()).dtype)


def make_model_fixture(path, model, run, images, mistakes, rename=lambda name: name, precision=torch.float64):
    """Writes a model's weights, `images`, `tokens` and `logits`, and `grad/NAME`, the gradients of the mean of the squared
    logits; in train mode also `after/NAME`, the buffers after the pass.

    run: from the model and images to tokens and logits.
    mistakes: functions, by what they are called, that make a copy of the model wrong and return it, or another model.
        Each must show in the logits.
    rename: from the model's names of parameters to the fixture's.
    """
    name = path.stem
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    model.to(precision)
    with torch.no_grad():
        wrong = {mistake: run(change(copy.deepcopy(model)), images.to(precision))[1] for mistake, change in mistakes.items()}
    tokens, logits = run(model, images.to(precision))
    logits.square().mean().backward()
    assert 0.2 < logits.std() < 3, f"{name}: logits of size {logits.std():.2f}"
    for mistake, found in wrong.items():
        difference = largest_difference(found, logits)
        assert difference > 2 * TOLERANCE, f"{name}: {mistake} costs only {difference:.1e}"
        print(f"{name}: {mistake} costs {difference:.1e}")

    tensors = {rename(key): value for key, value in weights.items()}
    tensors.update(images=images, tokens=tokens, logits=logits)
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            tensors["grad/" + rename(key)] = parameter.grad
    if model.training:
        for key, buffer in model.named_buffers():
            tensors["after/" + rename(key)] = buffer
    save(path, tensors)


def run_program(program, subcommand, spec, weights, *arguments):
    """Runs the built program on a spec with a checkpoint of these weights; ends the script where that fails."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = pathlib.Path(folder) / "weights.safetensors"
        save_file({name: value.contiguous() for name, value in weights.items()}, checkpoint)
        command = [program, subcommand, spec, f"--checkpoint={checkpoint}", *arguments]
        result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{spec}: {subcommand}: {result.stderr}")


def predict(program, spec, weights, images, *arguments):
    """The built program's logits."""
    with tempfile.TemporaryDirectory() as folder:
        inputs, output = pathlib.Path(folder) / "images.safetensors", pathlib.Path(folder) / "out.safetensors"
        save_file({"images": images}, inputs)
        run_program(program, "predict", spec, weights, f"--tensors={inputs}", f"--output={output}", *arguments)
        return load_file(output)["logits"]


def check_full_size(what, program, name, model, images, logits_of=lambda model, images: model(images)):
    """Whether the program's logits, of the spec configs/models/NAME.textproto with the model's weights, are the model's."""
    found = predict(program, ROOT / "configs" / "models" / f"{name}.textproto", model.state_dict(), images)
    with torch.no_grad():
        expected = logits_of(model.double(), images.double())
    difference = largest_difference(found, expected)
    print(f"{what}: logits of size {expected.std():.2f} differ by at most {difference:.1e}")
    return difference <= TOLERANCE


def print_counts(name, model, images):
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(images)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    print(f"{name}: {parameters:,} parameters, {trained:,} trained, {counter.get_total_flops() // 2:,} multiply-adds")


def new_parser(description, official=None):
    """`official`: what lies in the folder that the user has to name."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if official is not None:
        parser.add_argument("--official", type=pathlib.Path, required=True, metavar="FOLDER", help=official)
    return parser


def add_full_size(parser):
    parser.add_argument("--full", nargs="*", metavar="MODEL", help="check these models (default: all) at full size")
    parser.add_argument("--program", default=ROOT / "bazel-bin" / "app" / "graticule", help="the built program")
