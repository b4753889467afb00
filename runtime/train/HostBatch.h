//===- HostBatch.h - one micro-batch on the host ----------------*- C++ -*-===//
#ifndef PEFT_TRAIN_HOSTBATCH_H
#define PEFT_TRAIN_HOSTBATCH_H

#include "DataFeed.h"
#include "peft/Executor.h"

namespace peft {

/// The four input ports as host memory, filled row by row, then sent.
class HostBatch {
public:
  explicit HostBatch(const Plan &plan)
      : tokens(plan.batch * plan.seq), storage(4 * tokens) {
    batch = {storage.data(),
             storage.data() + tokens,
             storage.data() + 2 * tokens,
             storage.data() + 3 * tokens,
             plan.batch,
             plan.seq};
  }
  HostBatch(const HostBatch &) = delete;
  HostBatch &operator=(const HostBatch &) = delete;

  const BatchView &view() const { return batch; }

  /// Copies to the ports; allocates nothing.
  Status send(Executor &executor) const {
    PEFT_TRY(put(executor, "input_ids", batch.inputIds));
    PEFT_TRY(put(executor, "labels", batch.labels));
    PEFT_TRY(put(executor, "position_ids", batch.positionIds));
    return put(executor, "segment_ids", batch.segmentIds);
  }

private:
  Status put(Executor &executor, std::string_view port,
             const int32_t *values) const {
    return executor.writeInput(port, std::span<const int32_t>(values, tokens));
  }

  uint64_t tokens;
  std::vector<int32_t> storage;
  BatchView batch;
};

} // namespace peft

#endif // PEFT_TRAIN_HOSTBATCH_H
