"""Compares AttachAdapters with PEFT over random adapter configs.

usage: check_matching.py --bin DIR [--count 300] [--seed 0]

For each config: the keys of the saved adapter, their shapes, and each module's
scale must be PEFT's; so must the keys that PEFT makes from the config we write.
What PEFT refuses, we refuse. We also refuse some that PEFT accepts with a
warning or in silence; those reasons are listed in STRICTER, and at least a
third of all configs must get past them.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import warnings

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from transformers import AutoConfig, AutoModelForCausalLM

SHAPE = {
    "vocab_size": 16,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 4,
    "pad_token_id": None,
}
MODELS = [
    {"model_type": "llama", "attention_bias": True, "mlp_bias": True},
    {"model_type": "llama", "tie_word_embeddings": True},
    {"model_type": "mistral"},
    {"model_type": "qwen2"},
    {"model_type": "qwen3"},
    {"model_type": "gemma2"},
    {"model_type": "gemma3_text"},
    {"model_type": "phi3"},
]
NAMES = (
    "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj self_attn.q_proj"
    " model.layers.1.mlp.up_proj layers.2.self_attn.o_proj 0.self_attn.v_proj"
    " lm_head"
).split()
FUSED_NAMES = (
    "qkv_proj o_proj gate_up_proj down_proj self_attn.qkv_proj"
    " model.layers.1.mlp.gate_up_proj layers.2.self_attn.o_proj 0.mlp.down_proj"
    " lm_head"
).split()
ODD_NAMES = "proj embed_tokens self_attn act_fn norm q_norm nothing".split()
EXPRESSIONS = [
    r".*\.(q|k)_proj",
    r"model\.layers\.[02]\..*_proj",
    r".*layers\.\d+\.mlp\.(?:up|down)_proj",
    r".*(?<!o)_proj",
    r"(?i).*\.Q_PROJ",
    r"(?P<path>.*)\.v_proj$",
    r"model.layers.1.+proj|lm_head",
    r"q_proj",
    r".*",
    r".*(q_proj",
]
PATTERNS = [
    "q_proj",
    "model.layers.1.self_attn.q_proj",
    "^model.layers.0.*",
    "layers.[12].mlp.down_proj",
    "down_proj|up_proj",
    "2.self_attn.o_proj",
    "_proj",
    ".*k_proj",
]
STRICTER = re.compile(
    "matches no module|matches no adapted module|has no target module"
    "|both match|one side of the tied|is an embedding|both in target_modules"
    "|does nothing without|is no linear|trains twice"
)
# And the one that PEFT refuses: all-linear in some layers.
WIDER = "`layers_to_transform` cannot be used when `target_modules` is a str"


def sometimes(draw, share, value):
    return value() if draw.random() < share else None


def random_names(draw, known, odd=0.08):
    names = draw.sample(known, draw.randint(1, 4))
    return [draw.choice(ODD_NAMES) if draw.random() < odd else n for n in names]


def random_targets(draw, known):
    kind = draw.random()
    if kind < 0.1:
        return None
    if kind < 0.25:
        return "all-linear"
    if kind < 0.5:
        return draw.choice(EXPRESSIONS)
    return random_names(draw, known)


def random_config(draw, known):
    """`known`: names of the model's linear modules."""
    config = {
        "peft_type": "LORA",
        "r": draw.choice([1, 2, 4]),
        "lora_alpha": draw.choice([1, 3, 8]),
        "target_modules": random_targets(draw, known),
        "use_rslora": draw.random() < 0.3,
        "bias": draw.choice(["none", "none", "all", "lora_only"]),
        "init_lora_weights": draw.choice([True, True, False, "gaussian"]),
    }
    options = {
        "exclude_modules": (0.2, lambda: draw.choice(
            [random_names(draw, known, 0), draw.choice(EXPRESSIONS)])),
        "layers_to_transform": (0.2, lambda: draw.choice(
            [0, 2, [1], [0, 2], [1, 5]])),
        "layers_pattern": (0.1, lambda: draw.choice(
            ["layers", ["h", "layers"], "blocks"])),
        "rank_pattern": (0.3, lambda: {
            key: draw.choice([1, 3, 5])
            for key in draw.sample(PATTERNS, draw.randint(1, 2))}),
        "alpha_pattern": (0.3, lambda: {
            key: draw.choice([1, 2, 5])
            for key in draw.sample(PATTERNS, draw.randint(1, 2))}),
        "modules_to_save": (0.25, lambda: draw.choice(
            [["lm_head"], ["norm"], ["embed_tokens"], ["layers.0.mlp"],
             ["head"], ["input_layernorm", "lm_head"], ["1.self_attn"]])),
    }
    for field, (share, value) in options.items():
        drawn = sometimes(draw, share, value)
        if drawn is not None:
            config[field] = drawn
    return config


def of_peft(model_config, config):
    """Keys with shapes, and scales by module; or the error's text."""
    arguments = {k: v for k, v in config.items() if k != "peft_type"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            base = AutoModelForCausalLM.from_config(model_config)
            model = get_peft_model(base, LoraConfig(**arguments))
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    keys = {name: tuple(value.shape) for name, value in state.items()}
    scales = {
        name.removeprefix("base_model.model."): module.scaling["default"]
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer)
    }
    return (keys, scales), ""


def of_ours(binaries, model, config):
    """The same from peft-opt, and the config it writes."""
    # MLIR takes one pair of braces off an option's value.
    done = subprocess.run(
        [f"{binaries}/peft-opt", model,
         f"--peft-attach-adapters=config={{{json.dumps(config)}}}"],
        capture_output=True, text=True, timeout=60)
    if done.returncode < 0:
        sys.exit(f"peft-opt died of signal {-done.returncode} on {config}")
    if done.returncode:
        return None, done.stderr
    keys = {}
    for name, shape, rest in re.findall(
            r"nn\.param @(\S+) : tensor<([0-9x]+)xf32> \{(.*trainable.*)\}",
            done.stdout):
        saved = re.search(r'savedName = "([^"]*)"', rest)
        keys[saved.group(1) if saved else name] = tuple(
            int(extent) for extent in shape.split("x"))
    scales = {
        module: float(scale)
        for module, scale in re.findall(
            r'lora\.linear .*module = "([^"]*)", scale = (\S+) :', done.stdout)
    }
    text = re.search(r'nn\.adapter_config = "([^"]*)"', done.stdout).group(1)
    text = re.sub(r"\\([0-9A-F]{2})", lambda m: chr(int(m.group(1), 16)), text)
    return (keys, scales, json.loads(text.replace("\\\\", "\\"))), ""


def difference(peft, ours):
    if peft[0] != ours[0]:
        both = peft[0].items() ^ ours[0].items()
        return f"keys differ: {sorted(both)[:4]}"
    if peft[1].keys() != ours[1].keys():
        return f"modules differ: {sorted(peft[1].keys() ^ ours[1].keys())[:4]}"
    for module, scale in peft[1].items():
        if abs(scale - ours[1][module]) > 1e-12 * abs(scale):
            return f"scale of {module}: {scale} and {ours[1][module]}"
    return ""


def check(binaries, model, model_config, config):
    """"" where both agree, "stricter", or what is wrong."""
    peft, peft_error = of_peft(model_config, config)
    ours, our_error = of_ours(binaries, model, config)
    if peft is None and ours is None:
        return "both refuse"
    if ours is None:
        return "stricter" if STRICTER.search(our_error) else (
            f"only we refuse: {our_error.splitlines()[0]}")
    if peft is None and config["target_modules"] == "all-linear" and (
        WIDER in peft_error
    ):
        peft, peft_error = of_peft(model_config, ours[2])
    if peft is None:
        return f"only PEFT refuses: {peft_error[:200]}"
    wrong = difference(peft, ours)
    if wrong:
        return wrong
    again, error = of_peft(model_config, ours[2])
    if again is None:
        return f"PEFT refuses the config we write: {error[:200]}"
    wrong = difference(again, ours)
    return f"read back: {wrong}" if wrong else ""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    passed = failed = agreed = stricter = refused = 0
    with tempfile.TemporaryDirectory() as directory:
        models = []
        for i, extra in enumerate(MODELS):
            path = f"{directory}/{i}"
            os.mkdir(path)
            with open(f"{path}/config.json", "w") as file:
                json.dump({**SHAPE, **extra}, file)
            subprocess.run([f"{arguments.bin}/peftc", "import",
                            f"{path}/config.json", "-o", f"{path}.mlir"],
                           check=True, stdout=subprocess.DEVNULL)
            names = FUSED_NAMES if extra["model_type"] == "phi3" else NAMES
            models.append((f"{path}.mlir", AutoConfig.from_pretrained(path), names))
        for _ in range(arguments.count):
            model, model_config, names = draw.choice(models)
            config = random_config(draw, names)
            result = check(arguments.bin, model, model_config, config)
            agreed += result == ""
            stricter += result == "stricter"
            refused += result == "both refuse"
            if result in ("", "stricter", "both refuse"):
                passed += 1
            else:
                failed += 1
                print(f"FAIL {result}\n     {json.dumps(config)}")
    print(f"{agreed} agree, {refused} refused by both, {stricter} by us alone")
    if agreed * 3 < arguments.count:
        failed += 1
        print("FAIL too few configs were compared")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
