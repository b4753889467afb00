//===- Plan.h - a plan in memory --------------------------------*- C++ -*-===//
//
// One struct per table of schema/plan.fbs. The compiler fills these and calls
// serializePlan; the runtime gets them from loadPlan, which has run the
// structural and the semantic verifier. References between tables are indices
// into the plan's own vectors; `none` means absent. Sizes and offsets are bytes.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_PLAN_H
#define PEFT_PLAN_H

#include "peft/DType.h"
#include "peft/Status.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

namespace peft {

constexpr uint32_t none = 0xffffffffu;
/// Every arena offset is a multiple of this; in what a card can reach of a plan
/// for it, of cardAlignment, as the card's library wants its operands.
constexpr uint64_t bufferAlignment = 64;
constexpr uint64_t cardAlignment = 256;

enum class Space : uint8_t { device = 0, pinned, pageable, mapping };
enum class Engine : uint8_t { compute = 0, copyIn, copyOut, collective };
/// What a plan was made for; the CPU device runs plans of every kind.
enum class DeviceKind : uint8_t { cpu = 0, cuda };
/// What a buffer is for; `peftc explain` totals by it.
enum class BufferClass : uint8_t {
  base = 0,   ///< frozen weights
  adapter,    ///< everything that trains (with --train all: the masters)
  optimizer,  ///< AdamW's moments and its step
  gradient,   ///< gradient sums
  activation, ///< values inside an entry
  workspace,  ///< scratch of one launch
  input,      ///< batches
  scalar,     ///< run-time scalars, sums and metrics
};

struct Arena {
  Space space = Space::device;
  uint64_t persistentBytes = 0; ///< [0, persistentBytes) lives across entries
  uint64_t size = 0;            ///< persistent + the largest entry
};

struct Buffer {
  std::string name;
  uint32_t arena = none; ///< none: the bytes of `weight`, mapped from its file
  uint64_t offset = 0;
  uint64_t size = 0;     ///< exactly byteCount(dtype, elements())
  DType dtype = DType::f32;
  std::vector<uint64_t> shape; ///< one or two dimensions, row-major
  uint32_t entry = none;       ///< none: persistent; else local to that entry
  uint32_t weight = none;
  BufferClass kind = BufferClass::activation;

  uint64_t elements() const {
    uint64_t count = 1;
    for (uint64_t extent : shape)
      count *= extent;
    return count;
  }
};

/// Part of a weight that one rank holds.
struct Slice {
  uint32_t axis = 0;
  uint64_t start = 0, extent = 0;
};

/// What the bytes of a weight are: all of a tensor, or one of the parts of a
/// quantized one, which plan.fbs describes.
enum class WeightPart : uint8_t {
  whole = 0,
  codes,        ///< nf4, fp4 or i8 [n, k]
  absmax,       ///< f32 or, with nested scales, u8 [blocks]
  nestedAbsmax, ///< f32 [nested blocks]
  tables,       ///< f32 [16] or [273]
};

/// Elements of `tables` without and with nested scales.
constexpr uint64_t codeTable = 16, nestedTables = codeTable + 256 + 1;

/// A tensor of the model directory, bound by name, shape and type.
struct Weight {
  std::string name; ///< as in the safetensors file
  DType dtype = DType::bf16;
  std::vector<uint64_t> shape;
  std::vector<Slice> slices; ///< one per rank; empty: all of it
  WeightPart part = WeightPart::whole;
  uint32_t of = none;  ///< of a part other than codes: the codes' index
  uint32_t block = 0;  ///< of 4-bit codes: elements that share a scale
  uint32_t nested = 0; ///< of codes: scales that share a nested one; 0: none
};

/// How a persistent buffer starts; buffers without one start as zero.
struct Initializer {
  enum class Kind : uint8_t {
    weight = 0,     ///< from `weight`, converted to the buffer's type
    kaimingUniform, ///< U(-bound, bound), bound = 1/sqrt(columns): PEFT's A
    gaussian,       ///< N(0, standardDeviation)
  };
  uint32_t buffer = none;
  Kind kind = Kind::weight;
  uint32_t weight = none;
  double standardDeviation = 0;
  uint64_t stream = 0; ///< hash of the name: which random numbers
};

/// Parameters with one rate and their own sums; one per adapter.
struct Group {
  std::string name; ///< "default"
  double rateFactor = 1;
  uint32_t lossSum = none;   ///< f64 [1]
  uint32_t tokens = none;    ///< i64 [1]
  uint32_t normSquare = none; ///< f64 [1]
};

/// A tensor of the saved file: it trains or, without gradients and moments, is
/// only saved (A of LoRA-FA).
struct Parameter {
  std::string name;    ///< key in the saved file
  std::string module;  ///< Hugging Face module path
  uint32_t buffer = none;
  std::vector<uint32_t> gradients; ///< one f32 sum per use; [0] holds the total in `update`
  uint32_t firstMoment = none, secondMoment = none; ///< f32, or u8 codes
  uint32_t firstScale = none, secondScale = none; ///< of codes, one per 256
  uint32_t group = 0;
  bool decay = false;
  /// The gradient is zero at the first step by construction (A while B is zero).
  bool zeroGradientAtStart = false;
  /// Type in the source model (--train all writes it back in that type).
  DType sourceType = DType::f32;

  bool trains() const { return !gradients.empty(); }
};

/// A named buffer that the host writes before (input, scalar) or reads after
/// (output) an entry.
struct Port {
  enum class Kind : uint8_t { input = 0, scalar, output };
  Kind kind = Kind::input;
  std::string name;
  uint32_t buffer = none;
};

struct Attribute {
  std::string name;
  std::variant<int64_t, double, std::vector<float>> value;
};

/// The launch runs iff the i32 at `buffer` is greater than `above`.
struct Predicate {
  uint32_t buffer = none;
  int32_t above = 0;
};

struct Launch {
  std::string kernel;
  std::vector<uint32_t> operands; ///< in the order of kernels.def; none: absent
  std::vector<Attribute> attributes; ///< those that differ from the default
  uint32_t sharedWorkspace = none;   ///< u8 buffers; of the plan's device kind
  /// maxThreads equal parts; in a plan for a card all scratch of the CPU
  /// device, its shared part last
  uint32_t threadWorkspace = none;
  Predicate predicate;
  std::string module; ///< location: the Hugging Face name
  bool recomputed = false; ///< part of the forward pass, run again in backward
};

struct Copy {
  uint32_t source = none, destination = none;
  uint64_t sourceOffset = 0, destinationOffset = 0, size = 0;
};

struct Collective {
  enum class Kind : uint8_t { allGather = 0, reduceScatter, allReduce, broadcast };
  Kind kind = Kind::allReduce;
  uint32_t source = none, destination = none;
  std::string module;
};

struct Record { uint32_t event = 0; };
struct Wait { uint32_t event = 0; };

struct Item {
  uint32_t stream = 0;
  std::variant<Launch, Copy, Collective, Record, Wait> action;
};

/// A list of items. File order is a valid serial order; an item may start when
/// the earlier items of its stream, and the events it waits for, are done.
struct Entry {
  std::string name; ///< micro_step, update, eval, logits
  std::vector<Item> items;
  uint64_t localBytes = 0; ///< of arena 0
  uint64_t lowerBound = 0; ///< of these, live at the worst moment
};

struct Remark { std::string pass, module, message; };

struct Plan {
  std::string producer;   ///< "peftc 0.1.0"
  std::string modelName;
  std::string headerHash; ///< of the weights' headers; empty: bare config.json
  std::string modelConfig;   ///< the source's config.json, verbatim
  std::string adapterConfig; ///< adapter_config.json to write; empty: train all
  std::string target = "cpu"; ///< name of the target's description
  DeviceKind deviceKind = DeviceKind::cpu;
  DType compute = DType::bf16;
  uint32_t batch = 1;
  uint64_t seq = 0;
  uint64_t vocab = 0;
  uint32_t maxThreads = 8;
  uint32_t shard = 1, tensorParallel = 1; ///< the grid of ranks
  std::vector<Arena> arenas;
  std::vector<Buffer> buffers;
  std::vector<Weight> weights;
  std::vector<Initializer> initializers;
  std::vector<Group> groups;
  std::vector<Parameter> parameters;
  std::vector<Port> ports;
  std::vector<Engine> streams;
  std::vector<Entry> entries;
  std::vector<Remark> remarks;

  /// Index of the entry or port called `name`, or none.
  uint32_t findEntry(std::string_view name) const;
  uint32_t findPort(std::string_view name) const;
};

/// FlatBuffers bytes of a plan. The same plan gives the same bytes.
std::string serializePlan(const Plan &plan);

/// Structural check, decoding and verifyPlan. Errors have code badInput.
Expected<Plan> parsePlan(std::span<const std::byte> bytes);
Expected<Plan> loadPlan(const std::string &path);

/// Decodes without the semantic verifier: for tools that show a broken plan and
/// for tests that break one on purpose. Never execute its result unverified.
Expected<Plan> decodePlan(std::span<const std::byte> bytes);

/// The semantic verifier: a plan that passes reads and writes nothing outside
/// its arenas, whoever wrote it.
Status verifyPlan(const Plan &plan);

} // namespace peft

#endif // PEFT_PLAN_H
