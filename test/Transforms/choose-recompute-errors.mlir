// RUN: not peft-opt %s --peft-choose-recompute="policy=most" 2>&1 | FileCheck %s

// CHECK: error: policy 'most' is none of none, layers
module {
}
