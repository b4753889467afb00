//===- SafetensorsFuzzer.cpp - any bytes as a safetensors file ------------===//
//
// What parses must be safe to read: every tensor inside the file.
//
//===----------------------------------------------------------------------===//
#include "peft/Safetensors.h"

#include <cstdlib>

using namespace peft;

namespace {

void parseAndTouch(const std::string &bytes) {
  const auto header =
      parseSafetensorsHeader(asBytes(bytes), bytes.size(), "input");
  if (!header.ok())
    return;
  uint64_t sum = 0;
  for (const TensorHeader &tensor : header->tensors) {
    if (header->find(tensor.name) != &tensor)
      std::abort();
    for (uint64_t i = tensor.begin; i < tensor.end; ++i)
      sum += static_cast<uint8_t>(bytes[header->dataOffset + i]);
    if (tensor.dtype &&
        tensor.elementCount() * byteSize(*tensor.dtype) != tensor.byteCount())
      std::abort();
    sum += tensor.describe().size();
  }
  volatile uint64_t result = sum;
  (void)result;
}

} // namespace

/// An even first byte: the rest is the file. An odd one: the second byte is
/// the amount of data and the rest is the header, which then always has the
/// right length in front.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 2)
    return 0;
  const std::string text(reinterpret_cast<const char *>(data) + 2, size - 2);
  if (data[0] % 2 == 0) {
    parseAndTouch(text);
    return 0;
  }
  std::string bytes;
  for (int i = 0; i < 8; ++i)
    bytes += static_cast<char>(text.size() >> (8 * i) & 0xFF);
  parseAndTouch(bytes + text + std::string(data[1], 'x'));
  return 0;
}
