"""What peft-run says, and does not do, when its input is wrong.

usage: bad_input_test.py --bin DIR [--only NAME]

A table of cases: arguments or files that are wrong, the exit code, a part of
the message. Each runs under a limit of address space and may leave nothing in
the output directory. The last line counts what passed.
"""

import argparse
import json
import os
import re
import resource
import shutil
import struct
import subprocess
import sys
import tempfile

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "golden"))
from tensor_file import load_tensors, save_tensors  # noqa: E402

ADDRESS_SPACE = 1 << 30
PIPE = subprocess.PIPE
FULL = os.open("/dev/full", os.O_WRONLY)
VOCAB, HIDDEN, SEQ = 64, 16, 8
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCAB,
    "hidden_size": HIDDEN,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "float32",
    "eos_token_id": 1,
}
NORM = "model.layers.1.input_layernorm.weight"
UP = "model.layers.1.mlp.up_proj.weight"


def model_tensors():
    random = np.random.default_rng(7)

    def matrix(*shape):
        return random.standard_normal(shape, np.float32) * np.float32(0.1)

    tensors = {"model.embed_tokens.weight": matrix(VOCAB, HIDDEN)}
    for layer in range(2):
        at = f"model.layers.{layer}."
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{at}{name}.weight"] = np.ones(HIDDEN, np.float32)
        for name, out, into in (
            ("self_attn.q_proj", HIDDEN, HIDDEN),
            ("self_attn.k_proj", HIDDEN // 2, HIDDEN),
            ("self_attn.v_proj", HIDDEN // 2, HIDDEN),
            ("self_attn.o_proj", HIDDEN, HIDDEN),
            ("mlp.gate_proj", 32, HIDDEN),
            ("mlp.up_proj", 32, HIDDEN),
            ("mlp.down_proj", HIDDEN, 32),
        ):
            tensors[f"{at}{name}.weight"] = matrix(out, into)
    tensors["model.norm.weight"] = np.ones(HIDDEN, np.float32)
    return tensors


def write(path, data):
    with open(path, "wb" if isinstance(data, bytes) else "w") as file:
        file.write(data)


def header_and_data(path):
    with open(path, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        return json.loads(file.read(size)), file.read()


def raw_safetensors(path, header, data, size=None):
    """A file whose header is whatever the case wants."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    write(path, struct.pack("<Q", len(text) if size is None else size) + text + data)


class Workshop:
    """A good model, plan and data set; a case breaks a copy of it."""

    def __init__(self, root, binaries):
        self.root, self.binaries = root, binaries
        os.makedirs(f"{root}/model")
        write(f"{root}/model/config.json", json.dumps(CONFIG))
        save_tensors(f"{root}/model/model.safetensors", model_tensors())
        self.rows("data", np.arange(4 * SEQ, dtype=np.int32).reshape(4, SEQ))
        for name, flags in (("lora", ["--lora-rank", "2"]), ("all", ["--train", "all"])):
            self.compile(name, flags)
        self.train_once()

    def compile(self, name, flags, model="model", seq=SEQ):
        command = [f"{self.binaries}/peftc", "compile", f"{self.root}/{model}"]
        command += ["--seq", str(seq), "--batch", "2", "--compute", "f32"]
        command += [*flags, "-o", f"{self.root}/{name}.plan", "--quiet"]
        subprocess.run(command, check=True)

    def train_once(self):
        command = [f"{self.binaries}/peft-run", f"{self.root}/lora.plan"]
        command += ["--model", f"{self.root}/model", "-o", f"{self.root}/good"]
        command += ["--data", f"{self.root}/data.safetensors", "--steps", "2"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def rows(self, name, ids, labels=None, **more):
        tensors = {"input_ids": ids, "labels": ids if labels is None else labels}
        save_tensors(f"{self.root}/{name}.safetensors", {**tensors, **more})

    def tensors(self, change):
        """Rewrites the model's weights after `change` did something to them."""
        tensors = model_tensors()
        change(tensors)
        save_tensors(f"{self.root}/model/model.safetensors", tensors)

    def raw(self, name, change):
        """Rewrites a file from the header and data that `change` returns."""
        path = f"{self.root}/{name}.safetensors"
        header, data = header_and_data(path)
        raw_safetensors(path, *change(header, data))

    def bytes(self, name, change):
        with open(f"{self.root}/{name}", "rb") as file:
            data = bytearray(file.read())
        write(f"{self.root}/{name}", bytes(change(data)))


CASES = []


def case(name, code, message, flags=None, prepare=None, replace=None, env=None):
    """`flags` are added to a good training command; `replace` is the whole
    command instead; `prepare` breaks the workshop."""
    CASES.append((name, code, message, flags or [], prepare, replace, env or {}))


# Flags -------------------------------------------------------------------

case("no arguments", 64, "which plan", replace=[])
case("unknown flag", 64, "--stpes", ["--stpes", "3"])
case("steps not a number", 64, "--steps", ["--steps", "many"])
case("steps zero", 64, "--steps must be between", ["--steps", "0"])
case("steps negative", 64, "--steps", ["--steps", "-3"])
case("steps beyond 31 bits", 64, "--steps", ["--steps", "3000000000"])
case("steps and epochs", 64, "--epochs", ["--steps", "1", "--epochs", "1"])
case("epochs negative", 64, "--epochs must be above 0", ["--epochs", "-1"])
case("epochs beyond counting", 64, "--epochs", ["--epochs", "1e300"])
case("rate not a number", 64, "--lr", ["--lr", "fast"])
case("rate NaN", 64, "--lr must be", ["--lr", "nan"])
case("rate infinite", 64, "--lr must be", ["--lr", "inf"])
case("rate negative", 64, "--lr must be at least 0", ["--lr", "-1e-4"])
case("beta of one", 64, "--beta1 must be at least 0 and below 1", ["--beta1", "1"])
case("epsilon negative", 64, "--epsilon", ["--epsilon", "-1"])
case("decay negative", 64, "--weight-decay", ["--weight-decay", "-0.1"])
case("norm negative", 64, "--max-grad-norm", ["--max-grad-norm", "-1"])
case("accumulation zero", 64, "--grad-accum", ["--grad-accum", "0"])
case("warm-up negative", 64, "--warmup-steps", ["--warmup-steps", "-1"])
case("seed negative", 64, "--seed", ["--seed", "-1"])
case("unknown schedule", 64, "must be one of constant, cosine, linear, found 'stepwise'",
     ["--schedule", "stepwise"])
case("threads zero", 64, "--threads", ["--threads", "0"])
case("threads above the plan's", 64, "9", ["--threads", "9"])
case("cuda without its library", 78, "--device cuda: PEFT_CUDA_PLUGIN names nowhere.so",
     ["--device", "cuda"], env={"PEFT_CUDA_PLUGIN": "nowhere.so"})
case("a library that is no plug-in", 78, "is no plug-in of peft-run", ["--device", "cuda:1"],
     env={"PEFT_CUDA_PLUGIN": "/lib/x86_64-linux-gnu/libc.so.6"})
case("unknown device", 64, "tpu", ["--device", "tpu"])
case("unknown path", 64, "PEFT_CPU", env={"PEFT_CPU": "neon"})
for later in ("--resume", "--save-every=5", "--eval-every=5", "--keep=2"):
    case(f"later: {later}", 64, "not in this version", [later])
case("no model", 64, "--model is needed", replace=["lora.plan", "--data", "d", "-o", "o"])
case("nothing to do", 64, "nothing to do", replace=["lora.plan", "--model", "model"])
case("check and data", 64, "--check", ["--check"])
case("adapter and no adapter", 64, "exclude each other",
     replace=["lora.plan", "--model", "model", "--generate", "x", "--adapter", "good",
              "--no-adapter"])
case("whose answers", 64, "--no-adapter for",
     replace=["lora.plan", "--model", "model", "--generate", "x"])
case("save dtype of an adapter", 64, "--train all", ["--save-dtype", "bf16"])
case("unknown save dtype", 64, "--save-dtype", ["--save-dtype", "i8"])
case("rate without data", 64, "--lr needs --data",
     replace=["lora.plan", "--model", "model", "--no-adapter", "--generate", "x",
              "--lr", "1e-3"])
case("schedule mode alone", 64, "--schedule-mode needs --schedule-seed",
     ["--schedule-mode", "interleave"])
case("answer length alone", 64, "--max-new-tokens needs", ["--max-new-tokens", "3"])
case("answers without prompts", 64, "--answers needs --prompts", ["--answers", "a.jsonl"])

# Plans -------------------------------------------------------------------

case("plan missing", 74, "missing.plan",
     replace=["missing.plan", "--model", "model", "--data", "data.safetensors", "-o", "OUT"])
case("plan a directory", (65, 74), "model",
     replace=["model", "--model", "model", "--data", "data.safetensors", "-o", "OUT"])
case("plan empty", 65, "lora.plan",
     prepare=lambda w: w.bytes("lora.plan", lambda b: b""))
case("plan truncated", 65, "lora.plan",
     prepare=lambda w: w.bytes("lora.plan", lambda b: b[: len(b) // 2]))
case("plan a text", 65, "lora.plan",
     prepare=lambda w: write(f"{w.root}/lora.plan", "this is not a plan, but a text\n" * 9))
case("plan with another identifier", 65, "lora.plan",
     prepare=lambda w: w.bytes("lora.plan", lambda b: b[:4] + b"TFEP" + b[8:]))
case("plan with an offset out of the file", 65, "lora.plan",
     prepare=lambda w: w.bytes("lora.plan", lambda b: b"\xff\xff\xff\x7f" + b[4:]))


def another_model(w):
    """The plan was made for a model with a wider MLP."""
    config = {**CONFIG, "intermediate_size": 48}
    write(f"{w.root}/model/config.json", json.dumps(config))

    def widen(tensors):
        for name, values in tensors.items():
            if "mlp.down" in name:
                tensors[name] = np.zeros((HIDDEN, 48), np.float32)
            elif "mlp" in name:
                tensors[name] = np.zeros((48, HIDDEN), np.float32)

    w.tensors(widen)


case("plan of another model", 65, re.escape("the plan needs f32[32, 16]"),
     prepare=another_model)

case("plan of a model with another RoPE", 65, "rope_theta is 10000, that of model is 500",
     prepare=lambda w: write(f"{w.root}/model/config.json",
                             json.dumps({**CONFIG, "rope_theta": 500.0})))
case("plan of a shallower model", 65, "num_hidden_layers is 2, that of model is 3",
     prepare=lambda w: (
         write(f"{w.root}/model/config.json",
               json.dumps({**CONFIG, "num_hidden_layers": 3})),
         w.tensors(lambda t: t.update({
             name.replace("layers.1", "layers.2"): values
             for name, values in list(t.items()) if "layers.1" in name}))))

# Models ------------------------------------------------------------------

weights = "model/model"


def only(w, *keep):
    for name in os.listdir(f"{w.root}/model"):
        if name not in keep:
            os.remove(f"{w.root}/model/{name}")


def unsafe_weights(w):
    only(w, "config.json")
    write(f"{w.root}/model/pytorch_model.bin", b"PK\x03\x04")


def pointer(w):
    write(f"{w.root}/model/model.safetensors",
          "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")


case("model missing", (65, 74), "nowhere",
     replace=["lora.plan", "--model", "nowhere", "--data", "data.safetensors", "-o", "OUT"])
case("model without weights", 65, "model", prepare=lambda w: only(w, "config.json"))
case("model a bare config", 65, "no weights",
     replace=["lora.plan", "--model", "model/config.json", "--data", "data.safetensors",
              "-o", "OUT"])
case("weights as .bin", 65, "bin", prepare=unsafe_weights)
case("weights a Git LFS pointer", 65, "LFS", prepare=pointer)
case("config missing", (65, 74), "config.json",
     prepare=lambda w: only(w, "model.safetensors"))
case("weights truncated", 65, "model.safetensors",
     prepare=lambda w: w.bytes(f"{weights}.safetensors", lambda b: b[:-10]))
case("weights cut in the header", 65, "model.safetensors",
     prepare=lambda w: w.bytes(f"{weights}.safetensors", lambda b: b[:100]))
case("weights of seven bytes", 65, "model.safetensors",
     prepare=lambda w: w.bytes(f"{weights}.safetensors", lambda b: b[:7]))
case("weights with bytes behind", 65, "model.safetensors",
     prepare=lambda w: w.bytes(f"{weights}.safetensors", lambda b: b + b"more"))
case("weight of another shape", 65, UP,
     prepare=lambda w: w.tensors(lambda t: t.update({UP: np.zeros((32, 15), np.float32)})))
case("weight missing", 65, UP, prepare=lambda w: w.tensors(lambda t: t.pop(UP)))
case("weights of another type", 65, "bf16",
     prepare=lambda w: save_tensors(f"{w.root}/model/model.safetensors", model_tensors(),
                                    "bf16"))
case("index names a missing shard", 65, "model-00002",
     prepare=lambda w: (only(w, "config.json", "model.safetensors"),
                        write(f"{w.root}/model/model.safetensors.index.json", json.dumps(
                            {"weight_map": {UP: "model-00002-of-00002.safetensors"}})),
                        os.remove(f"{w.root}/model/model.safetensors")))

# Header lies -------------------------------------------------------------


def entry(**change):
    def apply(header, data):
        header[UP].update(change)
        return header, data

    return lambda w: w.raw(weights, apply)


def overlap(header, data):
    header[UP]["data_offsets"] = header[NORM]["data_offsets"]
    header[UP]["shape"] = header[NORM]["shape"]
    return header, data


def twice(header, data):
    text = json.dumps(header)
    return (text[:-1] + f', "{UP}": ' + json.dumps(header[UP]) + "}").encode(), data


case("header longer than the file", 65, "model.safetensors",
     prepare=lambda w: w.raw(weights, lambda h, d: (h, d, 1 << 20)))
case("header of 2^63 bytes", 65, "model.safetensors",
     prepare=lambda w: w.raw(weights, lambda h, d: (h, d, 1 << 63)))
case("header of no bytes", 65, "model.safetensors",
     prepare=lambda w: w.raw(weights, lambda h, d: (h, d, 0)))
case("header not JSON", 65, "model.safetensors",
     prepare=lambda w: w.raw(weights, lambda h, d: (b"{not json}", d)))
case("header a list", 65, "model.safetensors",
     prepare=lambda w: w.raw(weights, lambda h, d: (b"[]", d)))
case("header too deep", 65, "model.safetensors",
     prepare=lambda w: w.raw(weights, lambda h, d: (b'{"a":' + b"[" * 100000, d)))
case("header not UTF-8", 65, "model.safetensors",
     prepare=lambda w: w.raw(weights, lambda h, d: (b'{"\xff\xfe": 1}', d)))
case("tensor twice", 65, "model.safetensors", prepare=lambda w: w.raw(weights, twice))
case("tensors overlap", 65, "model.safetensors", prepare=lambda w: w.raw(weights, overlap))
case("offsets backwards", 65, UP, prepare=entry(data_offsets=[64, 0]))
case("offsets beyond the file", 65, UP, prepare=entry(data_offsets=[0, 1 << 40]))
case("offsets negative", 65, UP, prepare=entry(data_offsets=[-8, 0]))
case("offsets not a pair", 65, UP, prepare=entry(data_offsets=[0]))
case("shape and bytes disagree", 65, UP, prepare=entry(shape=[32, 17]))
case("shape overflows", 65, UP, prepare=entry(shape=[1 << 62, 1 << 62]))
case("shape negative", 65, UP, prepare=entry(shape=[-32, -16]))
case("shape a word", 65, UP, prepare=entry(shape="big"))
case("type unknown", 65, UP, prepare=entry(dtype="F33"))
case("type missing", 65, UP, prepare=lambda w: w.raw(
    weights, lambda h, d: ((h[UP].pop("dtype"), h)[1], d)))

# Data --------------------------------------------------------------------

ids = np.arange(4 * SEQ, dtype=np.int32).reshape(4, SEQ)


def changed(row, column, value):
    copy = ids.copy()
    copy[row, column] = value
    return copy


def data(labels=None, values=ids, **more):
    return lambda w: w.rows("data", values, labels, **more)


def with_data(name):
    return ["lora.plan", "--model", "model", "--data", name, "-o", "OUT"]


case("data missing", 74, "nothing.safetensors", replace=with_data("nothing.safetensors"))
case("data missing (text)", 74, "nothing.jsonl", replace=with_data("nothing.jsonl"))
case("data without labels", 65, "labels", prepare=lambda w: save_tensors(
    f"{w.root}/data.safetensors", {"input_ids": ids}))
case("data without ids", 65, "input_ids", prepare=lambda w: save_tensors(
    f"{w.root}/data.safetensors", {"labels": ids}))
case("ids are floats", 65, "input_ids", prepare=lambda w: save_tensors(
    f"{w.root}/data.safetensors", {"input_ids": ids.astype(np.float32), "labels": ids}))
case("labels of another shape", 65, "labels", prepare=data(ids[:3]))
case("one dimension", 65, "input_ids", prepare=data(ids[0], ids[0]))
case("no rows", 65, "data.safetensors", prepare=data(ids[:0], ids[:0]))
case("id beyond the vocabulary", 65, "64", prepare=data(values=changed(2, 3, 64)))
case("id negative", 65, "-1", prepare=data(values=changed(2, 3, -1), labels=ids))
case("label beyond the vocabulary", 65, "64", prepare=data(changed(3, 7, 64)))
case("label negative", 65, "-50", prepare=data(changed(3, 7, -50)))
case("nothing is trained", 65, "trained", prepare=data(np.full_like(ids, -100)))
case("only first tokens are labelled", 65, "trained", prepare=data(np.where(
    np.arange(SEQ) == 0, ids, -100).astype(np.int32)))
case("rows longer than the plan", 65, "--seq 9", prepare=data(
    values=np.ones((2, SEQ + 1), np.int32)))
case("position negative", 65, "position_ids", prepare=data(
    position_ids=np.full_like(ids, -1)))
case("segments of another shape", 65, "segment_ids", prepare=data(segment_ids=ids[:1]))
case("data truncated", 65, "data.safetensors",
     prepare=lambda w: w.bytes("data.safetensors", lambda b: b[:-4]))
case("data of another ending", 65, "neither .jsonl", replace=with_data("rows.csv"),
     prepare=lambda w: write(f"{w.root}/rows.csv", "a,b\n"))
case("text without a tokenizer", 65, "tokenizer.json", replace=with_data("text.jsonl"),
     prepare=lambda w: write(f"{w.root}/text.jsonl", '{"text": "hello"}\n'))
case("text, but nowhere to keep tokens", 74, "set XDG_CACHE_HOME",
     replace=with_data("text.jsonl"), env={"XDG_CACHE_HOME": "/proc/none"},
     prepare=lambda w: (write(f"{w.root}/text.jsonl", '{"text": "hello"}\n'),
                        write(f"{w.root}/model/tokenizer.json", "{}")))
case("evaluation data missing", 74, "none.safetensors",
     ["--eval-data", "none.safetensors"])
case("evaluation id beyond the vocabulary", 65, "64", ["--eval-data", "eval.safetensors"],
     prepare=lambda w: w.rows("eval", changed(0, 0, 64)))

# Values ------------------------------------------------------------------


def poke(name, index, value):
    def apply(tensors):
        tensors[name][index] = value

    return lambda w: w.tensors(apply)


case("NaN in a weight", 76, re.escape(f"{UP} [5, 3] is NaN"),
     prepare=poke(UP, (5, 3), np.nan))
case("infinity in a norm", 76, re.escape(f"{NORM} [4] is infinite"),
     prepare=poke(NORM, 4, np.inf))
case("NaN names the rows", 76, r"step 1: .* rows \d", prepare=poke(UP, (0, 0), np.nan))
case("NaN with --train all", 76, re.escape(f"{UP} [5, 3] is NaN"),
     prepare=poke(UP, (5, 3), np.nan),
     replace=["all.plan", "--model", "model", "--data", "data.safetensors", "-o", "OUT"])
case("a rate that blows up", 76, "not finite",
     ["--lr", "1000", "--steps", "60", "--schedule", "constant", "--max-grad-norm", "0"],
     prepare=poke(UP, (0, 0), 3e38))

# Adapters, prompts and outputs -------------------------------------------


def adapter_tensors(w, change):
    path = f"{w.root}/good/adapter_model.safetensors"
    tensors, _ = load_tensors(path)
    change(tensors)
    save_tensors(path, tensors)


def first(tensors, part="lora_A"):
    return next(name for name in sorted(tensors) if part in name)


def adapter_config(w, **change):
    path = f"{w.root}/good/adapter_config.json"
    with open(path) as file:
        config = json.load(file)
    write(path, json.dumps({**config, **change}))


start = ["--init-adapter", "good"]
case("adapter missing", (65, 74), "nowhere", ["--init-adapter", "nowhere"])
case("adapter lacks a key", 65, "1 missing key", start,
     prepare=lambda w: adapter_tensors(w, lambda t: t.pop(first(t))))
case("adapter has a key too many", 65, "1 unexpected key", start,
     prepare=lambda w: adapter_tensors(w, lambda t: t.update(
         {"base_model.model.lm_head.lora_A.weight": np.zeros((2, 2), np.float32)})))
case("adapter tensor of another shape", 65, "the plan needs", start,
     prepare=lambda w: adapter_tensors(w, lambda t: t.update(
         {first(t): np.zeros((3, 3), np.float32)})))
case("adapter NaN", 76, "trained tensor .*lora_A", start,
     prepare=lambda w: adapter_tensors(w, lambda t: t[first(t)].fill(np.nan)))
case("not bad: A is zero while B is not", 0, "^$", [*start, "--quiet", "--steps", "1"],
     prepare=lambda w: adapter_tensors(w, lambda t: [
         values.fill("lora_B" in name) for name, values in t.items()]))
case("not bad: PEFT saved the base layer of an adapted module", 0, "^$",
     [*start, "--quiet", "--steps", "1"],
     prepare=lambda w: adapter_tensors(w, lambda t: t.update(
         {first(t).replace("lora_A", "base_layer"): np.ones((2, 2), np.float32)})))
case("not bad: every trained token sees only itself", 0, "^$", ["--quiet", "--steps", "1"],
     prepare=lambda w: w.rows("data", np.ones((4, SEQ), np.int32), np.repeat(
         np.array([[-100, 3] + [-100] * (SEQ - 2)], np.int32), 4, axis=0)))
case("adapter of another rank", 65, " r is not", start,
     prepare=lambda w: adapter_config(w, r=4))
case("adapter of another scale", 65, "lora_alpha", start,
     prepare=lambda w: adapter_config(w, lora_alpha=7))
case("adapter with an unknown feature", 65, "lora_bias", start,
     prepare=lambda w: adapter_config(w, lora_bias=True))
case("adapter config not JSON", 65, "adapter_config.json", start,
     prepare=lambda w: write(f"{w.root}/good/adapter_config.json", "{"))
case("adapter for a whole model", 64, "no adapter",
     replace=["all.plan", "--model", "model", "--data", "data.safetensors", "-o", "OUT",
              "--init-adapter", "good"])
case("output is a file", 74, "OUT", prepare=lambda w: write(f"{w.root}/OUT", "mine"))
case("output below a file", 74, "data.safetensors/OUT",
     replace=["lora.plan", "--model", "model", "--data", "data.safetensors", "-o",
              "data.safetensors/OUT"])
case("output is the model", 64, "own directory",
     replace=["lora.plan", "--model", "model", "--data", "data.safetensors", "-o", "./model"])
case("gradients over the data", 64, "is an input of this run",
     ["--dump-gradients", "data.safetensors"])
case("gradients over the weights", 64, "never written",
     ["--dump-gradients", "model/model.safetensors"])
case("a head that differs from a tied embedding", 65, "tie_word_embeddings",
     prepare=lambda w: w.tensors(lambda t: t.update(
         {"lm_head.weight": np.ones((VOCAB, HIDDEN), np.float32)})))
case("a trained value that f16 cannot hold", 76, "norm.weight holds 9.*more than f16 can hold",
     replace=["all.plan", "--model", "model", "--data", "data.safetensors", "-o", "OUT",
              "--steps", "1", "--save-dtype", "f16"],
     prepare=lambda w: w.tensors(lambda t: t["model.norm.weight"].__setitem__(0, 9e4)))
case("gradients into nowhere", 74, "nowhere", ["--dump-gradients", "nowhere/g.safetensors"])


def ask(*more):
    return ["lora.plan", "--model", "model", "--adapter", "good", "--prompts", "p.jsonl", *more]


def prompts(text):
    return lambda w: write(f"{w.root}/p.jsonl", text)


case("prompts missing", 74, "p.jsonl", replace=ask())
case("prompts empty", 65, "no prompt", replace=ask(), prepare=prompts("\n\n"))
case("prompt not JSON", 65, "p.jsonl:2", replace=ask(), prepare=prompts('{"ids": [1]}\nhm\n'))
case("prompt a number", 65, "p.jsonl:1", replace=ask(), prepare=prompts("3\n"))
case("prompt id beyond the vocabulary", 65, "64", replace=ask(),
     prepare=prompts('{"ids": [1, 64]}\n'))
case("prompt without a token", 65, "no token", replace=ask(), prepare=prompts('{"ids": []}\n'))
case("prompt as long as the row", 65, "larger --seq", replace=ask(),
     prepare=prompts(json.dumps({"ids": [1] * SEQ}) + "\n"))
case("prompt text without a tokenizer", 65, "tokenizer.json", replace=ask(),
     prepare=prompts('"hello"\n'))

case("whole model over an adapter", 64, "holds an adapter",
     replace=["all.plan", "--model", "model", "--data", "data.safetensors", "-o", "good"])
case("adapter over a whole model", 64, "holds a whole model",
     prepare=lambda w: (os.makedirs(f"{w.root}/OUT"), write(f"{w.root}/OUT/model.safetensors", "")))
case("answers into a full output", 74, "cannot write the answers", replace=ask("--quiet"),
     prepare=prompts('{"ids": [1]}\n'))
case("a bad prompt is found before training", 65, "larger --seq",
     ["--prompts", "p.jsonl"], prepare=prompts(json.dumps({"ids": [1] * SEQ}) + "\n"))


def limit():
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))


def run_case(good, binaries, spec):
    """None, or what was wrong."""
    name, codes, message, flags, prepare, replace, env = spec
    codes = codes if isinstance(codes, tuple) else (codes,)
    with tempfile.TemporaryDirectory() as root:
        shutil.copytree(good.root, root, dirs_exist_ok=True)
        broken = object.__new__(Workshop)
        broken.root, broken.binaries = root, binaries
        if prepare:
            prepare(broken)
        before = snapshot(root)
        arguments = replace if replace is not None else [
            "lora.plan", "--model", "model", "--data", "data.safetensors", "-o", "OUT", *flags]
        done = subprocess.run([f"{binaries}/peft-run", *arguments], cwd=root,
                              preexec_fn=limit, env={**os.environ, **env},
                              stdout=FULL if "full output" in name else PIPE,
                              stderr=PIPE, text=True, errors="replace", timeout=60)
        problems = []
        if done.returncode not in codes:
            problems.append(f"exit code {done.returncode} instead of {codes}")
        if not re.search(message, done.stderr):
            problems.append(f"no /{message}/ in the message")
        if done.returncode and not done.stderr.rstrip().split("\n")[-1].startswith(
                "peft-run: error: "):
            problems.append("the last line is not the error")
        left = snapshot(root) - before
        # Code 0: input that only looks bad; then the result is to be left.
        if left and not (0 in codes or 76 in codes and left <= {"OUT", "OUT/metrics.jsonl"}):
            problems.append(f"left behind: {sorted(left)}")
        if problems:
            return "; ".join(problems) + f" ({done.stderr.strip()[-300:]})"
    return None


def snapshot(root):
    return {os.path.relpath(os.path.join(at, name), root)
            for at, directories, names in os.walk(root) for name in directories + names}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    binaries = os.path.abspath(options.bin)
    failed = count = 0
    with tempfile.TemporaryDirectory() as root:
        good = Workshop(root, binaries)
        for spec in CASES:
            if options.only not in spec[0]:
                continue
            count += 1
            problem = run_case(good, binaries, spec)
            failed += problem is not None
            print(f"FAIL {spec[0]}: {problem}" if problem else f"PASS {spec[0]}", flush=True)
    print(f"{count - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
