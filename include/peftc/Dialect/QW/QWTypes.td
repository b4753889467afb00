#ifndef PEFTC_DIALECT_QW_QWTYPES
#define PEFTC_DIALECT_QW_QWTYPES

include "mlir/IR/OpBase.td"
include "mlir/IR/AttrTypeBase.td"

def QW_Dialect : Dialect {
  let name = "qw";
  let summary = "element types of quantized weights";
  let description = [{
    A quantized weight stays a ranked tensor whose element type says how it is
    stored, so that what looks at shapes alone works unchanged. The formats are
    those of bitsandbytes. Upstream's `quant` types describe scales per tensor or
    per axis as constants of the program; here scales are data, run over blocks
    of the row-major elements and are quantized themselves.
  }];
  let cppNamespace = "::peftc::qw";
  let useDefaultTypePrinterParser = 1;
}

class QW_Type<string name, string typeMnemonic> : TypeDef<QW_Dialect, name> {
  let mnemonic = typeMnemonic;
}

class QW_FourBit<string name, string typeMnemonic, string text>
    : QW_Type<name, typeMnemonic> {
  let summary = text;
  let description = [{
    Codes of 4 bits, two to a byte, and one scale for each `block` elements of
    the flattened row-major tensor: blocks may cross rows, and the last one may
    be short. With `nested` the scales are codes of 8 bits themselves, with one
    f32 scale for each `nested` of them and one offset for all. Dettmers et al.,
    "QLoRA", 2023.
  }];
  let parameters = (ins "int64_t":$block, DefaultValuedParameter<"int64_t", "0">:$nested);
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
}

def QW_NF4 : QW_FourBit<"NF4", "nf4", "4-bit normal float">;
def QW_FP4 : QW_FourBit<"FP4", "fp4", "4-bit float">;
def QW_Int8 : QW_Type<"Int8", "int8"> {
  let summary = "signed bytes with one scale per row";
  let description = [{
    Row-wise absolute-maximum quantization: element = code x scale / 127.
    Dettmers et al., "LLM.int8()", 2022; activations are not quantized.
  }];
}

// For operands and parameters of other dialects.
def QW_Any : Type<CPred<"::peftc::qw::isQuantized($_self)">, "quantized weight">;

#endif
