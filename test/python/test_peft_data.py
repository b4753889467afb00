"""Unit tests of python/peft_data: rows, packing, templates, the command."""

import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import unittest
from contextlib import redirect_stderr, redirect_stdout
from unittest import mock

import numpy as np
from safetensors import SafetensorError
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


def contents(path):
    with open(path, "rb") as file:
        return file.read()


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.directory = folder.name
        other = tempfile.TemporaryDirectory()
        self.addCleanup(other.cleanup)
        self.output = os.path.join(other.name, "data.safetensors")

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
            (
                {"text": "a", "prompt": "b", "completion": "c"},
                "has 'prompt' and 'completion' as well as 'text'",
            ),
            (
                {"text": "a", "messages": chat(("assistant", "q"))},
                "has 'messages' as well as 'text'",
            ),
        ]
        for value, message in table:
            with self.subTest(value):
                with self.assertRaisesRegex(DataError, message):
                    maker.make(value)


    def test_fields_that_are_null_are_not_there(self):
        row = RowMaker(make_model(self.directory)).make(
            {"text": "ab", "prompt": None, "messages": None}
        )
        self.assertEqual(self.trained_text(row), "<s>ab</s>")

    def test_other_fields_are_remembered(self):
        maker = RowMaker(make_model(self.directory))
        maker.make({"text": "ab", "id": 1, "source": "x"})
        maker.make({"id": 2, "prompt": "a", "completion": "b", "tools": []})
        self.assertEqual(list(maker.ignored), ["id", "source", "tools"])


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
            "-o", self.output, *flags,
        )

    def test_token_file(self):
        code, _, _ = self.tokenize([b'{"text": "abc"}', b"", b'{"text": "d"}'], seq=6)
        self.assertEqual(code, 0)
        arrays = load_file(self.output)
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
        arrays = load_file(self.output)
        np.testing.assert_array_equal(
            arrays["segment_ids"], [[0] * 6 + [1] * 3 + [-1], [0] * 6 + [-1] * 4])
        np.testing.assert_array_equal(
            arrays["position_ids"][0], [0, 1, 2, 3, 4, 5, 0, 1, 2, 0])
        self.assertEqual(arrays["labels"][0, 6], -100)

    def test_same_input_gives_the_same_bytes(self):
        lines = [b'{"text": "abc"}', b'{"text": "d"}']
        self.tokenize(lines, "--pack")
        first = contents(self.output)
        self.tokenize(lines, "--pack")
        self.assertEqual(contents(self.output), first)

    def test_long_rows(self):
        line = [b'{"text": "abcdefgh"}']
        code, _, err = self.tokenize(line, seq=5)
        self.assertEqual(code, 65)
        self.assertIn("data.jsonl:1: 10 tokens, but --seq is 5", err)
        self.assertFalse(os.path.exists(self.output))
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
            "--data", self.output)
        self.assertEqual((code, out), (0, "<s>ab[[cd</s>]]\n"))
        code, _, err = self.run_command(
            "show", "--model", self.directory, "--row", "1",
            "--data", self.output)
        self.assertEqual(code, 64)
        self.assertIn("the file has 1 rows", err)


    def onto(self, output):
        make_model(self.directory)
        with open(self.path("data.jsonl"), "w") as file:
            file.write('{"text": "a"}')
        before = contents(output) if os.path.isfile(output) else None
        code, _, err = self.run_command(
            "tokenize", "--model", self.directory, "--seq", "8",
            "--data", self.path("data.jsonl"), "-o", output)
        if before is not None:
            self.assertEqual(contents(output), before)
        return code, err

    def test_nothing_given_is_written_over(self):
        self.onto(self.output)  # the files exist now
        elsewhere = os.path.dirname(self.output)
        outside = os.path.join(elsewhere, "data.jsonl")
        os.replace(self.path("data.jsonl"), outside)
        os.symlink(outside, self.path("data.jsonl"))
        code, err = self.onto(outside)
        self.assertEqual(code, 64)
        self.assertIn("is the data itself", err)
        # As in the hub cache: the model's file is a link to a blob.
        blob = os.path.join(elsewhere, "blob")
        with open(blob, "w") as file:
            file.write("{}")
        os.symlink(blob, self.path("config.json"))
        for path in (self.path("tokenizer.json"), blob):
            code, err = self.onto(path)
            self.assertEqual(code, 64)
            self.assertIn("a file of the model's directory", err)
        code, err = self.onto("/dev/null")
        self.assertEqual(code, 64)
        self.assertIn("/dev/null: is not a regular file", err)
        self.assertEqual(self.onto(self.path("new.safetensors"))[0], 0)

    def test_a_full_disk(self):
        with mock.patch(
            "peft_data.token_file.save_file",
            side_effect=SafetensorError("I/O error: No space left on device"),
        ):
            code, _, err = self.tokenize([b'{"text": "a"}'])
        self.assertEqual((code, err.count("\n")), (74, 1))
        self.assertIn("data.safetensors: I/O error: No space left", err)
        self.assertEqual(os.listdir(os.path.dirname(self.output)), [])

    def test_a_full_disk_for_real(self):
        """A limit on the size of files in the place of the disk's."""
        self.tokenize([b'{"text": "a"}'] * 500)
        os.unlink(self.output)
        python = os.path.join(os.path.dirname(cli.__file__), "..")
        ended = subprocess.run(
            [
                sys.executable, "-m", "peft_data", "tokenize", "--seq", "16",
                "--model", self.directory, "--data", self.path("data.jsonl"),
                "-o", self.output,
            ],
            preexec_fn=lambda: resource.setrlimit(
                resource.RLIMIT_FSIZE, (4096, 4096)
            ),
            env={**os.environ, "PYTHONPATH": python, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
        )
        self.assertEqual(ended.returncode, 74, ended.stderr)
        self.assertEqual(ended.stderr.count("\n"), 1, ended.stderr)
        self.assertEqual(os.listdir(os.path.dirname(self.output)), [])

    def test_notes(self):
        lines = [b'{"text": "a", "id": 1}', b'{"text": "b", "id": 2, "u": 3}']
        code, _, err = self.tokenize(lines)
        self.assertEqual(code, 0)
        self.assertEqual(
            err,
            f"peft-data: note: {self.path('data.jsonl')}: ignored fields:"
            " 'id', 'u'\n",
        )
        os.unlink(self.path("tokenizer_config.json"))
        ask = (
            "tokenize", "--model", self.directory, "--seq", "8",
            "--data", self.path("data.jsonl"), "-o", self.output,
        )
        _, _, err = self.run_command(*ask)
        self.assertIn("do not end with an EOS token", err)
        _, _, err = self.run_command(*ask, "--no-eos")
        self.assertNotIn("EOS", err)

    def test_two_forms_in_one_row(self):
        code, _, err = self.tokenize([b"", b'{"text": "a", "completion": "b"}'])
        self.assertEqual(code, 65)
        self.assertIn("data.jsonl:2: has 'completion' as well as 'text'", err)
        code, _, err = self.run_command(
            "encode", "--model", self.directory,
            stdin='"a"\n\n{"prompt": "a", "messages": []}\n')
        self.assertEqual(code, 65)
        self.assertIn("stdin:3: has 'messages' as well as 'prompt'", err)

    def test_pointers_and_pipes(self):
        pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
        code, _, err = self.tokenize([pointer])
        self.assertEqual(code, 65)
        self.assertIn(
            "data.jsonl: is a Git LFS pointer, not the file itself; run `git"
            f" lfs pull` in {self.directory}", err)
        os.unlink(self.path("data.jsonl"))
        os.mkfifo(self.path("data.jsonl"))
        code, _, err = self.run_command(
            "tokenize", "--model", self.directory, "--seq", "8",
            "--data", self.path("data.jsonl"), "-o", self.output)
        self.assertEqual(code, 65)
        self.assertIn("data.jsonl: is not a regular file", err)
        with open(self.path("tokenizer.json"), "wb") as file:
            file.write(pointer)
        code, _, err = self.run_command(
            "encode", "--model", self.directory, stdin='"a"\n')
        self.assertEqual(code, 65)
        self.assertIn("tokenizer.json: is a Git LFS pointer", err)

    def test_ids_beyond_the_vocabulary(self):
        make_model(self.directory)
        ask = ("decode", "--model", self.directory)
        code, out, err = self.run_command(*ask, stdin="[1]\n[260]\n")
        self.assertEqual(code, 65)
        self.assertIn(
            "stdin:2: token id 260 is not in the vocabulary of 260", err)
        for wrong in ("[-1]", "[true]", '["a"]', "[99999999999]"):
            self.assertEqual(self.run_command(*ask, stdin=wrong)[0], 65, wrong)
        with open(self.path("config.json"), "w") as file:
            json.dump({"vocab_size": 300}, file)
        code, out, _ = self.run_command(*ask, stdin="[260, 299]\n")
        self.assertEqual((code, out), (0, '""\n'))
        self.assertEqual(self.run_command(*ask, stdin="[300]\n")[0], 65)


if __name__ == "__main__":
    unittest.main()
