//===- CublasLt.cpp - cuBLASLt, opened at run time ------------------------===//
#include "CublasLt.h"

#include <dlfcn.h>
#include <string>

namespace peft::cuda {

#define PEFT_TEXT_(x) #x
#define PEFT_TEXT(x) PEFT_TEXT_(x)
constexpr const char *fileName = "libcublasLt.so." PEFT_TEXT(CUBLAS_VER_MAJOR);

static Status missing(const std::string &what) {
  return Status::error(Code::unsuitable, what);
}

static Expected<CublasLt> open() {
  // Found by this library's own path (its directory, the toolkit it was built
  // with), by LD_LIBRARY_PATH and by the system's paths. Never closed.
  void *library = ::dlopen(fileName, RTLD_NOW | RTLD_LOCAL);
  if (!library)
    return missing(std::string("library ") + fileName +
                   " is missing (put its directory into LD_LIBRARY_PATH)");
  CublasLt table;
#define PEFT_LOOK_UP(function)                                                 \
  table.function = reinterpret_cast<decltype(table.function)>(                 \
      ::dlsym(library, #function));                                            \
  if (!table.function)                                                         \
    return missing(std::string("library ") + fileName + " has no " #function);
  PEFT_CUBLASLT_FUNCTIONS(PEFT_LOOK_UP)
#undef PEFT_LOOK_UP
  return table;
}

Expected<const CublasLt *> openCublasLt() {
  static const Expected<CublasLt> table = open();
  if (!table.ok())
    return table.status();
  return &*table;
}

} // namespace peft::cuda
