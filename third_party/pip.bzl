"""Fetches pinned wheels from the Python package index, by hash and whatever the machine's own Python is."""

_PLATFORMS = ["manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_25_x86_64", "manylinux_2_18_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"]

def download_wheels(ctx, requirements, what):
    """Downloads the wheels that a requirements file pins and returns their paths.

    Args:
      ctx: the repository context.
      requirements: Label of a pip requirements file with a --hash for each line.
      what: what the user is waiting for, for the progress line.
    Returns:
      A list of paths of the downloaded wheels.
    """
    python = ctx.which("python3")
    if not python:
        fail("python3 is needed to fetch %s: run ./bazelw, which says how to install it" % what)
    ctx.report_progress("downloading " + what)
    command = [python, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:"]
    command += ["--python-version", "3.11", "--implementation", "cp", "--disable-pip-version-check"]
    for platform in _PLATFORMS:
        command += ["--platform", platform]
    command += ["--dest", "wheels", "--requirement", ctx.path(requirements)]
    result = ctx.execute(command, timeout = 3600)
    if result.return_code:
        fail("pip could not fetch %s:\n%s\n%s" % (what, result.stdout, result.stderr))
    return [wheel for wheel in ctx.path("wheels").readdir() if wheel.basename.endswith(".whl")]

def unzip(ctx, archive, into, members = []):
    """Unpacks a zip archive, or only some of its members, with Python's own zipfile."""
    script = """
import sys, zipfile
archive, into, members = sys.argv[1], sys.argv[2], sys.argv[3:]
with zipfile.ZipFile(archive) as z:
    names = [n for n in z.namelist() if not members or any(n == m or n.startswith(m + "/") for m in members)]
    z.extractall(into, names)
"""
    result = ctx.execute([ctx.which("python3"), "-c", script, archive, into] + members, timeout = 3600)
    if result.return_code:
        fail("could not unpack %s:\n%s" % (archive, result.stderr))
