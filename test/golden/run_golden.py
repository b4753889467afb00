"""Compares peftc and peft-run with the stored golden files.

usage: run_golden.py --bin DIR [--compute f32|bf16|f16] [--expected DIR] [CASE ...]

float32: loss within 1e-5 relative, every gradient max|a-b| <= 1e-4 max|b|, and
after five AdamW steps ||D - D'|| <= max(1e-3, 5 x torch's own distance between
float32 and float64) ||D'|| per tensor of the change. bf16 and f16: the Frobenius
error of every gradient against float32, over the rows of five steps, at most
1.5 times that of torch's autocast to the same type. Needs numpy only. The last line counts what passed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

import models
import numpy as np
import tensor_file

HERE = os.path.dirname(os.path.abspath(__file__))


class Failure(Exception):
    """One comparison that does not hold, or a program that stopped."""


def execute(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        tail = (done.stdout + done.stderr).strip().splitlines()[-4:]
        raise Failure(
            f"{os.path.basename(command[0])} {command[1]} exit"
            f" {done.returncode}: {' | '.join(tail)}"
        )
    return done.stdout


class Golden:
    """One expectation file."""

    def __init__(self, path):
        tensors, metadata = tensor_file.load_tensors(path)
        self.numbers = json.loads(metadata["golden"])
        self.gradients = self._part(tensors, "gradient/")
        self.changes = self._part(tensors, "change/")
        self.start = self._part(tensors, "start/")

    @staticmethod
    def _part(tensors, prefix):
        return {
            name.removeprefix(prefix): values
            for name, values in tensors.items()
            if name.startswith(prefix)
        }


def write_inputs(case, golden, directory):
    """Model, adapter and token file; returns the trainable start values."""
    base = models.write_model(case, f"{directory}/model")
    start = {}
    for name, gradient in golden.gradients.items():
        start[name] = golden.start.get(name)
        if start[name] is not None:
            continue
        start[name] = (
            base[name]
            if case["adapter"] is None
            else models.adapter_tensor(name, gradient.shape, base)
        )
    if case["adapter"] is not None:
        start |= models.frozen_tensors(case, start)
        models.write_adapter(case, f"{directory}/adapter", start)
    arrays, _ = models.make_rows(case)
    tensor_file.save_tensors(f"{directory}/data.safetensors", arrays)
    return start


def base_flags(base):
    flags = ["--base", base["type"]]
    if "block" in base:
        flags += ["--quantize-block", str(base["block"])]
    return flags + (["--double-quant"] if base.get("nested") else [])


def quantize_model(case, directory, binaries):
    """Puts the quantized model in the place of the one it is made of."""
    if not (case["base"] and case["base"].get("saved")):
        return
    plan = f"{directory}/quantize.plan"
    execute([f"{binaries}/peftc", "compile", f"{directory}/model", "--seq", "8",
             *base_flags(case["base"]), "-o", plan])
    execute([f"{binaries}/peft-run", plan, "--model", f"{directory}/model",
             "--save-quantized", f"{directory}/quantized"])
    os.rename(f"{directory}/model", f"{directory}/source")
    os.rename(f"{directory}/quantized", f"{directory}/model")


def compile_plan(case, directory, binaries, compute):
    command = [f"{binaries}/peftc", "compile", f"{directory}/model"]
    if case["adapter"] is None:
        command += ["--train", "all"]
    else:
        command += ["--adapter", f"{directory}/adapter/adapter_config.json"]
    if case["base"] and not case["base"].get("saved"):
        command += base_flags(case["base"])
    if case["lora_plus_ratio"] is not None:
        command += ["--lora-plus-ratio", repr(case["lora_plus_ratio"])]
    command += ["--optimizer", case["optimizer"]]
    if case["lora_fa"]:
        command += ["--lora-fa"]
    command += ["--batch", str(case["batch"]), "--seq", str(case["seq"])]
    plan = f"{directory}/{compute}.plan"
    execute(command + ["--compute", compute, "-o", plan])
    return plan


def train(case, directory, binaries, plan, steps, data="data.safetensors"):
    """Trains from the start; returns (gradients, end values, metrics)."""
    out = f"{directory}/out"
    command = [f"{binaries}/peft-run", plan, "--model", f"{directory}/model"]
    command += ["--data", f"{directory}/{data}", "-o", out]
    command += ["--no-shuffle", "--steps", str(steps), "--quiet"]
    command += ["--grad-accum", str(case["accumulation"])]
    command += ["--lr", repr(case["lr"]), "--schedule", case["schedule"]]
    command += ["--warmup-steps", str(case["warmup"])]
    command += ["--weight-decay", repr(case["weight_decay"])]
    command += ["--max-grad-norm", repr(case["max_grad_norm"])]
    command += ["--dump-gradients", f"{directory}/gradients.safetensors"]
    if case["adapter"] is None:
        result = f"{out}/model.safetensors"
    else:
        command += ["--init-adapter", f"{directory}/adapter"]
        result = f"{out}/adapter_model.safetensors"
    execute(command)
    gradients, _ = tensor_file.load_tensors(f"{directory}/gradients.safetensors")
    with open(f"{out}/metrics.jsonl") as file:
        metrics = [json.loads(line) for line in file]
    return gradients, tensor_file.load_tensors(result)[0], metrics


def check_names(what, found, expected):
    missing = sorted(expected.keys() - found.keys())
    extra = sorted(found.keys() - expected.keys())
    if missing or extra:
        raise Failure(f"{what}: missing {missing[:3]}, unexpected {extra[:3]}")
    for name, values in expected.items():
        if found[name].shape != values.shape:
            raise Failure(
                f"{what} {name}: shape {found[name].shape}, expected"
                f" {values.shape}"
            )


def relative(found, expected):
    """||found - expected|| / ||expected||"""
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    norm = np.linalg.norm(expected.ravel())
    return np.linalg.norm((found - expected).ravel()) / max(norm, 1e-300)


def check_metrics(golden, metrics):
    numbers = golden.numbers
    if [m["tokens"] for m in metrics] != numbers["tokens"][: len(metrics)]:
        raise Failure(f"tokens {[m['tokens'] for m in metrics]}, expected"
                      f" {numbers['tokens']}")
    # Later steps start from parameters that already differ a little.
    for key, first, later in (("loss", 1e-5, 1e-4), ("grad_norm", 1e-4, 1e-2)):
        for step, metric in enumerate(metrics):
            expected, limit = numbers[key][step], later if step else first
            if not abs(metric[key] - expected) <= limit * abs(expected):
                raise Failure(
                    f"step {step}: {key} {metric[key]!r}, expected {expected!r}"
                    f" within {limit}"
                )


def without_start(name, values, start):
    """The trained half of a factor that was saved with what it started from."""
    is_b = ".lora_B." in name
    trained, frozen = np.split(values, 2, axis=1 if is_b else 0)
    if not np.array_equal(frozen, -start if is_b else start):
        raise Failure(f"{name}: its second half is not what it started from")
    return trained


def check_f32(case, golden, directory, binaries, start):
    plan = compile_plan(case, directory, binaries, "f32")
    gradients, end, metrics = train(
        case, directory, binaries, plan, case["steps"]
    )
    if len(metrics) != case["steps"]:
        raise Failure(f"{len(metrics)} lines in metrics.jsonl")
    check_names("gradient", gradients, golden.gradients)
    for name in models.frozen_tensors(case, start):
        if not np.array_equal(end.pop(name), start[name]):
            raise Failure(f"{name} is frozen, and changed")
    if golden.start:
        end = {n: without_start(n, end[n], start[n]) for n in golden.changes}
    check_names("result", end, golden.changes)
    worst = 0.0
    for name, expected in golden.gradients.items():
        error = np.abs(gradients[name] - expected).max() / np.abs(expected).max()
        if not error <= 1e-4:
            raise Failure(f"gradient {name}: off by {error:.2e} of its maximum")
        worst = max(worst, error)
    check_metrics(golden, metrics)
    for name, expected in golden.changes.items():
        limit = max(1e-3, 5 * golden.numbers["float64_change"][name])
        error = relative(end[name] - start[name], expected)
        if not error <= limit:
            raise Failure(
                f"change of {name}: off by {error:.2e}, allowed {limit:.2e}"
            )
    return f"gradients within {worst:.1e}"


def check_rounded(compute, case, golden, directory, binaries):
    """Against our own float32 gradients, which check_f32 compares with torch."""
    plans = [
        compile_plan(case, directory, binaries, kind) for kind in ("f32", compute)
    ]
    arrays, _ = models.make_rows(case)
    rows = case["batch"] * case["accumulation"]
    error = dict.fromkeys(golden.gradients, 0.0)
    norm = dict.fromkeys(golden.gradients, 0.0)
    for step in range(case["steps"]):
        part = {
            name: np.ascontiguousarray(values[step * rows : (step + 1) * rows])
            for name, values in arrays.items()
        }
        tensor_file.save_tensors(f"{directory}/part.safetensors", part)
        # In f16 the first steps may overflow; they change nothing, the rows
        # come again, and the first finite gradients are dumped.
        exact, found = (
            train(case, directory, binaries, plan, count, "part.safetensors")[0]
            for plan, count in zip(plans, (1, 12 if compute == "f16" else 1))
        )
        check_names("gradient", found, golden.gradients)
        for name, values in exact.items():
            values = values.astype(np.float64)
            error[name] += np.square(found[name] - values).sum()
            norm[name] += np.square(values).sum()
    worst = 0.0
    key = "autocast_gradient" + ("_f16" if compute == "f16" else "")
    for name, torchs in golden.numbers[key].items():
        ours = (error[name] / max(norm[name], 1e-300)) ** 0.5
        if not ours <= 1.5 * torchs:
            raise Failure(
                f"gradient {name}: off by {ours:.2e}, torch autocast by"
                f" {torchs:.2e}"
            )
        worst = max(worst, ours / torchs)
    return f"at most {worst:.2f} times torch's error"


def check_bf16(case, golden, directory, binaries, start):
    return check_rounded("bf16", case, golden, directory, binaries)


def check_f16(case, golden, directory, binaries, start):
    return check_rounded("f16", case, golden, directory, binaries)


CHECKS = {"f32": check_f32, "bf16": check_bf16, "f16": check_f16}


def run_case(name, computes, binaries, expected):
    """Counts of (passed, failed)."""
    case = models.get_case(name)
    golden = Golden(os.path.join(expected, f"{name}.safetensors"))
    passed = failed = 0
    for compute in computes:
        with tempfile.TemporaryDirectory() as directory:
            start = write_inputs(case, golden, directory)
            # What is quantized on load is kept with the rest.
            os.environ["XDG_CACHE_HOME"] = f"{directory}/cache"
            try:
                quantize_model(case, directory, binaries)
                note = CHECKS[compute](case, golden, directory, binaries, start)
                print(f"PASS golden/{name}/{compute}: {note}", flush=True)
                passed += 1
            except (Failure, OSError, KeyError) as failure:
                print(f"FAIL golden/{name}/{compute}: {failure}", flush=True)
                failed += 1
    return passed, failed


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bin", required=True)
    parser.add_argument("--compute", choices=list(CHECKS))
    parser.add_argument("--expected", default=os.path.join(HERE, "expected"))
    parser.add_argument("cases", nargs="*", metavar="CASE")
    options = parser.parse_args()
    computes = [options.compute] if options.compute else list(CHECKS)
    passed = failed = 0
    for name in options.cases or models.CASES:
        result = run_case(name, computes, options.bin, options.expected)
        passed, failed = passed + result[0], failed + result[1]
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
