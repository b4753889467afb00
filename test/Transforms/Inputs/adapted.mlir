nn.param @w : tensor<4x8xbf16>
nn.param @a : tensor<2x8xf32> {trainable}
nn.param @b : tensor<4x2xf32> {trainable}
func.func @body(%x: tensor<1x6x8xf32>) -> tensor<1x6x4xf32> {
  %y, %t = lora.linear %x, @w a @a b @b {scale = 2.0, module = "w"} : tensor<1x6x8xf32> -> tensor<1x6x4xf32>, tensor<1x6x2xf32>
  return %y : tensor<1x6x4xf32>
}
func.func @head(%x: tensor<?x8xf32>) -> tensor<?x4xf32> {
  %y = nn.linear %x, @w : tensor<?x8xf32> -> tensor<?x4xf32>
  return %y : tensor<?x4xf32>
}
