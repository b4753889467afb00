plan.program {batch = 1} {
  plan.arena "device" persistent 64 size 64
  plan.weight "w" : tensor<8x4xbf16>
  %w = plan.buffer "w" "base" weight 0 : tensor<8x4xbf16>
  %x = plan.buffer "x" "input" arena 0 offset 0 : tensor<2x4xbf16>
}
