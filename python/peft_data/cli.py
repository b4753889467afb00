"""The command `peft-data`: tokenize, encode, decode, show."""

import argparse
import json
import sys

from peft_data import __version__
from peft_data.errors import IO_ERROR, USAGE, DataError
from peft_data.rows import UNTRAINED, RowMaker, check_messages
from peft_data.token_file import (
    PADDING_SEGMENT,
    pack,
    read_rows,
    to_arrays,
    write_token_file,
)
from peft_data.tokenizer import ModelTokenizer

EXAMPLES = """examples:
  peft-data tokenize --model DIR --seq 512 --data chats.jsonl -o chats.safetensors
  peft-data tokenize --model DIR --seq 2048 --pack --data chats.jsonl -o packed.safetensors
  echo '"What is the capital of France?"' | peft-data encode --model DIR --chat
  echo '[504, 3575]' | peft-data decode --model DIR
  peft-data show --model DIR --data chats.safetensors --row 0
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        sys.stderr.write(f"peft-data: error: {message}; see {self.prog} --help\n")
        sys.exit(USAGE)


def _positive(text):
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


_positive.__name__ = "positive number"


def _make_parser():
    parser = _Parser(
        prog="peft-data",
        description="Turns text and chats into the tokens that peft-run reads.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action="version", version=f"peft-data {__version__}"
    )
    commands = parser.add_subparsers(
        dest="command", required=True, parser_class=_Parser
    )

    def add(name, run, summary):
        command = commands.add_parser(name, help=summary, description=summary)
        command.add_argument("--model", required=True, metavar="DIR")
        command.set_defaults(run=run)
        return command

    tokenize = add("tokenize", _tokenize, "write a token file from JSONL")
    tokenize.add_argument("--seq", required=True, type=_positive, metavar="N")
    tokenize.add_argument("--data", required=True, metavar="FILE.jsonl")
    tokenize.add_argument("-o", dest="output", required=True, metavar="FILE")
    tokenize.add_argument(
        "--pack", action="store_true", help="put several rows into one line"
    )
    tokenize.add_argument(
        "--truncate", action="store_true", help="cut rows longer than --seq"
    )
    tokenize.add_argument(
        "--no-eos",
        action="store_true",
        help="do not end texts and completions with the EOS token",
    )
    encode = add("encode", _encode, "JSON lines of text to lines of ids")
    encode.add_argument("--chat", action="store_true")
    decode = add("decode", _decode, "lines of ids to JSON lines of text")
    decode.add_argument("--skip-special", action="store_true")
    show = add("show", _show, "print one row, its trained tokens marked")
    show.add_argument("--data", required=True, metavar="FILE.safetensors")
    show.add_argument("--row", type=int, default=0, metavar="N")
    return parser


def _tokenize(options, tokenizer):
    maker = RowMaker(tokenizer, add_eos=not options.no_eos)
    rows = read_rows(options.data, maker, options.seq, options.truncate)
    lines = pack(rows, options.seq) if options.pack else [[r] for r in rows]
    arrays = to_arrays(lines, options.seq, tokenizer.pad_id)
    trained = write_token_file(
        options.output, arrays, tokenizer.pad_id, len(rows)
    )
    print(
        f"{options.output}: {len(rows)} rows in {len(lines)} lines of"
        f" {options.seq} tokens, {trained} trained"
    )


def _input_lines():
    for number, line in enumerate(sys.stdin, 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except ValueError as error:
            raise DataError(f"stdin:{number}: not JSON: {error}") from error


def _encode(options, tokenizer):
    maker = RowMaker(tokenizer)
    for number, value in _input_lines():
        try:
            ids = _prompt_ids(value, options.chat, tokenizer, maker)
        except DataError as error:
            raise DataError(f"stdin:{number}: {error}", error.code) from error
        print(json.dumps(ids))


def _prompt_ids(value, chat, tokenizer, maker):
    """Ids of what stands before an answer; see `encode` in the README."""
    if isinstance(value, dict) and "messages" in value:
        messages = value["messages"]
        check_messages(messages)
        if messages[-1]["role"] == "assistant":
            messages = messages[:-1]
        text = maker.template.render(messages, add_generation_prompt=True)
        return tokenizer.encode_plain(text)
    if isinstance(value, dict):
        for key in ("prompt", "text"):
            if key in value:
                value = value[key]
                break
        else:
            raise DataError("no key 'prompt', 'text' or 'messages'")
    if not isinstance(value, str):
        raise DataError(f"a {type(value).__name__}, expected a string")
    if chat:
        message = {"role": "user", "content": value}
        text = maker.template.render([message], add_generation_prompt=True)
        return tokenizer.encode_plain(text)
    return tokenizer.encode(value)


def _decode(options, tokenizer):
    for number, ids in _input_lines():
        if not isinstance(ids, list):
            raise DataError(f"stdin:{number}: expected a JSON list of ids")
        try:
            text = tokenizer.decode(ids, options.skip_special)
        except DataError as error:
            raise DataError(f"stdin:{number}: {error}", error.code) from error
        print(json.dumps(text, ensure_ascii=False))


def _show(options, tokenizer):
    from safetensors.numpy import load_file

    try:
        arrays = load_file(options.data)
        ids, labels = arrays["input_ids"], arrays["labels"]
    except OSError as error:
        raise DataError(f"{options.data}: {error}", IO_ERROR) from error
    except Exception as error:  # safetensors' own error, or a missing key
        raise DataError(f"{options.data}: no token file: {error}") from error
    if not 0 <= options.row < len(ids):
        raise DataError(f"--row {options.row}: the file has {len(ids)} rows", USAGE)
    segments = arrays.get("segment_ids")
    runs = []
    for column in range(ids.shape[1]):
        if segments is not None:
            if segments[options.row, column] == PADDING_SEGMENT:
                continue
        trained = bool(labels[options.row, column] != UNTRAINED)
        if not runs or runs[-1][0] != trained:
            runs.append((trained, []))
        runs[-1][1].append(int(ids[options.row, column]))
    for trained, part in runs:
        text = tokenizer.decode(part, skip_special=False)
        sys.stdout.write(f"[[{text}]]" if trained else text)
    sys.stdout.write("\n")


def main(arguments=None):
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8")
    options = _make_parser().parse_args(arguments)
    try:
        options.run(options, ModelTokenizer(options.model))
        sys.stdout.flush()
    except DataError as error:
        sys.stderr.write(f"peft-data: error: {error}\n")
        return error.code
    except OSError as error:
        sys.stderr.write(f"peft-data: error: {error}\n")
        return IO_ERROR
    return 0
