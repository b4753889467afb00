"""What a card computes, beside the CPU device and beside itself.

usage: gpu_check.py --bin DIR --plans DIR --work DIR -o FILE.json
       [--device cuda] [--steps N]

On the small model of gpu_shapes.py, with random weights:
  agreement    f32: losses of ten steps within 1e-5 of the CPU device, gradients
               of the first within 1e-4 (relative, by tensor, of the largest
               element); bf16: losses of N steps (50) within 2e-2 of f32
  determinism  SHA-256 of the adapter of two runs, in f32, in bf16 and with
               dropout; with dropout also that another seed gives another
  memory       --check: the arenas are as planned
Prints PASS or FAIL by line; FILE.json has the figures. Exit 1 if one failed, 78
if the device cannot be used (told by the first run on it).
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROWS_OF_STEP = 2


class Checks:
    def __init__(self, options):
        self.options, self.results, self.failed = options, {}, 0

    def run(self, plan, *flags, device=None):
        """Standard output of peft-run on the small model."""
        options = self.options
        command = [f"{options.bin}/peft-run", f"{options.plans}/{plan}/step.plan",
                   "--model", f"{options.work}/tiny", "--quiet",
                   "--device", device or options.device, *flags]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(done.stderr.strip() or done.stdout.strip(), file=sys.stderr)
            if done.returncode == 78:
                sys.exit(78)
        return done

    def train(self, plan, out, steps, *flags, device=None):
        """Losses, or None when it failed."""
        folder = f"{self.options.work}/{out}"
        done = self.run(plan, "--data", f"{self.options.work}/tiny.safetensors",
                        "-o", folder, "--init-adapter", f"{self.options.work}/tiny-adapter",
                        "--steps", str(steps), "--no-shuffle", "--lr", "1e-3", *flags,
                        device=device)
        if done.returncode:
            return None
        with open(f"{folder}/metrics.jsonl") as file:
            return [json.loads(line)["loss"] for line in file]

    def say(self, name, good, **figures):
        self.results[name] = {"passed": bool(good), **figures}
        self.failed += not good
        text = ", ".join(f"{key} {value}" for key, value in figures.items())
        print("PASS" if good else "FAIL", f"gpu_check/{name}" + (f": {text}" if text else ""),
              flush=True)

    def prepare(self):
        options = self.options
        os.makedirs(options.work, exist_ok=True)
        rows = max(options.steps, 10) * ROWS_OF_STEP
        for script, *arguments in (
                ("gpu_weights.py", "tiny-f32", f"{options.work}/tiny",
                 f"{options.work}/tiny-adapter"),
                ("gpu_tokens.py", "tiny-f32", str(rows), f"{options.work}/tiny.safetensors")):
            subprocess.run([sys.executable, f"{HERE}/{script}", *arguments], check=True)

    def memory(self):
        for plan in ("tiny-f32", "tiny-bf16", "tiny-dropout"):
            done = self.run(plan, "--check")
            self.say(f"memory/{plan}", done.returncode == 0)

    def agreement(self):
        work = self.options.work
        found = self.train("tiny-f32", "f32", 10, "--dump-gradients", f"{work}/g.safetensors")
        expected = self.train("tiny-f32", "f32-cpu", 10, "--dump-gradients",
                              f"{work}/g-cpu.safetensors", device="cpu")
        if not found or not expected:
            return self.say("agreement/f32", False)
        apart = max(abs(a - b) / abs(b) for a, b in zip(found, expected))
        self.say("agreement/f32-loss", apart <= 1e-5, apart=apart)
        apart, tensor = gradients_apart(f"{work}/g.safetensors", f"{work}/g-cpu.safetensors")
        self.say("agreement/f32-gradients", apart <= 1e-4, apart=apart, tensor=tensor)
        steps = self.options.steps
        single = self.train("tiny-f32", "f32-long", steps)
        brain = self.train("tiny-bf16", "bf16-long", steps)
        if not single or not brain:
            return self.say("agreement/bf16", False)
        apart = max(abs(a - b) / abs(b) for a, b in zip(brain, single))
        return self.say("agreement/bf16-loss", apart <= 2e-2, apart=apart, steps=steps)

    def digest(self, plan, out, *flags):
        if not self.train(plan, out, 5, *flags):
            return None
        with open(f"{self.options.work}/{out}/adapter_model.safetensors", "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()

    def determinism(self):
        for plan in ("tiny-f32", "tiny-bf16", "tiny-dropout"):
            first, second = (self.digest(plan, f"same-{i}") for i in (1, 2))
            self.say(f"determinism/{plan}", first and first == second, sha256=first)
        other = self.digest("tiny-dropout", "other", "--seed", "7")
        self.say("determinism/another-seed", other and other != first)


def gradients_apart(path, reference):
    """(largest difference by tensor over that tensor's largest element, its name)"""
    from safetensors.numpy import load_file
    found, expected = load_file(path), load_file(reference)
    if set(found) != set(expected):
        return float("inf"), "names differ"
    apart = {name: float(abs(found[name] - expected[name]).max()
                         / max(abs(expected[name]).max(), 1e-30)) for name in expected}
    worst = max(apart, key=apart.get)
    return apart[worst], worst


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True)
    parser.add_argument("--plans", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("-o", dest="output", required=True, metavar="FILE.json")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=50)
    options = parser.parse_args()
    checks = Checks(options)
    checks.prepare()
    checks.memory()
    checks.agreement()
    checks.determinism()
    with open(options.output, "w") as file:
        json.dump(checks.results, file, indent=1)
    print(f"{len(checks.results) - checks.failed} passed, {checks.failed} failed, 0 skipped")
    return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(main())
