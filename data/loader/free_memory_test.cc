#include "data/loader/free_memory.h"

#include <fstream>
#include <string>

#include "gtest/gtest.h"

namespace graticule {
namespace {

class FreeMemoryTest : public ::testing::Test {
 protected:
  FreeMemoryTest() { std::filesystem::remove_all(root_); }
  void Write(const std::string& file, const std::string& text) {
    std::filesystem::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file) << text;
  }

  const std::filesystem::path root_ = std::filesystem::path(testing::TempDir()) / "free_memory";
};

TEST_F(FreeMemoryTest, IsWhatLinuxCallsAvailable) {
  EXPECT_EQ(FreeMemory(root_), 0);
  Write("proc/meminfo", "MemTotal:       8000 kB\nMemFree:         100 kB\nMemAvailable:   5000 kB\n");
  EXPECT_EQ(FreeMemory(root_), 5000 << 10);
}

TEST_F(FreeMemoryTest, OrWhatAGroupOrOneAroundItLeaves) {
  Write("proc/meminfo", "MemAvailable:   5000 kB\n");
  Write("proc/self/cgroup", "0::/slice/job\n");
  Write("sys/fs/cgroup/slice/job/memory.max", "max\n");
  Write("sys/fs/cgroup/slice/job/memory.current", "600000\n");
  EXPECT_EQ(FreeMemory(root_), 5000 << 10);
  Write("sys/fs/cgroup/slice/memory.max", "1000000\n");
  Write("sys/fs/cgroup/slice/memory.current", "700000\n");
  Write("sys/fs/cgroup/slice/memory.stat", "anon 5\ninactive_file 50000\n");
  EXPECT_EQ(FreeMemory(root_), 350000);
  Write("sys/fs/cgroup/slice/job/memory.max", "620000\n");
  EXPECT_EQ(FreeMemory(root_), 20000);
  Write("sys/fs/cgroup/slice/job/memory.max", "500000\n");
  EXPECT_EQ(FreeMemory(root_), 0);
}

TEST_F(FreeMemoryTest, KnowsTheFirstVersionOfGroups) {
  Write("proc/meminfo", "MemAvailable:   5000 kB\n");
  Write("proc/self/cgroup", "7:cpu,cpuacct:/a\n4:memory:/outside/of/the/container\n0::/\n");
  Write("sys/fs/cgroup/memory/memory.limit_in_bytes", "90000\n");
  Write("sys/fs/cgroup/memory/memory.usage_in_bytes", "60000\n");
  Write("sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 2000\n");
  EXPECT_EQ(FreeMemory(root_), 32000);
}

TEST_F(FreeMemoryTest, ThisMachineHasSome) { EXPECT_GT(FreeMemory(), 1 << 20); }

}  // namespace
}  // namespace graticule
