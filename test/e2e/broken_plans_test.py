"""Breaks real plans in one place at a time: each event edge deleted, each offset shifted.

usage: broken_plans_test.py --bin DIR

The verifier must refuse a plan without one of its waits or records; run unverified, some
schedule must show the race. A buffer moved by 64 bytes is refused, or moved into free
bytes and changes nothing.
"""

import argparse
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "golden"))

import models  # noqa: E402

# Three kinds of plans; each is trained in steps of two micro-batches.
CASES = (
    ("save_head", ["--lora-rank", "4", "--lora-dropout", "0.2", "--compute", "bf16"]),
    ("train_all_tied", ["--train", "all", "--compute", "bf16"]),
    # For a card, with a loss scale that is adjusted.
    ("save_head", ["--lora-rank", "4", "--compute", "f16", "--target", "t4"]),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", required=True)
    binaries = parser.parse_args().bin
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, flags) in enumerate(CASES):
            case = models.get_case(name)
            model, plan = f"{folder}/{number}", f"{folder}/{number}.plan"
            models.write_model(case, model)
            subprocess.run([f"{binaries}/peftc", "compile", model, *flags, "--batch", "2",
                            "--seq", "24", "--quiet", "-o", plan], check=True)
            for what in ("edges", "offsets"):
                done = subprocess.run([f"{binaries}/peft-break-plan", what, plan, model],
                                      capture_output=True, text=True)
                print(f"{name} {' '.join(flags)}, {what}: {done.stdout.strip()}{done.stderr}")
                if done.returncode == 0:
                    passed += 1
                else:
                    failed += 1
                    print(f"FAIL broken_plans/{number}/{what}")
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
