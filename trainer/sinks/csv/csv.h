// Metrics as a table in a text file.
#ifndef GRATICULE_TRAINER_SINKS_CSV_CSV_H_
#define GRATICULE_TRAINER_SINKS_CSV_CSV_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "plugin/file.h"
#include "trainer/sinks/csv/csv.pb.h"
#include "trainer/sinks/sink.h"

namespace graticule {

class CsvSink : public Sink {
 public:
  // Errors: metrics.csv can't be read or written, or is no table of metrics.
  static absl::StatusOr<std::unique_ptr<Sink>> Create(const Csv& config, const SinkContext& context);

  absl::Status Write(const MetricsRecord& record) override;
  absl::Status Flush() override;

 private:
  explicit CsvSink(const std::string& run_directory) : path_(run_directory + "/metrics.csv") {}

  absl::Status ReadTable(const SinkContext& context);
  absl::Status Rewrite();

  std::string path_;
  std::vector<std::string> columns_;            // empty before the first record
  std::vector<std::vector<std::string>> rows_;  // cells of the columns
  std::optional<Appender> file_;                // none while the file has yet to be rewritten
};

}  // namespace graticule

#endif  // GRATICULE_TRAINER_SINKS_CSV_CSV_H_
