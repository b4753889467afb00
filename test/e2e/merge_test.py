"""peftc merge and peftc export, on models and adapters made here.

usage: merge_test.py --bin DIR

The merged weights are W + s B A in f64, rounded once, for every stored and every
asked type, for shards, rank and alpha patterns, rsLoRA, trained biases, biases of
B, modules saved whole, DoRA and embeddings; what is not changed is copied byte
for byte; the report says what rounding loses. Tied heads stay tied, or are untied
when asked. Bases of 4 and 8 bits are dequantized, and compared with their original.
Large tensors are made in little memory. What cannot be merged, and
damaged adapters, are refused by name and leave no model behind. GGUF adapters are
read back with the package gguf. Needs numpy and gguf. The last line counts what
passed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile

import gguf
import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "golden"))
import models  # noqa: E402
import quantized_file  # noqa: E402
import tensor_file  # noqa: E402
from cases import BIASES, LLAMA, MISTRAL, QWEN2, QWEN3  # noqa: E402

PREFIX = "base_model.model."
LINEARS = {"q_proj": "self_attn", "k_proj": "self_attn", "v_proj": "self_attn",
           "o_proj": "self_attn", "gate_proj": "mlp", "up_proj": "mlp", "down_proj": "mlp"}


class Failure(Exception):
    """Another value, another message, or a program that stopped."""


def case_of(config, adapter, stored="f32", shards=1):
    return {"name": "merge", "config": config, "stored": stored, "shards": shards,
            "adapter": {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj"], **adapter}}


def module_of(path):
    return path.removesuffix(".weight")


class Adapter:
    """Random tensors of an adapter, and what they make of a base."""

    def __init__(self, case, base):
        self.case, self.base = case, base
        self.tensors = {}
        self.merged = {name: value.astype(np.float64) for name, value in base.items()}

    def scale(self, module, rank):
        config = self.case["adapter"]
        alpha = config["lora_alpha"]
        for key, value in config.get("alpha_pattern", {}).items():
            if module == key or module.endswith("." + key):
                alpha = value
        return alpha / (np.sqrt(rank) if config.get("use_rslora") else rank)

    def rank(self, module):
        for key, value in self.case["adapter"].get("rank_pattern", {}).items():
            if module == key or module.endswith("." + key):
                return value
        return self.case["adapter"]["r"]

    def put(self, key, shape, bound):
        self.tensors[PREFIX + key] = models.uniform(key, shape, bound)
        return self.tensors[PREFIX + key].astype(np.float64)

    def linear(self, module, dora=False, bias=False):
        out, into = self.base[f"{module}.weight"].shape
        rank = self.rank(module)
        a = self.put(f"{module}.lora_A.weight", (rank, into), 0.5)
        b = self.put(f"{module}.lora_B.weight", (out, rank), 0.5)
        scale = self.scale(module, rank)
        weight = self.merged[f"{module}.weight"] + scale * (b @ a)
        if dora:
            magnitude = self.put(f"{module}.lora_magnitude_vector", (out,), 0.5) + 2
            self.tensors[f"{PREFIX}{module}.lora_magnitude_vector"] = magnitude.astype(np.float32)
            norm = np.sqrt((weight * weight).sum(axis=1))
            weight *= (magnitude / norm)[:, None]
        self.merged[f"{module}.weight"] = weight
        if bias:
            added = self.put(f"{module}.lora_B.bias", (out,), 0.5)
            self.merged[f"{module}.bias"] = self.merged[f"{module}.bias"] + scale * added
        return self

    def embedding(self, module):
        vocab, hidden = self.base[f"{module}.weight"].shape
        rank = self.rank(module)
        a = self.put(f"{module}.lora_embedding_A", (rank, vocab), 0.5)
        b = self.put(f"{module}.lora_embedding_B", (hidden, rank), 0.5)
        self.merged[f"{module}.weight"] = (
            self.merged[f"{module}.weight"] + self.scale(module, rank) * (b @ a).T)
        return self

    def whole(self, key, name=None):
        name = name or key
        self.merged[name] = self.put(key, self.base[name].shape, 1.0)
        return self

    def write(self, directory):
        models.write_adapter(self.case, directory, self.tensors)
        return self


def run(binaries, program, *arguments, code=0):
    done = subprocess.run([f"{binaries}/{program}", *arguments], capture_output=True, text=True)
    if done.returncode != code:
        tail = (done.stdout + done.stderr).strip().splitlines()[-2:]
        raise Failure(f"{program} exit {done.returncode}, not {code}: {' | '.join(tail)}")
    return done.stdout + done.stderr


def read_model(directory):
    """(name -> (values, stored type), number of files)"""
    files = [f for f in sorted(os.listdir(directory)) if f.endswith(".safetensors")]
    index = os.path.join(directory, "model.safetensors.index.json")
    if (len(files) > 1) != os.path.exists(index):
        raise Failure(f"{len(files)} files and {'an' if os.path.exists(index) else 'no'} index")
    tensors = {}
    for file in files:
        for name, value, stored in load_typed(os.path.join(directory, file)):
            tensors[name] = (value, stored)
    if len(files) > 1:
        with open(index) as file:
            content = json.load(file)
        if set(content["weight_map"]) != set(tensors):
            raise Failure("the index names other tensors than the files have")
    return tensors, len(files)


def load_typed(path):
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        data = file.read()
    header.pop("__metadata__", None)
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        stored = {"F32": "f32", "BF16": "bf16", "F16": "f16"}[entry["dtype"]]
        if stored == "f32":
            values = np.frombuffer(data[begin:end], np.float32)
        elif stored == "f16":
            values = np.frombuffer(data[begin:end], np.float16).astype(np.float32)
        else:
            bits = np.frombuffer(data[begin:end], np.uint16).astype(np.uint32) << 16
            values = bits.view(np.float32)
        yield name, values.reshape(entry["shape"]), stored


def expect_model(directory, merged, stored):
    found, files = read_model(directory)
    if set(found) != set(merged):
        raise Failure(f"tensors {sorted(set(found) ^ set(merged))[:3]} are in one only")
    for name, exact in merged.items():
        value, kind = found[name]
        if kind != stored:
            raise Failure(f"{name} is stored as {kind}, not {stored}")
        expected = models.round_stored(exact.astype(np.float32), stored)
        # A sum in another order may round the other way: one step in a thousand.
        off = np.abs(value - expected) > 1e-6 * np.abs(expected)
        step = {"f32": 1e-6, "f16": 1e-3, "bf16": 8e-3}[stored]
        if off.mean() > 1e-3 or (np.abs(value - expected) > step * np.abs(expected) + 1e-7).any():
            worst = np.abs(value - expected).max()
            raise Failure(f"{name}: {off.sum()} of {off.size} values differ, at most by {worst}")
    return files


class Bench:
    def __init__(self, root, binaries):
        self.root, self.binaries = root, binaries
        self.count = 0

    def fresh(self):
        self.count += 1
        path = f"{self.root}/{self.count}"
        os.makedirs(path)
        return path

    def setup(self, config, adapter, build, stored="f32", shards=1):
        """(directory with model and adapter, the Adapter)"""
        root = self.fresh()
        case = case_of(config, adapter, stored, shards)
        base = models.write_model(case, f"{root}/model")
        made = Adapter(case, base)
        build(made)
        made.write(f"{root}/adapter")
        return root, made

    def merge(self, root, *flags, code=0):
        return run(self.binaries, "peftc", "merge", f"{root}/model", "--adapter",
                   f"{root}/adapter", "-o", f"{root}/out", *flags, code=code)

    def export(self, root, code=0):
        return run(self.binaries, "peftc", "export", "--gguf", f"{root}/adapter", "--model",
                   f"{root}/model", "-o", f"{root}/out.gguf", code=code)


def all_linears(made, **options):
    layers = made.case["config"]["num_hidden_layers"]
    for layer in range(layers):
        for name, block in LINEARS.items():
            made.linear(f"model.layers.{layer}.{block}.{name}", **options)


def with_biases(made):
    made.linear("model.layers.0.self_attn.q_proj", bias=True)
    made.whole("model.layers.0.self_attn.k_proj.bias")


def trained_biases(made):
    made.linear("model.layers.1.self_attn.q_proj")
    made.whole("model.layers.1.self_attn.q_proj.base_layer.bias",
               "model.layers.1.self_attn.q_proj.bias")


def saved_modules(made):
    made.linear("model.layers.0.self_attn.v_proj")
    made.whole("lm_head.weight").whole("model.norm.weight")


def head_and_embedding(made):
    made.linear("lm_head").embedding("model.embed_tokens")


PATTERNS = {"use_rslora": True, "rank_pattern": {"q_proj": 6, "layers.1.mlp.up_proj": 2},
            "alpha_pattern": {"v_proj": 3}}
MERGES = {
    "all-linear": (LLAMA, {}, all_linears),
    "patterns": (QWEN3, PATTERNS, all_linears),
    "dora": (QWEN2, {"use_dora": True}, lambda made: all_linears(made, dora=True)),
    "lora-bias": (QWEN2, {"lora_bias": True, "bias": "all"}, with_biases),
    "trained-biases": ({**LLAMA, **BIASES}, {"bias": "lora_only"}, trained_biases),
    "modules-to-save": (LLAMA, {"modules_to_save": ["lm_head", "norm"]}, saved_modules),
    "head-and-embedding": (MISTRAL, {}, head_and_embedding),
}


def check_merge(bench, name):
    config, adapter, build = MERGES[name]
    for stored, asked, shards in (("f32", None, 1), ("bf16", None, 3), ("f16", "f32", 1),
                                  ("bf16", "bf16", 1), ("f32", "bf16", 2)):
        root, made = bench.setup(config, adapter, build, stored, shards)
        flags = ["--type", asked] if asked else []
        said = json.loads(bench.merge(root, "--json", *flags))
        expect_model(f"{root}/out", made.merged, asked or stored)
        loss = said["rounding"]
        exact = {"f32": 1e-6, "f16": 2e-3, "bf16": 1e-2}[asked or stored]
        if not loss["relative"] <= exact or loss["relative"] == 0:
            raise Failure(f"rounding loses {loss}")
        with open(f"{root}/out/config.json") as file:
            found = json.load(file)
        word = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}
        if asked and found.get("torch_dtype", found.get("dtype")) != word[asked]:
            raise Failure(f"config.json says {found}")


def check_report(bench):
    """The report's numbers, from the weights themselves."""
    root, made = bench.setup(LLAMA, {}, all_linears, "bf16")
    said = json.loads(bench.merge(root, "--json"))
    found, _ = read_model(f"{root}/out")
    lost = exact = change = largest = 0.0
    for name, value in made.merged.items():
        if not any(f".{linear}." in name for linear in LINEARS):
            continue
        difference = found[name][0].astype(np.float64) - value
        lost += (difference**2).sum()
        exact += (value**2).sum()
        change += ((value - made.base[name]) ** 2).sum()
        largest = max(largest, np.abs(difference).max())
    for key, expected in (("relative", np.sqrt(lost / exact)), ("maximum", largest),
                          ("relative_to_change", np.sqrt(lost / change))):
        if not abs(said["rounding"][key] - expected) <= 1e-3 * expected:
            raise Failure(f"{key} is {said['rounding'][key]}, not {expected}")
    if (said["merged"], said["replaced"]) != (14, 0):
        raise Failure(f"counts {said}")


def check_files(bench):
    """Shards, companions, and that nothing else is left."""
    root, made = bench.setup(LLAMA, {}, all_linears, "bf16")
    with open(f"{root}/model/tokenizer.json", "w") as file:
        file.write("{}")
    with open(f"{root}/model/generation_config.json", "w") as file:
        file.write('{"eos_token_id": 2}')
    os.makedirs(f"{root}/out")
    said = bench.merge(root, "--shard-size", "60KB")
    if "14 modules merged" not in said or "rounding loses at most" not in said:
        raise Failure(f"says: {said}")
    files = expect_model(f"{root}/out", made.merged, "bf16")
    if files < 3:
        raise Failure(f"{files} files")
    left = {f for f in os.listdir(f"{root}/out") if not f.startswith("model-")}
    if left != {"config.json", "generation_config.json", "model.safetensors.index.json",
                "tokenizer.json"}:
        raise Failure(f"left {left}")
    # Not into a directory that has something, and not over the model.
    said = bench.merge(root, code=64)
    if "is not empty" not in said:
        raise Failure(f"says: {said}")


def check_tied(bench):
    tied = {**LLAMA, "tie_word_embeddings": True}
    root, made = bench.setup(tied, {}, all_linears)
    bench.merge(root)
    expect_model(f"{root}/out", made.merged, "f32")
    # The class's default is left out of config.json; the files show it.
    config = {key: value for key, value in tied.items() if key != "tie_word_embeddings"}
    with open(f"{root}/model/config.json", "w") as file:
        json.dump(config, file)
    shutil.rmtree(f"{root}/out")
    bench.merge(root)
    expect_model(f"{root}/out", made.merged, "f32")

    def head(made):
        table = made.base["model.embed_tokens.weight"]
        made.base["lm_head.weight"] = table
        made.merged["lm_head.weight"] = table.astype(np.float64)
        made.linear("lm_head")

    root, made = bench.setup(tied, {"target_modules": ["lm_head"]}, head)
    said = bench.merge(root, code=64)
    if "changes the head, but the model has one table" not in said or "--untie" not in said:
        raise Failure(f"says: {said}")
    bench.merge(root, "--untie")
    expect_model(f"{root}/out", made.merged, "f32")
    with open(f"{root}/out/config.json") as file:
        if json.load(file)["tie_word_embeddings"] is not False:
            raise Failure("config.json still ties")

    def both(made):
        made.whole("model.embed_tokens.weight")
        key = PREFIX + "lm_head.weight"
        made.tensors[key] = made.tensors[PREFIX + "model.embed_tokens.weight"]

    root, made = bench.setup(tied, {"modules_to_save": ["lm_head", "embed_tokens"]}, both)
    bench.merge(root)
    expect_model(f"{root}/out", made.merged, "f32")


def check_memory(bench):
    """A table of 256 MB, with an adapter, in far less than three of them."""
    root = bench.fresh()
    config = {**LLAMA, "hidden_size": 2048, "vocab_size": 65536, "num_hidden_layers": 1,
              "intermediate_size": 64}
    case = case_of(config, {"target_modules": ["lm_head", "embed_tokens"]}, "bf16")
    os.makedirs(f"{root}/model")
    with open(f"{root}/model/config.json", "w") as file:
        json.dump(config, file)
    table = np.zeros((65536, 2048), np.float32)
    base = {"model.embed_tokens.weight": table, "lm_head.weight": table}
    tensor_file.save_tensors(f"{root}/model/model.safetensors", base, "bf16")
    made = Adapter(case, base)
    made.put("model.embed_tokens.lora_embedding_A", (4, 65536), 0.5)
    made.put("model.embed_tokens.lora_embedding_B", (2048, 4), 0.5)
    made.put("lm_head.lora_A.weight", (4, 2048), 0.5)
    made.put("lm_head.lora_B.weight", (65536, 4), 0.5)
    made.write(f"{root}/adapter")
    command = [f"{bench.binaries}/peftc", "merge", f"{root}/model", "--adapter",
               f"{root}/adapter", "-o", f"{root}/out", "--quiet"]
    script = ("import resource, subprocess, sys; done = subprocess.run(sys.argv[1:]); "
              "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); "
              "sys.exit(done.returncode)")
    done = subprocess.run([sys.executable, "-c", script, *command], capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure(done.stdout + done.stderr)
    resident = int(done.stdout.split()[-1]) * 1024
    if resident > 2 * 2**28:
        raise Failure(f"{resident >> 20} MiB resident for tensors of 256 MiB")


def check_quantized(bench):
    """Onto what the codes stand for; the original is only compared with."""
    for quantize, flags in ((quantized_file.nf4, {"load_in_4bit": True}),
                            (quantized_file.nf4_nested, {"load_in_4bit": True}),
                            (quantized_file.int8, {"load_in_8bit": True})):
        root, made = bench.setup(LLAMA, {}, all_linears)
        os.rename(f"{root}/model", f"{root}/original")
        os.makedirs(f"{root}/model")
        config = {**LLAMA, "quantization_config": {"quant_method": "bitsandbytes", **flags}}
        with open(f"{root}/model/config.json", "w") as file:
            json.dump(config, file)
        tensors, quantized = {}, {}
        for name, values in made.base.items():
            if any(f".{linear}.weight" in name for linear in LINEARS):
                kept = quantize(name, values, tensors)
                quantized[name] = kept.astype(np.float64) - values
                made.merged[name] = made.merged[name] + quantized[name]
            else:
                tensors[name] = ("F32", values)
        quantized_file.save(f"{root}/model/model.safetensors", tensors)
        said = json.loads(bench.merge(root, "--json", "--type", "f32", "--compare",
                                      f"{root}/original"))
        expect_model(f"{root}/out", made.merged, "f32")
        with open(f"{root}/out/config.json") as file:
            if "quantization_config" in json.load(file):
                raise Failure("config.json still says that it is quantized")
        if (said["dequantized"], said["merged"]) != (14, 14):
            raise Failure(f"counts {said}")
        off = np.sqrt(sum((each**2).sum() for each in quantized.values())
                      / sum((made.merged[name] ** 2).sum() for name in quantized))
        if not abs(said["compared"]["relative"] - off) <= 1e-3 * off:
            raise Failure(f"the original is {said['compared']}, expected {off}")
        if not said["rounding"]["relative"] < 1e-6:
            raise Failure(f"rounding loses {said['rounding']}")


def check_refusals(bench):
    """(what is wrong with the adapter, exit code, what the message says)"""
    q = PREFIX + "model.layers.0.self_attn.q_proj"

    def without_b(made):
        del made.tensors[q + ".lora_B.weight"]

    def nan(made):
        made.tensors[q + ".lora_A.weight"][1, 3] = np.nan

    def other_rank(made):
        made.tensors[q + ".lora_A.weight"] = made.tensors[q + ".lora_A.weight"][:3]
        made.tensors[q + ".lora_B.weight"] = made.tensors[q + ".lora_B.weight"][:, :3]

    def other_model(made):
        for part in ("A", "B"):
            name = f"{q}.lora_{part}.weight"
            made.tensors[name.replace("layers.0", "layers.7")] = made.tensors.pop(name)

    def too_wide(made):
        made.tensors[q + ".lora_A.weight"] = models.uniform("x", (4, 80), 1.0)

    def foreign(made):
        made.tensors[q + ".ia3_l"] = np.ones((64, 1), np.float32)

    def token(made):
        key = PREFIX + "model.embed_tokens.token_adapter.trainable_tokens_delta"
        made.tensors[key] = np.ones((2, 64), np.float32)

    def no_prefix(made):
        made.tensors["lm_head.weight"] = made.base["lm_head.weight"]

    def resized(made):
        made.tensors[PREFIX + "lm_head.weight"] = models.uniform("y", (303, 64), 1.0)

    def bias(made):
        made.put("model.layers.0.self_attn.q_proj.lora_B.bias", (64,), 1.0)

    def huge(made):
        made.tensors[q + ".lora_B.weight"] *= np.float32(1e6)

    for change, flags, code, words in (
            (without_b, [], 65, "has only one of its two LoRA factors"),
            (nan, [], 65, "lora_A.weight holds nan at element 67"),
            (other_rank, [], 65, "have rank 3, but the config gives the module rank 4"),
            (other_model, [], 65, "which"),
            (too_wide, [], 65, "does not fit model.layers.0.self_attn.q_proj.weight"),
            (foreign, [], 65, "IA3"),
            (token, [], 65, "trainable tokens"),
            (no_prefix, [], 65, "does not start with base_model.model."),
            (resized, [], 65, "a resized vocabulary is not in this version"),
            (bias, [], 65, "lora_bias"),
            (huge, ["--type", "f16"], 65, "more than f16 can hold")):
        root, _ = bench.setup(LLAMA, {}, lambda made: change(
            made.linear("model.layers.0.self_attn.q_proj")))
        said = bench.merge(root, *flags, code=code)
        if words not in said:
            raise Failure(f"{change.__name__}: says {said}")
        if os.path.exists(f"{root}/out"):
            raise Failure(f"{change.__name__}: left {os.listdir(f'{root}/out')}")
    root, _ = bench.setup({**LLAMA, "quantization_config": {"quant_method": "gptq"}}, {},
                          all_linears)
    if "gptq" not in bench.merge(root, code=65):
        raise Failure("GPTQ is not named")
    root, _ = bench.setup(LLAMA, {"peft_type": "IA3"}, all_linears)
    if "IA3" not in bench.merge(root, code=65):
        raise Failure("IA3 is not named")


def interleave(rows, heads):
    """llama.cpp's order of the rows of q and k."""
    size = rows.shape[0] // heads
    return rows.reshape(heads, 2, size // 2, -1).swapaxes(1, 2).reshape(rows.shape)


def check_gguf(bench):
    names = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output",
             "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"}
    for config, architecture in ((LLAMA, "llama"), (MISTRAL, "llama"), (QWEN2, "qwen2"),
                                 (QWEN3, "qwen3")):
        root, made = bench.setup(config, PATTERNS, all_linears, "bf16")
        bench.export(root)
        reader = gguf.GGUFReader(f"{root}/out.gguf")
        fields = {key: field.contents() for key, field in reader.fields.items()}
        if (fields["general.architecture"], fields["general.type"], fields["adapter.type"]) != (
                architecture, "adapter", "lora"):
            raise Failure(f"fields {fields}")
        tensors = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
        if len(tensors) != 2 * 7 * config["num_hidden_layers"]:
            raise Failure(f"{len(tensors)} tensors")
        for layer in range(config["num_hidden_layers"]):
            for name, block in LINEARS.items():
                module = f"model.layers.{layer}.{block}.{name}"
                a = made.tensors[f"{PREFIX}{module}.lora_A.weight"]
                b = made.tensors[f"{PREFIX}{module}.lora_B.weight"].astype(np.float64)
                heads = {"q_proj": config["num_attention_heads"],
                         "k_proj": config["num_key_value_heads"]}.get(name)
                if heads and architecture == "llama":
                    b = interleave(b, heads)
                place = f"blk.{layer}.{names[name]}.weight"
                found = tensors[f"{place}.lora_b"] * (
                    fields["adapter.lora.alpha"] / a.shape[0])
                if not np.array_equal(tensors[f"{place}.lora_a"], a):
                    raise Failure(f"{place}.lora_a")
                if not np.allclose(found, b * made.scale(module, a.shape[0]), rtol=1e-6):
                    raise Failure(f"{place}.lora_b")


def check_gguf_refusals(bench):
    tied = {**LLAMA, "tie_word_embeddings": True}

    def tied_head(made):
        made.base["lm_head.weight"] = made.base["model.embed_tokens.weight"]
        made.merged["lm_head.weight"] = made.merged["model.embed_tokens.weight"]
        made.linear("lm_head")

    for config, build, words in (
            (LLAMA, saved_modules, "is saved whole"),
            (LLAMA, lambda made: made.embedding("model.embed_tokens"), "an adapted embedding"),
            (QWEN2, lambda made: all_linears(made, dora=True), "is a DoRA module"),
            (QWEN2, with_biases, "has a bias of its own"),
            (tied, tied_head, "has one table for it and the embedding")):
        root, _ = bench.setup(config, {}, build)
        said = bench.export(root, code=65)
        if words not in said or os.path.exists(f"{root}/out.gguf"):
            raise Failure(f"{words}: says {said}")


CHECKS = {f"merge/{name}": lambda bench, name=name: check_merge(bench, name) for name in MERGES}
CHECKS |= {"merge/report": check_report, "merge/files": check_files, "merge/tied": check_tied,
           "merge/quantized": check_quantized, "merge/memory": check_memory,
           "merge/refusals": check_refusals, "gguf/values": check_gguf,
           "gguf/refusals": check_gguf_refusals}


def main(checks, description):
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True)
    options = parser.parse_args()
    passed = failed = 0
    with tempfile.TemporaryDirectory() as root:
        bench = Bench(root, os.path.abspath(options.bin))
        for name, check in checks.items():
            try:
                check(bench)
                print(f"PASS {name}", flush=True)
                passed += 1
            except Failure as failure:
                print(f"FAIL {name}: {failure}", flush=True)
                failed += 1
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(CHECKS, __doc__))
