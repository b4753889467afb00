"""What the golden tests compare: one entry per family and adapter option.

`config` is config.json's content as transformers 4 or 5 writes it, with fields
left out where they equal the class default; `adapter` is adapter_config.json's.
See models.get_case for the other keys and their defaults.
"""

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 301,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "hidden_act": "silu",
    "max_position_embeddings": 128,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "torch_dtype": "float32",
}
# As transformers 5 writes it, almost everything left to the class default.
LLAMA5 = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 300,
    "dtype": "float32",
    "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0},
}
BIASES = {"attention_bias": True, "mlp_bias": True}
MISTRAL = {
    "model_type": "mistral",
    "architectures": ["MistralForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 24,
    "vocab_size": 300,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1000000.0,
    "hidden_act": "silu",
    "sliding_window": 7,
    "tie_word_embeddings": False,
}
QWEN2 = {
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 300,
    "rope_theta": 1000000.0,
    "max_window_layers": 1,
    "sliding_window": 6,
    "use_sliding_window": False,
    "tie_word_embeddings": True,
}
QWEN3 = {
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 300,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
    "tie_word_embeddings": False,
}
# As transformers 4 writes it; heads of 24 features and a scale of its own.
GEMMA2 = {
    "model_type": "gemma2",
    "architectures": ["Gemma2ForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 24,
    "vocab_size": 300,
    "query_pre_attn_scalar": 20,
    "sliding_window": 6,
    "attn_logit_softcapping": 1.5,
    "final_logit_softcapping": 4.0,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_activation": "gelu_pytorch_tanh",
    "torch_dtype": "float32",
}
# As transformers 4 writes it, with the defaults of class left out.
GEMMA3 = {
    "model_type": "gemma3_text",
    "architectures": ["Gemma3ForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "vocab_size": 300,
    "query_pre_attn_scalar": 40,
    "sliding_window": 7,
    "sliding_window_pattern": 3,
    "rope_scaling": {"rope_type": "linear", "factor": 8.0},
}
# With images, as transformers 5 writes it; the names of its modules differ.
GEMMA3_IMAGES = {
    "model_type": "gemma3",
    "architectures": ["Gemma3ForConditionalGeneration"],
    "text_config": {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "vocab_size": 300,
        "sliding_window": 7,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "vision_config": {
        "model_type": "siglip_vision_model",
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    },
    "mm_tokens_per_image": 4,
}
PHI3 = {
    "model_type": "phi3",
    "architectures": ["Phi3ForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 300,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "sliding_window": 9,
    "rope_scaling": None,
}
LONGROPE = {
    "short_factor": [1.0, 1.1, 1.25, 1.5, 2.0, 2.5],
    "long_factor": [1.0, 1.5, 2.5, 4.0, 6.5, 8.0],
}
# Small models for the cases that train (and store) every parameter.
SMALL = {"hidden_size": 32, "intermediate_size": 48, "vocab_size": 120}
TINY = {"hidden_size": 24, "intermediate_size": 40, "vocab_size": 70}

PLAIN = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
ALL_LINEAR = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}
ATTENTION = {"r": 3, "lora_alpha": 7, "target_modules": ["q_proj", "o_proj"]}

CASES = {
    "llama": {"config": LLAMA, "adapter": PLAIN},
    "llama_all_linear": {
        "config": {**LLAMA5, **BIASES, "tie_word_embeddings": True},
        "adapter": ALL_LINEAR,
        "stored": "bf16",
        "shards": 3,
        "schedule": "cosine",
        "warmup": 2,
    },
    "llama_three_layers": {
        "config": {**LLAMA, "num_hidden_layers": 3},
        "adapter": ALL_LINEAR,
        "weight_decay": 0.1,
        "schedule": "constant",
        "max_grad_norm": 0.05,
    },
    "llama3_rope": {
        "config": {
            **LLAMA,
            "head_dim": 24,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
        },
        "adapter": ALL_LINEAR,
        "seq": 40,
    },
    "linear_rope": {
        "config": {**LLAMA, "rope_scaling": {"type": "linear", "factor": 4.0}},
        "adapter": ATTENTION,
        "seq": 40,
    },
    "linear_rope_v5": {
        "config": {
            **LLAMA5,
            "rope_parameters": {
                "rope_type": "linear",
                "rope_theta": 10000.0,
                "factor": 2.5,
            },
        },
        "adapter": ATTENTION,
    },
    "mistral_window": {"config": MISTRAL, "adapter": ALL_LINEAR, "seq": 32},
    "mistral_no_window": {
        "config": {**MISTRAL, "sliding_window": None},
        "adapter": PLAIN,
    },
    "qwen2": {"config": QWEN2, "adapter": ALL_LINEAR, "stored": "f16"},
    "qwen2_sliding": {
        "config": {
            **QWEN2,
            "num_hidden_layers": 3,
            "use_sliding_window": True,
        },
        "adapter": PLAIN,
        "seq": 32,
    },
    "qwen3": {"config": QWEN3, "adapter": ALL_LINEAR, "stored": "bf16"},
    "qwen3_layer_types": {
        "config": {
            **QWEN3,
            "use_sliding_window": True,
            "sliding_window": 5,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        "adapter": PLAIN,
    },
    "gemma2": {"config": GEMMA2, "adapter": ALL_LINEAR, "seq": 32},
    "gemma2_packed": {
        "config": {
            **GEMMA2,
            "attn_logit_softcapping": None,
            "layer_types": ["full_attention", "sliding_attention"],
        },
        "adapter": PLAIN,
        "stored": "bf16",
        "segments": True,
        "seq": 40,
    },
    "gemma3": {"config": GEMMA3, "adapter": ALL_LINEAR, "seq": 32},
    "gemma3_v5": {
        "config": {
            **{k: v for k, v in GEMMA3.items() if "rope" not in k},
            "layer_types": [
                "full_attention",
                "sliding_attention",
                "sliding_attention",
            ],
            "final_logit_softcapping": 5.0,
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 5e4},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e3},
            },
        },
        "adapter": ATTENTION,
        "stored": "bf16",
        "segments": True,
        "seq": 36,
    },
    "gemma3_images": {
        "config": GEMMA3_IMAGES,
        "adapter": {
            "r": 4,
            "lora_alpha": 8,
            "target_modules": r".*language_model.*\.(q_proj|down_proj)",
        },
    },
    "phi3": {
        "config": PHI3,
        "adapter": {
            "r": 4,
            "lora_alpha": 8,
            "target_modules": [
                "qkv_proj",
                "o_proj",
                "gate_up_proj",
                "down_proj",
            ],
        },
        "seq": 32,
    },
    "phi3_longrope": {
        "config": {
            **PHI3,
            "partial_rotary_factor": 0.75,
            "max_position_embeddings": 128,
            "original_max_position_embeddings": 16,
            "rope_scaling": {"type": "longrope", **LONGROPE},
            "tie_word_embeddings": True,
        },
        "adapter": ALL_LINEAR,
        "seq": 30,
    },
    "phi3_short": {
        "config": {
            **PHI3,
            "original_max_position_embeddings": 64,
            "max_position_embeddings": 256,
            "sliding_window": None,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "partial_rotary_factor": 0.75,
                **LONGROPE,
            },
        },
        "adapter": {"r": 3, "lora_alpha": 6, "target_modules": ["qkv_proj"]},
        "stored": "bf16",
    },
    "rslora_patterns": {
        "config": LLAMA,
        "adapter": {
            **ALL_LINEAR,
            "use_rslora": True,
            "rank_pattern": {"q_proj": 6, "layers.1.mlp.up_proj": 2},
            "alpha_pattern": {"v_proj": 3, "model.layers.0.mlp.down_proj": 20},
        },
    },
    "save_head": {
        "config": LLAMA,
        "adapter": {**PLAIN, "modules_to_save": ["lm_head"]},
        "weight_decay": 0.05,
    },
    "save_embedding_and_norms": {
        "config": {**LLAMA, "vocab_size": 200},
        "adapter": {**PLAIN, "modules_to_save": ["embed_tokens", "norm"]},
        "weight_decay": 0.05,
    },
    "bias_all": {
        "config": {**LLAMA, **BIASES},
        "adapter": {**PLAIN, "bias": "all"},
        "weight_decay": 0.05,
    },
    "bias_lora_only": {
        "config": QWEN2,
        "adapter": {**ATTENTION, "bias": "lora_only"},
    },
    "lora_plus": {
        "config": {**LLAMA, **BIASES},
        "adapter": {**PLAIN, "bias": "lora_only"},
        "lora_plus_ratio": 16.0,
        "weight_decay": 0.05,
        "lr": 2e-4,
    },
    "lora_fa": {
        "config": QWEN2,
        "adapter": {**ALL_LINEAR, "r": 2},
        "lora_fa": True,
        "weight_decay": 0.05,
    },
    "dropout": {
        "config": LLAMA,
        "adapter": {**PLAIN, "lora_dropout": 0.25},
        "segments": True,
        "seq": 40,
    },
    "dora": {
        "config": {**LLAMA, **BIASES, "num_hidden_layers": 1},
        "adapter": {**ALL_LINEAR, "use_dora": True, "bias": "lora_only"},
        "stored": "bf16",
        "weight_decay": 0.05,
    },
    "dora_patterns": {
        "config": QWEN2,
        "adapter": {
            **ATTENTION,
            "use_dora": True,
            "use_rslora": True,
            "rank_pattern": {"o_proj": 2},
            "alpha_pattern": {"layers.1.self_attn.q_proj": 3},
        },
        "lora_plus_ratio": 8.0,
        "lr": 2e-4,
    },
    "dora_dropout": {
        "config": {**LLAMA, "vocab_size": 120, "num_hidden_layers": 1},
        "adapter": {
            **ATTENTION,
            "target_modules": ["q_proj", "down_proj", "lm_head"],
            "use_dora": True,
            "lora_dropout": 0.3,
        },
    },
    "lora_fa_plus": {
        "config": LLAMA,
        "adapter": {**PLAIN, "use_rslora": True, "modules_to_save": ["norm"]},
        "lora_fa": True,
        "lora_plus_ratio": 4.0,
    },
    "pissa": {
        "config": {**LLAMA, "num_hidden_layers": 1},
        "adapter": {
            **ALL_LINEAR,
            "init_lora_weights": "pissa",
            "rank_pattern": {"v_proj": 2},
            "alpha_pattern": {"q_proj": 5},
        },
    },
    "olora": {
        "config": LLAMA,
        "adapter": {**PLAIN, "init_lora_weights": "olora", "use_rslora": True},
    },
    # 112 columns: blocks of 64 cross rows.
    "nf4": {
        "config": LLAMA,
        "adapter": PLAIN,
        "base": {"type": "nf4"},
    },
    "nf4_nested": {
        "config": QWEN2,
        "adapter": ATTENTION,
        "stored": "bf16",
        "base": {"type": "nf4", "nested": True, "saved": True},
    },
    "nf4_dora": {
        "config": {**LLAMA, "num_hidden_layers": 1},
        "adapter": {**ALL_LINEAR, "use_dora": True},
        "stored": "bf16",
        "base": {"type": "nf4", "nested": True},
    },
    "fp4": {
        "config": MISTRAL,
        "adapter": PLAIN,
        "base": {"type": "fp4", "block": 32, "saved": True},
        "seq": 32,
    },
    "fp4_nested": {
        "config": {**QWEN3, "num_hidden_layers": 1},
        "adapter": ALL_LINEAR,
        "stored": "f16",
        "shards": 2,
        "base": {"type": "fp4", "block": 128, "nested": True, "saved": True},
    },
    "int8": {
        "config": {**LLAMA, **BIASES},
        "adapter": ATTENTION,
        "stored": "bf16",
        "base": {"type": "int8"},
        "segments": True,
        "seq": 40,
    },
    "int8_saved": {
        "config": LLAMA5,
        "adapter": PLAIN,
        "base": {"type": "int8", "saved": True},
    },
    "regex": {
        "config": LLAMA,
        "adapter": {
            "r": 5,
            "lora_alpha": 5,
            "target_modules": r"model\.layers\.(0\.mlp\..*|1\.self_attn\.[kv])_proj",
        },
    },
    "exclude": {
        "config": QWEN3,
        "adapter": {
            **ALL_LINEAR,
            "exclude_modules": ["k_proj", "layers.0.mlp.up_proj"],
        },
    },
    "layers_to_transform": {
        "config": {**LLAMA, "num_hidden_layers": 3},
        "adapter": {
            **PLAIN,
            "target_modules": ["q_proj", "down_proj"],
            "layers_to_transform": [1, 2],
        },
    },
    "packed": {
        "config": LLAMA,
        "adapter": ALL_LINEAR,
        "segments": True,
        "seq": 40,
    },
    "packed_window": {
        "config": MISTRAL,
        "adapter": PLAIN,
        "segments": True,
        "seq": 40,
    },
    "train_all": {"config": {**LLAMA, **SMALL}, "weight_decay": 0.05},
    "train_all_tied": {"config": {**QWEN2, **SMALL}, "weight_decay": 0.05},
    "train_all_8bit": {
        "config": {**QWEN2, **SMALL, "vocab_size": 140, "num_hidden_layers": 1},
        "optimizer": "adamw8bit",
        "weight_decay": 0.05,
    },
    "train_all_qwen3": {
        "config": {**QWEN3, **SMALL, "head_dim": 16},
        "segments": True,
        "seq": 36,
    },
    "train_all_gemma2": {
        "config": {**GEMMA2, **TINY, "head_dim": 16, "pad_token_id": 3},
        "weight_decay": 0.05,
    },
    "train_all_phi3": {"config": {**PHI3, **TINY}},
    "train_all_tied_biases": {
        "config": {**LLAMA, **SMALL, **BIASES, "tie_word_embeddings": True},
        "max_grad_norm": 0.1,
    },
}
