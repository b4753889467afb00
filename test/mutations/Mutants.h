//===- Mutants.h - which mutant of this build is on -------------*- C++ -*-===//
//
// Included by sources that instrument.py has rewritten. PEFT_MUTANT=N turns on
// mutant N; without it the build does what the sources say. PEFT_REACHED=FILE
// has the numbers of the mutants that the program came by added to FILE when it
// ends.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_CUDA_MUTANTS_H
#define PEFT_CUDA_MUTANTS_H

#include <cstdio>
#include <cstdlib>

namespace peft::mutants {

inline const int chosen = [] {
  const char *number = std::getenv("PEFT_MUTANT");
  return number ? std::atoi(number) : -1;
}();

// Threads of a block write here without a barrier, which the thread sanitizer
// would report.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define PEFT_MUTANTS_ONLY_CHOSEN
#endif
#endif

#ifdef PEFT_MUTANTS_ONLY_CHOSEN
inline bool is(int number) { return number == chosen; }
#else
struct Reached {
  static constexpr int most = 1 << 16;
  unsigned char by[most] = {};

  ~Reached() {
    const char *path = std::getenv("PEFT_REACHED");
    std::FILE *file = path ? std::fopen(path, "a") : nullptr;
    if (!file)
      return;
    for (int i = 0; i < most; ++i)
      if (by[i])
        std::fprintf(file, "%d\n", i);
    std::fclose(file);
  }
};
inline Reached reached;

inline bool is(int number) {
  reached.by[number] = 1;
  return number == chosen;
}
#endif

} // namespace peft::mutants

#endif // PEFT_CUDA_MUTANTS_H
