//===- ConfigFuzzer.cpp - any text as one of the JSON configs -------------===//
//
// Every parser sees every text. What a config says must hold, and what is
// written must be read back.
//
//===----------------------------------------------------------------------===//
#include "peft/AdapterConfig.h"
#include "peft/ModelConfig.h"

#include <cstdlib>

using namespace peft;

namespace {

void checkModel(std::string_view text) {
  const auto config = parseModelConfig(text, "input");
  if (!config.ok())
    return;
  const bool sound =
      config->heads % config->kvHeads == 0 && config->headDim % 2 == 0 &&
      config->slidingWindow.size() == static_cast<size_t>(config->layers) &&
      config->rope.invFreq.size() == static_cast<size_t>(config->headDim / 2);
  if (!sound)
    std::abort();
}

void checkAdapter(std::string_view text) {
  const auto config = parseAdapterConfig(text, "input");
  if (!config.ok())
    return;
  const std::string written = writeAdapterConfig(*config);
  const auto again = parseAdapterConfig(written, "written");
  if (!again.ok() || writeAdapterConfig(*again) != written)
    std::abort();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const std::string_view text(reinterpret_cast<const char *>(data), size);
  checkModel(text);
  checkAdapter(text);
  ModelConfig config;
  (void)applyGenerationConfig(text, "input", config).ok();
  return 0;
}
