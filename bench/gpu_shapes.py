"""What is measured on a GPU: models, batches, sets. Needs nothing but Python.

usage: gpu_shapes.py list SET          names of a set (1, 2 or 3), one a line
       gpu_shapes.py flags NAME        flags for `peftc compile`
       gpu_shapes.py write NAME DIR    DIR/config.json and DIR/adapter_config.json

Models are shapes only: the config.json of a model that people fine-tune, without
its weights, which are random. Sets 2 and 3 train LoRA of rank 16 on all linear
layers in bf16; set 1 are small models for comparisons.
"""

import json
import os
import sys

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}

MODELS = {
    # Two layers with grouped queries; sizes that no tile divides.
    "tiny": {
        **LLAMA,
        "hidden_size": 208, "intermediate_size": 344, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64,
        "vocab_size": 1003, "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    },
    "qwen3-8b": {
        **LLAMA,
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3",
        "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
        "vocab_size": 151936, "max_position_embeddings": 40960,
        "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
    },
    "llama-3.1-8b": {
        **LLAMA,
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
        "vocab_size": 128256, "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
        "rope_scaling": {
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
        },
    },
    "llama-2-7b": {
        **LLAMA,
        "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 128,
        "vocab_size": 32000, "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    },
}


class Bench:
    """One thing to measure: a model's shape, and the rows of a step."""

    def __init__(self, group, model, batch, seq, accumulation=1, segment=0,
                 compute="bf16", dropout=0.0, rounds=1, torch=True):
        self.group, self.model = group, model
        self.batch, self.seq, self.accumulation = batch, seq, accumulation
        self.segment = segment  # mean tokens of a packed segment; 0: one per row
        self.compute, self.dropout = compute, dropout
        self.rounds, self.torch = rounds, torch

    @property
    def tokens(self):
        return self.batch * self.seq * self.accumulation


BENCHES = {
    "tiny-f32": Bench(1, "tiny", 2, 77, compute="f32"),
    "tiny-bf16": Bench(1, "tiny", 2, 77, compute="bf16", accumulation=2),
    "tiny-dropout": Bench(1, "tiny", 2, 77, compute="bf16", dropout=0.1),
    "qwen3-8b-2x2048": Bench(2, "qwen3-8b", 2, 2048, accumulation=4),
    # Rows of packed segments, beside the same rows unpacked; small steps, in
    # which the time between kernels shows.
    "qwen3-8b-2x2048-packed": Bench(2, "qwen3-8b", 2, 2048, accumulation=4,
                                    segment=512, torch=False),
    "qwen3-8b-1x512": Bench(2, "qwen3-8b", 1, 512, torch=False),
    "llama-3.1-8b-2x4096": Bench(2, "llama-3.1-8b", 2, 4096),
    "llama-2-7b-2x2048": Bench(3, "llama-2-7b", 2, 2048, accumulation=4),
    "llama-3.1-8b-1x8192": Bench(3, "llama-3.1-8b", 1, 8192),
    "llama-3.1-8b-1x16384": Bench(3, "llama-3.1-8b", 1, 16384),
}


def adapter_config(bench):
    return {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 16, "lora_alpha": 32,
        "lora_dropout": bench.dropout, "target_modules": "all-linear",
        "bias": "none", "base_model_name_or_path": "",
    }


def write(bench, directory):
    os.makedirs(directory, exist_ok=True)
    with open(f"{directory}/config.json", "w") as file:
        json.dump(MODELS[bench.model], file, indent=1)
    with open(f"{directory}/adapter_config.json", "w") as file:
        json.dump(adapter_config(bench), file, indent=1)


def main(arguments):
    if len(arguments) == 2 and arguments[0] == "list":
        for name, bench in BENCHES.items():
            if str(bench.group) == arguments[1]:
                print(name)
    elif len(arguments) == 2 and arguments[0] == "flags":
        bench = BENCHES[arguments[1]]
        print(f"--batch {bench.batch} --seq {bench.seq} --compute {bench.compute}")
    elif len(arguments) == 3 and arguments[0] == "write":
        write(BENCHES[arguments[1]], arguments[2])
    else:
        print(__doc__, file=sys.stderr)
        return 64
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
