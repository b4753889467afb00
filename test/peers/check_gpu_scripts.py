"""The scripts for a borrowed GPU with --device cpu: nothing of them may wait for
a GPU to be broken.

usage: check_gpu_scripts.py --bin DIR

gpu_step.py measures PyTorch + PEFT, with and without checkpointing, and peft-run
on the small model, with the same losses; it records what fails, goes on and says
so. gpu_check.py passes when the device is the CPU. Prints what went wrong and
exits with 1.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "bench"))
import gpu_shapes  # noqa: E402


def run(command, code=0):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != code:
        sys.exit(f"{' '.join(command[:3])}: exit {done.returncode}, not {code}:\n"
                 + (done.stdout + done.stderr)[-2000:])
    return done.stdout + done.stderr


def make_plans(programs, root):
    for name, bench in gpu_shapes.BENCHES.items():
        if bench.group != 1:
            continue
        folder = f"{root}/plans/{name}"
        gpu_shapes.write(bench, folder)
        run([f"{programs}/peftc", "compile", f"{folder}/config.json", "--quiet",
             "--adapter", f"{folder}/adapter_config.json", "--target", "h200",
             "--batch", str(bench.batch), "--seq", str(bench.seq),
             "--compute", bench.compute, "-o", f"{folder}/step.plan"])


def step(programs, root, *flags, code=0):
    result = f"{root}/steps.json"
    run([sys.executable, f"{ROOT}/bench/gpu_step.py", "--device", "cpu", "--bin", programs,
         "--plans", f"{root}/plans", "--work", f"{root}/work", "-o", result, *flags], code)
    if code in (0, 1):
        with open(result) as file:
            return json.load(file)["results"]
    return None


def check_step(programs, root):
    result, = step(programs, root, "tiny-bf16", "--steps", "4")
    for variant in ("checkpointing", "plain", "peft-run"):
        if len(result["runs"][variant]["seconds"]) != 2:
            sys.exit(f"gpu_step: {variant} was not measured: {result['runs'][variant]}")
    for variant in ("checkpointing", "plain"):
        if not result[f"losses_apart_{variant}"] < 2e-3:
            sys.exit(f"gpu_step: losses apart {result[f'losses_apart_{variant}']}")
    for figure in ("floor_over_ours", "ours_over_checkpointing", "busy_seconds"):
        if not 0 < result[figure] < 1e6:
            sys.exit(f"gpu_step: {figure} is {result[figure]}")
    if os.path.exists(f"{root}/work/tiny"):
        sys.exit("gpu_step: the weights are still there")
    # What fails is recorded; what can be measured is.
    result, = step(f"{root}/nowhere", root, "tiny-bf16", "--steps", "3", "--variants",
                   "peft-run,plain", "--keep", code=1)
    if not result["runs"]["plain"]["seconds"] or "error" not in result["runs"]["peft-run"]:
        sys.exit(f"gpu_step: without peft-run: {result['runs']}")
    os.remove(f"{root}/plans/tiny-f32/step.plan")
    result, = step(programs, root, "tiny-f32", "--variants", "peft-run", code=1)
    if "step.plan" not in result["runs"]["peft-run"]["error"]:
        sys.exit(f"gpu_step: {result['runs']['peft-run']}")
    step(programs, root, "tiny-bf16", "--variants", "fast", code=2)
    step(programs, root, "tiny-bf16", "--steps", "2", code=2)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True)
    programs = parser.parse_args().bin
    with tempfile.TemporaryDirectory() as root:
        make_plans(programs, root)
        run([sys.executable, f"{ROOT}/bench/gpu_check.py", "--device", "cpu", "--steps", "12",
             "--bin", programs, "--plans", f"{root}/plans", "--work", f"{root}/check",
             "-o", f"{root}/check.json"])
        check_step(programs, root)
    print("the scripts for a GPU run on the CPU")


if __name__ == "__main__":
    main()
