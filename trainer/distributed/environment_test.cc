#include "trainer/distributed/environment.h"

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

using Variables = std::map<std::string, std::string>;

absl::StatusOr<LaunchEnvironment> Read(const Variables& variables) {
  return ReadLaunchEnvironment([&](const char* name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    if (found == variables.end()) return std::nullopt;
    return found->second;
  });
}

struct Expected {
  std::string launcher;
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;
  int local_world_size = 0;
  std::string master_address;
  int master_port = 0;
};

struct Case {
  const char* name;
  Variables variables;
  Expected expected;
};

// The variables as each launcher's documentation has them.
const std::vector<Case>& Cases() {
  static const auto& cases = *new std::vector<Case>{
      {"nothing", {}, {}},
      {"torchrun",
       {{"RANK", "3"},
        {"WORLD_SIZE", "4"},
        {"LOCAL_RANK", "1"},
        {"LOCAL_WORLD_SIZE", "2"},
        {"MASTER_ADDR", "10.0.0.1"},
        {"MASTER_PORT", "29400"}},
       {"torchrun", 3, 4, 1, 2, "10.0.0.1", 29400}},
      {"torchrun of one process", {{"RANK", "0"}, {"WORLD_SIZE", "1"}, {"LOCAL_RANK", "0"}}, {}},
      {"a world without local ranks, as Kubernetes' operators say it",
       {{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "job-master-0"}, {"MASTER_PORT", "23456"}},
       {"torchrun", 1, 2, 0, 0, "job-master-0", 23456}},
      {"torchrun within a SLURM allocation",
       {{"RANK", "1"},
        {"WORLD_SIZE", "2"},
        {"LOCAL_RANK", "1"},
        {"MASTER_ADDR", "n1"},
        {"MASTER_PORT", "29500"},
        {"SLURM_PROCID", "0"},
        {"SLURM_NTASKS", "8"}},
       {"torchrun", 1, 2, 1, 0, "n1", 29500}},
      {"Graticule's own",
       {{"GRATICULE_FAILURE_FD", "5"},
        {"RANK", "1"},
        {"WORLD_SIZE", "2"},
        {"LOCAL_RANK", "1"},
        {"LOCAL_WORLD_SIZE", "2"},
        {"MASTER_ADDR", "127.0.0.1"},
        {"MASTER_PORT", "4000"}},
       {"graticule", 1, 2, 1, 2, "127.0.0.1", 4000}},
      {"srun",
       {{"SLURM_PROCID", "5"},
        {"SLURM_NTASKS", "6"},
        {"SLURM_STEP_NUM_TASKS", "6"},
        {"SLURM_LOCALID", "1"},
        {"SLURM_NODEID", "2"},
        {"SLURM_STEP_TASKS_PER_NODE", "2(x3)"},
        {"SLURM_STEP_NODELIST", "node[07-09]"},
        {"SLURM_JOB_ID", "123456"},
        {"SLURM_STEP_ID", "2"}},
       {"SLURM", 5, 6, 1, 2, "node07", 29958}},
      {"srun: uneven nodes, the list of the job, an address of one's own",
       {{"SLURM_PROCID", "4"},
        {"SLURM_NTASKS", "5"},
        {"SLURM_LOCALID", "0"},
        {"SLURM_NODEID", "2"},
        {"SLURM_TASKS_PER_NODE", "2(x2),1"},
        {"SLURM_NODELIST", "gpu1,gpu2,big"},
        {"MASTER_ADDR", "gpu1-ib0"},
        {"MASTER_PORT", "1234"}},
       {"SLURM", 4, 5, 0, 1, "gpu1-ib0", 1234}},
      {"srun: a step smaller than the job",
       {{"SLURM_PROCID", "1"},
        {"SLURM_NTASKS", "8"},
        {"SLURM_STEP_NUM_TASKS", "2"},
        {"SLURM_LOCALID", "1"},
        {"SLURM_NODELIST", "c[1,5-7]n[03-04],d1"}},
       {"SLURM", 1, 2, 1, 0, "c1n03", 29500}},
      {"salloc's shell", {{"SLURM_JOB_ID", "7"}, {"SLURM_NTASKS", "4"}, {"SLURM_JOB_NAME", "interactive"}}, {}},
      {"srun --pty bash",
       {{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}, {"SLURM_JOB_NAME", "bash"}, {"SLURM_NODELIST", "n1"}},
       {}},
      {"srun of one task", {{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "1"}, {"SLURM_NODELIST", "n1"}}, {}},
      {"salloc's interactive step",
       {{"SLURM_PROCID", "0"},
        {"SLURM_NTASKS", "4"},
        {"SLURM_STEP_NUM_TASKS", "1"},
        {"SLURM_STEP_ID", "4294967290"},
        {"SLURM_NODELIST", "n1"}},
       {}},
      {"mpirun on one machine",
       {{"OMPI_COMM_WORLD_RANK", "1"},
        {"OMPI_COMM_WORLD_SIZE", "2"},
        {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
        {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}},
       {"Open MPI", 1, 2, 1, 2, "127.0.0.1", 29500}},
      {"mpirun within a batch script of SLURM",
       {{"OMPI_COMM_WORLD_RANK", "3"},
        {"OMPI_COMM_WORLD_SIZE", "4"},
        {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
        {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
        {"SLURM_PROCID", "0"},
        {"SLURM_NTASKS", "4"},
        {"SLURM_JOB_ID", "10"},
        {"SLURM_NODELIST", "a[01-02]"}},
       {"Open MPI", 3, 4, 1, 2, "a01", 29510}},
      {"Intel MPI",
       {{"PMI_RANK", "2"},
        {"PMI_SIZE", "4"},
        {"MPI_LOCALRANKID", "0"},
        {"MPI_LOCALNRANKS", "2"},
        {"MASTER_ADDR", "h0"},
        {"MASTER_PORT", "5000"}},
       {"PMI", 2, 4, 0, 2, "h0", 5000}},
      {"srun --mpi=pmi2",
       {{"PMI_RANK", "3"},
        {"PMI_SIZE", "4"},
        {"SLURM_PROCID", "3"},
        {"SLURM_NTASKS", "4"},
        {"SLURM_STEP_NUM_TASKS", "4"},
        {"SLURM_LOCALID", "1"},
        {"SLURM_NODEID", "1"},
        {"SLURM_STEP_TASKS_PER_NODE", "2(x2)"},
        {"SLURM_STEP_NODELIST", "n[1-2]"}},
       {"SLURM", 3, 4, 1, 2, "n1", 29500}},
  };
  return cases;
}

TEST(EnvironmentTest, ReadsWhatEachLauncherSays) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.name);
    const auto environment = Read(c.variables);
    ASSERT_TRUE(environment.ok()) << environment.status();
    EXPECT_EQ(environment->launcher, c.expected.launcher);
    EXPECT_EQ(environment->rank, c.expected.rank);
    EXPECT_EQ(environment->world_size, c.expected.world_size);
    EXPECT_EQ(environment->local_rank, c.expected.local_rank);
    EXPECT_EQ(environment->local_world_size, c.expected.local_world_size);
    EXPECT_EQ(environment->master_address, c.expected.master_address);
    EXPECT_EQ(environment->master_port, c.expected.master_port);
    EXPECT_FALSE(environment->use_agent_store);
    EXPECT_FALSE(environment->listen_fd.has_value());
  }
}

TEST(EnvironmentTest, ReadsTheStoreOfTorchrunsAgentAndTheSocketOfOurLauncher) {
  Variables variables = {{"RANK", "0"},
                         {"WORLD_SIZE", "2"},
                         {"MASTER_ADDR", "h"},
                         {"MASTER_PORT", "1"},
                         {"TORCHELASTIC_USE_AGENT_STORE", "True"},
                         {"TORCHELASTIC_RESTART_COUNT", "3"}};
  auto environment = Read(variables);
  ASSERT_TRUE(environment.ok()) << environment.status();
  EXPECT_TRUE(environment->use_agent_store);
  EXPECT_EQ(environment->restart_count, "3");

  variables["TORCHELASTIC_USE_AGENT_STORE"] = "False";
  variables["GRATICULE_STORE_FD"] = "7";
  environment = Read(variables);
  ASSERT_TRUE(environment.ok()) << environment.status();
  EXPECT_FALSE(environment->use_agent_store);
  EXPECT_EQ(environment->listen_fd, 7);
}

TEST(EnvironmentTest, MistakesNameTheVariable) {
  const Variables good = {{"RANK", "1"},        {"WORLD_SIZE", "2"},     {"LOCAL_RANK", "1"}, {"LOCAL_WORLD_SIZE", "2"},
                          {"MASTER_ADDR", "h"}, {"MASTER_PORT", "29500"}};
  const auto with = [&](const std::string& name, const std::string& value) {
    Variables variables = good;
    if (value.empty()) {
      variables.erase(name);
    } else {
      variables[name] = value;
    }
    return variables;
  };
  const struct {
    Variables variables;
    const char* message;
  } cases[] = {
      {with("RANK", "one"), "environment variable RANK must be a number of at least 0, found 'one'"},
      {with("RANK", "-1"), "environment variable RANK must be a number of at least 0, found '-1'"},
      {with("RANK", "2"), "environment variable RANK must be below WORLD_SIZE, which is 2, found 2"},
      {with("RANK", ""), "environment variable RANK is not set, but others that torchrun sets are"},
      {with("WORLD_SIZE", "0"), "environment variable WORLD_SIZE must be a number of at least 1, found '0'"},
      {with("WORLD_SIZE", "2x"), "environment variable WORLD_SIZE must be a number of at least 1, found '2x'"},
      {with("WORLD_SIZE", ""), "environment variable WORLD_SIZE is not set, but others that torchrun sets are"},
      {with("LOCAL_RANK", "2"), "environment variable LOCAL_RANK must be below LOCAL_WORLD_SIZE, which is 2, found 2"},
      {with("LOCAL_WORLD_SIZE", "3"), "environment variable LOCAL_WORLD_SIZE must be a number 1 to 2, found '3'"},
      {with("MASTER_ADDR", ""), "environment variable MASTER_ADDR is not set: 2 ranks of torchrun need"},
      {with("MASTER_PORT", ""), "environment variable MASTER_PORT is not set"},
      {with("MASTER_PORT", "70000"), "environment variable MASTER_PORT must be a number 1 to 65535, found '70000'"},
      {{{"RANK", "3"}, {"WORLD_SIZE", "1"}}, "environment variable RANK must be below WORLD_SIZE, which is 1, found 3"},
      {{{"SLURM_PROCID", "x"}, {"SLURM_NTASKS", "2"}}, "environment variable SLURM_PROCID must be a number"},
      {{{"SLURM_PROCID", "1"}, {"SLURM_NTASKS", "2"}}, "environment variable MASTER_ADDR is not set: 2 ranks of SLURM"},
      {{{"SLURM_PROCID", "1"}, {"SLURM_NTASKS", "2"}, {"SLURM_NODELIST", "n[1-2"}}, "MASTER_ADDR is not set"},
      {{{"OMPI_COMM_WORLD_RANK", "1"}},
       "environment variable OMPI_COMM_WORLD_SIZE is not set, but others that Open MPI"},
      {{{"OMPI_COMM_WORLD_SIZE", "2"}}, "environment variable OMPI_COMM_WORLD_RANK is not set"},
      {{{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", "2"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "1"}},
       "environment variable MASTER_ADDR is not set: 2 ranks of Open MPI need the address of rank 0's machine"},
      {{{"PMI_RANK", "0"}}, "environment variable PMI_SIZE is not set"},
  };
  for (const auto& c : cases) {
    const auto environment = Read(c.variables);
    EXPECT_EQ(environment.status().code(), absl::StatusCode::kInvalidArgument) << c.message;
    EXPECT_THAT(std::string(environment.status().message()), testing::HasSubstr(c.message));
  }
}

}  // namespace
}  // namespace graticule
