//===- DirectoryLock.h - one run writes into a directory --------*- C++ -*-===//
#ifndef PEFT_DIRECTORYLOCK_H
#define PEFT_DIRECTORYLOCK_H

#include "peft/Status.h"

#include <string>

namespace peft {

/// Keeps other runs out of a directory while it lives. The lock is the
/// kernel's: it leaves no file behind and ends with the process, however that
/// ends.
class DirectoryLock {
public:
  DirectoryLock() = default;
  DirectoryLock(DirectoryLock &&other) noexcept;
  DirectoryLock &operator=(DirectoryLock &&other) noexcept;
  ~DirectoryLock();

  /// Locks a directory that exists. A file system without locks gives none,
  /// which is no error. Error io: another has it, with its process.
  static Expected<DirectoryLock> take(const std::string &path);

private:
  int directory = -1;
};

} // namespace peft

#endif // PEFT_DIRECTORYLOCK_H
