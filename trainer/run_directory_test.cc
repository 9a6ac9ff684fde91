#include "trainer/run_directory.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/file.h"

// In place of the system's, so that it can fail as it does on other file systems.
static int flock_error = 0;
extern "C" int flock(int fd, int operation) noexcept {
  if (flock_error == 0) return static_cast<int>(syscall(SYS_flock, fd, operation));
  errno = flock_error;
  return -1;
}

namespace graticule {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class RunDirectoryTest : public testing::Test {
 protected:
  RunDirectoryTest() : run_(testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name()) {
    fs::remove_all(run_);
    experiment_.set_name("run");
    experiment_.mutable_trainer()->set_epochs(4);
  }
  ~RunDirectoryTest() override { flock_error = 0; }

  absl::Status Open(bool allow_changed_spec = false) const {
    return RunDirectory::Open(run_, experiment_, allow_changed_spec).status();
  }
  std::string Error() const { return std::string(Open().message()); }
  void Write(const std::string& name) const {
    fs::create_directories(run_);
    ASSERT_TRUE(WriteFile(run_ + "/" + name, "text").ok());
  }
  // A run that was here, with a checkpoint and without links, as a copy may lack them.
  void Begin() const {
    ASSERT_TRUE(Open().ok());
    fs::create_directories(run_ + "/checkpoints/step-000003");
  }
  std::string SpecOnDisk() const { return ReadFile(run_ + "/experiment.textproto").value_or(""); }

  const std::string run_;
  Experiment experiment_;
};

TEST_F(RunDirectoryTest, AFreshOneHasItsSpecAtOnce) {
  ASSERT_TRUE(Open().ok());
  EXPECT_THAT(SpecOnDisk(), HasSubstr("epochs: 4"));
  // As long as there is no checkpoint it may become another run.
  experiment_.mutable_trainer()->set_epochs(5);
  Write("log.txt");
  ASSERT_TRUE(Open().ok());
  EXPECT_THAT(SpecOnDisk(), HasSubstr("epochs: 5"));
}

TEST_F(RunDirectoryTest, ARunGoesOnByItsSpecAlone) {
  Begin();
  EXPECT_TRUE(Open().ok());
  experiment_.mutable_trainer()->set_epochs(5);
  experiment_.mutable_trainer()->set_seed(7);
  EXPECT_EQ(Error(), run_ +
                         " holds a run of another spec: trainer.epochs was 4 and is 5, trainer.seed was not set and is "
                         "7; give another --output=DIR, or go on with it by --allow-changed-spec");
  EXPECT_TRUE(Open(/*allow_changed_spec=*/true).ok());
  // Only a run that is known to fit replaces it.
  EXPECT_THAT(SpecOnDisk(), HasSubstr("epochs: 4"));
}

TEST_F(RunDirectoryTest, WhatIsNotLearntMayChange) {
  Begin();
  experiment_.set_name("other");
  experiment_.mutable_trainer()->set_log_interval(1);
  const auto run = RunDirectory::Open(run_, experiment_, /*allow_changed_spec=*/false);
  ASSERT_TRUE(run.ok()) << run.status();
  ASSERT_TRUE((*run)->WriteSpec().ok());
  EXPECT_THAT(SpecOnDisk(), AllOf(HasSubstr("log_interval: 1"), HasSubstr("name: \"other\"")));
}

TEST_F(RunDirectoryTest, ASpecThatCannotBeReadIsNoSpecThatFits) {
  Begin();
  Write("experiment.textproto");
  EXPECT_THAT(Error(), AllOf(HasSubstr("cannot be read (" + run_ + "/experiment.textproto:1:1"),
                             HasSubstr("--allow-changed-spec")));
  EXPECT_TRUE(Open(/*allow_changed_spec=*/true).ok());
}

TEST_F(RunDirectoryTest, FilesWithoutASpecAreSomebodyElses) {
  fs::create_directories(run_);
  Write("notes.md");
  EXPECT_TRUE(Open().ok());
  fs::remove(run_ + "/experiment.textproto");
  fs::remove(run_ + "/lock");
  Write("log.txt");
  Write("metrics.csv");
  EXPECT_THAT(Error(), HasSubstr(run_ + " has log.txt, metrics.csv, but no experiment.textproto"));
  EXPECT_FALSE(fs::exists(run_ + "/lock"));
  EXPECT_FALSE(fs::exists(run_ + "/experiment.textproto"));
  EXPECT_TRUE(Open(/*allow_changed_spec=*/true).ok());
}

TEST_F(RunDirectoryTest, ASpecThatSomebodyWroteIsNotReplaced) {
  Write("experiment.textproto");
  EXPECT_EQ(Error(), run_ + "/experiment.textproto is of no run, and would be replaced; give another --output=DIR");
  EXPECT_EQ(SpecOnDisk(), "text");
  EXPECT_FALSE(fs::exists(run_ + "/lock"));
}

TEST_F(RunDirectoryTest, ARunThatLostItsSpecIsNotGoneOnWith) {
  Begin();
  fs::remove(run_ + "/experiment.textproto");
  EXPECT_THAT(Error(), HasSubstr("has checkpoints, but no experiment.textproto"));
}

TEST_F(RunDirectoryTest, OnlyOneTrainsIntoIt) {
  const auto first = RunDirectory::Open(run_, experiment_, false);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(Error(), "another process is training into " + run_);
}

TEST_F(RunDirectoryTest, WhereNothingCanBeLockedTheTrainingGoesOn) {
  for (const int error : {ENOLCK, ENOSYS, EOPNOTSUPP}) {
    flock_error = error;
    testing::internal::CaptureStderr();
    EXPECT_TRUE(Open().ok());
    EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("a second training into " + run_));
  }
}

TEST_F(RunDirectoryTest, AFolderThatCannotBeMadeIsNamed) {
  ASSERT_TRUE(WriteFile(run_, "").ok());
  EXPECT_THAT(Error(), AllOf(HasSubstr("cannot create " + run_), Not(HasSubstr("lock"))));
}

}  // namespace
}  // namespace graticule
