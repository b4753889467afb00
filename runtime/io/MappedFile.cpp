//===- MappedFile.cpp - read-only mappings and their registry -------------===//
#include "peft/File.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace peft;

namespace {

/// What the signal handler may read: plain atomics, no lock, no allocation.
/// `state` is 0 = free, 1 = being filled or emptied, 2 = live.
struct Mapping {
  std::atomic<int> state{0};
  std::atomic<uintptr_t> begin{0}, end{0};
  std::atomic<char *> path{nullptr};
};

/// A model has some hundred shards at most; a mapping beyond these slots
/// works, only its truncation would not be named.
std::array<Mapping, 1024> mappings;

int registerMapping(const void *begin, size_t length, const std::string &path) {
  for (size_t i = 0; i < mappings.size(); ++i) {
    Mapping &mapping = mappings[i];
    int free = 0;
    if (!mapping.state.compare_exchange_strong(free, 1))
      continue;
    mapping.begin = reinterpret_cast<uintptr_t>(begin);
    mapping.end = reinterpret_cast<uintptr_t>(begin) + length;
    mapping.path = strdup(path.c_str());
    mapping.state = 2;
    return static_cast<int>(i);
  }
  return -1;
}

void unregisterMapping(int slot) {
  if (slot < 0)
    return;
  Mapping &mapping = mappings[static_cast<size_t>(slot)];
  mapping.state = 1;
  std::free(mapping.path.exchange(nullptr));
  mapping.state = 0;
}

void writeText(const char *text) {
  [[maybe_unused]] ssize_t written = write(STDERR_FILENO, text, strlen(text));
}

void onBusError(int, siginfo_t *info, void *) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(info->si_addr);
  for (const Mapping &mapping : mappings) {
    if (mapping.state != 2 || address < mapping.begin || address >= mapping.end)
      continue;
    const char *path = mapping.path;
    writeText("error: ");
    writeText(path ? path : "a mapped file");
    writeText(" was truncated while it was mapped, or its disk cannot be "
              "read; restore the file and start again\n");
    _exit(static_cast<int>(Code::io));
  }
  // Not ours: back to the default, and the access faults once more.
  signal(SIGBUS, SIG_DFL);
}

} // namespace

void peft::installTruncationHandler() {
  struct sigaction action = {};
  action.sa_sigaction = onBusError;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, nullptr);
}

MappedFile::MappedFile(MappedFile &&other) noexcept
    : start(std::exchange(other.start, nullptr)),
      length(std::exchange(other.length, 0)),
      slot(std::exchange(other.slot, -1)), name(std::move(other.name)) {}

MappedFile &MappedFile::operator=(MappedFile &&other) noexcept {
  if (this != &other) {
    release();
    start = std::exchange(other.start, nullptr);
    length = std::exchange(other.length, 0);
    slot = std::exchange(other.slot, -1);
    name = std::move(other.name);
  }
  return *this;
}

MappedFile::~MappedFile() { release(); }

void MappedFile::release() {
  if (!start)
    return;
  unregisterMapping(std::exchange(slot, -1));
  munmap(const_cast<std::byte *>(start), length);
  start = nullptr;
  length = 0;
}

void MappedFile::forget(ByteSpan part) const {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  auto begin = reinterpret_cast<uintptr_t>(part.data()) / page * page;
  auto end = reinterpret_cast<uintptr_t>(part.data()) + part.size();
  if (begin < end)
    madvise(reinterpret_cast<void *>(begin), end - begin, MADV_DONTNEED);
}

Expected<MappedFile> MappedFile::open(const std::string &path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0)
    return ioError(path + ": cannot be opened: " + std::strerror(errno));
  struct stat info;
  if (fstat(descriptor, &info) != 0 || !S_ISREG(info.st_mode)) {
    close(descriptor);
    return badInput(path + ": is not a regular file");
  }
  MappedFile file;
  file.name = path;
  file.length = static_cast<size_t>(info.st_size);
  if (file.length == 0) { // mmap refuses empty files
    close(descriptor);
    return file;
  }
  void *address =
      mmap(nullptr, file.length, PROT_READ, MAP_PRIVATE, descriptor, 0);
  const int reason = errno;
  close(descriptor);
  if (address == MAP_FAILED)
    return ioError(path + ": cannot be mapped: " + std::strerror(reason));
  file.start = static_cast<const std::byte *>(address);
  file.slot = registerMapping(address, file.length, path);
  return file;
}
