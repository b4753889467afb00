"""peftc merge and export of what other versions and other makers write.

usage: merge_bases_test.py --bin DIR

Text models inside others under the names of either version of transformers. The
last line counts what passed.
"""

import itertools
import json
import os
import sys

import numpy as np

sys.path.insert(0, os.path.dirname(__file__))
from merge_test import LINEARS, PREFIX, Failure, all_linears, expect_model, main  # noqa: E402
from merge_test import models, quantized_file, tensor_file  # noqa: E402
from cases import GEMMA3_IMAGES, LLAMA  # noqa: E402


def expect_words(said, *words):
    for each in words:
        if each not in said:
            raise Failure(f"no '{each}' in: {said}")


def older_name(name):
    """As files have it from before transformers 4.52."""
    return name.replace("model.language_model.", "language_model.model.").replace(
        "lm_head.", "language_model.lm_head.")


def check_nested(bench):
    """Adapters and bases of either version, tied and not."""
    q = "model.language_model.layers.0.self_attn.q_proj"
    for tied, old_base, old_adapter in itertools.product((True, False), repeat=3):
        def build(made):
            made.linear(q).whole("model.language_model.norm.weight")
            if not tied:
                made.linear("lm_head")
            if old_adapter:
                made.tensors = {older_name(key): value for key, value in made.tensors.items()}

        config = {**GEMMA3_IMAGES, "tie_word_embeddings": tied}
        config["text_config"] = {**config["text_config"], "tie_word_embeddings": tied}
        root, made = bench.setup(config, {}, build)
        if old_base:
            made.merged = {older_name(name): value for name, value in made.merged.items()}
            base = {older_name(name): value for name, value in made.base.items()}
            tensor_file.save_tensors(f"{root}/model/model.safetensors", base, "f32")
        bench.merge(root)
        expect_model(f"{root}/out", made.merged, "f32")


def check_name_like_a_foreign_key(bench):
    """"soft_emb" holds "oft_", which begins the keys of OFT; a part of its own is one."""
    norm = "multi_modal_projector.mm_soft_emb_norm.weight"

    def build(made, key=norm):
        value = models.uniform(norm, (16,), 1.0)
        made.tensors[PREFIX + key] = value
        made.base[norm], made.merged[norm] = -value, value.astype(np.float64)

    root, made = bench.setup(GEMMA3_IMAGES, {}, build)
    tensor_file.save_tensors(f"{root}/model/model.safetensors", made.base, "f32")
    bench.merge(root)
    expect_model(f"{root}/out", made.merged, "f32")
    root, _ = bench.setup(LLAMA, {}, lambda made: build(made, "lm_head.oft_R.weight"))
    expect_words(bench.merge(root, code=65), "cannot be merged in this version (OFT)")


def check_unconverted(bench):
    """What a run with PiSSA or OLoRA starts from is no change of the weights."""
    for init, word in (("pissa", "pissa"), ("pissa_niter_4", "pissa"), ("olora", "olora")):
        root, _ = bench.setup(LLAMA, {"init_lora_weights": init}, all_linears)
        for said in (bench.merge(root, code=65), bench.export(root, code=65)):
            expect_words(said, f"(init_lora_weights: {word})", "peft-run wrote after training",
                         "path_initial_model_for_weight_conversion")
        if os.path.exists(f"{root}/out") or os.path.exists(f"{root}/out.gguf"):
            raise Failure("something is left")


def check_dora_of_zeros(bench):
    """A row of zeros stays one: training defines its gain as 0."""
    q = "model.layers.0.self_attn.q_proj"

    def build(made):
        for table in (made.base, made.merged):
            table[f"{q}.weight"][5] = 0
        made.linear(q)
        made.tensors[f"{PREFIX}{q}.lora_B.weight"][5] = 0
        magnitude = np.linspace(1, 2, 64).astype(np.float32)
        made.tensors[f"{PREFIX}{q}.lora_magnitude_vector"] = magnitude
        weight = made.base[f"{q}.weight"] + 1.5 * (
            made.tensors[f"{PREFIX}{q}.lora_B.weight"].astype(np.float64)
            @ made.tensors[f"{PREFIX}{q}.lora_A.weight"])
        norm = np.sqrt((weight * weight).sum(axis=1))
        norm[5] = np.inf
        made.merged[f"{q}.weight"] = weight * (magnitude / norm)[:, None]

    root, made = bench.setup(LLAMA, {"use_dora": True}, build)
    tensor_file.save_tensors(f"{root}/model/model.safetensors", made.base, "f32")
    bench.merge(root)
    expect_model(f"{root}/out", made.merged, "f32")


def check_companions(bench):
    """What from_pretrained(..., trust_remote_code=True) needs of the output."""
    code = ["configuration_own.py", "modeling_own.py", "own_rope.py"]
    processors = ["preprocessor_config.json", "processor_config.json"]
    for auto_map in (None, {"AutoConfig": "configuration_own.OwnConfig",
                            "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}):
        config = {**LLAMA, **({"auto_map": auto_map} if auto_map else {})}
        root, _ = bench.setup(config, {}, all_linears)
        for name in (*code, *processors, "notes.txt"):
            with open(f"{root}/model/{name}", "w") as file:
                file.write("{}")
        bench.merge(root)
        expected = sorted(["config.json", "model.safetensors", *processors,
                           *(code if auto_map else [])])
        if sorted(os.listdir(f"{root}/out")) != expected:
            raise Failure(f"{sorted(os.listdir(f'{root}/out'))}")


def quantize(root, made):
    """Packs the linears of the model; they are what their codes stand for."""
    tensors = {}
    for name, values in made.base.items():
        if any(f".{linear}.weight" in name for linear in LINEARS):
            kept = quantized_file.nf4(name, values, tensors).astype(np.float64)
            made.merged[name] += kept - values
        else:
            tensors[name] = ("F32", values)
    quantized_file.save(f"{root}/model/model.safetensors", tensors)


def check_quantization(bench):
    """What config.json may say of quantization, as peftc compile reads it."""
    old = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    for said, stays in ((old, False), ({}, True), (None, True)):
        root, made = bench.setup({**LLAMA, "quantization_config": said}, {}, all_linears)
        if said == old:
            quantize(root, made)
        bench.merge(root, "--type", "f32")
        expect_model(f"{root}/out", made.merged, "f32")
        with open(f"{root}/out/config.json") as file:
            if ("quantization_config" in json.load(file)) != stays:
                raise Failure(f"quantization_config {said}: {'left' if stays else 'kept'}")


def check_table_stored_as_head(bench):
    """A tied table that the files have as the head only is not left out."""
    def as_head(tensors):
        tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")

    root, made = bench.setup({**LLAMA, "tie_word_embeddings": True}, {}, all_linears)
    as_head(made.base)
    as_head(made.merged)
    tensor_file.save_tensors(f"{root}/model/model.safetensors", made.base, "f32")
    bench.merge(root)
    expect_model(f"{root}/out", made.merged, "f32")


def check_patterns(bench):
    """Of patterns that overlap the first on disk wins, as where PEFT loads them."""
    q = "model.layers.0.self_attn.q_proj"
    patterns = {"alpha_pattern": {"layers.0.self_attn.q_proj": 3, "q_proj": 12},
                "rank_pattern": {"layers.0.self_attn.q_proj": 2, "q_proj": 6}}

    def build(made):
        made.case["adapter"].update(rank_pattern={q: 2}, alpha_pattern={q: 3})
        made.linear(q)
        made.case["adapter"].update(patterns)

    root, made = bench.setup(LLAMA, patterns, build)
    bench.merge(root)
    expect_model(f"{root}/out", made.merged, "f32")
    bench.export(root)
    root, _ = bench.setup(LLAMA, {"alpha_pattern": {"q_proj(": 3}}, all_linears)
    expect_words(bench.merge(root, code=65), "adapter/adapter_config.json: ", "q_proj(")


def check_not_finite(bench):
    """A NaN in the model or in the adapter: its file is named, nothing is left."""
    up = "model.layers.0.mlp.up_proj"
    for of, key, what in (
            ("model/model", f"{up}.weight", f"{up}.weight: the value at [3, 2] is not finite"),
            ("adapter/adapter_model", f"{PREFIX}{up}.lora_B.weight", "the adapter is damaged")):
        root, _ = bench.setup(LLAMA, {}, all_linears)
        tensors, _ = tensor_file.load_tensors(f"{root}/{of}.safetensors")
        tensors[key] = tensors[key].copy()
        tensors[key][3, 2] = np.nan
        tensor_file.save_tensors(f"{root}/{of}.safetensors", tensors, "f32")
        expect_words(bench.merge(root, code=65), f"{root}/{of}.safetensors: ", what)
        if os.path.exists(f"{root}/out"):
            raise Failure("something is left")


CHECKS = {"names/nested": check_nested, "names/like-oft": check_name_like_a_foreign_key,
          "adapter/unconverted": check_unconverted, "adapter/dora-of-zeros": check_dora_of_zeros,
          "adapter/patterns": check_patterns, "adapter/not-finite": check_not_finite,
          "files/companions": check_companions, "files/quantization": check_quantization,
          "files/table-as-head": check_table_stored_as_head}

if __name__ == "__main__":
    sys.exit(main(CHECKS, __doc__))
