"""The same adapter, bit for bit, however a run is cut up and carried out.

usage: same_bits.py --bin DIR [--quick]

SHA-256 of the adapter after 20 steps of 8 rows, in f32, bf16 and f16, with and
without dropout, of a gemma2 and a phi3, and of the model with --train all: 1, 2
and 3 threads; rows x
micro-batches 1x8, 2x4 and 8x1, untrained rows among them; ten --schedule-seeds,
each of which must move at least a quarter of the launches; A-projections of one
input together and one by one; activations kept and recomputed; every CPU path
that this chip has. Needs numpy only. The last line counts what passed.
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "golden"))
import models  # noqa: E402
import tensor_file  # noqa: E402
from cases import GEMMA2, PHI3, QWEN2  # noqa: E402

STEPS, ROWS, SEQ = 20, 8, 37

# Odd sizes, so that no tile, vector or pair of rows comes out even.
CASE = {
    "name": "same_bits",
    "config": {
        **QWEN2,
        "hidden_size": 72,
        "intermediate_size": 113,
        "vocab_size": 331,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "sliding_window": 9,
        "use_sliding_window": True,
    },
    "adapter": {"r": 5, "lora_alpha": 10, "target_modules": "all-linear"},
    "stored": "bf16",
    "shards": 1,
    "segments": True,
    "batch": ROWS,
    "accumulation": 1,
    "steps": STEPS,
    "seq": SEQ,
}

ODD_SIZES = {
    "hidden_size": 52,
    "intermediate_size": 83,
    "vocab_size": 211,
    "head_dim": 18,
    "sliding_window": 9,
}
# Models of other families, with adapters everywhere.
OTHER_MODELS = {
    "gemma2": {**GEMMA2, **ODD_SIZES},
    "phi3": {**PHI3, **ODD_SIZES, "partial_rotary_factor": 0.56},
}

# Flags of /proc/cpuinfo that a path needs.
PATHS = {
    "plain": set(),
    "avx2": {"avx2", "fma", "f16c"},
    "avx512": {"avx512f", "avx512bw", "avx512dq", "avx512vl"},
    "avx512bf16": {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_bf16"},
}


class Failure(Exception):
    """Other bits, or a program that stopped."""


def cpu_flags():
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("flags"):
                return set(line.split(":", 1)[1].split())
    return set()


class Bench:
    """A folder with the model, the rows and the plans compiled so far."""

    def __init__(self, directory, binaries, variant, compute):
        self.directory, self.binaries = directory, binaries
        self.variant, self.compute = variant, compute
        self.plans = {}
        model = variant if variant in OTHER_MODELS else "qwen2"
        self.model = f"{directory}/{model}"
        self.adapter = "lora" if variant in OTHER_MODELS else variant

    def plan(self, batch, grouped=True, recompute="none"):
        key = f"{batch}-{'grouped' if grouped else 'single'}-{recompute}"
        if key not in self.plans:
            path = f"{self.directory}/{self.variant}-{self.compute}-{key}.plan"
            command = [f"{self.binaries}/peftc", "compile"]
            command += [self.model, "--compute", self.compute]
            command += ["--batch", str(batch), "--seq", str(SEQ), "-o", path]
            command += ["--recompute", recompute]
            if self.variant == "all":
                command += ["--train", "all"]
            else:
                command += ["--adapter", f"{self.directory}/{self.adapter}.json"]
            command += ["--group-down-projections", "on" if grouped else "off"]
            self.run(command)
            self.plans[key] = path
        return self.plans[key]

    @staticmethod
    def run(command, **environment):
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
        )
        if done.returncode != 0:
            tail = (done.stdout + done.stderr).strip().splitlines()[-3:]
            raise Failure(
                f"{os.path.basename(command[0])} exit {done.returncode}:"
                f" {' | '.join(tail)}"
            )
        return done.stdout + done.stderr

    def train(self, batch=2, threads=1, path=None, schedule=None, grouped=True,
              recompute="none"):
        """(SHA-256 of what was trained, what was printed); `schedule` is a
        seed and a mode"""
        plan = self.plan(batch, grouped, recompute)
        out = f"{self.directory}/out-{os.path.basename(plan)}"
        command = [f"{self.binaries}/peft-run", plan]
        command += ["--model", self.model, "-o", out]
        command += ["--data", f"{self.model}/data.safetensors"]
        command += ["--steps", str(STEPS), "--grad-accum", str(ROWS // batch)]
        command += ["--lr", "3e-3", "--seed", "5", "--weight-decay", "0.01"]
        command += ["--threads", str(threads)]
        if schedule:
            command += ["--schedule-seed", str(schedule[0])]
            command += ["--schedule-mode", schedule[1]]
        environment = {"PEFT_CPU": path} if path else {}
        printed = self.run(command, **environment)
        name = "model" if self.variant == "all" else "adapter_model"
        with open(f"{out}/{name}.safetensors", "rb") as file:
            return hashlib.sha256(file.read()).hexdigest(), printed


def check_moved(printed, schedule, variant):
    """Shuffling must move a quarter of the launches, interleaving some."""
    seed, mode = schedule
    # Of two streams, every third seed lets the second run as soon as it may. The
    # sums of this model stand right behind what they read: that is file order.
    stays = variant == "phi3" and mode == "interleave" and seed % 3 == 2
    found = re.findall(r"(\d+) of (\d+) launches moved", printed)
    if not found:
        raise Failure("peft-run does not say how many launches moved")
    moved = sum(int(part) for part, _ in found)
    total = sum(int(whole) for _, whole in found)
    if (moved == 0 and not stays) or (mode == "shuffle" and 4 * moved < total):
        raise Failure(f"only {moved} of {total} launches moved")


def variations(quick):
    """(name, train's arguments, reason to skip or None)"""
    for batch in (1, 8):
        yield f"{batch}x{ROWS // batch}", {"batch": batch}, None
    for threads in (2, 3):
        yield f"threads{threads}", {"threads": threads}, None
    yield "8x1-threads3", {"batch": 8, "threads": 3}, None
    yield "ungrouped", {"grouped": False}, None
    for seed in range(1, 3 if quick else 11):
        for mode in ("shuffle", "interleave"):
            arguments = {"schedule": (seed, mode), "threads": 2}
            yield f"{mode}{seed}", arguments, None
    yield "recompute", {"recompute": "layers"}, None
    for mode in ("shuffle", "interleave"):
        arguments = {"recompute": "layers", "threads": 3, "schedule": (1, mode)}
        yield f"recompute-{mode}", arguments, None
    flags = cpu_flags()
    for path, needed in PATHS.items():
        lacks = sorted(needed - flags)
        reason = f"this chip lacks {', '.join(lacks)}" if lacks else None
        yield path, {"path": path}, reason


def write_model(case, directory):
    models.write_model(case, directory)
    arrays, _ = models.make_rows(case)
    arrays["labels"][3::8] = models.UNTRAINED
    arrays["labels"][:2] = models.UNTRAINED
    tensor_file.save_tensors(f"{directory}/data.safetensors", arrays)


def write_inputs(directory):
    write_model(CASE, f"{directory}/qwen2")
    for name, config in OTHER_MODELS.items():
        write_model({**CASE, "config": config}, f"{directory}/{name}")
    for variant, dropout in (("lora", 0.0), ("dropout", 0.1)):
        case = {**CASE, "adapter": {**CASE["adapter"], "lora_dropout": dropout}}
        models.write_adapter(case, f"{directory}/{variant}", {})
        os.rename(
            f"{directory}/{variant}/adapter_config.json",
            f"{directory}/{variant}.json",
        )


def check(bench, quick, counts):
    name = f"same-bits/{bench.variant}/{bench.compute}"
    try:
        reference, _ = bench.train()
        if bench.train(threads=1)[0] != reference:
            raise Failure("two equal runs differ")
    except Failure as failure:
        print(f"FAIL {name}: {failure}")
        counts["failed"] += 1
        return None
    for label, arguments, reason in variations(quick):
        if reason:
            print(f"SKIP {name}/{label}: {reason}")
            counts["skipped"] += 1
            continue
        try:
            digest, printed = bench.train(**arguments)
            if "schedule" in arguments:
                check_moved(printed, arguments["schedule"], bench.variant)
            if digest != reference:
                raise Failure(f"{digest[:12]}, expected {reference[:12]}")
            print(f"PASS {name}/{label}", flush=True)
            counts["passed"] += 1
        except Failure as failure:
            print(f"FAIL {name}/{label}: {failure}", flush=True)
            counts["failed"] += 1
    return reference


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bin", required=True)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    with tempfile.TemporaryDirectory() as directory:
        write_inputs(directory)
        for compute in ("f32", "bf16", "f16"):
            digests = {
                variant: check(
                    Bench(directory, options.bin, variant, compute),
                    options.quick or variant != "lora",
                    counts,
                )
                for variant in ("lora", "dropout", "all", *OTHER_MODELS)
            }
            # Dropout must do something, or its test says nothing.
            if digests["lora"] and digests["lora"] == digests["dropout"]:
                print(f"FAIL same-bits/dropout/{compute}: dropout changed nothing")
                counts["failed"] += 1
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**counts))
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
