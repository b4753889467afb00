//===- SafetensorsHeader.cpp - parsing and checking headers ---------------===//
#include "peft/Json.h"
#include "peft/Safetensors.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>

using namespace peft;
using Json = nlohmann::json;

namespace {

/// The reference implementation refuses longer headers, too.
constexpr uint64_t maximumHeader = 100'000'000;
constexpr size_t maximumRank = 64;

struct TypeInfo {
  std::string_view name;
  unsigned bits;
  std::optional<DType> dtype;
};

/// Every type the format defines, those that plans cannot hold included: a
/// file may contain them as long as nobody asks for such a tensor.
const TypeInfo typeTable[] = {
    {"F32", 32, DType::f32},
    {"BF16", 16, DType::bf16},
    {"F16", 16, DType::f16},
    {"F64", 64, DType::f64},
    {"I32", 32, DType::i32},
    {"I64", 64, DType::i64},
    {"U8", 8, DType::u8},
    {"I8", 8, DType::i8},
    {"BOOL", 8, std::nullopt},
    {"I16", 16, std::nullopt},
    {"U16", 16, std::nullopt},
    {"U32", 32, std::nullopt},
    {"U64", 64, std::nullopt},
    {"C64", 64, std::nullopt},
    {"F8_E4M3", 8, std::nullopt},
    {"F8_E5M2", 8, std::nullopt},
    {"F8_E8M0", 8, std::nullopt},
    {"F8_E4M3FNUZ", 8, std::nullopt},
    {"F8_E5M2FNUZ", 8, std::nullopt},
    {"F6_E2M3", 6, std::nullopt},
    {"F6_E3M2", 6, std::nullopt},
    {"F4", 4, std::nullopt},
};

const TypeInfo *findType(std::string_view name) {
  for (const TypeInfo &type : typeTable)
    if (type.name == name)
      return &type;
  return nullptr;
}

/// Bytes of `shape` in `type`, or nothing when they overflow or do not fill
/// whole bytes.
std::optional<uint64_t> byteCountOf(const std::vector<int64_t> &shape,
                                    const TypeInfo &type) {
  uint64_t bits = type.bits;
  for (const int64_t size : shape)
    if (__builtin_mul_overflow(bits, static_cast<uint64_t>(size), &bits))
      return std::nullopt;
  if (bits % 8 != 0)
    return std::nullopt;
  return bits / 8;
}

std::string shapeText(const std::vector<int64_t> &shape) {
  std::string text = "[";
  for (const int64_t size : shape)
    text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + "]";
}

std::string rangeText(uint64_t begin, uint64_t end) {
  return "[" + std::to_string(begin) + ", " + std::to_string(end) + ")";
}

Expected<std::vector<int64_t>> parseShape(const Json &value,
                                          const std::string &where) {
  if (!value.is_array())
    return badInput(where + ": shape must be a list, not " + describe(value));
  if (value.size() > maximumRank)
    return badInput(where + ": shape has " + std::to_string(value.size()) +
                    " dimensions; at most " + std::to_string(maximumRank) +
                    " are supported");
  std::vector<int64_t> shape;
  for (const Json &size : value) {
    if (!size.is_number_unsigned() || size.get<uint64_t>() > INT64_MAX)
      return badInput(where +
                      ": shape must hold whole numbers from 0 on, not " +
                      describe(size));
    shape.push_back(size.get<int64_t>());
  }
  return shape;
}

Status parseOffsets(const Json &value, const std::string &where,
                    TensorHeader &tensor) {
  if (!value.is_array() || value.size() != 2 ||
      !value[0].is_number_unsigned() || !value[1].is_number_unsigned())
    return badInput(where +
                    ": data_offsets must be two whole numbers from 0 on, not " +
                    describe(value));
  tensor.begin = value[0].get<uint64_t>();
  tensor.end = value[1].get<uint64_t>();
  if (tensor.begin > tensor.end)
    return badInput(where + ": data_offsets " +
                    rangeText(tensor.begin, tensor.end) +
                    " end before they begin");
  return Status();
}

Expected<TensorHeader> parseTensor(const std::string &name, const Json &entry,
                                   const std::string &what) {
  const std::string where = what + ": tensor " + quoteJson(name);
  if (!entry.is_object())
    return badInput(where + ": must be described by an object, not " +
                    describe(entry));
  for (const char *field : {"dtype", "shape", "data_offsets"})
    if (!entry.contains(field))
      return badInput(where + ": has no " + field);
  TensorHeader tensor;
  tensor.name = name;
  const Json &dtype = entry["dtype"];
  const TypeInfo *type = dtype.is_string()
                             ? findType(dtype.get_ref<const std::string &>())
                             : nullptr;
  if (!type)
    return badInput(where + ": unknown dtype " + describe(dtype));
  tensor.type = type->name;
  tensor.dtype = type->dtype;
  PEFT_ASSIGN(tensor.shape, parseShape(entry["shape"], where));
  PEFT_TRY(parseOffsets(entry["data_offsets"], where, tensor));
  const std::optional<uint64_t> bytes = byteCountOf(tensor.shape, *type);
  if (!bytes)
    return badInput(where + ": the bytes of " + tensor.describe() +
                    " overflow or are no whole number");
  if (*bytes != tensor.byteCount())
    return badInput(where + ": " + tensor.describe() + " needs " +
                    std::to_string(*bytes) + " bytes, but data_offsets " +
                    rangeText(tensor.begin, tensor.end) + " hold " +
                    std::to_string(tensor.byteCount()));
  return tensor;
}

Status parseMetadata(const Json &value, const std::string &what,
                     std::map<std::string, std::string> &metadata) {
  if (value.is_null()) // the reference implementation takes it for none
    return Status();
  if (!value.is_object())
    return badInput(what + ": __metadata__ must be an object, not " +
                    describe(value));
  for (const auto &[key, text] : value.items()) {
    if (!text.is_string())
      return badInput(what + ": __metadata__ may hold only strings, but " +
                      quoteJson(key) + " is " + describe(text));
    metadata[key] = text.get<std::string>();
  }
  return Status();
}

/// The tensors, which are sorted by offset, cover `dataBytes` bytes from 0 on,
/// each byte once.
Status checkCoverage(const std::vector<TensorHeader> &tensors,
                     uint64_t dataBytes, const std::string &what) {
  uint64_t at = 0;
  for (const TensorHeader &tensor : tensors) {
    const std::string where = what + ": tensor " + quoteJson(tensor.name);
    if (tensor.begin < at)
      return badInput(
          where + ": data_offsets " + rangeText(tensor.begin, tensor.end) +
          " overlap the tensor before, which ends at " + std::to_string(at));
    if (tensor.begin > at)
      return badInput(
          where + ": leaves a hole of " + std::to_string(tensor.begin - at) +
          " bytes that belong to no tensor, from offset " + std::to_string(at));
    at = tensor.end;
    if (at > dataBytes)
      return badInput(where + ": ends at byte " + std::to_string(at) +
                      " of the data, but the file holds only " +
                      std::to_string(dataBytes) +
                      "; it is truncated: download or copy it again");
  }
  if (at != dataBytes)
    return badInput(what + ": has " + std::to_string(dataBytes - at) +
                    " bytes after its last tensor");
  return Status();
}

/// The length field of a header, checked against the size of its file.
Expected<uint64_t> headerLength(ByteSpan prefix, uint64_t fileSize,
                                const std::string &what) {
  if (fileSize < 8 || prefix.size() < 8)
    return badInput(what + ": has only " + std::to_string(fileSize) +
                    " bytes; a safetensors file has at least 8");
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i)
    length = length << 8 | static_cast<uint8_t>(prefix[static_cast<size_t>(i)]);
  if (length > maximumHeader)
    return badInput(what + ": says that its header has " +
                    std::to_string(length) + " bytes (at most " +
                    std::to_string(maximumHeader) +
                    " are allowed); this is no safetensors file");
  if (length > fileSize - 8)
    return badInput(what + ": says that its header has " +
                    std::to_string(length) + " bytes, but the file has only " +
                    std::to_string(fileSize - 8) +
                    " more; it is truncated: download or copy it again");
  return length;
}

} // namespace

uint64_t TensorHeader::elementCount() const {
  uint64_t count = 1;
  for (const int64_t size : shape)
    count *= static_cast<uint64_t>(size);
  return count;
}

std::string TensorHeader::describe() const {
  return (dtype ? std::string(peft::name(*dtype)) : type) + shapeText(shape);
}

const TensorHeader *SafetensorsHeader::find(std::string_view name) const {
  auto at = std::lower_bound(
      byName.begin(), byName.end(), name,
      [&](uint32_t i, std::string_view key) { return tensors[i].name < key; });
  if (at == byName.end() || tensors[*at].name != name)
    return nullptr;
  return &tensors[*at];
}

namespace peft {
/// Fills a header and its index.
struct SafetensorsHeaderParser {
  static Expected<SafetensorsHeader>
  run(std::string_view text, uint64_t dataBytes, const std::string &what) {
    // The format demands it, so that no file can also be something else.
    if (text.empty() || text.front() != '{')
      return badInput(what + ": its header does not start with '{'; this is "
                             "no safetensors file");
    PEFT_ASSIGN(const Json json, parseJson(text, what + ": header"));
    SafetensorsHeader header;
    for (const auto &[name, entry] : json.items()) {
      if (name == "__metadata__") {
        PEFT_TRY(parseMetadata(entry, what, header.metadata));
        continue;
      }
      PEFT_ASSIGN(TensorHeader tensor, parseTensor(name, entry, what));
      header.tensors.push_back(std::move(tensor));
    }
    std::sort(header.tensors.begin(), header.tensors.end(),
              [](const TensorHeader &a, const TensorHeader &b) {
                return std::tie(a.begin, a.end, a.name) <
                       std::tie(b.begin, b.end, b.name);
              });
    PEFT_TRY(checkCoverage(header.tensors, dataBytes, what));
    header.byName.resize(header.tensors.size());
    std::iota(header.byName.begin(), header.byName.end(), 0u);
    std::sort(header.byName.begin(), header.byName.end(),
              [&](uint32_t a, uint32_t b) {
                return header.tensors[a].name < header.tensors[b].name;
              });
    return header;
  }
};
} // namespace peft

Expected<SafetensorsHeader>
peft::parseSafetensorsHeader(ByteSpan prefix, uint64_t fileSize,
                             const std::string &what) {
  PEFT_ASSIGN(const uint64_t length, headerLength(prefix, fileSize, what));
  if (prefix.size() - 8 < length)
    return internalError(what + ": the header was not read to its end");
  const std::string_view text(reinterpret_cast<const char *>(prefix.data()) + 8,
                              static_cast<size_t>(length));
  PEFT_ASSIGN(SafetensorsHeader header,
              SafetensorsHeaderParser::run(text, fileSize - 8 - length, what));
  header.dataOffset = 8 + length;
  return header;
}

Expected<SafetensorsHeader>
peft::readSafetensorsHeader(const std::string &path) {
  PEFT_ASSIGN(const uint64_t size, fileSize(path));
  PEFT_ASSIGN(std::string prefix, readFilePrefix(path, 8));
  PEFT_ASSIGN(const uint64_t length, headerLength(asBytes(prefix), size, path));
  PEFT_ASSIGN(prefix, readFilePrefix(path, 8 + length));
  if (prefix.size() != 8 + length)
    return ioError(path + ": became shorter while it was read");
  return parseSafetensorsHeader(asBytes(prefix), size, path);
}

std::string_view peft::safetensorsName(DType type) {
  for (const TypeInfo &info : typeTable)
    if (info.dtype == type)
      return info.name;
  return "?";
}
