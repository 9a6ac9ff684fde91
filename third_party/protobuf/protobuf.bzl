"""The system's Protocol Buffers 3.21, as the repository that Bazel's proto rules look for."""

_WELL_KNOWN = ["any", "api", "descriptor", "duration", "empty", "field_mask", "source_context", "struct", "timestamp", "type", "wrappers"]

_BUILD = """
package(default_visibility = ["//visibility:public"])

cc_library(
    name = "protobuf",
    linkopts = ["-lprotobuf", "-lpthread"],
)

sh_binary(
    name = "protoc",
    srcs = ["protoc.sh"],
)

proto_lang_toolchain(
    name = "cc_toolchain",
    blacklisted_protos = [":{blacklisted}"],
    command_line = "--cpp_out=$(OUT)",
    runtime = ":protobuf",
)
"""

_PROTO = """
proto_library(
    name = "{name}_proto",
    srcs = ["include/google/protobuf/{name}.proto"],
    strip_import_prefix = "include",
    deps = [{deps}],
)
"""

_DEPS = {"api": ["source_context", "type"], "type": ["any", "source_context"]}

def _protobuf_impl(ctx):
    protoc = ctx.which("protoc")
    version = ctx.execute([protoc, "--version"]).stdout.strip() if protoc else "no protoc"
    if not version.startswith("libprotoc 3.21."):
        fail("Debian 12's protobuf-compiler (libprotoc 3.21) is needed, found %s: run ./bazelw, which says how to install it" % version)
    build = _BUILD.replace("\":{blacklisted}\"", ", ".join(["\":%s_proto\"" % name for name in _WELL_KNOWN]))
    for name in _WELL_KNOWN:
        ctx.symlink("/usr/include/google/protobuf/%s.proto" % name, "include/google/protobuf/%s.proto" % name)
        build += _PROTO.format(name = name, deps = ", ".join(["\":%s_proto\"" % d for d in _DEPS.get(name, [])]))
    ctx.file("protoc.sh", "#!/bin/sh\nexec %s \"$@\"\n" % protoc, executable = True)
    ctx.file("BUILD", build)

protobuf_repository = repository_rule(implementation = _protobuf_impl, local = True)
