// What --config=cuda links: CUDA and NCCL, which are there even where no GPU is.
#include "gtest/gtest.h"

#ifdef GRATICULE_CUDA
#include "c10/cuda/CUDAFunctions.h"
#include "torch/csrc/distributed/c10d/HashStore.hpp"
#include "torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp"
#endif

namespace graticule {
namespace {

#ifdef GRATICULE_CUDA

TEST(NcclTest, LibraryIsTheOneOfTheWheel) { EXPECT_EQ(c10d::getNcclVersion(), "2.28.9"); }

TEST(NcclTest, ProcessGroupNeedsADevice) {
  const auto build = [] {
    return c10::make_intrusive<c10d::ProcessGroupNCCL>(c10::make_intrusive<c10d::HashStore>(), /*rank=*/0, /*size=*/1);
  };
  if (c10::cuda::device_count() > 0) {
    EXPECT_EQ(build()->getBackendName(), "nccl");
  } else {
    EXPECT_THROW(build(), c10::Error);
  }
}

#else

TEST(NcclTest, NeedsTheCudaBuild) { GTEST_SKIP() << "built without --config=cuda"; }

#endif

}  // namespace
}  // namespace graticule
