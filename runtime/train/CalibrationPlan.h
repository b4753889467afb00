//===- CalibrationPlan.h - plans that do one thing --------------*- C++ -*-===//
//
// What --calibrate runs: plans made by hand, so that every device is measured
// through the interface that training uses. Each has one kind of work, as often
// as is said, and no model.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_TRAIN_CALIBRATIONPLAN_H
#define PEFT_TRAIN_CALIBRATIONPLAN_H

#include "peft/Plan.h"
#include "peft/Status.h"

namespace peft {

/// A matrix product as a training step has them.
struct Product {
  bool backward = false; ///< linear_dx [m, k]; else linear_fwd [m, n]
  uint64_t m = 0, n = 0, k = 0;
  uint64_t count = 1; ///< times in a step

  double operations() const {
    return 2.0 * static_cast<double>(m) * static_cast<double>(n) *
           static_cast<double>(k);
  }
  /// "forward 512 x 2048 x 5632": m, n, k
  std::string describe() const;
};

/// The products of one micro-batch that hold most of its operations, the
/// largest share first; without a plan those of a common model.
std::vector<Product> productsOf(const Plan &plan);
std::vector<Product> usualProducts(DeviceKind kind);

/// For which kind of device, and for how many threads of the CPU device.
struct CalibrationTarget {
  DeviceKind kind = DeviceKind::cpu;
  uint32_t maxThreads = 8;
};

/// `repeats` launches of `product`, as entry 0. Buffers 0 and 1 are its inputs.
Expected<Plan> productPlan(const CalibrationTarget &target,
                           const Product &product, DType type,
                           unsigned repeats);
/// `repeats` launches of y = a + b with `elements` f32, as entry 0.
Expected<Plan> additionPlan(const CalibrationTarget &target, uint64_t elements,
                            unsigned repeats);
/// Copies of `bytes` between pinned memory of the host and the card: entry 0 to
/// the card, 1 to the host, 2 both at once.
Expected<Plan> transferPlan(const CalibrationTarget &target, uint64_t bytes);

} // namespace peft

#endif // PEFT_TRAIN_CALIBRATIONPLAN_H
