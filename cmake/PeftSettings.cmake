# Settings that every target shares.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

# The arithmetic is the same in every build: no contraction, no fast-math.
# Asserts stay on outside release builds.
add_compile_options(-Wall -Wextra -Werror=return-type -Wno-unused-parameter -ffp-contract=off)
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")
set(CMAKE_CXX_FLAGS_DEBUG "-O1 -g1")
if(PEFT_SANITIZE)
  add_compile_options(-fsanitize=${PEFT_SANITIZE} -fno-sanitize-recover=undefined
                      -fno-omit-frame-pointer -g1)
  add_link_options(-fsanitize=${PEFT_SANITIZE})
endif()
# The fuzzers find their way by the coverage of the libraries they call.
if(PEFT_FUZZERS)
  add_compile_options(-fsanitize=fuzzer-no-link)
  add_link_options(-fsanitize=fuzzer-no-link)
endif()

find_program(PEFT_CCACHE ccache)
if(PEFT_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros ${PEFT_CCACHE})
endif()
find_program(PEFT_LLD NAMES ld.lld-22)
if(PEFT_LLD AND CMAKE_CXX_COMPILER_ID MATCHES Clang)
  add_link_options(--ld-path=${PEFT_LLD})
endif()

# Globs the sources of a target; an empty room still configures.
macro(peft_glob variable)
  file(GLOB ${variable} CONFIGURE_DEPENDS ${ARGN})
  if(NOT ${variable})
    file(TOUCH ${CMAKE_CURRENT_BINARY_DIR}/empty.cpp)
    set(${variable} ${CMAKE_CURRENT_BINARY_DIR}/empty.cpp)
  endif()
endmacro()
