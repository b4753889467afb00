//===- DirectoryLock.cpp - one run writes into a directory ----------------===//
#include "peft/DirectoryLock.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

using namespace peft;

DirectoryLock::DirectoryLock(DirectoryLock &&other) noexcept
    : directory(std::exchange(other.directory, -1)) {}

DirectoryLock &DirectoryLock::operator=(DirectoryLock &&other) noexcept {
  std::swap(directory, other.directory);
  return *this;
}

DirectoryLock::~DirectoryLock() {
  if (directory >= 0)
    ::close(directory);
}

/// The process that holds the lock, by the kernel's list: lines like
/// "3: FLOCK  ADVISORY  WRITE 4711 fe:00:131074 0 EOF". 0: not found, or one
/// that this process cannot see.
static long holderOf(int directory) {
  struct stat wanted;
  if (::fstat(directory, &wanted) != 0)
    return 0;
  std::ifstream list("/proc/locks");
  for (std::string line; std::getline(list, line);) {
    long process = 0;
    unsigned long long inode = 0;
    if (std::sscanf(line.c_str(),
                    "%*[0-9]: FLOCK ADVISORY WRITE %ld %*[0-9a-f]:%*[0-9a-f]:"
                    "%llu",
                    &process, &inode) == 2 &&
        inode == wanted.st_ino && process > 0)
      return process;
  }
  return 0;
}

Expected<DirectoryLock> DirectoryLock::take(const std::string &path) {
  DirectoryLock lock;
  lock.directory = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (lock.directory < 0)
    return ioError("cannot open " + path + ": " + std::strerror(errno));
  if (::flock(lock.directory, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
    return lock;
  long holder = holderOf(lock.directory);
  return ioError(
      path + ": another run" +
      (holder ? " (process " + std::to_string(holder) + ")" : std::string()) +
      " writes there; give another -o, or wait until it ends");
}
