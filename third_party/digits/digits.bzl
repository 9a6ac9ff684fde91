"""The UCI handwritten digits (1,797 images of 8x8), from scikit-learn's wheel."""

load("//third_party:pip.bzl", "download_wheels", "unzip")

_MEMBER = "sklearn/datasets/data/digits.csv.gz"

def _digits_impl(ctx):
    wheel = download_wheels(ctx, ctx.attr._requirements, "the handwritten digits (scikit-learn 1.7.2)")[0]
    unzip(ctx, wheel, ".", [_MEMBER])
    gunzip = "import gzip, sys; open(sys.argv[2], 'wb').write(gzip.open(sys.argv[1]).read())"
    result = ctx.execute([ctx.which("python3"), "-c", gunzip, _MEMBER, "digits.csv"])
    if result.return_code:
        fail("could not unpack digits.csv.gz: " + result.stderr)
    ctx.delete("wheels")
    ctx.delete("sklearn")
    ctx.file("BUILD", 'exports_files(["digits.csv"])')

digits_repository = repository_rule(
    implementation = _digits_impl,
    attrs = {"_requirements": attr.label(default = "//third_party/digits:requirements.txt")},
)
