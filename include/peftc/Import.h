//===- Import.h - from a Hugging Face model to IR ---------------*- C++ -*-===//
#ifndef PEFTC_IMPORT_H
#define PEFTC_IMPORT_H

#include "peft/Status.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

#include <string>

namespace peftc {

/// Reads a model directory, a bare config.json, a folder of the local hub
/// cache or an `org/name` in it, and gives a module with
///   * one frozen nn.param per tensor, named and typed as it is stored,
///   * @body(ids, positions, segments) -> [batch, seq, hidden], which ends with
///     the final norm, and @head(rows) -> [rows, vocab],
///   * the attribute nn.model: model_type, name, config (the text of
///     config.json), header_hash (empty for a bare config), vocab, hidden,
///     layers, tied, eos.
/// Batch and seq are dynamic and activations f32 until peft-specialize-model.
/// Of the weights only the headers are read; every expected tensor is checked
/// to be there with its shape. Tensors that no op uses are an error, but for
/// those that cannot matter, which leave a remark. Errors carry exit codes.
/// The context needs the dialects func and nn; they are loaded here.
peft::Expected<mlir::OwningOpRef<mlir::ModuleOp>>
importModel(mlir::MLIRContext &context, const std::string &path);

} // namespace peftc

#endif // PEFTC_IMPORT_H
