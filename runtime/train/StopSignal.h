//===- StopSignal.h - Ctrl-C between steps ----------------------*- C++ -*-===//
#ifndef PEFT_TRAIN_STOPSIGNAL_H
#define PEFT_TRAIN_STOPSIGNAL_H

#include <csignal>

namespace peft {

/// While it lives, the first SIGINT or SIGTERM only sets a mark, so that what is
/// on its way can be written; the next one ends the process at once. Does
/// nothing if it does not `listen`, nor for a signal that is ignored.
class StopSignal {
public:
  explicit StopSignal(bool listen);
  ~StopSignal();
  StopSignal(const StopSignal &) = delete;
  StopSignal &operator=(const StopSignal &) = delete;

  bool arrived() const;
  /// Ends the process by the signal that arrived, if one did.
  void obey();

private:
  static constexpr int signals[] = {SIGINT, SIGTERM};

  bool listens;
  struct sigaction before[2] = {};
};

} // namespace peft

#endif // PEFT_TRAIN_STOPSIGNAL_H
