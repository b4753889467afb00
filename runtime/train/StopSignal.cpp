//===- StopSignal.cpp - Ctrl-C between steps ------------------------------===//
#include "StopSignal.h"

using namespace peft;

static volatile std::sig_atomic_t arrivedSignal = 0;

static void remember(int signal) { arrivedSignal = signal; }

StopSignal::StopSignal(bool listen) : listens(listen) {
  if (!listens)
    return;
  arrivedSignal = 0;
  struct sigaction action = {};
  action.sa_handler = remember;
  // What waits in the kernel goes on; the second signal ends the process.
  action.sa_flags = SA_RESTART | static_cast<int>(SA_RESETHAND);
  for (int i = 0; i < 2; ++i) {
    ::sigaction(signals[i], nullptr, &before[i]);
    if (before[i].sa_handler != SIG_IGN)
      ::sigaction(signals[i], &action, nullptr);
  }
}

StopSignal::~StopSignal() {
  for (int i = 0; listens && i < 2; ++i)
    ::sigaction(signals[i], &before[i], nullptr);
}

bool StopSignal::arrived() const { return listens && arrivedSignal != 0; }

void StopSignal::obey() {
  if (!arrived())
    return;
  std::signal(arrivedSignal, SIG_DFL);
  std::raise(arrivedSignal);
}
