//===- QuantizedBase.cpp - weights quantized on load ----------------------===//
#include "QuantizedBase.h"

#include "peft/Environment.h"
#include "peft/QuantizedTensor.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <set>

using namespace peft;

namespace {

/// Raised when the same weights would be quantized to other bytes.
constexpr const char *cacheVersion = "peftc weights 1";
constexpr const char *keyField = "peftc.key";

/// All that decides the bytes of a cached file, as text: the file holds it, so
/// that one key cannot be taken for another.
Expected<std::string> keyOf(const std::vector<QuantizedOutput> &tensors) {
  std::string key = std::string(cacheVersion) + "\n";
  std::set<std::string> seen;
  for (const QuantizedOutput &tensor : tensors) {
    const std::string &path = tensor.source.shard->path;
    if (!seen.insert(path).second)
      continue;
    PEFT_ASSIGN(const FileState state, fileState(path));
    key += "file " + std::to_string(state.size) + " " +
           std::to_string(state.modified) + " " +
           std::to_string(state.changed) + "\n";
  }
  for (const QuantizedOutput &tensor : tensors) {
    const TensorHeader &header = *tensor.source.header;
    key += header.name + " " + header.describe() + " at " +
           std::to_string(header.begin) + " as " + tensor.format->describe() +
           "\n";
  }
  return key;
}

std::string cacheFile(const std::string &key) {
  uint64_t hash = 0xcbf29ce484222325; // FNV-1a
  for (const char c : key)
    hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  char name[32];
  std::snprintf(name, sizeof name, "%016llx.safetensors",
                static_cast<unsigned long long>(hash));
  return joinPath(cacheDirectory("weights"), name);
}

/// Finds out whether a file has the bytes that would be written into it.
class Comparison final : public PlacedSink {
public:
  explicit Comparison(ByteSpan expected) : expected(expected) {}
  Status reserve(uint64_t) override { return Status(); }
  Status write(uint64_t offset, ByteSpan bytes) override {
    if (offset > expected.size() || bytes.size() > expected.size() - offset ||
        std::memcmp(expected.data() + offset, bytes.data(), bytes.size()) != 0)
      differs = true;
    return Status();
  }
  Status finish(uint64_t bytes) override {
    if (bytes != expected.size())
      differs = true;
    return Status();
  }
  bool isSame() const { return !differs; }

private:
  ByteSpan expected;
  std::atomic<bool> differs{false};
};

/// Opens a file of quantized weights and checks that it holds what it should.
Expected<ModelDirectory> openFile(const std::string &path,
                                  const std::string &key,
                                  const std::vector<QuantizedOutput> &tensors) {
  ModelDirectory model;
  model.directory = parentPath(path);
  model.shards.resize(1);
  model.shards[0].path = path;
  PEFT_ASSIGN(model.shards[0].header, readSafetensorsHeader(path));
  const auto &metadata = model.shards[0].header.metadata;
  if (const auto found = metadata.find(keyField);
      found == metadata.end() || found->second != key)
    return badInput(path + ": was made from other weights");
  MappedModel files;
  for (const QuantizedOutput &tensor : tensors) {
    const TensorHeader &header = *tensor.source.header;
    PEFT_ASSIGN(const std::optional<QuantizedTensor> found,
                findQuantized(model, header.name));
    if (!found || found->format != *tensor.format ||
        found->shape != header.shape)
      return badInput(path + ": lacks tensor " + header.name);
    PEFT_TRY(files.parts(*found).status());
  }
  return model;
}

class Maker {
public:
  Maker(const std::vector<QuantizedOutput> &tensors, std::string key,
        const BindOptions &options)
      : tensors(tensors), key(std::move(key)), options(options) {
    for (const QuantizedOutput &tensor : tensors)
      weights += tensor.source.header->elementCount();
  }

  Expected<QuantizedBase> run();

private:
  Status write(PlacedSink &sink) const {
    return writeQuantized(tensors, {{"format", "pt"}, {keyField, key}}, sink,
                          {.threads = options.threads,
                           .progress = options.progress});
  }
  Expected<QuantizedBase> open(const std::string &path) const {
    QuantizedBase base;
    PEFT_ASSIGN(base.model, openFile(path, key, tensors));
    return base;
  }
  std::optional<QuantizedBase> fromCache(const std::string &path);
  Status intoCache(const std::string &path);
  Expected<QuantizedBase> inMemory();
  void note(const char *name, const std::string &text) const {
    if (options.note)
      options.note(name, text);
  }
  void noteQuantized(std::chrono::steady_clock::time_point begin) const;

  const std::vector<QuantizedOutput> &tensors;
  std::string key;
  const BindOptions &options;
  uint64_t weights = 0;
};

void Maker::noteQuantized(std::chrono::steady_clock::time_point begin) const {
  const std::chrono::duration<double> took =
      std::chrono::steady_clock::now() - begin;
  char text[160];
  std::snprintf(text, sizeof text, "%.1f M weights to %s in %.2f s",
                static_cast<double>(weights) / 1e6,
                tensors[0].format->describe().c_str(), took.count());
  note("quantized", text);
}

/// What the cache has, if it is whole and, when asked, verified.
std::optional<QuantizedBase> Maker::fromCache(const std::string &path) {
  if (!isFile(path))
    return std::nullopt;
  Expected<QuantizedBase> base = open(path);
  if (!base.ok()) {
    note("cache", base.status().message() + "; it is made again");
    return std::nullopt;
  }
  if (options.verify) {
    Expected<MappedFile> file = MappedFile::open(path);
    if (!file.ok())
      return std::nullopt;
    Comparison comparison(file->bytes());
    const Status status = write(comparison);
    if (!status.ok() || !comparison.isSame()) {
      note("cache", path + " is not what its source gives; it is made again");
      return std::nullopt;
    }
    note("cache", path + " is what its source gives");
  } else {
    note("cache", "quantized weights of " + path);
  }
  return std::optional(std::move(*base));
}

Status Maker::intoCache(const std::string &path) {
  PEFT_TRY(createDirectory(parentPath(path)));
  PEFT_ASSIGN(NewFile file, NewFile::beside(path));
  const auto begin = std::chrono::steady_clock::now();
  PEFT_TRY(write(file));
  noteQuantized(begin);
  PEFT_TRY(file.publish(true));
  note("cache", "kept in " + path);
  return Status();
}

Expected<QuantizedBase> Maker::inMemory() {
  PEFT_ASSIGN(NewFile file, NewFile::inMemory("the quantized weights"));
  const auto begin = std::chrono::steady_clock::now();
  PEFT_TRY(write(file));
  noteQuantized(begin);
  PEFT_ASSIGN(QuantizedBase base, open(file.openPath()));
  base.file = std::move(file);
  return base;
}

Expected<QuantizedBase> Maker::run() {
  if (!options.cache)
    return inMemory();
  const std::string path = cacheFile(key);
  if (std::optional<QuantizedBase> found = fromCache(path))
    return std::move(*found);
  const Status made = intoCache(path);
  if (made.ok())
    return open(path);
  if (made.code() != Code::io)
    return made;
  note("cache", made.message() + "; quantized in memory instead");
  return inMemory();
}

} // namespace

Expected<QuantizedBase>
peft::openQuantizedBase(const std::vector<QuantizedOutput> &tensors,
                        const BindOptions &options) {
  PEFT_ASSIGN(std::string key, keyOf(tensors));
  return Maker(tensors, std::move(key), options).run();
}
