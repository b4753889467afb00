"""PyTorch + PEFT's half of cpu_step.py and gpu_step.py, one process; not run by
hand.

--make-adapter writes WORK/adapter, as PEFT starts it. Otherwise trains --steps
steps on WORK/data.safetensors from that adapter and prints one JSON line with
the seconds and the loss of every step, and on a GPU the peak of the memory that
PyTorch took for tensors ("allocated") and from the driver ("reserved").
"""

import argparse
import contextlib
import json
import time

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from transformers.utils import logging

logging.disable_progress_bar()


def load_base(options):
    """bf16 runs keep the file's bf16 weights; f32 runs widen them."""
    dtype = torch.bfloat16 if options.compute == "bf16" else torch.float32
    quantized = {}
    if options.base:
        quantized["device_map"] = options.device
        quantized["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=options.base,
            bnb_4bit_use_double_quant=options.double_quant,
            bnb_4bit_compute_dtype=dtype,
        )
    model = AutoModelForCausalLM.from_pretrained(
        options.model, dtype=dtype, attn_implementation="sdpa", **quantized
    )
    return model if options.base else model.to(options.device)


def make_adapter(options):
    torch.manual_seed(0)
    config = LoraConfig(
        task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear"
    )
    model = get_peft_model(load_base(options), config)
    model.save_pretrained(f"{options.work}/adapter")


def load_trained(options):
    """(the model with its adapter, ready to train; its trained parameters)"""
    model = PeftModel.from_pretrained(
        load_base(options), f"{options.work}/adapter", is_trainable=True
    )
    model.train()
    if options.checkpointing:
        model.gradient_checkpointing_enable(
            gradient_checkpointing_kwargs={"use_reentrant": False}
        )
        model.enable_input_require_grads()
    parameters = [p for p in model.parameters() if p.requires_grad]
    return (torch.compile(model) if options.compile else model), parameters


def accumulate(options, model, ids, labels):
    """The mean loss over the micro-batches of a step; gradients are added."""
    total = 0.0
    parts = options.accumulation
    for ids_part, labels_part in zip(ids.chunk(parts), labels.chunk(parts)):
        if options.compute == "bf16":
            precision = torch.autocast(options.device, torch.bfloat16)
        else:
            precision = contextlib.nullcontext()
        with precision:
            loss = model(input_ids=ids_part, labels=labels_part, use_cache=False).loss
        (loss / parts).backward()
        total += loss.detach() / parts
    return total


def wait(options):
    if options.device == "cuda":
        torch.cuda.synchronize()


def train(options):
    model, parameters = load_trained(options)
    data = load_file(f"{options.work}/data.safetensors")
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.0)
    result = {"seconds": [], "loss": []}
    rows_of_step = options.batch * options.accumulation
    for step in range(options.steps):
        rows = slice(step * rows_of_step, (step + 1) * rows_of_step)
        ids = data["input_ids"][rows].long()
        labels = data["labels"][rows].long()
        wait(options)
        begin = time.perf_counter()
        loss = accumulate(
            options, model, ids.to(options.device), labels.to(options.device)
        )
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        wait(options)
        result["seconds"].append(time.perf_counter() - begin)
        result["loss"].append(loss.item())
    if options.device == "cuda":
        result["allocated"] = torch.cuda.max_memory_allocated()
        result["reserved"] = torch.cuda.max_memory_reserved()
    print(json.dumps(result))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--compute", choices=["bf16", "f32"], required=True)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--accumulation", type=int, default=1)
    parser.add_argument("--base", choices=["nf4", "fp4"])
    parser.add_argument("--double-quant", action="store_true")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--make-adapter", action="store_true")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.make_adapter:
        make_adapter(options)
    else:
        train(options)


if __name__ == "__main__":
    main()
