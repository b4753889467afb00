//===- Driver.cpp - a driver without a card -------------------------------===//
//
// libcuda.so.1 for cuDNN, which compiles its kernels when a plan is made and
// gives them to the driver. Loading works; everything else, which
// DriverFunctions.inc lists, answers that there is no device.
//
//===----------------------------------------------------------------------===//

namespace {
constexpr int success = 0, noDevice = 100;
int anything;
} // namespace

extern "C" {

int cuLibraryLoadData(void **library, ...) {
  *library = &anything;
  return success;
}
int cuLibraryGetKernel(void **kernel, ...) {
  *kernel = &anything;
  return success;
}
int cuLibraryUnload(void *) { return success; }

#define PEFT_NO_DEVICE(name)                                                   \
  int name() { return noDevice; }
#include "DriverFunctions.inc"
}
