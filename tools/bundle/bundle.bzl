"""Archives of a program that run on another machine, against the LibTorch of a pip-installed torch."""

def _in_tree(file):
    """The path in its own repository: ../REPOSITORY/PATH becomes PATH."""
    path = file.short_path
    return "/".join(path.split("/")[2:]) if path.startswith("../") else path

def _in_runfiles(file, workspace):
    path = file.short_path
    return path[len("../"):] if path.startswith("../") else workspace + "/" + path

def _bundle_impl(ctx):
    name = "graticule-%s%s" % (ctx.attr.version, ctx.attr.suffix)
    archive = ctx.actions.declare_file(name + ".tar.gz")
    program = ctx.attr.program[DefaultInfo]

    # Data of the plugins. What lies in _solib_* are libraries, which are left out or found by the program's own paths.
    data = [
        file
        for file in program.default_runfiles.files.to_list()
        if not file.short_path.startswith("_solib") and file != ctx.executable.program
    ]
    parameters = ctx.actions.declare_file(name + ".json")
    ctx.actions.write(parameters, struct(
        files = {_in_tree(file): file.path for file in ctx.files.data},
        folder = name,
        output = archive.path,
        program = ctx.executable.program.path,
        runfiles = {_in_runfiles(file, ctx.workspace_name): file.path for file in data},
        script = ctx.file._script.path,
        torch_version = ctx.file._torch_version.path,
        version = ctx.attr.version,
    ).to_json())
    ctx.actions.run(
        executable = ctx.executable._make_bundle,
        arguments = [parameters.path],
        inputs = depset(
            [parameters, ctx.file._script, ctx.file._torch_version] + ctx.files.data,
            transitive = [program.default_runfiles.files],
        ),
        tools = [program.files_to_run],
        outputs = [archive],
        # The system's binutils and patchelf.
        use_default_shell_env = True,
        mnemonic = "Bundle",
        progress_message = "Packing %s" % archive.short_path,
    )
    return [DefaultInfo(files = depset([archive]), runfiles = ctx.runfiles([archive]))]

bundle = rule(
    implementation = _bundle_impl,
    doc = """Packs graticule-VERSION.tar.gz: a program, the system's libraries that it needs, and a script that starts it.

LibTorch and CUDA are not in it; the script finds those of a pip-installed torch (docs/bundle.md).""",
    attrs = {
        "program": attr.label(
            doc = "The program, a cc_binary with @graticule//app:main.",
            cfg = "target",
            executable = True,
            mandatory = True,
        ),
        "data": attr.label_list(
            doc = "What stands beside the script, under the paths of the source tree.",
            allow_files = True,
        ),
        "version": attr.string(doc = "What the program's --version prints.", mandatory = True),
        "suffix": attr.string(doc = "Of the archive's name, after the version."),
        "_make_bundle": attr.label(
            allow_single_file = True,
            cfg = "exec",
            default = "//tools/bundle:make_bundle",
            executable = True,
        ),
        "_script": attr.label(allow_single_file = True, default = "//tools/bundle:graticule.sh"),
        "_torch_version": attr.label(allow_single_file = True, default = "@torch//:site/torch/version.py"),
    },
)
