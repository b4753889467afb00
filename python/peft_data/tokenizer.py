"""The tokenizer of a Hugging Face model directory, without transformers."""

import os

from tokenizers import Tokenizer

from peft_data.errors import BAD_INPUT, IO_ERROR, DataError
from peft_data.files import read_json, read_text
from peft_data.hub import resolve_model


class ModelTokenizer:
    """tokenizer.json plus the special tokens that other files of DIR name.

    Members: `bos`, `eos`, `pad` are token texts or None; `*_id` their ids.
    Where the tokenizer's own files name no EOS it is the one that ends an
    answer by generation_config.json, else by config.json.
    """

    def __init__(self, name):
        directory = self.directory = resolve_model(name)
        path = os.path.join(directory, "tokenizer.json")
        if not os.path.exists(path):
            raise DataError(
                f"{directory}: has no tokenizer.json; peft-data reads only this"
                " form; save the tokenizer with transformers'"
                " AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)",
                IO_ERROR,
            )
        try:
            self.backend = Tokenizer.from_str(read_text(path))
        except DataError:
            raise
        except Exception as error:  # the Rust library raises bare Exception
            raise DataError(
                f"{path}: not a tokenizer file: {error}", BAD_INPUT
            ) from error
        self.backend.no_padding()
        self.backend.no_truncation()
        self.config = self._optional("tokenizer_config.json")
        self._size = None
        self._read_special_tokens()

    def _optional(self, name):
        path = os.path.join(self.directory, name)
        if not os.path.exists(path):
            return {}
        value = read_json(path)
        if not isinstance(value, dict):
            raise DataError(f"{path}: expected a JSON object")
        return value

    def _read_special_tokens(self):
        special_map = self._optional("special_tokens_map.json")

        def text_of(key):
            value = self.config.get(key, special_map.get(key))
            if isinstance(value, dict):
                value = value.get("content")
            return value

        self.bos, self.eos = text_of("bos_token"), text_of("eos_token")
        self.pad, self.unk = text_of("pad_token"), text_of("unk_token")
        self.bos_id = self.id_of(self.bos, "bos_token")
        self.eos_id = self.id_of(self.eos, "eos_token")
        if self.eos is None:
            self.eos, self.eos_id = self._eos_of_the_model()
        pad_id = self.id_of(self.pad, "pad_token")
        self.pad_id = next(
            (i for i in (pad_id, self.eos_id) if i is not None), 0
        )
        self.special_ids = {
            i
            for i, token in self.backend.get_added_tokens_decoder().items()
            if token.special
        }

    def _eos_of_the_model(self):
        """(text, id) of the first end token that the tokenizer knows, or
        (None, None)."""
        for name in ("generation_config.json", "config.json"):
            value = self._optional(name).get("eos_token_id")
            for identifier in value if isinstance(value, list) else [value]:
                if type(identifier) is int and identifier >= 0:
                    text = self.backend.id_to_token(identifier)
                    if text is not None:
                        return text, identifier
        return None, None

    def vocabulary_size(self):
        """Ids end here: a model may have more of them than its tokenizer has
        texts (a padded vocabulary)."""
        known = max(self.backend.get_vocab().values(), default=-1) + 1
        config = self._optional("config.json")
        inner = config.get("text_config")
        for part in (config, inner if isinstance(inner, dict) else {}):
            if type(part.get("vocab_size")) is int:
                known = max(known, part["vocab_size"])
        return known

    def id_of(self, text, key):
        if text is None:
            return None
        identifier = self.backend.token_to_id(text)
        if identifier is None:
            raise DataError(
                f"{self.directory}: {key} {text!r} of tokenizer_config.json is"
                " not in tokenizer.json"
            )
        return identifier

    def encode(self, text):
        """Ids as a model expects a whole text: with its BOS, but only one."""
        ids = self.backend.encode(text, add_special_tokens=True).ids
        if self.bos_id is not None and ids[:2] == [self.bos_id, self.bos_id]:
            ids = ids[1:]
        return ids

    def encode_plain(self, text):
        """Ids of a piece of text: nothing added before or after it."""
        return self.backend.encode(text, add_special_tokens=False).ids

    def encode_spans(self, text):
        """Ids and, for each, its (begin, end) in characters of `text`."""
        encoding = self.backend.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def decode(self, ids, skip_special):
        """Text of the ids; those of a padded vocabulary have none."""
        if self._size is None:
            self._size = self.vocabulary_size()
        for identifier in ids:
            if type(identifier) is not int or identifier < 0:
                raise DataError(f"{identifier!r} is not a token id")
            if identifier >= self._size:
                raise DataError(
                    f"token id {identifier} is not in the vocabulary of"
                    f" {self._size}"
                )
        return self.backend.decode(ids, skip_special_tokens=skip_special)
