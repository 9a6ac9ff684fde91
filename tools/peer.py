"""What the comparisons with peers in Python share: an environment of their own, and two sides that take turns."""

import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Pillow 13 refuses to posterize to no bits, which timm asks for.
REQUIREMENTS = ["torch==2.11.0", "torchvision==0.26.0", "timm==1.0.22", "pillow==12.0.0"]


def cache_folder():
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "graticule"


def enter(venv):
    """Goes on in the virtual environment, which is made where there is none."""
    if pathlib.Path(sys.prefix).resolve() == venv.resolve():
        return
    python = venv / "bin" / "python"
    if not python.exists():
        packages = ROOT / "third_party" / "debian_packages_dev.txt"
        subprocess.run([ROOT / "tools" / "require_packages", packages], check=True)
        print(f"Installing {', '.join(REQUIREMENTS)} into {venv} (3 GB, once)…", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        # The interpreter stands for a complete environment: without it an interrupted installation starts again.
        try:
            subprocess.run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS], stdout=sys.stderr, check=True)
        except BaseException:
            python.unlink()
            raise
    os.execv(python, [python, *sys.argv])


class Side:
    """A process that measures when it is asked to: a line to its standard input, a line of JSON from its output."""

    def __init__(self, name, command, rate):
        """`rate` finds the images per second in the JSON."""
        self.name = name
        self.rate = rate
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def measure(self):
        answer = ""
        try:
            print(file=self.process.stdin, flush=True)
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            pass
        if not answer:
            sys.exit(f"{self.name} ended before it had measured; what stands above says why")
        return self.rate(json.loads(answer))

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def compare(title, peer, graticule, rounds):
    """Lets the two take turns and prints each pair, the medians and the median of the ratios, which it returns."""
    # Not counted: it waits for both to be ready, and Graticule may have to be built first.
    graticule.measure()
    peer.measure()
    width = max(10, len(peer.name))
    print(f"\n{title}\n{peer.name:>{width}}   graticule   ratio   (images per second)")
    pairs = []
    for _ in range(rounds):
        pairs.append((peer.measure(), graticule.measure()))
        theirs, ours = pairs[-1]
        print(f"{theirs:{width}.2f}  {ours:10.2f}  {ours / theirs:6.3f}", flush=True)
    peer.close()
    graticule.close()
    theirs, ours = (statistics.median(side) for side in zip(*pairs))
    ratio = statistics.median(ours / theirs for theirs, ours in pairs)
    print(f"median: {peer.name} {theirs:.2f}, graticule {ours:.2f}; ratio of pairs {ratio:.3f}", flush=True)
    return ratio
