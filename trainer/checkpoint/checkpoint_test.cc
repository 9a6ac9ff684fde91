#include "trainer/checkpoint/checkpoint.h"

#include <openssl/evp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ATen/Parallel.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/full.h"
#include "absl/base/casts.h"
#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "google/protobuf/util/message_differencer.h"
#include "gtest/gtest.h"
#include "plugin/file.h"
#include "tests/faults/shim/fault_shim.h"

namespace graticule {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

// Tensors whose values tell the step and the file.
Safetensors Tensors(const std::string& name, int64_t elements, double value) {
  Safetensors contents;
  contents.tensors.emplace_back(name, at::full({elements}, value, at::kFloat));
  return contents;
}

Checkpoint NewCheckpoint(int64_t step, int64_t elements = 100) {
  Checkpoint checkpoint;
  checkpoint.state.set_step(step);
  checkpoint.state.set_epoch(2);
  checkpoint.state.set_seed(7);
  checkpoint.state.set_best_metric("val/top1");
  checkpoint.state.set_best_value(97.5);
  checkpoint.model = Tensors("blocks.0.weight", elements, step);
  checkpoint.model.metadata["class_names"] = "cat\ndog";
  checkpoint.objectives = Tensors("apl.head.weight", elements, step + 0.25);
  checkpoint.ema = Tensors("blocks.0.weight", elements, step + 0.5);
  checkpoint.optimizer = Tensors("exp_avg.blocks.0.weight", elements, step + 0.75);
  return checkpoint;
}

void ExpectEqual(const Safetensors& found, const Safetensors& expected) {
  ASSERT_EQ(found.tensors.size(), expected.tensors.size());
  for (const auto& [name, tensor] : expected.tensors) EXPECT_TRUE(at::equal(found.Find(name), tensor)) << name;
}

void ExpectEqual(const Checkpoint& found, const Checkpoint& expected) {
  EXPECT_EQ(found.state.SerializeAsString(), expected.state.SerializeAsString());
  ExpectEqual(found.model, expected.model);
  ExpectEqual(found.objectives, expected.objectives);
  ExpectEqual(found.ema, expected.ema);
  ExpectEqual(found.optimizer, expected.optimizer);
  EXPECT_EQ(found.model.metadata, expected.model.metadata);
}

void Overwrite(const std::string& path, const std::string& bytes) { ASSERT_TRUE(WriteFile(path, bytes).ok()); }

class CheckpointTest : public testing::Test {
 protected:
  CheckpointTest() : run_(testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name()) {
    fs::remove_all(run_);
    fs::create_directories(run_);
    Fail("");
  }
  ~CheckpointTest() override { SetFaults(""); }

  // Sets faults, of which an empty text has none. Most tests need not wait for the disk.
  static void Fail(const std::string& faults) {
    SetFaults(absl::StrCat(faults, faults.empty() ? "" : ";", "SKIP:fsync:/"));
  }

  void Save(int64_t step) { ASSERT_EQ(SaveCheckpoint(run_, NewCheckpoint(step)), absl::OkStatus()); }

  std::string Folder(const std::string& name) const { return run_ + "/checkpoints/" + name; }

  std::vector<std::string> Names(const std::string& folder) const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
    return names;
  }

  // What a run that starts now goes on from.
  void ExpectNewest(int64_t step) {
    const auto newest = LoadNewestCheckpoint(run_, [this](const std::string& text) { reports_.push_back(text); });
    ASSERT_TRUE(newest.ok()) << newest.status();
    ASSERT_TRUE(newest->has_value());
    ExpectEqual(**newest, NewCheckpoint(step));
    EXPECT_EQ(fs::read_symlink(Folder("last")), absl::StrCat("step-00000", step));
  }

  std::string run_;
  std::vector<std::string> reports_;
};

TEST_F(CheckpointTest, WhatIsSavedIsLoaded) {
  SetFaults("");
  Save(3);
  EXPECT_THAT(Names(run_ + "/checkpoints"), UnorderedElementsAre("step-000003", "last"));
  EXPECT_THAT(Names(Folder("step-000003")),
              UnorderedElementsAre("model.safetensors", "objectives.safetensors", "ema.safetensors",
                                   "optimizer.safetensors", "state.textproto", "manifest.textproto"));
  const auto loaded = LoadCheckpoint(Folder("step-000003"));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  ExpectEqual(*loaded, NewCheckpoint(3));
  ExpectNewest(3);
}

TEST_F(CheckpointTest, EmptyPartsHaveNoFiles) {
  Checkpoint checkpoint = NewCheckpoint(1);
  checkpoint.objectives = checkpoint.ema = checkpoint.optimizer = {};
  ASSERT_TRUE(SaveCheckpoint(run_, checkpoint).ok());
  EXPECT_THAT(Names(Folder("step-000001")),
              UnorderedElementsAre("model.safetensors", "state.textproto", "manifest.textproto"));
  ExpectEqual(*LoadCheckpoint(Folder("step-000001")), checkpoint);
}

TEST_F(CheckpointTest, ManifestHoldsSizesAndChecksums) {
  Save(1);
  Overwrite(Folder("step-000001/state.textproto"), "abc");
  Manifest manifest;
  ASSERT_TRUE(
      google::protobuf::TextFormat::ParseFromString(*ReadFile(Folder("step-000001/manifest.textproto")), &manifest));
  for (Manifest::File& file : *manifest.mutable_files()) {
    if (file.name() != "state.textproto") {
      EXPECT_EQ(file.size(), fs::file_size(Folder("step-000001/" + file.name())));
      continue;
    }
    // "abc" has the sum that FIPS 180-2 gives in its appendix.
    file.set_size(3);
    file.set_sha256("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  }
  std::string text;
  ASSERT_TRUE(google::protobuf::TextFormat::PrintToString(manifest, &text));
  Overwrite(Folder("step-000001/manifest.textproto"), text);
  // It passes the checksum, and then is no state.
  EXPECT_THAT(std::string(LoadCheckpoint(Folder("step-000001")).status().message()),
              AllOf(HasSubstr("state.textproto'"), HasSubstr("line 1")));
}

// Every bit of them, since training goes on from them.
TEST_F(CheckpointTest, NumbersOfTheStateAreExact) {
  Checkpoint checkpoint = NewCheckpoint(1);
  std::vector<double> values = {0.1,
                                -0.0,
                                1.0 / 3,
                                std::numeric_limits<double>::max(),
                                std::numeric_limits<double>::min(),
                                std::numeric_limits<double>::denorm_min(),
                                std::numeric_limits<double>::infinity(),
                                -std::numeric_limits<double>::infinity()};
  std::mt19937_64 random(1);
  while (values.size() < 1000) {
    const double value = absl::bit_cast<double>(random());
    if (!std::isnan(value)) values.push_back(value);
  }
  RankWindow* window = checkpoint.state.add_window();
  for (const double value : values) {
    MetricSum* sum = window->add_sums();
    sum->set_name("train/\"loss\"");
    sum->set_sum(value);
    sum->set_count(-value);
    (*checkpoint.state.mutable_latest())[absl::StrCat("metric", window->sums_size())] = value;
  }
  checkpoint.state.set_loss_scale(65536);
  checkpoint.state.set_best_value(values[2]);
  ASSERT_EQ(SaveCheckpoint(run_, checkpoint), absl::OkStatus());
  const auto loaded = LoadCheckpoint(Folder("step-000001"));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(loaded->state, checkpoint.state));
  for (size_t i = 0; i < values.size(); ++i) {
    const MetricSum& sum = loaded->state.window(0).sums(static_cast<int>(i));
    EXPECT_EQ(absl::bit_cast<uint64_t>(sum.sum()), absl::bit_cast<uint64_t>(values[i])) << values[i];
    EXPECT_EQ(absl::bit_cast<uint64_t>(sum.count()), absl::bit_cast<uint64_t>(-values[i])) << values[i];
  }

  (*checkpoint.state.mutable_latest())["lost"] = std::numeric_limits<double>::quiet_NaN();
  ASSERT_EQ(SaveCheckpoint(run_, checkpoint), absl::OkStatus());
  EXPECT_TRUE(std::isnan(LoadCheckpoint(Folder("step-000001"))->state.latest().at("lost")));
}

TEST_F(CheckpointTest, SavingAStepAgainReplacesIt) {
  Save(1);
  Checkpoint other = NewCheckpoint(1);
  other.model = Tensors("blocks.0.weight", 5, 42);
  ASSERT_TRUE(SaveCheckpoint(run_, other).ok());
  EXPECT_EQ(LoadCheckpoint(Folder("step-000001"))->model.Find("blocks.0.weight").numel(), 5);
  EXPECT_THAT(Names(run_ + "/checkpoints"), UnorderedElementsAre("step-000001", "last"));
}

TEST_F(CheckpointTest, NothingIsFoundInAFreshRun) {
  const auto newest = LoadNewestCheckpoint(run_, [](const std::string& text) { FAIL() << text; });
  ASSERT_TRUE(newest.ok()) << newest.status();
  EXPECT_FALSE(newest->has_value());

  // Nor in one that was killed in its first save.
  fs::create_directories(Folder("step-000003.tmp"));
  const auto killed = LoadNewestCheckpoint(run_, [](const std::string& text) { FAIL() << text; });
  ASSERT_TRUE(killed.ok()) << killed.status();
  EXPECT_FALSE(killed->has_value());
}

TEST_F(CheckpointTest, ARunThatHasOnlyDamagedOnesDoesNotStartAnew) {
  Save(1);
  Save(2);
  for (const char* name : {"step-000001", "step-000002"}) fs::remove(Folder(name) + "/model.safetensors");
  // Whether they can be set aside or not, and however often it is started.
  for (const auto& [fault, reports] : {std::pair("EROFS:rename:/checkpoints", 2), {"", 2}, {"", 0}}) {
    reports_.clear();
    Fail(fault);
    const auto newest = LoadNewestCheckpoint(run_, [&](const std::string& text) { reports_.push_back(text); });
    EXPECT_TRUE(absl::IsDataLoss(newest.status())) << newest.status();
    const std::string damaged = *fault == '\0' ? ".damaged" : "";
    EXPECT_THAT(std::string(newest.status().message()),
                AllOf(HasSubstr(absl::StrCat("'", Folder("step-000001"), damaged, "'")),
                      HasSubstr(absl::StrCat("'", Folder("step-000002"), damaged, "'")), HasSubstr("--output")));
    EXPECT_EQ(reports_.size(), reports);
  }
  fs::remove_all(run_ + "/checkpoints");
  EXPECT_FALSE(LoadNewestCheckpoint(run_, [](const std::string& text) { FAIL() << text; })->has_value());
}

TEST_F(CheckpointTest, NewestIsByNumberNotByName) {
  ASSERT_TRUE(SaveCheckpoint(run_, NewCheckpoint(999'999)).ok());
  ASSERT_TRUE(SaveCheckpoint(run_, NewCheckpoint(1'000'000)).ok());
  const auto newest = LoadNewestCheckpoint(run_, [](const std::string& text) { FAIL() << text; });
  EXPECT_EQ((*newest)->state.step(), 1'000'000);
}

// Cuts, changes and removes each file of the newest in turn: every time it is noticed, and the one before serves.
TEST_F(CheckpointTest, DamagedOneIsSetAsideAndTheOneBeforeUsed) {
  Save(1);
  Save(2);
  for (const std::string& name : Names(Folder("step-000002"))) {
    const std::string path = Folder("step-000002/") + name;
    const std::string whole = *ReadFile(path);
    std::vector<std::optional<std::string>> damages = {std::nullopt, "", whole.substr(0, whole.size() / 2),
                                                       whole.substr(0, whole.size() - 2)};
    for (const size_t at : {size_t{0}, whole.size() / 3, whole.size() / 2, whole.size() - 2}) {
      damages.push_back(whole);
      damages.back()->at(at) ^= 1;
    }
    for (size_t i = 0; i < damages.size(); ++i) {
      SCOPED_TRACE(absl::StrCat(name, ", damage ", i));
      if (damages[i].has_value()) {
        Overwrite(path, *damages[i]);
      } else {
        fs::remove(path);
      }
      reports_.clear();
      const absl::Status status = LoadCheckpoint(Folder("step-000002")).status();
      EXPECT_TRUE(absl::IsDataLoss(status)) << status;
      ExpectNewest(1);
      EXPECT_THAT(reports_,
                  ElementsAre(AllOf(HasSubstr("step-000002"), HasSubstr("set aside as"), HasSubstr(".damaged"))));
      if (name != "manifest.textproto") EXPECT_THAT(reports_, ElementsAre(HasSubstr(name)));
      EXPECT_FALSE(fs::exists(Folder("step-000002")));
      Save(2);
    }
  }
}

TEST_F(CheckpointTest, EmptyAndRenamedFoldersAreSetAside) {
  Save(1);
  fs::create_directory(Folder("step-000002"));
  ExpectNewest(1);
  EXPECT_THAT(reports_, ElementsAre(AllOf(HasSubstr("step-000002' is no whole checkpoint: it has no manifest"),
                                          HasSubstr("set aside as"))));
  reports_.clear();
  fs::copy(Folder("step-000001"), Folder("step-000003"));
  ExpectNewest(1);
  EXPECT_THAT(reports_, ElementsAre(HasSubstr("step-000003' holds the step 1; set aside as")));
  // A file of such a name is nobody's checkpoint.
  Overwrite(Folder("step-000004"), "");
  ExpectNewest(1);
}

// Of a file and of the manifest's line about it, as a program would write them that knows more.
TEST_F(CheckpointTest, WhatANewerVersionWroteIsRefusedAndStays) {
  Save(1);
  Save(2);
  const std::string folder = Folder("step-000002");
  const std::string text = *ReadFile(folder + "/state.textproto");
  const std::string manifest = *ReadFile(folder + "/manifest.textproto");
  const std::string newer = text + "graticule_version: \"9.1\"\nphase_of_the_moon: 0.5\n";
  Overwrite(folder + "/state.textproto", newer);
  Manifest changed;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(manifest, &changed));
  for (Manifest::File& file : *changed.mutable_files()) {
    if (file.name() != "state.textproto") continue;
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    ASSERT_EQ(EVP_Digest(newer.data(), newer.size(), digest, &size, EVP_sha256(), nullptr), 1);
    file.set_size(static_cast<int64_t>(newer.size()));
    file.set_sha256(absl::BytesToHexString({reinterpret_cast<const char*>(digest), size}));
  }
  std::string changed_text;
  ASSERT_TRUE(google::protobuf::TextFormat::PrintToString(changed, &changed_text));
  Overwrite(folder + "/manifest.textproto", changed_text);
  const auto newest = LoadNewestCheckpoint(run_, [](const std::string& text) { FAIL() << text; });
  EXPECT_TRUE(absl::IsFailedPrecondition(newest.status()));
  EXPECT_THAT(std::string(newest.status().message()),
              AllOf(HasSubstr("step-000002/state.textproto' was written by Graticule 9.1 and says what this one, "),
                    HasSubstr("does not know: line"), HasSubstr("phase_of_the_moon")));
  EXPECT_TRUE(fs::exists(folder));

  Overwrite(folder + "/state.textproto", text);
  Overwrite(folder + "/manifest.textproto", manifest + "files { name: \"moon.safetensors\" }\n");
  EXPECT_THAT(std::string(LoadNewestCheckpoint(run_, [](const std::string&) {}).status().message()),
              AllOf(HasSubstr("step-000002' has a file that this Graticule"), HasSubstr("moon.safetensors")));
  EXPECT_TRUE(fs::exists(folder));
  // Its weights are weights all the same.
  EXPECT_TRUE(ReadWeights(folder, true).ok());
}

TEST_F(CheckpointTest, WithoutALinkTheNewestServes) {
  Save(1);
  Save(2);
  for (const bool dangling : {false, true}) {
    fs::remove(Folder("last"));
    if (dangling) fs::create_symlink("step-000009", Folder("last"));
    const auto weights = ReadWeights(run_, false);
    ASSERT_TRUE(weights.ok()) << weights.status();
    EXPECT_EQ(weights->Find("blocks.0.weight")[0].item<float>(), 2);
  }
}

TEST_F(CheckpointTest, UnreadableOneIsNotTakenForDamaged) {
  Save(1);
  Save(2);
  const std::string path = Folder("step-000002/model.safetensors");
  fs::remove(path);
  fs::create_directory(path);
  const auto newest = LoadNewestCheckpoint(run_, [](const std::string& text) { FAIL() << text; });
  EXPECT_THAT(std::string(newest.status().message()), HasSubstr("Is a directory"));
  EXPECT_TRUE(fs::exists(Folder("step-000002")));
}

// What a kill at any point of a save leaves behind.
TEST_F(CheckpointTest, HalfWrittenSavesAreHarmless) {
  Save(1);
  Save(2);
  fs::copy(Folder("step-000002"), Folder("step-000003.tmp"));
  Overwrite(Folder("step-000003.tmp/model.safetensors"), "cut");
  fs::remove(Folder("step-000003.tmp/manifest.textproto"));
  fs::copy(Folder("step-000001"), Folder("step-000001.tmp"));
  fs::create_symlink("step-000003", Folder("last.tmp"));
  ExpectNewest(2);
  EXPECT_THAT(reports_, IsEmpty());
  Save(3);
  ExpectNewest(3);
  ASSERT_TRUE(PruneCheckpoints(run_, {.keep = 2}).ok());
  EXPECT_THAT(Names(run_ + "/checkpoints"), UnorderedElementsAre("step-000002", "step-000003", "last"));

  // Killed between the renaming of the folder and the moving of the link.
  fs::remove(Folder("last"));
  fs::create_symlink("step-000002", Folder("last"));
  ExpectNewest(3);
  EXPECT_THAT(reports_, IsEmpty());
}

TEST_F(CheckpointTest, FileSizeLimitWhileSavingHarmsNothing) {
  Save(1);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit old_limit;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old_limit), 0);
  rlimit limit = old_limit;
  limit.rlim_cur = 100'000;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  const absl::Status status = SaveCheckpoint(run_, NewCheckpoint(2, 1'000'000));
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &old_limit), 0);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("cannot save the checkpoint of step 2"),
                                                   HasSubstr("model.safetensors"), HasSubstr("File too large")));
  EXPECT_THAT(Names(run_ + "/checkpoints"), UnorderedElementsAre("step-000001", "last"));
  ExpectNewest(1);
}

// Each call to the system that a save makes, and how often it may.
constexpr const char* kCalls[] = {"open", "write", "fsync", "rename", "mkdir", "symlink", "remove"};

// Fails each call of a save in turn, once or from then on: every time the older checkpoint is whole, the error names
// the step, and once the fault is gone saving works.
TEST_F(CheckpointTest, EveryCallThatFailsWhileSavingHarmsNothing) {
  int faults = 0;
  for (const char* call : kCalls) {
    for (const char* error : {"ENOSPC", "EIO", "EROFS"}) {
      for (int after = 0, happened = 1; happened > 0; ++after) {
        SCOPED_TRACE(absl::StrCat(error, " at call ", after, " of ", call));
        fs::remove_all(run_);
        fs::create_directories(run_);
        // Saving again replaces the folder, which is a way of its own.
        for (const int step : {1, 2}) Save(step);
        // Bytes of write, so that it fails within files and between them.
        const int64_t skipped = std::string_view(call) == "write" ? int64_t{150} * after : after;
        Fail(absl::StrCat(error, ":", call, ":/checkpoints:", skipped));
        const absl::Status status = SaveCheckpoint(run_, NewCheckpoint(after % 2 == 0 ? 3 : 2));
        happened = FaultCount();
        faults += happened;
        Fail("");
        if (happened > 0 && std::string_view(call) != "remove") {
          EXPECT_THAT(std::string(status.message()), HasSubstr("cannot save the checkpoint of step"));
        } else {
          EXPECT_TRUE(status.ok()) << status;
        }
        // What fails last, such as moving the link, leaves the new one.
        const int64_t newest = fs::exists(Folder("step-000003")) ? 3 : 2;
        const auto found = LoadNewestCheckpoint(run_, [](const std::string& text) { FAIL() << text; });
        ASSERT_TRUE(found.ok()) << found.status();
        ASSERT_TRUE(found->has_value());
        ExpectEqual(**found, NewCheckpoint(newest));
        Save(4);
        ExpectNewest(4);
        EXPECT_THAT(Names(run_ + "/checkpoints"), testing::Not(testing::Contains(HasSubstr(".tmp"))));
      }
    }
  }
  EXPECT_GT(faults, 100);
}

// A kill in place of each call of a save and of what is removed afterwards.
TEST_F(CheckpointTest, AKillAtEveryCallHarmsNothing) {
  at::set_num_threads(1);
  int kills = 0;
  for (const char* call : kCalls) {
    for (int after = 0; true; ++after) {
      SCOPED_TRACE(absl::StrCat("at call ", after, " of ", call));
      fs::remove_all(run_);
      fs::create_directories(run_);
      for (const int step : {1, 2}) Save(step);
      ASSERT_TRUE(PruneCheckpoints(run_, {.keep = 2, .best = 1}).ok());
      const pid_t child = fork();
      ASSERT_GE(child, 0);
      if (child == 0) {
        const int64_t skipped = std::string_view(call) == "write" ? int64_t{300} * after : after;
        Fail(absl::StrCat("SIGKILL:", call, ":/checkpoints:", skipped));
        const bool saved = SaveCheckpoint(run_, NewCheckpoint(2)).ok() && SaveCheckpoint(run_, NewCheckpoint(3)).ok();
        _exit(saved && PruneCheckpoints(run_, {.keep = 1, .best = 2}).ok() ? 0 : 1);
      }
      int status = 0;
      ASSERT_EQ(waitpid(child, &status, 0), child);
      const auto found = LoadNewestCheckpoint(run_, [](const std::string& text) { FAIL() << text; });
      ASSERT_TRUE(found.ok()) << found.status();
      ASSERT_TRUE(found->has_value());
      const int64_t step = (*found)->state.step();
      EXPECT_GE(step, 2);
      ExpectEqual(**found, NewCheckpoint(step));
      EXPECT_EQ(fs::read_symlink(Folder("last")), absl::StrCat("step-00000", step));
      EXPECT_TRUE(ReadWeights(run_, false).ok());
      EXPECT_TRUE(ReadWeights(Folder("best"), false).ok());
      Save(4);
      ASSERT_TRUE(PruneCheckpoints(run_, {.keep = 1}).ok());
      EXPECT_THAT(Names(run_ + "/checkpoints"), UnorderedElementsAre("step-000004", "last"));
      if (WIFEXITED(status)) {
        EXPECT_EQ(WEXITSTATUS(status), 0);
        break;
      }
      ++kills;
    }
  }
  EXPECT_GT(kills, 50);
}

// Network file systems can't exchange two names.
TEST_F(CheckpointTest, AStepIsReplacedWhereNamesCannotBeExchanged) {
  Save(1);
  Checkpoint other = NewCheckpoint(1);
  other.model = Tensors("blocks.0.weight", 5, 42);
  Fail("EINVAL:rename:/step-000001:0:1");
  EXPECT_EQ(SaveCheckpoint(run_, other), absl::OkStatus());
  EXPECT_EQ(FaultCount(), 1);
  EXPECT_EQ(LoadCheckpoint(Folder("step-000001"))->model.Find("blocks.0.weight").numel(), 5);
  EXPECT_THAT(Names(run_ + "/checkpoints"), UnorderedElementsAre("step-000001", "last"));
  // And if the new one then can't take its place, the old one has it again.
  Fail("EINVAL:rename:/step-000001:0:1;EIO:rename:/step-000001:1:1");
  EXPECT_THAT(std::string(SaveCheckpoint(run_, NewCheckpoint(1)).message()), HasSubstr("Input/output error"));
  Fail("");
  EXPECT_EQ(LoadCheckpoint(Folder("step-000001"))->model.Find("blocks.0.weight").numel(), 5);
  // Or as soon as the disk lets it.
  Fail("EINVAL:rename:/step-000001:0:1;EIO:rename:/step-000001:1");
  EXPECT_FALSE(SaveCheckpoint(run_, NewCheckpoint(1)).ok());
  const auto failed = LoadNewestCheckpoint(run_, [](const std::string& text) { FAIL() << text; });
  EXPECT_THAT(std::string(failed.status().message()), HasSubstr("Input/output error"));
  Fail("");
  const auto newest = LoadNewestCheckpoint(run_, [](const std::string& text) { FAIL() << text; });
  ASSERT_TRUE(newest.ok() && newest->has_value()) << newest.status();
  EXPECT_EQ((*newest)->model.Find("blocks.0.weight").numel(), 5);
}

TEST_F(CheckpointTest, AKillWhereNamesCannotBeExchangedHarmsNothing) {
  at::set_num_threads(1);
  for (const int after : {0, 1}) {
    SCOPED_TRACE(absl::StrCat("at rename ", after));
    fs::remove_all(run_);
    fs::create_directories(run_);
    for (const int step : {1, 2}) Save(step);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      Fail(absl::StrCat("EINVAL:rename:/step-000002:0:1;SIGKILL:rename:/step-000002:", after));
      SaveCheckpoint(run_, NewCheckpoint(2)).IgnoreError();
      _exit(0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    ExpectNewest(2);
    EXPECT_THAT(reports_, IsEmpty());
    Save(3);
    EXPECT_THAT(Names(run_ + "/checkpoints"),
                UnorderedElementsAre("step-000001", "step-000002", "step-000003", "last"));
    EXPECT_TRUE(LoadCheckpoint(Folder("step-000002")).ok());
  }
}

// As `cp -rL` leaves a run.
TEST_F(CheckpointTest, FoldersInThePlaceOfLinksGiveWay) {
  Save(1);
  fs::remove(Folder("last"));
  for (const char* link : {"last", "best"}) fs::copy(Folder("step-000001"), Folder(link));
  ExpectNewest(1);
  fs::remove(Folder("last"));
  fs::copy(Folder("step-000001"), Folder("last"));
  Save(2);
  EXPECT_EQ(PruneCheckpoints(run_, {.keep = 1, .best = 1}), absl::OkStatus());
  EXPECT_EQ(fs::read_symlink(Folder("last")), "step-000002");
  EXPECT_EQ(fs::read_symlink(Folder("best")), "step-000001");
  EXPECT_THAT(Names(run_ + "/checkpoints"), UnorderedElementsAre("step-000001", "step-000002", "last", "best"));
}

TEST_F(CheckpointTest, ADamagedOneThatCannotBeSetAsideIsPassedOver) {
  Save(1);
  Save(2);
  fs::remove(Folder("step-000002/model.safetensors"));
  Fail("EROFS:open,rename,mkdir,symlink,remove:/checkpoints");
  const auto newest = LoadNewestCheckpoint(run_, [&](const std::string& text) { reports_.push_back(text); });
  ASSERT_TRUE(newest.ok() && newest->has_value()) << newest.status();
  EXPECT_EQ((*newest)->state.step(), 1);
  EXPECT_THAT(reports_, ElementsAre(AllOf(HasSubstr("model.safetensors' is missing"), HasSubstr("Read-only")),
                                    HasSubstr("Read-only")));
}

TEST_F(CheckpointTest, AnErrorOfTheDiskWhileLoadingIsNoDamage) {
  Save(1);
  Save(2);
  Fail("EIO:read:step-000002/optimizer");
  const auto newest = LoadNewestCheckpoint(run_, [](const std::string& text) { FAIL() << text; });
  EXPECT_THAT(std::string(newest.status().message()),
              AllOf(HasSubstr("step-000002/optimizer.safetensors"), HasSubstr("Input/output error")));
  Fail("");
  ExpectNewest(2);
}

TEST_F(CheckpointTest, PruneTriesAllAndSaysWhatFailed) {
  for (int step = 1; step <= 5; ++step) Save(step);
  Fail("EACCES:rename:/step-000002");
  EXPECT_THAT(std::string(PruneCheckpoints(run_, {.keep = 2}).message()),
              AllOf(HasSubstr("step-000002"), HasSubstr("Permission denied")));
  EXPECT_THAT(Names(run_ + "/checkpoints"), UnorderedElementsAre("step-000002", "step-000004", "step-000005", "last"));
  Fail("EACCES:remove:/step-");
  EXPECT_THAT(std::string(PruneCheckpoints(run_, {.keep = 1}).message()), HasSubstr("cannot remove"));
  Fail("");
  EXPECT_TRUE(PruneCheckpoints(run_, {.keep = 1}).ok());
  EXPECT_THAT(Names(run_ + "/checkpoints"), UnorderedElementsAre("step-000005", "last"));
}

// Makes this process root of a user namespace with a tiny file system at `path`, where the kernel lets users do that.
bool MountTinyDisk(const std::string& path) {
  const std::string users = absl::StrCat("0 ", geteuid(), " 1"), groups = absl::StrCat("0 ", getegid(), " 1");
  return unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 && WriteFile("/proc/self/setgroups", "deny").ok() &&
         WriteFile("/proc/self/uid_map", users).ok() && WriteFile("/proc/self/gid_map", groups).ok() &&
         mount("tmpfs", path.c_str(), "tmpfs", 0, "size=262144") == 0;
}

TEST_F(CheckpointTest, FullDiskWhileSavingHarmsNothing) {
  constexpr int kNotAllowed = 77;
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    struct Exit {
      int code = 1;
      ~Exit() { _exit(code); }
    } exit;
    if (!MountTinyDisk(run_)) {
      exit.code = kNotAllowed;
      return;
    }
    Save(1);
    // Room for one more file, but not for all.
    const absl::Status status = SaveCheckpoint(run_, NewCheckpoint(2, 25'000));
    EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("No space left on device"));
    EXPECT_THAT(Names(run_ + "/checkpoints"), UnorderedElementsAre("step-000001", "last"));
    ExpectNewest(1);
    Save(3);
    ExpectNewest(3);
    exit.code = HasFailure() ? 1 : 0;
    return;
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == kNotAllowed) GTEST_SKIP() << "this machine does not let users mount in a namespace";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_F(CheckpointTest, FolderThatCannotBeMade) {
  Overwrite(run_ + "/file", "");
  const absl::Status status = SaveCheckpoint(run_ + "/file", NewCheckpoint(1));
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("cannot save the checkpoint of step 1"), HasSubstr("/file/checkpoints")));
}

TEST_F(CheckpointTest, ReadOnlyFolder) {
  Save(1);
  Fail("EACCES:open,rename,mkdir,symlink,remove:/checkpoints");
  const absl::Status status = SaveCheckpoint(run_, NewCheckpoint(2));
  EXPECT_TRUE(absl::IsPermissionDenied(status)) << status;
  ExpectNewest(1);
}

TEST_F(CheckpointTest, PruneKeepsTheNewestAndTheBest) {
  for (int step = 1; step <= 5; ++step) Save(step);
  fs::create_directory(Folder("step-000009.damaged"));
  ASSERT_TRUE(PruneCheckpoints(run_, {.keep = 2, .best = 2}).ok());
  EXPECT_THAT(Names(run_ + "/checkpoints"),
              UnorderedElementsAre("step-000002", "step-000004", "step-000005", "step-000009.damaged", "last", "best"));
  EXPECT_EQ(ReadWeights(Folder("best"), false)->Find("blocks.0.weight")[0].item<float>(), 2);
  ASSERT_TRUE(PruneCheckpoints(run_, {.keep = 2, .best = 4}).ok());
  EXPECT_EQ(ReadWeights(Folder("best"), true)->Find("blocks.0.weight")[0].item<float>(), 4.5);
  EXPECT_THAT(Names(run_ + "/checkpoints"),
              UnorderedElementsAre("step-000004", "step-000005", "step-000009.damaged", "last", "best"));
  // The folder of that step could not be written: the best one before it stays.
  ASSERT_TRUE(PruneCheckpoints(run_, {.keep = 1, .best = 2}).ok());
  EXPECT_THAT(Names(run_ + "/checkpoints"),
              UnorderedElementsAre("step-000004", "step-000005", "step-000009.damaged", "last", "best"));
  EXPECT_EQ(fs::read_symlink(Folder("best")), "step-000004");
  fs::remove_all(Folder("step-000004"));
  ASSERT_TRUE(PruneCheckpoints(run_, {.keep = 1, .best = 2}).ok());
  EXPECT_THAT(Names(run_ + "/checkpoints"), UnorderedElementsAre("step-000005", "step-000009.damaged", "last"));
  ASSERT_TRUE(PruneCheckpoints(run_, {.keep = 1, .best = 5}).ok());
  EXPECT_THAT(Names(run_ + "/checkpoints"), UnorderedElementsAre("step-000005", "step-000009.damaged", "last", "best"));
  ASSERT_TRUE(PruneCheckpoints(run_, {.keep = 0}).ok());
  EXPECT_THAT(Names(run_ + "/checkpoints"), UnorderedElementsAre("step-000005", "step-000009.damaged", "last"));
  ExpectNewest(5);
  EXPECT_TRUE(PruneCheckpoints(run_ + "/none", {.best = 2}).ok());
}

TEST_F(CheckpointTest, PruneKeepsEveryMultiple) {
  for (int step = 1; step <= 9; ++step) Save(step);
  ASSERT_TRUE(PruneCheckpoints(run_, {.keep = 2, .every = 3, .best = 4}).ok());
  EXPECT_THAT(Names(run_ + "/checkpoints"), UnorderedElementsAre("step-000003", "step-000004", "step-000006",
                                                                 "step-000008", "step-000009", "last", "best"));
}

// As when a damaged newer one could not be set aside.
TEST_F(CheckpointTest, PruneKeepsTheLastOneWhateverItsNumber) {
  for (const int step : {1, 8, 9, 2}) Save(step);
  ASSERT_TRUE(PruneCheckpoints(run_, {.keep = 1}).ok());
  EXPECT_THAT(Names(run_ + "/checkpoints"), UnorderedElementsAre("step-000002", "step-000009", "last"));
}

TEST_F(CheckpointTest, WeightsComeFromARunAStepFolderOrAFile) {
  Save(1);
  Save(2);
  const auto value = [](const absl::StatusOr<Safetensors>& weights) {
    EXPECT_TRUE(weights.ok()) << weights.status();
    EXPECT_EQ(weights->metadata.at("class_names"), "cat\ndog");
    return weights->Find("blocks.0.weight")[0].item<float>();
  };
  EXPECT_EQ(value(ReadWeights(run_, false)), 2);
  EXPECT_EQ(value(ReadWeights(run_ + "/", true)), 2.5);
  EXPECT_EQ(value(ReadWeights(Folder("step-000001"), false)), 1);
  EXPECT_EQ(value(ReadWeights(Folder("step-000001"), true)), 1.5);
  EXPECT_EQ(value(ReadWeights(Folder("step-000001/model.safetensors"), true)), 1);

  Checkpoint without_ema = NewCheckpoint(3);
  without_ema.ema = {};
  ASSERT_TRUE(SaveCheckpoint(run_, without_ema).ok());
  EXPECT_EQ(value(ReadWeights(run_, true)), 3);
}

TEST_F(CheckpointTest, WeightsThatCannotBeReadSayWhy) {
  const auto error = [](const std::string& path) { return std::string(ReadWeights(path, false).status().message()); };
  EXPECT_THAT(error(run_ + "/none"), AllOf(HasSubstr("there is no checkpoint"), HasSubstr("/none")));
  EXPECT_THAT(error(run_), HasSubstr("neither checkpoints/last"));

  Save(1);
  const std::string model = Folder("step-000001/model.safetensors");
  const std::string whole = *ReadFile(model);
  std::string flipped = whole;
  flipped[whole.size() - 5] ^= 4;
  Overwrite(model, flipped);
  for (const std::string& path : {run_, Folder("step-000001"), model}) {
    EXPECT_THAT(error(path), AllOf(HasSubstr("model.safetensors' is damaged"), HasSubstr("have changed"))) << path;
  }
  Overwrite(model, whole.substr(0, 300));
  EXPECT_THAT(error(run_), HasSubstr(absl::StrCat("it has 300 bytes instead of ", whole.size())));
  // Without a manifest beside it, a cut file still can't pass.
  Overwrite(run_ + "/alone.safetensors", whole.substr(0, 300));
  EXPECT_THAT(error(run_ + "/alone.safetensors"), AllOf(HasSubstr("alone.safetensors"), HasSubstr("may be truncated")));

  Overwrite(run_ + "/cut.pth", "PK\x03\x04 and so on");
  EXPECT_THAT(error(run_ + "/cut.pth"), AllOf(HasSubstr("cut.pth'"), HasSubstr("damaged or truncated zip")));
}

TEST_F(CheckpointTest, WeightsOfObjectivesComeWithThoseOfTheModel) {
  for (const int64_t step : {3, 4}) ASSERT_TRUE(SaveCheckpoint(run_, NewCheckpoint(step, 5)).ok());
  for (const auto& [path, expected] : {std::pair(run_, 4.25), std::pair(Folder("step-000003"), 3.25)}) {
    const auto weights = ReadWeights(path, true);
    ASSERT_TRUE(weights.ok()) << weights.status();
    ASSERT_TRUE(weights->Find("objectives.apl.head.weight").defined());
    EXPECT_EQ(weights->Find("objectives.apl.head.weight").flatten()[0].item<float>(), expected);
  }
  EXPECT_FALSE(
      ReadWeights(Folder("step-000003/model.safetensors"), true)->Find("objectives.apl.head.weight").defined());
}

TEST_F(CheckpointTest, WeightsComeFromAnExportedFolder) {
  fs::create_directory(run_ + "/exported");
  ASSERT_TRUE(WriteSafetensors(run_ + "/exported/model.safetensors", NewCheckpoint(7).model).ok());
  const auto weights = ReadWeights(run_ + "/exported", false);
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ(weights->tensors.size(), NewCheckpoint(7).model.tensors.size());
}

}  // namespace
}  // namespace graticule
