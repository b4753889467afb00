//===- File.cpp - reading and writing files -------------------------------===//
#include "peft/File.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>

using namespace peft;
namespace fs = std::filesystem;

namespace {

Status systemError(const std::string &path, const char *what, int reason) {
  return ioError(path + ": " + what + ": " + std::strerror(reason));
}

/// An open file descriptor, closed when it goes out of scope.
class Descriptor {
public:
  explicit Descriptor(int value) : value(value) {}
  Descriptor(const Descriptor &) = delete;
  Descriptor &operator=(const Descriptor &) = delete;
  ~Descriptor() {
    if (value >= 0)
      ::close(value);
  }
  int get() const { return value; }
  bool close() { return ::close(std::exchange(value, -1)) == 0; }

private:
  int value;
};

/// Collects small writes, so that a header and many small tensors do not cost
/// a system call each.
class DescriptorSink final : public FileSink {
public:
  DescriptorSink(int descriptor, std::string path)
      : descriptor(descriptor), path(std::move(path)) {}

  Status write(ByteSpan bytes) override {
    if (buffer.size() + bytes.size() > capacity)
      PEFT_TRY(flush());
    if (bytes.size() >= capacity)
      return writeAll(bytes);
    const char *text = reinterpret_cast<const char *>(bytes.data());
    buffer.append(text, bytes.size());
    return Status();
  }

  Status flush() {
    PEFT_TRY(writeAll(asBytes(buffer)));
    buffer.clear();
    return Status();
  }

private:
  Status writeAll(ByteSpan bytes) {
    while (!bytes.empty()) {
      const ssize_t count = ::write(descriptor, bytes.data(),
                                    std::min(bytes.size(), size_t(1) << 30));
      if (count < 0 && errno == EINTR)
        continue;
      if (count < 0)
        return systemError(path, "cannot be written", errno);
      bytes = bytes.subspan(static_cast<size_t>(count));
    }
    return Status();
  }

  static constexpr size_t capacity = 1 << 20;
  int descriptor;
  std::string path, buffer;
};

/// Reads at most `limit` bytes from the start of an open file.
Expected<std::string> readSome(int descriptor, const std::string &path,
                               uint64_t limit) {
  std::string text(static_cast<size_t>(limit), '\0');
  size_t have = 0;
  while (have < text.size()) {
    const ssize_t count =
        ::read(descriptor, text.data() + have, text.size() - have);
    if (count < 0 && errno == EINTR)
      continue;
    if (count < 0)
      return systemError(path, "cannot be read", errno);
    if (count == 0)
      break;
    have += static_cast<size_t>(count);
  }
  text.resize(have);
  return text;
}

/// Opens a regular file and gives its size.
Expected<uint64_t> openForReading(const std::string &path, int &descriptor) {
  descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0)
    return systemError(path, "cannot be opened", errno);
  struct stat info;
  if (fstat(descriptor, &info) != 0 || !S_ISREG(info.st_mode))
    return badInput(path + ": is not a regular file");
  return static_cast<uint64_t>(info.st_size);
}

/// A new file beside `path` that nobody else has.
std::string temporaryName(const std::string &path) {
  const std::string name = "." + fileName(path) + ".XXXXXX";
  return joinPath(parentPath(path), name);
}

/// Devices and pipes (/dev/stdout) are written into: a rename would put a
/// file in their place.
Status writeStream(const std::string &path,
                   const std::function<Status(FileSink &)> &produce) {
  Descriptor descriptor(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (descriptor.get() < 0)
    return systemError(path, "cannot be opened", errno);
  DescriptorSink sink(descriptor.get(), path);
  PEFT_TRY(produce(sink));
  PEFT_TRY(sink.flush());
  return descriptor.close() ? Status()
                            : systemError(path, "cannot be written", errno);
}

/// A new file in the folder of `file`. Where the file system can, it has no
/// name (`temporary` stays empty), so that a program that is killed leaves
/// nothing behind.
int createBeside(const std::string &file, std::string &temporary) {
  int descriptor = ::open(parentPath(file).c_str(),
                          O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
  if (descriptor >= 0)
    return descriptor;
  temporary = temporaryName(file);
  descriptor = mkostemp(temporary.data(), O_CLOEXEC);
  if (descriptor < 0)
    temporary.clear();
  return descriptor;
}

/// Gives a file without a name one beside `file`; errno tells of a failure.
bool nameFile(int descriptor, const std::string &file, std::string &temporary) {
  const std::string open = "/proc/self/fd/" + std::to_string(descriptor);
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

/// Writes beside `file` and renames over it. Errors name `path`.
Status replaceFile(const std::string &path, const std::string &file,
                   const std::function<Status(FileSink &)> &produce) {
  std::string temporary;
  Descriptor descriptor(createBeside(file, temporary));
  if (descriptor.get() < 0)
    return systemError(path, "cannot be created", errno);

  DescriptorSink sink(descriptor.get(), path);
  Status status = produce(sink);
  if (status.ok())
    status = sink.flush();
  // Until now only their owner may read them; ours are ordinary files.
  const mode_t mask = umask(0);
  umask(mask);
  if (status.ok() && (fchmod(descriptor.get(), 0666 & ~mask) != 0 ||
                      fsync(descriptor.get()) != 0))
    status = systemError(path, "cannot be written", errno);
  if (status.ok() && temporary.empty() &&
      !nameFile(descriptor.get(), file, temporary))
    status = systemError(path, "cannot be created", errno);
  if (status.ok() && !descriptor.close())
    status = systemError(path, "cannot be written", errno);
  if (status.ok() && rename(temporary.c_str(), file.c_str()) != 0)
    status = systemError(path, "cannot be replaced", errno);
  if (!status.ok()) {
    if (!temporary.empty())
      unlink(temporary.c_str());
    return status;
  }
  // The rename itself must survive a power cut, too.
  Descriptor folder(
      ::open(parentPath(file).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.get() >= 0)
    fsync(folder.get());
  return Status();
}

} // namespace

Expected<std::string> peft::readFile(const std::string &path, uint64_t limit) {
  int opened = -1;
  Expected<uint64_t> size = openForReading(path, opened);
  Descriptor descriptor(opened);
  if (!size.ok())
    return size.status();
  if (*size > limit)
    return badInput(path + ": has " + std::to_string(*size) +
                    " bytes; such a file may have at most " +
                    std::to_string(limit));
  return readSome(opened, path, *size);
}

Expected<std::string> peft::readFilePrefix(const std::string &path,
                                           uint64_t count) {
  int opened = -1;
  Expected<uint64_t> size = openForReading(path, opened);
  Descriptor descriptor(opened);
  if (!size.ok())
    return size.status();
  return readSome(opened, path, std::min(count, *size));
}

Expected<uint64_t> peft::fileSize(const std::string &path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0)
    return systemError(path, "cannot be opened", errno);
  if (!S_ISREG(info.st_mode))
    return badInput(path + ": is not a regular file");
  return static_cast<uint64_t>(info.st_size);
}

Status
peft::writeFileAtomically(const std::string &path,
                          const std::function<Status(FileSink &)> &produce) {
  if (isDirectory(path))
    return ioError(path + ": is a directory, not a file");
  struct stat info;
  const bool exists = stat(path.c_str(), &info) == 0;
  if (exists && !S_ISREG(info.st_mode))
    return writeStream(path, produce);
  // Of a symbolic link, the file that it names is replaced, not the link.
  std::error_code error;
  const std::string file = exists ? fs::canonical(path, error).string() : path;
  return error ? ioError(path + ": cannot be replaced: " + error.message())
               : replaceFile(path, file, produce);
}

Status peft::writeFileAtomically(const std::string &path,
                                 std::string_view bytes) {
  return writeFileAtomically(
      path, [&](FileSink &sink) { return sink.write(asBytes(bytes)); });
}

Status peft::createDirectory(const std::string &path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error || !isDirectory(path))
    return ioError(
        path + ": cannot be created as a directory" +
        (error ? ": " + error.message() : std::string(": it is a file")));
  return Status();
}

bool peft::isFile(const std::string &path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

bool peft::isDirectory(const std::string &path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

bool peft::isBrokenLink(const std::string &path) {
  std::error_code error;
  return fs::is_symlink(path, error) && !fs::exists(path, error);
}

Expected<std::vector<std::string>>
peft::listDirectory(const std::string &path) {
  std::error_code error;
  fs::directory_iterator entry(path, error), end;
  std::vector<std::string> names;
  while (!error && entry != end) {
    names.push_back(entry->path().filename().string());
    entry.increment(error);
  }
  if (error)
    return ioError(path + ": cannot be listed: " + error.message());
  std::sort(names.begin(), names.end());
  return names;
}

std::string peft::joinPath(std::string_view directory, std::string_view name) {
  if (directory.empty())
    return std::string(name);
  std::string path(directory);
  if (path.back() != '/')
    path += '/';
  return path.append(name);
}

std::string peft::parentPath(std::string_view path) {
  while (path.size() > 1 && path.back() == '/')
    path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  if (slash == std::string_view::npos)
    return ".";
  return std::string(slash == 0 ? "/" : path.substr(0, slash));
}

std::string peft::fileName(std::string_view path) {
  while (path.size() > 1 && path.back() == '/')
    path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  return std::string(slash == std::string_view::npos ? path
                                                     : path.substr(slash + 1));
}
