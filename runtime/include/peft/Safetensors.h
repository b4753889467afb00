//===- Safetensors.h - reading and writing safetensors ----------*- C++ -*-===//
//
// A safetensors file is an 8-byte little-endian header length, a JSON header
// and the tensors' bytes. Reading checks everything the reference
// implementation checks: the length (at most 100 MB and inside the file),
// JSON objects without duplicate keys, known types, shape x type = bytes
// without overflow, and offsets that cover the data without overlap or hole.
// Errors are Code::badInput and name the file and the tensor.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_SAFETENSORS_H
#define PEFT_SAFETENSORS_H

#include "peft/DType.h"
#include "peft/File.h"
#include "peft/Status.h"

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace peft {

/// One tensor as a header describes it.
struct TensorHeader {
  std::string name;
  std::string type;            ///< as written: "BF16", "F8_E4M3", ...
  std::optional<DType> dtype;  ///< absent for types that plans cannot hold
  std::vector<int64_t> shape;  ///< empty for a scalar
  uint64_t begin = 0, end = 0; ///< bytes, from the start of the data

  uint64_t byteCount() const { return end - begin; }
  uint64_t elementCount() const;
  /// "bf16[576, 576]"
  std::string describe() const;
};

struct SafetensorsHeader {
  uint64_t dataOffset = 0;           ///< from the start of the file
  std::vector<TensorHeader> tensors; ///< by offset, then by name
  std::map<std::string, std::string> metadata;

  /// Null when there is none.
  const TensorHeader *find(std::string_view name) const;

private:
  friend struct SafetensorsHeaderParser;
  std::vector<uint32_t> byName; ///< indices into tensors, sorted by name
};

/// Parses the header of a file of `fileSize` bytes of which `prefix` is the
/// beginning; the prefix must reach to the end of the header. `what` is the
/// path in errors.
Expected<SafetensorsHeader> parseSafetensorsHeader(ByteSpan prefix,
                                                   uint64_t fileSize,
                                                   const std::string &what);

/// Reads only the header of a file, never its data.
Expected<SafetensorsHeader> readSafetensorsHeader(const std::string &path);

/// A mapped file: tensors are read in place.
class SafetensorsFile {
public:
  static Expected<SafetensorsFile> open(const std::string &path);

  const std::string &path() const { return file.path(); }
  const SafetensorsHeader &header() const { return content; }
  const TensorHeader *find(std::string_view name) const {
    return content.find(name);
  }
  /// The tensor's bytes (row-major, little-endian), valid as long as this
  /// object. Their address is as aligned as the file made it, perhaps not at
  /// all. `tensor` must come from this file's header.
  ByteSpan bytes(const TensorHeader &tensor) const {
    return file.bytes().subspan(content.dataOffset + tensor.begin,
                                tensor.byteCount());
  }
  /// Gives the memory of its bytes back, as MappedFile::forget().
  void forget(const TensorHeader &tensor) const { file.forget(bytes(tensor)); }
  /// The tensor called `name`, or an error that says what there is instead;
  /// also an error when its type is one that plans cannot hold.
  Expected<const TensorHeader *> get(const std::string &name) const;

private:
  MappedFile file;
  SafetensorsHeader content;
};

/// A tensor to be written. Either `bytes` holds the data until the writer is
/// done, or `produce` writes exactly shape x dtype bytes when its turn comes.
struct TensorToWrite {
  std::string name;
  DType dtype = DType::f32;
  std::vector<int64_t> shape;
  ByteSpan bytes;
  std::function<Status(FileSink &)> produce;
};

/// Writes a file as the reference implementation would: the larger element
/// types first, then by name; the header padded to 8 bytes. Streaming and
/// atomic: on an error nothing is left behind. Transformers expects the
/// metadata {"format": "pt"}.
Status writeSafetensors(const std::string &path,
                        std::vector<TensorToWrite> tensors,
                        const std::map<std::string, std::string> &metadata = {
                            {"format", "pt"}});

/// The header of a file with these tensors, its length in front, padded to a
/// multiple of 8 bytes and to `length` bytes if it is shorter.
std::string
safetensorsHeader(const std::vector<TensorHeader> &tensors,
                  const std::map<std::string, std::string> &metadata,
                  uint64_t length = 8);

/// "F32" for DType::f32, and so on.
std::string_view safetensorsName(DType type);

} // namespace peft

#endif // PEFT_SAFETENSORS_H
