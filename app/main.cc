// The program's main, as a library: another repository links it with plugins of its own (tests/out_of_tree).
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "app/command.h"
#include "plugin/logging.h"
#include "plugin/status.h"
#include "plugin/version.h"

namespace {

// Warnings of any part of the program, as plain lines.
class StandardErrorSink : public google::LogSink {
 public:
  void send(google::LogSeverity severity, const char*, const char*, int, const google::LogMessageTime&,
            const char* message, size_t length) override {
    if (severity < google::GLOG_WARNING) return;
    // A progress line may stand on the terminal's last row.
    const char* begin = isatty(STDERR_FILENO) ? "\r\033[K" : "";
    std::fprintf(stderr, "%s%s: %.*s\n", begin, severity == google::GLOG_WARNING ? "warning" : "error",
                 static_cast<int>(length), message);
  }
};

void SetUpLogging(const char* program) {
  for (int severity = 0; severity < google::NUM_SEVERITIES; ++severity) google::SetLogDestination(severity, "");
  FLAGS_stderrthreshold = google::GLOG_FATAL;
  google::InitGoogleLogging(program);
  static auto* sink = new StandardErrorSink;
  google::AddLogSink(sink);
}

// The command line's error, and what an argument that nothing takes may have been meant for.
std::string Describe(const CLI::App& app, const CLI::Error& error) {
  const std::vector<CLI::App*> chosen = app.get_subcommands();
  std::vector<std::string> names;
  if (chosen.empty()) {
    for (const CLI::App* command : app.get_subcommands(/*filter=*/nullptr)) names.push_back(command->get_name());
    for (const std::string& argument : app.remaining()) {
      if (argument.starts_with('-')) continue;
      return absl::StrCat("there is no subcommand '", argument, "'", graticule::DidYouMean(argument, names));
    }
    return error.what();
  }
  for (const CLI::Option* option : chosen[0]->get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back(name);
  }
  std::string text = error.what();
  for (const std::string& argument : chosen[0]->remaining()) {
    if (!argument.starts_with("--")) continue;
    const std::string closest = graticule::ClosestName(argument.substr(2, argument.find('=') - 2), names);
    if (!closest.empty()) absl::StrAppend(&text, "; did you mean --", closest, "?");
  }
  return text;
}

int Report(absl::Status status) {
  // A full disk must not pass for success.
  if (!std::cout.flush() && status.ok()) status = absl::UnavailableError("cannot write to standard output");
  if (status.ok()) return 0;
  std::cerr << "graticule: " << status.message() << std::endl;
  return graticule::IsUsageError(status) ? 2 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  SetUpLogging(argv[0]);
  CLI::App app("Graticule trains vision transformers whose tokens know where their patches are.", "graticule");
  app.set_version_flag("--version", graticule::kVersion);
  app.require_subcommand(1);
  // The error itself comes last, as everywhere.
  app.failure_message([](const CLI::App* app, const CLI::Error& error) {
    return absl::StrCat("Run with --help for more information.\ngraticule: ", Describe(*app, error), "\n");
  });
  graticule::Action action;
  graticule::AddTrain(app, action);
  graticule::AddEval(app, action);
  graticule::AddPredict(app, action);
  graticule::AddShow(app, action);
  graticule::AddList(app, action);
  graticule::AddCheck(app, action);
  graticule::AddBench(app, action);
  graticule::AddImport(app, action);
  graticule::AddExport(app, action);
  graticule::AddReplay(app, action);
  // After the subcommands, which would inherit it.
  app.footer(
      "First steps:\n"
      "  graticule train configs/quickstart.textproto     train a small model on real digits, half a minute\n"
      "  graticule show configs/models/deit_tiny_patch16_224.textproto\n"
      "  graticule list                                    every plugin with its fields\n"
      "  graticule SUBCOMMAND --help                       what a subcommand takes");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  try {
    return Report(action());
  } catch (...) {
    return Report(graticule::CurrentExceptionToStatus("internal error"));
  }
}
