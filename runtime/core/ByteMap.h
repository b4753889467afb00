//===- ByteMap.h - a value for every byte of an arena -----------*- C++ -*-===//
#ifndef PEFT_CORE_BYTEMAP_H
#define PEFT_CORE_BYTEMAP_H

#include <cstdint>
#include <iterator>
#include <map>

namespace peft {

/// Maps each byte of [0, size) to a T; neighbours with one value are kept as a
/// segment. All ranges must be inside, and not empty.
template <typename T> class ByteMap {
public:
  explicit ByteMap(uint64_t size) {
    starts.emplace(0, T());
    starts.emplace(size, T()); // the end: never visited
  }

  /// Calls change(begin, end, value) for each segment of the range, in order;
  /// segments that reach over its ends are cut first.
  template <typename Function>
  void visit(uint64_t begin, uint64_t end, Function change) {
    auto last = cut(end);
    for (auto it = cut(begin); it != last;) {
      auto next = std::next(it);
      change(it->first, next->first, it->second);
      it = next;
    }
  }

  /// Makes the range one segment.
  void assign(uint64_t begin, uint64_t end, const T &value) {
    auto last = cut(end);
    auto first = cut(begin);
    first->second = value;
    starts.erase(std::next(first), last);
  }

private:
  using Iterator = typename std::map<uint64_t, T>::iterator;

  Iterator cut(uint64_t at) {
    Iterator next = starts.lower_bound(at);
    if (next->first == at)
      return next;
    return starts.emplace_hint(next, at, std::prev(next)->second);
  }

  std::map<uint64_t, T> starts; ///< by first byte
};

} // namespace peft

#endif // PEFT_CORE_BYTEMAP_H
