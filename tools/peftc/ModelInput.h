//===- ModelInput.h - the model a command was given -------------*- C++ -*-===//
#ifndef PEFTC_TOOLS_MODELINPUT_H
#define PEFTC_TOOLS_MODELINPUT_H

#include "peft/Status.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

#include <string>

/// A context with every dialect, and without threads: a compile is too short
/// for them to pay.
std::unique_ptr<mlir::MLIRContext> createContext();

/// Reads the text form of a module. Errors say file, line and column.
peft::Expected<mlir::OwningOpRef<mlir::ModuleOp>>
parseModule(mlir::MLIRContext &context, const std::string &path);

/// The module of `model`: the text of an imported one (`X.mlir`), or an import
/// of a directory, a config.json or `org/name`.
peft::Expected<mlir::OwningOpRef<mlir::ModuleOp>>
readModel(mlir::MLIRContext &context, const std::string &model);

/// Error usage when writing `output` would replace one of the files `inputs`, or
/// a file of a model or an adapter directory.
peft::Status checkOutput(const std::string &output,
                         std::initializer_list<std::string> inputs);

#endif // PEFTC_TOOLS_MODELINPUT_H
