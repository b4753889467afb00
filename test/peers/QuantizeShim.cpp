//===- QuantizeShim.cpp - the quantizer, for Python's ctypes --------------===//
#include "peft/Quantize.h"

#include <algorithm>

using namespace peft;

extern "C" {

/// `plain` chooses the reference; 1 when every weight was finite.
int peftQuantizeBlocks(const std::byte *weights, uint8_t source, uint64_t count,
                       uint8_t type, uint32_t block, std::byte *codes,
                       float *absmax, int plain) {
  return quantizeBlocks({weights, DType(source), count}, DType(type), block,
                        codes, absmax,
                        plain ? QuantizePath::plain : bestQuantizePath());
}

int peftQuantizeRows(const std::byte *weights, uint8_t source, uint64_t rows,
                     uint64_t columns, std::byte *codes, float *absmax,
                     int plain) {
  return quantizeRows({weights, DType(source), rows * columns}, columns, codes,
                      absmax, plain ? QuantizePath::plain : bestQuantizePath());
}

/// `offset` is given (when `isGiven`) or set.
void peftNestScales(const float *absmax, uint64_t count, uint8_t *codes,
                    float *nestedAbsmax, float *offset, int isGiven) {
  const NestedScales nested =
      nestScales({absmax, count}, nestedBlock,
                 isGiven ? std::optional(*offset) : std::nullopt);
  std::copy(nested.codes.begin(), nested.codes.end(), codes);
  std::copy(nested.absmax.begin(), nested.absmax.end(), nestedAbsmax);
  *offset = nested.offset;
}

void peftDequantizeBlocks(const std::byte *codes, uint64_t count, uint8_t type,
                          uint32_t block, const float *absmax, float *values) {
  dequantizeBlocks(codes, count, codeMap(DType(type)), block, absmax, values);
}

void peftDequantizeRows(const std::byte *codes, uint64_t rows, uint64_t columns,
                        const float *absmax, float *values) {
  dequantizeRows(codes, rows, columns, absmax, values);
}

const float *peftCodeMap(uint8_t type) { return codeMap(DType(type)).data(); }
const float *peftDynamicMap() { return dynamicMap().data(); }
}
