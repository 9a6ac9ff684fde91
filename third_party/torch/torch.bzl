"""LibTorch 2.11.0, from PyPI's wheel: the CUDA build, which runs without a GPU."""

load("//third_party:pip.bzl", "download_wheels", "unzip")

_BUILD = """
package(default_visibility = ["//visibility:public"])

exports_files(["site/torch/version.py"])

# The wheels' tree is kept whole: the libraries find each other by relative RPATHs.
cc_library(
    name = "torch",
    srcs = [
        "site/torch/lib/libc10.so",
        "site/torch/lib/libtorch_cpu.so",
    ] + glob([
        "site/torch/lib/libgomp*.so*",
        "site/torch/lib/libtorch_cpu.so.*",
        "site/nvidia/**/libcudart.so.*",
        "site/nvidia/**/libcupti.so.*",
    ]),
    # Kernels' own headers are left out: a compile's sandbox links each file that stands here.
    hdrs = glob(
        [
            "site/torch/include/ATen/**/*.h",
            "site/torch/include/c10/**/*.h",
            "site/torch/include/torch/headeronly/**/*.h",
            "site/torch/include/torch/csrc/autograd/**/*.h",
            "site/torch/include/torch/csrc/utils/**/*.h",
            "site/torch/include/torch/csrc/*.h",
            "site/torch/include/torch/library.h",
            "site/torch/include/torch/custom_class*.h",
        ],
        exclude = [
            "site/torch/include/ATen/ops/*_native.h",
            "site/torch/include/ATen/ops/*_cpu_dispatch.h",
            "site/torch/include/ATen/ops/*_cuda_dispatch.h",
            "site/torch/include/ATen/ops/*_meta_dispatch.h",
            "site/torch/include/ATen/ops/*_composite*_dispatch.h",
            "site/torch/include/ATen/native/**",
            "site/torch/include/ATen/cuda/**",
            "site/torch/include/ATen/cudnn/**",
            "site/torch/include/ATen/hip/**",
            "site/torch/include/ATen/mps/**",
            "site/torch/include/ATen/miopen/**",
            "site/torch/include/ATen/xpu/**",
            "site/torch/include/c10/cuda/**",
            "site/torch/include/c10/xpu/**",
            "site/torch/include/c10/hip/**",
        ],
    ),
    # c10 then takes LOG and CHECK from glog instead of defining its own.
    defines = ["C10_USE_GLOG"],
    includes = ["site/torch/include"],
    linkopts = ["-lpthread"],
    deps = ["@graticule//third_party/glog"],
)

# Kineto's profiler, for //trainer:profile.
cc_library(
    name = "profiler",
    hdrs = glob([
        "site/torch/include/torch/csrc/jit/frontend/source_range.h",
        "site/torch/include/torch/csrc/profiler/**/*.h",
    ]),
    deps = [":torch"],
)

# Collectives, process groups and DDP's reducer, for //trainer/distributed. What they include of kernels' headers comes
# with them.
cc_library(
    name = "c10d",
    hdrs = glob([
        "site/torch/include/ATen/ops/*_native.h",
        "site/torch/include/torch/csrc/api/include/torch/detail/TensorDataContainer.h",
        "site/torch/include/torch/csrc/api/include/torch/types.h",
        "site/torch/include/torch/csrc/distributed/**/*.h",
        "site/torch/include/torch/csrc/distributed/**/*.hpp",
        "site/torch/include/torch/csrc/dynamo/compiled_autograd.h",
        "site/torch/include/torch/csrc/jit/frontend/*.h",
    ]),
    includes = [
        "site/torch/include",
        "site/torch/include/torch/csrc/api/include",
    ],
    deps = [
        ":profiler",
        ":torch",
        "@graticule//third_party/gloo",
    ],
)

# CUDA and NCCL: empty, unless --config=cuda (.bazelrc) sets these flags to the two libraries below. Flags, and not a
# select(): bazel query follows all branches of one, and would fetch 1.9 GB. Here, because their labels are the same in
# every repository. //third_party/cuda and //third_party/nccl are the names to depend on.
label_flag(
    name = "cuda",
    build_setting_default = ":without_cuda",
)

label_flag(
    name = "nccl",
    build_setting_default = ":without_cuda",
)

cc_library(name = "without_cuda")

cc_library(
    name = "with_cuda",
    srcs = [
        "site/torch/lib/libc10_cuda.so",
        "site/torch/lib/libtorch_cuda.so",
        "site/torch/lib/libtorch_cuda_linalg.so",
        "site/torch/lib/libtorch_nvshmem.so",
    ],
    hdrs = glob([
        "site/nvidia/cu13/include/**",
        "site/torch/include/ATen/cuda/*.h",
        "site/torch/include/c10/cuda/**/*.h",
    ]),
    defines = ["GRATICULE_CUDA"],
    includes = ["site/nvidia/cu13/include"],
    deps = [
        ":torch",
        "@cuda",
    ],
)

cc_library(
    name = "with_nccl",
    hdrs = ["site/torch/include/torch/csrc/cuda/nccl.h"],
    defines = ["USE_C10D_NCCL"],
    deps = [
        ":c10d",
        ":with_cuda",
        "@cuda//:nccl",
    ],
)
"""

def _torch_impl(ctx):
    for wheel in download_wheels(ctx, ctx.attr._requirements, "LibTorch 2.11.0 (550 MB, once)"):
        ctx.report_progress("unpacking " + wheel.basename)
        unzip(ctx, wheel, "site")
    ctx.delete("wheels")

    # Headers of protobuf 3.13, which would shadow the system's 3.21.
    ctx.delete("site/torch/include/google")
    ctx.file("BUILD", _BUILD)

torch_repository = repository_rule(
    implementation = _torch_impl,
    attrs = {"_requirements": attr.label(default = "//third_party/torch:requirements.txt")},
)
