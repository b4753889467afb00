//===- RegisterAll.h - dialects and passes by name --------------*- C++ -*-===//
#ifndef PEFTC_REGISTERALL_H
#define PEFTC_REGISTERALL_H

namespace mlir {
class DialectRegistry;
} // namespace mlir

namespace peftc {

/// Every dialect that a stage of the compiler reads or writes.
void registerAllDialects(mlir::DialectRegistry &registry);

/// Every pass and every stage of the pipeline, by its flag.
void registerAllPasses();

} // namespace peftc

#endif // PEFTC_REGISTERALL_H
