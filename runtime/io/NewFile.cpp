//===- NewFile.cpp - a file that nobody sees until it is whole ------------===//
#include "peft/NewFile.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

using namespace peft;

namespace {

Status systemError(const std::string &path, const char *what) {
  return ioError(path + ": " + what + ": " + std::strerror(errno));
}

/// Gives a file without a name one beside `file`; errno tells of a failure.
bool nameFile(const std::string &open, const std::string &file,
              std::string &temporary) {
  for (int attempt = 0; attempt < 100; ++attempt) {
    temporary = joinPath(parentPath(file), "." + fileName(file) + "." +
                                               std::to_string(getpid()) + "." +
                                               std::to_string(attempt));
    if (linkat(AT_FDCWD, open.c_str(), AT_FDCWD, temporary.c_str(),
               AT_SYMLINK_FOLLOW) == 0)
      return true;
    if (errno != EEXIST)
      break;
  }
  temporary.clear();
  return false;
}

} // namespace

NewFile::NewFile(NewFile &&other) noexcept
    : descriptor(std::exchange(other.descriptor, -1)),
      path(std::move(other.path)), file(std::move(other.file)),
      temporary(std::exchange(other.temporary, {})) {}

NewFile &NewFile::operator=(NewFile &&other) noexcept {
  if (this != &other) {
    discard();
    descriptor = std::exchange(other.descriptor, -1);
    path = std::move(other.path);
    file = std::move(other.file);
    temporary = std::exchange(other.temporary, {});
  }
  return *this;
}

NewFile::~NewFile() { discard(); }

void NewFile::discard() {
  if (descriptor >= 0)
    close(std::exchange(descriptor, -1));
  if (!temporary.empty())
    unlink(std::exchange(temporary, {}).c_str());
}

Expected<NewFile> NewFile::beside(const std::string &path) {
  NewFile made;
  made.path = made.file = path;
  // Of a symbolic link, the file that it names is replaced, not the link.
  std::error_code error;
  if (isFile(path))
    made.file = std::filesystem::canonical(path, error).string();
  if (error)
    return ioError(path + ": cannot be replaced: " + error.message());
  made.descriptor = ::open(parentPath(made.file).c_str(),
                           O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (made.descriptor >= 0)
    return made;
  made.temporary =
      joinPath(parentPath(made.file), "." + fileName(made.file) + ".XXXXXX");
  made.descriptor = mkostemp(made.temporary.data(), O_CLOEXEC);
  if (made.descriptor >= 0)
    return made;
  made.temporary.clear();
  return systemError(path, "cannot be created");
}

Expected<NewFile> NewFile::inMemory(const std::string &what) {
  NewFile made;
  made.path = what;
  made.descriptor = memfd_create("peft", MFD_CLOEXEC);
  if (made.descriptor < 0)
    return systemError(what, "cannot be kept in memory");
  return made;
}

Status NewFile::reserve(uint64_t bytes) {
  PEFT_TRY(finish(bytes));
  // Where the file system cannot say beforehand, write() will. Memory is taken
  // page by page.
  if (bytes && !file.empty() && fallocate(descriptor, 0, 0, static_cast<off_t>(bytes)) != 0 &&
      errno != EOPNOTSUPP && errno != ENOSYS)
    return systemError(path, "cannot be written");
  return Status();
}

Status NewFile::write(uint64_t offset, ByteSpan bytes) {
  while (!bytes.empty()) {
    const ssize_t count =
        ::pwrite(descriptor, bytes.data(),
                 std::min(bytes.size(), size_t(1) << 30),
                 static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR)
      continue;
    if (count < 0)
      return systemError(path, "cannot be written");
    offset += static_cast<uint64_t>(count);
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
  return Status();
}

Status NewFile::finish(uint64_t bytes) {
  return ftruncate(descriptor, static_cast<off_t>(bytes)) == 0
             ? Status()
             : systemError(path, "cannot be written");
}

std::string NewFile::openPath() const {
  return "/proc/self/fd/" + std::to_string(descriptor);
}

Status NewFile::publish(bool lasting) {
  if (file.empty())
    return internalError(path + ": a file in memory has no place");
  // Until now only their owner may read them; ours are ordinary files.
  const mode_t mask = umask(0);
  umask(mask);
  if (fchmod(descriptor, 0666 & ~mask) != 0 ||
      (lasting && fsync(descriptor) != 0))
    return systemError(path, "cannot be written");
  if (temporary.empty() && !nameFile(openPath(), file, temporary))
    return systemError(path, "cannot be created");
  if (close(std::exchange(descriptor, -1)) != 0)
    return systemError(path, "cannot be written");
  if (rename(temporary.c_str(), file.c_str()) != 0)
    return systemError(path, "cannot be replaced");
  temporary.clear();
  if (!lasting)
    return Status();
  // The rename itself must survive a power cut, too.
  const int folder = ::open(parentPath(file).c_str(),
                            O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder >= 0) {
    fsync(folder);
    close(folder);
  }
  return Status();
}
