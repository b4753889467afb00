//===- Queue.cpp - puts programs into streams -----------------------------===//
#include "Queue.h"

#include "Answer.h"
#include "SetCondition.h"

#include <algorithm>

namespace peft::cuda {

//===----------------------------------------------------------------------===//
// Streams and events
//===----------------------------------------------------------------------===//

static Status createEvent(cudaEvent_t &event) {
  PEFT_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return {};
}

static uint32_t countEvents(const Plan &plan) {
  uint32_t events = 0;
  for (const Entry &entry : plan.entries)
    for (const Item &item : entry.items)
      if (const auto *record = std::get_if<Record>(&item.action))
        events = std::max(events, record->event + 1);
  return events;
}

Status Queue::create(const Plan &plan) {
  streams.resize(std::max<size_t>(plan.streams.size(), 1));
  joins.resize(streams.size());
  events.resize(countEvents(plan));
  for (cudaStream_t &stream : streams)
    PEFT_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  PEFT_CUDA(cudaStreamCreateWithFlags(&body, cudaStreamNonBlocking));
  for (cudaEvent_t &event : joins)
    PEFT_TRY(createEvent(event));
  for (cudaEvent_t &event : events)
    PEFT_TRY(createEvent(event));
  return createEvent(fork);
}

void Queue::abandon() {
  streams.clear();
  events.clear();
  joins.clear();
  fork = nullptr;
  body = nullptr;
}

Queue::~Queue() {
  // Nobody is left to hear of an error.
  for (cudaStream_t stream : streams)
    if (stream)
      (void)cudaStreamDestroy(stream);
  if (body)
    (void)cudaStreamDestroy(body);
  for (cudaEvent_t event : events)
    if (event)
      (void)cudaEventDestroy(event);
  for (cudaEvent_t event : joins)
    if (event)
      (void)cudaEventDestroy(event);
  if (fork)
    (void)cudaEventDestroy(fork);
}

/// Lets the other streams start after what the main stream holds.
Status Queue::forkStreams(const BoundProgram &program) {
  PEFT_CUDA(cudaEventRecord(fork, main()));
  for (size_t i = 1; i < streams.size(); ++i)
    if (program.streams[i])
      PEFT_CUDA(cudaStreamWaitEvent(streams[i], fork, 0));
  return {};
}

/// Lets the main stream go on when the others are done.
Status Queue::joinStreams(const BoundProgram &program) {
  for (size_t i = 1; i < streams.size(); ++i)
    if (program.streams[i]) {
      PEFT_CUDA(cudaEventRecord(joins[i], streams[i]));
      PEFT_CUDA(cudaStreamWaitEvent(main(), joins[i], 0));
    }
  return {};
}

//===----------------------------------------------------------------------===//
// Steps
//===----------------------------------------------------------------------===//

Status Queue::put(const BoundStep &step, cudaStream_t stream) {
  switch (step.kind) {
  case ProgramStep::Kind::launch: {
    Call call = step.call;
    call.stream = stream;
    return step.run(call);
  }
  case ProgramStep::Kind::copy:
    if (step.size)
      PEFT_CUDA(cudaMemcpyAsync(step.destination, step.source, step.size,
                                cudaMemcpyDefault, stream));
    return {};
  case ProgramStep::Kind::record:
    PEFT_CUDA(cudaEventRecord(events[step.event], stream));
    return {};
  case ProgramStep::Kind::wait:
    PEFT_CUDA(cudaStreamWaitEvent(stream, events[step.event], 0));
    return {};
  }
  return {};
}

Status Queue::putBlock(const BoundBlock &block, cudaStream_t stream,
                       const Entry &entry, StepObserver *observer) {
  for (const BoundStep &step : block.steps) {
    if (observer && !observer->wants(step))
      continue;
    auto putWatched = [&]() -> Status {
      if (observer)
        PEFT_TRY(observer->before(step, stream));
      PEFT_TRY(put(step, stream));
      return observer ? observer->after(step, stream) : Status();
    };
    if (Status status = putWatched(); !status.ok())
      return status.in("entry '" + entry.name +
                       "': " + describeItem(entry, step.item));
  }
  return {};
}

/// The value of a block's predicate, when everything before it is done.
Expected<bool> Queue::isOpen(const BoundBlock &block) {
  int32_t value = 0;
  cudaStream_t stream = streams[block.stream];
  PEFT_CUDA(cudaMemcpyAsync(&value, block.gate.value, sizeof value,
                            cudaMemcpyDefault, stream));
  PEFT_CUDA(cudaStreamSynchronize(stream));
  return value > block.gate.above;
}

Status Queue::enqueue(const Plan &plan, uint32_t entry,
                      const BoundProgram &program, StepObserver &observer) {
  PEFT_TRY(forkStreams(program));
  for (const BoundBlock &block : program.blocks) {
    if (block.conditional && !observer.entersClosedBlocks()) {
      PEFT_ASSIGN(bool open, isOpen(block));
      if (!open)
        continue;
    }
    PEFT_TRY(putBlock(block, streams[block.stream], plan.entries[entry],
                      &observer));
  }
  return joinStreams(program);
}

//===----------------------------------------------------------------------===//
// Graphs
//===----------------------------------------------------------------------===//

namespace {

/// Where a capturing stream stands in its graph.
struct CapturePoint {
  cudaGraph_t graph = nullptr;
  const cudaGraphNode_t *nodes = nullptr;
  const cudaGraphEdgeData *edges = nullptr;
  size_t count = 0;

  Status look(cudaStream_t stream) {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    PEFT_CUDA(cudaStreamGetCaptureInfo(stream, &status, nullptr, &graph, &nodes,
                                       &edges, &count));
    return status == cudaStreamCaptureStatusActive
               ? Status()
               : internalError("a stream is not part of the graph it belongs "
                               "to");
  }
};

} // namespace

/// A node whose body runs iff the gate is open when its turn comes.
Status Queue::captureConditional(const BoundBlock &block, const Entry &entry) {
  cudaStream_t stream = streams[block.stream];
  CapturePoint point;
  PEFT_TRY(point.look(stream));
  cudaGraphConditionalHandle condition = 0;
  PEFT_CUDA(cudaGraphConditionalHandleCreate(&condition, point.graph, 0,
                                             cudaGraphCondAssignDefault));
  PEFT_TRY(setCondition(stream, condition, block.gate));
  PEFT_TRY(point.look(stream));
  cudaGraphNodeParams parameters{};
  parameters.type = cudaGraphNodeTypeConditional;
  parameters.conditional.handle = condition;
  parameters.conditional.type = cudaGraphCondTypeIf;
  parameters.conditional.size = 1;
  cudaGraphNode_t node = nullptr;
  PEFT_CUDA(cudaGraphAddNode(&node, point.graph, point.nodes, point.edges,
                             point.count, &parameters));
  PEFT_CUDA(cudaStreamUpdateCaptureDependencies(
      stream, &node, nullptr, 1, cudaStreamSetCaptureDependencies));
  cudaGraph_t inside = parameters.conditional.phGraph_out[0];
  PEFT_CUDA(cudaStreamBeginCaptureToGraph(body, inside, nullptr, nullptr, 0,
                                          cudaStreamCaptureModeRelaxed));
  PEFT_TRY(putBlock(block, body, entry, nullptr));
  cudaGraph_t filled = nullptr;
  PEFT_CUDA(cudaStreamEndCapture(body, &filled));
  return {};
}

Status Queue::captureAll(const Entry &entry, const BoundProgram &program,
                         const BoundStep &last) {
  PEFT_TRY(forkStreams(program));
  for (const BoundBlock &block : program.blocks)
    PEFT_TRY(block.conditional
                 ? captureConditional(block, entry)
                 : putBlock(block, streams[block.stream], entry, nullptr));
  PEFT_TRY(joinStreams(program));
  return put(last, main());
}

/// After an error the streams still record, and only the end of the process ends
/// that: see CudaDevice::captureEntries.
Status Queue::capture(const Plan &plan, uint32_t entry,
                      const BoundProgram &program, const BoundStep &last,
                      cudaGraphExec_t &graph) {
  const Entry &source = plan.entries[entry];
  // Relaxed: what this thread calls besides (a kernel that is loaded now) is
  // not part of the graph and may go on.
  PEFT_CUDA(cudaStreamBeginCapture(main(), cudaStreamCaptureModeRelaxed));
  PEFT_TRY(captureAll(source, program, last));
  cudaGraph_t recorded = nullptr;
  Status ended = answer(cudaStreamEndCapture(main(), &recorded),
                        "cudaStreamEndCapture");
  PEFT_TRY(ended.in("entry '" + source.name + "'"));
  Status made = answer(cudaGraphInstantiate(&graph, recorded, 0),
                       "cudaGraphInstantiate");
  (void)cudaGraphDestroy(recorded);
  PEFT_TRY(made.in("entry '" + source.name + "'"));
  PEFT_CUDA(cudaGraphUpload(graph, main()));
  return {};
}

} // namespace peft::cuda
