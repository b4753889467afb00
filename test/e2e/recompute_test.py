"""--recompute layers: what a step then keeps, and what its plan says of it.

usage: recompute_test.py --bin DIR

Four layers more cost exactly four hidden states, on the CPU and on a card, with
LoRA and with --train all; the whole arena shrinks. The work that is repeated is
counted: no product of a layer runs a third time, and the last one of a layer not
even a second time. Plans for a card give the bits of a plan for the CPU without
recomputation, and `peftc explain` names what is recomputed. Needs numpy only.
The last line counts what passed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "golden"))
import models  # noqa: E402
import tensor_file  # noqa: E402
from cases import QWEN3  # noqa: E402

BATCH, SEQ, LAYERS, MORE = 2, 96, 4, 4
CONFIG = {
    **QWEN3,
    "hidden_size": 64,
    "intermediate_size": 160,
    "vocab_size": 97,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}
ADAPTER = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "lora_dropout": 0.1}


class Failure(Exception):
    """Other bytes, other bits, or a program that stopped."""


def case_of(layers):
    return {"name": "recompute", "config": {**CONFIG, "num_hidden_layers": layers},
            "adapter": ADAPTER, "stored": "bf16", "shards": 1, "segments": True,
            "batch": BATCH, "accumulation": 1, "steps": 2, "seq": SEQ}


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        tail = (done.stdout + done.stderr).strip().splitlines()[-2:]
        raise Failure(f"{os.path.basename(command[0])} exit {done.returncode}: {' | '.join(tail)}")
    return done.stdout + done.stderr


class Bench:
    def __init__(self, root, binaries):
        self.root, self.binaries = root, binaries
        for layers in (LAYERS, LAYERS + MORE):
            models.write_model(case_of(layers), f"{root}/model{layers}")
        arrays, _ = models.make_rows(case_of(LAYERS))
        tensor_file.save_tensors(f"{root}/data.safetensors", arrays)
        models.write_adapter(case_of(LAYERS), f"{root}/adapter", {})

    def compile(self, recompute, layers=LAYERS, train="lora", target="cpu"):
        """(path of the plan, its summary)"""
        plan = f"{self.root}/{recompute}-{layers}-{train}-{target}.plan"
        what = (["--train", "all"] if train == "all"
                else ["--adapter", f"{self.root}/adapter/adapter_config.json"])
        said = run(f"{self.binaries}/peftc", "compile", f"{self.root}/model{layers}",
                   "--batch", str(BATCH), "--seq", str(SEQ), "--target", target, "--json",
                   "--recompute", recompute, "-o", plan, *what)
        return plan, json.loads(said)

    def explain(self, plan, *flags):
        return run(f"{self.binaries}/peftc", "explain", plan, *flags)

    def train(self, plan):
        out = f"{self.root}/out"
        run("rm", "-rf", out)
        run(f"{self.binaries}/peft-run", plan, "--model", f"{self.root}/model{LAYERS}", "-o", out,
            "--data", f"{self.root}/data.safetensors", "--steps", "2", "--lr", "3e-3",
            "--device", "cpu", "--quiet")
        with open(f"{out}/adapter_model.safetensors", "rb") as file:
            return file.read()


def check_memory(bench, target, train):
    few = bench.compile("layers", LAYERS, train, target)[1]
    many = bench.compile("layers", LAYERS + MORE, train, target)[1]
    state = BATCH * SEQ * CONFIG["hidden_size"] * 4  # the residual stream is f32
    grown = many["bytes"]["activation"] - few["bytes"]["activation"]
    if grown != MORE * state:
        raise Failure(f"{MORE} layers more keep {grown} bytes, not {MORE} x {state}")
    kept = bench.compile("none", LAYERS, train, target)[1]
    if not few["bytes"]["activation"] < kept["bytes"]["activation"] / 2:
        raise Failure(f"activations {few['bytes']['activation']}, kept {kept['bytes']['activation']}")
    if not few["arena_bytes"] < kept["arena_bytes"]:
        raise Failure(f"arena {few['arena_bytes']}, kept {kept['arena_bytes']}")
    slack = few["ratio_to_lower_bound"]
    if slack > 1.1:
        raise Failure(f"the arena is {slack} x its lower bound")


def check_work(bench):
    """Recomputed work, against the forward work inside the layers."""
    plain = bench.compile("none")[1]
    again = bench.compile("layers")[1]
    repeated = again["recomputed_flops"]
    if plain["recomputed_flops"] != 0 or repeated <= 0:
        raise Failure(f"repeated {plain['recomputed_flops']} and {repeated}")
    if plain["micro_step_flops"] + repeated != again["micro_step_flops"]:
        raise Failure("the repeated work is not what is more")
    hidden, wide, rank = CONFIG["hidden_size"], CONFIG["intermediate_size"], ADAPTER["r"]
    heads, head = CONFIG["num_attention_heads"], CONFIG["head_dim"]
    queries, keys = heads * head, CONFIG["num_key_value_heads"] * head
    shapes = [(hidden, queries), (hidden, keys), (hidden, keys), (queries, hidden),
              (hidden, wide), (hidden, wide)]
    rows = BATCH * SEQ
    products = sum(2 * rows * (k * n + rank * (k + n)) for k, n in shapes)
    products += 2 * rows * wide * rank  # of down_proj the projection only
    products += 4 * BATCH * heads * head * SEQ * (SEQ + 1) / 2
    if not LAYERS * products <= repeated <= 1.02 * LAYERS * products:
        raise Failure(f"repeats {repeated} operations, expected {LAYERS * products} and the norms")


def check_bits(bench):
    expected = bench.train(bench.compile("none")[0])
    for target in ("cpu", "h200", "t4"):
        flags = bench.compile("layers", target=target)[0]
        if target != "t4" and bench.train(flags) != expected:
            raise Failure(f"other bits with a plan for {target}")


def check_explanations(bench):
    plan = bench.compile("layers")[0]
    totals = bench.explain(plan)
    if "ops of the forward pass run again" not in totals:
        raise Failure("explain does not say that ops run again")
    why = bench.explain(plan, "--why", "model.layers.2.mlp.up_proj/")
    if why.count("linear_lora_fwd.y (recomputed):") != 1:
        raise Failure(f"--why does not name the recomputed value:\n{why}")
    live = json.loads(bench.explain(plan, "--peak", "--json"))["peak"]["live"]
    layers = {each["module"].split(".")[2] for each in live if each["recomputed"]}
    if len(layers) > 1:
        raise Failure(f"values of the layers {sorted(layers)} are recomputed at once")
    text = bench.explain(plan, "--peak")
    if layers and "(recomputed)" not in text:
        raise Failure(f"--peak does not mark what is recomputed:\n{text}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True)
    options = parser.parse_args()
    passed = failed = 0
    with tempfile.TemporaryDirectory() as root:
        bench = Bench(root, os.path.abspath(options.bin))
        checks = [(f"memory/{target}/{train}", lambda t=target, w=train: check_memory(bench, t, w))
                  for target in ("cpu", "h200") for train in ("lora", "all")]
        checks += [("work", lambda: check_work(bench)), ("bits", lambda: check_bits(bench)),
                   ("explanations", lambda: check_explanations(bench))]
        for name, check in checks:
            try:
                check()
                print(f"PASS recompute/{name}", flush=True)
                passed += 1
            except Failure as failure:
                print(f"FAIL recompute/{name}: {failure}", flush=True)
                failed += 1
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
