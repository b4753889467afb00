//===- WriteQuantized.cpp - a quantized file out of an ordinary one -------===//
//
// The layout is fixed before a weight is read, so that all pieces can be written
// in any order by any thread. Only the length of a quant_state is not known
// then: these texts come last, and the header is padded.
//
//===----------------------------------------------------------------------===//
#include "peft/WriteQuantized.h"

#include "peft/FloatTypes.h"
#include "peft/Json.h"
#include "peft/QuantizedTensor.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <mutex>
#include <sched.h>
#include <thread>

using namespace peft;

namespace {

constexpr uint64_t pieceElements = 1 << 18; ///< a multiple of every block size
constexpr uint64_t pieceBytes = 1 << 20;    ///< of what is only copied
/// A nested_offset has at most so many characters more than "0.0".
constexpr uint64_t stateSlack = 32;

/// One tensor and where its parts go.
struct Work {
  const QuantizedOutput *output = nullptr;
  const InputFile *file = nullptr;
  QuantState state;
  uint64_t elements = 0, columns = 0, scales = 0;
  /// Indices into Writer::pieces; codes is also where a copy goes.
  size_t codes = 0, absmax = 0, map = 0, nestedAbsmax = 0, nestedMap = 0,
         format = 0, text = 0;
  std::vector<float> scaleValues; ///< from the first piece to the last
  std::mutex allocation;
  std::atomic<uint64_t> piecesLeft{0};

  const TensorHeader &source() const { return *output->source.header; }
  bool isQuantized() const { return output->format.has_value(); }
  bool isRows() const { return state.format.type == DType::i8; }
  uint64_t elementsOfPiece() const {
    return isRows() ? std::max<uint64_t>(1, pieceElements / columns) * columns
                    : pieceElements;
  }
};

class Writer {
public:
  Writer(const std::vector<QuantizedOutput> &outputs,
         const std::map<std::string, std::string> &metadata, PlacedSink &sink,
         const QuantizeOptions &options)
      : metadata(metadata), sink(sink), options(options),
        works(outputs.size()) {
    for (size_t i = 0; i < outputs.size(); ++i)
      works[i].output = &outputs[i];
  }

  Status run() {
    PEFT_TRY(openFiles());
    PEFT_TRY(layOut());
    PEFT_TRY(sink.reserve(headerBytes + dataBytes));
    runThreads();
    PEFT_TRY(error);
    return writeTexts();
  }

private:
  struct Job {
    Work *work;
    uint64_t begin, count; ///< elements, or bytes of a copy
  };
  struct Buffers {
    std::vector<std::byte> source, codes;
  };

  Status openFiles();
  Status describe(Work &work);
  size_t add(const std::string &name, std::string_view type,
             std::vector<int64_t> shape, uint64_t bytes);
  void addParts(Work &work);
  Status layOut();
  void runThreads();
  void runThread(bool isCaller);
  Status runJob(const Job &job, Buffers &buffers);
  Status quantize(const Job &job, Buffers &buffers);
  Status finishScales(Work &work);
  Status writeTexts();
  Status notFinite(const Job &job, const std::vector<std::byte> &weights);
  Status put(size_t piece, ByteSpan bytes, uint64_t at = 0) {
    return sink.write(headerBytes + pieces[piece].begin + at, bytes);
  }
  void fail(const Status &status) {
    const std::lock_guard lock(errorMutex);
    if (error.ok())
      error = status;
    stop = true;
  }

  const std::map<std::string, std::string> &metadata;
  PlacedSink &sink;
  const QuantizeOptions &options;
  std::vector<Work> works;
  std::map<std::string, InputFile> files;
  std::vector<TensorHeader> pieces; ///< offsets are set by layOut
  std::vector<size_t> order;        ///< of the pieces in the file
  std::vector<std::string> texts;   ///< by piece; of quant_states only
  uint64_t headerBytes = 0, dataBytes = 0, allWeights = 0;

  std::vector<Job> jobs;
  std::atomic<size_t> next{0};
  std::atomic<uint64_t> done{0};
  std::atomic<bool> stop{false};
  std::mutex errorMutex;
  Status error;
};

Status Writer::openFiles() {
  for (Work &work : works) {
    const std::string &path = work.output->source.shard->path;
    auto found = files.find(path);
    if (found == files.end()) {
      PEFT_ASSIGN(InputFile file, InputFile::open(path));
      found = files.emplace(path, std::move(file)).first;
    }
    work.file = &found->second;
    PEFT_TRY(describe(work));
  }
  return Status();
}

/// Fills in what follows from the source's header and the format.
Status Writer::describe(Work &work) {
  const TensorHeader &source = work.source();
  work.elements = source.elementCount();
  if (!work.isQuantized())
    return Status();
  const std::string where = work.output->source.shard->path + ": tensor " +
                            quoteJson(source.name) + ": is " +
                            source.describe();
  if (!source.dtype || !isFloat(*source.dtype))
    return badInput(where + "; only f32, bf16 and f16 can be quantized");
  if (source.shape.size() != 2 || work.elements == 0)
    return badInput(where + "; only a weight with two dimensions can be "
                            "quantized");
  work.state.format = *work.output->format;
  work.state.shape = source.shape;
  work.state.sourceType = *source.dtype;
  work.columns = static_cast<uint64_t>(source.shape[1]);
  work.scales = work.isRows()
                    ? static_cast<uint64_t>(source.shape[0])
                    : blockCount(work.elements, work.state.format.block);
  allWeights += work.elements;
  return Status();
}

size_t Writer::add(const std::string &name, std::string_view type,
                   std::vector<int64_t> shape, uint64_t bytes) {
  TensorHeader piece;
  piece.name = name;
  piece.type = type;
  piece.shape = std::move(shape);
  piece.end = bytes;
  pieces.push_back(std::move(piece));
  return pieces.size() - 1;
}

void Writer::addParts(Work &work) {
  const TensorHeader &source = work.source();
  if (!work.isQuantized()) {
    work.codes = add(source.name, source.type, source.shape, source.byteCount());
    return;
  }
  const std::string &name = source.name;
  const auto floats = [&](const std::string &part, uint64_t count) {
    return add(part, "F32", {static_cast<int64_t>(count)}, 4 * count);
  };
  const auto bytes = [&](const std::string &part, uint64_t count) {
    return add(part, "U8", {static_cast<int64_t>(count)}, count);
  };
  const QuantFormat &format = work.state.format;
  const std::string scales = scalesName(name, format.type);
  if (work.isRows()) {
    work.codes = add(name, "I8", source.shape, work.elements);
    work.absmax = floats(scales, work.scales);
    const std::string module = scales.substr(0, scales.rfind('.'));
    work.format = add(module + ".weight_format", "U8", {}, 1);
    return;
  }
  const uint64_t packed = blockCount(work.elements, 2);
  work.codes = add(name, "U8", {static_cast<int64_t>(packed), 1}, packed);
  work.map = floats(name + ".quant_map", 16);
  if (format.nested) {
    work.absmax = bytes(scales, work.scales);
    work.nestedAbsmax = floats(name + ".nested_absmax",
                               blockCount(work.scales, format.nested));
    work.nestedMap = floats(name + ".nested_quant_map", 256);
  } else {
    work.absmax = floats(scales, work.scales);
  }
  work.text = bytes(name + quantStateSuffix(format.type),
                    writeQuantState(work.state).size() + stateSlack);
}

/// The larger element types first, so that each is aligned; texts last.
Status Writer::layOut() {
  for (Work &work : works)
    addParts(work);
  texts.resize(pieces.size());
  std::vector<unsigned> rank(pieces.size());
  for (size_t i = 0; i < pieces.size(); ++i) {
    uint64_t bytes = pieces[i].end, elements = pieces[i].elementCount();
    rank[i] = elements ? static_cast<unsigned>(bytes / elements) : 1;
    order.push_back(i);
  }
  for (const Work &work : works)
    if (work.isQuantized() && !work.isRows())
      rank[work.text] = 0;
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return rank[a] != rank[b] ? rank[a] > rank[b] : a < b;
  });
  for (const size_t i : order) {
    pieces[i].begin = dataBytes;
    dataBytes += pieces[i].end;
    pieces[i].end = dataBytes;
  }
  std::vector<TensorHeader> sorted;
  for (const size_t i : order)
    sorted.push_back(pieces[i]);
  headerBytes = safetensorsHeader(sorted, metadata).size();

  for (Work &work : works) {
    const bool quantized = work.isQuantized();
    const uint64_t all = quantized ? work.elements : work.source().byteCount();
    const uint64_t step = quantized ? work.elementsOfPiece() : pieceBytes;
    work.piecesLeft = blockCount(all, step);
    for (uint64_t begin = 0; begin < all; begin += step)
      jobs.push_back({&work, begin, std::min(step, all - begin)});
  }
  return Status();
}

void Writer::runThreads() {
  unsigned count = options.threads;
  cpu_set_t allowed;
  if (count == 0)
    count = sched_getaffinity(0, sizeof allowed, &allowed) == 0
                ? static_cast<unsigned>(CPU_COUNT(&allowed))
                : std::thread::hardware_concurrency();
  count = static_cast<unsigned>(
      std::clamp<size_t>(count, 1, std::max<size_t>(jobs.size(), 1)));
  std::vector<std::thread> threads;
  try {
    for (unsigned i = 1; i < count; ++i)
      threads.emplace_back([this] { runThread(false); });
  } catch (const std::system_error &) {
    // Those that the system gives are enough.
  }
  runThread(true);
  for (std::thread &thread : threads)
    thread.join();
}

void Writer::runThread(bool isCaller) {
  Buffers buffers;
  for (;;) {
    const size_t index = next++;
    if (index >= jobs.size() || stop)
      return;
    const Job &job = jobs[index];
    const Status status = runJob(job, buffers);
    if (!status.ok())
      return fail(status);
    if (job.work->isQuantized())
      done += job.count;
    if (isCaller && options.progress && allWeights)
      options.progress(done, allWeights);
  }
}

Status Writer::runJob(const Job &job, Buffers &buffers) {
  Work &work = *job.work;
  const uint64_t width =
      work.isQuantized() ? byteSize(work.state.sourceType) : 1;
  buffers.source.resize(job.count * width);
  PEFT_TRY(work.file->read(work.output->source.shard->header.dataOffset +
                               work.source().begin + job.begin * width,
                           buffers.source));
  if (!work.isQuantized())
    return put(work.codes, buffers.source, job.begin);
  PEFT_TRY(quantize(job, buffers));
  return --work.piecesLeft == 0 ? finishScales(work) : Status();
}

Status Writer::quantize(const Job &job, Buffers &buffers) {
  Work &work = *job.work;
  {
    const std::lock_guard lock(work.allocation);
    work.scaleValues.resize(work.scales);
  }
  const SourceWeights weights{buffers.source.data(), work.state.sourceType,
                              job.count};
  const QuantFormat &format = work.state.format;
  if (work.isRows()) {
    buffers.codes.resize(job.count);
    if (!quantizeRows(weights, work.columns, buffers.codes.data(),
                      &work.scaleValues[job.begin / work.columns]))
      return notFinite(job, buffers.source);
    return put(work.codes, buffers.codes, job.begin);
  }
  buffers.codes.resize(blockCount(job.count, 2));
  if (!quantizeBlocks(weights, format.type, format.block, buffers.codes.data(),
                      &work.scaleValues[job.begin / format.block]))
    return notFinite(job, buffers.source);
  return put(work.codes, buffers.codes, job.begin / 2);
}

Status Writer::notFinite(const Job &job,
                         const std::vector<std::byte> &weights) {
  const Work &work = *job.work;
  for (uint64_t i = 0; i < job.count; ++i) {
    const float value = loadFloat(weights.data(), work.state.sourceType, i);
    if (std::isfinite(value))
      continue;
    const uint64_t at = job.begin + i;
    return badInput(work.output->source.shard->path + ": tensor " +
                    quoteJson(work.source().name) + ": element [" +
                    std::to_string(at / work.columns) + ", " +
                    std::to_string(at % work.columns) + "] is " +
                    std::to_string(value) +
                    "; only finite weights can be quantized");
  }
  return internalError("a tensor that is finite was called infinite");
}

/// All weights of a tensor are done: its scales, and the tables.
Status Writer::finishScales(Work &work) {
  const std::vector<float> scales = std::move(work.scaleValues);
  if (work.isRows()) {
    constexpr std::array<std::byte, 1> rows{};
    PEFT_TRY(put(work.format, rows));
    return put(work.absmax, std::as_bytes(std::span(scales)));
  }
  PEFT_TRY(put(work.map, std::as_bytes(codeMap(work.state.format.type))));
  if (!work.state.format.nested) {
    PEFT_TRY(put(work.absmax, std::as_bytes(std::span(scales))));
  } else {
    const NestedScales nested = nestScales(scales, work.state.format.nested);
    work.state.nestedOffset = nested.offset;
    PEFT_TRY(put(work.absmax, std::as_bytes(std::span(nested.codes))));
    PEFT_TRY(put(work.nestedAbsmax, std::as_bytes(std::span(nested.absmax))));
    PEFT_TRY(put(work.nestedMap, std::as_bytes(dynamicMap())));
  }
  texts[work.text] = writeQuantState(work.state);
  return Status();
}

Status Writer::writeTexts() {
  std::vector<TensorHeader> sorted;
  uint64_t offset = 0;
  for (const size_t i : order) {
    TensorHeader &piece = pieces[i];
    if (!texts[i].empty()) {
      piece.begin = offset;
      piece.end = offset + texts[i].size();
      piece.shape = {static_cast<int64_t>(texts[i].size())};
      PEFT_TRY(put(i, asBytes(texts[i])));
    }
    offset = piece.end;
    sorted.push_back(piece);
  }
  const std::string header = safetensorsHeader(sorted, metadata, headerBytes);
  if (header.size() != headerBytes)
    return internalError("the header of a quantized file grew");
  PEFT_TRY(sink.write(0, asBytes(header)));
  return sink.finish(headerBytes + offset);
}

} // namespace

Status peft::writeQuantized(const std::vector<QuantizedOutput> &tensors,
                            const std::map<std::string, std::string> &metadata,
                            PlacedSink &sink, const QuantizeOptions &options) {
  return Writer(tensors, metadata, sink, options).run();
}
