"""Unit tests of what a model's name and its directory's files mean."""

import json
import os
import sys
import unittest
from unittest import mock

sys.path.insert(0, os.path.dirname(__file__))
from test_peft_data import Case, make_model  # noqa: E402

from peft_data.errors import DataError  # noqa: E402
from peft_data.rows import RowMaker  # noqa: E402
from peft_data.tokenizer import ModelTokenizer  # noqa: E402


class EosTest(Case):
    """A model whose tokenizer's own files name no EOS."""

    def eos(self, **files):
        make_model(self.directory, eos_token=None)
        for name, value in files.items():
            with open(self.path(name + ".json"), "w") as file:
                json.dump({"eos_token_id": value}, file)
        maker = RowMaker(ModelTokenizer(self.directory))
        text = self.trained_text(maker.make({"text": "a"}))
        return text, maker.lacks_eos

    def test_generation_config_wins_over_config(self):
        self.assertEqual(self.eos(config=259), ("<s>a</s>", False))
        self.assertEqual(
            self.eos(config=259, generation_config=258), ("<s>a<|end|>", False)
        )

    def test_the_first_of_a_list(self):
        self.assertEqual(
            self.eos(generation_config=[258, 259]), ("<s>a<|end|>", False)
        )

    def test_an_id_without_a_text_is_none(self):
        self.assertEqual(
            self.eos(generation_config=5000, config=259), ("<s>a</s>", False)
        )

    def test_none_at_all_is_known(self):
        self.assertEqual(self.eos(), ("<s>a", True))

    def test_the_tokenizer_wins(self):
        make_model(self.directory)
        with open(self.path("generation_config.json"), "w") as file:
            json.dump({"eos_token_id": 258}, file)
        self.assertEqual(ModelTokenizer(self.directory).eos, "</s>")


class HubTest(Case):
    """org/name means what it means to peftc."""

    def setUp(self):
        super().setUp()
        self.repository = self.path("hub/models--org--name")
        self.snapshot = os.path.join(self.repository, "snapshots", "abc")
        os.makedirs(self.snapshot)
        make_model(self.snapshot)

    def resolve(self, name="org/name", **variables):
        variables = variables or {"HF_HUB_CACHE": self.path("hub")}
        with mock.patch.dict(os.environ, variables, clear=True):
            return ModelTokenizer(name).directory

    def reference(self, commit):
        os.makedirs(os.path.join(self.repository, "refs"), exist_ok=True)
        with open(os.path.join(self.repository, "refs/main"), "w") as file:
            file.write(commit)

    def test_the_only_snapshot(self):
        self.assertEqual(self.resolve(), self.snapshot)
        self.assertEqual(self.resolve(self.repository), self.snapshot)

    def test_the_snapshot_that_main_names(self):
        os.makedirs(os.path.join(self.repository, "snapshots", "def"))
        with self.assertRaisesRegex(DataError, "no refs/main and 2 snapshots"):
            self.resolve()
        self.reference("abc\n")
        self.assertEqual(self.resolve(), self.snapshot)
        self.reference("gone")
        with self.assertRaisesRegex(DataError, "download is incomplete"):
            self.resolve()
        for commit in ("../x", "..", ""):
            self.reference(commit)
            with self.assertRaisesRegex(DataError, "not hold the name"):
                self.resolve()

    def test_the_variables(self):
        self.assertEqual(self.resolve(HF_HOME=self.directory), self.snapshot)
        os.makedirs(self.path("cache/huggingface"))
        os.rename(self.path("hub"), self.path("cache/huggingface/hub"))
        self.resolve(XDG_CACHE_HOME=self.path("cache"))
        os.rename(self.path("cache"), self.path(".cache"))
        self.resolve(HOME=self.directory)

    def test_what_is_not_there(self):
        with self.assertRaisesRegex(DataError, "hf download org/other"):
            self.resolve("org/other")
        with self.assertRaisesRegex(DataError, "no such model directory"):
            self.resolve("../name")

    def test_a_config_means_its_directory(self):
        config = os.path.join(self.snapshot, "config.json")
        with open(config, "w") as file:
            file.write("{}")
        self.assertEqual(self.resolve(config), self.snapshot)


if __name__ == "__main__":
    unittest.main()
