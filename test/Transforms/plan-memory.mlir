// RUN: peft-opt %s --peft-plan-memory | FileCheck %s
// RUN: peft-opt %s --peft-plan-memory="arena-alignment=256" | FileCheck %s --check-prefix=WIDE

// Persistent buffers come first, in order; the entries share what follows:
// 128 + max(384, 448) bytes.
// CHECK: plan.arena "device" persistent 128 size 576
// WIDE: plan.arena "device" persistent 512 size 1344
plan.program {batch = 1} {
  plan.arena "device" persistent 0 size 0
  plan.weight "w" : tensor<8x4xbf16>
  // The mapping of a weight is in no arena.
  // CHECK: plan.buffer "w" "base" weight 0 : tensor<8x4xbf16>
  %w = plan.buffer "w" "base" weight 0 : tensor<8x4xbf16>
  // CHECK: plan.buffer "g" "gradient" arena 0 offset 0 : tensor<10xf32>
  %g = plan.buffer "g" "gradient" arena 0 : tensor<10xf32>
  // 40 bytes of @g, then the next multiple of 64.
  // CHECK: plan.buffer "s" "scalar" arena 0 offset 64 : tensor<1xf64>
  // WIDE: plan.buffer "s" "scalar" arena 0 offset 256 : tensor<1xf64>
  %s = plan.buffer "s" "scalar" arena 0 : tensor<1xf64>
  plan.stream "compute"

  // A chain: each buffer lives from its definition to its only use.
  // CHECK: plan.entry "micro_step" attributes {localBytes = 384 : i64, lowerBound = 384 : i64}
  plan.entry "micro_step" {
    // CHECK: "a" "activation" arena 0 offset 128 live [0, 1]
    %a = plan.buffer "a" "activation" arena 0 : tensor<64xf32> // 256 bytes
    // Beside @a and @c, whose lives meet its own.
    // CHECK: "b" "activation" arena 0 offset 384 live [1, 2]
    %b = plan.buffer "b" "activation" arena 0 : tensor<64xbf16> // 128 bytes
    // @a is dead.
    // CHECK: "c" "activation" arena 0 offset 128 live [2, 3]
    %c = plan.buffer "c" "activation" arena 0 : tensor<64xf32> // 256 bytes
    // @b is dead, @c is not.
    // CHECK: "d" "activation" arena 0 offset 384 live [3, 3]
    %d = plan.buffer "d" "activation" arena 0 : tensor<64xbf16> // 128 bytes
    plan.launch "fill_zero" on 0 (%a) present 1 of "m" {}
    plan.launch "cast" on 0 (%a, %b) present 3 of "m" {}
    plan.launch "cast" on 0 (%b, %c) present 3 of "m" {}
    plan.launch "cast" on 0 (%c, %d) present 3 of "m" {}
  }

  // The tightest gap: @t fits behind @r, before @p.
  // CHECK: plan.entry "update" attributes {localBytes = 448 : i64, lowerBound = 388 : i64}
  plan.entry "update" {
    // CHECK: "p" "activation" arena 0 offset 384 live [0, 4]
    %p = plan.buffer "p" "activation" arena 0 : tensor<32xf32> // 128 bytes
    // CHECK: "q" "activation" arena 0 offset 128 live [1, 2]
    %q = plan.buffer "q" "activation" arena 0 : tensor<64xf32> // 256 bytes
    // CHECK: "r" "activation" arena 0 offset 128 live [3, 4]
    %r = plan.buffer "r" "activation" arena 0 : tensor<32xf32> // 128 bytes
    // CHECK: "t" "workspace" arena 0 offset 256 live [4, 4]
    %t = plan.buffer "t" "workspace" arena 0 : tensor<64xui8> // 64 bytes
    // A predicate and a workspace are uses, too.
    // CHECK: "u" "activation" arena 0 offset 512 live [1, 4]
    %u = plan.buffer "u" "activation" arena 0 : tensor<1xi32> // 4 bytes
    plan.launch "fill_zero" on 0 (%p) present 1 of "m" {}
    plan.launch "fill_zero" on 0 (%q) present 1 if %u of "m" {}
    plan.launch "accumulate" on 0 (%q, %q) present 3 of "m" {}
    plan.launch "fill_zero" on 0 (%r) present 1 of "m" {}
    plan.launch "accumulate" on 0 (%p, %r) present 3 shared %t if %u of "m" {}
  }

  // What was decided, for peftc explain.
  // CHECK: plan.remark "peft-plan-memory" of "micro_step" : "4 buffers placed by size in 384 bytes; at least 384 are needed"
}
