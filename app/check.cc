#include "data/check/check.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "app/command.h"
#include "plugin/file.h"
#include "plugin/status.h"
#include "trainer/parts.h"
#include "trainer/progress.h"

namespace graticule {
namespace {

struct Arguments {
  SpecArguments spec;
  bool spec_only = false;
  std::string report;
};

// Samples of a kind that are printed; --report lists all.
constexpr size_t kShown = 10;

struct Kind {
  Problem problem;
  const char* heading;
};
constexpr Kind kKinds[] = {
    {Problem::kUnreadable, "cannot be read"},
    {Problem::kEmpty, "empty"},
    {Problem::kNotAnImage, "no image that can be decoded"},
    {Problem::kTruncated, "cut off: the file ends too early"},
    {Problem::kBroken, "broken"},
    {Problem::kWrongLabel, "label out of range"},
    {Problem::kTwoClasses, "mislabelled: the same image in two classes"},
    {Problem::kKeptTruncated, "note: cut off, and kept because of data.decoding.truncated"},
    {Problem::kDuplicate, "note: the same image again in its class"},
    {Problem::kInBothSplits, "note: validation images that training sees"},
};

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Tells on standard error how far the reading is: on a terminal a bar, elsewhere a line now and then.
class ReadingProgress {
 public:
  ReadingProgress(std::string split, int64_t samples) : split_(std::move(split)), samples_(samples) {}
  ~ReadingProgress() {
    if (terminal_) std::cerr << "\r\033[K" << std::flush;
  }

  void operator()(int64_t done) {
    const double seconds = SecondsSince(start_);
    if (!terminal_ && seconds < next_line_) return;
    next_line_ = seconds + kSecondsBetweenLines;
    std::string bar(kBar, ' ');
    std::fill_n(bar.begin(), samples_ == 0 ? kBar : kBar * done / samples_, '#');
    const double rate = done / std::max(seconds, 1e-9);
    std::cerr << (terminal_ ? "\r\033[K" : "") << split_ << " [" << bar << "] " << WithThousands(done) << "/"
              << WithThousands(samples_) << " · " << WithThousands(std::llround(rate)) << " img/s · "
              << FormatSeconds(rate > 0 ? (samples_ - done) / rate : 0) << " left" << (terminal_ ? "" : "\n")
              << std::flush;
  }

 private:
  static constexpr int64_t kBar = 20;
  static constexpr double kSecondsBetweenLines = 30;

  const std::string split_;
  const int64_t samples_;
  const bool terminal_ = isatty(STDERR_FILENO);
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  double next_line_ = kSecondsBetweenLines;
};

struct CheckedSplit {
  std::string name;
  const Dataset* dataset;
  SamplesReport report;

  std::string ClassOf(int64_t sample) const { return dataset->class_names()[report.labels[sample]]; }
};

int64_t CountErrorsAmong(const std::vector<SampleProblem>& problems) {
  return std::count_if(problems.begin(), problems.end(),
                       [](const SampleProblem& problem) { return IsError(problem.problem); });
}

// A problem in words.
struct Row {
  std::string split, sample;
  Problem problem;
  std::string detail;
};

Row Describe(const CheckedSplit& split, const SampleProblem& problem, const CheckedSplit& of_twin) {
  Row row{split.name, split.dataset->SampleName(problem.sample), problem.problem, problem.reason};
  if (problem.twin < 0) return row;
  const std::string twin = absl::StrCat(of_twin.name, " ", of_twin.dataset->SampleName(problem.twin));
  row.detail = problem.problem == Problem::kTwoClasses
                   ? absl::StrCat("is of class ", split.ClassOf(problem.sample), ", the same as ", twin, " of class ",
                                  of_twin.ClassOf(problem.twin))
                   : absl::StrCat("the same as ", twin);
  return row;
}

class SampleCheck {
 public:
  SampleCheck(const DataParts& data, int threads) : data_(data), threads_(threads) {}

  void Run() {
    const auto start = std::chrono::steady_clock::now();
    train_ = Read("train", *data_.train);
    val_ = Read("val", *data_.val);
    shared_ = CompareSplits(train_.report, val_.report);
    seconds_ = SecondsSince(start);
  }

  // Samples that are broken or mislabelled. One that is so within its split and across the splits counts twice.
  int64_t CountErrors() const { return CountTrainErrors() + CountValErrors(); }

  void Print() const {
    for (const Kind& kind : kKinds) {
      size_t count = 0;
      std::string lines;
      ForEach([&](const CheckedSplit& split, const SampleProblem& problem, const CheckedSplit& of_twin) {
        if (problem.problem != kind.problem || ++count > kShown) return;
        const Row row = Describe(split, problem, of_twin);
        absl::StrAppend(&lines, "  ", row.split, " ", row.sample, ": ", row.detail, "\n");
      });
      PrintGroup(kind.heading, count, lines);
    }
    size_t count = 0;
    std::string lines;
    for (const CheckedSplit* split : {&train_, &val_}) {
      for (const std::string& what : split->dataset->PassedOver()) {
        if (++count <= kShown) absl::StrAppend(&lines, "  ", split->name, " ", what, "\n");
      }
    }
    PrintGroup("note: passed over", count, lines);
    PrintCounts(train_, CountTrainErrors());
    PrintCounts(val_, CountValErrors());
    const int64_t images = data_.train->size() + data_.val->size();
    std::cout << WithThousands(images) << " images in " << FormatSeconds(seconds_) << ", "
              << WithThousands(std::llround(images / std::max(seconds_, 1e-9))) << " img/s on " << threads_
              << " threads\n";
  }

  absl::Status WriteReport(const std::string& path) const {
    std::string csv = "split,sample,problem,detail\n";
    ForEach([&](const CheckedSplit& split, const SampleProblem& problem, const CheckedSplit& of_twin) {
      const Row row = Describe(split, problem, of_twin);
      absl::StrAppend(&csv, row.split, ",", CsvField(row.sample), ",", ProblemName(row.problem), ",",
                      CsvField(row.detail), "\n");
    });
    for (const CheckedSplit* split : {&train_, &val_}) {
      for (const std::string& what : split->dataset->PassedOver()) {
        absl::StrAppend(&csv, split->name, ",,passed_over,", CsvField(what), "\n");
      }
    }
    return WriteFileAtomically(path, csv);
  }

 private:
  CheckedSplit Read(const std::string& name, const Dataset& dataset) const {
    ReadingProgress progress(name, dataset.size());
    return {name, &dataset, CheckSamples(dataset, data_.decode, threads_, std::ref(progress))};
  }

  // Calls `visit` with each problem, its split and that of its twin, in order of the splits and samples.
  template <typename Visit>
  void ForEach(const Visit& visit) const {
    for (const CheckedSplit* split : {&train_, &val_}) {
      for (const SampleProblem& problem : split->report.problems) visit(*split, problem, *split);
    }
    for (const SampleProblem& problem : shared_) visit(val_, problem, train_);
  }

  int64_t CountTrainErrors() const { return CountErrorsAmong(train_.report.problems); }
  int64_t CountValErrors() const { return CountErrorsAmong(val_.report.problems) + CountErrorsAmong(shared_); }

  static void PrintCounts(const CheckedSplit& split, int64_t errors) {
    std::cout << split.name << ": " << WithThousands(split.dataset->size()) << " images in "
              << WithThousands(split.dataset->class_names().size()) << " classes, " << WithThousands(errors)
              << " with errors\n";
  }

  static void PrintGroup(const char* heading, size_t count, const std::string& lines) {
    if (count == 0) return;
    std::cout << heading << " (" << WithThousands(count) << ")\n" << lines;
    if (count > kShown) std::cout << "  and " << WithThousands(count - kShown) << " more; --report=FILE lists all\n";
  }

  const DataParts& data_;
  const int threads_;
  CheckedSplit train_, val_;
  std::vector<SampleProblem> shared_;  // of val, with train
  double seconds_ = 0;
};

absl::Status Check(const Arguments& arguments) {
  if (!arguments.report.empty()) {
    if (arguments.spec_only) return UsageError("--report lists samples, which --spec-only does not read");
    RETURN_IF_ERROR(CheckFolderOf(arguments.report));
  }
  ASSIGN_OR_RETURN(const Spec spec, arguments.spec.Load());
  const std::string no_mistakes = absl::StrCat(arguments.spec.path, ": no mistakes\n");
  if (arguments.spec_only) {
    std::cout << no_mistakes;
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const DataParts data, BuildData(spec.experiment()));
  const int threads = spec.experiment().data().threads();
  SampleCheck check(data, threads > 0 ? threads : std::max<int>(1, std::thread::hardware_concurrency()));
  check.Run();
  check.Print();
  if (!arguments.report.empty()) {
    RETURN_IF_ERROR(check.WriteReport(arguments.report));
    std::cerr << "wrote " << arguments.report << "\n";
  }
  if (const int64_t errors = check.CountErrors(); errors > 0) {
    return absl::DataLossError(absl::StrCat(arguments.spec.path,
                                            ": no mistakes in the spec, but images that are broken or mislabelled: ",
                                            WithThousands(errors), ", listed above"));
  }
  std::cout << no_mistakes;
  return absl::OkStatus();
}

}  // namespace

void AddCheck(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand(
      "check",
      "Find every mistake of an experiment without starting it, and read every image: exit code 2 if the spec has a "
      "mistake, 1 if an image is broken or mislabelled");
  arguments->spec.AddTo(*command);
  command->add_flag("--spec-only", arguments->spec_only, "Leave the images unread");
  command->add_option("--report", arguments->report, "Write every finding as CSV (split, sample, problem, detail)")
      ->type_name("FILE");
  command->callback([arguments, &action] { action = [arguments] { return Check(*arguments); }; });
}

}  // namespace graticule
