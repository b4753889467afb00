# libpeft_cuda.so, where the CUDA toolkit is. PEFT_CUDA=AUTO builds it if nvcc
# and the headers of cuBLASLt are found, ON makes a missing one an error.
# Device code goes through nvcc with g++-12 as its host compiler, by commands of
# our own, so that none of the project's flags (they are clang's) reach it.
set(PEFT_CUDA AUTO CACHE STRING "build the CUDA device: ON, OFF or AUTO")
set(PEFT_CUDA_ARCHS 75 80 86 89 90 100 120 CACHE STRING
    "architectures with code of their own; the last one also as PTX")
set_property(CACHE PEFT_CUDA PROPERTY STRINGS AUTO ON OFF)
if(PEFT_CUDA STREQUAL "OFF" OR (PEFT_CUDA STREQUAL "AUTO" AND PEFT_SANITIZE))
  return() # a library made by nvcc is not sanitized; the emulation is
endif()

find_package(CUDAToolkit QUIET)
find_program(PEFT_CUDA_HOST_COMPILER NAMES g++-12 g++-13 g++-11)
find_path(PEFT_CUBLASLT_HEADERS cublasLt.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
set(missing "")
if(NOT CUDAToolkit_FOUND OR NOT CUDAToolkit_NVCC_EXECUTABLE)
  set(missing "nvcc")
elseif(CUDAToolkit_VERSION VERSION_LESS 13.0)
  set(missing "CUDA 13 (found is ${CUDAToolkit_VERSION})")
elseif(NOT PEFT_CUBLASLT_HEADERS)
  set(missing "cublasLt.h")
elseif(NOT PEFT_CUDA_HOST_COMPILER)
  set(missing "a host compiler for nvcc (g++-12)")
endif()
if(missing)
  if(PEFT_CUDA STREQUAL "AUTO")
    message(STATUS "without the CUDA device: ${missing} was not found")
    return()
  endif()
  message(FATAL_ERROR "PEFT_CUDA=ON needs ${missing}")
endif()

set(archFlags "")
set(leastArch 999)
foreach(arch ${PEFT_CUDA_ARCHS})
  list(APPEND archFlags -gencode arch=compute_${arch},code=sm_${arch})
  if(arch LESS leastArch)
    set(leastArch ${arch})
  endif()
endforeach()
list(GET PEFT_CUDA_ARCHS -1 arch)
list(APPEND archFlags -gencode arch=compute_${arch},code=compute_${arch})

set(launcher "")
if(PEFT_CCACHE)
  set(launcher ${PEFT_CCACHE})
endif()
file(GLOB deviceSources CONFIGURE_DEPENDS device/*.cu)
# A build for debugging is for the host's code.
set(optimize -O2)
if(CMAKE_BUILD_TYPE STREQUAL Debug)
  set(optimize -O2 -Xcicc=-O1 -Xptxas=-O1)
endif()
set(deviceObjects "")
foreach(source ${kernelUnits} ${deviceSources})
  get_filename_component(name ${source} NAME_WE)
  set(object ${CMAKE_CURRENT_BINARY_DIR}/${name}.o)
  # Products of matrices live by fused sums and are compared within tolerances.
  set(fuse -fmad=true)
  if(name MATCHES "Others|SetCondition")
    set(fuse -fmad=false)
  endif()
  add_custom_command(OUTPUT ${object} DEPENDS ${source} DEPFILE ${object}.d
    COMMAND ${launcher} ${CUDAToolkit_NVCC_EXECUTABLE} -c ${source} -o ${object} -MD -MF ${object}.d
            -std=c++20 ${optimize} -DNDEBUG --expt-relaxed-constexpr ${fuse} -ccbin ${PEFT_CUDA_HOST_COMPILER} ${archFlags}
            -Xcompiler=-fPIC,-fvisibility=hidden --threads 2
            -I${CMAKE_CURRENT_SOURCE_DIR}/.. -I${CMAKE_CURRENT_SOURCE_DIR}/../include
    COMMENT "nvcc ${name}.cu" VERBATIM)
  list(APPEND deviceObjects ${object})
endforeach()

# Attention by cuDNN, where its headers and those of its frontend are: the Python
# package nvidia-cudnn-frontend, in build/venv or wherever the option says.
set(PEFT_CUDNN AUTO CACHE STRING "attention by cuDNN: ON, OFF or AUTO")
set_property(CACHE PEFT_CUDNN PROPERTY STRINGS AUTO ON OFF)
file(GLOB sitePackages ${CMAKE_CURRENT_SOURCE_DIR}/../../build/venv/lib/python3*/site-packages/include)
find_path(PEFT_CUDNN_FRONTEND cudnn_frontend.h HINTS ${sitePackages})
find_path(PEFT_CUDNN_HEADERS cudnn.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
set(missing "")
if(PEFT_CUDNN STREQUAL "OFF")
  set(missing "PEFT_CUDNN is OFF")
elseif(NOT PEFT_CUDNN_HEADERS)
  set(missing "cudnn.h was not found")
elseif(NOT PEFT_CUDNN_FRONTEND)
  set(missing "the Python package nvidia-cudnn-frontend was not found")
endif()
if(missing AND PEFT_CUDNN STREQUAL "ON")
  message(FATAL_ERROR "PEFT_CUDNN=ON: ${missing}")
elseif(missing)
  message(STATUS "without cuDNN: ${missing}")
  add_library(peft_cudnn STATIC EXCLUDE_FROM_ALL library/NoCudnn.cpp)
else()
  # As with nvcc, none of the project's flags reach other people's headers.
  set(source ${CMAKE_CURRENT_SOURCE_DIR}/library/CudnnGraph.cpp)
  set(cudnnGraph ${CMAKE_CURRENT_BINARY_DIR}/CudnnGraph.o)
  add_custom_command(OUTPUT ${cudnnGraph} DEPENDS ${source} DEPFILE ${cudnnGraph}.d
    COMMAND ${launcher} ${PEFT_CUDA_HOST_COMPILER} -c ${source} -o ${cudnnGraph} -MD -MF ${cudnnGraph}.d
            -std=c++20 -O1 -DNDEBUG -DCUDNN_FRONTEND_SKIP_JSON_LIB -Wall -fPIC -fvisibility=hidden
            -isystem ${PEFT_CUDNN_FRONTEND} -isystem ${PEFT_CUDNN_HEADERS} -isystem ${CUDAToolkit_INCLUDE_DIRS}
            -I${CMAKE_CURRENT_SOURCE_DIR}/.. -I${CMAKE_CURRENT_SOURCE_DIR}/../include
    COMMENT "g++ CudnnGraph.cpp" VERBATIM)
  add_library(peft_cudnn STATIC EXCLUDE_FROM_ALL library/Cudnn.cpp ${cudnnGraph})
  target_include_directories(peft_cudnn SYSTEM PRIVATE ${PEFT_CUDNN_HEADERS} ${CUDAToolkit_INCLUDE_DIRS})
endif()
target_include_directories(peft_cudnn PUBLIC ${CMAKE_CURRENT_SOURCE_DIR}/..)
target_link_libraries(peft_cudnn PUBLIC peft_core)
set_target_properties(peft_cudnn PROPERTIES POSITION_INDEPENDENT_CODE ON)

file(GLOB hostSources CONFIGURE_DEPENDS device/*.cpp library/*.cpp)
list(FILTER hostSources EXCLUDE REGEX "library/(Linear|Cudnn|CudnnGraph|NoCudnn).cpp$|device/Plugin.cpp$")
# All of it, for the plug-in and for the conformance program of the card.
add_library(peft_cuda_card STATIC EXCLUDE_FROM_ALL ${hostSources} Table.cpp ${deviceObjects})
target_include_directories(peft_cuda_card PUBLIC ${CMAKE_CURRENT_SOURCE_DIR}/..)
target_include_directories(peft_cuda_card SYSTEM PUBLIC ${CUDAToolkit_INCLUDE_DIRS} ${PEFT_CUBLASLT_HEADERS})
target_compile_definitions(peft_cuda_card PRIVATE PEFT_CUDA_LEAST_ARCH=${leastArch})
target_link_libraries(peft_cuda_card PUBLIC peft_cuda_plan peft_cudnn peft_core CUDA::cudart_static ${CMAKE_DL_LIBS})
set_target_properties(peft_cuda_card PROPERTIES POSITION_INDEPENDENT_CODE ON)
add_library(peft_cuda SHARED device/Plugin.cpp)
target_link_libraries(peft_cuda PRIVATE peft_cuda_card)
# It gives away one function and takes none from whoever opens it.
set(exports ${CMAKE_CURRENT_SOURCE_DIR}/exports.map)
target_link_options(peft_cuda PRIVATE -Wl,--version-script=${exports} -Wl,-z,defs -Wl,--exclude-libs,ALL)
set_target_properties(peft_cuda PROPERTIES
  LIBRARY_OUTPUT_DIRECTORY ${CMAKE_RUNTIME_OUTPUT_DIRECTORY} LINK_DEPENDS ${exports}
  BUILD_RPATH "$ORIGIN;${CUDAToolkit_LIBRARY_DIR}" INSTALL_RPATH "$ORIGIN")
