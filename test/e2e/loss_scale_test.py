"""What a run in f16 does when gradients leave the range, and when they do not.

usage: loss_scale_test.py --bin DIR

A model whose head is a hundred times too large overflows: steps are skipped, the
scale is halved, the schedule waits, the run recovers, and neither threads nor
micro-batches nor the order of launches nor the CPU path change a bit of it. The
interval of doubling is an attribute of the plan. The last line counts what passed.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "golden"))
import models  # noqa: E402
from tensor_file import save_tensors  # noqa: E402

STEPS, ROWS, RATE = 12, 4, 1e-3
PATHS = ["plain", "avx2", "avx512", "avx512bf16"]


class Failure(Exception):
    """Not what the rules of the loss scale say."""


def expect(condition, what):
    if not condition:
        raise Failure(what)


class Workshop:
    def __init__(self, root, binaries):
        self.root, self.binaries = root, binaries
        case = models.get_case("llama")
        self.tensors = models.write_model(case, f"{root}/model")
        self.rows = models.make_rows({**case, "steps": STEPS})[0]
        save_tensors(f"{root}/data.safetensors", self.rows)
        self.seq = case["seq"]

    def head(self, factor):
        """A model directory whose head is `factor` times as large."""
        path = f"{self.root}/head-{factor:g}"
        os.makedirs(path)
        os.link(f"{self.root}/model/config.json", f"{path}/config.json")
        name = "lm_head.weight"
        save_tensors(
            f"{path}/model.safetensors",
            {**self.tensors, name: self.tensors[name] * np.float32(factor)},
        )
        return path

    def compile(self, model, batch=2):
        plan = f"{self.root}/{os.path.basename(model)}-{batch}.plan"
        command = [f"{self.binaries}/peftc", "compile", model, "--lora-rank", "4"]
        command += ["--compute", "f16", "--batch", str(batch), "--seq", str(self.seq)]
        subprocess.run(command + ["-o", plan, "--quiet"], check=True)
        return plan

    def train(self, model, plan, flags=(), batch=2, steps=STEPS, code=0, path=None):
        """(lines of metrics.jsonl, SHA-256 of the adapter, what was printed)"""
        out = f"{self.root}/out"
        shutil.rmtree(out, ignore_errors=True)
        command = [f"{self.binaries}/peft-run", plan, "--model", model, "-o", out]
        command += ["--data", f"{self.root}/data.safetensors", "--no-shuffle"]
        command += ["--steps", str(steps), "--grad-accum", str(ROWS // batch)]
        command += ["--lr", repr(RATE), *flags]
        environment = {**os.environ, **({"PEFT_CPU": path} if path else {})}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        printed = done.stdout + done.stderr
        expect(done.returncode == code, f"exit {done.returncode}: {printed[-300:]}")
        if code:
            return [], "", printed
        with open(f"{out}/metrics.jsonl") as file:
            lines = [json.loads(line) for line in file]
        with open(f"{out}/adapter_model.safetensors", "rb") as file:
            return lines, hashlib.sha256(file.read()).hexdigest(), printed


def first_scale(tokens):
    """2^16 / tokens, rounded to a power of two."""
    return max([2.0**k for k in range(17) if 0.75 * 2.0**k * tokens <= 2**16] + [1])


def check_recovery(shop):
    model = shop.head(100)
    lines, _, printed = shop.train(model, shop.compile(model))
    scale, applied = first_scale(lines[0]["tokens"]), 0
    for line in lines:
        expect(line["loss_scale"] == scale, f"scale {line['loss_scale']}, not {scale}")
        rate = RATE * (STEPS - applied) / STEPS
        expect(abs(line["lr"] - rate) < 1e-12, f"rate {line['lr']} instead of {rate}")
        expect(np.isfinite(line["loss"]), "a loss is not finite")
        expect((line["grad_norm"] is None) == line["skipped"], f"norm of {line}")
        scale, applied = (scale / 2, applied) if line["skipped"] else (scale, applied + 1)
    skipped = STEPS - applied
    expect(0 < skipped < STEPS / 2, f"{skipped} steps were skipped")
    expect(lines[0]["skipped"] and not lines[-1]["skipped"], "no recovery")
    expect(f"note       {skipped} steps overflowed" in printed, "the skipped are not counted")
    expect(len(re.findall(r"skipped: overflow .* scale \d", printed)) == skipped,
           "status lines do not say it")


def check_same_bits(shop):
    model = f"{shop.root}/head-100"
    plan = shop.compile(model)
    _, expected, _ = shop.train(model, plan)
    variations = {
        "1x4": {"batch": 1},
        "4x1": {"batch": 4, "flags": ["--threads", "2"]},
        "three threads": {"flags": ["--threads", "3"]},
        **{f"shuffle {n}": {"flags": ["--schedule-seed", str(n)]} for n in (1, 2, 3)},
    }
    with open("/proc/cpuinfo") as file:
        flags = file.read().split("flags", 1)[1].split("\n", 1)[0].split()
    for path in PATHS:
        needed = {"avx2": "f16c", "avx512": "avx512bw", "avx512bf16": "avx512_bf16"}
        if needed.get(path, "sse2") in flags:
            variations[path] = {"path": path}
    for name, arguments in variations.items():
        where = shop.compile(model, arguments.get("batch", 2))
        _, digest, _ = shop.train(model, where, **arguments)
        expect(digest == expected, f"{name} has other bits")


def check_doubling(shop):
    plan = shop.compile(f"{shop.root}/model")
    text = subprocess.run([f"{shop.binaries}/peftc", "explain", plan, "--text"],
                          check=True, capture_output=True, text=True).stdout
    shorter, count = re.subn(r'("adjust_loss_scale" [^\n]*) \{\}', r"\1 {growth_interval = 3 : i64}", text)
    expect(count == 1, "no launch of adjust_loss_scale without attributes")
    with open(f"{shop.root}/shorter.mlir", "w") as file:
        file.write(shorter)
    plan = f"{shop.root}/shorter.plan"
    subprocess.run([f"{shop.binaries}/peftc", "assemble", f"{shop.root}/shorter.mlir", "-o", plan],
                   check=True, stdout=subprocess.DEVNULL)
    lines, _, _ = shop.train(f"{shop.root}/model", plan)
    first = first_scale(lines[0]["tokens"])
    scales = [line["loss_scale"] for line in lines]
    expect(scales == [first * 2 ** (i // 3) for i in range(STEPS)], f"scales {scales}")


def check_nothing_trained(shop):
    model = shop.head(1000)
    _, _, printed = shop.train(model, shop.compile(model), steps=3, code=76)
    expect("every step overflowed" in printed, printed[-300:])
    written = os.listdir(f"{shop.root}/out")
    expect(written == ["metrics.jsonl"], f"it wrote {written}")


def check_infinite_weight(shop):
    """A weight that f16 cannot hold breaks the loss: that is no overflow to skip."""
    model = shop.head(1e7)
    _, _, printed = shop.train(model, shop.compile(model), code=76)
    expect("step 1: the loss is not finite" in printed, printed[-300:])
    expect(re.search(r"weight lm_head.weight .*, more than f16 can hold", printed), printed[-300:])


CHECKS = {
    "recovery": check_recovery,
    "same bits": check_same_bits,
    "doubling": check_doubling,
    "infinite weight": check_infinite_weight,
    "nothing trained": check_nothing_trained,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", required=True)
    binaries = os.path.abspath(parser.parse_args().bin)
    failed = 0
    with tempfile.TemporaryDirectory() as root:
        shop = Workshop(root, binaries)
        for name, check in CHECKS.items():
            try:
                check(shop)
                print(f"PASS loss-scale/{name}", flush=True)
            except (Failure, subprocess.CalledProcessError) as failure:
                failed += 1
                print(f"FAIL loss-scale/{name}: {failure}", flush=True)
    print(f"{len(CHECKS) - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
