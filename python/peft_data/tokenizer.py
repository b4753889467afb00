"""The tokenizer of a Hugging Face model directory, without transformers."""

import os

from tokenizers import Tokenizer

from peft_data.errors import BAD_INPUT, IO_ERROR, DataError
from peft_data.files import read_json


class ModelTokenizer:
    """tokenizer.json plus the special tokens that other files of DIR name.

    Members: `bos`, `eos`, `pad` are token texts or None; `*_id` their ids.
    `end_ids` are the ids that end an answer (generation_config.json and
    config.json may name several).
    """

    def __init__(self, directory):
        self.directory = directory
        path = os.path.join(directory, "tokenizer.json")
        if not os.path.isdir(directory):
            raise DataError(f"{directory}: no such model directory", IO_ERROR)
        if not os.path.exists(path):
            raise DataError(
                f"{directory}: has no tokenizer.json; peft-data reads only this"
                " form; save the tokenizer with transformers'"
                " AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)",
                IO_ERROR,
            )
        try:
            self.backend = Tokenizer.from_file(path)
        except Exception as error:  # the Rust library raises bare Exception
            raise DataError(
                f"{path}: not a tokenizer file: {error}", BAD_INPUT
            ) from error
        self.backend.no_padding()
        self.backend.no_truncation()
        self.config = self._optional("tokenizer_config.json")
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
        pad_id = self.id_of(self.pad, "pad_token")
        self.pad_id = next(
            (i for i in (pad_id, self.eos_id) if i is not None), 0
        )
        ends = set() if self.eos_id is None else {self.eos_id}
        for name in ("config.json", "generation_config.json"):
            value = self._optional(name).get("eos_token_id")
            ends.update(value if isinstance(value, list) else [value])
        self.end_ids = sorted(i for i in ends if isinstance(i, int))
        self.special_ids = {
            i
            for i, token in self.backend.get_added_tokens_decoder().items()
            if token.special
        }

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
        size = self.backend.get_vocab_size(with_added_tokens=True)
        for identifier in ids:
            if not isinstance(identifier, int) or identifier < 0:
                raise DataError(f"{identifier!r} is not a token id")
            if identifier >= size:
                # A padded vocabulary: the model has rows without a text.
                return self._decode_known(ids, size, skip_special)
        return self.backend.decode(ids, skip_special_tokens=skip_special)

    def _decode_known(self, ids, size, skip_special):
        known = [i for i in ids if i < size]
        return self.backend.decode(known, skip_special_tokens=skip_special)
