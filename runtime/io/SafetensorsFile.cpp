//===- SafetensorsFile.cpp - mapped files, and writing them ---------------===//
#include "peft/Json.h"
#include "peft/Safetensors.h"

#include <algorithm>
#include <array>

using namespace peft;

namespace {

/// Passes bytes on and counts them.
class CountingSink final : public FileSink {
public:
  explicit CountingSink(FileSink &next) : next(next) {}
  Status write(ByteSpan bytes) override {
    count += bytes.size();
    return next.write(bytes);
  }
  uint64_t count = 0;

private:
  FileSink &next;
};

Expected<uint64_t> byteCountOf(const TensorToWrite &tensor) {
  uint64_t bytes = byteSize(tensor.dtype);
  for (const int64_t size : tensor.shape)
    if (size < 0 ||
        __builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes))
      return internalError("tensor " + tensor.name + " has an invalid shape");
  if (!tensor.produce && tensor.bytes.size() != bytes)
    return internalError("tensor " + tensor.name + " needs " +
                         std::to_string(bytes) + " bytes, but has " +
                         std::to_string(tensor.bytes.size()));
  return bytes;
}

/// The header of `tensors`, which are in file order.
Expected<std::string>
headerText(const std::vector<TensorToWrite> &tensors,
           const std::map<std::string, std::string> &metadata) {
  std::vector<TensorHeader> headers;
  uint64_t offset = 0;
  for (const TensorToWrite &tensor : tensors) {
    PEFT_ASSIGN(const uint64_t bytes, byteCountOf(tensor));
    TensorHeader header;
    header.name = tensor.name;
    header.type = safetensorsName(tensor.dtype);
    header.shape = tensor.shape;
    header.begin = offset;
    header.end = offset += bytes;
    headers.push_back(std::move(header));
  }
  return safetensorsHeader(headers, metadata);
}

Status writeTensor(const TensorToWrite &tensor, FileSink &sink) {
  if (!tensor.produce)
    return sink.write(tensor.bytes);
  PEFT_ASSIGN(const uint64_t bytes, byteCountOf(tensor));
  CountingSink counting(sink);
  PEFT_TRY(tensor.produce(counting));
  if (counting.count != bytes)
    return internalError("tensor " + tensor.name + " needs " +
                         std::to_string(bytes) + " bytes, but " +
                         std::to_string(counting.count) + " were written");
  return Status();
}

} // namespace

Expected<SafetensorsFile> SafetensorsFile::open(const std::string &path) {
  SafetensorsFile result;
  PEFT_ASSIGN(result.file, MappedFile::open(path));
  const ByteSpan bytes = result.file.bytes();
  PEFT_ASSIGN(result.content,
              parseSafetensorsHeader(bytes, bytes.size(), path));
  return result;
}

Expected<const TensorHeader *>
SafetensorsFile::get(const std::string &name) const {
  const TensorHeader *tensor = find(name);
  if (!tensor) {
    std::string message = path() + ": has no tensor " + quoteJson(name);
    if (content.tensors.empty())
      return badInput(message + "; it has no tensors at all");
    return badInput(
        message + "; it has " + std::to_string(content.tensors.size()) +
        ", the first being " + quoteJson(content.tensors.front().name));
  }
  if (!tensor->dtype)
    return badInput(path() + ": tensor " + quoteJson(name) +
                    ": unsupported type " + tensor->type);
  return tensor;
}

std::string peft::safetensorsHeader(
    const std::vector<TensorHeader> &tensors,
    const std::map<std::string, std::string> &metadata, uint64_t length) {
  std::string json = "{";
  if (!metadata.empty()) {
    json += "\"__metadata__\":{";
    for (const auto &[key, value] : metadata) {
      if (json.back() != '{')
        json += ',';
      json += quoteJson(key) + ":" + quoteJson(value);
    }
    json += '}';
  }
  for (const TensorHeader &tensor : tensors) {
    if (json.size() > 1)
      json += ',';
    json += quoteJson(tensor.name) + ":{\"dtype\":\"" + tensor.type +
            "\",\"shape\":[";
    for (const int64_t size : tensor.shape)
      json += (json.back() == '[' ? "" : ",") + std::to_string(size);
    json += "],\"data_offsets\":[" + std::to_string(tensor.begin) + "," +
            std::to_string(tensor.end) + "]}";
  }
  json += '}';
  json.resize(std::max<size_t>((json.size() + 7) / 8 * 8, length - 8), ' ');
  std::string text;
  for (int i = 0; i < 8; ++i)
    text += static_cast<char>(json.size() >> (8 * i) & 0xFF);
  return text + json;
}

Status
peft::writeSafetensors(const std::string &path,
                       std::vector<TensorToWrite> tensors,
                       const std::map<std::string, std::string> &metadata) {
  std::sort(tensors.begin(), tensors.end(),
            [](const TensorToWrite &a, const TensorToWrite &b) {
              const uint64_t left = byteSize(a.dtype),
                             right = byteSize(b.dtype);
              return left != right ? left > right : a.name < b.name;
            });
  // Equal names need not be neighbours when their types differ.
  std::vector<std::string_view> names;
  for (const TensorToWrite &tensor : tensors)
    names.push_back(tensor.name);
  std::sort(names.begin(), names.end());
  if (auto twice = std::adjacent_find(names.begin(), names.end());
      twice != names.end())
    return internalError(path + ": tensor " + std::string(*twice) +
                         " would be written twice");
  PEFT_ASSIGN(const std::string header, headerText(tensors, metadata));
  return writeFileAtomically(path, [&](FileSink &sink) -> Status {
    PEFT_TRY(sink.write(asBytes(header)));
    for (const TensorToWrite &tensor : tensors)
      PEFT_TRY(writeTensor(tensor, sink));
    return Status();
  });
}
