//===- CudnnGraph.cpp - attention as a graph of cuDNN ---------------------===//
//
// The only file that includes cuDNN's frontend, which takes the compiler most
// of a minute; g++ compiles it (Plugin.cmake).
//
//===----------------------------------------------------------------------===//
#include "Cudnn.h"

#include <cudnn_frontend.h>

#include <unordered_map>

namespace fe = cudnn_frontend;

namespace peft::cuda {

namespace {

using Attributes = fe::graph::Tensor_attributes;
using Tensor = std::shared_ptr<Attributes>;

/// The names of the tensors of a graph in the pack of pointers.
enum Id : int64_t { idQ = 1, idK, idV, idO, idLse, idDO, idDq, idDk, idDv };

Status noEngine(const std::string &step, fe::error_t error) {
  // The library's texts may have several lines; one is enough.
  std::string text = error.get_message();
  text = text.substr(0, text.find('\n'));
  return Status::error(Code::unsuitable, step + ": " + text.substr(0, 200));
}

class Graph final : public AttentionGraph {
public:
  Graph(const AttentionProblem &problem, void *handle)
      : problem(problem), handle(static_cast<cudnnHandle_t>(handle)) {}

  Status build(const CudnnTarget &target);

  uint64_t workspaceBytes() const override { return bytes; }
  std::string engine() const override { return plan; }
  Status run(const Call &call, const AttentionMemory &memory,
             std::byte *workspace) const override;

private:
  Status describeTarget(const CudnnTarget &target);
  void describe();
  void describeForward(const Tensor &q, const Tensor &k, const Tensor &v);
  void describeBackward(const Tensor &q, const Tensor &k, const Tensor &v);
  Tensor tensor(Id id, const char *name, uint64_t heads);
  Tensor numbers();
  Attributes shaped(Id id, const char *name, uint64_t heads) const;
  void makeOutput(const Tensor &tensor, Id id, const char *name,
                  uint64_t heads) const;
  template <typename Options> void mask(Options &options) const;

  AttentionProblem problem;
  cudnnHandle_t handle;
  // The frontend's execute is const in all but name.
  mutable fe::graph::Graph graph;
  uint64_t bytes = 0;
  std::string plan;
};

/// Heads stand beside each other in a row, rows after each other.
std::vector<int64_t> strides(const AttentionProblem &of, uint64_t heads) {
  const int64_t dim = int64_t(of.headDim), row = int64_t(heads) * dim;
  return {int64_t(of.seq) * row, dim, row, 1};
}
std::vector<int64_t> extents(const AttentionProblem &of, uint64_t heads) {
  return {int64_t(of.batch), int64_t(heads), int64_t(of.seq),
          int64_t(of.headDim)};
}

Attributes Graph::shaped(Id id, const char *name, uint64_t heads) const {
  return Attributes()
      .set_uid(id)
      .set_name(name)
      .set_dim(extents(problem, heads))
      .set_stride(strides(problem, heads));
}

Tensor Graph::tensor(Id id, const char *name, uint64_t heads) {
  return graph.tensor(shaped(id, name, heads));
}

void Graph::makeOutput(const Tensor &tensor, Id id, const char *name,
                       uint64_t heads) const {
  tensor->set_output(true)
      .set_uid(id)
      .set_name(name)
      .set_dim(extents(problem, heads))
      .set_stride(strides(problem, heads));
}

/// f32 [batch, heads, seq], lse in base e.
Tensor Graph::numbers() {
  const int64_t seq = int64_t(problem.seq), heads = int64_t(problem.heads);
  return graph.tensor(Attributes()
                          .set_uid(idLse)
                          .set_name("lse")
                          .set_dim({int64_t(problem.batch), heads, seq, 1})
                          .set_stride({heads * seq, seq, 1, 1})
                          .set_data_type(fe::DataType_t::FLOAT));
}

/// A key is seen iff key <= query and key + window > query.
template <typename Options> void Graph::mask(Options &options) const {
  options.set_attn_scale(static_cast<float>(problem.scale))
      .set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT)
      .set_diagonal_band_right_bound(0);
  if (problem.window)
    options.set_diagonal_band_left_bound(static_cast<int>(problem.window));
}

void Graph::describeForward(const Tensor &q, const Tensor &k, const Tensor &v) {
  auto options = fe::graph::SDPA_attributes()
                     .set_name("attention_fwd")
                     .set_generate_stats(true);
  mask(options);
  auto [o, lse] = graph.sdpa(q, k, v, options);
  makeOutput(o, idO, "o", problem.heads);
  const int64_t seq = int64_t(problem.seq), heads = int64_t(problem.heads);
  lse->set_output(true)
      .set_uid(idLse)
      .set_name("lse")
      .set_dim({int64_t(problem.batch), heads, seq, 1})
      .set_stride({heads * seq, seq, 1, 1})
      .set_data_type(fe::DataType_t::FLOAT);
}

void Graph::describeBackward(const Tensor &q, const Tensor &k,
                             const Tensor &v) {
  auto options = fe::graph::SDPA_backward_attributes()
                     .set_name("attention_bwd")
                     .set_deterministic_algorithm(problem.deterministic);
  mask(options);
  const Tensor o = tensor(idO, "o", problem.heads);
  const Tensor dO = tensor(idDO, "d_o", problem.heads);
  auto [dq, dk, dv] = graph.sdpa_backward(q, k, v, o, dO, numbers(), options);
  makeOutput(dq, idDq, "dq", problem.heads);
  makeOutput(dk, idDk, "dk", problem.kvHeads);
  makeOutput(dv, idDv, "dv", problem.kvHeads);
}

void Graph::describe() {
  const bool half = problem.type == DType::f16;
  graph
      .set_io_data_type(half ? fe::DataType_t::HALF : fe::DataType_t::BFLOAT16)
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
  const Tensor q = tensor(idQ, "q", problem.heads);
  const Tensor k = tensor(idK, "k", problem.kvHeads);
  const Tensor v = tensor(idV, "v", problem.kvHeads);
  problem.backward ? describeBackward(q, k, v) : describeForward(q, k, v);
}

/// A card that is not there.
Status Graph::describeTarget(const CudnnTarget &target) {
  if (target.handle)
    return {};
  std::vector<uint8_t> text(target.description.begin(),
                            target.description.end());
  text.push_back(0);
  auto properties = std::make_shared<fe::DeviceProperties>();
  if (auto error = properties->deserialize(text); error.is_bad())
    return noEngine("device description", error);
  graph.set_device_properties(properties);
  graph.set_sm_version(target.capability);
  return {};
}

Status Graph::build(const CudnnTarget &target) {
  PEFT_TRY(describeTarget(target));
  describe();
  if (auto error = graph.validate(); error.is_bad())
    return noEngine("attention", error);
  if (auto error = handle ? graph.build_operation_graph(handle)
                          : graph.build_operation_graph();
      error.is_bad())
    return noEngine("operations", error);
  if (auto error = graph.create_execution_plans({fe::HeurMode_t::A});
      error.is_bad())
    return noEngine("heuristic", error);
  if (auto error = graph.check_support(); error.is_bad())
    return noEngine("support", error);
  if (auto error = graph.build_plans(); error.is_bad())
    return noEngine("plan", error);
  int64_t workspace = 0;
  if (auto error = graph.get_workspace_size(workspace); error.is_bad())
    return noEngine("workspace", error);
  bytes = static_cast<uint64_t>(workspace);
  (void)graph.get_plan_name(plan);
  return {};
}

Status Graph::run(const Call &call, const AttentionMemory &memory,
                  std::byte *workspace) const {
  std::unordered_map<int64_t, void *> pointers = {
      {idQ, memory.q}, {idK, memory.k},     {idV, memory.v},
      {idO, memory.o}, {idLse, memory.lse},
  };
  if (problem.backward)
    pointers.insert({{idDO, memory.dO},
                     {idDq, memory.dq},
                     {idDk, memory.dk},
                     {idDv, memory.dv}});
  cudnnStatus_t status =
      cudnnSetStream(handle, static_cast<cudaStream_t>(call.stream));
  if (status != CUDNN_STATUS_SUCCESS)
    return internalError(std::string("cudnnSetStream: ") +
                         cudnnGetErrorString(status));
  try {
    if (auto error = graph.execute(handle, pointers, workspace);
        error.is_bad())
      return internalError("cuDNN's attention: " + error.get_message());
  } catch (const std::exception &error) {
    return internalError(std::string("cuDNN's attention: ") + error.what());
  }
  return {};
}

} // namespace

Expected<std::shared_ptr<AttentionGraph>>
buildCudnnGraph(const AttentionProblem &problem, const CudnnTarget &target) {
  if (problem.type != DType::bf16 && problem.type != DType::f16)
    return Status::error(Code::unsuitable, "f32 would be computed in less");
  try {
    auto graph = std::make_shared<Graph>(problem, target.handle);
    PEFT_TRY(graph->build(target));
    return std::shared_ptr<AttentionGraph>(std::move(graph));
  } catch (const std::exception &error) {
    return Status::error(Code::unsuitable, error.what());
  }
}

} // namespace peft::cuda
