"""A fuzzer by libFuzzer, run for a bounded number of inputs as a test."""

# tools/fuzz_tests lists them; only --config=fuzz builds their libraries so that the fuzzer sees which code ran.
def fuzz_test(name, srcs, seeds, deps):
    """Runs a fuzzer: the seeds, then inputs made from them, the same ones each time.

    Built by `./bazelw build --config=fuzz`, the binary takes libFuzzer's arguments and goes on for as long as wanted.

    Args:
      name: of the test
      srcs: with LLVMFuzzerTestOneInput
      seeds: files of valid inputs
      deps: what is fuzzed
    """
    native.cc_test(
        name = name,
        size = "small",
        srcs = srcs,
        # A file of some kB that makes a reader take more memory than this has found a bomb.
        args = [
            "-seed_inputs=" + ",".join(["$(rootpath %s)" % seed for seed in seeds]),
            "-seed=1",
            "-runs=30000",
            "-max_total_time=20",
            "-max_len=10000",
            "-malloc_limit_mb=128",
            "-rss_limit_mb=2048",
            "-timeout=10",
        ],
        data = seeds,
        linkopts = ["-fsanitize=fuzzer"],
        tags = ["fuzz", "manual"],
        deps = deps,
    )
