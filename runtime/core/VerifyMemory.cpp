//===- VerifyMemory.cpp - arenas, weights, buffers ------------------------===//
#include "PlanVerifier.h"

#include <algorithm>

namespace peft::verifier {

static std::string number(uint64_t value) { return std::to_string(value); }

static uint64_t quotientUp(uint64_t value, uint64_t step) {
  return value / step + (value % step != 0);
}

static Status checkArena(const Arena &arena) {
  if (arena.space == Space::mapping)
    return badInput("an arena cannot lie in a file mapping");
  if (arena.size > maxBytes)
    return badInput("its size " + number(arena.size) + " is beyond " +
                    number(maxBytes));
  if (arena.persistentBytes > arena.size)
    return badInput("its persistent part (" + number(arena.persistentBytes) +
                    " bytes) is larger than all of it (" + number(arena.size) +
                    ")");
  if (arena.persistentBytes % bufferAlignment)
    return badInput("its persistent part (" + number(arena.persistentBytes) +
                    " bytes) is not a multiple of " + number(bufferAlignment));
  return {};
}

/// Elements of a shape; an error when it is empty, has a zero or is too large.
static Expected<uint64_t> countElements(const std::vector<uint64_t> &shape,
                                        size_t mostDimensions) {
  if (shape.empty() || shape.size() > mostDimensions)
    return badInput("its shape has " + number(shape.size()) +
                    " dimensions, allowed are 1 to " + number(mostDimensions));
  Saturating elements = 1;
  for (uint64_t extent : shape) {
    if (extent == 0 || extent > maxExtent)
      return badInput("its shape has the extent " + number(extent) +
                      ", allowed are 1 to " + number(maxExtent));
    elements = elements * extent;
  }
  if (elements > maxBytes)
    return badInput("it has more than " + number(maxBytes) + " elements");
  return elements.value;
}

static Status checkWeight(const Plan &plan, const Weight &weight) {
  if (weight.name.empty())
    return badInput("it has no name");
  PEFT_TRY(checkText(weight.name, "name"));
  Expected<uint64_t> elements = countElements(weight.shape, 4);
  PEFT_TRY(elements.status());
  uint64_t ranks = uint64_t(plan.shard) * plan.tensorParallel;
  if (!weight.slices.empty() && weight.slices.size() != ranks)
    return badInput("it has " + number(weight.slices.size()) +
                    " slices, needed is one for each of " + number(ranks) +
                    " ranks");
  for (const Slice &slice : weight.slices) {
    if (slice.axis >= weight.shape.size())
      return badInput("a slice cuts axis " + number(slice.axis) + " of " +
                      number(weight.shape.size()));
    uint64_t extent = weight.shape[slice.axis];
    if (slice.extent == 0 || slice.start > extent ||
        slice.extent > extent - slice.start)
      return badInput("the slice [" + number(slice.start) + ", +" +
                      number(slice.extent) + ") is not inside the extent " +
                      number(extent));
  }
  return {};
}

/// What one part of a quantized tensor has to look like beside its codes.
static Status checkPart(const Plan &plan, const Weight &weight) {
  if (weight.of >= plan.weights.size() ||
      plan.weights[weight.of].part != WeightPart::codes)
    return badInput("it is a part of weight " + number(weight.of) +
                    ", which is no codes");
  const Weight &codes = plan.weights[weight.of];
  uint64_t elements = codes.shape[0] * codes.shape[1];
  bool packed = isPacked(codes.dtype);
  uint64_t blocks =
      packed ? quotientUp(elements, codes.block) : codes.shape[0];
  DType dtype = DType::f32;
  uint64_t needed = 0;
  switch (weight.part) {
  case WeightPart::absmax:
    dtype = codes.nested ? DType::u8 : DType::f32;
    needed = blocks;
    break;
  case WeightPart::nestedAbsmax:
    needed = codes.nested ? quotientUp(blocks, codes.nested) : 0;
    break;
  case WeightPart::tables:
    needed = !packed ? 0 : codes.nested ? nestedTables : codeTable;
    break;
  case WeightPart::whole:
  case WeightPart::codes:
    break;
  }
  if (weight.dtype != dtype || weight.shape.size() != 1 ||
      weight.shape[0] != needed)
    return badInput("it is not the " + number(needed) + " elements of " +
                    std::string(name(dtype)) + " that codes " +
                    quoted(codes.name) + " need");
  return {};
}

static Status checkQuantized(const Plan &plan, const Weight &weight) {
  bool codes = weight.part == WeightPart::codes;
  if (isPacked(weight.dtype) && !codes)
    return badInput("only codes are of type " +
                    std::string(name(weight.dtype)));
  bool hasBlocks = weight.block != 0 || weight.nested != 0;
  if (weight.part == WeightPart::whole)
    return hasBlocks || weight.of != none
               ? badInput("it has blocks, but is not quantized")
               : Status();
  if (!weight.slices.empty())
    return badInput("a quantized weight cannot be cut over ranks");
  if (!codes)
    return hasBlocks ? badInput("only codes have blocks")
                     : checkPart(plan, weight);
  if (!isQuantized(weight.dtype) || weight.shape.size() != 2 ||
      weight.of != none)
    return badInput("codes are nf4, fp4 or i8 of two dimensions");
  if (isPacked(weight.dtype) ? weight.block == 0 : hasBlocks)
    return badInput("its block size is " + number(weight.block) +
                    ": 4-bit codes have one, i8 has none");
  return {};
}

/// Elements that one rank holds; every rank holds as many.
static Expected<uint64_t> elementsPerRank(const Weight &weight) {
  uint64_t elements = 1;
  for (uint64_t extent : weight.shape)
    elements *= extent;
  if (weight.slices.empty())
    return elements;
  const Slice &first = weight.slices.front();
  for (const Slice &slice : weight.slices)
    if (slice.axis != first.axis || slice.extent != first.extent)
      return badInput("the slices of weight " + quoted(weight.name) +
                      " are not of one size");
  return elements / weight.shape[first.axis] * first.extent;
}

static Status checkMapped(const Plan &plan, const Buffer &buffer,
                          uint64_t elements) {
  if (buffer.weight >= plan.weights.size())
    return badInput("it has neither an arena nor a weight");
  if (buffer.offset != 0)
    return badInput("a mapped weight has no offset, found " +
                    number(buffer.offset));
  if (buffer.entry != none)
    return badInput("a mapped weight cannot be local to an entry");
  const Weight &weight = plan.weights[buffer.weight];
  Expected<uint64_t> held = elementsPerRank(weight);
  PEFT_TRY(held.status());
  if (!weight.slices.empty() && weight.slices.front().axis != 0)
    return badInput("weight " + quoted(weight.name) + " is cut along axis " +
                    number(weight.slices.front().axis) +
                    ", so its bytes are not one range");
  if (buffer.dtype != weight.dtype || elements != *held)
    return badInput("it has " + number(elements) + " elements of " +
                    std::string(name(buffer.dtype)) + ", weight " +
                    quoted(weight.name) + " has " + number(*held) + " of " +
                    std::string(name(weight.dtype)));
  return {};
}

static Status checkPlace(const Plan &plan, const Buffer &buffer) {
  if (buffer.arena >= plan.arenas.size())
    return badInput("it lies in arena " + number(buffer.arena) + " of " +
                    number(plan.arenas.size()));
  if (buffer.weight != none)
    return badInput("it has an arena and a weight; an initializer copies");
  const Arena &arena = plan.arenas[buffer.arena];
  bool onCard = plan.deviceKind == DeviceKind::cuda &&
                plan.arenas[buffer.arena].space != Space::pageable;
  uint64_t alignment = onCard ? cardAlignment : bufferAlignment;
  if (buffer.offset % alignment)
    return badInput("its offset " + number(buffer.offset) +
                    " is not a multiple of " + number(alignment));
  uint64_t begin = 0, end = arena.persistentBytes;
  const char *part = "persistent";
  if (buffer.entry != none) {
    if (buffer.entry >= plan.entries.size())
      return badInput("it is local to entry " + number(buffer.entry) + " of " +
                      number(plan.entries.size()));
    part = "local";
    begin = arena.persistentBytes;
    end = arena.size;
    uint64_t localBytes = plan.entries[buffer.entry].localBytes;
    if (buffer.arena == 0 && localBytes < end - begin)
      end = begin + localBytes;
  }
  if (buffer.offset < begin || buffer.offset > end ||
      buffer.size > end - buffer.offset)
    return badInput("its bytes [" + number(buffer.offset) + ", +" +
                    number(buffer.size) + ") are not inside the " + part +
                    " part [" + number(begin) + ", " + number(end) +
                    ") of arena " + number(buffer.arena));
  return {};
}

static Status checkBuffer(const Plan &plan, const Buffer &buffer) {
  if (buffer.name.empty())
    return badInput("it has no name");
  PEFT_TRY(checkText(buffer.name, "name"));
  Expected<uint64_t> elements = countElements(buffer.shape, 2);
  PEFT_TRY(elements.status());
  uint64_t bytes = byteCount(buffer.dtype, *elements);
  if (bytes != buffer.size)
    return badInput("its size is " + number(buffer.size) + ", " +
                    number(*elements) + " elements of " +
                    std::string(name(buffer.dtype)) + " need " + number(bytes));
  return buffer.arena == none ? checkMapped(plan, buffer, *elements)
                              : checkPlace(plan, buffer);
}

/// No two persistent buffers share a byte.
static Status checkPersistentOverlap(const Plan &plan) {
  std::vector<uint32_t> order;
  for (uint32_t i = 0; i < plan.buffers.size(); ++i)
    if (plan.buffers[i].arena != none && plan.buffers[i].entry == none)
      order.push_back(i);
  auto place = [&](uint32_t index) {
    const Buffer &buffer = plan.buffers[index];
    return std::tuple(buffer.arena, buffer.offset, index);
  };
  std::sort(order.begin(), order.end(),
            [&](uint32_t a, uint32_t b) { return place(a) < place(b); });
  for (size_t i = 1; i < order.size(); ++i) {
    const Buffer &low = plan.buffers[order[i - 1]];
    const Buffer &high = plan.buffers[order[i]];
    if (low.arena == high.arena && low.offset + low.size > high.offset)
      return badInput(label("buffers", order[i], high.name) + " begins at " +
                      number(high.offset) + ", before " +
                      label("buffers", order[i - 1], low.name) + " ends at " +
                      number(low.offset + low.size));
  }
  return {};
}

Status checkMemory(const Plan &plan) {
  for (size_t i = 0; i < plan.arenas.size(); ++i)
    PEFT_TRY(checkArena(plan.arenas[i]).in(label("arenas", i, "")));
  UniqueNames names;
  for (size_t i = 0; i < plan.weights.size(); ++i) {
    const Weight &weight = plan.weights[i];
    std::string where = label("weights", i, weight.name);
    PEFT_TRY(checkWeight(plan, weight).in(where));
    PEFT_TRY(names.add(weight.name).in(where));
  }
  for (size_t i = 0; i < plan.weights.size(); ++i) {
    const Weight &weight = plan.weights[i];
    PEFT_TRY(checkQuantized(plan, weight)
                 .in(label("weights", i, weight.name)));
  }
  for (size_t i = 0; i < plan.buffers.size(); ++i) {
    Status status = checkBuffer(plan, plan.buffers[i]);
    if (!status.ok())
      return status.in(label("buffers", i, plan.buffers[i].name));
  }
  return checkPersistentOverlap(plan);
}

} // namespace peft::verifier
