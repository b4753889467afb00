"""One JSONL object to token ids and labels.

Three forms, told apart by their keys:
  {"text": T}                      every token is trained, EOS added
  {"prompt": P, "completion": C}   the tokens of C are trained, EOS added
  {"messages": [{"role", "content"}, ...]}   the assistant's answers are
      trained, each with the token that ends its turn
A prompt and its completion are tokenized apart, so that training sees the very
tokens that generation starts from. A row with the keys of two forms is refused;
keys of no form are ignored, and `RowMaker.ignored` says which there were.
"""

from dataclasses import dataclass

from peft_data.chat import ChatTemplate
from peft_data.errors import DataError

UNTRAINED = -100
FORMS = (("messages",), ("prompt", "completion"), ("text",))


def check_one_form(value, forms=FORMS):
    """Refuses a row that could be read in two ways."""
    found = [[key for key in form if key in value] for form in forms]
    found = [keys for keys in found if keys]
    if len(found) > 1:
        names = [" and ".join(repr(key) for key in keys) for keys in found]
        raise DataError(
            f"has {', '.join(names[:-1])} as well as {names[-1]}; leave the"
            " fields of one form, so that it is clear which one is meant"
        )


@dataclass
class Row:
    """Tokens of one example; a label equals its id or is UNTRAINED."""

    ids: list
    labels: list

    def trained(self):
        """Tokens that count: the first token of a row is never predicted."""
        return sum(label != UNTRAINED for label in self.labels[1:])


class RowMaker:
    def __init__(self, tokenizer, add_eos=True):
        self.tokenizer = tokenizer
        self.add_eos = add_eos
        self.ignored = {}  # keys in order of appearance
        self.lacks_eos = False  # a row should have ended with EOS
        self._template = None

    @property
    def template(self):
        if self._template is None:
            self._template = ChatTemplate(self.tokenizer)
        return self._template

    def make(self, value):
        """A Row; DataError (without file and line) if `value` has no form."""
        # Merged data sets fill the fields that a row does not have with null.
        value = {k: v for k, v in value.items() if v is not None} or value
        check_one_form(value)
        if "messages" in value:
            self._use(value, "messages", "tools")
            return self._from_messages(value["messages"], value.get("tools"))
        if "prompt" in value or "completion" in value:
            return self._from_prompt(value)
        if "text" in value:
            self._use(value, "text")
            return self._from_text(value["text"])
        keys = ", ".join(repr(key) for key in value) or "none"
        raise DataError(
            "no key 'text', 'prompt' and 'completion', or 'messages' (found:"
            f" {keys})"
        )

    def _use(self, value, *keys):
        self.ignored.update((key, None) for key in value if key not in keys)

    def _from_text(self, text):
        if not isinstance(text, str):
            raise DataError(f"'text' is a {type(text).__name__}, not a string")
        ids = self._end(self.tokenizer.encode(text))
        return Row(ids, list(ids))

    def _from_prompt(self, value):
        for key in ("prompt", "completion"):
            if key not in value:
                raise DataError(f"key '{key}' is missing")
        prompt, completion = value["prompt"], value["completion"]
        if isinstance(prompt, list) and isinstance(completion, list):
            self._use(value, "prompt", "completion", "tools")
            return self._from_messages(
                prompt + completion, value.get("tools"), first=len(prompt)
            )
        for key in ("prompt", "completion"):
            if not isinstance(value[key], str):
                raise DataError(
                    f"'{key}' is a {type(value[key]).__name__}, not a string"
                )
        self._use(value, "prompt", "completion")
        head = self.tokenizer.encode(prompt)
        # A post-processor may close a text with EOS; a prompt goes on.
        if head and head[-1] == self.tokenizer.eos_id:
            if not prompt.endswith(self.tokenizer.eos):
                head = head[:-1]
        tail = self._end(self.tokenizer.encode_plain(completion))
        return Row(head + tail, [UNTRAINED] * len(head) + tail)

    def _end(self, ids):
        eos = self.tokenizer.eos_id
        if not self.add_eos or (ids and ids[-1] == eos):
            return ids
        if eos is None:
            self.lacks_eos = True
            return ids
        return ids + [eos]

    def _from_messages(self, messages, tools, first=0):
        check_messages(messages)
        text = self.template.render(messages, tools=tools)
        answers = [
            self._answer_span(messages, i, text, tools)
            for i in range(first, len(messages))
            if messages[i]["role"] == "assistant"
        ]
        if not answers:
            raise DataError("'messages' has no message of role 'assistant'")
        ids, spans = self.tokenizer.encode_spans(text)
        labels = [UNTRAINED] * len(ids)
        for begin, end in answers:
            self._label_answer(ids, spans, labels, begin, end)
        return Row(ids, labels)

    def _answer_span(self, messages, i, text, tools):
        """Where in `text` the assistant's message i stands, in characters."""
        prefix = self.template.render(messages[:i], True, tools)
        through = self.template.render(messages[: i + 1], False, tools)
        if not through.startswith(prefix) or not text.startswith(through):
            raise DataError(
                f"message {i} (from 0): the chat template renders earlier"
                " messages differently once later ones follow, so the answer's"
                " place is not known; split the chat into one row per answer"
            )
        return len(prefix), len(through)

    def _label_answer(self, ids, spans, labels, begin, end):
        """Trains the tokens that reach into [begin, end), the turn's last
        special token included, but not the line break after it."""
        inside = [
            i for i, (b, e) in enumerate(spans) if e > begin and b < end
        ]
        special = [i for i in inside if ids[i] in self.tokenizer.special_ids]
        if special:
            inside = [i for i in inside if i <= special[-1]]
        for i in inside:
            labels[i] = ids[i]


def check_messages(messages):
    if not isinstance(messages, list) or not messages:
        raise DataError("'messages' is not a list with at least one message")
    for i, message in enumerate(messages):
        if not isinstance(message, dict):
            raise DataError(f"message {i} (from 0) is not a JSON object")
        if not isinstance(message.get("role"), str):
            raise DataError(f"message {i} (from 0): key 'role' is missing")
        if "content" not in message and "tool_calls" not in message:
            raise DataError(f"message {i} (from 0): key 'content' is missing")
