#include "trainer/sinks/csv/csv.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "plugin/registry.h"
#include "plugin/status.h"

namespace graticule {
namespace {

// Sorts columns into the order that the README promises.
std::tuple<int, std::string, int> ColumnOrder(const std::string& name) {
  constexpr std::string_view kOrder[] = {"step",     "epoch",    "train/loss", "",
                                         "val/top1", "val/top5", "lr",         "images_per_second"};
  const auto known = std::find(std::begin(kOrder), std::end(kOrder), name);
  if (known != std::end(kOrder)) return {known - std::begin(kOrder), name, 0};
  const std::vector<std::string> parts = absl::StrSplit(name, '/');
  if (parts.size() == 3 && parts[0] == "train" && (parts[2] == "loss" || parts[2] == "accuracy")) {
    return {std::find(std::begin(kOrder), std::end(kOrder), "") - std::begin(kOrder), parts[1], parts[2] == "accuracy"};
  }
  return {std::size(kOrder), name, 0};
}

// A name that needs no quotes.
std::string ColumnName(const std::string& metric) {
  return absl::StrReplaceAll(metric, {{",", "_"}, {"\"", "_"}, {"\n", "_"}, {"\r", "_"}});
}

std::string Cell(double value) { return absl::StrFormat("%.9g", value); }

std::string Line(const std::vector<std::string>& cells) { return absl::StrJoin(cells, ",") + "\n"; }

}  // namespace

absl::StatusOr<std::unique_ptr<Sink>> CsvSink::Create(const Csv& config, const SinkContext& context) {
  std::unique_ptr<CsvSink> sink(new CsvSink(context.run_directory));
  std::error_code error;
  if (context.resume_step > 0 && std::filesystem::exists(sink->path_, error)) {
    RETURN_IF_ERROR(sink->ReadTable(context));
  }
  RETURN_IF_ERROR(sink->Rewrite());
  return sink;
}

absl::Status CsvSink::ReadTable(const SinkContext& context) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path_));
  const std::vector<std::string> lines = absl::StrSplit(text, '\n');
  if (lines[0].empty()) return absl::OkStatus();
  columns_ = absl::StrSplit(lines[0], ',');
  if (columns_.size() < 2 || columns_[0] != "step" || columns_[1] != "epoch") {
    return absl::FailedPreconditionError(
        absl::StrCat("'", path_, "' is no table of metrics: it does not begin with step,epoch; move it away"));
  }
  // What comes after the last "\n" is a part of a line, of a run that was cut off.
  for (size_t i = 1; i + 1 < lines.size(); ++i) {
    std::vector<std::string> cells = absl::StrSplit(lines[i], ',');
    int64_t step;
    if (cells.size() != columns_.size() || !absl::SimpleAtoi(cells[0], &step) || step > context.resume_step) continue;
    bool validation = false;
    for (size_t j = 0; j < cells.size(); ++j) validation |= columns_[j].starts_with("val") && !cells[j].empty();
    if (validation && step == context.resume_step && !context.resume_validated) continue;
    rows_.push_back(std::move(cells));
  }
  return absl::OkStatus();
}

absl::Status CsvSink::Rewrite() {
  file_.reset();
  std::string text = columns_.empty() ? "" : Line(columns_);
  for (const auto& row : rows_) text += Line(row);
  RETURN_IF_ERROR(WriteFileAtomically(path_, text));
  ASSIGN_OR_RETURN(file_, Appender::Open(path_));
  return absl::OkStatus();
}

absl::Status CsvSink::Write(const MetricsRecord& record) {
  std::map<std::string, std::string> cells = {{"step", absl::StrCat(record.step)}, {"epoch", Cell(record.epoch)}};
  for (const auto& [name, value] : record.values) cells[ColumnName(name)] = Cell(value);

  std::vector<std::string> columns = columns_;
  for (const auto& [name, cell] : cells) {
    if (std::find(columns_.begin(), columns_.end(), name) == columns_.end()) columns.push_back(name);
  }
  const bool wider = columns.size() > columns_.size();
  if (wider) {
    std::sort(columns.begin(), columns.end(),
              [](const std::string& a, const std::string& b) { return ColumnOrder(a) < ColumnOrder(b); });
    for (auto& row : rows_) {
      std::vector<std::string> widened(columns.size());
      for (size_t i = 0; i < columns_.size(); ++i) {
        widened[std::find(columns.begin(), columns.end(), columns_[i]) - columns.begin()] = row[i];
      }
      row = std::move(widened);
    }
    columns_ = std::move(columns);
  }
  std::vector<std::string> row;
  for (const std::string& column : columns_) row.push_back(cells[column]);
  rows_.push_back(std::move(row));
  return wider || !file_.has_value() ? Rewrite() : file_->Write(Line(rows_.back()));
}

absl::Status CsvSink::Flush() { return file_.has_value() ? file_->Flush() : Rewrite(); }

namespace {
const Registration<Sink, Csv> kRegistration("metrics.csv: a line a record, a column a metric", "", &CsvSink::Create);
}  // namespace
}  // namespace graticule
