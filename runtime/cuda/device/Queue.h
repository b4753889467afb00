//===- Queue.h - puts programs into streams ---------------------*- C++ -*-===//
#ifndef PEFT_CUDA_DEVICE_QUEUE_H
#define PEFT_CUDA_DEVICE_QUEUE_H

#include "Bound.h"

#include <cuda_runtime_api.h>

#include <vector>

namespace peft::cuda {

/// Looks at the steps of a program that runs without a graph.
class StepObserver {
public:
  virtual ~StepObserver() = default;
  virtual bool wants(const BoundStep &step) { return true; }
  /// Whether blocks run though their predicate is closed.
  virtual bool entersClosedBlocks() const { return false; }
  virtual Status before(const BoundStep &step, cudaStream_t stream) {
    return {};
  }
  virtual Status after(const BoundStep &step, cudaStream_t stream) {
    return {};
  }
};

/// The streams and events of a plan. Everything starts from the main stream
/// (the plan's first) and comes back to it.
class Queue {
public:
  Queue() = default;
  ~Queue();
  Queue(const Queue &) = delete;
  Queue &operator=(const Queue &) = delete;

  Status create(const Plan &plan);
  cudaStream_t main() const { return streams.front(); }

  /// Enqueues a program step by step. The host decides about conditional
  /// blocks, so it waits for each of them. Errors name the item.
  Status enqueue(const Plan &plan, uint32_t entry, const BoundProgram &program,
                 StepObserver &observer);
  /// Records a program as one graph, with `last` copied behind it, and makes it
  /// ready to launch on the main stream.
  Status capture(const Plan &plan, uint32_t entry, const BoundProgram &program,
                 const BoundStep &last, cudaGraphExec_t &graph);
  void abandon();

private:
  Status forkStreams(const BoundProgram &program);
  Status joinStreams(const BoundProgram &program);
  Status put(const BoundStep &step, cudaStream_t stream);
  Status putBlock(const BoundBlock &block, cudaStream_t stream,
                  const Entry &entry, StepObserver *observer);
  Status captureAll(const Entry &entry, const BoundProgram &program,
                    const BoundStep &last);
  Status captureConditional(const BoundBlock &block, const Entry &entry);
  Expected<bool> isOpen(const BoundBlock &block);

  std::vector<cudaStream_t> streams; ///< by stream of the plan
  cudaStream_t body = nullptr;       ///< records bodies of conditional nodes
  std::vector<cudaEvent_t> events;   ///< by event of the plan
  std::vector<cudaEvent_t> joins;    ///< by stream: all its work is done
  cudaEvent_t fork = nullptr;
};

} // namespace peft::cuda

#endif // PEFT_CUDA_DEVICE_QUEUE_H
