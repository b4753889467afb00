//===- card/Place.cpp - the CUDA kernels on the card ----------------------===//
//
// peft-card-conformance: every Case on card 0, with cuBLASLt where it computes.
// Exit 78 with one line when there is no usable card.
//
//===----------------------------------------------------------------------===//
#include "../Place.h"

#include "cuda/device/Answer.h"
#include "cuda/device/Card.h"
#include "cuda/device/LibraryAttention.h"
#include "cuda/library/Libraries.h"
#include "cuda/plan/AttentionChoices.h"
#include "peft/AttentionEngine.h"

#include <cstdio>
#include <cstdlib>
#include <gtest/gtest.h>
#include <set>

namespace peft::conformance {

namespace {

cudaStream_t stream = nullptr;
std::unique_ptr<cuda::Libraries> libraries;
std::unique_ptr<cuda::AttentionLibrary> attentionLibrary; ///< null: none

/// What has no good answer here: the card does not work.
void require(const Status &status) {
  if (status.ok())
    return;
  std::fprintf(stderr, "peft-card-conformance: error: %s\n",
               status.message().c_str());
  std::exit(70);
}

Status copy(void *to, const void *from, size_t bytes) {
  PEFT_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream));
  PEFT_CUDA(cudaStreamSynchronize(stream));
  return {};
}

Status openAll() {
  PEFT_ASSIGN(cuda::Card card, cuda::openCard(0));
  PEFT_TRY(cuda::openCublasLt().status());
  PEFT_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  PEFT_ASSIGN(libraries, cuda::Libraries::create());
  std::printf("%s\n", card.describe().c_str());
  auto opened = cuda::openAttentionLibrary();
  if (opened.ok())
    attentionLibrary = std::move(*opened);
  std::printf("attention of engine 1 by %s\n",
              opened.ok() ? attentionLibrary->name().c_str()
                          : opened.status().message().c_str());
  return {};
}

/// A plan with nothing but this launch.
Plan planOf(const KernelSpec &spec, const cuda::Call &call, Launch &launch) {
  Plan plan;
  launch.kernel = spec.name;
  for (const cuda::Operand &operand : call.operands) {
    launch.operands.push_back(operand ? uint32_t(plan.buffers.size()) : none);
    Buffer buffer;
    buffer.dtype = operand.type;
    buffer.shape = {operand.rows, operand.columns};
    if (operand.rows == 1 && operand.type == DType::i32)
      buffer.shape = {operand.columns};
    if (operand)
      plan.buffers.push_back(buffer);
  }
  for (size_t i = 0; i < spec.attributes.size(); ++i)
    if (spec.attributes[i].kind == AttributeSpec::Kind::integer)
      launch.attributes.push_back(
          {std::string(spec.attributes[i].name), call.attributes[i].integer});
    else
      launch.attributes.push_back(
          {std::string(spec.attributes[i].name), call.attributes[i].real});
  return plan;
}

Expected<bool> isOpen(const cuda::Gate &gate) {
  int32_t value = 0;
  if (gate.value)
    PEFT_TRY(copy(&value, gate.value, sizeof value));
  return !gate.value || value > gate.above;
}

/// Attention of engine 1 as the device runs it, with the host in place of
/// conditional nodes. What the library cannot do our own kernel does.
Status runAttention(size_t number, const cuda::Call &call) {
  Launch launch;
  const Plan plan = planOf(allKernels()[number], call, launch);
  PEFT_ASSIGN(cuda::AttentionChoice choice,
              cuda::describeAttention(plan, launch));
  auto built = attentionLibrary->build(choice.problem);
  if (built.ok())
    choice.graph = *built;
  if (!choice.graph || choice.needBytes() > call.workspaceBytes)
    return cuda::findFunction(number)(call);
  if (!choice.areas.hasGates) {
    PEFT_ASSIGN(bool open, isOpen(call.gate));
    return open ? cuda::runLibraryAttention(call, choice) : Status();
  }
  auto *gates = reinterpret_cast<cuda::AttentionGates *>(call.workspace +
                                                         choice.areas.gates);
  PEFT_TRY(cuda::openAttentionGates(call, choice.problem.backward, gates));
  PEFT_ASSIGN(bool whole, isOpen({&gates->library, 0}));
  if (whole)
    PEFT_TRY(cuda::runLibraryAttention(call, choice));
  cuda::Call own = call;
  own.gate = {&gates->own, 0};
  return cuda::findFunction(number)(own);
}

} // namespace

Allocation::Allocation(size_t bytes) : bytes(bytes) {
  if (bytes)
    require(cuda::answer(cudaMalloc(&memory, bytes), "cudaMalloc"));
}

Allocation::Allocation(const std::vector<std::byte> &content)
    : Allocation(content.size()) {
  if (bytes)
    require(copy(memory, content.data(), bytes));
}

Allocation::~Allocation() {
  if (memory)
    (void)cudaFree(memory);
}

void Allocation::fill(int value) {
  if (bytes)
    require(cuda::answer(cudaMemsetAsync(memory, value, bytes, stream),
                         "cudaMemsetAsync"));
}

bool Allocation::holdsOnly(uint8_t value) const {
  return content() == std::vector<std::byte>(bytes, std::byte(value));
}

std::vector<std::byte> Allocation::content() const {
  std::vector<std::byte> content(bytes);
  if (bytes)
    require(copy(content.data(), memory, bytes));
  return content;
}

std::span<const char *const> orderNames() {
  static constexpr const char *names[] = {"as the card has them"};
  return names;
}

void setOrder(size_t) {}

Status runKernel(size_t number, cuda::Call call) {
  call.stream = stream;
  call.libraries = libraries.get();
  if (cuda::isLinear(number)) {
    PEFT_ASSIGN(cuda::LinearWork work, cuda::describeLinear(number, call));
    PEFT_ASSIGN(cuda::LibraryArea area, cuda::libraryArea(call, work));
    PEFT_TRY(libraries->prepare(work, area.bytes));
  }
  const int engine = allKernels()[number].findAttribute("engine");
  const bool byLibrary =
      attentionLibrary && engine >= 0 &&
      call.integer(engine) == static_cast<int64_t>(AttentionEngine::library);
  PEFT_TRY(byLibrary ? runAttention(number, call)
                     : cuda::findFunction(number)(call));
  return cuda::answer(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
}

bool looksAtGate(size_t number) { return !cuda::isLinear(number); }

/// The card's compiler joins products and sums where the CPU's does not.
bool givesTheSameBits(std::string_view kernel) {
  static const std::set<std::string_view> exact = {
      "embed_fwd",    "add_fwd",     "cast",         "fill_zero",
      "compact_rows", "gather_rows", "scatter_rows", "count_tokens"};
  return exact.count(kernel) > 0;
}

} // namespace peft::conformance

int main(int argc, char **argv) {
  using namespace peft;
  testing::InitGoogleTest(&argc, argv);
  if (Status status = conformance::openAll(); !status.ok()) {
    std::fprintf(stderr, "peft-card-conformance: error: %s\n",
                 status.message().c_str());
    return static_cast<int>(status.code());
  }
  int result = RUN_ALL_TESTS();
  conformance::libraries.reset();
  conformance::attentionLibrary.reset();
  return result;
}
