//===- NewFile.h - a file that nobody sees until it is whole ----*- C++ -*-===//
#ifndef PEFT_NEWFILE_H
#define PEFT_NEWFILE_H

#include "peft/File.h"
#include "peft/Status.h"

#include <cstdint>
#include <string>

namespace peft {

/// Receives the bytes of a file in any order; threads may write different
/// places at once.
class PlacedSink {
public:
  virtual ~PlacedSink() = default;
  /// Says that there will be up to `bytes`; before the first write.
  virtual Status reserve(uint64_t bytes) = 0;
  virtual Status write(uint64_t offset, ByteSpan bytes) = 0;
  /// Says that there are `bytes`; after the last write.
  virtual Status finish(uint64_t bytes) = 0;
};

/// A file that is written in any order and then takes the place of another, or
/// of none, in one moment. Until then it has no name, where the file system can
/// do that, so that a program that is killed leaves nothing behind. Errors have
/// code io and name the path that was asked for. Movable.
class NewFile final : public PlacedSink {
public:
  NewFile() = default;
  NewFile(NewFile &&other) noexcept;
  NewFile &operator=(NewFile &&other) noexcept;
  NewFile(const NewFile &) = delete;
  NewFile &operator=(const NewFile &) = delete;
  ~NewFile() override; ///< what was not published is gone

  /// A new file in the folder of `path`.
  static Expected<NewFile> beside(const std::string &path);
  /// One that lives in memory and is never published; `what` names it in
  /// errors.
  static Expected<NewFile> inMemory(const std::string &what);

  /// Makes it `bytes` long and finds out whether the disk has room for that.
  Status reserve(uint64_t bytes) override;
  Status write(uint64_t offset, ByteSpan bytes) override;
  /// Cuts it, or prolongs it with zeros.
  Status finish(uint64_t bytes) override;
  /// A path under which it can be opened before it is published, while this
  /// object lives.
  std::string openPath() const;
  /// Puts it in the place of `path`, with the rights of an ordinary new file.
  /// With `lasting` what is there survives a power cut. The object is used up.
  Status publish(bool lasting);

private:
  void discard();

  int descriptor = -1;
  std::string path;      ///< as errors name it
  std::string file;      ///< what is replaced; empty: only in memory
  std::string temporary; ///< the name it has until then, where it needs one
};

} // namespace peft

#endif // PEFT_NEWFILE_H
