"""A plan for a card, run by the CPU device, gives the bits of a plan for the CPU.

usage: target_test.py --bin DIR

For models with tied and untied embeddings, stored in f32, bf16 and f16, computed
in f32, bf16 and f16, with LoRA, with dropout and with --train all: SHA-256 of what
was trained after 5 steps, from a plan for `cpu` and from plans for `h200` (also
with --base stored and as a description file). Then --check, which compares the
bytes that ran with those planned, and what a wrong --target says. Needs numpy
only. The last line counts what passed.
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
from cases import QWEN2  # noqa: E402

STEPS, ROWS, BATCH, SEQ = 5, 4, 2, 37
# As many as run: no part of the scratch is idle.
THREADS = 3

# Odd sizes, so that no tile, vector or pair of rows comes out even; with biases.
CONFIG = {
    **QWEN2,
    "hidden_size": 72,
    "intermediate_size": 113,
    "vocab_size": 331,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 12,
}

CARD = {
    "name": "my-card",
    "kind": "cuda",
    "compute_capability": "8.6",
    "memory_bytes": 1 << 33,
    "allowance_bytes": 1 << 29,
    "flops": {"f32": 1e13, "bf16": 1e14, "f16": 1e14},
    "memory_bytes_per_second": 1e12,
    "host_bytes_per_second": 1e10,
    "launch_seconds": 1e-6,
    "source": "made up",
}

# (tied, stored): what a tied weight of another type than the products' needs is
# two buffers in bf16 or f16 and one in f32.
MODELS = {"tied-f32": (True, "f32"), "tied-bf16": (True, "bf16"),
          "untied-f16": (False, "f16")}
ADAPTERS = {"lora": 0.0, "dropout": 0.1}


class Failure(Exception):
    """Other bits, another message, or a program that stopped."""


def case_of(tied, stored, dropout=0.0):
    return {
        "name": "target",
        "config": {**CONFIG, "tie_word_embeddings": tied},
        "adapter": {"r": 5, "lora_alpha": 10, "target_modules": "all-linear",
                    "lora_dropout": dropout},
        "stored": stored,
        "shards": 1,
        "segments": True,
        "batch": ROWS,
        "accumulation": 1,
        "steps": STEPS,
        "seq": SEQ,
    }


def write_inputs(root):
    for name, (tied, stored) in MODELS.items():
        models.write_model(case_of(tied, stored), f"{root}/{name}")
    arrays, _ = models.make_rows(case_of(True, "f32"))
    arrays["labels"][3] = models.UNTRAINED
    tensor_file.save_tensors(f"{root}/data.safetensors", arrays)
    for name, dropout in ADAPTERS.items():
        models.write_adapter(case_of(True, "f32", dropout), f"{root}/{name}", {})
        os.rename(f"{root}/{name}/adapter_config.json", f"{root}/{name}.json")
    with open(f"{root}/card.json", "w") as file:
        json.dump(CARD, file)


class Programs:
    """peftc and peft-run in a folder of inputs."""

    def __init__(self, root, binaries):
        self.root, self.binaries = root, binaries

    def run(self, program, *arguments, code=0):
        """Standard output; with another exit code than 0, standard error."""
        done = subprocess.run([f"{self.binaries}/{program}", *arguments],
                              capture_output=True, text=True)
        if done.returncode != code:
            tail = (done.stdout + done.stderr).strip().splitlines()[-3:]
            raise Failure(f"{program} exit {done.returncode}: {' | '.join(tail)}")
        return done.stderr if code else done.stdout

    def compile(self, model, training, compute, flags):
        plan = f"{self.root}/step.plan"
        what = (["--train", "all"] if training == "all"
                else ["--adapter", f"{self.root}/{training}.json"])
        self.run("peftc", "compile", f"{self.root}/{model}", "--compute", compute,
                 "--batch", str(BATCH), "--seq", str(SEQ), "-o", plan, "--quiet",
                 "--max-threads", str(THREADS),
                 *what, *flags)
        return plan

    def explain(self, plan):
        return json.loads(self.run("peftc", "explain", plan, "--json"))["memory"]

    def train(self, model, training, plan, threads):
        out = f"{self.root}/out-{model}-{training}"
        self.run("peft-run", plan, "--model", f"{self.root}/{model}", "-o", out,
                 "--data", f"{self.root}/data.safetensors", "--steps", str(STEPS),
                 "--grad-accum", str(ROWS // BATCH), "--lr", "3e-3", "--seed", "5",
                 "--device", "cpu", "--threads", str(threads))
        name = "model" if training == "all" else "adapter_model"
        with open(f"{out}/{name}.safetensors", "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()

    def check_memory(self, model, plan):
        printed = self.run("peft-run", plan, "--model", f"{self.root}/{model}",
                           "--check", "--device", "cpu")
        if ", the same" not in printed:
            lines = " | ".join(printed.strip().splitlines()[-2:])
            raise Failure(f"--check does not say 'the same': {lines}")


def check_bits(programs, model, training, compute):
    """The plan for a card is one, and trains what the CPU's trains."""
    plan = programs.compile(model, training, compute, [])
    if programs.explain(plan)["host_scratch_bytes"]:
        raise Failure("a plan for the CPU has an arena of scratch")
    expected = programs.train(model, training, plan, 2)
    for flags in (["--target", "h200"], ["--target", "h200", "--base", "stored"],
                  ["--target", f"{programs.root}/card.json"]):
        plan = programs.compile(model, training, compute, flags)
        memory = programs.explain(plan)
        if memory["mapped_bytes"] or not memory["host_scratch_bytes"]:
            raise Failure(f"{flags}: its weights are not in the arena")
        found = programs.train(model, training, plan, 1 if "--base" in flags else THREADS)
        if found != expected:
            raise Failure(f"{flags}: {found[:12]}, expected {expected[:12]}")
    programs.check_memory(model, plan)


def stored_types(programs, model, compute, flags=()):
    """{(class, dtype): tensors} of a plan for a card."""
    plan = programs.compile(model, "lora", compute, ["--target", "h200", *flags])
    ledger = json.loads(programs.run("peftc", "explain", plan, "--json", "--dtypes"))
    return {(each["class"], each["dtype"]): each["tensors"]
            for each in ledger["dtypes"]["stored"]}


def check_types(programs):
    """Which weights are kept in which type; a tied weight that the compute type
    does not hold exactly is there twice."""
    tensors = len(models.tensor_shapes(case_of(True, "f32")["config"]))
    norms = 2 * CONFIG["num_hidden_layers"] + 1
    found = stored_types(programs, "tied-f32", "bf16")
    if (found["base", "f32"], found["base", "bf16"]) != (norms + 1, tensors - norms):
        raise Failure(f"f32 model in bf16: {found}")
    found = stored_types(programs, "tied-bf16", "f32")
    if (found["base", "bf16"], found["base", "f32"]) != (norms, tensors - norms):
        raise Failure(f"bf16 model in f32: {found}")
    found = stored_types(programs, "tied-f32", "bf16", ["--base", "stored"])
    if found["base", "f32"] != tensors or ("base", "bf16") in found:
        raise Failure(f"--base stored: {found}")
    config = f"{programs.root}/tied-f32/config.json"
    for target, expected in (("h200", "bf16"), ("t4", "f16"), ("cpu", "bf16")):
        said = programs.run("peftc", "estimate", config, "--target", target, "--json")
        if json.loads(said)["compute"] != expected:
            raise Failure(f"{target} computes in {json.loads(said)['compute']}")


def wrong_targets(root):
    """(name, exit code, parts of the message, arguments, change of CARD)"""
    file = f"{root}/wrong.json"
    yield "unknown", 64, ["'t5'", "a100, cpu, h200, rtx4090, t4"], ["t5"], {}
    yield "no file", 74, ["nowhere.json"], [f"{root}/nowhere.json"], {}
    yield "bf16 on t4", 64, ["t4", "--compute f16"], ["t4", "--compute", "bf16"], {}
    yield "too small", 71, ["my-card has 64.0 MiB", "workspace", "largest buffers"], \
        [file], {"memory_bytes": 1 << 26, "allowance_bytes": 1 << 20}
    for name, change, message in (
            ("missing", {"memory_bytes": None}, "memory_bytes: is missing"),
            ("another kind", {"kind": "tpu"}, 'kind: must be "cpu" or "cuda"'),
            ("a wrong type", {"launch_seconds": "1"}, "launch_seconds: must be a number"),
            ("a wrong rate", {"flops": {"f32": -1}}, "flops: f32: must be between"),
            ("no f32", {"flops": {"bf16": 1e12}}, "flops: f32: is missing"),
            ("an unknown type", {"flops": {"f32": 1e12, "f8": 1e12}}, "flops.f8"),
            ("capability", {"compute_capability": "sm_90"}, "compute_capability"),
            ("allowance", {"allowance_bytes": 1 << 33}, "allowance_bytes: leaves"),
            ("an unknown field", {"colour": "red"}, "colour: is no field"),
            ("a bad name", {"name": "my card"}, "name: must be letters")):
        yield name, 65, ["wrong.json: ", message], [file], change


def check_wrong(programs, name, code, parts, arguments, change):
    target = {**CARD, **change}
    with open(f"{programs.root}/wrong.json", "w") as file:
        json.dump({k: v for k, v in target.items() if v is not None}, file)
    plan = f"{programs.root}/refused.plan"
    said = programs.run("peftc", "compile", f"{programs.root}/tied-f32", "--seq", "16",
                        "-o", plan, "--target", *arguments, code=code)
    for part in parts:
        if part not in said:
            raise Failure(f"{part!r} is not in {said!r}")
    if os.path.exists(plan):
        raise Failure("the plan was written")


def check_figures(programs):
    """peftc and peft-run give one plan the same figures."""
    root = programs.root
    plan = f"{root}/step.plan"
    compiled = json.loads(programs.run(
        "peftc", "compile", f"{root}/tied-bf16", "--adapter", f"{root}/lora.json", "--target",
        "h200", "--batch", str(BATCH), "--seq", str(SEQ), "-o", plan, "--json"))
    ran = json.loads(programs.run(
        "peft-run", plan, "--model", f"{root}/tied-bf16", "--data", f"{root}/data.safetensors",
        "--device", "cpu", "--steps", "1", "-o", f"{root}/figures", "--json"))
    for name in ("arena_bytes", "host_scratch_bytes"):
        if not compiled[name] or compiled[name] != ran[name]:
            raise Failure(f"{name}: {compiled[name]} in the plan, {ran[name]} in the run")


def checks(programs):
    for model in MODELS:
        for compute in ("f32", "bf16", "f16"):
            for training in (*ADAPTERS, "all"):
                yield f"{model}/{compute}/{training}", check_bits, \
                    (model, training, compute)
    yield "types", check_types, ()
    yield "figures", check_figures, ()
    for name, *rest in wrong_targets(programs.root):
        yield f"wrong/{name}", check_wrong, (name, *rest)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True)
    options = parser.parse_args()
    passed = failed = 0
    with tempfile.TemporaryDirectory() as root:
        write_inputs(root)
        programs = Programs(root, options.bin)
        for name, check, arguments in checks(programs):
            try:
                check(programs, *arguments)
                print(f"PASS target/{name}", flush=True)
                passed += 1
            except Failure as failure:
                print(f"FAIL target/{name}: {failure}", flush=True)
                failed += 1
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
