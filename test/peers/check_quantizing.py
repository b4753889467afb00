"""Compares our codes with those that bitsandbytes computes on a CPU.

usage: check_quantizing.py --bin DIR [--count 100000000]

Gaussian weights of each type, every block size, thresholds one ulp below, at
and above, all finite bf16 values, zeros, short last blocks; int8 rows; nested
scales; and the other way, values from codes. `--count` is how many Gaussian
weights of each type and kind. The last line counts what passed.
"""

import argparse
import ctypes
import os
import sys

import bitsandbytes.functional as functional
import numpy as np
import torch
from bitsandbytes.backends.default.ops import _dequantize_4bit_compute

SOURCES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}  # as in DType.h
KINDS = {"nf4": 8, "fp4": 9}
BLOCKS = (32, 64, 128, 256, 512, 1024, 2048, 4096)
PIECE = 20_000_000
count64 = ctypes.c_uint64


def address(tensor):
    return ctypes.c_void_p(tensor.data_ptr())


class Ours:
    def __init__(self, binaries):
        self.library = ctypes.CDLL(os.path.join(binaries, "libpeft-quantize-shim.so"))
        for name in ("peftCodeMap", "peftDynamicMap"):
            getattr(self.library, name).restype = ctypes.POINTER(ctypes.c_float)

    def map(self, kind):
        if kind == "dynamic":
            values = self.library.peftDynamicMap()[0:256]
        else:
            values = self.library.peftCodeMap(KINDS[kind])[0:16]
        return torch.tensor(values)

    def quantize(self, weights, kind, block, plain=False):
        count = weights.numel()
        codes = torch.empty((count + 1) // 2, dtype=torch.uint8)
        absmax = torch.empty(-(-count // block))
        finite = self.library.peftQuantizeBlocks(
            address(weights), SOURCES[weights.dtype], count64(count), KINDS[kind], block,
            address(codes), address(absmax), int(plain))
        assert finite, "a weight that is finite was called infinite"
        return codes, absmax

    def quantize_rows(self, weights, plain=False):
        codes = torch.empty(weights.shape, dtype=torch.int8)
        absmax = torch.empty(weights.shape[0])
        assert self.library.peftQuantizeRows(
            address(weights), SOURCES[weights.dtype], count64(weights.shape[0]),
            count64(weights.shape[1]), address(codes), address(absmax), int(plain))
        return codes, absmax

    def nest(self, absmax, offset=None):
        codes = torch.empty(absmax.numel(), dtype=torch.uint8)
        nested = torch.empty(-(-absmax.numel() // 256))
        value = ctypes.c_float(0 if offset is None else offset)
        self.library.peftNestScales(address(absmax), count64(absmax.numel()), address(codes),
                                    address(nested), ctypes.byref(value), int(offset is not None))
        return codes, nested, value.value


def same(ours, weights, kind, block, plain=False):
    codes, state = functional.quantize_4bit(weights, blocksize=block, quant_type=kind)
    found, absmax = ours.quantize(weights, kind, block, plain)
    wrong = int((found != codes.view(-1)).sum())
    assert wrong == 0, f"{wrong} of {found.numel()} bytes of codes differ"
    assert torch.equal(absmax, state.absmax), "absmax differs"


def maps(ours, _):
    for kind in KINDS:
        expected = functional.get_4bit_type(kind, device="cpu")
        assert torch.equal(ours.map(kind), expected), kind
    assert torch.equal(ours.map("dynamic"), functional.create_dynamic_map())


def gaussian(dtype, kind):
    def check(ours, count):
        generator = torch.Generator().manual_seed(11)
        for begin in range(0, count, PIECE):
            weights = torch.randn(min(PIECE, count - begin), generator=generator).to(dtype)
            same(ours, weights, kind, 64)
    return check


def blocks(ours, _):
    generator = torch.Generator().manual_seed(12)
    for dtype in SOURCES:
        for kind in KINDS:
            for block in BLOCKS:
                for count in (block * 37, block * 5 + 1, block * 3 - 1, block - 1, 1, 2):
                    weights = torch.randn(count, generator=generator).to(dtype)
                    weights[count // 2 :] *= 1e-3
                    for plain in (False, True):
                        same(ours, weights, kind, block, plain)


def thresholds(ours, _):
    for kind in KINDS:
        values = functional.get_4bit_type(kind, device="cpu").sort().values
        middles = (values[1:] + values[:-1]) / 2
        beside = [torch.nextafter(middles, torch.tensor(side)) for side in (-2.0, 2.0)]
        near = torch.cat([middles, *beside])
        for absmax in (1.0, 0.75, 3.0, 1e-30, 1e30):
            weights = torch.zeros(64)
            weights[: near.numel()] = near
            weights[63] = 1
            for plain in (False, True):
                same(ours, weights * absmax, kind, 64, plain)


def every_bfloat(ours, _):
    bits = torch.arange(65536, dtype=torch.int32)
    for stride in (1, 3, 257, 4097):
        order = bits * stride % 65536
        values = order.to(torch.int16).view(torch.bfloat16)
        values = values[values.isfinite()]
        assert values.numel() == 65280
        for kind in KINDS:
            for plain in (False, True):
                same(ours, values.contiguous(), kind, 64, plain)


def zeros_and_denormals(ours, _):
    for dtype in SOURCES:
        for kind in KINDS:
            weights = torch.zeros(64 * 5 + 9, dtype=torch.float32)
            weights[64:128] = torch.linspace(-1e-39, 1e-39, 64)
            weights[130] = 1e-45
            weights[192:256] = -0.0
            for plain in (False, True):
                same(ours, weights.to(dtype), kind, 64, plain)


def rows(ours, _):
    generator = torch.Generator().manual_seed(13)
    for dtype in SOURCES:
        for shape in ((700, 2048), (33, 67), (5, 1)):
            weights = torch.randn(shape, generator=generator).to(dtype)
            weights[2] = 0
            codes, absmax, _ = functional.int8_vectorwise_quant(weights)
            for plain in (False, True):
                found = ours.quantize_rows(weights, plain)
                assert torch.equal(found[0], codes) and torch.equal(found[1], absmax)
        values = torch.empty(shape)
        ours.library.peftDequantizeRows(address(codes), count64(shape[0]), count64(shape[1]),
                                        address(absmax), address(values))
        assert torch.equal(values, functional.int8_vectorwise_dequant(codes, absmax))


def nested(ours, _):
    generator = torch.Generator().manual_seed(14)
    for count in (64 * 256 * 40, 64 * 1000 + 7, 64 * 3):
        weights = torch.randn(count, generator=generator)
        state = functional.quantize_4bit(weights, quant_type="nf4", compress_statistics=True)[1]
        plain = functional.quantize_4bit(weights, quant_type="nf4")[1]
        offset = state.offset.item()
        codes, absmax, _ = ours.nest(plain.absmax, offset)
        assert torch.equal(codes, state.absmax), "codes of scales differ"
        assert torch.equal(absmax, state.state2.absmax), "absmax of scales differs"
        # torch sums in f32, in an order of its own: only nearly the same mean.
        codes, _, mean = ours.nest(plain.absmax)
        assert abs(mean - offset) <= 1e-6 * abs(offset), (mean, offset)
        equal = (codes == state.absmax).float().mean().item()
        assert equal >= 0.999, f"only {equal:.5f} of the codes of scales are equal"


def values(ours, _):
    generator = torch.Generator().manual_seed(15)
    for kind in KINDS:
        for shape in ((64, 128), (30, 48), (7, 65)):
            weights = torch.randn(shape, generator=generator)
            codes, state = functional.quantize_4bit(weights, quant_type=kind)
            found = torch.empty(shape)
            ours.library.peftDequantizeBlocks(address(codes), count64(weights.numel()),
                                              KINDS[kind], 64, address(state.absmax),
                                              address(found))
            expected = _dequantize_4bit_compute(codes.view(-1), state.absmax, state.code, 64,
                                                shape, torch.float32)
            assert torch.equal(found, expected.reshape(shape)), (kind, shape)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--count", type=int, default=100_000_000)
    options = parser.parse_args()
    np.seterr(over="ignore")
    ours = Ours(os.path.abspath(options.bin))
    tests = {"maps": maps, "blocks": blocks, "thresholds": thresholds,
             "every bf16": every_bfloat, "zeros and denormals": zeros_and_denormals,
             "int8": rows, "nested scales": nested, "values": values}
    for dtype in SOURCES:
        for kind in KINDS:
            name = str(dtype).removeprefix("torch.")
            tests[f"{options.count} Gaussian weights, {name} to {kind}"] = gaussian(dtype, kind)
    failed = 0
    for name, test in tests.items():
        try:
            test(ours, options.count)
            print(f"PASS {name}", flush=True)
        except AssertionError as problem:
            failed += 1
            print(f"FAIL {name}: {problem}", flush=True)
    print(f"{len(tests) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
