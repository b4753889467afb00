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
  /// The module that holds embedding, layers and final norm.
  llvm::StringRef root = "model";
};

extern const Family llamaFamily, mistralFamily, qwen2Family, qwen3Family,
    gemma2Family, gemma3Family, gemma3TextFamily, phi3Family;

/// Values before attention; each [batch, seq, heads * headDim].
struct Projections {
  mlir::Value query, key, value;
};

class Decoder {
public:
  Decoder(mlir::OpBuilder &builder, ParameterTable &parameters,
          const peft::ModelConfig &config, const Family &family)
      : builder(builder), parameters(parameters), config(config),
        family(family) {}

  /// Builds @body and @head at the builder's insertion point.
  void build();

  const peft::ModelConfig &getConfig() const { return config; }

  /// "model.layers.3"
  std::string layerName(int64_t layer) const;

  /// RMSNorm named `module`. With `group` the weight has that many features
  /// and normalizes each group of them; otherwise all. With `residual` the norm
  /// is added to it.
  mlir::Value norm(mlir::Value input, const std::string &module,
                   int64_t group = 0, mlir::Value residual = {});

  /// Linear named `module`; with `residual` the sum starts from it.
  mlir::Value linear(mlir::Value input, const std::string &module, int64_t out,
                     bool bias, mlir::Value residual = {});

  /// q_proj, k_proj and v_proj of the attention named `module`; where the
  /// family normalizes q and k, they are.
  Projections project(mlir::Value input, const std::string &module);
  /// The same from one qkv_proj.
  Projections projectFused(mlir::Value input, const std::string &module);

  /// Rotates query and key, attends as `layer` does, and adds o_proj of the
  /// result to `residual`, if there is one.
  mlir::Value attend(Projections projections, const std::string &module,
                     int64_t layer, mlir::Value residual);

  /// down_proj(activation(gate_proj x) * up_proj x) (+ residual).
  mlir::Value gatedMlp(mlir::Value input, const std::string &module,
                       mlir::Value residual);
  /// The same from one gate_up_proj.
  mlir::Value gatedMlpFused(mlir::Value input, const std::string &module,
                            mlir::Value residual);

private:
  mlir::Value ropeTable(const peft::RopeConfig &rope, mlir::Value positions);
  mlir::Value rope(mlir::Value input, mlir::Value table,
                   const std::string &module);
  /// activation(gate) * up, then down_proj.
  mlir::Value letThrough(mlir::Value gate, mlir::Value up,
                         const std::string &module, const char *activation,
                         mlir::Value residual);
  void buildBody();
  void buildHead();
  mlir::Location at(const std::string &module);
  mlir::RankedTensorType activation(int64_t features);
  mlir::FlatSymbolRefAttr tensor(const std::string &name,
                                 llvm::ArrayRef<int64_t> shape);

  mlir::OpBuilder &builder;
  ParameterTable &parameters;
  const peft::ModelConfig &config;
  const Family &family;
  mlir::Value segments;
  mlir::Value globalTable, localTable; ///< of RoPE; the second may be the first
};

} // namespace peftc

#endif // PEFTC_LIB_IMPORT_DECODER_H
