"""Unit tests of python/peft_data: rows, packing, templates, the command."""

import io
import json
import os
import sys
import tempfile
import unittest
from contextlib import redirect_stderr, redirect_stdout
from unittest import mock

import numpy as np
from safetensors.numpy import load_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from tokenizers import processors

sys.path.insert(
    0, os.path.join(os.path.dirname(__file__), "..", "..", "python")
)
from peft_data import cli  # noqa: E402
from peft_data.errors import DataError  # noqa: E402
from peft_data.rows import RowMaker  # noqa: E402
from peft_data.tokenizer import ModelTokenizer  # noqa: E402

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|start|>{{ m['role'] }}\n"
    "{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
SPECIAL = ["<s>", "<|start|>", "<|end|>", "</s>"]


def make_model(directory, template=TEMPLATE, **config):
    """A tokenizer of single bytes with four special tokens that adds BOS."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(text, normalized=False, special=True) for text in SPECIAL]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    tokenizer.save(os.path.join(directory, "tokenizer.json"))
    settings = {"bos_token": "<s>", "eos_token": {"content": "</s>"}}
    if template is not None:
        settings["chat_template"] = template
    settings.update(config)
    with open(os.path.join(directory, "tokenizer_config.json"), "w") as file:
        json.dump(settings, file)
    return ModelTokenizer(directory)


def chat(*turns):
    return [{"role": role, "content": text} for role, text in turns]


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.directory = folder.name

    def path(self, name):
        return os.path.join(self.directory, name)

    def trained_text(self, row):
        tokenizer = ModelTokenizer(self.directory)
        ids = [label for label in row.labels if label != -100]
        return tokenizer.decode(ids, skip_special=False)


class RowsTest(Case):
    def test_text_trains_everything_and_ends_with_eos(self):
        row = RowMaker(make_model(self.directory)).make({"text": "ab"})
        self.assertEqual(self.trained_text(row), "<s>ab</s>")
        self.assertEqual(row.trained(), 3)

    def test_bos_in_the_text_is_not_doubled(self):
        tokenizer = make_model(self.directory)
        ids = tokenizer.encode("<s>ab")
        self.assertEqual(tokenizer.decode(ids, False), "<s>ab")

    def test_no_eos(self):
        maker = RowMaker(make_model(self.directory), add_eos=False)
        self.assertEqual(self.trained_text(maker.make({"text": "a"})), "<s>a")

    def test_completion_alone_is_trained(self):
        row = RowMaker(make_model(self.directory)).make(
            {"prompt": "one ", "completion": "two"}
        )
        self.assertEqual(self.trained_text(row), "two</s>")

    def test_every_answer_with_its_end_of_turn(self):
        row = RowMaker(make_model(self.directory)).make(
            {
                "messages": chat(
                    ("user", "q"), ("assistant", "a1"),
                    ("user", "r"), ("assistant", "a2"),
                )
            }
        )
        self.assertEqual(self.trained_text(row), "a1<|end|>a2<|end|>")
        whole = ModelTokenizer(self.directory).decode(row.ids, False)
        self.assertEqual(whole.count("<s>"), 1)

    def test_conversational_prompt_and_completion(self):
        row = RowMaker(make_model(self.directory)).make(
            {
                "prompt": chat(("user", "q"), ("assistant", "no"), ("user", "r")),
                "completion": chat(("assistant", "yes")),
            }
        )
        self.assertEqual(self.trained_text(row), "yes<|end|>")

    def test_template_that_rewrites_history_is_refused(self):
        template = (
            "{% for m in messages %}{% if loop.last or m.role == 'user' %}"
            "{{ m.content }}{% endif %}|{% endfor %}"
        )
        maker = RowMaker(make_model(self.directory, template))
        with self.assertRaisesRegex(DataError, "message 1 .* split the chat"):
            maker.make(
                {
                    "messages": chat(
                        ("user", "q"), ("assistant", "a"),
                        ("user", "r"), ("assistant", "b"),
                    )
                }
            )

    def test_refusals(self):
        maker = RowMaker(make_model(self.directory))
        table = [
            ({"txt": "a"}, "no key 'text'.*found: 'txt'"),
            ({"text": 3}, "'text' is a int"),
            ({"prompt": "a"}, "'completion' is missing"),
            ({"completion": "a"}, "'prompt' is missing"),
            ({"prompt": "a", "completion": 1}, "'completion' is a int"),
            ({"messages": []}, "at least one message"),
            ({"messages": [{"content": "x"}]}, "message 0 .*'role' is missing"),
            ({"messages": [{"role": "user"}]}, "'content' is missing"),
            ({"messages": ["x"]}, "message 0 .*not a JSON object"),
            ({"messages": chat(("user", "q"))}, "no message of role"),
        ]
        for value, message in table:
            with self.subTest(value):
                with self.assertRaisesRegex(DataError, message):
                    maker.make(value)


class TemplateTest(Case):
    def render(self, template, messages, **config):
        maker = RowMaker(make_model(self.directory, template, **config))
        return maker.template.render(messages, add_generation_prompt=True)

    def test_trim_blocks_and_tojson(self):
        template = "{% if true %}\n{{ messages | tojson }}\n{% endif %}\n"
        text = self.render(template, chat(("user", "<é>")))
        self.assertEqual(text, '[{"role": "user", "content": "<é>"}]\n')

    def test_raise_exception(self):
        with self.assertRaisesRegex(DataError, "no tools here"):
            self.render("{{ raise_exception('no tools here') }}", [])

    def test_strftime_now_and_loop_controls(self):
        template = (
            "{% for m in messages %}{% break %}{% endfor %}"
            "{{ strftime_now('%Y') }}"
        )
        self.assertRegex(self.render(template, []), r"^20\d\d$")

    def test_generation_block_is_text(self):
        template = "{% generation %}a{% endgeneration %}b"
        self.assertEqual(self.render(template, []), "ab")

    def test_sandbox(self):
        template = "{{ ''.__class__.__mro__ }}"
        with self.assertRaisesRegex(DataError, "unsafe"):
            self.render(template, [])

    def test_file_wins_over_field(self):
        with open(self.path("chat_template.jinja"), "w") as file:
            file.write("from the file")
        self.assertEqual(self.render("from the field", []), "from the file")

    def test_named_templates(self):
        named = [
            {"name": "tool_use", "template": "t"},
            {"name": "default", "template": "d"},
        ]
        self.assertEqual(self.render(named, []), "d")
        with self.assertRaisesRegex(DataError, "without an entry .*default"):
            self.render(named[:1], [])

    def test_no_template(self):
        with self.assertRaisesRegex(DataError, "has no chat template"):
            self.render(None, [])


class CommandTest(Case):
    def run_command(self, *arguments, stdin=""):
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            with mock.patch("sys.stdin", io.StringIO(stdin)):
                try:
                    code = cli.main(list(arguments))
                except SystemExit as stop:
                    code = stop.code
        return code, out.getvalue(), err.getvalue()

    def tokenize(self, lines, *flags, seq=16):
        make_model(self.directory)
        with open(self.path("data.jsonl"), "wb") as file:
            file.write(b"\n".join(lines))
        return self.run_command(
            "tokenize", "--model", self.directory, "--seq", str(seq),
            "--data", self.path("data.jsonl"),
            "-o", self.path("data.safetensors"), *flags,
        )

    def test_token_file(self):
        code, _, _ = self.tokenize([b'{"text": "abc"}', b"", b'{"text": "d"}'], seq=6)
        self.assertEqual(code, 0)
        arrays = load_file(self.path("data.safetensors"))
        self.assertEqual(sorted(arrays), [
            "input_ids", "labels", "position_ids", "segment_ids"])
        for array in arrays.values():
            self.assertEqual((array.dtype, array.shape), (np.int32, (2, 6)))
        np.testing.assert_array_equal(
            arrays["segment_ids"], [[0] * 5 + [-1], [0] * 3 + [-1] * 3])
        np.testing.assert_array_equal(
            arrays["position_ids"], [[0, 1, 2, 3, 4, 0], [0, 1, 2, 0, 1, 2]])
        self.assertTrue((arrays["labels"][1, 3:] == -100).all())

    def test_pack_keeps_texts_apart(self):
        lines = [b'{"text": "aaaa"}', b'{"text": "bbbb"}', b'{"text": "c"}']
        code, out, _ = self.tokenize(lines, "--pack", seq=10)
        self.assertEqual(code, 0)
        self.assertIn("3 rows in 2 lines", out)
        arrays = load_file(self.path("data.safetensors"))
        np.testing.assert_array_equal(
            arrays["segment_ids"], [[0] * 6 + [1] * 3 + [-1], [0] * 6 + [-1] * 4])
        np.testing.assert_array_equal(
            arrays["position_ids"][0], [0, 1, 2, 3, 4, 5, 0, 1, 2, 0])
        self.assertEqual(arrays["labels"][0, 6], -100)

    def test_same_input_gives_the_same_bytes(self):
        lines = [b'{"text": "abc"}', b'{"text": "d"}']
        self.tokenize(lines, "--pack")
        with open(self.path("data.safetensors"), "rb") as file:
            first = file.read()
        self.tokenize(lines, "--pack")
        with open(self.path("data.safetensors"), "rb") as file:
            self.assertEqual(file.read(), first)

    def test_long_rows(self):
        line = [b'{"text": "abcdefgh"}']
        code, _, err = self.tokenize(line, seq=5)
        self.assertEqual(code, 65)
        self.assertIn("data.jsonl:1: 10 tokens, but --seq is 5", err)
        self.assertFalse(os.path.exists(self.path("data.safetensors")))
        code, _, _ = self.tokenize(line, "--truncate", seq=5)
        self.assertEqual(code, 0)

    def test_bad_lines_are_named(self):
        good = b'{"text": "a"}'
        table = [
            ([good, b"{"], ":2: not JSON"),
            ([good, b"", b"[1]"], ":3: a list, expected a JSON object"),
            ([b'{"text": "\xff"}'], ":1: not UTF-8"),
            ([b'{"prompt": "a"}'], ":1: key 'completion' is missing"),
            ([b""], "has no rows"),
            ([good, b'{"text": "a\\ud83d"}'], ":2: half of a surrogate pair"),
        ]
        for lines, message in table:
            with self.subTest(lines):
                code, _, err = self.tokenize(lines)
                self.assertEqual(code, 65)
                self.assertIn(message, err)
                self.assertEqual(err.count("\n"), 1)

    def test_byte_order_mark(self):
        code, _, err = self.tokenize([b'\xef\xbb\xbf{"text": "a\\ud83d\\ude42"}'])
        self.assertEqual(code, 0, err)

    def test_nothing_to_learn(self):
        line = [b'{"prompt": "abcdef", "completion": "g"}']
        code, _, err = self.tokenize(line, "--truncate", seq=4)
        self.assertEqual(code, 65)
        self.assertIn("no row has a trained token", err)

    def test_usage_and_missing_files(self):
        code, _, err = self.tokenize([b'{"text": "a"}'], seq=0)
        self.assertEqual(code, 64)
        self.assertIn("--seq", err)
        self.assertEqual(self.run_command("fly")[0], 64)
        code, _, err = self.run_command(
            "encode", "--model", self.path("none"), stdin='"a"\n')
        self.assertEqual(code, 74)
        self.assertIn("no such model directory", err)
        make_model(self.directory)
        code, _, err = self.run_command(
            "tokenize", "--model", self.directory, "--seq", "4",
            "--data", self.path("none.jsonl"), "-o", self.path("x"))
        self.assertEqual(code, 74)
        self.assertIn("none.jsonl: No such file", err)

    def test_encode_and_decode(self):
        make_model(self.directory)
        asked = '"q"\n{"prompt": "q"}\n{"messages": [{"role": "user",' \
            ' "content": "q"}, {"role": "assistant", "content": "a"}]}\n'
        code, ids, _ = self.run_command(
            "encode", "--model", self.directory, "--chat", stdin=asked)
        self.assertEqual(code, 0)
        code, texts, _ = self.run_command(
            "decode", "--model", self.directory, stdin=ids)
        expected = "<s><|start|>user\nq<|end|>\n<|start|>assistant\n"
        self.assertEqual(
            [json.loads(line) for line in texts.splitlines()], [expected] * 3)
        _, text, _ = self.run_command(
            "decode", "--model", self.directory, "--skip-special", stdin=ids)
        self.assertEqual(
            json.loads(text.splitlines()[0]), "user\nq\nassistant\n")

    def test_show_marks_trained_tokens(self):
        self.tokenize([b'{"prompt": "ab", "completion": "cd"}'])
        code, out, _ = self.run_command(
            "show", "--model", self.directory,
            "--data", self.path("data.safetensors"))
        self.assertEqual((code, out), (0, "<s>ab[[cd</s>]]\n"))
        code, _, err = self.run_command(
            "show", "--model", self.directory, "--row", "1",
            "--data", self.path("data.safetensors"))
        self.assertEqual(code, 64)
        self.assertIn("the file has 1 rows", err)


if __name__ == "__main__":
    unittest.main()
