//===- Multiply.cpp - products by cuBLASLt --------------------------------===//
//
// The library is column-major. A row-major matrix read that way is its
// transpose, so out = left right is computed as out^T = right^T left^T: the
// library's A is our right operand, its B our left one, and nothing is copied.
//
//===----------------------------------------------------------------------===//
#include "Multiply.h"

#include "Libraries.h"

#include <string>
#include <tuple>

namespace peft::cuda {

namespace {

cudaDataType libraryType(DType type) {
  switch (type) {
  case DType::bf16:
    return CUDA_R_16BF;
  case DType::f16:
    return CUDA_R_16F;
  default:
    return CUDA_R_32F;
  }
}

/// The descriptors of one product, as long as they are needed.
class Descriptors {
public:
  explicit Descriptors(const CublasLt &lt) : lt(lt) {}
  ~Descriptors() {
    for (cublasLtMatrixLayout_t layout : {a, b, c})
      if (layout)
        lt.cublasLtMatrixLayoutDestroy(layout);
    if (operation)
      lt.cublasLtMatmulDescDestroy(operation);
    if (preference)
      lt.cublasLtMatmulPreferenceDestroy(preference);
  }
  Descriptors(const Descriptors &) = delete;
  Descriptors &operator=(const Descriptors &) = delete;

  Status describe(const ProductShape &shape, const void *bias);
  Status prefer(uint64_t workspaceBytes);
  Status check(cublasStatus_t status, const char *what) const {
    if (status == CUBLAS_STATUS_SUCCESS)
      return {};
    return Status::error(status == CUBLAS_STATUS_ALLOC_FAILED ? Code::doesNotFit
                                                              : Code::internal,
                         std::string("cuBLASLt: ") + what + ": " +
                             lt.cublasLtGetStatusString(status));
  }

  const CublasLt &lt;
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;

private:
  template <typename T>
  Status set(cublasLtMatmulDescAttributes_t attribute, T value) {
    return check(lt.cublasLtMatmulDescSetAttribute(operation, attribute, &value,
                                                   sizeof value),
                 "cublasLtMatmulDescSetAttribute");
  }
  template <typename T>
  Status set(cublasLtMatmulPreferenceAttributes_t attribute, T value) {
    return check(lt.cublasLtMatmulPreferenceSetAttribute(preference, attribute,
                                                         &value, sizeof value),
                 "cublasLtMatmulPreferenceSetAttribute");
  }
  /// A row-major matrix of `rows` rows as the library sees it.
  Status layout(cublasLtMatrixLayout_t &to, DType type, uint64_t rows,
                uint64_t columns) {
    return check(lt.cublasLtMatrixLayoutCreate(&to, libraryType(type), columns,
                                               rows,
                                               static_cast<int64_t>(columns)),
                 "cublasLtMatrixLayoutCreate");
  }
};

Status Descriptors::describe(const ProductShape &shape, const void *bias) {
  PEFT_TRY(check(lt.cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F,
                                             CUDA_R_32F),
                 "cublasLtMatmulDescCreate"));
  auto turned = [](bool transposed) {
    return transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
  };
  PEFT_TRY(set(CUBLASLT_MATMUL_DESC_TRANSA, turned(shape.rightTransposed)));
  PEFT_TRY(set(CUBLASLT_MATMUL_DESC_TRANSB, turned(shape.leftTransposed)));
  if (shape.bias) {
    PEFT_TRY(set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS));
    PEFT_TRY(set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, libraryType(shape.out)));
    PEFT_TRY(set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias));
  }
  auto [m, n, k] = std::tuple(shape.rows, shape.columns, shape.depth);
  PEFT_TRY(layout(a, shape.in, shape.rightTransposed ? n : k,
                  shape.rightTransposed ? k : n));
  PEFT_TRY(layout(b, shape.in, shape.leftTransposed ? k : m,
                  shape.leftTransposed ? m : k));
  return layout(c, shape.out, m, n);
}

Status Descriptors::prefer(uint64_t workspaceBytes) {
  PEFT_TRY(check(lt.cublasLtMatmulPreferenceCreate(&preference),
                 "cublasLtMatmulPreferenceCreate"));
  PEFT_TRY(set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspaceBytes));
  // A sum whose order depends on which block is first is no candidate.
  PEFT_TRY(set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
               uint32_t(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE)));
  for (auto operand : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
                       CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                       CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
                       CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    PEFT_TRY(set(operand, uint32_t(bufferAlignment)));
  return {};
}

/// Whether the sums of an algorithm are known to have one order.
bool isOrdered(const CublasLt &lt, const cublasLtMatmulAlgo_t &algorithm) {
  uint32_t scheme = 0;
  size_t written = 0;
  if (lt.cublasLtMatmulAlgoConfigGetAttribute(
          &algorithm, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme,
          sizeof scheme, &written) != CUBLAS_STATUS_SUCCESS)
    return false;
  return scheme == CUBLASLT_REDUCTION_SCHEME_NONE ||
         scheme == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
}

/// What the library says about an algorithm, as TunedProduct::algorithm.
/// What it does not tell stays 0.
void describeAlgorithm(const CublasLt &lt, ProductChoice &choice) {
  constexpr cublasLtMatmulAlgoConfigAttributes_t attributes[] = {
      CUBLASLT_ALGO_CONFIG_ID,
      CUBLASLT_ALGO_CONFIG_TILE_ID,
      CUBLASLT_ALGO_CONFIG_STAGES_ID,
      CUBLASLT_ALGO_CONFIG_SPLITK_NUM,
      CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME,
      CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING,
      CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION,
      CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID,
      CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID};
  static_assert(std::size(attributes) ==
                std::tuple_size_v<decltype(choice.description)>);
  for (size_t i = 0; i < std::size(attributes); ++i) {
    // The last two are of 16 bits; the rest of the word stays zero.
    size_t written = 0;
    const bool narrow = i >= 7;
    uint32_t word = 0;
    if (lt.cublasLtMatmulAlgoConfigGetAttribute(
            &choice.algorithm, attributes[i], &word,
            narrow ? sizeof(uint16_t) : sizeof(uint32_t),
            &written) == CUBLAS_STATUS_SUCCESS)
      choice.description[i] = word;
  }
}

} // namespace

Libraries::~Libraries() {
  if (handle && !abandoned)
    lt->cublasLtDestroy(handle);
}

std::string Libraries::name() const {
  const size_t version = lt->cublasLtGetVersion();
  return "cuBLASLt " + std::to_string(version / 10000) + "." +
         std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

Expected<std::unique_ptr<Libraries>> Libraries::create() {
  auto libraries = std::make_unique<Libraries>();
  PEFT_ASSIGN(libraries->lt, openCublasLt());
  cublasStatus_t status = libraries->lt->cublasLtCreate(&libraries->handle);
  if (status != CUBLAS_STATUS_SUCCESS)
    return internalError(std::string("cuBLASLt does not start: ") +
                         libraries->lt->cublasLtGetStatusString(status));
  return libraries;
}

Expected<std::vector<ProductChoice>>
Libraries::candidates(const ProductShape &shape, uint32_t most) const {
  Descriptors descriptors(*lt);
  PEFT_TRY(descriptors.describe(shape, nullptr));
  PEFT_TRY(descriptors.prefer(shape.workspaceBytes));
  std::vector<cublasLtMatmulHeuristicResult_t> proposed(most);
  int found = 0;
  cublasStatus_t status = lt->cublasLtMatmulAlgoGetHeuristic(
      handle, descriptors.operation, descriptors.a, descriptors.b,
      descriptors.c, descriptors.c, descriptors.preference,
      static_cast<int>(most), proposed.data(), &found);
  std::vector<ProductChoice> fitting;
  // Our own kernel multiplies what the library does not: CudaDevice::notes tells.
  if (status == CUBLAS_STATUS_NOT_SUPPORTED ||
      status == CUBLAS_STATUS_INVALID_VALUE ||
      status == CUBLAS_STATUS_ARCH_MISMATCH)
    return fitting;
  PEFT_TRY(descriptors.check(status, "cublasLtMatmulAlgoGetHeuristic"));
  for (int i = 0; i < found; ++i) {
    if (proposed[i].state != CUBLAS_STATUS_SUCCESS ||
        proposed[i].workspaceSize > shape.workspaceBytes)
      continue;
    if (!isOrdered(*lt, proposed[i].algo))
      continue;
    ProductChoice choice;
    choice.found = true;
    choice.candidate = static_cast<uint32_t>(fitting.size());
    choice.algorithm = proposed[i].algo;
    choice.workspaceBytes = proposed[i].workspaceSize;
    describeAlgorithm(*lt, choice);
    fitting.push_back(choice);
  }
  return fitting;
}

Status multiply(const Call &call, const Product &product,
                const LibraryArea &area) {
  Libraries &libraries = *call.libraries;
  ProductShape shape = shapeOf(product, area.bytes);
  auto chosen = libraries.choices.find(shape);
  if (chosen == libraries.choices.end())
    return internalError("no algorithm was chosen for a product when the plan "
                         "was loaded");
  if (!chosen->second.found)
    return multiplyPlain(call, product, area);
  const CublasLt &lt = *libraries.lt;
  Descriptors descriptors(lt);
  PEFT_TRY(descriptors.describe(shape, product.bias.data));
  float alpha = product.alpha, beta = product.addend ? alpha : 0.0f;
  const void *addend = product.addend ? product.addend.data : product.out.data;
  return descriptors.check(
      lt.cublasLtMatmul(libraries.handle, descriptors.operation, &alpha,
                        product.right.data, descriptors.a, product.left.data,
                        descriptors.b, &beta, addend, descriptors.c,
                        product.out.data, descriptors.c,
                        &chosen->second.algorithm, area.data, area.bytes,
                        static_cast<cudaStream_t>(call.stream)),
      "cublasLtMatmul");
}

} // namespace peft::cuda
