//===- GgufFile.cpp - writing GGUF files ----------------------------------===//
#include "peft/GgufFile.h"

#include <bit>
#include <cstring>

using namespace peft;

namespace {

constexpr uint64_t alignment = 32; ///< GGUF's default: no field says so
static_assert(std::endian::native == std::endian::little);

/// GGUF's numbers for types of values and of tensors.
enum class ValueType : uint32_t { u32 = 4, f32 = 6, text = 8 };
enum class TensorType : uint32_t { f32 = 0, f16 = 1, bf16 = 30 };

class HeaderText {
public:
  template <typename T> void number(T value) {
    char bytes[sizeof value];
    std::memcpy(bytes, &value, sizeof value);
    text.append(bytes, sizeof value);
  }
  void string(const std::string &value) {
    number<uint64_t>(value.size());
    text += value;
  }
  void field(const std::string &key, const GgufValue &value) {
    string(key);
    if (const auto *integer = std::get_if<uint32_t>(&value)) {
      number(ValueType::u32);
      number(*integer);
    } else if (const auto *real = std::get_if<float>(&value)) {
      number(ValueType::f32);
      number(*real);
    } else {
      number(ValueType::text);
      string(std::get<std::string>(value));
    }
  }
  void align() { text.resize((text.size() + alignment - 1) / alignment * alignment); }

  std::string text;
};

Expected<TensorType> typeOf(const TensorToWrite &tensor) {
  switch (tensor.dtype) {
  case DType::f32:
    return TensorType::f32;
  case DType::f16:
    return TensorType::f16;
  case DType::bf16:
    return TensorType::bf16;
  default:
    return internalError("tensor " + tensor.name +
                         " has a type that is not written to GGUF");
  }
}

uint64_t dataBytes(const TensorToWrite &tensor) {
  uint64_t bytes = byteSize(tensor.dtype);
  for (int64_t extent : tensor.shape)
    bytes *= static_cast<uint64_t>(extent);
  return bytes;
}

/// Zero bytes up to the next multiple of the alignment.
Status pad(FileSink &sink, uint64_t written) {
  static constexpr std::byte zeros[alignment] = {};
  return sink.write(
      std::span(zeros).first((alignment - written % alignment) % alignment));
}

} // namespace

Status peft::writeGguf(const std::string &path, const GgufFields &fields,
                       const std::vector<TensorToWrite> &tensors) {
  HeaderText header;
  header.text = "GGUF";
  header.number<uint32_t>(3);
  header.number<uint64_t>(tensors.size());
  header.number<uint64_t>(fields.size());
  for (const auto &[key, value] : fields)
    header.field(key, value);
  uint64_t offset = 0;
  for (const TensorToWrite &tensor : tensors) {
    header.string(tensor.name);
    header.number(static_cast<uint32_t>(tensor.shape.size()));
    // The fastest dimension comes first.
    for (size_t i = tensor.shape.size(); i-- > 0;)
      header.number(static_cast<uint64_t>(tensor.shape[i]));
    PEFT_ASSIGN(const TensorType type, typeOf(tensor));
    header.number(type);
    header.number(offset);
    const uint64_t bytes = dataBytes(tensor);
    if (!tensor.produce && tensor.bytes.size() != bytes)
      return internalError("tensor " + tensor.name + " has " +
                           std::to_string(tensor.bytes.size()) +
                           " bytes, needed are " + std::to_string(bytes));
    offset += (bytes + alignment - 1) / alignment * alignment;
  }
  header.align();
  return writeFileAtomically(path, [&](FileSink &sink) -> Status {
    PEFT_TRY(sink.write(asBytes(header.text)));
    for (const TensorToWrite &tensor : tensors) {
      PEFT_TRY(tensor.produce ? tensor.produce(sink)
                              : sink.write(tensor.bytes));
      PEFT_TRY(pad(sink, dataBytes(tensor)));
    }
    return Status();
  });
}
