//===- CpuDevice.h - the CPU device -----------------------------*- C++ -*-===//
#ifndef PEFT_CPUDEVICE_H
#define PEFT_CPUDEVICE_H

#include "peft/Device.h"

#include <memory>

namespace peft {

/// The reference device. Its instruction set is the best the processor has, or
/// the one that PEFT_CPU=plain|avx2|avx512|avx512bf16 names (error: unsuitable,
/// when the processor lacks it). All give the same bits.
Expected<std::unique_ptr<Device>> createCpuDevice(const DeviceOptions &options);

} // namespace peft

#endif // PEFT_CPUDEVICE_H
