//===- QuantizationConfig.h - a model that is quantized ---------*- C++ -*-===//
#ifndef PEFT_IO_QUANTIZATIONCONFIG_H
#define PEFT_IO_QUANTIZATIONCONFIG_H

#include "FieldReader.h"
#include "peft/ModelConfig.h"

namespace peft {

/// Reads `quantization_config` of a config.json into `config.quantization`.
/// Records an error in `fields` when it is of a method other than bitsandbytes,
/// which it names.
void readQuantization(const nlohmann::json &json, const std::string &what,
                      FieldReader &fields, ModelConfig &config);

} // namespace peft

#endif // PEFT_IO_QUANTIZATIONCONFIG_H
