#include "trainer/sinks/tensor_board/tensor_board.h"

#include <unistd.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "plugin/logging.h"
#include "plugin/registry.h"
#include "plugin/status.h"
#include "trainer/sinks/tensor_board/event.pb.h"
#include "trainer/sinks/tensor_board/histogram.h"
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

// What the head of a PNG file says: signature, length and type of the first chunk, then width, height, depth and type
// of colour (https://www.w3.org/TR/png/#11IHDR).
tensor_board::Summary::Image ImageOfPng(const std::string& png) {
  constexpr std::string_view kHead("\x89PNG\r\n\x1A\n\0\0\0\rIHDR", 16);
  CHECK(png.size() > 25 && png.starts_with(kHead)) << "no PNG file";
  const auto number = [&](size_t at) {
    uint32_t value = 0;
    for (size_t i = at; i < at + 4; ++i) value = value << 8 | static_cast<uint8_t>(png[i]);
    return static_cast<int32_t>(value);
  };
  constexpr int kChannels[] = {1, 0, 3, 3, 2, 0, 4};  // a palette's colours are RGB
  tensor_board::Summary::Image image;
  image.set_width(number(16));
  image.set_height(number(20));
  image.set_colorspace(kChannels[png[25] % 7]);
  image.set_encoded_image_string(png);
  return image;
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

absl::Status TensorBoardSink::WriteMedia(const MediaRecord& record) {
  Event event;
  event.set_wall_time(record.wall_time);
  event.set_step(record.step);
  for (const auto& [name, values] : record.histograms) {
    auto* value = event.mutable_summary()->add_value();
    value->set_tag(name);
    *value->mutable_histo() = tensor_board::MakeHistogram(values);
  }
  for (const auto& [name, png] : record.images) {
    auto* value = event.mutable_summary()->add_value();
    value->set_tag(name);
    *value->mutable_image() = ImageOfPng(png);
  }
  return WriteEvent(event, file_);
}

absl::Status TensorBoardSink::Flush() { return file_.Flush(); }

namespace {
const Registration<Sink, TensorBoard> kRegistration("Event file for TensorBoard", "", &TensorBoardSink::Create);
}  // namespace
}  // namespace graticule
