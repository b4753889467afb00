//===- StepWindow.h - "from here on nothing allocates" ----------*- C++ -*-===//
//
// A test preloads a library that counts malloc, mmap and brk while the window
// is open (test/interposer). It is found by name at run time; without it,
// opening costs nothing.
//
//===----------------------------------------------------------------------===//
#ifndef PEFT_TRAIN_STEPWINDOW_H
#define PEFT_TRAIN_STEPWINDOW_H

#include <dlfcn.h>

namespace peft {

class StepWindow {
public:
  StepWindow()
      : notify(reinterpret_cast<Notify>(
            ::dlsym(RTLD_DEFAULT, "peft_step_window"))) {}
  ~StepWindow() { set(false); }
  StepWindow(const StepWindow &) = delete;
  StepWindow &operator=(const StepWindow &) = delete;

  void set(bool open) {
    if (notify && open != isOpen)
      notify(open);
    isOpen = open;
  }

private:
  using Notify = void (*)(int);
  Notify notify;
  bool isOpen = false;
};

} // namespace peft

#endif // PEFT_TRAIN_STEPWINDOW_H
