//===- QuantizedModel.h - a small quantized model for tests -----*- C++ -*-===//
#ifndef PEFT_TEST_QUANTIZEDMODEL_H
#define PEFT_TEST_QUANTIZEDMODEL_H

#include "TemporaryFiles.h"
#include "peft/QuantizedTensor.h"

#include <cstring>
#include <map>

namespace peft {

/// The tensors of a model, to be changed before they are written.
struct StoredTensors {
  struct Stored {
    DType dtype = DType::f32;
    std::vector<int64_t> shape;
    std::string bytes;
  };
  std::map<std::string, Stored> tensors;

  template <typename T>
  void set(const std::string &name, DType dtype, std::vector<int64_t> shape,
           const std::vector<T> &values) {
    std::string bytes(values.size() * sizeof(T), '\0');
    std::memcpy(bytes.data(), values.data(), bytes.size());
    tensors[name] = {dtype, std::move(shape), std::move(bytes)};
  }
  void setText(const std::string &name, const std::string &text) {
    tensors[name] = {DType::u8, {static_cast<int64_t>(text.size())}, text};
  }
  /// Element `at` of an f32 tensor.
  void put(const std::string &name, size_t at, float value) {
    std::memcpy(tensors.at(name).bytes.data() + 4 * at, &value, 4);
  }

  void write(const TemporaryDirectory &folder) const {
    std::vector<TensorToWrite> list;
    for (const auto &[name, tensor] : tensors)
      list.push_back({name, tensor.dtype, tensor.shape, asBytes(tensor.bytes),
                      nullptr});
    folder.write("config.json", R"({"model_type": "llama"})");
    EXPECT_TRUE(writeSafetensors(folder.path("model.safetensors"), list).ok());
  }
};

/// "a.weight" of 30 x 48 in 4 bits (1440 weights: 23 blocks of 64, the last of
/// 32), as bitsandbytes stores it.
inline StoredTensors fourBitModel(DType type, bool isNested) {
  StoredTensors model;
  std::vector<float> weights(30 * 48);
  for (size_t i = 0; i < weights.size(); ++i)
    weights[i] = static_cast<float>(static_cast<int>(i * 37 % 201) - 100) / 90;
  std::vector<std::byte> codes(weights.size() / 2);
  std::vector<float> absmax(23);
  EXPECT_TRUE(quantizeBlocks(
      {reinterpret_cast<const std::byte *>(weights.data()), DType::f32,
       weights.size()},
      type, 64, codes.data(), absmax.data()));
  model.set("a.weight", DType::u8, {720, 1}, codes);
  const auto map = codeMap(type);
  model.set("a.weight.quant_map", DType::f32, {16},
            std::vector<float>(map.begin(), map.end()));
  QuantState state;
  state.format = {.type = type, .block = 64, .nested = isNested ? 256u : 0u};
  state.shape = {30, 48};
  if (isNested) {
    const NestedScales nested = nestScales(absmax);
    state.nestedOffset = nested.offset;
    model.set("a.weight.absmax", DType::u8, {23}, nested.codes);
    model.set("a.weight.nested_absmax", DType::f32, {1}, nested.absmax);
    model.set("a.weight.nested_quant_map", DType::f32, {256},
              std::vector<float>(dynamicMap().begin(), dynamicMap().end()));
  } else {
    model.set("a.weight.absmax", DType::f32, {23}, absmax);
  }
  model.setText("a.weight" + quantStateSuffix(type), writeQuantState(state));
  return model;
}

} // namespace peft

#endif // PEFT_TEST_QUANTIZEDMODEL_H
