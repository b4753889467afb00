"""The models, adapters and tokens of the golden tests, made from seeds.

Only numpy integer arithmetic (splitmix64), so that every version of numpy on
every machine gives the same bits and the repository needs to store only what
torch computed (expected/*.safetensors). Both make_golden.py (with torch) and
run_golden.py (without) build the same files from here.
"""

import json
import math
import os
import zlib

import numpy as np

from cases import CASES
from tensor_file import save_tensors

SEGMENT_PADDING = -1
UNTRAINED = -100


def splitmix64(state):
    with np.errstate(over="ignore"):
        z = state + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def integers(name, count):
    """`count` 64-bit numbers that depend on nothing but `name`."""
    seed = np.uint64(zlib.crc32(name.encode())) << np.uint64(32)
    return splitmix64(splitmix64(seed + np.arange(count, dtype=np.uint64)))


def uniform(name, shape, bound):
    """float32 values in [-bound, bound), exact multiples of bound / 2^23."""
    count = math.prod(shape)
    mantissa = (integers(name, count) >> np.uint64(40)).astype(np.int64)
    values = (mantissa - (1 << 23)).astype(np.float64) * (bound / (1 << 23))
    return values.astype(np.float32).reshape(shape)


def below(name, limit):
    return int(integers(name, 1)[0] % np.uint64(limit))


def round_stored(values, stored):
    """float32 values as they come back from a file of the stored type."""
    if stored == "f16":
        return values.astype(np.float16).astype(np.float32)
    if stored == "bf16":
        bits = values.view(np.uint32)
        bits = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
        return (bits & np.uint32(0xFFFF0000)).view(np.float32)
    return values


def text_config(config):
    """The fields of the text model, which may be part of a larger one."""
    if "text_config" not in config:
        return config
    return {"model_type": config["model_type"], **config["text_config"]}


class Shape:
    """The numbers of a config.json that decide tensor shapes."""

    def __init__(self, config):
        self.root = "model.language_model" if "text_config" in config else "model"
        config = text_config(config)
        self.kind = config["model_type"]
        self.hidden = config["hidden_size"]
        self.inner = config["intermediate_size"]
        self.layers = config["num_hidden_layers"]
        self.heads = config["num_attention_heads"]
        self.kv_heads = config.get("num_key_value_heads", self.heads)
        self.head_dim = config.get("head_dim", self.hidden // self.heads)
        self.vocab = config["vocab_size"]
        self.gemma = self.kind.startswith("gemma")
        self.tied = config.get("tie_word_embeddings", self.gemma)
        bias = config.get("attention_bias", False)
        self.qkv_bias = bias or self.kind == "qwen2"
        self.o_bias = bias
        self.mlp_bias = config.get("mlp_bias", False)


def tensor_shapes(config):
    """Hugging Face name -> shape, in the order of the model."""
    s = Shape(config)
    shapes = {f"{s.root}.embed_tokens.weight": (s.vocab, s.hidden)}

    def linear(name, out, into, bias):
        shapes[f"{name}.weight"] = (out, into)
        if bias:
            shapes[f"{name}.bias"] = (out,)

    for i in range(s.layers):
        at = f"{s.root}.layers.{i}"
        shapes[f"{at}.input_layernorm.weight"] = (s.hidden,)
        query, key = s.heads * s.head_dim, s.kv_heads * s.head_dim
        if s.kind == "phi3":
            linear(f"{at}.self_attn.qkv_proj", query + 2 * key, s.hidden, False)
        else:
            linear(f"{at}.self_attn.q_proj", query, s.hidden, s.qkv_bias)
            linear(f"{at}.self_attn.k_proj", key, s.hidden, s.qkv_bias)
            linear(f"{at}.self_attn.v_proj", key, s.hidden, s.qkv_bias)
        linear(f"{at}.self_attn.o_proj", s.hidden, query, s.o_bias)
        if s.kind in ("qwen3", "gemma3", "gemma3_text"):
            shapes[f"{at}.self_attn.q_norm.weight"] = (s.head_dim,)
            shapes[f"{at}.self_attn.k_norm.weight"] = (s.head_dim,)
        shapes[f"{at}.post_attention_layernorm.weight"] = (s.hidden,)
        if s.gemma:
            shapes[f"{at}.pre_feedforward_layernorm.weight"] = (s.hidden,)
            shapes[f"{at}.post_feedforward_layernorm.weight"] = (s.hidden,)
        if s.kind == "phi3":
            linear(f"{at}.mlp.gate_up_proj", 2 * s.inner, s.hidden, False)
        else:
            linear(f"{at}.mlp.gate_proj", s.inner, s.hidden, s.mlp_bias)
            linear(f"{at}.mlp.up_proj", s.inner, s.hidden, s.mlp_bias)
        linear(f"{at}.mlp.down_proj", s.hidden, s.inner, s.mlp_bias)
    shapes[f"{s.root}.norm.weight"] = (s.hidden,)
    if not s.tied:
        shapes["lm_head.weight"] = (s.vocab, s.hidden)
    return shapes


def base_tensor(name, shape, stored):
    if name.endswith("norm.weight"):
        values = np.float32(1) + uniform(name, shape, 0.25)
    elif len(shape) == 1:
        values = uniform(name, shape, 0.2)
    elif name.endswith("embed_tokens.weight"):
        values = uniform(name, shape, 1.0)
    else:
        values = uniform(name, shape, math.sqrt(3.0 / shape[1]) * 1.3)
    return round_stored(values, stored)


def base_tensors(case):
    return {
        name: base_tensor(name, shape, case["stored"])
        for name, shape in tensor_shapes(case["config"]).items()
    }


def adapter_tensor(key, shape, base):
    """A trainable tensor of a PEFT adapter by its key: B is not zero, copies
    and biases differ from the base."""
    if ".lora_A." in key:
        return uniform(key, shape, 1 / math.sqrt(shape[1]))
    if ".lora_B." in key:
        return uniform(key, shape, 0.1)
    if key.endswith(".lora_magnitude_vector"):
        # The norms of base_tensor's rows are about 1.3.
        return np.float32(1.3) + uniform(key, shape, 0.2)
    name = key.removeprefix("base_model.model.").replace(".base_layer.", ".")
    return base[name] + uniform(key, shape, 0.05)


def write_model(case, directory):
    """A model directory: config.json and one or several safetensors files."""
    os.makedirs(directory, exist_ok=True)
    tensors = base_tensors(case)
    with open(os.path.join(directory, "config.json"), "w") as file:
        json.dump(case["config"], file, indent=2)
    shards = case["shards"]
    if shards == 1:
        save_tensors(
            os.path.join(directory, "model.safetensors"), tensors, case["stored"]
        )
        return tensors
    names = list(tensors)
    weight_map = {}
    for shard in range(shards):
        part = names[shard::shards]
        file_name = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        save_tensors(
            os.path.join(directory, file_name),
            {name: tensors[name] for name in part},
            case["stored"],
        )
        weight_map.update({name: file_name for name in part})
    width = 4 if case["stored"] == "f32" else 2
    total = width * sum(values.size for values in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    with open(
        os.path.join(directory, "model.safetensors.index.json"), "w"
    ) as file:
        json.dump(index, file, indent=2)
    return tensors


def starts_from_weights(case):
    """Whether A and B start as a function of the weights (PiSSA, OLoRA)."""
    start = (case["adapter"] or {}).get("init_lora_weights")
    return isinstance(start, str) and start.startswith(("pissa", "olora"))


def frozen_tensors(case, trainable):
    """What an adapter holds beside its trainable tensors: A of LoRA-FA."""
    shapes = tensor_shapes(case["config"])
    frozen = {}
    for name, values in trainable.items():
        if not case["lora_fa"] or ".lora_B." not in name:
            continue
        module = name.removeprefix("base_model.model.").split(".lora_B.")[0]
        key = name.replace(".lora_B.", ".lora_A.")
        shape = (values.shape[1], shapes[f"{module}.weight"][1])
        frozen[key] = adapter_tensor(key, shape, {})
    return frozen


def write_adapter(case, directory, tensors):
    """A PEFT adapter directory; `tensors` may be {} (only the config). What an
    adapter starts from is marked as peft-data marks it."""
    start = starts_from_weights(case)
    metadata = {"start_of": case["adapter"]["init_lora_weights"]} if start else None
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "adapter_config.json"), "w") as file:
        json.dump({"peft_type": "LORA", "task_type": "CAUSAL_LM",
                   **case["adapter"]}, file, indent=2, sort_keys=True)
    if tensors:
        save_tensors(
            os.path.join(directory, "adapter_model.safetensors"),
            tensors,
            "f32",
            metadata,
        )


def make_rows(case):
    """int32 arrays of all rows, in the order in which they are trained.

    Rows differ in how many tokens they train, so micro-batches do too. A case
    with segments packs two or three texts into a row and pads the rest.
    """
    rows = case["steps"] * case["accumulation"] * case["batch"]
    seq, name = case["seq"], case["name"]
    vocab = text_config(case["config"])["vocab_size"]
    draws = integers(f"{name}/ids", rows * seq) % np.uint64(vocab - 1)
    ids = draws.astype(np.int32).reshape(rows, seq) + 1
    labels = ids.copy()
    positions = np.tile(np.arange(seq, dtype=np.int32), (rows, 1))
    segments = np.zeros((rows, seq), np.int32)
    for row in range(rows):
        if case["segments"]:
            cuts = [seq // 3, 2 * seq // 3 + row % 3, seq - row % 4]
        else:
            cuts = [seq - 3 * (row % 3)]
        begin = 0
        for segment, end in enumerate(cuts):
            segments[row, begin:end] = segment
            positions[row, begin:end] = np.arange(end - begin)
            untrained = 1 + below(f"{name}/prompt/{row}/{segment}", end - begin - 2)
            labels[row, begin : begin + untrained] = UNTRAINED
            begin = end
        ids[row, begin:], labels[row, begin:] = 0, UNTRAINED
        segments[row, begin:] = SEGMENT_PADDING
        positions[row, begin:] = np.arange(seq - begin)
    # The second row of every step's first micro-batch trains nothing.
    labels[1 :: case["accumulation"] * case["batch"]] = UNTRAINED
    arrays = {"input_ids": ids, "labels": labels}
    if case["segments"]:
        arrays |= {"position_ids": positions, "segment_ids": segments}
    return arrays, segments


def hash_name(text):
    """The hash by which a plan names random numbers: FNV-1a, then splitmix64's
    finalizer."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return finalize(value)


def finalize(value):
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
    return value ^ value >> 31


def philox(counter, key):
    """Philox4x32-10 of arrays of counters, [..., 4] uint32."""
    words = [counter[..., i].astype(np.uint64) for i in range(4)]
    low, high = key & 0xFFFFFFFF, key >> 32
    mask = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * words[0], np.uint64(0xCD9E8D57) * words[2]
        words = [
            b >> np.uint64(32) ^ words[1] ^ np.uint64(low),
            b & mask,
            a >> np.uint64(32) ^ words[3] ^ np.uint64(high),
            a & mask,
        ]
        low = (low + 0x9E3779B9) % 2**32
        high = (high + 0xBB67AE85) % 2**32
    return np.stack(words, -1)


def dropout_factors(module, dropout, step, row, tokens, features):
    """What dropout multiplies a module's input with, [tokens, features]: the
    numbers that peft-run draws with seed 0 for row `row` of step `step`."""
    of_step = 0x9E3779B97F4A7C15 * (step + 1) % 2**64
    key = finalize(finalize(of_step) ^ hash_name(f"{module}.dropout"))
    counter = np.zeros((len(tokens), -(-features // 4), 4), np.uint32)
    counter[..., 0] = np.arange(counter.shape[1])
    counter[..., 1] = np.asarray(tokens)[:, None]
    counter[..., 2] = row
    words = philox(counter, key).reshape(len(tokens), -1)[:, :features]
    kept = words >= np.uint64(int(dropout * 2**32))
    return kept.astype(np.float32) * np.float32(1 / (1 - dropout))


def get_case(name):
    """A case with its defaults filled in."""
    case = {
        "name": name,
        "adapter": None,  # None: every parameter is trained
        "stored": "f32",
        "shards": 1,
        "segments": False,
        "batch": 2,
        "seq": 24,
        "accumulation": 2,
        "steps": 5,
        "lr": 2e-3,
        "schedule": "linear",
        "warmup": 0,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "lora_plus_ratio": None,
        "lora_fa": False,
        "optimizer": "adamw",
        # A quantized base: type (nf4, fp4, int8), block, nested; saved: the
        # model directory holds it quantized, else that happens on load.
        "base": None,
    }
    case.update(CASES[name])
    return case


def rate(case, step):
    """The learning rate of step `step` (from 0), as transformers' schedules."""
    warmup, steps = case["warmup"], case["steps"]
    if step < warmup:
        return case["lr"] * step / max(1, warmup)
    if case["schedule"] == "constant":
        return case["lr"]
    progress = (step - warmup) / max(1, steps - warmup)
    if case["schedule"] == "cosine":
        return case["lr"] * 0.5 * (1 + math.cos(math.pi * progress))
    return case["lr"] * (1 - progress)


def decays(name):
    """Whether weight decay applies: not to biases and norm weights."""
    return not (name.endswith("bias") or name.endswith("norm.weight"))
