//===- StepWindow.cpp - counts requests for memory during the steps -------===//
//
// Preloaded into peft-run by test/e2e/step_window_test.py. The trainer calls
// peft_step_window(1) at the start of the first step and (0) at the end of the
// last; between the two, malloc and its kin (operator new arrives here as
// malloc), mmap, mremap, brk and sbrk are counted on all threads. When a window
// closes, one line goes to the file that PEFT_WINDOW_REPORT names:
//
//   window N malloc N mmap N brk N outside N
//
// `outside` counts everything before the window: it is never zero when the
// library is really in the way.
//
//===----------------------------------------------------------------------===//
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <execinfo.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

extern "C" {
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
}

namespace {
std::atomic<bool> windowOpen{false};
std::atomic<long> windows{0}, mallocs{0}, maps{0}, breaks{0}, outside{0};

void count(std::atomic<long> &counter) {
  if (!windowOpen.load(std::memory_order_relaxed)) {
    outside.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  // Who it was, for the first few; the window is closed meanwhile because the
  // unwinder may allocate.
  if (counter.fetch_add(1) < 3 && getenv("PEFT_WINDOW_TRACE")) {
    windowOpen = false;
    void *frames[16];
    backtrace_symbols_fd(frames, backtrace(frames, 16), STDERR_FILENO);
    windowOpen = true;
  }
}

void report() {
  const char *path = getenv("PEFT_WINDOW_REPORT");
  if (!path)
    return;
  char line[160];
  int length = snprintf(line, sizeof line,
                        "window %ld malloc %ld mmap %ld brk %ld outside %ld\n",
                        windows.load(), mallocs.load(), maps.load(),
                        breaks.load(), outside.load());
  int file = ::open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (file < 0 || write(file, line, static_cast<size_t>(length)) != length)
    abort();
  close(file);
}
} // namespace

extern "C" {

void peft_step_window(int isOpen) {
  if (isOpen) {
    ++windows;
    windowOpen = true;
    return;
  }
  windowOpen = false;
  report();
}

void *malloc(size_t size) {
  count(mallocs);
  return __libc_malloc(size);
}
void *calloc(size_t number, size_t size) {
  count(mallocs);
  return __libc_calloc(number, size);
}
void *realloc(void *block, size_t size) {
  count(mallocs);
  return __libc_realloc(block, size);
}
void *memalign(size_t alignment, size_t size) {
  count(mallocs);
  return __libc_memalign(alignment, size);
}
void *aligned_alloc(size_t alignment, size_t size) {
  count(mallocs);
  return __libc_memalign(alignment, size);
}
int posix_memalign(void **block, size_t alignment, size_t size) {
  count(mallocs);
  *block = __libc_memalign(alignment, size);
  return *block ? 0 : ENOMEM;
}

void *mmap(void *address, size_t length, int protection, int flags, int file,
           off_t offset) {
  count(maps);
  return reinterpret_cast<void *>(
      syscall(SYS_mmap, address, length, protection, flags, file, offset));
}
void *mmap64(void *address, size_t length, int protection, int flags, int file,
             off_t offset) {
  return mmap(address, length, protection, flags, file, offset);
}

int brk(void *address) {
  count(breaks);
  static auto real = reinterpret_cast<int (*)(void *)>(dlsym(RTLD_NEXT, "brk"));
  return real(address);
}
void *sbrk(intptr_t increment) {
  count(breaks);
  static auto real =
      reinterpret_cast<void *(*)(intptr_t)>(dlsym(RTLD_NEXT, "sbrk"));
  return real(increment);
}
}
