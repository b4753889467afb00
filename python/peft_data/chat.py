"""Chat templates: jinja text in a model directory to one string per chat.

The environment is Hugging Face's: sandboxed and immutable, blocks trimmed,
with `raise_exception`, `strftime_now` and a `tojson` that does not escape HTML.
"""

import datetime
import json
import os

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from peft_data.errors import DataError
from peft_data.files import read_json, read_text


def find_template(directory, tokenizer_config):
    """Text of the chat template of a model directory, or None.

    chat_template.jinja wins over chat_template.json, which wins over the field
    of tokenizer_config.json. A list of named templates means `default`.
    """
    path = os.path.join(directory, "chat_template.jinja")
    if os.path.exists(path):
        return read_text(path)
    path = os.path.join(directory, "chat_template.json")
    if os.path.exists(path):
        value = read_json(path)
        value = value.get("chat_template") if isinstance(value, dict) else value
    else:
        value = tokenizer_config.get("chat_template")
    if isinstance(value, list):
        named = {
            entry.get("name"): entry.get("template")
            for entry in value
            if isinstance(entry, dict)
        }
        if "default" not in named:
            raise DataError(
                f"{directory}: chat_template is a list without an entry named"
                f" 'default' (it has: {', '.join(map(str, named)) or 'nothing'})"
            )
        value = named["default"]
    if value is not None and not isinstance(value, str):
        raise DataError(f"{directory}: chat_template is not a text")
    return value


def _raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def _tojson(
    value, ensure_ascii=False, indent=None, separators=None, sort_keys=False
):
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


class _GenerationBlock(jinja2.ext.Extension):
    """`{% generation %}` marks answers for other tools; here it is text."""

    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(
            ["name:endgeneration"], drop_needle=True
        )


class ChatTemplate:
    def __init__(self, tokenizer):
        text = find_template(tokenizer.directory, tokenizer.config)
        if text is None:
            raise DataError(
                f"{tokenizer.directory}: has no chat template (no"
                " chat_template.jinja and no chat_template in"
                " tokenizer_config.json); give rows with 'text' or"
                " 'prompt' and 'completion' instead"
            )
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[loopcontrols, _GenerationBlock],
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = (
            lambda form: datetime.datetime.now().strftime(form)
        )
        self.variables = {
            name: value
            for name, value in (
                ("bos_token", tokenizer.bos),
                ("eos_token", tokenizer.eos),
                ("pad_token", tokenizer.pad),
                ("unk_token", tokenizer.unk),
            )
            if value is not None
        }
        try:
            self.template = environment.from_string(text)
        except jinja2.exceptions.TemplateSyntaxError as error:
            raise DataError(
                f"{tokenizer.directory}: chat template, line {error.lineno}:"
                f" {error.message}"
            ) from error

    def render(self, messages, add_generation_prompt=False, tools=None):
        """The chat as one string, special tokens (and BOS) included."""
        try:
            return self.template.render(
                messages=messages,
                tools=tools,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self.variables,
            )
        except jinja2.exceptions.TemplateError as error:
            raise DataError(
                f"the chat template refuses the messages: {error.message}"
            ) from error
        except (TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"the chat template fails on the messages: {error}"
            ) from error
