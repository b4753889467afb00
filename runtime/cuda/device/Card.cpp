//===- Card.cpp - one card of this machine --------------------------------===//
#include "Card.h"

#include "Answer.h"
#include "SetCondition.h"

namespace peft::cuda {

Status answer(cudaError_t error, const char *call) {
  if (error == cudaSuccess)
    return {};
  std::string text = call;
  text = "CUDA: " + text.substr(0, text.find('(')) + ": " +
         cudaGetErrorString(error) + " (" + cudaGetErrorName(error) + ")";
  // What the plan needs was there: see checkFits.
  if (error == cudaErrorMemoryAllocation)
    return Status::error(Code::doesNotFit,
                         text + "; the plan fits, but not the driver's code and "
                                "graphs beside it: other programs use the "
                                "card, or the plan needs a smaller batch");
  return internalError(text);
}

static std::string versionText(int version) {
  return std::to_string(version / 1000) + "." +
         std::to_string(version % 1000 / 10);
}

static Status unsuitable(std::string message) {
  return Status::error(Code::unsuitable, std::move(message));
}

std::string Card::describe() const {
  return "cuda:" + std::to_string(index) + ", " + name + ", sm_" +
         std::to_string(capability) + ", driver " + versionText(driver);
}

/// The driver's version. It is 0 without a driver.
static Expected<int> checkDriver() {
  int driver = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
    return unsuitable("no NVIDIA driver (libcuda.so.1)");
  // Any driver of the same major version runs what a toolkit made.
  if (driver / 1000 < CUDART_VERSION / 1000)
    return unsuitable("driver " + versionText(driver) +
                      " is older than this build's CUDA " +
                      versionText(CUDART_VERSION));
  return driver;
}

/// Takes the card, unless somebody has it to himself or there is no code for it.
static Status take(const Card &card) {
  if (cudaError_t error = cudaSetDevice(static_cast<int>(card.index)))
    return unsuitable(card.name + ": " + cudaGetErrorString(error));
  cudaError_t error = loadCondition();
  switch (error) {
  case cudaSuccess:
    return {};
  case cudaErrorNoKernelImageForDevice:
  case cudaErrorInvalidDeviceFunction:
  case cudaErrorUnsupportedPtxVersion:
    return unsuitable(card.name + ": this build has no code for sm_" +
                      std::to_string(card.capability) +
                      "; add it to PEFT_CUDA_ARCHS");
  default:
    return unsuitable(card.name + ": " + cudaGetErrorString(error));
  }
}

Expected<Card> openCard(unsigned index) {
  Card card;
  card.index = index;
  PEFT_ASSIGN(card.driver, checkDriver());
  int count = 0;
  cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0))
    return unsuitable("no CUDA device");
  if (error != cudaSuccess)
    return unsuitable(std::string("the NVIDIA driver answers: ") +
                      cudaGetErrorString(error));
  if (index >= static_cast<unsigned>(count))
    return unsuitable("there is no card " + std::to_string(index) + ", only " +
                      std::to_string(count));
  cudaDeviceProp properties{};
  error = cudaGetDeviceProperties(&properties, static_cast<int>(index));
  if (error != cudaSuccess)
    return unsuitable("card " + std::to_string(index) + ": " +
                      cudaGetErrorString(error));
  card.name = properties.name;
  card.capability = properties.major * 10 + properties.minor;
  if (card.capability < PEFT_CUDA_LEAST_ARCH)
    return unsuitable(card.name + " (sm_" + std::to_string(card.capability) +
                      ") is older than sm_" +
                      std::to_string(PEFT_CUDA_LEAST_ARCH) +
                      ", the oldest card of this build");
  PEFT_TRY(take(card));
  return card;
}

Expected<uint64_t> freeBytes() {
  size_t free = 0, total = 0;
  PEFT_CUDA(cudaMemGetInfo(&free, &total));
  return uint64_t(free);
}

} // namespace peft::cuda
