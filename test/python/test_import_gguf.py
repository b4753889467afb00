"""Unit tests of peft_data.import_gguf on small GGUF files made here."""

import io
import json
import os
import sys
import tempfile
import unittest
from contextlib import redirect_stderr, redirect_stdout

import gguf
import numpy as np
from tokenizers import Tokenizer, pre_tokenizers

sys.path.insert(
    0, os.path.join(os.path.dirname(__file__), "..", "..", "python")
)
from peft_data import import_gguf as importer  # noqa: E402

HIDDEN, INNER, HEADS, KV_HEADS, HEAD_DIM = 32, 64, 4, 2, 8


def rotation_order(weight, heads):
    """What llama.cpp's converter does to q and k: row i of a half to 2i."""
    half = weight.shape[0] // heads // 2
    halves = weight.reshape(heads, 2, half, *weight.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(weight.shape)


class Model:
    """Random weights and the metadata of a tiny llama."""

    def __init__(self):
        random = np.random.default_rng(1)
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        self.tokens = alphabet + ["ab", "<|end|>"]
        self.kinds = [1] * (len(self.tokens) - 1) + [3]
        shapes = {
            "model.embed_tokens.weight": (len(self.tokens), HIDDEN),
            "model.norm.weight": (HIDDEN,),
        }
        layer = {
            "input_layernorm.weight": (HIDDEN,),
            "self_attn.q_proj.weight": (HEADS * HEAD_DIM, HIDDEN),
            "self_attn.k_proj.weight": (KV_HEADS * HEAD_DIM, HIDDEN),
            "self_attn.v_proj.weight": (KV_HEADS * HEAD_DIM, HIDDEN),
            "self_attn.o_proj.weight": (HIDDEN, HEADS * HEAD_DIM),
            "post_attention_layernorm.weight": (HIDDEN,),
            "mlp.gate_proj.weight": (INNER, HIDDEN),
            "mlp.up_proj.weight": (INNER, HIDDEN),
            "mlp.down_proj.weight": (HIDDEN, INNER),
        }
        shapes |= {f"model.layers.0.{n}": s for n, s in layer.items()}
        self.weights = {
            name: random.standard_normal(shape).astype(np.float32)
            for name, shape in shapes.items()
        }
        self.metadata = {
            "llama.block_count": 1,
            "llama.context_length": 64,
            "llama.embedding_length": HIDDEN,
            "llama.feed_forward_length": INNER,
            "llama.attention.head_count": HEADS,
            "llama.attention.head_count_kv": KV_HEADS,
            "tokenizer.ggml.eos_token_id": len(self.tokens) - 1,
        }
        self.architecture, self.tokenizer, self.pre = "llama", "gpt2", "smollm"
        self.scaling = None

    def write(self, path):
        writer = gguf.GGUFWriter(path, self.architecture)
        for key, value in self.metadata.items():
            writer.add_uint32(key, value)
        writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
        if self.scaling:
            writer.add_string("llama.rope.scaling.type", self.scaling)
        writer.add_tokenizer_model(self.tokenizer)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.kinds)
        writer.add_token_merges(["a b"])
        writer.add_chat_template("{{ messages[0].content }}")
        short = {v: k for k, v in importer.LAYER_NAMES.items()}
        top = {v: k for k, v in importer.TOP_NAMES.items()}
        for name, weight in self.weights.items():
            stem = name.removesuffix(".weight")
            if "q_proj" in name:
                weight = rotation_order(weight, HEADS)
            if "k_proj" in name:
                weight = rotation_order(weight, KV_HEADS)
            if stem in top:
                target = f"{top[stem]}.weight"
            else:
                target = f"blk.0.{short[stem.split('.', 3)[3]]}.weight"
            writer.add_tensor(target, weight)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def read_bf16(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = file.read()
    del header["__metadata__"]
    found = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        bits = np.frombuffer(data[begin:end], "<u2").astype(np.uint32) << 16
        found[name] = bits.view(np.float32).reshape(entry["shape"])
    return found


class ImportTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.source = os.path.join(folder.name, "tiny.gguf")
        self.target = os.path.join(folder.name, "out")

    def convert(self, model=None):
        if model is not None:
            model.write(self.source)
        error = io.StringIO()
        with redirect_stderr(error), redirect_stdout(io.StringIO()):
            code = importer.main([self.source, "-o", self.target])
        return code, error.getvalue()

    def test_weights_come_back_in_hugging_faces_order(self):
        model = Model()
        self.assertEqual(self.convert(model), (0, ""))
        found = read_bf16(os.path.join(self.target, "model.safetensors"))
        self.assertEqual(found.keys(), model.weights.keys())
        for name, weight in model.weights.items():
            np.testing.assert_allclose(found[name], weight, rtol=2**-8)

    def test_config_and_tokenizer(self):
        self.convert(Model())
        with open(os.path.join(self.target, "config.json")) as file:
            config = json.load(file)
        self.assertEqual(config["rms_norm_eps"], 1e-5)
        self.assertEqual(config["num_key_value_heads"], KV_HEADS)
        self.assertTrue(config["tie_word_embeddings"])
        tokenizer = Tokenizer.from_file(
            os.path.join(self.target, "tokenizer.json")
        )
        ids = tokenizer.encode("ab12<|end|>").tokens
        self.assertEqual(ids, ["ab", "1", "2", "<|end|>"])

    def test_bf16_rounds_to_nearest_even(self):
        values = np.array([1 + 2**-8, 1 + 3 * 2**-8, np.nan, -np.inf], np.float32)
        bits = np.frombuffer(importer.to_bf16(values), "<u2").tolist()
        self.assertEqual(bits, [0x3F80, 0x3F82, 0x7FC0, 0xFF80])

    def test_refusals_by_name(self):
        def change(**attributes):
            model = Model()
            for name, value in attributes.items():
                setattr(model, name, value)
            return model

        experts = Model()
        experts.metadata["llama.expert_count"] = 8
        partial = Model()
        partial.metadata["llama.rope.dimension_count"] = 4
        missing = Model()
        del missing.metadata["llama.block_count"]
        table = [
            (change(architecture="falcon"), "architecture 'falcon'"),
            (change(tokenizer="llama"), "tokenizer.ggml.model 'llama'"),
            (change(pre="tekken"), "tokenizer.ggml.pre 'tekken'"),
            (change(scaling="yarn"), "llama.rope.scaling.type 'yarn'"),
            (experts, "llama.expert_count = 8"),
            (partial, "llama.rope.dimension_count is 4"),
            (missing, "'llama.block_count' is missing"),
        ]
        for model, message in table:
            with self.subTest(message):
                code, error = self.convert(model)
                self.assertEqual(code, 65)
                self.assertIn(message, error)
                config = os.path.join(self.target, "config.json")
                self.assertFalse(os.path.exists(config))

    def test_files_that_are_no_gguf(self):
        self.assertEqual(self.convert()[0], 74)
        with open(self.source, "wb") as file:
            file.write(b"not a model" * 10)
        code, error = self.convert()
        self.assertEqual(code, 65)
        self.assertIn("not a GGUF file", error)


if __name__ == "__main__":
    unittest.main()
