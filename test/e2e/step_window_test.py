"""No request for memory during the steps, and no more resident than planned.

usage: step_window_test.py --bin DIR

Runs peft-run with libpeft-step-window.so in the way of malloc, mmap and brk
(test/interposer) and reads what was counted between the start of the first step
and the end of the last; and compares the peak resident set with the arena, the
mapped weights and an allowance of 48 MiB. The last line counts what passed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np

sys.path.insert(0, os.path.dirname(__file__))
from bad_input_test import CONFIG, SEQ, model_tensors, write  # noqa: E402
from tensor_file import save_tensors  # noqa: E402

ALLOWANCE = 48 << 20
RUNS = {
    "lora": (["--lora-rank", "2"], ["--threads", "3"]),
    "dropout": (["--lora-rank", "2", "--lora-dropout", "0.1"], ["--grad-accum", "3"]),
    "bf16": (["--lora-rank", "2", "--compute", "bf16"], ["--schedule-seed", "7"]),
    "f16": (["--lora-rank", "2", "--compute", "f16"], ["--grad-accum", "2"]),
    "train all": (["--train", "all"], ["--max-grad-norm", "0"]),
    "status lines": (["--lora-rank", "2"], []),
}


class Failure(Exception):
    """More than was promised."""


def run(binaries, root, name, variables):
    """Compiles and trains; (summary of --json, counts of the window)"""
    compile_flags, flags = RUNS[name]
    plan, counts = f"{root}/step.plan", f"{root}/window"
    command = [f"{binaries}/peftc", "compile", f"{root}/model", "-o", plan, "--quiet"]
    command += ["--seq", str(SEQ), "--batch", "2"]
    if "--compute" not in compile_flags:
        command += ["--compute", "f32"]
    subprocess.run(command + compile_flags, check=True)
    if os.path.exists(counts):
        os.remove(counts)
    command = [f"{binaries}/peft-run", plan, "--model", f"{root}/model", "--json"]
    command += ["--data", f"{root}/data.safetensors", "-o", f"{root}/out-{name}", *flags]
    command += ["--steps", "25"] + ([] if name == "status lines" else ["--quiet"])
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={
        **os.environ, "PEFT_WINDOW_REPORT": counts, **variables})
    with open(counts) as file:
        words = file.read().split()
    return json.loads(done.stdout), dict(zip(words[::2], map(int, words[1::2])))


def check_window(binaries, root, name, preload):
    _, counts = run(binaries, root, name, {"LD_PRELOAD": preload})
    if counts["window"] != 1:
        raise Failure(f"{counts['window']} windows instead of 1")
    if counts["outside"] < 100:
        raise Failure("the counting library is not in the way")
    for what in ("malloc", "mmap", "brk"):
        if counts[what]:
            raise Failure(f"{counts[what]} x {what} during 25 steps")


def resident(binaries, root):
    """A bigger run, without the library: what --json measured of itself."""
    config = {**CONFIG, "vocab_size": 8192, "hidden_size": 256, "intermediate_size": 1024,
              "num_attention_heads": 4, "num_key_value_heads": 2}
    os.makedirs(f"{root}/big")
    write(f"{root}/big/config.json", json.dumps(config))
    shapes = {name: values.shape for name, values in model_tensors().items()}
    wide = {8: 128, 16: 256, 32: 1024, 64: 8192}
    random = np.random.default_rng(3)
    save_tensors(f"{root}/big/model.safetensors", {
        name: random.standard_normal([wide[n] for n in shape], np.float32) * np.float32(0.02)
        for name, shape in shapes.items()})
    ids = random.integers(0, 8192, (8, 128)).astype(np.int32)
    save_tensors(f"{root}/big/data.safetensors", {"input_ids": ids, "labels": ids})
    for name, flags in (("lora", ["--lora-rank", "8"]), ("all", ["--train", "all"])):
        plan = f"{root}/big/{name}.plan"
        subprocess.run([f"{binaries}/peftc", "compile", f"{root}/big", "-o", plan, "--seq",
                        "128", "--batch", "2", "--quiet", *flags], check=True)
        command = [f"{binaries}/peft-run", plan, "--model", f"{root}/big", "--json", "--quiet"]
        train = ["--data", f"{root}/big/data.safetensors", "-o", f"{root}/out-{os.path.basename(plan)}"]
        done = subprocess.run([*command, *train, "--steps", "3"], check=True,
                              capture_output=True, text=True)
        yield f"resident, {name}", json.loads(done.stdout)
        done = subprocess.run([*command, "--check"], check=True, capture_output=True, text=True)
        yield f"check, {name}", json.loads(done.stdout)


def quantized_on_load(binaries, root):
    """The norms, which the plan reads, lie among 192 MiB of weights that it does not.

    Read once from the disk, these are large folios of the page cache; since Linux 6.18
    one fault maps all of such a folio."""
    layers, model = 48, f"{root}/deep"
    os.makedirs(model)
    write(f"{model}/config.json", json.dumps({
        **CONFIG, "num_hidden_layers": layers, "hidden_size": 256, "intermediate_size": 1024,
        "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 64}))
    one = "model.layers.0."
    shapes = {name: values.shape for name, values in model_tensors().items()}
    wide = {8: 256, 16: 256, 32: 1024, 64: 64}
    random = np.random.default_rng(3)
    save_tensors(f"{model}/model.safetensors", {
        name.replace(one, f"model.layers.{layer}."):
        random.standard_normal([wide[n] for n in shape], np.float32) * np.float32(0.02)
        for layer in range(layers) for name, shape in shapes.items()
        if layer == 0 or name.startswith(one)})
    with open(f"{model}/model.safetensors", "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while file.read(1 << 26):
            pass
    subprocess.run([f"{binaries}/peftc", "compile", model, "-o", f"{root}/deep.plan", "--quiet",
                    "--base", "nf4", "--seq", "16", "--batch", "1", "--lora-rank", "2"], check=True)
    done = subprocess.run([f"{binaries}/peft-run", f"{root}/deep.plan", "--model", model, "--json",
                           "--quiet", "--check", "--no-cache"], capture_output=True, text=True)
    if done.returncode:
        raise Failure(done.stderr)
    check_resident(json.loads(done.stdout))


def check_resident(summary):
    most = summary["arena_bytes"] + summary["mapped_bytes"] + ALLOWANCE
    if summary["peak_resident_bytes"] > most:
        raise Failure(f"{summary['peak_resident_bytes']} bytes resident, planned {most}")
    if summary["high_water_bytes"] != summary["arena_bytes"]:
        raise Failure(f"{summary['high_water_bytes']} bytes of {summary['arena_bytes']} used")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    binaries = os.path.abspath(parser.parse_args().bin)
    preload = f"{binaries}/libpeft-step-window.so"
    passed = failed = 0

    def report(name, check, *arguments):
        nonlocal passed, failed
        try:
            check(*arguments)
            passed += 1
            print(f"PASS {name}", flush=True)
        except (Failure, subprocess.CalledProcessError) as failure:
            failed += 1
            print(f"FAIL {name}: {failure}", flush=True)

    with tempfile.TemporaryDirectory() as root:
        os.makedirs(f"{root}/model")
        write(f"{root}/model/config.json", json.dumps(CONFIG))
        save_tensors(f"{root}/model/model.safetensors", model_tensors())
        ids = np.arange(5 * SEQ, dtype=np.int32).reshape(5, SEQ)
        labels = np.where(ids < SEQ, -100, ids).astype(np.int32)
        save_tensors(f"{root}/data.safetensors", {"input_ids": ids, "labels": labels})
        for name in RUNS:
            report(f"window, {name}", check_window, binaries, root, name, preload)
        for name, summary in resident(binaries, root):
            report(name, check_resident, summary)
        report("resident, quantized on load", quantized_on_load, binaries, root)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
