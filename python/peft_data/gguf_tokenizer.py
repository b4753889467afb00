"""The byte-level BPE tokenizer of a GGUF file as Hugging Face files."""

import os

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
)

from peft_data.errors import DataError
from peft_data.files import write_json, write_text

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED = 1, 2, 3, 4, 5

LLAMA3_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _byte_level(use_regex=True):
    return pre_tokenizers.ByteLevel(
        add_prefix_space=False, trim_offsets=True, use_regex=use_regex
    )


def _pre_tokenizer(kind, path):
    """How text falls into pieces before merging, by llama.cpp's name of it."""
    if kind in ("smollm", "starcoder", "refact", "command-r"):
        # Every digit is a piece of its own; the rest as GPT-2 does it.
        return pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), _byte_level()]
        )
    if kind in ("gpt-2", "default", None):
        return _byte_level()
    if kind in ("llama-bpe", "llama3", "llama-v3"):
        split = pre_tokenizers.Split(
            Regex(LLAMA3_PIECES), behavior="isolated", invert=False
        )
        return pre_tokenizers.Sequence([split, _byte_level(use_regex=False)])
    raise DataError(
        f"{path}: tokenizer.ggml.pre {kind!r} is not supported (smollm,"
        " starcoder, gpt-2, llama-bpe)"
    )


def _build(file, tokens, kinds):
    merges = [tuple(pair.split(" ", 1)) for pair in file.need(
        "tokenizer.ggml.merges"
    )]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise DataError(f"{file.path}: tokenizer.ggml.tokens repeats a token")
    pre = file.get("tokenizer.ggml.pre")
    model = models.BPE(
        vocab=vocabulary, merges=merges, ignore_merges=pre == "llama-bpe"
    )
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = _pre_tokenizer(pre, file.path)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    added = [
        AddedToken(token, normalized=False, special=kind == CONTROL)
        for token, kind in zip(tokens, kinds)
        if kind in (CONTROL, USER_DEFINED)
    ]
    tokenizer.add_special_tokens([t for t in added if t.special])
    tokenizer.add_tokens([t for t in added if not t.special])
    if file.get("tokenizer.ggml.add_bos_token", False):
        bos = file.need("tokenizer.ggml.bos_token_id")
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{tokens[bos]} $A",
            pair=f"{tokens[bos]} $A $B",
            special_tokens=[(tokens[bos], bos)],
        )
    return tokenizer


def write_tokenizer(file, directory):
    """Writes tokenizer.json and tokenizer_config.json; returns the id that
    ends an answer."""
    model = file.need("tokenizer.ggml.model")
    if model != "gpt2":
        raise DataError(
            f"{file.path}: tokenizer.ggml.model {model!r} is not supported"
            " (only 'gpt2', byte-level BPE); convert the original model instead"
        )
    tokens = file.need("tokenizer.ggml.tokens")
    kinds = file.get("tokenizer.ggml.token_type", [NORMAL] * len(tokens))
    tokenizer = _build(file, tokens, kinds)
    # tokenizer.save would hide a full disk in an exception of its own.
    write_text(
        os.path.join(directory, "tokenizer.json"), tokenizer.to_str(pretty=True)
    )

    config = {"add_bos_token": file.get("tokenizer.ggml.add_bos_token", False)}
    config["add_prefix_space"] = False
    config["clean_up_tokenization_spaces"] = False
    for key, field in (
        ("bos_token", "bos"),
        ("eos_token", "eos"),
        ("pad_token", "padding"),
        ("unk_token", "unknown"),
    ):
        identifier = file.get(f"tokenizer.ggml.{field}_token_id")
        if identifier is not None:
            config[key] = tokens[identifier]
    template = file.get("tokenizer.chat_template")
    if template is not None:
        config["chat_template"] = template
    config["model_max_length"] = file.need("llama.context_length")
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    write_json(os.path.join(directory, "tokenizer_config.json"), config)
    return file.get("tokenizer.ggml.eos_token_id")
