//===- Trace.cpp - peft-run --trace ---------------------------------------===//
#include "Trace.h"

#include "Line.h"
#include "peft/File.h"
#include "peft/Json.h"

#include <algorithm>

using namespace peft;

namespace {
constexpr const char *tracedEntries[] = {"micro_step", "update"};
/// The two processes of the trace.
constexpr int measuredProcess = 1, plannedProcess = 2;

/// Launches and copies take time; records and waits are the plan's order.
bool takesTime(const Item &item) {
  return std::holds_alternative<Launch>(item.action) ||
         std::holds_alternative<Copy>(item.action);
}

/// Writes events one after the other.
class TraceText {
public:
  explicit TraceText(const Executor &executor)
      : plan(executor.plan()),
        text("{\"displayTimeUnit\": \"ms\",\n\"otherData\": {\"device\": " +
             quoteJson(executor.device().description()) +
             ", \"model\": " + quoteJson(plan.modelName) + "},\n" +
             "\"traceEvents\": [") {
    nameTracks(measuredProcess, "measured");
    nameTracks(plannedProcess, "planned");
  }

  /// All of one entry, `start` seconds after the trace's beginning.
  void add(const Entry &entry, const std::vector<TracedItem> &measured,
           double start) {
    std::vector<TracedItem> planned = planTimes(entry, measured);
    uint64_t order = 0;
    for (size_t i = 0; i < entry.items.size(); ++i) {
      if (!takesTime(entry.items[i]))
        continue;
      add(measuredProcess, entry, i, order, measured[i], start);
      add(plannedProcess, entry, i, order++, planned[i], start);
    }
  }

  std::string finish() { return std::move(text) + "\n]}\n"; }

private:
  void nameTracks(int process, const char *name) {
    nameTrack("process_name", process, 0, name);
    for (size_t i = 0; i < plan.streams.size(); ++i)
      nameTrack("thread_name", process, i, "stream " + std::to_string(i));
  }
  void nameTrack(const char *what, int process, size_t track,
                 const std::string &name) {
    next();
    text += "{\"ph\": \"M\", \"name\": \"" + std::string(what) +
            "\", \"pid\": " + std::to_string(process) +
            ", \"tid\": " + std::to_string(track) +
            ", \"args\": {\"name\": " + quoteJson(name) + "}}";
  }
  void add(int process, const Entry &entry, size_t item, uint64_t order,
           const TracedItem &time, double start) {
    const Item &source = entry.items[item];
    const auto *launch = std::get_if<Launch>(&source.action);
    Line times;
    times << ", \"ts\": ";
    times.fixed(1e6 * (start + time.begin), 3) << ", \"dur\": ";
    times.fixed(1e6 * (time.end - time.begin), 3)
        << ", \"pid\": " << process << ", \"tid\": " << source.stream;
    next();
    text += "{\"ph\": \"X\", \"name\": " +
            quoteJson(launch ? launch->kernel : "copy");
    text += times.view();
    text += ", \"args\": {\"module\": " +
            quoteJson(launch ? launch->module : "") +
            ", \"entry\": " + quoteJson(entry.name) +
            ", \"item\": " + std::to_string(item) +
            ", \"stream\": " + std::to_string(source.stream) +
            ", \"order\": " + std::to_string(order) +
            (time.ran ? "" : ", \"skipped\": true") + "}}";
  }
  void next() {
    text += first ? "\n" : ",\n";
    first = false;
  }

  const Plan &plan;
  std::string text;
  bool first = true;
};

/// The times of an entry by item. What was skipped is where its stream is
/// then.
std::vector<TracedItem> byItem(const Plan &plan, const Entry &entry,
                               const std::vector<ItemTime> &times) {
  std::vector<TracedItem> items(entry.items.size());
  for (const ItemTime &time : times)
    items[time.item] = {true, time.begin, time.end};
  std::vector<double> reached(plan.streams.size());
  for (size_t i = 0; i < items.size(); ++i) {
    double &end = reached[entry.items[i].stream];
    if (items[i].ran)
      end = std::max(end, items[i].end);
    else
      items[i] = {false, end, end};
  }
  return items;
}
} // namespace

std::vector<TracedItem>
peft::planTimes(const Entry &entry, const std::vector<TracedItem> &measured) {
  std::vector<TracedItem> planned = measured;
  std::vector<double> streams, events;
  auto at = [](std::vector<double> &list, size_t index) -> double & {
    if (index >= list.size())
      list.resize(index + 1);
    return list[index];
  };
  for (size_t i = 0; i < planned.size(); ++i) {
    const Item &item = entry.items[i];
    double &stream = at(streams, item.stream);
    if (const auto *record = std::get_if<Record>(&item.action))
      at(events, record->event) = stream;
    else if (const auto *wait = std::get_if<Wait>(&item.action))
      stream = std::max(stream, at(events, wait->event));
    planned[i].begin = stream;
    stream += measured[i].end - measured[i].begin;
    planned[i].end = stream;
  }
  return planned;
}

Status peft::writeTrace(Executor &executor, const std::string &path) {
  TraceText text(executor);
  std::vector<ItemTime> times;
  double start = 0;
  for (const char *name : tracedEntries) {
    uint32_t index = executor.plan().findEntry(name);
    const Entry &entry = executor.plan().entries[index];
    PEFT_TRY(executor.device().trace(index, times));
    text.add(entry, byItem(executor.plan(), entry, times), start);
    double length = 0;
    for (const ItemTime &time : times)
      length = std::max(length, time.end);
    start += length;
  }
  return writeFileAtomically(path, text.finish());
}
