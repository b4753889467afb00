// RUN: peft-opt %s --split-input-file --verify-diagnostics

// nn_c1: the table is there and has the result's features.
// expected-note @+1 {{declared here}}
nn.param @table : tensor<16x6xbf16>
func.func @embed(%ids: tensor<2x4xi32>) {
  // expected-error @+1 {{'nn.embed' op needs @table as tensor<?x8>, found 'tensor<16x6xbf16>'}}
  %x = nn.embed %ids, @table : tensor<2x4xi32> -> tensor<2x4x8xf32>
  return
}

// -----

func.func @missing(%x: tensor<2x4x8xf32>) {
  // expected-error @+1 {{'nn.linear' op reads @w, which is no nn.param}}
  %y = nn.linear %x, @w : tensor<2x4x8xf32> -> tensor<2x4x12xf32>
  return
}

// -----

// nn_c2: [out, in], and a residual of the result's type.
// expected-note @+1 {{declared here}}
nn.param @w : tensor<8x12xbf16>
func.func @transposed(%x: tensor<?x?x8xf32>) {
  // expected-error @+1 {{'nn.linear' op needs @w as tensor<12x8>, found 'tensor<8x12xbf16>'}}
  %y = nn.linear %x, @w : tensor<?x?x8xf32> -> tensor<?x?x12xf32>
  return
}

// -----

nn.param @w : tensor<12x8xbf16>
// expected-note @+1 {{declared here}}
nn.param @b : tensor<8xbf16>
func.func @bias(%x: tensor<2x4x8xf32>) {
  // expected-error @+1 {{'nn.linear' op needs @b as tensor<12>, found 'tensor<8xbf16>'}}
  %y = nn.linear %x, @w bias @b : tensor<2x4x8xf32> -> tensor<2x4x12xf32>
  return
}

// -----

nn.param @w : tensor<8x8xbf16>
func.func @residual(%x: tensor<2x4x8xbf16>, %r: tensor<2x4x8xf32>) {
  // expected-error @+1 {{with a residual of 'tensor<2x4x8xf32>' needs a result of that type, has 'tensor<2x4x8xbf16>'}}
  %y = nn.linear %x, @w residual(%r : tensor<2x4x8xf32>) : tensor<2x4x8xbf16> -> tensor<2x4x8xbf16>
  return
}

// -----

nn.param @w : tensor<8x8xbf16>
func.func @rows(%x: tensor<2x4x8xbf16>) {
  // expected-error @+1 {{linear needs the same leading dimensions, has 'tensor<2x4x8xbf16>' and 'tensor<2x5x8xbf16>'}}
  %y = nn.linear %x, @w : tensor<2x4x8xbf16> -> tensor<2x5x8xbf16>
  return
}

// -----

// nn_c3: groups divide the features and have the weight's length.
nn.param @n : tensor<3xbf16>
func.func @groups(%x: tensor<2x4x8xf32>) {
  // expected-error @+1 {{rstd has 3 groups, which must divide the 8 features}}
  %y, %r = nn.rms_norm %x, @n {epsilon = 1.0e-6} : tensor<2x4x8xf32> -> tensor<2x4x8xf32>, tensor<2x4x3xf32>
  return
}

// -----

// expected-note @+1 {{declared here}}
nn.param @n : tensor<8xbf16>
func.func @group_length(%x: tensor<2x4x8xf32>) {
  // expected-error @+1 {{'nn.rms_norm' op needs @n as tensor<4>, found 'tensor<8xbf16>'}}
  %y, %r = nn.rms_norm %x, @n {epsilon = 1.0e-6} : tensor<2x4x8xf32> -> tensor<2x4x8xf32>, tensor<2x4x2xf32>
  return
}

// -----

// nn_c4: heads fill the features, the table rotates at most one head.
func.func @rope_heads(%x: tensor<2x4x8xf32>, %t: tensor<2x4x4xf32>) {
  // expected-error @+1 {{headDim 3 must divide the 8 features}}
  %y = nn.rope %x, %t {headDim = 3} : tensor<2x4x8xf32>, tensor<2x4x4xf32> -> tensor<2x4x8xf32>
  return
}

// -----

func.func @rope_table(%x: tensor<2x4x8xf32>, %t: tensor<2x4x6xf32>) {
  // expected-error @+1 {{table has 6 features, needs an even number of at most headDim = 4}}
  %y = nn.rope %x, %t {headDim = 4} : tensor<2x4x8xf32>, tensor<2x4x6xf32> -> tensor<2x4x8xf32>
  return
}

// -----

// nn_c5: attention's shapes follow from its heads.
func.func @attention_heads(%q: tensor<2x4x8xf32>, %k: tensor<2x4x4xf32>) {
  // expected-error @+1 {{3 key/value heads must divide 4 heads}}
  %o, %l = nn.attention %q, %k, %k {heads = 4, kvHeads = 3, headDim = 2, scale = 1.0} : tensor<2x4x8xf32>, tensor<2x4x4xf32> -> tensor<2x4x8xf32>, tensor<4x8xf32>
  return
}

// -----

func.func @attention_features(%q: tensor<2x4x8xf32>, %k: tensor<2x4x4xf32>) {
  // expected-error @+1 {{needs query and result features 16, key and value features 8; found 8, 8 and 4}}
  %o, %l = nn.attention %q, %k, %k {heads = 4, kvHeads = 2, headDim = 4, scale = 1.0} : tensor<2x4x8xf32>, tensor<2x4x4xf32> -> tensor<2x4x8xf32>, tensor<4x8xf32>
  return
}

// -----

func.func @attention_lse(%q: tensor<2x4x8xf32>, %k: tensor<2x4x4xf32>) {
  // expected-error @+1 {{lse needs the shape [heads, tokens] with 4 heads}}
  %o, %l = nn.attention %q, %k, %k {heads = 4, kvHeads = 2, headDim = 2, scale = 1.0} : tensor<2x4x8xf32>, tensor<2x4x4xf32> -> tensor<2x4x8xf32>, tensor<2x8xf32>
  return
}

// -----

// nn_c6: a chunk yields its results.
func.func @chunk_rows(%i: tensor<8xi32>, %c: tensor<1xi32>) {
  // expected-error @+1 {{needs rows > 0 and start >= 0, has rows 0 and start 0}}
  nn.chunk %i, %c attributes {start = 0, rows = 0} : tensor<8xi32>, tensor<1xi32> {
    nn.yield
  }
  return
}

// -----

func.func @chunk_yield(%i: tensor<8xi32>, %c: tensor<1xi32>, %x: tensor<2x8xf32>) {
  // expected-error @+1 {{results must have the types its body yields}}
  %r = nn.chunk %i, %c inits(%x : tensor<2x8xf32>) attributes {start = 0, rows = 4} : tensor<8xi32>, tensor<1xi32> -> tensor<2x8xf32> {
    // expected-note @+1 {{yielded here}}
    nn.yield
  }
  return
}

// -----

// nn_c7: rows are scattered inside a chunk only.
func.func @scatter(%a: tensor<2x8xf32>, %b: tensor<4x8xf32>) {
  // expected-error @+1 {{needs to be directly inside an nn.chunk}}
  %r = nn.scatter_rows %a into %b : tensor<2x8xf32>, tensor<4x8xf32>
  return
}

// -----

// nn_c8: a cosine and a sine per position and frequency.
func.func @frequencies(%p: tensor<2x4xi32>) {
  // expected-error @+1 {{of 2 frequencies and 'tensor<2x4xi32>' needs 4 features per position, has 'tensor<2x4x6xf32>'}}
  %t = nn.rope_table %p {invFreq = array<f32: 1.0, 0.5>} : tensor<2x4xi32> -> tensor<2x4x6xf32>
  return
}

// -----

// nn_c9: elementwise.
func.func @elementwise(%g: tensor<2x4xf32>) {
  // expected-error @+1 {{keeps the features: gate has 4, result 8}}
  %y = nn.swiglu %g, %g : tensor<2x4xf32> -> tensor<2x8xf32>
  return
}

// -----

nn.param @table : tensor<16x8xbf16>
func.func @ids(%ids: tensor<2x4xi32>) {
  // expected-error @+1 {{gives one row per id: ids 'tensor<2x4xi32>', result 'tensor<2x5x8xf32>'}}
  %x = nn.embed %ids, @table : tensor<2x4xi32> -> tensor<2x5x8xf32>
  return
}

// -----

// Everything with bytes of its own has a static shape.
// expected-error @+1 {{attribute 'type' failed to satisfy constraint: type attribute of statically shaped tensor}}
nn.param @w : tensor<?x8xbf16>

// -----

// expected-error @+1 {{attribute 'type' failed to satisfy constraint: type attribute of statically shaped tensor of 32-bit float or bfloat16}}
nn.param @w : tensor<4x8xf8E4M3FN>

// -----

// expected-error @+1 {{attribute 'type' failed to satisfy constraint: type attribute of statically shaped tensor}}
nn.state @s : f32 {role = "sum"}

// -----

// expected-error @+2 {{operand #0 must be ranked tensor of 32-bit float or bfloat16 type or 16-bit float values, but got 'tensor<f32>'}}
func.func @scalar(%g: tensor<f32>) {
  %y = nn.swiglu %g, %g : tensor<f32> -> tensor<f32>
  return
}

// -----

// nn_c3: a norm is added to a residual of its result's type.
nn.param @norm : tensor<8xbf16>
func.func @norm_residual(%x: tensor<2x4x8xbf16>, %r: tensor<2x4x8xf32>) {
  // expected-error @+1 {{with a residual of 'tensor<2x4x8xf32>' needs a result of that type, has 'tensor<2x4x8xbf16>'}}
  %y, %rstd = nn.rms_norm %x, @norm residual(%r : tensor<2x4x8xf32>) {epsilon = 0.5} : tensor<2x4x8xbf16> -> tensor<2x4x8xbf16>, tensor<2x4x1xf32>
  return
}

// -----

// nn_c8: two lists of frequencies come with the length that decides.
func.func @two_lists(%positions: tensor<2x4xi32>) {
  // expected-error @+1 {{needs longInvFreq, as many as invFreq, together with shortPositions}}
  %t = nn.rope_table %positions {invFreq = array<f32: 1.0>, longInvFreq = array<f32: 0.5>} : tensor<2x4xi32> -> tensor<2x4x2xf32>
  return
}

// -----

// nn_c5: a cap that no score can have.
func.func @negative_cap(%x: tensor<2x4x8xf32>) {
  // expected-error @+1 {{softcap -1.000000e+00 must be 0 (none) or positive}}
  %o, %lse = nn.attention %x, %x, %x {heads = 2, kvHeads = 2, headDim = 4, scale = 0.5, softcap = -1.0} : tensor<2x4x8xf32>, tensor<2x4x8xf32> -> tensor<2x4x8xf32>, tensor<2x8xf32>
  return
}

// -----

// nn_c10
func.func @no_cap(%x: tensor<4x8xf32>) {
  // expected-error @+1 {{'nn.softcap' op cap 0.000000e+00 must be positive}}
  %y = nn.softcap %x {cap = 0.0} : tensor<4x8xf32>
  return
}

// -----

// nn_c11: parts fill the features, the last two of three alike.
func.func @too_few(%x: tensor<4x8xf32>) {
  // expected-error @+1 {{'nn.split' op has parts of 7 features in all, its input 8}}
  %a, %b = nn.split %x : tensor<4x8xf32> -> tensor<4x4xf32>, tensor<4x3xf32>
  return
}

// -----

func.func @unlike(%x: tensor<4x8xf32>) {
  // expected-error @+1 {{needs a second and third part of the same width, has 3 and 1}}
  %a:3 = nn.split %x : tensor<4x8xf32> -> tensor<4x4xf32>, tensor<4x3xf32>, tensor<4x1xf32>
  return
}

// -----

func.func @one_part(%x: tensor<4x8xf32>) {
  // expected-error @+1 {{gives two or three parts, has 1}}
  %a = nn.split %x : tensor<4x8xf32> -> tensor<4x8xf32>
  return
}
