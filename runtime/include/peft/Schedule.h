//===- Schedule.h - other orders an entry may run in ------------*- C++ -*-===//
#ifndef PEFT_SCHEDULE_H
#define PEFT_SCHEDULE_H

#include "peft/Device.h"
#include "peft/Plan.h"

#include <vector>

namespace peft {

/// A permutation of the items of a verified entry, drawn from `seed`, that
/// keeps every order a device with real streams would keep. With
/// ScheduleMode::interleave the items of a stream stay in order; with shuffle
/// only its records and waits do, and launches that use the same bytes.
std::vector<uint32_t> drawSchedule(const Plan &plan, uint32_t entry,
                                   uint64_t seed, ScheduleMode mode);

/// How far `order` is from file order.
ScheduleReport compareSchedule(const Entry &entry,
                               const std::vector<uint32_t> &order);

} // namespace peft

#endif // PEFT_SCHEDULE_H
