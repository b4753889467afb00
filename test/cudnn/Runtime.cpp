//===- Runtime.cpp - what cuDNN's frontend asks of the CUDA runtime -------===//
#include "Runtime.h"

#include <cuda_runtime_api.h>

namespace {
int capabilityNow = 90;
} // namespace

void peft::pretendCapability(int capability) { capabilityNow = capability; }

extern "C" {

cudaError_t cudaGetDevice(int *device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int) {
  *properties = {};
  properties->major = capabilityNow / 10;
  properties->minor = capabilityNow % 10;
  properties->multiProcessorCount = 100;
  return cudaSuccess;
}
const char *cudaGetErrorString(cudaError_t) { return "there is no card"; }

// Only a plan that runs calls these.
cudaError_t cudaDeviceSynchronize() { return cudaErrorNoDevice; }
cudaError_t cudaEventCreate(cudaEvent_t *) { return cudaErrorNoDevice; }
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaErrorNoDevice; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) {
  return cudaErrorNoDevice;
}
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaErrorNoDevice; }
cudaError_t cudaEventElapsedTime(float *, cudaEvent_t, cudaEvent_t) {
  return cudaErrorNoDevice;
}
cudaError_t cudaMemsetAsync(void *, int, size_t, cudaStream_t) {
  return cudaErrorNoDevice;
}
cudaError_t cudaMemcpyAsync(void *, const void *, size_t, cudaMemcpyKind,
                            cudaStream_t) {
  return cudaErrorNoDevice;
}
}
