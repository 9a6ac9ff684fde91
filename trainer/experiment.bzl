"""Experiments as build targets: trained in the sandbox, cached like any output, tested by what their specs expect.

    load("@graticule//trainer:experiment.bzl", "experiment")
"""

def _experiment_impl(ctx):
    outputs = [ctx.outputs.metrics, ctx.outputs.model, ctx.outputs.expected, ctx.outputs.resolved]
    if ctx.outputs.ema:
        outputs.append(ctx.outputs.ema)

    arguments = ctx.actions.args()
    arguments.add(ctx.executable.program)
    arguments.add(ctx.outputs.metrics.dirname)
    arguments.add("ema" if ctx.outputs.ema else "")
    arguments.add(ctx.file.spec)
    arguments.add(ctx.attr.threads, format = "--set=trainer.threads=%s")
    arguments.add_all(["--set=%s=%s" % (path, value) for path, value in ctx.attr.overrides.items()])
    ctx.actions.run(
        executable = ctx.executable._train,
        arguments = [arguments],
        inputs = [ctx.file.spec] + ctx.files.data,
        tools = [ctx.attr.program[DefaultInfo].files_to_run],
        outputs = outputs,
        # Nothing of the machine but its processor.
        env = {"OMP_NUM_THREADS": str(ctx.attr.threads)},
        execution_requirements = {"block-network": "1"},
        mnemonic = "TrainExperiment",
        progress_message = "Training %s" % ctx.label,
    )
    return [DefaultInfo(files = depset(outputs), runfiles = ctx.runfiles(outputs))]

_experiment = rule(
    implementation = _experiment_impl,
    attrs = {
        "spec": attr.label(allow_single_file = [".textproto"], mandatory = True),
        "data": attr.label_list(allow_files = True),
        "overrides": attr.string_dict(),
        "threads": attr.int(default = 1),
        # Of the configuration that it is tested and run in: a measurement is of that program, and nothing is compiled
        # twice.
        "program": attr.label(cfg = "target", default = "//app:graticule", executable = True),
        "metrics": attr.output(mandatory = True),
        "model": attr.output(mandatory = True),
        "ema": attr.output(),
        "expected": attr.output(mandatory = True),
        "resolved": attr.output(mandatory = True),
        "_train": attr.label(cfg = "exec", default = "//trainer:train_experiment", executable = True),
    },
)

def experiment(name, spec, data = [], overrides = {}, ema = False, threads = 1, program = None, test = True, **kwargs):
    """Declares NAME, which trains an experiment, and NAME_test, which passes if all that its spec expects holds.

    NAME is the files NAME/metrics.csv (less the columns that are of the clock), NAME/model.safetensors,
    NAME/experiment.textproto (the resolved spec), NAME/expected.txt (what became of each `expected`), and with `ema`
    NAME/ema.safetensors. A training that ends badly fails the build and shows its log; a bound that does not hold fails
    NAME_test alone.

    Args:
      name: of the target.
      spec: the experiment, a textproto file.
      data: what it reads: its base specs, checkpoints, images. Paths in specs are those in the source tree; for an
        output of another experiment write $(location) in `overrides`.
      overrides: fields to set, {"trainer.epochs": "2"}, as by --set.
      ema: whether it keeps a moving average of the weights, which then is an output.
      threads: of the CPU's kernels. With more than one, the bytes still depend on nothing else than their number.
      program: a cc_binary with @graticule//app:main and the plugins that the spec needs. Default: Graticule's own.
      test: whether there is a NAME_test.
      **kwargs: visibility, tags and what else is common to all rules.
    """
    _experiment(
        name = name,
        spec = spec,
        data = data,
        overrides = overrides,
        threads = threads,
        program = program,
        metrics = name + "/metrics.csv",
        model = name + "/model.safetensors",
        ema = name + "/ema.safetensors" if ema else None,
        expected = name + "/expected.txt",
        resolved = name + "/experiment.textproto",
        **kwargs
    )
    if test:
        native.sh_test(
            name = name + "_test",
            size = "small",
            srcs = ["@graticule//trainer:check_expected.sh"],
            args = ["$(location :%s/expected.txt)" % name],
            data = [":%s/expected.txt" % name],
            **kwargs
        )
