"""What an adapter starts from when it starts from the weights: PiSSA and OLoRA.

PiSSA (Meng et al., 2024): with W = U S V^T and the r largest singular values,
A0 = sqrt(S / scale) V^T and B0 = U sqrt(S / scale), so that scale B0 A0 is the
best approximation of W of rank r. `iterations` > 0 finds the singular vectors by
so many subspace iterations from a random start instead of a full decomposition.
OLoRA (Buyukakyuz, 2024): with W = Q R, A0 is the first r rows of R and B0 the
first r columns of Q. Both as PEFT computes them.
"""

import json
import os

import numpy as np
from safetensors.numpy import save_file

from peft_data.errors import BAD_INPUT, DataError
from peft_data.files import open_input, read_json, write_atomically

TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def pissa(weight, rank, scale, iterations):
    """(A0, B0) in float32."""
    if iterations:
        left, values, right = _largest(weight, rank, iterations)
    else:
        left, values, right = np.linalg.svd(weight, full_matrices=False)
    root = np.sqrt(values[:rank] / np.float32(scale))
    return root[:, None] * right[:rank], left[:, :rank] * root


def _largest(weight, rank, iterations):
    """The singular values and vectors of a randomly started subspace."""
    random = np.random.default_rng(0)
    basis = random.standard_normal((weight.shape[1], rank), np.float32)
    basis, _ = np.linalg.qr(weight @ basis)
    for _ in range(iterations):
        basis, _ = np.linalg.qr(weight.T @ basis)
        basis, _ = np.linalg.qr(weight @ basis)
    inner, values, right = np.linalg.svd(basis.T @ weight, full_matrices=False)
    return basis @ inner, values, right


def olora(weight, rank):
    """(A0, B0) in float32."""
    left, right = np.linalg.qr(weight)
    return right[:rank], left[:, :rank]


def _other_nested_name(name):
    """Where a tensor of a text model inside another was before transformers 4.52,
    as peft/NestedNames.h says; others have no other name."""
    if name.startswith("model.language_model."):
        return "language_model.model." + name.removeprefix("model.language_model.")
    return f"language_model.{name}" if name.startswith("lm_head.") else name


class Weights:
    """The float tensors of a model directory, read one at a time."""

    def __init__(self, directory):
        index = os.path.join(directory, "model.safetensors.index.json")
        if os.path.exists(index):
            names = sorted(set(read_json(index)["weight_map"].values()))
        else:
            names = ["model.safetensors"]
        self._places = {}
        for name in names:
            path = os.path.join(directory, name)
            with open_input(path) as file:
                size = int.from_bytes(file.read(8), "little")
                try:
                    header = json.loads(file.read(size))
                except ValueError as error:
                    raise DataError(
                        f"{path}: its header is not JSON: {error}", BAD_INPUT
                    ) from error
            header.pop("__metadata__", None)
            for tensor, entry in header.items():
                self._places[tensor] = (path, 8 + size, entry)

    def matrix(self, name):
        """A tensor of two dimensions as float32."""
        place = self._places.get(name) or self._places.get(_other_nested_name(name))
        if not place:
            raise DataError(f"the model has no tensor {name}", BAD_INPUT)
        path, start, entry = place
        kind, shape = entry["dtype"], entry["shape"]
        if kind not in TYPES or len(shape) != 2:
            raise DataError(
                f"{path}: {name} is {kind}{shape}; an adapter can start from"
                " matrices of F32, BF16 and F16 only",
                BAD_INPUT,
            )
        begin, end = entry["data_offsets"]
        with open_input(path) as file:
            file.seek(start + begin)
            data = file.read(end - begin)
        values = np.frombuffer(data, TYPES[kind])
        if values.size != shape[0] * shape[1]:
            raise DataError(
                f"{path}: ends inside of {name}; download it again", BAD_INPUT
            )
        if kind == "BF16":
            values = (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
        values = values.astype(np.float32).reshape(shape)
        if not np.isfinite(values).all():
            raise DataError(f"{path}: {name} holds NaN or infinity", BAD_INPUT)
        return values


def factors(request, directory):
    """PEFT's key -> float32 array, for each module of the request. Prints a
    point for each, which tells peft-run how far it is."""
    weights = Weights(directory)
    tensors = {}
    for module in request["modules"]:
        path, rank = module["module"], module["rank"]
        weight = weights.matrix(f"{path}.weight")
        if rank > min(weight.shape):
            raise DataError(
                f"{path}: rank {rank} is more than its weight has, which is"
                f" {weight.shape[0]} x {weight.shape[1]}",
                BAD_INPUT,
            )
        if request["method"] == "olora":
            a, b = olora(weight, rank)
        else:
            a, b = pissa(weight, rank, module["scale"], request["iterations"])
        key = f"base_model.model.{path}"
        tensors[f"{key}.lora_A.weight"] = np.ascontiguousarray(a, np.float32)
        tensors[f"{key}.lora_B.weight"] = np.ascontiguousarray(b, np.float32)
        print(".", end="", flush=True)
    return tensors


def write_start(request, directory, output):
    """Writes the adapter that training starts from."""
    tensors = factors(request, directory)
    os.makedirs(output, exist_ok=True)
    metadata = {"format": "pt", "start_of": request["method"]}
    write_atomically(
        os.path.join(output, "adapter_model.safetensors"),
        lambda path: save_file(tensors, path, metadata),
    )

    def write_config(path):
        with open(path, "w", encoding="utf-8") as file:
            file.write(request["config"])

    write_atomically(os.path.join(output, "adapter_config.json"), write_config)
