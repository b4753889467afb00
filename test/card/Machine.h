//===- Machine.h - a card made of host code ---------------------*- C++ -*-===//
//
// Stands in for the CUDA runtime where there is no card, so that the device's
// own code runs: memory, streams, events, graphs with conditional nodes. It is
// as late and as disorderly as a card may be:
//   * work runs only when the host waits for it, and then in a random order
//     that keeps what streams and events promise (PEFT_CARD_SEED);
//   * a graph that is launched runs its nodes in a random order of its edges;
//   * device memory starts as 0xff bytes, PEFT_CARD_BYTES of them in all;
//   * after the first launch of a graph, asking for memory fails;
//   * a kernel that was never launched cannot be recorded: its code would be
//     loaded in the middle of a run;
//   * with PEFT_CARD_COUNTS it says at the end how often the host waited for all
//     of a stream after that launch;
//   * it is sm_90, or what PEFT_CARD_CAPABILITY says; with PEFT_CARD_BUSY another
//     process has it, with PEFT_CARD_NO_CODE the build has no code for it;
//   * on request one piece of work fails (PEFT_CARD_BREAKS_AT), and then all.
// Kernels come from the emulation, products from its plain loops.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_TEST_CARD_MACHINE_H
#define PEFT_TEST_CARD_MACHINE_H

#include "HostMultiply.h"
#include "peft/Status.h"

#include <cuda_runtime_api.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace peft::card {

using Work = std::function<Status()>;

/// Something a stream does at its turn.
struct Task {
  Work work;
  std::vector<std::shared_ptr<Task>> before;
  bool done = false;
  uint64_t turn = 0; ///< how many were done with it
};

/// The nodes of a graph; kept by the graph and by what was made of it.
struct GraphData;

/// Appends `work` to a stream, or to the graph that it records.
cudaError_t append(cudaStream_t stream, Work work);
/// Runs everything that `task` waits for, and `task`.
void settle(const std::shared_ptr<Task> &task);
/// Runs the nodes of a graph; of a conditional one only if its value is set.
Status runGraph(const GraphData &graph);

/// The number below `count` that a random choice gives.
size_t draw(size_t count);

/// Remembers the first error; afterwards every call gives it.
cudaError_t fail(const Status &status);
cudaError_t state();

/// Whether a graph was launched since all memory was free.
bool allocationIsForbidden();
void forbidAllocation();

} // namespace peft::card

// What the runtime's handles point to.
struct CUstream_st {
  std::shared_ptr<peft::card::Task> tail;
  std::shared_ptr<peft::card::GraphData> recording; ///< null: not recording
  std::vector<cudaGraphNode_t> point; ///< the nodes that the next one follows
};

struct CUevent_st {
  std::shared_ptr<peft::card::Task> task;
  std::shared_ptr<peft::card::GraphData> graph;
  std::vector<cudaGraphNode_t> point;
};

struct CUgraphNode_st {
  peft::card::Work work;
  std::vector<cudaGraphNode_t> before;
  std::shared_ptr<peft::card::GraphData> body; ///< of a conditional node
  cudaGraphConditionalHandle condition = 0;
  CUgraph_st *bodyHandle = nullptr;
};

struct CUgraph_st {
  std::shared_ptr<peft::card::GraphData> data;
};

struct CUgraphExec_st {
  std::shared_ptr<peft::card::GraphData> data;
};

struct peft::card::GraphData {
  ~GraphData();
  cudaGraphNode_t add(Work work, std::vector<cudaGraphNode_t> before);

  std::vector<std::unique_ptr<CUgraphNode_st>> nodes;
  std::vector<cudaGraphConditionalHandle> conditions; ///< created for it
  cudaStream_t origin = nullptr;
  std::vector<cudaStream_t> followers; ///< that it recorded besides
};

#endif // PEFT_TEST_CARD_MACHINE_H
