//===- AdapterChanges.cpp - what an adapter does to its base --------------===//
#include "AdapterChanges.h"

#include "peft/FloatTypes.h"
#include "peft/Json.h"

#include <cmath>

using namespace peft;

namespace {

constexpr std::string_view prefix = "base_model.model.";

enum class Role { a, b, bBias, magnitude, base, whole };

/// How a key ends, and what that makes of it. PEFT saves the factors of an
/// embedding and the magnitude as bare parameters, without ".weight".
struct Ending {
  std::string_view text;
  Role role;
  bool embedding;
  std::string_view tensor; ///< of the model, after the module
};

constexpr Ending endings[] = {
    {".lora_A.weight", Role::a, false, ".weight"},
    {".lora_B.weight", Role::b, false, ".weight"},
    {".lora_B.bias", Role::bBias, false, ".weight"},
    {".lora_embedding_A", Role::a, true, ".weight"},
    {".lora_embedding_B", Role::b, true, ".weight"},
    {".lora_magnitude_vector", Role::magnitude, false, ".weight"},
    {".base_layer.weight", Role::base, false, ".weight"},
    {".base_layer.bias", Role::base, false, ".bias"},
};

/// How parts of the keys of other kinds of adapters begin.
constexpr std::pair<std::string_view, std::string_view> foreign[] = {
    {"token_adapter", "trainable tokens"}, {"trainable_tokens", "trainable tokens"},
    {"vera_", "VeRA"},      {"ia3_l", "IA3"},
    {"hada_w", "LoHa"},     {"lokr_w", "LoKr"},
    {"oft_", "OFT"},        {"boft_", "BOFT"},
    {"prompt_", "prompts"}, {"lora_", "LoRA of another kind"},
    {"adaption_", "adaption prompts"},
};

/// Whether a part of a dotted name begins so.
bool hasPart(const std::string &name, std::string_view beginning) {
  return name.starts_with(beginning) ||
         name.find("." + std::string(beginning)) != std::string::npos;
}

class ChangeReader {
public:
  ChangeReader(const AdapterDirectory &adapter, const ScaleOfModule &scaleOf)
      : adapter(adapter), scaleOf(scaleOf) {}

  Expected<AdapterChanges> read();

private:
  Status checkInit() const;
  Status add(const TensorHeader &tensor);
  Status addWhole(const TensorHeader &tensor, const std::string &name);
  Status complete(LowRankChange &change);
  Status refuse(const std::string &key, const std::string &why) const {
    return badInput(adapter.tensors.path() + ": " + quoteJson(key) + " " + why);
  }

  const AdapterDirectory &adapter;
  const ScaleOfModule &scaleOf;
  AdapterChanges changes;
};

} // namespace

/// What starts from the weights changes them by B A less what that was at
/// first, which PEFT's conversion, and a run that ended, put into one pair.
Status ChangeReader::checkInit() const {
  if (!startsFromWeights(adapter.config.init))
    return {};
  return badInput(
      adapter.directory + ": starts from the weights (init_lora_weights: " +
      (adapter.config.init == LoraInit::pissa ? "pissa" : "olora") +
      "), so B A is not what it adds to them; name the directory that peft-run "
      "wrote after training, or save the adapter from PEFT with "
      "path_initial_model_for_weight_conversion");
}

Status ChangeReader::addWhole(const TensorHeader &tensor,
                              const std::string &name) {
  for (const auto &[part, kind] : foreign)
    if (hasPart(name, part))
      return refuse(tensor.name, "belongs to an adapter that cannot be merged "
                                 "in this version (" +
                                     std::string(kind) +
                                     "); merge it with PEFT");
  changes.whole[name] = &tensor;
  return {};
}

Status ChangeReader::add(const TensorHeader &tensor) {
  if (!tensor.dtype || !isFloat(*tensor.dtype))
    return refuse(tensor.name, "is stored as " + tensor.type +
                                   "; F32, BF16 or F16 is needed");
  if (!tensor.name.starts_with(prefix))
    return refuse(tensor.name, "does not start with " + std::string(prefix) +
                                   ", as the keys of PEFT do");
  const std::string name = tensor.name.substr(prefix.size());
  for (const Ending &ending : endings) {
    if (!name.ends_with(ending.text))
      continue;
    const std::string module = name.substr(0, name.size() - ending.text.size());
    const std::string target = module + std::string(ending.tensor);
    if (ending.role == Role::base)
      return addWhole(tensor, target);
    LowRankChange &change = changes.lowRank[target];
    change.module = module;
    change.embedding |= ending.embedding;
    (ending.role == Role::a         ? change.a
     : ending.role == Role::b       ? change.b
     : ending.role == Role::bBias   ? change.bias
                                    : change.magnitude) = &tensor;
    return {};
  }
  return addWhole(tensor, name);
}

Status ChangeReader::complete(LowRankChange &change) {
  const std::string where = adapter.tensors.path() + ": " + change.module;
  if (!change.a || !change.b)
    return badInput(where + " has only one of its two LoRA factors");
  if (change.a->shape.size() != 2 || change.b->shape.size() != 2 ||
      change.a->shape[0] != change.b->shape[1])
    return badInput(where + ": the factors " + change.a->describe() + " and " +
                    change.b->describe() +
                    " do not fit; matrices [rank, in] and [out, rank] are "
                    "needed");
  PEFT_ASSIGN(const ModuleScale scale, scaleOf(change.module));
  change.rank = scale.rank;
  change.scale = scale.scale;
  if (change.a->shape[0] != scale.rank)
    return badInput(where + ": its factors have rank " +
                    std::to_string(change.a->shape[0]) +
                    ", but the config gives the module rank " +
                    std::to_string(scale.rank));
  if (change.magnitude && change.embedding)
    return badInput(where + ": DoRA on an embedding cannot be merged in this "
                            "version; merge it with PEFT");
  if (change.magnitude && change.bias)
    return badInput(where + ": has both a magnitude and a bias of its own, "
                            "which PEFT does not make");
  for (const TensorHeader *row : {change.magnitude, change.bias})
    if (row && row->elementCount() !=
                   static_cast<uint64_t>(change.b->shape[0]))
      return badInput(where + ": " + row->name + " is " + row->describe() +
                      ", but B has " + std::to_string(change.b->shape[0]) +
                      " rows");
  return {};
}

Expected<AdapterChanges> ChangeReader::read() {
  PEFT_TRY(checkInit());
  for (const TensorHeader &tensor : adapter.tensors.header().tensors)
    PEFT_TRY(add(tensor));
  if (changes.lowRank.empty() && changes.whole.empty())
    return badInput(adapter.tensors.path() + ": has no tensors");
  for (auto &[name, change] : changes.lowRank)
    PEFT_TRY(complete(change));
  return std::move(changes);
}

Expected<AdapterChanges> peft::readChanges(const AdapterDirectory &adapter,
                                           const ScaleOfModule &scaleOf) {
  return ChangeReader(adapter, scaleOf).read();
}

void AdapterChanges::rename(
    const std::function<std::string(const std::string &)> &nameOf) {
  std::map<std::string, LowRankChange> renamed;
  for (auto &[name, change] : lowRank) {
    const std::string stored = nameOf(name);
    change.module = stored.substr(0, stored.rfind(".weight"));
    renamed[stored] = std::move(change);
  }
  lowRank = std::move(renamed);
  std::map<std::string, const TensorHeader *> renamedWhole;
  for (const auto &[name, tensor] : whole)
    renamedWhole[nameOf(name)] = tensor;
  whole = std::move(renamedWhole);
}

Expected<std::vector<float>> peft::readValues(const SafetensorsFile &file,
                                              const TensorHeader &tensor) {
  const ByteSpan bytes = file.bytes(tensor);
  std::vector<float> values(tensor.elementCount());
  for (uint64_t i = 0; i < values.size(); ++i) {
    values[i] = loadFloat(bytes.data(), *tensor.dtype, i);
    if (!std::isfinite(values[i]))
      return badInput(file.path() + ": " + tensor.name + " holds " +
                      std::to_string(values[i]) + " at element " +
                      std::to_string(i) + "; the adapter is damaged");
  }
  file.forget(tensor);
  return values;
}
