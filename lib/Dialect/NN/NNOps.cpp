//===- NNOps.cpp - verifiers of the nn dialect ----------------------------===//
//
// Shapes may be dynamic before peft-specialize-model; a dynamic extent agrees
// with every other.
//
//===----------------------------------------------------------------------===//
#include "peftc/Dialect/NN/NN.h"

using namespace mlir;
using namespace peftc;
using namespace peftc::nn;

static RankedTensorType typeOf(Value value) {
  return cast<RankedTensorType>(value.getType());
}

static bool agree(int64_t a, int64_t b) {
  return ShapedType::isDynamic(a) || ShapedType::isDynamic(b) || a == b;
}

static bool agree(ArrayRef<int64_t> a, ArrayRef<int64_t> b) {
  return a.size() == b.size() &&
         llvm::all_of(llvm::zip_equal(a, b), [](auto pair) {
           return agree(std::get<0>(pair), std::get<1>(pair));
         });
}

//===----------------------------------------------------------------------===//
// param (nn_c10): what is quantized is a frozen matrix of the model
//===----------------------------------------------------------------------===//

LogicalResult ParamOp::verify() {
  RankedTensorType type = getTensorType();
  if (!qw::isQuantized(type.getElementType()))
    return success();
  if (type.getRank() != 2)
    return emitOpError() << "of type " << type
                         << " needs two dimensions to be quantized";
  if (getTrainable() || getInit() != "stored")
    return emitOpError() << "of type " << type
                         << " cannot train: only stored weights are quantized";
  return success();
}

/// Every activation is at least [rows, features], and its features are known.
static LogicalResult verifyActivation(Operation *op, Value value,
                                      StringRef what) {
  auto type = dyn_cast<RankedTensorType>(value.getType());
  if (!type || type.getRank() < 2 || type.isDynamicDim(type.getRank() - 1))
    return op->emitOpError() << what << " needs a shape [..., features] with "
                             << "known features, has " << value.getType();
  return success();
}

LogicalResult nn::verifySameRows(Operation *op, Value a, Value b,
                                 StringRef what) {
  if (failed(verifyActivation(op, a, what)) ||
      failed(verifyActivation(op, b, what)))
    return failure();
  if (agree(typeOf(a).getShape().drop_back(), typeOf(b).getShape().drop_back()))
    return success();
  return op->emitOpError() << what << " needs the same leading dimensions, has "
                           << a.getType() << " and " << b.getType();
}

ParamOp nn::verifyParameterUse(Operation *user, SymbolTableCollection &symbols,
                               FlatSymbolRefAttr name,
                               ArrayRef<int64_t> shape) {
  auto param = symbols.lookupNearestSymbolFrom<ParamOp>(user, name);
  if (!param) {
    user->emitOpError() << "reads " << name << ", which is no nn.param";
    return {};
  }
  auto type = dyn_cast<RankedTensorType>(param.getType());
  if (type && agree(type.getShape(), shape))
    return param;
  std::string needed;
  llvm::raw_string_ostream stream(needed);
  llvm::interleave(
      shape, stream,
      [&](int64_t extent) {
        if (ShapedType::isDynamic(extent))
          stream << '?';
        else
          stream << extent;
      },
      "x");
  InFlightDiagnostic diagnostic = user->emitOpError()
                                  << "needs " << name << " as tensor<" << needed
                                  << ">, found " << param.getType();
  diagnostic.attachNote(param.getLoc()) << "declared here";
  return {};
}

//===----------------------------------------------------------------------===//
// embed (nn_c1)
//===----------------------------------------------------------------------===//

LogicalResult EmbedOp::verify() {
  auto ids = typeOf(getIds()), result = typeOf(getResult());
  if (result.getRank() != ids.getRank() + 1 ||
      !agree(result.getShape().drop_back(), ids.getShape()))
    return emitOpError() << "gives one row per id: ids " << ids << ", result "
                         << result;
  return verifyActivation(*this, getResult(), "result");
}

LogicalResult EmbedOp::verifySymbolUses(SymbolTableCollection &symbols) {
  return success(
      verifyParameterUse(*this, symbols, getTableAttr(),
                         {ShapedType::kDynamic, features(getResult())}));
}

//===----------------------------------------------------------------------===//
// linear (nn_c2): with a residual the result is its type, f32
//===----------------------------------------------------------------------===//

LogicalResult LinearOp::verify() {
  if (failed(verifySameRows(*this, getInput(), getResult(), "linear")))
    return failure();
  if (getResidual() && getResidual().getType() != getResult().getType())
    return emitOpError() << "with a residual of " << getResidual().getType()
                         << " needs a result of that type, has "
                         << getResult().getType();
  return success();
}

LogicalResult LinearOp::verifySymbolUses(SymbolTableCollection &symbols) {
  int64_t out = features(getResult());
  if (!verifyParameterUse(*this, symbols, getWeightAttr(),
                          {out, features(getInput())}))
    return failure();
  return success(!getBiasAttr() ||
                 verifyParameterUse(*this, symbols, getBiasAttr(), {out}));
}

//===----------------------------------------------------------------------===//
// rms_norm (nn_c3): groups of the weight's length fill the last dimension; with
// a residual the result is its type, f32
//===----------------------------------------------------------------------===//

LogicalResult RMSNormOp::verify() {
  if (failed(verifySameRows(*this, getInput(), getResult(), "rms_norm")) ||
      failed(verifySameRows(*this, getInput(), getRstd(), "rstd")))
    return failure();
  if (features(getInput()) != features(getResult()))
    return emitOpError() << "keeps the features: input has "
                         << features(getInput()) << ", result "
                         << features(getResult());
  int64_t groups = features(getRstd());
  if (groups == 0 || features(getInput()) % groups != 0)
    return emitOpError() << "rstd has " << groups
                         << " groups, which must divide the "
                         << features(getInput()) << " features";
  if (getResidual() && getResidual().getType() != getResult().getType())
    return emitOpError() << "with a residual of " << getResidual().getType()
                         << " needs a result of that type, has "
                         << getResult().getType();
  return success();
}

LogicalResult RMSNormOp::verifySymbolUses(SymbolTableCollection &symbols) {
  return success(
      verifyParameterUse(*this, symbols, getWeightAttr(),
                         {features(getInput()) / features(getRstd())}));
}

//===----------------------------------------------------------------------===//
// rope_table (nn_c8): a cosine and a sine per position and frequency
//===----------------------------------------------------------------------===//

LogicalResult RopeTableOp::verify() {
  auto positions = typeOf(getPositions()), result = typeOf(getResult());
  auto width = static_cast<int64_t>(2 * getInvFreq().size());
  if (result.getRank() != positions.getRank() + 1 ||
      !agree(result.getShape().drop_back(), positions.getShape()) ||
      result.getShape().back() != width)
    return emitOpError() << "of " << getInvFreq().size() << " frequencies and "
                         << positions << " needs " << width
                         << " features per position, has " << result;
  if (getLongInvFreq().has_value() != getShortPositions().has_value() ||
      (getLongInvFreq() && getLongInvFreq()->size() != getInvFreq().size()))
    return emitOpError() << "needs longInvFreq, as many as invFreq, together "
                         << "with shortPositions";
  return success();
}

//===----------------------------------------------------------------------===//
// rope (nn_c4): heads fill the features; the table rotates at most a head
//===----------------------------------------------------------------------===//

LogicalResult RopeOp::verify() {
  if (failed(verifySameRows(*this, getInput(), getTable(), "rope table")))
    return failure();
  if (getInput().getType() != getResult().getType())
    return emitOpError() << "keeps its input's type: " << getInput().getType()
                         << " became " << getResult().getType();
  int64_t head = getHeadDim(), rotated = features(getTable());
  if (head <= 0 || features(getInput()) % head != 0)
    return emitOpError() << "headDim " << head << " must divide the "
                         << features(getInput()) << " features";
  if (rotated % 2 != 0 || rotated > head)
    return emitOpError() << "table has " << rotated
                         << " features, needs an even number of at most "
                         << "headDim = " << head;
  return success();
}

//===----------------------------------------------------------------------===//
// attention (nn_c5): shapes follow from heads, kvHeads and headDim
//===----------------------------------------------------------------------===//

LogicalResult AttentionOp::verify() {
  if (failed(verifySameRows(*this, getQuery(), getKey(), "key")) ||
      failed(verifySameRows(*this, getQuery(), getResult(), "result")))
    return failure();
  int64_t heads = getHeads(), kvHeads = getKvHeads(), head = getHeadDim();
  if (heads <= 0 || kvHeads <= 0 || heads % kvHeads != 0)
    return emitOpError() << kvHeads << " key/value heads must divide " << heads
                         << " heads";
  if (features(getQuery()) != heads * head ||
      features(getResult()) != heads * head ||
      features(getKey()) != kvHeads * head)
    return emitOpError() << "needs query and result features " << heads * head
                         << ", key and value features " << kvHeads * head
                         << "; found " << features(getQuery()) << ", "
                         << features(getResult()) << " and "
                         << features(getKey());
  if (getWindow() < 0)
    return emitOpError() << "window " << getWindow()
                         << " must be 0 (none) or positive";
  if (!(getSoftcap().convertToDouble() >= 0))
    return emitOpError() << "softcap " << getSoftcap().convertToDouble()
                         << " must be 0 (none) or positive";
  RankedTensorType lse = typeOf(getLse());
  if (lse.getRank() != 2 || lse.getDimSize(0) != heads)
    return emitOpError() << "lse needs the shape [heads, tokens] with " << heads
                         << " heads, has " << lse;
  return success();
}

//===----------------------------------------------------------------------===//
// swiglu and geglu (nn_c9): elementwise
//===----------------------------------------------------------------------===//

template <typename Op> static LogicalResult verifyGate(Op op) {
  if (failed(verifySameRows(op, op.getGate(), op.getResult(),
                            op->getName().stripDialect())))
    return failure();
  if (features(op.getGate()) != features(op.getResult()))
    return op.emitOpError() << "keeps the features: gate has "
                            << features(op.getGate()) << ", result "
                            << features(op.getResult());
  return success();
}

LogicalResult SwigluOp::verify() { return verifyGate(*this); }
LogicalResult GegluOp::verify() { return verifyGate(*this); }

//===----------------------------------------------------------------------===//
// softcap (nn_c10) and split (nn_c11): the parts fill the features
//===----------------------------------------------------------------------===//

LogicalResult SoftcapOp::verify() {
  double cap = getCap().convertToDouble();
  if (!(cap > 0))
    return emitOpError() << "cap " << cap << " must be positive";
  return verifyActivation(*this, getInput(), "input");
}

LogicalResult SplitOp::verify() {
  size_t count = getParts().size();
  if (count < 2 || count > 3)
    return emitOpError() << "gives two or three parts, has " << count;
  int64_t sum = 0;
  for (Value part : getParts()) {
    if (failed(verifySameRows(*this, getInput(), part, "part")))
      return failure();
    sum += features(part);
  }
  if (sum != features(getInput()))
    return emitOpError() << "has parts of " << sum << " features in all, its "
                         << "input " << features(getInput());
  if (count == 3 && features(getParts()[1]) != features(getParts()[2]))
    return emitOpError() << "needs a second and third part of the same width, "
                         << "has " << features(getParts()[1]) << " and "
                         << features(getParts()[2]);
  return success();
}

//===----------------------------------------------------------------------===//
// chunk and scatter_rows (nn_c6, nn_c7)
//===----------------------------------------------------------------------===//

LogicalResult ChunkOp::verify() {
  if (getRows() <= 0 || getStart() < 0)
    return emitOpError() << "needs rows > 0 and start >= 0, has rows "
                         << getRows() << " and start " << getStart();
  if (getInits().getTypes() != getResultTypes())
    return emitOpError() << "has " << getInits().size()
                         << " inits, which must be as many and of the same "
                         << "types as its " << getNumResults() << " results";
  auto yield = dyn_cast<YieldOp>(getBody().front().getTerminator());
  if (!yield)
    return emitOpError() << "needs an nn.yield at the end of its body";
  if (yield.getValues().getTypes() != getResultTypes()) {
    InFlightDiagnostic diagnostic =
        emitOpError() << "results must have the types its body yields";
    diagnostic.attachNote(yield.getLoc()) << "yielded here";
    return diagnostic;
  }
  return success();
}

LogicalResult ScatterRowsOp::verify() {
  if (!isa_and_nonnull<ChunkOp>((*this)->getParentOp()))
    return emitOpError() << "needs to be directly inside an nn.chunk";
  if (features(getInput()) != features(getInto()))
    return emitOpError() << "rows of " << features(getInput())
                         << " features cannot replace rows of "
                         << features(getInto());
  return success();
}

void YieldOp::build(OpBuilder &, OperationState &) {}

LogicalResult AdamWOp::verify() {
  if (getFirstScale().has_value() != getSecondScale().has_value())
    return emitOpError("needs the scales of both moments, or none");
  return success();
}
