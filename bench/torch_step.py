"""PyTorch + PEFT's half of cpu_step.py, one process; not run by hand.

--make-adapter writes WORK/adapter, as PEFT starts it. Otherwise trains --steps
steps on WORK/data.safetensors from that adapter and prints one JSON line with
the seconds and the loss of every step.
"""

import argparse
import contextlib
import json
import time

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from transformers.utils import logging

logging.disable_progress_bar()


def load_base(options):
    """bf16 runs keep the file's bf16 weights; f32 runs widen them."""
    dtype = torch.bfloat16 if options.compute == "bf16" else torch.float32
    return AutoModelForCausalLM.from_pretrained(
        options.model, dtype=dtype, attn_implementation="sdpa"
    )


def make_adapter(options):
    torch.manual_seed(0)
    config = LoraConfig(
        task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear"
    )
    model = get_peft_model(load_base(options), config)
    model.save_pretrained(f"{options.work}/adapter")


def train(options):
    model = PeftModel.from_pretrained(
        load_base(options), f"{options.work}/adapter", is_trainable=True
    )
    model.train()
    data = load_file(f"{options.work}/data.safetensors")
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.0)
    result = {"seconds": [], "loss": []}
    for step in range(options.steps):
        rows = slice(step * options.batch, (step + 1) * options.batch)
        ids = data["input_ids"][rows].long()
        labels = data["labels"][rows].long()
        begin = time.perf_counter()
        if options.compute == "bf16":
            precision = torch.autocast("cpu", torch.bfloat16)
        else:
            precision = contextlib.nullcontext()
        with precision:
            loss = model(input_ids=ids, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        result["seconds"].append(time.perf_counter() - begin)
        result["loss"].append(loss.item())
    print(json.dumps(result))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--compute", choices=["bf16", "f32"], required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--make-adapter", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.make_adapter:
        make_adapter(options)
    else:
        train(options)


if __name__ == "__main__":
    main()
