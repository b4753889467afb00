"""peftc explain --dtypes, held against what a step really does.

usage: dtypes_test.py --bin DIR

The ledger says of each weight in which type it is computed. Weights of which it
says bf16 (or f16) alone are rounded beforehand: not a bit of the training may
change. Each kind of weight of which it says f32 is rounded beforehand: bits must
change. Its tensors are all of the plan's, with all their bytes; a plan in f32
over a model in f32 rounds nothing but AdamW's scalars; what a trained model is
saved as is there. Needs numpy only. The last line counts what passed.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "golden"))
import models  # noqa: E402
import tensor_file  # noqa: E402
from cases import QWEN2, QWEN3  # noqa: E402

BATCH, SEQ, STEPS = 2, 24, 2
# Biases in one, norms of q and k in the other.
CONFIGS = {
    "qwen2": {**QWEN2, "num_hidden_layers": 1, "tie_word_embeddings": False},
    "qwen3": {**QWEN3, "num_hidden_layers": 1},
}


class Failure(Exception):
    """A type that is not what the ledger says, or a program that stopped."""


def case_of(config):
    return {"name": "dtypes", "config": config, "stored": "f32", "shards": 1, "segments": False,
            "batch": BATCH, "accumulation": 1, "steps": STEPS, "seq": SEQ,
            "adapter": {"r": 4, "lora_alpha": 8, "target_modules": "all-linear",
                        "init_lora_weights": False}}


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        tail = (done.stdout + done.stderr).strip().splitlines()[-2:]
        raise Failure(f"{os.path.basename(command[0])} exit {done.returncode}: {' | '.join(tail)}")
    return done.stdout


class Bench:
    def __init__(self, root, binaries, config):
        self.root, self.binaries, self.case = root, binaries, case_of(config)
        self.tensors = models.write_model(self.case, f"{root}/model")
        models.write_adapter(self.case, f"{root}/adapter", {})
        arrays, _ = models.make_rows(self.case)
        tensor_file.save_tensors(f"{root}/data.safetensors", arrays)

    def ledger(self, compute, *flags):
        self.plan = f"{self.root}/{compute}.plan"
        run(f"{self.binaries}/peftc", "compile", f"{self.root}/model", "--batch", str(BATCH),
            "--seq", str(SEQ), "--compute", compute, "--quiet", "-o", self.plan,
            *(flags or ["--adapter", f"{self.root}/adapter/adapter_config.json"]))
        said = run(f"{self.binaries}/peftc", "explain", self.plan, "--dtypes", "--json")
        return json.loads(said)["dtypes"]

    def train(self, rounded, compute):
        """SHA-256 of the adapter, with the weights `rounded` rounded to `compute`."""
        tensors = {name: models.round_stored(value, compute) if name in rounded else value
                   for name, value in self.tensors.items()}
        tensor_file.save_tensors(f"{self.root}/model/model.safetensors", tensors, "f32")
        run("rm", "-rf", f"{self.root}/out")
        run(f"{self.binaries}/peft-run", self.plan, "--model", f"{self.root}/model", "--data",
            f"{self.root}/data.safetensors", "-o", f"{self.root}/out", "--steps", str(STEPS),
            "--lr", "1e-2", "--device", "cpu", "--quiet")
        with open(f"{self.root}/out/adapter_model.safetensors", "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()


def kind_of(name):
    """`input_layernorm` of `model.layers.0.input_layernorm.weight`"""
    return name.split(".")[-2]


def check_roundings(bench, compute):
    ledger = bench.ledger(compute)
    computed = {each["tensor"]: each["computed"] for each in ledger["tensors"]
                if each["class"] == "base"}
    if set(computed) != set(bench.tensors):
        raise Failure(f"weights {set(computed) ^ set(bench.tensors)}")
    rounds = {name for name, types in computed.items() if types == [compute]}
    if not any(name.endswith("q_proj.weight") for name in rounds):
        raise Failure(f"rounds {sorted(rounds)}")
    as_stored = bench.train(set(), compute)
    if bench.train(rounds, compute) != as_stored:
        raise Failure("a weight that is said to be rounded is not")
    exact = {kind_of(name): name for name in set(computed) - rounds}
    for kind, name in exact.items():
        if computed[name] != ["f32"]:
            raise Failure(f"{name} is computed in {computed[name]}")
        if bench.train({name}, compute) == as_stored:
            raise Failure(f"{kind} is said to be used as stored, but rounding it changes nothing")
    where = {each["where"] for each in ledger["converted"]
             if each["rounds"] and (each["from"], each["to"]) == ("f32", compute)}
    for needed in ("linear_lora_fwd.w", "linear_lora_fwd.b", "lora_down_fwd.a", "linear_fwd.w",
                   "rms_norm_fwd.y", "swiglu_fwd.y", "rope_fwd.y", "attention_fwd.o",
                   "attention_fwd.probabilities", "linear_lora_fwd.y"):
        if needed not in where:
            raise Failure(f"{needed} is rounded, and not listed")
    return len(rounds), len(exact)


def check_complete(bench, compute):
    ledger = bench.ledger(compute)
    stored = sum(each["bytes"] for each in ledger["stored"])
    listed = sum(each["bytes"] for each in ledger["tensors"])
    count = sum(each["tensors"] for each in ledger["stored"])
    # Tensors that have the same bytes in turn count each; memory counts once.
    if count != len(ledger["tensors"]) or stored > listed:
        raise Failure(f"{len(ledger['tensors'])} tensors of {listed} bytes, the plan has {count}"
                      f" of {stored}")
    rounding = {each["where"] for each in ledger["converted"] if each["rounds"]}
    if compute == "f32" and rounding != {"adamw.adam"}:
        raise Failure(f"f32 throughout rounds {sorted(rounding)}")


def check_saved(bench):
    """--train all saves what it trained in the type it was stored in."""
    tensors = {name: models.round_stored(value, "bf16") for name, value in bench.tensors.items()}
    tensor_file.save_tensors(f"{bench.root}/model/model.safetensors", tensors, "bf16")
    ledger = bench.ledger("bf16", "--train", "all")
    found = {(each["where"], each["from"], each["to"]): each["times"]
             for each in ledger["converted"]}
    for row in (("load.weight", "bf16", "f32"), ("save.weight", "f32", "bf16")):
        if found.get(row) != len(tensors):
            raise Failure(f"{row} {found.get(row)} times, not {len(tensors)}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True)
    options = parser.parse_args()
    checks = []
    for compute in ("bf16", "f16"):
        checks.append((f"roundings/{compute}", lambda b, c=compute: check_roundings(b, c)))
    for compute in ("f32", "bf16", "f16"):
        checks.append((f"complete/{compute}", lambda b, c=compute: check_complete(b, c)))
    checks.append(("saved", check_saved))
    passed = failed = 0
    for name, config in CONFIGS.items():
        for what, check in checks:
            with tempfile.TemporaryDirectory() as root:
                try:
                    check(Bench(root, os.path.abspath(options.bin), config))
                    print(f"PASS dtypes/{name}/{what}", flush=True)
                    passed += 1
                except Failure as failure:
                    print(f"FAIL dtypes/{name}/{what}: {failure}", flush=True)
                    failed += 1
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
