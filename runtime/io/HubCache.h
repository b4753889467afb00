//===- HubCache.h - finding what the user named -----------------*- C++ -*-===//
#ifndef PEFT_IO_HUBCACHE_H
#define PEFT_IO_HUBCACHE_H

#include "peft/Status.h"

#include <string>

namespace peft {

/// What a name stands for: a directory with a model's files, or one file.
struct ResolvedModel {
  std::string directory;
  std::string file; ///< the config.json that was named itself, or empty
};

/// Turns a directory, a file, a folder of the hub cache or `org/name` into
/// the place where the files are.
Expected<ResolvedModel> resolveModel(const std::string &name,
                                     const std::string &hubCache);

/// ` (its download was interrupted: ...)` when `directory` is a snapshot of a
/// hub cache with unfinished blobs; else empty.
std::string interruptedDownload(const std::string &directory);

/// A file must be there in full: no dangling link, no Git LFS pointer.
Status checkPresent(const std::string &path);

} // namespace peft

#endif // PEFT_IO_HUBCACHE_H
