#!/bin/bash
# Builds what bench/gpu_all.sh needs on a machine with a GPU and without network,
# compiler and MLIR: peft-run and the CUDA plug-in for one architecture (with
# libstdc++ and cudart inside), the conformance program for the card, plans for
# an H200, and the scripts.
#
#   bench/gpu_bundle.sh [--arch 90] [--peftc FILE] [--to DIR]
#
# The folder (build/gpu_bundle, which git ignores) is at most 50 MB; more is an
# error. --peftc takes a built compiler instead of building one. The machine needs
# glibc as new as is printed, a driver for CUDA 13, cuBLASLt 13 (PyTorch brings
# it), and for the comparisons PyTorch, transformers, PEFT.
set -u
. "$(dirname "$0")/../scripts/setup.sh"

arch=90 peftc="" to=$ROOT/build/gpu_bundle most=50000000
while [ $# -gt 0 ]; do
  case $1 in
  --arch) arch=${2:-} ;;
  --peftc) peftc=$(realpath "${2:-}") ;;
  --to) to=$(realpath -m "${2:-}") ;;
  -h | --help)
    sed -n '2,14s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
  *) stop 64 "unknown argument $1; see bench/gpu_bundle.sh --help" ;;
  esac
  [ $# -ge 2 ] || stop 64 "$1 needs a value"
  shift 2
done
case $arch in '' | *[!0-9]*) stop 64 "--arch is a number like 90, not $arch" ;; esac

cd "$ROOT" || stop 74 "cannot enter $ROOT"
if [ -z "$peftc" ]; then
  build release peftc
  peftc=$BIN/peftc
fi
[ -x "$peftc" ] || stop 74 "$peftc is no program"

work=$ROOT/build/gpu-sm$arch log=$ROOT/build/gpu_bundle.log
# What nothing calls goes: libstdc++.a's random_device alone asks for a newer glibc.
static="-static-libstdc++ -static-libgcc -Wl,--gc-sections"
targets=(peft-run peft_cuda peft-card-conformance)
say "building for sm_$arch (build/gpu-sm$arch)"
mkdir -p "$work"
cmake -S . -B "$work" -G Ninja -DCMAKE_CXX_COMPILER=clang++-22 \
  -DCMAKE_BUILD_TYPE=Release -DPEFT_COMPILER=OFF -DPEFT_CUDA=ON \
  -DPEFT_CUDA_ARCHS="$arch" -DCMAKE_EXE_LINKER_FLAGS="$static" \
  -DCMAKE_SHARED_LINKER_FLAGS="$static" >"$log" 2>&1 || {
  tail -n 20 "$log" >&2
  stop 70 "cmake failed; the whole output is in $log"
}
ninja -C "$work" "${targets[@]}" >>"$log" 2>&1 || {
  grep -A 12 -E 'error:|FAILED:|undefined' "$log" | head -n 40 >&2
  stop 70 "the build failed; the whole output is in $log"
}

if grep -q "without cuDNN" "$log"; then
  say "attention is all our own: $(grep -o 'without cuDNN.*' "$log" | head -n 1)"
fi

rm -rf "$to.new"
mkdir -p "$to.new/bin" "$to.new/bench" "$to.new/plans"
new=$to.new
for file in peft-run libpeft_cuda.so peft-card-conformance; do
  strip -o "$new/bin/$file" "$work/bin/$file" || stop 70 "cannot strip $file"
  chmod +x "$new/bin/$file"
done
cp bench/gpu_*.py bench/gpu_all.sh bench/torch_step.py "$new/bench/" ||
  stop 74 "cannot copy the scripts"

for name in $(for set in 1 2 3; do python3 bench/gpu_shapes.py list $set; done); do
  plan=$new/plans/$name
  python3 bench/gpu_shapes.py write "$name" "$plan" || stop 70 "no shape $name"
  # shellcheck disable=SC2046
  "$peftc" compile "$plan/config.json" --adapter "$plan/adapter_config.json" \
    $(python3 bench/gpu_shapes.py flags "$name") --target h200 --quiet \
    -o "$plan/step.plan" || stop 70 "peftc compiled no plan for $name"
done

# What these files need of the machine, beside the driver and cuBLASLt.
libraries=$(for file in "$new"/bin/*; do objdump -p "$file"; done |
  awk '$1 == "NEEDED" { print $2 }' | sort -u)
unknown=$(grep -vE '^(libc|libm|libdl|libpthread|librt)\.so|^ld-linux' <<<"$libraries")
[ -z "$unknown" ] || stop 70 "the bundle needs libraries that the machine may not have:" "$unknown"
glibc=$(for file in "$new"/bin/*; do objdump -T "$file"; done |
  grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1)
commit=$(git rev-parse HEAD 2>/dev/null || echo unknown)
git diff --quiet HEAD 2>/dev/null || commit="$commit with changes"
printf '{"commit": "%s", "arch": %s, "glibc": "%s", "date": "%s"}\n' \
  "$commit" "$arch" "${glibc#GLIBC_}" "$(date -u +%FT%TZ)" >"$new/bundle.json"

size=$(find "$new" -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum + 0 }')
if [ "$size" -gt $most ]; then
  find "$new" -type f -printf '%s %P\n' | sort -rn | head -n 8 >&2
  stop 70 "the bundle has $size bytes, more than $most; it is in $new"
fi
rm -rf "$to"
mv "$new" "$to"
echo "$to: $size bytes of at most $most, sm_$arch, glibc ${glibc#GLIBC_} or newer"
