//===- Lora.h - the lora dialect --------------------------------*- C++ -*-===//
//
// Linears with low-rank adapters and their gradients. See LoraOps.td.
//
//===----------------------------------------------------------------------===//
#ifndef PEFTC_DIALECT_LORA_LORA_H
#define PEFTC_DIALECT_LORA_LORA_H

#include "peftc/Dialect/NN/NN.h"

#include "peftc/Dialect/Lora/LoraDialect.h.inc"

#define GET_OP_CLASSES
#include "peftc/Dialect/Lora/LoraOps.h.inc"

#endif // PEFTC_DIALECT_LORA_LORA_H
