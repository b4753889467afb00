"""The CUDA device, on a card made of host code (libpeft_card.so), end to end.

usage: card_test.py --bin DIR

Models are compiled for a card and for the CPU and trained on both devices. On
the card: the losses of the CPU within rounding, the same bits whatever the order
that streams and events leave open (PEFT_CARD_SEED), with graphs and step by
step; nothing asked of the card's memory after load, no wait for all of it in a step;
--check; attention by the card's library, --attention, --tune and --tuned; what a card that is too small, one that breaks, a number that is not
finite, Ctrl-C and a missing driver come to. All is
skipped where the plug-in was not built. The last line counts what passed.
"""

import argparse
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "golden"))
import models  # noqa: E402
import tensor_file  # noqa: E402
from cases import QWEN2  # noqa: E402

STEPS, ROWS, BATCH, SEQ = 3, 4, 2, 21
CONFIG = {
    **QWEN2,
    "hidden_size": 48,
    "intermediate_size": 72,
    "vocab_size": 131,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "tie_word_embeddings": True,
}


# Of a head size that a card's library takes.
WIDE = {**CONFIG, "hidden_size": 64, "head_dim": 16, "num_hidden_layers": 1}


class Failure(Exception):
    """Other numbers, another message, or a program that stopped."""


def case_of(dropout=0.0):
    return {"name": "card", "config": CONFIG, "stored": "bf16", "shards": 1,
            "adapter": {"r": 4, "lora_alpha": 8, "target_modules": "all-linear",
                        "lora_dropout": dropout},
            "segments": True, "batch": ROWS, "accumulation": 1, "steps": STEPS, "seq": SEQ}


class Programs:
    def __init__(self, root, binaries):
        self.root, self.binaries = root, binaries

    def run(self, program, *arguments, code=0, env=None):
        """Standard output and error together."""
        done = subprocess.run([f"{self.binaries}/{program}", *arguments], text=True,
                              capture_output=True, env={**os.environ, **(env or {})})
        if done.returncode != code:
            tail = (done.stdout + done.stderr).strip().splitlines()[-2:]
            raise Failure(f"{program} exit {done.returncode}, not {code}: {' | '.join(tail)}")
        return done.stdout + done.stderr

    def compile(self, name, *flags, model="model"):
        plan = f"{self.root}/{name}.plan"
        self.run("peftc", "compile", f"{self.root}/{model}", "--batch", str(BATCH), "--seq",
                 str(SEQ), "-o", plan, "--quiet", *flags)
        return plan

    def card(self, seed=1, mode="graph"):
        return {"PEFT_CUDA_PLUGIN": f"{self.binaries}/libpeft_card.so",
                "PEFT_CARD_SEED": str(seed), "PEFT_CUDA": mode}

    def train(self, plan, device, env=None, code=0, data="data", model="model", flags=()):
        out = f"{self.root}/out"
        subprocess.run(["rm", "-rf", out], check=True)
        said = self.run("peft-run", plan, "--model", f"{self.root}/{model}", "-o", out, "--data",
                        f"{self.root}/{data}.safetensors", "--steps", str(STEPS), "--grad-accum",
                        str(ROWS // BATCH), "--lr", "3e-3", "--seed", "5", "--device", device,
                        *flags, code=code, env=env)
        self.said = said
        if code:
            return said
        with open(f"{out}/metrics.jsonl") as file:
            lines = [json.loads(line) for line in file]
        self.choices = {} if "step" in lines[0] else lines.pop(0)
        saved = next(f for f in os.listdir(out) if f.endswith(".safetensors"))
        with open(f"{out}/{saved}", "rb") as file:
            return [(line["loss"], line["grad_norm"]) for line in lines], file.read()


def write_inputs(root):
    models.write_model(case_of(), f"{root}/model")
    arrays, _ = models.make_rows(case_of())
    arrays["labels"][3] = models.UNTRAINED
    tensor_file.save_tensors(f"{root}/data.safetensors", arrays)
    # Rows that are full and not packed.
    whole = {name: arrays[name] for name in ("input_ids", "labels")}
    tensor_file.save_tensors(f"{root}/whole.safetensors", whole)
    models.write_model({**case_of(), "config": WIDE}, f"{root}/wide")
    for name, dropout in (("lora", 0.0), ("dropout", 0.2)):
        models.write_adapter(case_of(dropout), f"{root}/{name}", {})


def compare(name, found, expected, tolerance):
    for step, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        for what, a, b in zip(("loss", "norm"), mine, theirs):
            if not abs(a - b) <= tolerance * abs(b):
                raise Failure(f"{name}, step {step + 1}: {what} {a}, on the CPU {b}")


def check_training(programs, compute, training):
    adapter = f"{programs.root}/{training}/adapter_config.json"
    what = ["--train", "all"] if training == "all" else ["--adapter", adapter]
    tolerance = {"f32": 2e-5, "bf16": 2e-2, "f16": 5e-3}[compute]
    results = []
    for target in ("h200", "cpu"):
        plan = programs.compile("step", "--compute", compute, "--target", target, *what)
        expected, _ = programs.train(plan, "cpu")
        for seed, mode in ((1, "graph"), (2, "graph"), (3, "direct")):
            found, saved = programs.train(plan, "cuda", programs.card(seed, mode))
            compare(f"plan for {target}, seed {seed}, {mode}", found, expected, tolerance)
            results.append(saved)
        if target == "h200" and any(saved != results[0] for saved in results):
            raise Failure("the order that is left open, or the graph, changes bits")
    # With a workspace of its own size a launch computes the same.
    if any(saved != results[0] for saved in results):
        raise Failure("the plan for the CPU gives other bits on the card")


def lora_plan(programs):
    return programs.compile("lora", "--compute", "f32", "--target", "h200", "--adapter",
                            f"{programs.root}/lora/adapter_config.json")


def expect(said, *parts):
    for part in parts:
        if part not in said:
            raise Failure(f"{part!r} is not in {said.strip().splitlines()[-3:]}")


def check_memory(programs):
    said = programs.run("peft-run", lora_plan(programs), "--model", f"{programs.root}/model",
                        "--check", "--device", "cuda", env=programs.card())
    expect(said, "cuda:0, test card, sm_90", "arena 0: ", ", the same", "staging: ")
    if "library workspaces outside the plan" in said:
        raise Failure("a plan for a card has no room for a library")


def check_choice(programs):
    plan, model = lora_plan(programs), f"{programs.root}/model"
    auto = programs.run("peft-run", plan, "--model", model, "--check", "--device", "auto",
                        env=programs.card())
    expect(auto, "device     cuda:0, test card")
    said = programs.run("peft-run", plan, "--model", model, "--check", "--device", "cuda:1",
                        env=programs.card(), code=78)
    expect(said, "--device cuda:1: there is no card 1, only 1")
    said = programs.run("peft-run", plan, "--model", model, "--check", "--device", "cuda",
                        "--threads", "2", env=programs.card(), code=64)
    expect(said, "--threads is for the CPU device")
    said = programs.run("peft-run", plan, "--model", model, "--check", "--device", "cuda",
                        env=programs.card(mode="quick"), code=64)
    expect(said, "PEFT_CUDA is 'quick'")


def wide_plan(programs, target="h200"):
    return programs.compile(f"wide-{target}", "--compute", "bf16", "--target", target, "--adapter",
                            f"{programs.root}/lora/adapter_config.json", model="wide")


def check_attention(programs):
    """The library's attention is close to the CPU's and has the same bits however it runs."""
    plan, wide = wide_plan(programs), {"model": "wide", "data": "whole"}
    expected, _ = programs.train(plan, "cpu", **wide)
    results = []
    for seed, mode in ((1, "graph"), (2, "graph"), (3, "direct")):
        found, saved = programs.train(plan, "cuda", programs.card(seed, mode), **wide)
        compare(f"seed {seed}, {mode}", found, expected, 2e-2)
        results.append(saved)
    expect(programs.said, "x attention_fwd by host attention 1.0 (loops)")
    if programs.choices:
        raise Failure(f"nothing was chosen, but metrics.jsonl begins with {programs.choices}")
    if any(saved != results[0] for saved in results):
        raise Failure("the order that is left open, or the graph, changes bits")
    _, own = programs.train(plan, "cuda", programs.card(), **wide, flags=["--attention", "own"])
    if programs.choices != {"attention": "own"}:
        raise Failure(f"metrics.jsonl begins with {programs.choices}")
    if own == results[0]:
        raise Failure("the library was never asked")
    programs.train(plan, "cuda", programs.card(), data="data", model="wide")
    found, _ = programs.train(plan, "cuda", programs.card(), **wide,
                              flags=["--attention", "fast"])
    compare("fast", found, expected, 2e-2)
    expect(programs.said, "x attention_bwd by host attention 1.0 (loops), bits may differ")
    if programs.choices != {"attention": "fast"}:
        raise Failure(f"metrics.jsonl begins with {programs.choices}")
    said = programs.train(plan, "cpu", **wide, flags=["--attention", "fast"], code=64)
    expect(said, "--attention fast is for a card's library", "give --device cuda")
    said = programs.train(plan, "cuda", {**programs.card(), "PEFT_CARD_ATTENTION": "none"}, **wide,
                          flags=["--attention", "fast"], code=78)
    expect(said, "--attention fast: the test card has no attention library; leave it out")


def check_tuning(programs):
    plan, wide = wide_plan(programs), {"model": "wide", "data": "whole"}
    model, tuned = f"{programs.root}/wide", f"{programs.root}/tuned.json"
    tune = [plan, "--model", model, "--tune", "-o", tuned]
    said = programs.run("peft-run", *tune, env=programs.card())
    expect(said, "us untuned", "us by our own kernel", f"wrote      {tuned}")
    with open(tuned) as file:
        text = file.read()
    written = json.loads(text)
    if {product["candidate"] for product in written["products"]} != {1}:
        raise Failure("the fastest candidate of the test card is the one in the middle")
    programs.train(plan, "cuda", programs.card(), **wide, flags=["--tuned", tuned])
    expect(programs.said, " shapes as measured by peft-run --tune")
    if programs.choices != {"tuned_sha256": hashlib.sha256(text.encode()).hexdigest()}:
        raise Failure(f"metrics.jsonl begins with {programs.choices}")
    said = programs.train(plan, "cpu", **wide, flags=["--tuned", tuned], code=64)
    expect(said, "--tuned is for a card's libraries")
    for change, code, part in (
            ({"card": "another"}, 78, "measured with another, and this is test card"),
            ({"products": [{**p, "algorithm": [9] * 9} for p in written["products"]]}, 78,
             "which the library does not propose here"),
            ({"products": [{}]}, 65, f"{tuned}: products[0]: rows: is missing")):
        with open(tuned, "w") as file:
            json.dump({**written, **change}, file)
        said = programs.train(plan, "cuda", programs.card(), **wide, flags=["--tuned", tuned],
                              code=code)
        expect(said, part)
    said = programs.run("peft-run", *tune, "--device", "cpu", code=64)
    expect(said, "--tune chooses among the algorithms of a card's libraries")
    said = programs.run("peft-run", *tune[:-1], plan, env=programs.card(), code=64)
    expect(said, "--tune needs -o FILE.json")
    if not os.path.exists("/dev/nvidiactl"):
        said = programs.run("peft-run", *tune, code=78)
        expect(said, "--device cuda: no NVIDIA driver (libcuda.so.1)")


def check_no_driver(programs):
    if os.path.exists("/dev/nvidiactl"):
        return
    plan, model = lora_plan(programs), f"{programs.root}/model"
    reason = "no NVIDIA driver (libcuda.so.1)"
    said = programs.run("peft-run", plan, "--model", model, "--check", "--device", "cuda", code=78)
    expect(said, f"--device cuda: {reason}")
    said = programs.run("peft-run", plan, "--model", model, "--check", "--device", "auto")
    expect(said, f"; no CUDA: {reason}")


def check_too_small(programs):
    said = programs.train(lora_plan(programs), "cuda",
                          {**programs.card(), "PEFT_CARD_BYTES": str(1 << 20)}, code=71)
    expect(said, "the plan needs", "free are 1.0 MiB", "workspace", "the largest buffers are")


def check_broken(programs):
    for mode, hint in (("graph", True), ("direct", False)):
        said = programs.train(lora_plan(programs), "cuda",
                              {**programs.card(mode=mode), "PEFT_CARD_BREAKS_AT": "400"}, code=70)
        expect(said, "CUDA: ", "the card broke at its 400th piece of work")
        if ("PEFT_CUDA=direct" in said) != hint:
            raise Failure(f"{mode}: the hint is wrong: {said.strip().splitlines()[-1]}")


def run_card(programs, plan, *flags, env=None, code=0, model="model", data="data"):
    out = f"{programs.root}/out"
    subprocess.run(["rm", "-rf", out], check=True)
    said = programs.run("peft-run", plan, "--model", f"{programs.root}/{model}", "-o", out,
                        "--data", f"{programs.root}/{data}.safetensors", "--device", "cuda",
                        *flags, env={**programs.card(), **(env or {})}, code=code)
    return said, sorted(os.listdir(out)) if os.path.isdir(out) else []


def steps_in(programs):
    with open(f"{programs.root}/out/metrics.jsonl") as file:
        return [json.loads(line)["step"] for line in file]


def check_no_waits(programs):
    plan, counts = lora_plan(programs), []
    for steps in ("3", "7"):
        said, _ = run_card(programs, plan, "--steps", steps, env={"PEFT_CARD_COUNTS": "1"})
        counts.append(re.search(r"test card: (\d+) waits for a stream", said).group(1))
        if steps_in(programs) != list(range(1, int(steps) + 1)):
            raise Failure(f"metrics of steps {steps_in(programs)}")
    if counts[0] != counts[1]:
        raise Failure(f"3 steps wait {counts[0]} times for a stream, 7 steps {counts[1]} times")


def check_late_failure(programs):
    """A NaN that only the third step reads: found when the fourth is on its way."""
    config = {**CONFIG, "tie_word_embeddings": False}
    case = {**case_of(), "config": config, "stored": "f32"}
    models.write_model(case, f"{programs.root}/broken")
    path = f"{programs.root}/broken/model.safetensors"
    tensors, _ = tensor_file.load_tensors(path)
    table = tensors["model.embed_tokens.weight"].copy()
    table[130] = float("nan")
    tensors["model.embed_tokens.weight"] = table
    tensor_file.save_tensors(path, tensors)
    arrays, _ = models.make_rows({**case, "batch": 10})
    arrays["input_ids"][arrays["input_ids"] == 130] = 129
    arrays["input_ids"][5, 3] = 130
    tensor_file.save_tensors(f"{programs.root}/broken.safetensors", arrays)
    plan = f"{programs.root}/broken.plan"
    programs.run("peftc", "compile", f"{programs.root}/broken", "--batch", str(BATCH), "--seq",
                 str(SEQ), "-o", plan, "--quiet", "--lora-rank", "4", "--target", "h200")
    said, files = run_card(programs, plan, "--steps", "5", "--no-shuffle", code=76,
                           model="broken", data="broken")
    expect(said, "step 3: the loss is not finite, rows 4, 5; ", "model.embed_tokens.weight")
    if files != ["metrics.jsonl"] or steps_in(programs) != [1, 2]:
        raise Failure(f"{files}, metrics of steps {steps_in(programs)}")


def check_interrupt(programs):
    out = f"{programs.root}/out"
    subprocess.run(["rm", "-rf", out], check=True)
    command = [f"{programs.binaries}/peft-run", lora_plan(programs), "--model",
               f"{programs.root}/model", "-o", out, "--data", f"{programs.root}/data.safetensors",
               "--device", "cuda", "--steps", "1000000"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL,
                             env={**os.environ, **programs.card()})
    for _ in range(1200):
        if os.path.isfile(f"{out}/metrics.jsonl") and os.path.getsize(f"{out}/metrics.jsonl"):
            break
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    try:
        code = child.wait(timeout=60)
    finally:
        child.kill()
    if code != -signal.SIGINT:
        raise Failure(f"exit {code}, not that of the signal")
    if steps_in(programs) != list(range(1, len(steps_in(programs)) + 1)):
        raise Failure("metrics.jsonl is not whole")


def checks():
    for compute in ("f32", "bf16", "f16"):
        for training in ("lora", "dropout", "all"):
            yield f"{compute}/{training}", check_training, (compute, training)
    for check in (check_memory, check_choice, check_attention, check_tuning, check_no_driver, check_too_small, check_broken,
                  check_no_waits, check_late_failure, check_interrupt):
        yield check.__name__, check, ()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True)
    parser.add_argument("--only", default="", help="run the checks whose name contains this")
    options = parser.parse_args()
    if not os.path.exists(f"{options.bin}/libpeft_card.so"):
        print("SKIP card: built without the CUDA toolkit")
        print("0 passed, 0 failed, 1 skipped")
        return 0
    passed = failed = 0
    with tempfile.TemporaryDirectory() as root:
        write_inputs(root)
        programs = Programs(root, options.bin)
        for name, check, arguments in checks():
            if options.only not in name:
                continue
            try:
                check(programs, *arguments)
                print(f"PASS card/{name}", flush=True)
                passed += 1
            except Failure as failure:
                print(f"FAIL card/{name}: {failure}", flush=True)
                failed += 1
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
