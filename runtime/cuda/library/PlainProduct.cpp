//===- PlainProduct.cpp - a product by our own kernel ---------------------===//
#include "Multiply.h"
#include "cuda/PlainGemm.h"

namespace peft::cuda {

Status multiplyPlain(const Call &call, const Product &product,
                     const LibraryArea &area) {
  PlainGemm gemm;
  gemm.compute = product.left.type;
  gemm.rows = product.rows();
  gemm.columns = product.columns();
  gemm.products[0] = {product.left, product.right, product.leftTransposed,
                      product.rightTransposed, product.depth()};
  gemm.init = product.addend;
  gemm.bias = product.bias;
  gemm.out = product.out;
  gemm.scale = product.alpha;
  gemm.scalesStart = false;
  gemm.scratch = area.data;
  gemm.scratchBytes = area.bytes;
  return plainGemm(call, gemm);
}

} // namespace peft::cuda
