"""How adapters of each variant start, are saved, and are loaded again.

usage: variants_test.py --bin DIR

DoRA's magnitudes start as the norms of the weights and --no-adapter is the base
again; what starts from the weights (PiSSA, OLoRA) changes nothing at first, is
saved as a plain adapter of twice the rank, and answers from it as from the run
itself; LoRA-FA leaves A as it was. Optimizer states in 8 bits take what they
should. The last line counts what passed.
"""

import argparse
import fcntl
import json
import os
import subprocess
import sys
import tempfile

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "golden"))
import models  # noqa: E402
from tensor_file import load_tensors, save_tensors  # noqa: E402


class Failure(Exception):
    """Not what the variant says."""


def expect(condition, what):
    if not condition:
        raise Failure(what)


class Workshop:
    def __init__(self, root, binaries, case="llama"):
        self.root, self.binaries = root, binaries
        self.case = models.get_case(case)
        self.model = f"{root}/model"
        self.base = models.write_model(self.case, self.model)
        rows, _ = models.make_rows(self.case)
        save_tensors(f"{root}/data.safetensors", rows)
        with open(f"{root}/prompts.jsonl", "w") as file:
            for row in rows["input_ids"][:3]:
                file.write(json.dumps({"ids": row[:6].tolist()}) + "\n")

    def compile(self, name, *flags):
        plan = f"{self.root}/{name}.plan"
        command = [f"{self.binaries}/peftc", "compile", self.model, "-o", plan]
        command += ["--compute", "f32", "--batch", "2", "--seq", "24", "--quiet"]
        subprocess.run(command + list(flags), check=True)
        return plan

    def run(self, plan, *flags, code=0, env=None):
        command = [f"{self.binaries}/peft-run", plan, "--model", self.model]
        done = subprocess.run(
            command + list(flags), capture_output=True, text=True, env=env
        )
        expect(
            done.returncode == code,
            f"{' '.join(flags)}: exit {done.returncode}: {done.stderr[-300:]}",
        )
        return done.stdout + done.stderr

    def train(self, name, plan, *flags, steps=3, rate="1e-2"):
        """(tensors, config, metrics) of a training run."""
        out = f"{self.root}/{name}-out"
        self.run(
            plan, "--data", f"{self.root}/data.safetensors", "-o", out, "--quiet",
            "--steps", str(steps), "--lr", rate, "--schedule", "constant", *flags,
        )
        with open(f"{out}/metrics.jsonl") as file:
            metrics = [json.loads(line) for line in file]
        with open(f"{out}/adapter_config.json") as file:
            config = json.load(file)
        tensors, _ = load_tensors(f"{out}/adapter_model.safetensors")
        return out, tensors, config, metrics

    def answers(self, plan, *flags):
        path = f"{self.root}/answers.jsonl"
        self.run(
            plan, "--prompts", f"{self.root}/prompts.jsonl", "--answers", path,
            "--max-new-tokens", "8", "--quiet", *flags,
        )
        with open(path) as file:
            return [json.loads(line)["ids"] for line in file]


def weight_of(work, key):
    module = key.removeprefix("base_model.model.").split(".lora_")[0]
    return work.base[f"{module}.weight"].astype(np.float64)


def dora(work):
    plan = work.compile("dora", "--lora-rank", "4", "--dora")
    out, tensors, config, _ = work.train("dora", plan, steps=1, rate="0")
    expect(config["use_dora"] is True, "use_dora is not saved")
    magnitudes = [key for key in tensors if key.endswith(".lora_magnitude_vector")]
    expect(len(magnitudes) == 14, f"{len(magnitudes)} magnitudes")
    for key in magnitudes:
        norms = np.linalg.norm(weight_of(work, key), axis=1)
        error = np.abs(tensors[key] / norms - 1).max()
        expect(error < 1e-6, f"{key} starts {error:.1e} off the norms")
    out, trained, _, _ = work.train("dora", plan)
    moved = [key for key in magnitudes if (trained[key] != tensors[key]).any()]
    expect(len(moved) == 14, "a magnitude did not train")
    plain = work.compile("plain", "--lora-rank", "4")
    base = work.answers(plain, "--no-adapter")
    expect(work.answers(plan, "--no-adapter") == base, "--no-adapter is not the base")
    adapted = work.answers(plan, "--adapter", out)
    expect(adapted != base, "the adapter changes no answer")
    said = work.run(plain, "--adapter", out, "--generate", "x", code=65)
    expect("use_dora" in said, f"another kind of adapter is refused by: {said}")


def check_start(work, method, start, modules=14, rank=4, scale=2.0):
    """s B0 A0 is the best approximation of W, or of OLoRA its first columns."""
    names = [key for key in start if ".lora_A." in key]
    expect(len(names) == modules, f"{len(names)} modules have a start")
    for key in names:
        a = start[key].astype(np.float64)
        b = start[key.replace(".lora_A.", ".lora_B.")].astype(np.float64)
        weight = weight_of(work, key)
        if method == "pissa":
            left, values, right = np.linalg.svd(weight, full_matrices=False)
            found = scale * b @ a
            wanted = left[:, :rank] * values[:rank] @ right[:rank]
        else:
            found, wanted = (b @ a)[:, :rank], weight[:, :rank]
            error = np.abs(b.T @ b - np.eye(rank)).max()
            expect(error < 1e-5, f"{key}: B0 is {error:.1e} off orthonormal columns")
        error = np.abs(found - wanted).max() / np.abs(wanted).max()
        expect(error < 1e-5, f"{key}: the start is {error:.1e} off")


def starts_from_weights(work, method):
    flags = ["--lora-rank", "4", "--lora-init", method]
    plan = work.compile(method, *flags)
    plain = work.compile("plain", "--lora-rank", "4")
    out, tensors, config, metrics = work.train(method, plan)
    loss = work.train("plain", plain)[3][0]["loss"]
    error = abs(metrics[0]["loss"] / loss - 1)
    expect(error < 1e-5, f"the first loss is {error:.1e} off that of the base")
    expect(
        (config["r"], config["lora_alpha"], config["init_lora_weights"])
        == (8, 16, True),
        f"the config is of r {config['r']}, alpha {config['lora_alpha']}",
    )
    start, _ = load_tensors(f"{out}/start/adapter_model.safetensors")
    check_start(work, method, start)
    said = work.run(
        plan, "--data", f"{work.root}/data.safetensors", "-o", f"{work.root}/loud",
        "--steps", "1",
    )
    expect("decomposing 14 weights" in said, f"it is silent: {said}")
    expect(("pissa_niter_4" in said) == (method == "pissa"), f"no advice: {said}")
    single = work.compile("single", *flags, "--group-down-projections", "off")
    other = work.train("single", single)[0]
    other, _ = load_tensors(f"{other}/start/adapter_model.safetensors")
    expect(
        all(np.allclose(other[key], start[key], atol=1e-6) for key in start),
        "projections one by one have another start",
    )
    for key, values in start.items():
        if ".lora_A." not in key:
            continue
        other = key.replace(".lora_A.", ".lora_B.")
        expect(np.array_equal(tensors[key][4:], values), f"{key}: not [A; A0]")
        expect(
            np.array_equal(tensors[other][:, 4:], -start[other]),
            f"{other}: not [B, -B0]",
        )
        expect((tensors[key][:4] != values).any(), f"{key} did not train")
    said = work.run(plain, "--adapter", f"{out}/start", "--generate", "x", code=65)
    expect(
        f"what a {method} run starts from" in said and f"--adapter {out}/start" in said,
        f"a plan without a start refuses it by: {said}",
    )
    again, loaded, _, _ = work.train(
        method, plan, "--init-adapter", f"{out}/start"
    )
    expect(
        all(np.array_equal(loaded[key], tensors[key]) for key in tensors),
        "the same start gives another adapter",
    )
    # A plain plan of twice the rank and the plan itself answer alike.
    twice = work.compile("twice", "--lora-rank", "8", "--lora-alpha", "16")
    expect(
        work.answers(plan, "--adapter", again) == work.answers(twice, "--adapter", again),
        "the saved adapter answers otherwise",
    )


def start_comes_last(work):
    """Nothing is decomposed or written while something may still be wrong."""
    plan = work.compile("pissa", "--lora-rank", "4", "--lora-init", "pissa")
    out = f"{work.root}/held"
    train = ["--data", f"{work.root}/data.safetensors", "-o", out, "--quiet"]
    with open(f"{work.root}/bad.jsonl", "w") as file:
        file.write("no JSON\n")
    said = work.run(plan, *train, "--prompts", f"{work.root}/bad.jsonl", code=65)
    expect("bad.jsonl:1" in said and not os.path.exists(out), f"a bad prompt: {said}")
    os.mkdir(out)
    holder = os.open(out, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    try:
        said = work.run(plan, *train, code=74)
    finally:
        os.close(holder)
    expect("another run" in said and not os.listdir(out), f"a held directory: {said}")
    work.run(plan, *train, code=78, env={**os.environ, "PEFT_DATA": "false"})
    expect(not os.path.exists(out), "a start that failed leaves its directory")


def untold_start(work):
    """PEFT's own PiSSA adapters do not say what they started from."""
    plan = work.compile("pissa", "--lora-rank", "4", "--lora-init", "pissa")
    out = work.train("pissa", plan)[0]
    tensors, _ = load_tensors(f"{out}/start/adapter_model.safetensors")
    save_tensors(f"{out}/start/adapter_model.safetensors", tensors)
    said = work.run(
        plan, "--adapter", f"{out}/start", "--generate", "x", code=65
    )
    expect("path_initial_model_for_weight_conversion" in said, said)


def nested(work):
    """A text model inside another, in files with the names of transformers before
    4.52: it has a start, and its adapter means no module of the vision tower."""
    inner = Workshop(f"{work.root}/nested", work.binaries, "gemma3_images")
    newer, older = "model.language_model.", "language_model.model."
    save_tensors(
        f"{inner.model}/model.safetensors",
        {name.replace(newer, older): values for name, values in inner.base.items()},
        inner.case["stored"],
    )
    flags = ["--lora-rank", "4", "--lora-init", "pissa"]
    plan = inner.compile("pissa", *flags, "--lora-targets", "q_proj,down_proj")
    out, tensors, config, _ = inner.train("pissa", plan)
    start, _ = load_tensors(f"{out}/start/adapter_model.safetensors")
    check_start(inner, "pissa", start, modules=4)
    paths = [f"{newer}layers.{layer}.{name}" for layer in (0, 1)
             for name in ("mlp.down_proj", "self_attn.q_proj")]
    expect(config["target_modules"] == paths, f"targets: {config['target_modules']}")
    root = "base_model.model."
    save_tensors(
        f"{out}/adapter_model.safetensors",
        {key.replace(root + newer, root + older): tensors[key] for key in tensors},
    )
    inner.answers(plan, "--adapter", out)
    vision = f"{root}model.vision_tower.vision_model.encoder.layers.0.q_proj.lora_A.weight"
    save_tensors(
        f"{out}/adapter_model.safetensors",
        {**tensors, vision: np.zeros((4, 16), np.float32)},
    )
    said = inner.run(plan, "--adapter", out, "--generate", "x", code=65)
    expect("1 of its keys" in said and "vision tower" in said, said)


def lora_fa(work):
    plan = work.compile("fa", "--lora-rank", "4", "--lora-fa")
    first = work.train("fa", plan, steps=1, rate="0")[1]
    tensors = work.train("fa", plan)[1]
    for key, values in tensors.items():
        same = np.array_equal(values, first[key])
        expect(same == (".lora_A." in key), f"{key} {'stayed' if same else 'moved'}")


def eight_bits(work):
    bytes_of, losses = {}, {}
    for optimizer in ("adamw", "adamw8bit"):
        flags = ["--lora-rank", "64", "--optimizer", optimizer]
        plan = work.compile(optimizer, *flags)
        explained = subprocess.run(
            [f"{work.binaries}/peftc", "explain", plan, "--json"],
            check=True, capture_output=True, text=True,
        )
        classes = json.loads(explained.stdout)["memory"]["persistent"]
        bytes_of[optimizer] = classes["optimizer"]
        losses[optimizer] = work.train(optimizer, plan)[3][-1]["loss"]
    share = bytes_of["adamw8bit"] / bytes_of["adamw"]
    expect(0.25 < share < 0.32, f"moments take {share:.3f} of f32")
    error = abs(losses["adamw8bit"] / losses["adamw"] - 1)
    expect(error < 0.01, f"the loss is {error:.1e} off that of f32 moments")


def tests():
    yield "dora", dora
    for method in ("pissa", "olora"):
        yield method, lambda work, method=method: starts_from_weights(work, method)
    yield "start comes last", start_comes_last
    yield "untold start", untold_start
    yield "nested", nested
    yield "lora-fa", lora_fa
    yield "adamw8bit", eight_bits


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", required=True)
    binaries = os.path.abspath(parser.parse_args().bin)
    passed = failed = 0
    with tempfile.TemporaryDirectory() as root:
        work = Workshop(root, binaries)
        for name, test in tests():
            try:
                test(work)
                print(f"PASS variants/{name}", flush=True)
                passed += 1
            except (Failure, OSError, KeyError, subprocess.CalledProcessError) as failure:
                print(f"FAIL variants/{name}: {failure}", flush=True)
                failed += 1
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
