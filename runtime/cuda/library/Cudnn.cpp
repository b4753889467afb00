//===- Cudnn.cpp - cuDNN, opened at run time ------------------------------===//
#include "Cudnn.h"

#include <cudnn.h>
#include <dlfcn.h>

namespace peft::cuda {

#define PEFT_TEXT_(x) #x
#define PEFT_TEXT(x) PEFT_TEXT_(x)
constexpr const char *fileName = "libcudnn.so." PEFT_TEXT(CUDNN_MAJOR);
/// The first with everything that the graphs of attention ask for.
constexpr size_t leastVersion = 91000;

// What the frontend and this file call: name, parameters, arguments.
#define PEFT_CUDNN_FUNCTIONS(X)                                                \
  X(cudnnStatus_t, cudnnBackendCreateDescriptor,                               \
    (cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t * out),       \
    (type, out))                                                               \
  X(cudnnStatus_t, cudnnBackendDestroyDescriptor,                              \
    (cudnnBackendDescriptor_t descriptor), (descriptor))                       \
  X(cudnnStatus_t, cudnnBackendFinalize,                                       \
    (cudnnBackendDescriptor_t descriptor), (descriptor))                       \
  X(cudnnStatus_t, cudnnBackendSetAttribute,                                   \
    (cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,    \
     cudnnBackendAttributeType_t type, int64_t count, const void *elements),   \
    (descriptor, name, type, count, elements))                                 \
  X(cudnnStatus_t, cudnnBackendGetAttribute,                                   \
    (cudnnBackendDescriptor_t const descriptor,                                \
     cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,       \
     int64_t wanted, int64_t *count, void *elements),                          \
    (descriptor, name, type, wanted, count, elements))                         \
  X(cudnnStatus_t, cudnnBackendExecute,                                        \
    (cudnnHandle_t handle, cudnnBackendDescriptor_t plan,                      \
     cudnnBackendDescriptor_t pack),                                           \
    (handle, plan, pack))                                                      \
  X(cudnnStatus_t, cudnnCreate, (cudnnHandle_t * handle), (handle))            \
  X(cudnnStatus_t, cudnnDestroy, (cudnnHandle_t handle), (handle))             \
  X(cudnnStatus_t, cudnnSetStream,                                             \
    (cudnnHandle_t handle, cudaStream_t stream), (handle, stream))             \
  X(cudnnStatus_t, cudnnGetStream,                                             \
    (cudnnHandle_t handle, cudaStream_t * stream), (handle, stream))           \
  X(const char *, cudnnGetErrorString, (cudnnStatus_t status), (status))       \
  X(void, cudnnGetLastErrorString, (char *message, size_t size),               \
    (message, size))                                                           \
  X(size_t, cudnnGetVersion, (), ())

namespace {

struct Table {
#define PEFT_MEMBER(result, name, parameters, arguments)                       \
  decltype(&::name) name = nullptr;
  PEFT_CUDNN_FUNCTIONS(PEFT_MEMBER)
#undef PEFT_MEMBER
};
Table table;

Status missing(const std::string &what) {
  return Status::error(Code::unsuitable, what);
}

Status openTable() {
  // Found by this library's own path (its directory, the toolkit it was built
  // with), by LD_LIBRARY_PATH and by the system's paths. Never closed.
  void *library = ::dlopen(fileName, RTLD_NOW | RTLD_LOCAL);
  if (!library)
    return missing(std::string("library ") + fileName +
                   " is missing (put its directory into LD_LIBRARY_PATH)");
#define PEFT_LOOK_UP(result, function, parameters, arguments)                  \
  table.function = reinterpret_cast<decltype(table.function)>(                 \
      ::dlsym(library, #function));                                            \
  if (!table.function)                                                         \
    return missing(std::string("library ") + fileName + " has no " #function);
  PEFT_CUDNN_FUNCTIONS(PEFT_LOOK_UP)
#undef PEFT_LOOK_UP
  if (table.cudnnGetVersion() < leastVersion)
    return missing(cudnnName() + " is older than 9.10");
  return {};
}

class Cudnn final : public AttentionLibrary {
public:
  ~Cudnn() override {
    if (handle)
      (void)table.cudnnDestroy(handle);
  }
  Status create() {
    cudnnStatus_t status = table.cudnnCreate(&handle);
    if (status == CUDNN_STATUS_SUCCESS)
      return {};
    return missing(cudnnName() +
                   " does not start: " + table.cudnnGetErrorString(status));
  }
  std::string name() const override { return cudnnName(); }
  Expected<std::shared_ptr<AttentionGraph>>
  build(const AttentionProblem &problem) override {
    return buildCudnnGraph(problem, {.handle = handle});
  }
  void abandon() override { handle = nullptr; }

private:
  cudnnHandle_t handle = nullptr;
};

} // namespace

Status openCudnn() {
  static const Status status = openTable();
  return status;
}

std::string cudnnName() {
  const size_t version = table.cudnnGetVersion();
  return "cuDNN " + std::to_string(version / 10000) + "." +
         std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

Expected<std::unique_ptr<AttentionLibrary>> openAttentionLibrary() {
  PEFT_TRY(openCudnn());
  auto library = std::make_unique<Cudnn>();
  PEFT_TRY(library->create());
  return std::unique_ptr<AttentionLibrary>(std::move(library));
}

} // namespace peft::cuda

// The names that the frontend calls. Nobody else sees them.
#define PEFT_FORWARD(result, name, parameters, arguments)                      \
  extern "C" __attribute__((visibility("hidden"))) result name parameters {    \
    return peft::cuda::table.name arguments;                                   \
  }
PEFT_CUDNN_FUNCTIONS(PEFT_FORWARD)
#undef PEFT_FORWARD
