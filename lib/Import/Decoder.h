//===- Decoder.h - the parts decoder families share -------------*- C++ -*-===//
//
// A family is a function that builds one layer from these parts; embedding,
// final norm and head are the same for all of them. Adding a family: a file
// with such a function, and its name in findFamily of ModelImporter.cpp.
//
//===----------------------------------------------------------------------===//
#ifndef PEFTC_LIB_IMPORT_DECODER_H
#define PEFTC_LIB_IMPORT_DECODER_H

#include "ParameterTable.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace peftc {

class Decoder;

struct Family {
  /// config.json's model_type.
  llvm::StringRef modelType;
  /// [batch, seq, hidden] residual stream in and out.
  mlir::Value (*buildLayer)(Decoder &decoder, mlir::Value hidden,
                            int64_t layer);
};

extern const Family llamaFamily, mistralFamily, qwen2Family, qwen3Family;

/// Values before attention; each [batch, seq, heads * headDim].
struct Projections {
  mlir::Value query, key, value;
};

class Decoder {
public:
  Decoder(mlir::OpBuilder &builder, ParameterTable &parameters,
          const peft::ModelConfig &config)
      : builder(builder), parameters(parameters), config(config) {}

  /// Builds @body and @head at the builder's insertion point.
  void build(const Family &family);

  const peft::ModelConfig &getConfig() const { return config; }

  /// "model.layers.3"
  static std::string layerName(int64_t layer);

  /// RMSNorm named `module`. With `group` the weight has that many features
  /// and normalizes each group of them; otherwise all.
  mlir::Value norm(mlir::Value input, const std::string &module,
                   int64_t group = 0);

  /// Linear named `module`; with `residual` the sum starts from it.
  mlir::Value linear(mlir::Value input, const std::string &module, int64_t out,
                     bool bias, mlir::Value residual = {});

  /// q_proj, k_proj and v_proj of the attention named `module`.
  Projections project(mlir::Value input, const std::string &module);

  /// Rotates query and key, attends within `window` keys (0: all), and adds
  /// o_proj of the result to `residual`.
  mlir::Value attend(Projections projections, const std::string &module,
                     int64_t window, mlir::Value residual);

  /// down_proj(silu(gate_proj x) * up_proj x) + residual.
  mlir::Value swigluMlp(mlir::Value input, const std::string &module,
                        mlir::Value residual);

private:
  mlir::Value rope(mlir::Value input, const std::string &module);
  void buildBody(const Family &family);
  void buildHead();
  mlir::Location at(const std::string &module);
  mlir::RankedTensorType activation(int64_t features);
  mlir::FlatSymbolRefAttr tensor(const std::string &name,
                                 llvm::ArrayRef<int64_t> shape);

  mlir::OpBuilder &builder;
  ParameterTable &parameters;
  const peft::ModelConfig &config;
  mlir::Value segments, ropeTable;
};

} // namespace peftc

#endif // PEFTC_LIB_IMPORT_DECODER_H
