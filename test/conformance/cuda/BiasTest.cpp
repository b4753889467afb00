//===- cuda/BiasTest.cpp - the gradient of a bias -------------------------===//
//
// On the CPU bias_dw belongs to the linear family, and is tested with it.
//
//===----------------------------------------------------------------------===//
#include "../Suite.h"

namespace peft::conformance {

TEST_F(Conformance, bias_dw) {
  for (DType type : computeTypes)
    for (uint64_t columns : {1, 32, 77})
      for (int64_t count : {-1, 0, 30, 199, 1000}) {
        Case launch("bias_dw");
        launch.input("dy", type, 333, columns)
            .input("dbias", DType::f32, 1, columns)
            .attribute("row_start", int64_t(count < 0 ? 0 : 20));
        if (count >= 0)
          launch.vector("count", DType::i32, {double(count)});
        launch.slack(10).expectSameBits();
      }
}

} // namespace peft::conformance
