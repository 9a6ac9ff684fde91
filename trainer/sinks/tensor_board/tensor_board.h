// Metrics as TensorBoard's scalars, histograms and images.
#ifndef GRATICULE_TRAINER_SINKS_TENSOR_BOARD_TENSOR_BOARD_H_
#define GRATICULE_TRAINER_SINKS_TENSOR_BOARD_TENSOR_BOARD_H_

#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "plugin/file.h"
#include "trainer/sinks/sink.h"
#include "trainer/sinks/tensor_board/tensor_board.pb.h"

namespace graticule {

class TensorBoardSink : public Sink {
 public:
  static absl::StatusOr<std::unique_ptr<Sink>> Create(const TensorBoard& config, const SinkContext& context);

  absl::Status Write(const MetricsRecord& record) override;
  absl::Status WriteMedia(const MediaRecord& record) override;
  absl::Status Flush() override;

 private:
  explicit TensorBoardSink(Appender file) : file_(std::move(file)) {}

  Appender file_;
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_SINKS_TENSOR_BOARD_TENSOR_BOARD_H_
