// peft-reduce makes a failing input small; here "failing" means that tokens are
// counted. (The other mode of MLIR 22.1's reducer, -reduction-tree, crashes on
// any input, in Debian's mlir-reduce as well.)
// RUN: peft-reduce %s -opt-reduction-pass='opt-pass=cse test=%S/Inputs/counts_tokens.sh' | FileCheck %s

// CHECK-NOT: nn.cast
// CHECK: nn.count_tokens
// CHECK-NOT: nn.cast

nn.state @tokens : tensor<1xi64> {role = "sum"}
func.func @f(%count: tensor<1xi32>, %x: tensor<2x8xf32>) {
  %n = nn.cast %x : tensor<2x8xf32> -> tensor<2x8xbf16>
  nn.count_tokens %count into @tokens : tensor<1xi32>
  return
}
