"""Text in, tokens out: the only part of peftc that knows tokenizers.

Modules: `hub` (a model's name to its directory), `tokenizer` (the directory's
tokenizer), `chat` (its chat template), `rows` (one JSONL object to tokens and
labels), `token_file` (rows to the safetensors file that peft-run reads), `cli`
(the command `peft-data`), `import_gguf` (a GGUF file to a Hugging Face
directory).
"""

__version__ = "0.1.0"
