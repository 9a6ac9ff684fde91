"""Everything that Graticule's build needs from outside, for its own WORKSPACE and for those of plugin repositories."""

load("//third_party/cuda:cuda.bzl", "cuda_repository")
load("//third_party/digits:digits.bzl", "digits_repository")
load("//third_party/protobuf:protobuf.bzl", "protobuf_repository")
load("//third_party/torch:torch.bzl", "torch_repository")

def _stub_repository_impl(ctx):
    for path, content in ctx.attr.files.items():
        ctx.file(path, content)

_stub_repository = repository_rule(
    implementation = _stub_repository_impl,
    attrs = {"files": attr.string_dict(mandatory = True)},
)

_RULES_CC = """
cc_binary = native.cc_binary
cc_import = native.cc_import
cc_library = native.cc_library
cc_proto_library = native.cc_proto_library
cc_test = native.cc_test
cc_toolchain = native.cc_toolchain
cc_toolchain_suite = native.cc_toolchain_suite
objc_library = native.objc_library
"""

def graticule_repositories():
    """Declares the external repositories: @torch, @com_google_protobuf, @digits, and @cuda, which only --config=cuda fetches."""

    # Bazel's own tools load these three; without them it would look for them on the network.
    _stub_repository(
        name = "rules_cc",
        files = {"BUILD": "", "cc/BUILD": "", "cc/defs.bzl": _RULES_CC},
    )
    _stub_repository(
        name = "remote_coverage_tools",
        files = {"BUILD": "filegroup(name = 'coverage_report_generator', visibility = ['//visibility:public'])"},
    )
    native.local_repository(
        name = "rules_java",
        path = "/usr/share/bazel/rules/java",
    )

    protobuf_repository(name = "com_google_protobuf")
    torch_repository(name = "torch")
    cuda_repository(name = "cuda")
    digits_repository(name = "digits")
