"""The command `peft-data`: tokenize, encode, decode, show, init-adapter."""

import argparse
import json
import os
import sys

from peft_data import __version__
from peft_data.errors import IO_ERROR, USAGE, DataError
from peft_data.files import open_input
from peft_data.hub import resolve_model
from peft_data.rows import (
    UNTRAINED,
    RowMaker,
    check_messages,
    check_one_form,
)
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
        command.add_argument(
            "--model",
            required=True,
            metavar="DIR",
            help="a directory, or org/name in the local hub cache",
        )
        command.set_defaults(run=run)
        return command

    def with_tokenizer(run):
        return lambda options: run(options, ModelTokenizer(options.model))

    tokenize = add("tokenize", with_tokenizer(_tokenize), "write a token file from JSONL")
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
    encode = add("encode", with_tokenizer(_encode), "JSON lines of text to lines of ids")
    encode.add_argument("--chat", action="store_true")
    decode = add("decode", with_tokenizer(_decode), "lines of ids to JSON lines of text")
    decode.add_argument("--skip-special", action="store_true")
    show = add("show", with_tokenizer(_show), "print one row, its trained tokens marked")
    show.add_argument("--data", required=True, metavar="FILE.safetensors")
    show.add_argument("--row", type=int, default=0, metavar="N")
    start = add(
        "init-adapter",
        _init_adapter,
        "write what an adapter starts from (PiSSA, OLoRA), as peft-run asks"
        " for it in JSON on standard input",
    )
    start.add_argument("-o", dest="output", required=True, metavar="DIR")
    return parser


def _init_adapter(options):
    from peft_data.init_adapter import write_start

    try:
        request = json.load(sys.stdin)
    except ValueError as error:
        raise DataError(f"standard input: not JSON: {error}") from error
    write_start(request, resolve_model(options.model), options.output)


def _check_output(options, tokenizer):
    """Nothing that was given is written over."""
    output = options.output
    if not os.path.exists(output):
        return
    if os.path.exists(options.data) and os.path.samefile(options.data, output):
        raise DataError(
            f"{output}: is the data itself and would be lost; name another file"
            " after -o",
            USAGE,
        )
    # Links count as what they name and as what they are: files of the hub
    # cache are links to blobs elsewhere.
    model = os.path.realpath(tokenizer.directory)
    folder = os.path.realpath(os.path.dirname(os.path.abspath(output)))
    inside = os.path.commonpath([model, folder]) == model
    for entry in os.scandir(model):
        if entry.is_file() and os.path.samefile(entry.path, output):
            inside = True
    if inside:
        raise DataError(
            f"{output}: is a file of the model's directory and would be lost;"
            " name another file after -o",
            USAGE,
        )


def _note(text):
    sys.stderr.write(f"peft-data: note: {text}\n")


def _tell(options, maker):
    """What was done with the rows that may not have been meant."""
    if maker.ignored:
        names = [repr(key) for key in maker.ignored]
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        _note(f"{options.data}: ignored fields: {', '.join(names[:8])}{more}")
    if maker.lacks_eos:
        _note(
            f"{options.data}: rows do not end with an EOS token, because the"
            " model names none (eos_token in tokenizer_config.json, or"
            " eos_token_id in generation_config.json or config.json)"
        )


def _tokenize(options, tokenizer):
    _check_output(options, tokenizer)
    maker = RowMaker(tokenizer, add_eos=not options.no_eos)
    rows = read_rows(options.data, maker, options.seq, options.truncate)
    lines = pack(rows, options.seq) if options.pack else [[r] for r in rows]
    arrays = to_arrays(lines, options.seq, tokenizer.pad_id)
    trained = write_token_file(
        options.output, arrays, tokenizer.pad_id, len(rows)
    )
    _tell(options, maker)
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
    """Ids of what stands before an answer: a string, {"prompt"}, {"text"} or
    {"messages"}."""
    if isinstance(value, dict):
        check_one_form(value, (("messages",), ("prompt",), ("text",)))
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

    open_input(options.data).close()
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
        options.run(options)
        sys.stdout.flush()
    except DataError as error:
        sys.stderr.write(f"peft-data: error: {error}\n")
        return error.code
    except OSError as error:
        where = error.filename or "standard output"
        why = error.strerror or error
        sys.stderr.write(f"peft-data: error: {where}: {why}\n")
        _drop_output()
        return IO_ERROR
    return 0


def _drop_output():
    """What cannot be written is not tried again, and reported again, when the
    interpreter ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
