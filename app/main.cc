// The program's main, as a library: another repository links it with plugins of its own (tests/out_of_tree).
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
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

// The command line's error, and what was meant by an argument that nothing takes.
std::string Describe(const CLI::App& app, const CLI::Error& error) {
  const std::vector<CLI::App*> chosen = app.get_subcommands();
  const CLI::App& command = chosen.empty() ? app : *chosen[0];
  std::vector<std::string> commands, options, meant;
  for (const CLI::App* each : command.get_subcommands(/*filter=*/nullptr)) commands.push_back(each->get_name());
  for (const CLI::Option* each : command.get_options()) {
    for (const std::string& name : each->get_lnames()) options.push_back(name);
  }
  for (const std::string& argument : command.remaining()) {
    if (chosen.empty() && !argument.starts_with('-')) {
      return absl::StrCat("there is no subcommand '", argument, "'", graticule::DidYouMean(argument, commands));
    }
    if (!argument.starts_with("--")) continue;
    const std::string name = graticule::ClosestName(argument.substr(2, argument.find('=') - 2), options);
    if (!name.empty()) meant.push_back("--" + name);
  }
  return absl::StrCat(error.what(),
                      meant.empty() ? "" : absl::StrCat("; did you mean ", absl::StrJoin(meant, ", "), "?"));
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
