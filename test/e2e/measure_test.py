"""peft-run --trace and --calibrate, as people use them.

usage: measure_test.py --bin DIR

A trace of a trained step is JSON that shows every launch of the plan once, in
the plan's order and as measured; what was trained is the same with and without
it. A description that --calibrate wrote is one that peftc compiles for. Both on
the CPU device, and on the card made of host code where that was built (its
times mean nothing). Needs numpy only. The last line counts what passed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "golden"))
import models  # noqa: E402


class Failure(Exception):
    """Something is missing, or a program stopped."""


def run(program, *arguments, code=0):
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    if done.returncode != code:
        tail = (done.stdout + done.stderr).strip().splitlines()[-3:]
        raise Failure(f"{program} exit {done.returncode}: {' | '.join(tail)}")
    return done.stderr if code else done.stdout


def train(programs, root, name, device, *flags):
    run(f"{programs}/peft-run", f"{root}/{device}.plan", "--model", f"{root}/model",
        "--data", f"{root}/data.safetensors", "-o", f"{root}/{name}", "--steps", "2",
        "--lr", "1e-2", "--quiet", "--device", device, *flags)
    with open(f"{root}/{name}/adapter_model.safetensors", "rb") as file:
        return file.read()


def check_trace(programs, root, device):
    trace = f"{root}/trace.json"
    plain = train(programs, root, "plain", device)
    if train(programs, root, "traced", device, "--trace", trace) != plain:
        raise Failure("a trace changes what is trained")
    with open(trace) as file:
        events = json.load(file)["traceEvents"]
    spans = [event for event in events if event["ph"] == "X"]
    for process in (1, 2):
        mine = [event for event in spans if event["pid"] == process]
        orders = {}
        for event in mine:
            orders.setdefault(event["args"]["entry"], []).append(event["args"]["order"])
        if set(orders) != {"micro_step", "update"}:
            raise Failure(f"entries of process {process}: {sorted(orders)}")
        for entry, numbers in orders.items():
            if numbers != list(range(len(numbers))):
                raise Failure(f"{entry}: launches are missing or stand twice")
        if not any(event["dur"] > 0 for event in mine):
            raise Failure(f"nothing takes time in process {process}")
    names = {event["name"] for event in spans}
    for kernel in ("embed_fwd", "attention_bwd", "adamw", "linear_lora_fwd"):
        if kernel not in names:
            raise Failure(f"{kernel} is not in the trace")
    modules = {event["args"]["module"] for event in spans}
    if not any("layers.0.self_attn.q_proj" in module for module in modules):
        raise Failure("no launch is of layers.0.self_attn.q_proj")


def check_calibration(programs, root, device):
    target = f"{root}/my.machine.json"
    run(f"{programs}/peft-run", f"{root}/{device}.plan", "--calibrate", "-o", target,
        "--device", device, "--quiet")
    with open(target) as file:
        found = json.load(file)
    if found["name"] != "my.machine" or found["kind"] != device:
        raise Failure(f"it is called {found['name']} and of kind {found['kind']}")
    for rate in (*found["flops"].values(), found["memory_bytes_per_second"]):
        if not 1e6 < rate < 1e15:
            raise Failure(f"a rate of {rate}")
    if set(found["flops"]) != {"f32", "bf16", "f16"}:
        raise Failure(f"rates of {sorted(found['flops'])}")
    plan = f"{root}/again.plan"
    run(f"{programs}/peftc", "compile", f"{root}/model", "--lora-rank", "4", "--seq", "16",
        "--target", target, "-o", plan, "--quiet")
    if "my.machine" not in run(f"{programs}/peftc", "explain", plan):
        raise Failure("the plan does not name its target")


def check_refused(programs, root, device):
    for message, flags in (
            ("must end in .json", ["--calibrate", "-o", f"{root}/here"]),
            ("leave out --model", ["--calibrate", "-o", f"{root}/h.json", "--model", root]),
            ("--trace needs --data", ["--trace", f"{root}/t.json", "--check"])):
        said = run(f"{programs}/peft-run", f"{root}/{device}.plan",
                   *(["--model", f"{root}/model"] if "--check" in flags else []), *flags,
                   code=64)
        if message not in said:
            raise Failure(f"{message!r} is not in {said!r}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True)
    programs = parser.parse_args().bin
    passed = failed = 0
    with tempfile.TemporaryDirectory() as root:
        case = models.get_case("llama")
        models.write_model(case, f"{root}/model")
        arrays, _ = models.make_rows(case)
        models.save_tensors(f"{root}/data.safetensors", arrays)
        for device, target in (("cpu", "cpu"), ("cuda", "h200")):
            run(f"{programs}/peftc", "compile", f"{root}/model", "--lora-rank", "4",
                "--batch", str(case["batch"]), "--seq", str(case["seq"]), "--quiet",
                "--target", target, "-o", f"{root}/{device}.plan")
        checks = [("trace", check_trace, "cpu"), ("calibrate", check_calibration, "cpu"),
                  ("refused", check_refused, "cpu")]
        card = f"{programs}/libpeft_card.so"
        if os.path.exists(card):
            os.environ["PEFT_CUDA_PLUGIN"] = card
            checks += [("trace-card", check_trace, "cuda"),
                       ("calibrate-card", check_calibration, "cuda")]
        for name, check, device in checks:
            try:
                check(programs, root, device)
                print(f"PASS measure/{name}", flush=True)
                passed += 1
            except Failure as failure:
                print(f"FAIL measure/{name}: {failure}", flush=True)
                failed += 1
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
