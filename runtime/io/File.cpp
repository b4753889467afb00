//===- File.cpp - reading and writing files -------------------------------===//
#include "peft/File.h"
#include "peft/NewFile.h"

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
class BufferedSink final : public FileSink {
public:
  explicit BufferedSink(FileSink &next) : next(next) {}

  Status write(ByteSpan bytes) override {
    if (buffer.size() + bytes.size() > capacity)
      PEFT_TRY(flush());
    if (bytes.size() >= capacity)
      return next.write(bytes);
    const char *text = reinterpret_cast<const char *>(bytes.data());
    buffer.append(text, bytes.size());
    return Status();
  }

  Status flush() {
    PEFT_TRY(next.write(asBytes(buffer)));
    buffer.clear();
    return Status();
  }

private:
  static constexpr size_t capacity = 1 << 20;
  FileSink &next;
  std::string buffer;
};

/// Writes to a device or a pipe.
class StreamSink final : public FileSink {
public:
  StreamSink(int descriptor, std::string path)
      : descriptor(descriptor), path(std::move(path)) {}

  Status write(ByteSpan bytes) override {
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

private:
  int descriptor;
  std::string path;
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

/// Devices and pipes (/dev/stdout) are written into: a rename would put a
/// file in their place.
Status writeStream(const std::string &path,
                   const std::function<Status(FileSink &)> &produce) {
  Descriptor descriptor(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (descriptor.get() < 0)
    return systemError(path, "cannot be opened", errno);
  StreamSink stream(descriptor.get(), path);
  BufferedSink sink(stream);
  PEFT_TRY(produce(sink));
  PEFT_TRY(sink.flush());
  return descriptor.close() ? Status()
                            : systemError(path, "cannot be written", errno);
}

/// Passes what is written on to a new file, in order.
class NewFileSink final : public FileSink {
public:
  explicit NewFileSink(NewFile &file) : file(file) {}
  Status write(ByteSpan bytes) override {
    PEFT_TRY(file.write(offset, bytes));
    offset += bytes.size();
    return Status();
  }

private:
  NewFile &file;
  uint64_t offset = 0;
};

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

Expected<std::string> peft::readFileRange(const std::string &path,
                                          uint64_t offset, uint64_t count) {
  PEFT_ASSIGN(const InputFile file, InputFile::open(path));
  std::string text(static_cast<size_t>(count), '\0');
  PEFT_TRY(file.read(offset, std::as_writable_bytes(std::span(text))));
  return text;
}

Expected<InputFile> InputFile::open(const std::string &path) {
  InputFile file;
  file.name = path;
  Expected<uint64_t> size = openForReading(path, file.descriptor);
  if (!size.ok())
    return size.status();
  return file;
}

InputFile::~InputFile() {
  if (descriptor >= 0)
    ::close(descriptor);
}

Status InputFile::read(uint64_t offset, std::span<std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t count =
        ::pread(descriptor, bytes.data(),
                std::min(bytes.size(), size_t(1) << 30),
                static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR)
      continue;
    if (count < 0)
      return systemError(name, "cannot be read", errno);
    if (count == 0)
      return ioError(name + ": became shorter while it was read");
    offset += static_cast<uint64_t>(count);
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
  return Status();
}

Expected<FileState> peft::fileState(const std::string &path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0)
    return systemError(path, "cannot be opened", errno);
  if (!S_ISREG(info.st_mode))
    return badInput(path + ": is not a regular file");
  const auto nanoseconds = [](const timespec &time) {
    return int64_t(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
  };
  return FileState{static_cast<uint64_t>(info.st_size),
                   nanoseconds(info.st_mtim), nanoseconds(info.st_ctim)};
}

Expected<uint64_t> peft::fileSize(const std::string &path) {
  PEFT_ASSIGN(const FileState state, fileState(path));
  return state.size;
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
  PEFT_ASSIGN(NewFile file, NewFile::beside(path));
  NewFileSink direct(file);
  BufferedSink sink(direct);
  PEFT_TRY(produce(sink));
  PEFT_TRY(sink.flush());
  return file.publish(true);
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
