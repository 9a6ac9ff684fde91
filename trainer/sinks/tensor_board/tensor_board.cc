#include "trainer/sinks/tensor_board/tensor_board.h"

#include <unistd.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "plugin/registry.h"
#include "plugin/status.h"
#include "trainer/sinks/tensor_board/event.pb.h"
#include "trainer/sinks/tensor_board/record.h"

namespace graticule {
namespace {

using tensor_board::Event;

std::string HostName() {
  char name[256] = {};
  return gethostname(name, sizeof(name) - 1) == 0 ? name : "unknown";
}

absl::Status WriteEvent(const Event& event, Appender& file) {
  return file.Write(tensor_board::FrameRecord(event.SerializeAsString()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Sink>> TensorBoardSink::Create(const TensorBoard& config, const SinkContext& context) {
  const double now = absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch());
  // TensorBoard reads the files of a folder in the order of their names, so the time comes first.
  ASSIGN_OR_RETURN(Appender file, Appender::Open(absl::StrFormat("%s/events.out.tfevents.%010.6f.%s.%d",
                                                                 context.run_directory, now, HostName(), getpid())));
  Event event;
  event.set_wall_time(now);
  event.set_file_version("brain.Event:2");
  RETURN_IF_ERROR(WriteEvent(event, file));
  event.set_step(context.resume_step + 1);
  event.mutable_session_log()->set_status(tensor_board::SessionLog::START);
  RETURN_IF_ERROR(WriteEvent(event, file));
  RETURN_IF_ERROR(file.Flush());
  return std::unique_ptr<Sink>(new TensorBoardSink(std::move(file)));
}

absl::Status TensorBoardSink::Write(const MetricsRecord& record) {
  Event event;
  event.set_wall_time(record.wall_time);
  event.set_step(record.step);
  for (const auto& [name, number] : record.values) {
    auto* value = event.mutable_summary()->add_value();
    value->set_tag(name);
    value->set_simple_value(static_cast<float>(number));
  }
  return WriteEvent(event, file_);
}

absl::Status TensorBoardSink::Flush() { return file_.Flush(); }

namespace {
const Registration<Sink, TensorBoard> kRegistration("Event file for TensorBoard", "", &TensorBoardSink::Create);
}  // namespace
}  // namespace graticule
