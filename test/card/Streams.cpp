//===- Streams.cpp - streams, events and graphs ---------------------------===//
#include "Machine.h"

#include "cuda/device/SetCondition.h"
#include "cuda/emulation/Deferral.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <unordered_set>

using namespace peft;
using namespace peft::card;

cudaError_t card::append(cudaStream_t stream, Work work) {
  if (state() != cudaSuccess)
    return state();
  if (stream->recording) {
    stream->point = {stream->recording->add(std::move(work), stream->point)};
    return cudaSuccess;
  }
  auto task = std::make_shared<Task>();
  task->work = std::move(work);
  task->before = {stream->tail};
  stream->tail = std::move(task);
  return cudaSuccess;
}

/// Kernels of the emulation wait for their turn in a stream.
static Status deferLaunch(void *stream, std::function<Status()> work) {
  if (append(static_cast<cudaStream_t>(stream), std::move(work)) == cudaSuccess)
    return {};
  return internalError("the card answers no more");
}

Status card::loadFor(void *stream, const std::string &code) {
  static std::unordered_set<std::string> loaded;
  const auto *on = static_cast<cudaStream_t>(stream);
  if (loaded.insert(code).second && on && on->recording)
    return internalError("code is loaded while a graph is recorded");
  return {};
}

static Status loadKernel(void *stream, const void *kernel) {
  return loadFor(stream, "kernel at " + std::to_string(
                             reinterpret_cast<uintptr_t>(kernel)));
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
  cuda::emulation::deferral = deferLaunch;
  cuda::emulation::loading = loadKernel;
  *stream = new CUstream_st;
  return state();
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}
static struct WaitCount {
  size_t waits = 0;
  ~WaitCount() {
    if (std::getenv("PEFT_CARD_COUNTS"))
      std::fprintf(stderr, "test card: %zu waits for a stream\n", waits);
  }
} waitCount;

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (stream->recording)
    return cudaErrorStreamCaptureUnsupported;
  waitCount.waits += allocationIsForbidden();
  settle(stream->tail);
  return state();
}

//===----------------------------------------------------------------------===//
// Events
//===----------------------------------------------------------------------===//

cudaError_t cudaEventCreate(cudaEvent_t *event) {
  *event = new CUevent_st;
  return state();
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
  if (allocationIsForbidden())
    return cudaErrorNotPermitted;
  return cudaEventCreate(event);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  *event = {stream->tail, stream->recording, stream->point};
  return state();
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (event->graph)
    return cudaErrorStreamCaptureUnsupported;
  settle(event->task);
  return state();
}
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t begin,
                                 cudaEvent_t end) {
  // A microsecond for everything that a stream does.
  if (!begin->task || !end->task || !begin->task->done || !end->task->done)
    return cudaErrorNotReady;
  *milliseconds = 1e-3f * (static_cast<float>(end->task->turn) -
                           static_cast<float>(begin->task->turn));
  return state();
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event,
                                unsigned) {
  if (event->graph) {
    // A stream that waits for a recording one is recorded too.
    if (!stream->recording) {
      stream->point.clear();
      event->graph->followers.push_back(stream);
    } else if (stream->recording != event->graph)
      return cudaErrorStreamCaptureIsolation;
    stream->recording = event->graph;
    for (cudaGraphNode_t node : event->point)
      if (std::ranges::find(stream->point, node) == stream->point.end())
        stream->point.push_back(node);
    return state();
  }
  if (stream->recording)
    return cudaErrorStreamCaptureIsolation;
  auto task = std::make_shared<Task>();
  task->work = [] { return Status(); };
  task->before = {stream->tail, event->task};
  stream->tail = std::move(task);
  return state();
}

//===----------------------------------------------------------------------===//
// Recording
//===----------------------------------------------------------------------===//

GraphData::~GraphData() {
  for (const auto &node : nodes)
    delete node->bodyHandle;
}

cudaGraphNode_t GraphData::add(Work work, std::vector<cudaGraphNode_t> before) {
  nodes.push_back(std::make_unique<CUgraphNode_st>());
  nodes.back()->work = std::move(work);
  nodes.back()->before = std::move(before);
  return nodes.back().get();
}

static cudaError_t beginRecording(cudaStream_t stream,
                                  std::shared_ptr<GraphData> graph) {
  if (stream->recording)
    return cudaErrorIllegalState;
  graph->origin = stream;
  stream->recording = std::move(graph);
  stream->point.clear();
  return state();
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  return beginRecording(stream, std::make_shared<GraphData>());
}
cudaError_t cudaStreamBeginCaptureToGraph(cudaStream_t stream,
                                          cudaGraph_t graph,
                                          const cudaGraphNode_t *,
                                          const cudaGraphEdgeData *,
                                          size_t count, cudaStreamCaptureMode) {
  return count ? cudaErrorNotSupported : beginRecording(stream, graph->data);
}

/// Whether the last node of every stream is before `point`, as a card demands.
static bool isJoined(const GraphData &graph,
                     const std::vector<cudaGraphNode_t> &point) {
  std::unordered_set<cudaGraphNode_t> seen;
  std::vector<cudaGraphNode_t> open = point;
  while (!open.empty()) {
    cudaGraphNode_t node = open.back();
    open.pop_back();
    if (seen.insert(node).second)
      open.insert(open.end(), node->before.begin(), node->before.end());
  }
  return seen.size() == graph.nodes.size();
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
  std::shared_ptr<GraphData> data = stream->recording;
  if (!data || data->origin != stream)
    return cudaErrorStreamCaptureUnmatched;
  bool joined = isJoined(*data, stream->point);
  stream->recording = nullptr;
  for (cudaStream_t follower : data->followers)
    follower->recording = nullptr;
  *graph = new CUgraph_st{data};
  if (joined)
    return state();
  delete *graph;
  *graph = nullptr;
  return cudaErrorStreamCaptureUnjoined;
}

cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream,
                                     cudaStreamCaptureStatus *status,
                                     unsigned long long *, cudaGraph_t *graph,
                                     const cudaGraphNode_t **nodes,
                                     const cudaGraphEdgeData **edges,
                                     size_t *count) {
  static CUgraph_st current;
  *status = stream->recording ? cudaStreamCaptureStatusActive
                              : cudaStreamCaptureStatusNone;
  current.data = stream->recording;
  *graph = &current;
  *nodes = stream->point.data();
  *edges = nullptr;
  *count = stream->point.size();
  return state();
}

cudaError_t cudaStreamUpdateCaptureDependencies(cudaStream_t stream,
                                                cudaGraphNode_t *nodes,
                                                const cudaGraphEdgeData *,
                                                size_t count, unsigned flags) {
  if (flags != cudaStreamSetCaptureDependencies || !stream->recording)
    return cudaErrorNotSupported;
  stream->point.assign(nodes, nodes + count);
  return state();
}

//===----------------------------------------------------------------------===//
// Conditional nodes
//===----------------------------------------------------------------------===//

static std::vector<unsigned> &conditions() {
  static std::vector<unsigned> values(1); // 0 is no handle
  return values;
}

cudaError_t cudaGraphConditionalHandleCreate(cudaGraphConditionalHandle *handle,
                                             cudaGraph_t graph, unsigned value,
                                             unsigned flags) {
  if (flags != cudaGraphCondAssignDefault || value != 0)
    return cudaErrorNotSupported;
  *handle = conditions().size();
  conditions().push_back(value);
  graph->data->conditions.push_back(*handle);
  return state();
}

cudaError_t cudaGraphAddNode(cudaGraphNode_t *node, cudaGraph_t graph,
                             const cudaGraphNode_t *before,
                             const cudaGraphEdgeData *, size_t count,
                             cudaGraphNodeParams *parameters) {
  cudaConditionalNodeParams &wanted = parameters->conditional;
  if (parameters->type != cudaGraphNodeTypeConditional ||
      wanted.type != cudaGraphCondTypeIf || wanted.size != 1 ||
      std::ranges::find(graph->data->conditions, wanted.handle) ==
          graph->data->conditions.end())
    return cudaErrorInvalidValue;
  *node = graph->data->add({}, {before, before + count});
  auto body = std::make_shared<GraphData>();
  (*node)->body = body;
  (*node)->bodyHandle = new CUgraph_st{body};
  (*node)->work = [body, handle = wanted.handle]() -> Status {
    return conditions()[handle] ? runGraph(*body) : Status();
  };
  static cudaGraph_t out;
  out = (*node)->bodyHandle;
  wanted.phGraph_out = &out;
  return state();
}

static bool conditionIsLoaded = false;

cudaError_t cuda::loadCondition() {
  if (std::getenv("PEFT_CARD_NO_CODE"))
    return cudaErrorNoKernelImageForDevice;
  conditionIsLoaded = true;
  return cudaSuccess;
}

Status cuda::setCondition(cudaStream_t stream,
                          cudaGraphConditionalHandle condition,
                          const Gate &gate) {
  if (!conditionIsLoaded)
    return internalError("code is loaded while a graph is recorded");
  return deferLaunch(stream, [condition, gate]() -> Status {
    conditions()[condition] = *gate.value > gate.above;
    return {};
  });
}

//===----------------------------------------------------------------------===//
// Launching graphs
//===----------------------------------------------------------------------===//

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph,
                                 unsigned long long) {
  *exec = new CUgraphExec_st{graph->data};
  return state();
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return state(); }

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  forbidAllocation();
  return append(stream, [data = exec->data]() -> Status {
    for (cudaGraphConditionalHandle handle : data->conditions)
      conditions()[handle] = 0;
    return runGraph(*data);
  });
}
