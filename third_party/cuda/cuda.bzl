"""CUDA 13.0's libraries and headers, of the versions that LibTorch's wheel asks for. Only --config=cuda fetches them."""

load("//third_party:pip.bzl", "download_wheels", "unzip")

_BUILD = """
package(default_visibility = ["//visibility:public"])

# All are linked, so that Bazel's runfiles hold also those that others load by name only when they need them.
cc_library(
    name = "cuda",
    srcs = glob([
        "site/nvidia/cu13/lib/libcublas.so.*",
        "site/nvidia/cu13/lib/libcublasLt.so.*",
        "site/nvidia/cu13/lib/libcufft.so.*",
        "site/nvidia/cu13/lib/libcufile.so.*",
        "site/nvidia/cu13/lib/libcurand.so.*",
        "site/nvidia/cu13/lib/libcusolver.so.*",
        "site/nvidia/cu13/lib/libcusparse.so.*",
        "site/nvidia/cu13/lib/libnvJitLink.so.*",
        "site/nvidia/cu13/lib/libnvrtc-builtins.so.*",
        "site/nvidia/cu13/lib/libnvrtc.so.*",
        "site/nvidia/cudnn/lib/*.so.*",
        "site/nvidia/cusparselt/lib/*.so.*",
        "site/nvidia/nvshmem/lib/libnvshmem_host.so.*",
    ]),
    hdrs = glob(["site/nvidia/cu13/include/**"]),
    includes = ["site/nvidia/cu13/include"],
)

cc_library(
    name = "nccl",
    srcs = glob(["site/nvidia/nccl/lib/*.so.*"]),
    hdrs = glob(["site/nvidia/nccl/include/**"]),
    includes = ["site/nvidia/nccl/include"],
)
"""

def _cuda_impl(ctx):
    for wheel in download_wheels(ctx, ctx.attr._requirements, "CUDA 13.0 (1.9 GB, once)"):
        ctx.report_progress("unpacking " + wheel.basename)
        unzip(ctx, wheel, "site")
    ctx.delete("wheels")
    ctx.file("BUILD", _BUILD)

cuda_repository = repository_rule(
    implementation = _cuda_impl,
    attrs = {"_requirements": attr.label(default = "//third_party/cuda:requirements.txt")},
)
