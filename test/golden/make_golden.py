"""Makes expected/*.safetensors with torch, transformers and PEFT.

usage: make_golden.py [--out DIR] [--autocast-only] [CASE ...]

Each file holds, for one case of cases.py, in float32: `gradient/NAME`, the
first step's gradient after division by the step's number of trained tokens and
before clipping; `change/NAME`, what five AdamW steps did to the parameter. Its
metadata holds losses, gradient norms and token counts of the steps, how far a
float64 run of torch is from the float32 one (relative Frobenius norm of the
change), how far bf16 and f16 autocast are (of the gradients of all five steps'
rows, with the initial parameters: one step alone is a small sample of rounding
errors; in f16 with the mean loss scaled by 2^16, where torch's GradScaler starts,
or the half of it, and so on, that leaves every gradient finite), and the versions.
Other processors give torch other last bits: --autocast-only computes nothing but
the errors of autocast, and of those only the ones that a file lacks.

Attention is transformers' eager one; packed texts run one by one, each with its
own positions, which is what packing must not change.
"""

import argparse
import json
import os
import sys
import tempfile

import bitsandbytes.functional
import models
import numpy as np
import peft
import peft.optimizers
import tensor_file
import torch
import transformers

AUTOCAST = {
    "autocast_gradient": torch.bfloat16,
    "autocast_gradient_f16": torch.float16,
}
HERE = os.path.dirname(os.path.abspath(__file__))


STORED = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def quantized_values(weight, base):
    """The f32 values of a weight after bitsandbytes quantized it, by the
    definition of the formats: blocks run over the flattened weight, which its
    own CPU code forgets where rows are no multiple of a block."""
    functional = bitsandbytes.functional
    if base["type"] == "int8":
        codes, scales, _ = functional.int8_vectorwise_quant(weight)
        return functional.int8_vectorwise_dequant(codes, scales)
    packed, state = functional.quantize_4bit(
        weight,
        blocksize=base.get("block", 64),
        quant_type=base["type"],
        compress_statistics=base.get("nested", False),
    )
    scales = state.absmax
    if state.nested:
        nested = state.state2
        absmax = nested.absmax.repeat_interleave(nested.blocksize)
        scales = nested.code[scales.long()] * absmax[: scales.numel()]
        scales = scales + state.offset
    packed = packed.view(-1)
    codes = torch.stack([packed >> 4, packed & 15], 1).view(-1)
    scales = scales.repeat_interleave(state.blocksize)
    values = state.code[codes.long()] * scales[: codes.numel()]
    return values[: weight.numel()].view(weight.shape)


def quantize_base(case, model):
    """Replaces the weights of what bitsandbytes quantizes by what is left of
    them. In train mode a step on its modules computes with these numbers."""
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            weight = module.weight.data.to(STORED[case["stored"]])
            module.weight.data = quantized_values(weight, case["base"])


def load_model(case, directory, dtype):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager"
    )
    base = models.base_tensors(case)
    named = dict(model.named_parameters(remove_duplicate=False))
    for name, values in base.items():
        assert np.array_equal(named[name].detach().numpy(), values), name
    if case["base"]:
        quantize_base(case, model)
    if case["adapter"] is not None:
        torch.manual_seed(0)
        model = peft.get_peft_model(
            model,
            peft.LoraConfig(task_type="CAUSAL_LM", **case["adapter"]),
        )
        replace_dropout(model)
    model = model.to(dtype)
    if models.starts_from_weights(case):
        # The start that the file keeps, whatever other processors would find.
        model.train()
        return model, trainable_parameters(case, model)
    model.train()
    if case["lora_fa"]:
        for name, parameter in model.named_parameters():
            if ".lora_A." in name:
                parameter.requires_grad_(False)
    trainable = trainable_parameters(case, model)
    with torch.no_grad():
        for name, parameter in trainable.items():
            if case["adapter"] is not None:
                shape = tuple(parameter.shape)
                values = models.adapter_tensor(name, shape, base)
                parameter.copy_(torch.from_numpy(values))
        frozen = models.frozen_tensors(case, trainable)
        for name, parameter in model.named_parameters():
            key = name.replace(".default.", ".")
            if key in frozen:
                parameter.copy_(torch.from_numpy(frozen[key]))
    return model, trainable


def trainable_parameters(case, model):
    """Name in the written file -> parameter."""
    if case["adapter"] is None:
        return dict(model.named_parameters())
    saved = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    by_place = {
        (p.data_ptr(), tuple(p.shape)): p
        for p in model.parameters()
        if p.requires_grad
    }
    places = {
        key: (value.data_ptr(), tuple(value.shape))
        for key, value in saved.items()
    }
    found = {
        key: by_place[place] for key, place in places.items() if place in by_place
    }
    assert len(found) == len(by_place), "a trainable parameter is not saved"
    return dict(sorted(found.items()))


class Mask(torch.nn.Module):
    """Dropout with the numbers that peft-run draws."""

    place = None  # (step, row of the step, tokens) of the text that runs

    def __init__(self, module, dropout):
        super().__init__()
        self.module, self.dropout = module, dropout

    def forward(self, x):
        factors = models.dropout_factors(
            self.module, self.dropout, *Mask.place, x.shape[-1]
        )
        return x * torch.from_numpy(factors).to(x.dtype)


def replace_dropout(model):
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Dropout) and ".lora_dropout" in name:
            owner, _, child = name.rpartition(".")
            path = name.split(".lora_dropout")[0]
            path = path.removeprefix("base_model.model.")
            setattr(model.get_submodule(owner), child, Mask(path, module.p))


def texts_of(arrays, segments, rows):
    """(ids, labels, (row of these, tokens)) of every text in the rows, padding
    left out."""
    for number, row in enumerate(rows):
        for segment in range(segments[row].max() + 1):
            place = segments[row] == segment
            yield (
                arrays["input_ids"][row, place],
                arrays["labels"][row, place],
                (number, np.nonzero(place)[0]),
            )


def trained_tokens(arrays, segments, rows):
    return sum(
        int((labels[1:] != models.UNTRAINED).sum())
        for _, labels, _ in texts_of(arrays, segments, rows)
    )


def beside_images(case, ids):
    """What a model of images and text wants to train: which ids are images."""
    if "text_config" not in case["config"]:
        return {}
    return {"token_type_ids": torch.zeros_like(ids)}


def step_gradient(
    case, model, trainable, arrays, segments, step, autocast=None, scale=None
):
    """(loss, tokens) of a step; leaves mean gradients in the parameters.
    `autocast` and `scale` (of the mean loss) may be None."""
    rows_per_step = case["batch"] * case["accumulation"]
    rows = range(step * rows_per_step, (step + 1) * rows_per_step)
    for parameter in trainable.values():
        parameter.grad = None
    total, tokens = 0.0, 0
    factor = 1.0
    if scale is not None:
        factor = scale / trained_tokens(arrays, segments, rows)
    for ids, labels, place in texts_of(arrays, segments, rows):
        Mask.place = (step, *place)
        labels = torch.from_numpy(labels.astype(np.int64))[1:]
        count = int((labels != models.UNTRAINED).sum())
        if count == 0:
            continue
        ids = torch.from_numpy(ids.astype(np.int64))[None]
        with torch.autocast(
            "cpu", autocast or torch.bfloat16, enabled=autocast is not None
        ):
            logits = model(
                input_ids=ids, use_cache=False, **beside_images(case, ids)
            ).logits[0, :-1]
        loss = torch.nn.functional.cross_entropy(
            logits if logits.dtype == torch.float64 else logits.float(),
            labels,
            reduction="sum",
            ignore_index=models.UNTRAINED,
        )
        (loss * factor).backward()
        total += loss.item()
        tokens += count
    for parameter in trainable.values():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        parameter.grad /= tokens * factor
    return total / tokens, tokens


def scaled_gradient(case, model, trainable, arrays, segments, step):
    """step_gradient in f16, as GradScaler comes to it."""
    for exponent in range(16, -15, -1):
        step_gradient(
            case,
            model,
            trainable,
            arrays,
            segments,
            step,
            torch.float16,
            2.0**exponent,
        )
        if all(p.grad.isfinite().all() for p in trainable.values()):
            return
    raise ValueError(f"step {step} has no finite gradient in f16")


def autocast_errors(case, directory, autocast):
    """Relative Frobenius error of the gradients under autocast to a type, per
    tensor."""
    model, trainable = load_model(case, directory, torch.float32)
    arrays, segments = models.make_rows(case)
    error = dict.fromkeys(trainable, 0.0)
    norm = dict.fromkeys(trainable, 0.0)
    for step in range(case["steps"]):
        gradients = []
        for kind in (None, autocast):
            where = (case, model, trainable, arrays, segments, step)
            if kind == torch.float16:
                scaled_gradient(*where)
            else:
                step_gradient(*where, kind)
            gradients.append(
                {n: p.grad.double() for n, p in trainable.items()}
            )
        for name, exact in gradients[0].items():
            error[name] += (gradients[1][name] - exact).square().sum().item()
            norm[name] += exact.square().sum().item()
    return {n: (error[n] / max(norm[n], 1e-300)) ** 0.5 for n in trainable}


def make_optimizer(case, model, trainable):
    """AdamW, in 8 bits or not, or PEFT's LoRA+ around it."""
    if case["lora_plus_ratio"] is not None:
        return peft.optimizers.create_loraplus_optimizer(
            model,
            torch.optim.AdamW,
            lr=case["lr"],
            loraplus_lr_ratio=case["lora_plus_ratio"],
            loraplus_weight_decay=case["weight_decay"],
            foreach=False,
        )
    groups = [
        {
            "params": [p for n, p in trainable.items() if models.decays(n) == on],
            "weight_decay": case["weight_decay"] if on else 0.0,
        }
        for on in (True, False)
    ]
    groups = [g for g in groups if g["params"]]
    if case["optimizer"] == "adamw8bit":
        import bitsandbytes

        return bitsandbytes.optim.AdamW8bit(groups, lr=case["lr"])
    return torch.optim.AdamW(groups, lr=case["lr"], foreach=False)


def run(case, directory, dtype):
    """Losses, norms, tokens, first gradients and changes of a training run."""
    model, trainable = load_model(case, directory, dtype)
    arrays, segments = models.make_rows(case)
    before = {n: p.detach().clone() for n, p in trainable.items()}
    optimizer = make_optimizer(case, model, trainable)
    factors = [group["lr"] / case["lr"] for group in optimizer.param_groups]
    result = {"loss": [], "grad_norm": [], "tokens": []}
    for step in range(case["steps"]):
        loss, tokens = step_gradient(
            case, model, trainable, arrays, segments, step
        )
        if step == 0:
            gradients = {n: p.grad.clone() for n, p in trainable.items()}
        norm = torch.nn.utils.clip_grad_norm_(
            list(trainable.values()), case["max_grad_norm"], foreach=False
        )
        for group, factor in zip(optimizer.param_groups, factors):
            group["lr"] = models.rate(case, step) * factor
        optimizer.step()
        result["loss"].append(loss)
        result["grad_norm"].append(norm.item())
        result["tokens"].append(tokens)
    changes = {n: p.detach() - before[n] for n, p in trainable.items()}
    return result, gradients, changes


def distance(found, expected):
    found, expected = found.double(), expected.double()
    norm = torch.linalg.vector_norm(expected).item()
    return torch.linalg.vector_norm(found - expected).item() / max(norm, 1e-300)


def make(name):
    """(tensors, metadata) of a case's expectation file."""
    case = models.get_case(name)
    with tempfile.TemporaryDirectory() as directory:
        models.write_model(case, directory)
        result, gradients, changes = run(case, directory, torch.float32)
        _, _, exact = run(case, directory, torch.float64)
        for key, kind in AUTOCAST.items():
            result[key] = autocast_errors(case, directory, kind)
    result["float64_change"] = {n: distance(changes[n], exact[n]) for n in exact}
    result["versions"] = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "bitsandbytes": bitsandbytes.__version__,
        "numpy": np.__version__,
    }
    tensors = {f"gradient/{n}": g.float().numpy() for n, g in gradients.items()}
    tensors |= {f"change/{n}": c.float().numpy() for n, c in changes.items()}
    if models.starts_from_weights(case):
        with tempfile.TemporaryDirectory() as directory:
            models.write_model(case, directory)
            _, start = load_model(case, directory, torch.float32)
        tensors |= {f"start/{n}": p.detach().numpy() for n, p in start.items()}
    return tensors, {"golden": json.dumps(result)}


def add_autocast(name, path):
    """The file of a case, with the errors of autocast that it lacked."""
    case = models.get_case(name)
    tensors, metadata = tensor_file.load_tensors(path)
    result = json.loads(metadata["golden"])
    with tempfile.TemporaryDirectory() as directory:
        models.write_model(case, directory)
        for key, kind in AUTOCAST.items():
            if key not in result:
                result[key] = autocast_errors(case, directory, kind)
    return tensors, {"golden": json.dumps(result)}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", default=os.path.join(HERE, "expected"))
    parser.add_argument("--autocast-only", action="store_true")
    parser.add_argument("cases", nargs="*", metavar="CASE")
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.makedirs(options.out, exist_ok=True)
    for name in options.cases or models.CASES:
        path = os.path.join(options.out, f"{name}.safetensors")
        if options.autocast_only:
            tensors, metadata = add_autocast(name, path)
        else:
            tensors, metadata = make(name)
        tensor_file.save_tensors(path, tensors, metadata=metadata)
        result = json.loads(metadata["golden"])
        print(
            f"{name}: {len(tensors) // 2} tensors, {os.path.getsize(path)} bytes,"
            f" loss {result['loss'][0]:.4f}..{result['loss'][-1]:.4f},"
            f" norm {result['grad_norm'][0]:.3f}, tokens {result['tokens']},"
            f" f64 {max(result['float64_change'].values()):.1e},"
            f" bf16 {max(result['autocast_gradient'].values()):.1e},"
            f" f16 {max(result['autocast_gradient_f16'].values()):.1e}",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
