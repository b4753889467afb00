"""Random weights in bf16 and a random adapter for one shape of gpu_shapes.py.

usage: gpu_weights.py NAME MODEL_DIR ADAPTER_DIR

MODEL_DIR gets config.json and safetensors files of at most 4 GiB, as Hugging
Face shards them; a model that is there is kept. ADAPTER_DIR gets a PEFT adapter
whose B is not zero, so that every factor has a gradient. Made on the GPU if
there is one; the values do not matter, but that nothing overflows.
"""

import json
import os
import shutil
import sys

import gpu_shapes
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

SHARD_BYTES = 4 << 30


def shapes_of(directory):
    """Hugging Face name -> shape, from the model's own code, without memory."""
    config = AutoConfig.from_pretrained(directory)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def value(name, shape, device):
    if name.endswith("norm.weight"):
        return torch.ones(shape, dtype=torch.bfloat16)
    tensor = torch.empty(shape, dtype=torch.bfloat16, device=device)
    return tensor.normal_(0.0, 0.02).cpu()


def shards_of(shapes):
    """Lists of names that fit a file."""
    shards, size = [[]], 0
    for name, shape in shapes.items():
        count = 2
        for extent in shape:
            count *= extent
        if shards[-1] and size + count > SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += count
    return shards


def write_model(directory, shapes, device):
    shards = shards_of(shapes)
    where = {}
    for number, names in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        if len(shards) == 1:
            file = "model.safetensors"
        tensors = {name: value(name, shapes[name], device) for name in names}
        save_file(tensors, f"{directory}/{file}", metadata={"format": "pt"})
        where.update(dict.fromkeys(names, file))
    if len(shards) > 1:
        with open(f"{directory}/model.safetensors.index.json", "w") as file:
            json.dump({"metadata": {}, "weight_map": where}, file)


def write_adapter(directory, shapes, rank):
    os.makedirs(directory, exist_ok=True)
    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for name, shape in shapes.items():
        module = name.removesuffix(".weight")
        if not module.endswith("_proj"):
            continue
        for factor, size in (("A", (rank, shape[1])), ("B", (shape[0], rank))):
            random = torch.empty(size).uniform_(-1, 1, generator=generator)
            bound = size[1] ** -0.5 if factor == "A" else 1e-3
            tensors[f"base_model.model.{module}.lora_{factor}.weight"] = random * bound
    save_file(tensors, f"{directory}/adapter_model.safetensors", metadata={"format": "pt"})


def main(arguments):
    if len(arguments) != 3 or arguments[0] not in gpu_shapes.BENCHES:
        print(__doc__, file=sys.stderr)
        return 64
    name, directory, adapter = arguments
    bench = gpu_shapes.BENCHES[name]
    torch.manual_seed(0)
    gpu_shapes.write(bench, directory)
    shapes = shapes_of(directory)
    made = [file for file in os.listdir(directory) if file.endswith(".safetensors")]
    if not made:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        write_model(directory, shapes, device)
    config = gpu_shapes.adapter_config(bench)
    write_adapter(adapter, shapes, config["r"])
    shutil.move(f"{directory}/adapter_config.json", f"{adapter}/adapter_config.json")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
