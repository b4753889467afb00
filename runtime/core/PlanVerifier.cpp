//===- PlanVerifier.cpp - the semantic verifier ---------------------------===//
#include "PlanVerifier.h"

#include "peft/FloatTypes.h"

namespace peft {

using namespace verifier;

std::string verifier::quoted(std::string_view text) {
  return "'" + std::string(text) + "'";
}

std::string verifier::label(const char *table, size_t index,
                            std::string_view name) {
  std::string text = std::string(table) + "[" + std::to_string(index) + "]";
  return name.empty() ? text : text + " " + quoted(name);
}

Status UniqueNames::add(const std::string &name) {
  if (!seen.insert(name).second)
    return badInput("its name stands twice");
  return {};
}

/// The length of the UTF-8 sequence at `text`, or 0.
static size_t utf8Length(std::string_view text) {
  auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  uint8_t first = byte(0);
  size_t length = first < 0x80                    ? 1
                  : first >= 0xc2 && first < 0xe0 ? 2
                  : first >= 0xe0 && first < 0xf0 ? 3
                  : first >= 0xf0 && first < 0xf5 ? 4
                                                  : 0;
  if (length == 0 || length > text.size())
    return 0;
  for (size_t i = 1; i < length; ++i)
    if ((byte(i) & 0xc0) != 0x80)
      return 0;
  bool overlong =
      (first == 0xe0 && byte(1) < 0xa0) || (first == 0xf0 && byte(1) < 0x90);
  bool surrogate = first == 0xed && byte(1) >= 0xa0;
  bool tooLarge = first == 0xf4 && byte(1) >= 0x90;
  return overlong || surrogate || tooLarge ? 0 : length;
}

Status verifier::checkText(const std::string &text, const char *what,
                           bool lines) {
  constexpr size_t nameLimit = 4096, textLimit = 16 << 20;
  if (text.size() > (lines ? textLimit : nameLimit))
    return badInput(std::string(what) + " has " + std::to_string(text.size()) +
                    " bytes, which is too long");
  for (size_t i = 0; i < text.size();) {
    char letter = text[i];
    bool allowedControl =
        lines && (letter == '\n' || letter == '\r' || letter == '\t');
    bool control = static_cast<uint8_t>(letter) < 0x20 || letter == 0x7f;
    size_t length = utf8Length(std::string_view(text).substr(i));
    if (length == 0 || (control && !allowedControl))
      return badInput(std::string(what) + " is no printable text: byte " +
                      std::to_string(i) + " is " +
                      std::to_string(static_cast<uint8_t>(letter)));
    i += length;
  }
  return {};
}

static Status checkRange(uint64_t value, uint64_t least, uint64_t most,
                         const char *what) {
  if (value < least || value > most)
    return badInput(std::string(what) + " is " + std::to_string(value) +
                    ", allowed is " + std::to_string(least) + " to " +
                    std::to_string(most));
  return {};
}

Status verifier::checkHeader(const Plan &plan) {
  PEFT_TRY(checkText(plan.producer, "producer"));
  PEFT_TRY(checkText(plan.modelName, "modelName"));
  PEFT_TRY(checkText(plan.headerHash, "headerHash"));
  PEFT_TRY(checkText(plan.target, "target"));
  PEFT_TRY(checkText(plan.modelConfig, "modelConfig", true));
  PEFT_TRY(checkText(plan.adapterConfig, "adapterConfig", true));
  for (size_t i = 0; i < plan.remarks.size(); ++i) {
    const Remark &remark = plan.remarks[i];
    std::string where = label("remarks", i, "");
    PEFT_TRY(checkText(remark.pass, "pass").in(where));
    PEFT_TRY(checkText(remark.module, "module").in(where));
    PEFT_TRY(checkText(remark.message, "message", true).in(where));
  }
  if (!isFloat(plan.compute))
    return badInput("compute is " + std::string(name(plan.compute)) +
                    ", allowed is f32, bf16 or f16");
  PEFT_TRY(checkRange(plan.batch, 1, maxExtent, "batch"));
  PEFT_TRY(checkRange(plan.seq, 1, maxExtent, "seq"));
  PEFT_TRY(checkRange(plan.vocab, 1, maxExtent, "vocab"));
  PEFT_TRY(checkRange(plan.maxThreads, 1, 1024, "maxThreads"));
  PEFT_TRY(checkRange(plan.shard, 1, 4096, "shard"));
  PEFT_TRY(checkRange(plan.tensorParallel, 1, 4096, "tensorParallel"));
  PEFT_TRY(checkRange(plan.streams.size(), 1, maxStreams, "number of streams"));
  PEFT_TRY(checkRange(plan.arenas.size(), 0, maxArenas, "number of arenas"));
  return {};
}

static Status verifyEntries(const Plan &plan) {
  UniqueNames names;
  for (uint32_t i = 0; i < plan.entries.size(); ++i) {
    const Entry &entry = plan.entries[i];
    std::string where = label("entries", i, entry.name);
    if (entry.name.empty())
      return badInput("it has no name").in(where);
    PEFT_TRY(checkText(entry.name, "name").in(where));
    PEFT_TRY(names.add(entry.name).in(where));
    if (plan.arenas.empty()
            ? entry.localBytes != 0
            : entry.localBytes >
                  plan.arenas[0].size - plan.arenas[0].persistentBytes)
      return badInput("it needs " + std::to_string(entry.localBytes) +
                      " local bytes, more than arena 0 has")
          .in(where);
    PEFT_TRY(checkItems(plan, i).in("entry " + quoted(entry.name)));
    PEFT_TRY(checkOrder(plan, i).in("entry " + quoted(entry.name)));
  }
  return {};
}

Status verifyPlan(const Plan &plan) {
  PEFT_TRY(checkHeader(plan));
  PEFT_TRY(checkMemory(plan));
  PEFT_TRY(checkRoles(plan));
  return verifyEntries(plan);
}

} // namespace peft
