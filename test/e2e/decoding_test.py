"""Codes are decoded in the packers of the CPU or once before they are used.

usage: decoding_test.py --bin DIR

A plan for the CPU reads a quantized weight as codes; one for a card makes its
numbers first and shares them among neighbours. On the CPU device both give the
same adapter, bit for bit: nf4 with nested scales and int8, with DoRA, with a
quantized head and with recomputed layers. Without a
difference to the base as it is stored the test would say nothing, so it looks
for one. Needs numpy only. The last line counts what passed.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "golden"))
import models  # noqa: E402
import tensor_file  # noqa: E402
from cases import QWEN3  # noqa: E402

BATCH, SEQ = 2, 48
CASE = {
    "name": "decoding",
    # Rows of 72: blocks of 64 cross them.
    "config": {**QWEN3, "hidden_size": 72, "intermediate_size": 104, "num_hidden_layers": 2,
               "vocab_size": 97, "num_attention_heads": 4, "num_key_value_heads": 2,
               "head_dim": 16},
    "adapter": {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"},
    "stored": "bf16", "shards": 1, "segments": False,
    "batch": BATCH, "accumulation": 1, "steps": 2, "seq": SEQ,
}
BASES = {"nf4": ["--base", "nf4", "--double-quant"], "int8": ["--base", "int8"]}
WAYS = {
    "plain": [],
    "dora": ["--dora"],
    "head": ["--quantize-head"],
    "recompute": ["--recompute", "layers"],
}


class Failure(Exception):
    """Other bits, or a program that stopped."""


class Bench:
    def __init__(self, root, binaries):
        self.root, self.binaries = root, binaries
        models.write_model(CASE, f"{root}/model")
        arrays, _ = models.make_rows(CASE)
        tensor_file.save_tensors(f"{root}/data.safetensors", arrays)

    def run(self, *command):
        done = subprocess.run(command, capture_output=True, text=True,
                              env={**os.environ, "XDG_CACHE_HOME": f"{self.root}/cache"})
        if done.returncode != 0:
            tail = (done.stdout + done.stderr).strip().splitlines()[-2:]
            raise Failure(f"{os.path.basename(command[0])} exit {done.returncode}: {' | '.join(tail)}")

    def train(self, *flags):
        """SHA-256 of the adapter after two steps."""
        plan, out = f"{self.root}/step.plan", f"{self.root}/out"
        self.run(f"{self.binaries}/peftc", "compile", f"{self.root}/model", "--lora-rank", "4",
                 "--batch", str(BATCH), "--seq", str(SEQ), "--quiet", "-o", plan, *flags)
        self.run("rm", "-rf", out)
        self.run(f"{self.binaries}/peft-run", plan, "--model", f"{self.root}/model", "-o", out,
                 "--data", f"{self.root}/data.safetensors", "--steps", "2", "--lr", "3e-3",
                 "--device", "cpu", "--quiet")
        with open(f"{out}/adapter_model.safetensors", "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()


def check(bench, base, way, compute):
    flags = [*BASES[base], *WAYS[way], "--compute", compute]
    before = bench.train(*flags)
    if bench.train(*flags, "--target", "h200") != before:
        raise Failure("a plan for a card gives other bits")
    stored = bench.train(*WAYS["plain" if way == "head" else way], "--compute", compute)
    if stored == before:
        raise Failure("the codes change nothing")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True)
    options = parser.parse_args()
    passed = failed = 0
    with tempfile.TemporaryDirectory() as root:
        bench = Bench(root, os.path.abspath(options.bin))
        for base in BASES:
            for way in WAYS:
                for compute in ("bf16", "f32"):
                    name = f"decoding/{base}/{way}/{compute}"
                    try:
                        check(bench, base, way, compute)
                        print(f"PASS {name}", flush=True)
                        passed += 1
                    except Failure as failure:
                        print(f"FAIL {name}: {failure}", flush=True)
                        failed += 1
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
