#include "plugin/status.h"

#include <stdexcept>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

absl::StatusOr<int> Half(int value) {
  if (value % 2 != 0) return absl::OutOfRangeError("odd");
  return value / 2;
}

absl::StatusOr<int> Quarter(int value) {
  ASSIGN_OR_RETURN(const int half, Half(value));
  ASSIGN_OR_RETURN(const int quarter, Half(half), "second half");
  return quarter;
}

absl::Status RequireEven(int value) {
  RETURN_IF_ERROR(Half(value).status(), "while halving");
  return absl::OkStatus();
}

std::vector<std::string> Flat(const absl::Status& status) {
  std::vector<std::string> flat;
  for (const FieldError& error : FieldErrors::FromStatus(status)) flat.push_back(error.path + "|" + error.message);
  return flat;
}

TEST(AnnotateTest, KeepsCodeAndPayloads) {
  absl::Status status = absl::NotFoundError("no such file");
  status.SetPayload("url", absl::Cord("payload"));
  const absl::Status annotated = Annotate(status, "dataset");
  EXPECT_EQ(annotated.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(std::string(annotated.message()), "dataset: no such file");
  EXPECT_EQ(annotated.GetPayload("url"), absl::Cord("payload"));
  EXPECT_TRUE(Annotate(absl::OkStatus(), "dataset").ok());
}

TEST(StatusMacrosTest, ReturnTheFirstErrorWithItsContext) {
  EXPECT_EQ(*Quarter(12), 3);
  EXPECT_EQ(Quarter(3).status(), absl::OutOfRangeError("odd"));
  EXPECT_EQ(Quarter(6).status(), absl::OutOfRangeError("second half: odd"));
  EXPECT_TRUE(RequireEven(2).ok());
  EXPECT_EQ(RequireEven(1), absl::OutOfRangeError("while halving: odd"));
}

TEST(FieldErrorsTest, TravelInAStatus) {
  FieldErrors errors;
  EXPECT_TRUE(errors.empty());
  EXPECT_TRUE(errors.ToStatus().ok());
  errors.Add("depth", "must be positive, found 0");
  errors.Add("", "cannot be met");
  const absl::Status status = errors.ToStatus();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(std::string(status.message()), "depth: must be positive, found 0\ncannot be met");
  EXPECT_THAT(Flat(status), testing::ElementsAre("depth|must be positive, found 0", "|cannot be met"));
}

TEST(FieldErrorsTest, SurviveAnnotation) {
  FieldErrors errors;
  errors.Add("depth", "must be positive");
  EXPECT_THAT(Flat(Annotate(errors.ToStatus(), "backbone")), testing::ElementsAre("depth|must be positive"));
}

TEST(FieldErrorsTest, NestUnderAPrefix) {
  FieldErrors inner;
  inner.Add("width", "too large");
  inner.Add("[2]", "negative");
  FieldErrors outer;
  outer.Add("stages", inner.ToStatus());
  outer.Add("head", absl::InternalError("broken"));
  outer.Add("tail", absl::OkStatus());
  EXPECT_THAT(Flat(outer.ToStatus()),
              testing::ElementsAre("stages.width|too large", "stages[2]|negative", "head|broken"));
}

TEST(FieldErrorsTest, PlainStatusIsOneErrorWithoutPath) {
  EXPECT_THAT(Flat(absl::UnknownError("lost")), testing::ElementsAre("|lost"));
  EXPECT_THAT(Flat(absl::OkStatus()), testing::IsEmpty());
}

TEST(JoinPathTest, PutsADotBeforeNamesOnly) {
  EXPECT_EQ(JoinPath("a", "b.c"), "a.b.c");
  EXPECT_EQ(JoinPath("a", "[2]"), "a[2]");
  EXPECT_EQ(JoinPath("", "b"), "b");
  EXPECT_EQ(JoinPath("a", ""), "a");
}

TEST(FirstFewTest, CountsTheRest) {
  EXPECT_EQ(FirstFew({}), "");
  EXPECT_EQ(FirstFew({"a", "b", "c"}), "a, b, c");
  EXPECT_EQ(FirstFew({"a", "b", "c", "d", "e"}), "a, b, c and 2 more");
}

TEST(ClosestNameTest, FindsSlipsOfThePen) {
  const std::vector<std::string> fields = {"depth", "heads", "embed_dim", "patch_size"};
  EXPECT_EQ(ClosestName("dpeth", fields), "depth");
  EXPECT_EQ(ClosestName("head", fields), "heads");
  EXPECT_EQ(ClosestName("dim", fields), "embed_dim");
  EXPECT_EQ(ClosestName("PatchSize", fields), "patch_size");
  EXPECT_EQ(ClosestName("momentum", fields), "");
  EXPECT_EQ(ClosestName("x", fields), "");
}

TEST(ClosestNameTest, SwappedLettersAreOneSlip) {
  EXPECT_EQ(ClosestName("graticule.Mpgv", {"graticule.Pvg", "graticule.Mpvg"}), "graticule.Mpvg");
}

TEST(ClosestNameTest, ASharedPackageDoesNotMakeNamesAlike) {
  EXPECT_EQ(ClosestName("graticule.Foo", {"graticule.Vit", "graticule.Swin"}), "");
  EXPECT_EQ(ClosestName("graticule.Vitt", {"graticule.Vit", "graticule.Swin"}), "graticule.Vit");
  EXPECT_EQ(ClosestName("Vit", {"graticule.Vit", "graticule.Swin"}), "graticule.Vit");
}

TEST(DidYouMeanTest, SaysNothingWithoutACandidate) {
  EXPECT_EQ(DidYouMean("dept", {"depth"}), "; did you mean 'depth'?");
  EXPECT_EQ(DidYouMean("momentum", {"depth"}), "");
}

TEST(CurrentExceptionToStatusTest, NamesTheThrowerAndDropsTheBacktrace) {
  // As LibTorch's errors of an operator, and its allocator's.
  for (const char* backtrace : {"\nException raised from here\n#0 frame", "\nframe #0: c10::alloc_cpu (0x1 in lib)"}) {
    try {
      throw std::runtime_error(absl::StrCat("bad shape", backtrace));
    } catch (...) {
      EXPECT_EQ(CurrentExceptionToStatus("graticule.Vit"), absl::InternalError("graticule.Vit: bad shape"));
    }
  }
}

TEST(CurrentExceptionToStatusTest, KnowsExceptionsOfOtherTypes) {
  try {
    throw 7;
  } catch (...) {
    EXPECT_EQ(CurrentExceptionToStatus("graticule.Vit"), absl::InternalError("graticule.Vit: unknown exception"));
  }
}

}  // namespace
}  // namespace graticule
