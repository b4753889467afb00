"""A weight file that shrinks under a run ends it with exit 74 and its name.

usage: truncation_test.py --bin DIR

Weights are read in place. When the file behind the mapping becomes shorter, the
next read is a bus error, which peft-run must turn into a message. Also when the
file is only replaced: then the run goes on with the old bytes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(__file__))
from bad_input_test import Workshop  # noqa: E402


def started(binaries, root, steps):
    """A run that has finished its first step."""
    out = f"{root}/OUT"
    command = [f"{binaries}/peft-run", "lora.plan", "--model", "model", "--quiet"]
    command += ["--data", "data.safetensors", "-o", "OUT", "--steps", str(steps)]
    child = subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, text=True)
    for _ in range(600):
        if os.path.exists(f"{out}/metrics.jsonl") and os.path.getsize(f"{out}/metrics.jsonl"):
            return child
        time.sleep(0.05)
    child.kill()
    raise TimeoutError("no step within 30 seconds")


def shrunk(binaries, root):
    child = started(binaries, root, 2**31 - 2)
    os.truncate(f"{root}/model/model.safetensors", 64)
    error = child.communicate(timeout=60)[1]
    if child.returncode != 74:
        return f"exit code {child.returncode} instead of 74 ({error.strip()})"
    if "model.safetensors" not in error:
        return f"the file is not named: {error.strip()}"
    if os.listdir(f"{root}/OUT") != ["metrics.jsonl"]:
        return f"left behind: {os.listdir(f'{root}/OUT')}"
    return None


def replaced(binaries, root):
    child = started(binaries, root, 3000)
    os.rename(f"{root}/data.safetensors", f"{root}/model/model.safetensors")
    error = child.communicate(timeout=60)[1]
    if child.returncode != 0:
        return f"exit code {child.returncode} ({error.strip()})"
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    binaries = os.path.abspath(parser.parse_args().bin)
    failed = 0
    for check in (shrunk, replaced):
        with tempfile.TemporaryDirectory() as root:
            problem = check(binaries, Workshop(root, binaries).root)
        failed += problem is not None
        name = check.__name__
        print(f"FAIL {name}: {problem}" if problem else f"PASS {name}", flush=True)
    print(f"{2 - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
