"""Compares peftc merge with transformers and PEFT.

usage: check_merge.py --bin DIR

Adapters that PEFT made and saved, of every kind that is merged, on small random
models: merged in float32, transformers' logits of the merged directory are within
1e-5 of PEFT's logits of base and adapter, and each weight is what
merge_and_unload gives. Needs torch, transformers and peft (./check.sh --peers has
them). The last line counts what passed.
"""

import argparse
import os
import subprocess
import sys
import tempfile

import peft
import torch
import transformers

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "golden"))
import models  # noqa: E402
from cases import BIASES, LLAMA, MISTRAL, QWEN2, QWEN3  # noqa: E402

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TIED = {**LLAMA, "tie_word_embeddings": True}
# name -> (config.json, LoraConfig, flags of peftc merge)
CASES = {
    "plain": (LLAMA, {"target_modules": ALL}, []),
    "tied": (TIED, {"target_modules": ALL}, []),
    "patterns": (QWEN3, {"target_modules": ALL, "use_rslora": True,
                         "rank_pattern": {"q_proj": 6, "layers.1.mlp.up_proj": 2},
                         "alpha_pattern": {"v_proj": 3}}, []),
    "dora": (QWEN2, {"target_modules": ALL, "use_dora": True}, []),
    "lora-bias": (QWEN2, {"target_modules": ["q_proj", "v_proj"], "lora_bias": True}, []),
    "bias-all": ({**LLAMA, **BIASES}, {"target_modules": ALL, "bias": "all"}, []),
    "modules-to-save": (MISTRAL, {"target_modules": ["q_proj"],
                                  "modules_to_save": ["lm_head", "norm"]}, []),
    "embedding": (MISTRAL, {"target_modules": ["embed_tokens", "q_proj"]}, []),
    "head": (MISTRAL, {"target_modules": ["lm_head", "q_proj"]}, []),
    "tied-embedding": (TIED, {"target_modules": ["embed_tokens"]}, ["--untie"]),
    "tied-head-saved": (TIED, {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
                        ["--untie"]),
}


class Failure(Exception):
    """Other logits, other weights, or a program that stopped."""


def load(directory):
    return transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager")


def randomize(model):
    """Trained tensors take values that no initialisation gives."""
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=generator) * 0.1
            keep = 1.0 if "magnitude" in name or "lora" not in name else 0.0
            parameter.data = keep * parameter.data + noise


def logits_of(model, vocab):
    ids = torch.arange(2 * 19).reshape(2, 19) * 7 % (vocab - 1) + 1
    with torch.no_grad():
        return model(input_ids=ids).logits


def compare_weights(merged, expected):
    found, needed = merged.state_dict(), expected.state_dict()
    for name, value in needed.items():
        if name not in found:
            raise Failure(f"no tensor {name}")
        error = (found[name] - value).abs().max().item()
        if error > 2e-6:
            raise Failure(f"{name} is {error} off")


def check(name, binaries, directory):
    config, options, flags = CASES[name]
    case = {"name": name, "config": config, "stored": "f32", "shards": 1}
    models.write_model(case, f"{directory}/model")
    torch.manual_seed(1)
    adapted = peft.get_peft_model(
        load(f"{directory}/model"),
        peft.LoraConfig(r=4, lora_alpha=6, task_type="CAUSAL_LM", **options))
    randomize(adapted)
    adapted.save_pretrained(f"{directory}/adapter")
    # As anyone would load it: what was saved, not what was trained.
    adapted = peft.PeftModel.from_pretrained(load(f"{directory}/model"), f"{directory}/adapter")
    adapted.eval()
    done = subprocess.run(
        [f"{binaries}/peftc", "merge", f"{directory}/model", "--adapter",
         f"{directory}/adapter", "--type", "f32", "-o", f"{directory}/merged", *flags],
        capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure(done.stderr.strip())
    merged = load(f"{directory}/merged").eval()
    expected = logits_of(adapted, config["vocab_size"])
    found = logits_of(merged, config["vocab_size"])
    error = ((found - expected).abs().max() / expected.abs().max()).item()
    if not error <= 1e-5:
        raise Failure(f"logits are {error:.1e} off")
    if not flags and "embedding" not in name:
        compare_weights(merged, adapted.merge_and_unload())
    return error


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    options = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    passed = failed = 0
    for name in options.cases or CASES:
        try:
            with tempfile.TemporaryDirectory() as directory:
                error = check(name, os.path.abspath(options.bin), directory)
            print(f"PASS merge/{name}: logits within {error:.1e}", flush=True)
            passed += 1
        except Failure as failure:
            print(f"FAIL merge/{name}: {failure}", flush=True)
            failed += 1
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
