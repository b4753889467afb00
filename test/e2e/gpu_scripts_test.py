"""The scripts for a borrowed GPU, as far as they go without one.

usage: gpu_scripts_test.py --bin DIR

Every plan of the bundle compiles for an H200 (so that it fits one) and is small;
gpu_all.sh and gpu_bundle.sh say what is wrong with their arguments; gpu_all.sh
without a bundle is exit 66. Needs numpy only; what needs PyTorch is tried by
test/peers/check_gpu_scripts.py. The last line counts what passed.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "bench"))
import gpu_shapes  # noqa: E402

PLANS_BYTES = 25_000_000  # half of the bundle


class Failure(Exception):
    """Another exit code or message, or a plan that does not compile."""


def run(command, code=0):
    """Standard output and error together."""
    done = subprocess.run(command, capture_output=True, text=True)
    said = done.stdout + done.stderr
    if done.returncode != code:
        tail = " | ".join(said.strip().splitlines()[-2:])
        raise Failure(f"{command[0]} exit {done.returncode}, not {code}: {tail}")
    return said


def check_plans(programs, root):
    shapes = [sys.executable, f"{ROOT}/bench/gpu_shapes.py"]
    names = "".join(run([*shapes, "list", part]) for part in "123").split()
    if sorted(names) != sorted(gpu_shapes.BENCHES):
        raise Failure(f"the three parts have {names}")
    size = 0
    for name in names:
        run([*shapes, "write", name, f"{root}/{name}"])
        plan = f"{root}/{name}/step.plan"
        run([f"{programs}/peftc", "compile", f"{root}/{name}/config.json", "--quiet",
             "--adapter", f"{root}/{name}/adapter_config.json", "--target", "h200",
             "-o", plan, *run([*shapes, "flags", name]).split()])
        size += os.path.getsize(plan)
    if size > PLANS_BYTES:
        raise Failure(f"the plans have {size} bytes")


def check_arguments(programs, root):
    run([sys.executable, f"{ROOT}/bench/gpu_shapes.py", "flags"], code=64)
    for arguments, message in (([], "which part?"), (["4"], "which part?")):
        if message not in run([f"{ROOT}/bench/gpu_all.sh", *arguments], code=64):
            raise Failure(f"gpu_all.sh {arguments} does not ask {message}")
    if "78 no usable card" not in run([f"{ROOT}/bench/gpu_all.sh", "--help"]):
        raise Failure("gpu_all.sh --help does not name its exit codes")
    for arguments in (["--arch", "hopper"], ["--arch"], ["--from", "x"]):
        run([f"{ROOT}/bench/gpu_bundle.sh", *arguments], code=64)


def check_no_bundle(programs, root):
    os.makedirs(f"{root}/alone/bench")
    shutil.copy(f"{ROOT}/bench/gpu_all.sh", f"{root}/alone/bench")
    said = run([f"{root}/alone/bench/gpu_all.sh", "1", f"{root}/out"], code=66)
    if "gpu_bundle.sh" not in said:
        raise Failure(f"it does not say what to do: {said}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True)
    programs = parser.parse_args().bin
    passed = failed = 0
    with tempfile.TemporaryDirectory() as root:
        for check in (check_plans, check_arguments, check_no_bundle):
            name = check.__name__.removeprefix("check_")
            try:
                check(programs, root)
                print(f"PASS gpu_scripts/{name}", flush=True)
                passed += 1
            except Failure as failure:
                print(f"FAIL gpu_scripts/{name}: {failure}", flush=True)
                failed += 1
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
