//===- File.h - mapping, reading and writing files --------------*- C++ -*-===//
//
// Everything here returns Code::io when the system refuses (no such file, no
// permission, disk full) and Code::badInput when a file is not what it should
// be (too large, a directory). Paths are taken as they are: no `~`, no
// variables; the shell expands those.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_FILE_H
#define PEFT_FILE_H

#include "peft/Status.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace peft {

using ByteSpan = std::span<const std::byte>;

inline ByteSpan asBytes(std::string_view text) {
  return {reinterpret_cast<const std::byte *>(text.data()), text.size()};
}

/// A whole file, mapped read-only and private. Movable; unmapped when the last
/// owner goes. The mapping stays registered while it lives, so that
/// installTruncationHandler() can name the file of a faulting address.
class MappedFile {
public:
  MappedFile() = default;
  MappedFile(MappedFile &&other) noexcept;
  MappedFile &operator=(MappedFile &&other) noexcept;
  MappedFile(const MappedFile &) = delete;
  MappedFile &operator=(const MappedFile &) = delete;
  ~MappedFile();

  static Expected<MappedFile> open(const std::string &path);

  /// Valid as long as this object (moving it keeps the address).
  ByteSpan bytes() const { return {start, length}; }
  const std::string &path() const { return name; }

  /// Gives the memory of `part`, a piece of bytes(), back: its pages no longer
  /// count as this process's, and are read again when they are touched.
  void forget(ByteSpan part) const;

private:
  void release();

  const std::byte *start = nullptr;
  size_t length = 0;
  int slot = -1; ///< in the registry of live mappings
  std::string name;
};

/// An open file that is read at any place, by any number of threads.
class InputFile {
public:
  static Expected<InputFile> open(const std::string &path);
  InputFile(InputFile &&other) noexcept
      : descriptor(std::exchange(other.descriptor, -1)),
        name(std::move(other.name)) {}
  InputFile(const InputFile &) = delete;
  InputFile &operator=(const InputFile &) = delete;
  ~InputFile();

  /// Fills `bytes` from `offset` on. Error io: the file is shorter.
  Status read(uint64_t offset, std::span<std::byte> bytes) const;

private:
  InputFile() = default;
  int descriptor = -1;
  std::string name;
};

/// A mapped file that shrinks raises SIGBUS when it is touched. After this
/// call the process then says which file it was and exits with 74; a SIGBUS
/// anywhere else keeps its default meaning. Called once, by `main`.
void installTruncationHandler();

/// The whole file as text; larger than `limit` bytes is an error.
Expected<std::string> readFile(const std::string &path,
                               uint64_t limit = 256ull << 20);

/// The first `count` bytes, or fewer when the file is shorter.
Expected<std::string> readFilePrefix(const std::string &path, uint64_t count);

/// Bytes [offset, offset + count). Error io when the file is shorter.
Expected<std::string> readFileRange(const std::string &path, uint64_t offset,
                                    uint64_t count);

Expected<uint64_t> fileSize(const std::string &path);

/// What tells whether a file is still the one that it was. The times are in
/// nanoseconds since 1970; `changed` also moves when somebody sets the other.
struct FileState {
  uint64_t size = 0;
  int64_t modified = 0, changed = 0;
};
Expected<FileState> fileState(const std::string &path);

/// Receives the bytes of a file that is being written, in order.
class FileSink {
public:
  virtual ~FileSink() = default;
  virtual Status write(ByteSpan bytes) = 0;
};

/// Writes a temporary file beside `path` through `produce`, syncs it and
/// renames it over `path`. On any error `path` is as it was and the temporary
/// file is gone. A symbolic link stays and what it names is replaced; a device
/// or a pipe is written into.
Status writeFileAtomically(const std::string &path,
                           const std::function<Status(FileSink &)> &produce);
Status writeFileAtomically(const std::string &path, std::string_view bytes);

/// Creates a directory and its parents; one that exists is fine.
Status createDirectory(const std::string &path);

bool isFile(const std::string &path);      ///< follows symlinks
bool isDirectory(const std::string &path); ///< follows symlinks
/// A symlink whose target does not exist.
bool isBrokenLink(const std::string &path);

/// Names (not paths) of a directory's entries, sorted, without . and ..
Expected<std::vector<std::string>> listDirectory(const std::string &path);

/// `directory/name`, without a doubled slash.
std::string joinPath(std::string_view directory, std::string_view name);
/// All before the last slash ("." when there is none).
std::string parentPath(std::string_view path);
/// All after the last slash.
std::string fileName(std::string_view path);

} // namespace peft

#endif // PEFT_FILE_H
