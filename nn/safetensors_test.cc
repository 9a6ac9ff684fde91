#include "nn/safetensors.h"

#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "ATen/ops/arange.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/full.h"
#include "ATen/ops/ones.h"
#include "ATen/ops/scalar_tensor.h"
#include "ATen/ops/tensor.h"
#include "ATen/ops/zeros.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/file.h"

namespace graticule {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// What tools/parity/safetensors_fixture.py writes.
std::map<std::string, at::Tensor> PythonTensors() {
  std::map<std::string, at::Tensor> tensors;
  const std::pair<const char*, at::ScalarType> floats[] = {
      {"F64", at::kDouble}, {"F32", at::kFloat}, {"F16", at::kHalf}, {"BF16", at::kBFloat16}};
  for (const auto& [name, type] : floats) {
    tensors[name] =
        at::tensor({0.0, 0.5, -1.25, 3.0, std::numeric_limits<double>::infinity(), -2.0}).to(type).view({2, 3});
  }
  const std::tuple<const char*, at::ScalarType, int64_t> integers[] = {{"I64", at::kLong, INT64_MAX},
                                                                       {"I32", at::kInt, INT32_MAX},
                                                                       {"I16", at::kShort, INT16_MAX},
                                                                       {"I8", at::kChar, 127}};
  for (const auto& [name, type, max] : integers) {
    tensors[name] =
        at::tensor({int64_t{0}, int64_t{1}, int64_t{-1}, int64_t{100}, max, -max - 1}).to(type).view({2, 3});
  }
  tensors["U8"] = at::tensor({0, 1, 2, 100, 128, 255}).to(at::kByte).view({2, 3});
  tensors["BOOL"] = at::tensor({1, 0, 1}).to(at::kBool);
  tensors["scalar"] = at::scalar_tensor(2.5);
  tensors["empty"] = at::zeros({0, 3});
  tensors["blocks.0.\"naïve\"\\weight"] = at::arange(24).to(at::kFloat).view({2, 3, 4});
  return tensors;
}

void ExpectPythonTensors(const Safetensors& contents) {
  const std::map<std::string, at::Tensor> expected = PythonTensors();
  EXPECT_EQ(contents.tensors.size(), expected.size());
  for (const auto& [name, tensor] : expected) {
    const at::Tensor found = contents.Find(name);
    ASSERT_TRUE(found.defined()) << name;
    EXPECT_EQ(found.scalar_type(), tensor.scalar_type()) << name;
    EXPECT_EQ(found.sizes(), tensor.sizes()) << name;
    EXPECT_TRUE(at::equal(found, tensor)) << name;
  }
  EXPECT_EQ(contents.metadata, (std::map<std::string, std::string>{{"format", "pt"}, {"note", "line\nbreak"}}));
}

std::string FileOf(const std::string& header, const std::string& data = "") {
  const uint64_t size = header.size();
  std::string bytes(sizeof(size), '\0');
  std::memcpy(bytes.data(), &size, sizeof(size));
  return bytes + header + data;
}

std::string ErrorOf(const std::string& bytes) {
  const auto parsed = ParseSafetensors(bytes);
  EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(parsed.status().message());
}

// The error for a header of one tensor "w" and 8 bytes of data.
std::string EntryError(const std::string& entry) { return ErrorOf(FileOf("{\"w\":" + entry + "}", "01234567")); }

TEST(SafetensorsTest, ReadsWhatPythonWrites) {
  const auto contents = ReadSafetensors("nn/testdata/python.safetensors");
  ASSERT_TRUE(contents.ok()) << contents.status();
  ExpectPythonTensors(*contents);
}

// `tools/parity/safetensors_fixture.py --check` reads the file that this leaves in TEST_TMPDIR.
TEST(SafetensorsTest, WhatIsWrittenIsRead) {
  Safetensors contents;
  for (const auto& [name, tensor] : PythonTensors()) contents.tensors.emplace_back(name, tensor);
  contents.metadata = {{"format", "pt"}, {"note", "line\nbreak"}};
  const std::string path = testing::TempDir() + "/written.safetensors";
  ASSERT_TRUE(WriteSafetensors(path, contents).ok());
  const auto read = ReadSafetensors(path);
  ASSERT_TRUE(read.ok()) << read.status();
  ExpectPythonTensors(*read);
  EXPECT_EQ(SerializeSafetensors(*read), *ReadFile(path));
}

TEST(SafetensorsTest, DataStartsAtAMultipleOf64AndTensorsAreAligned) {
  for (int padding = 0; padding < 70; ++padding) {
    Safetensors contents;
    contents.tensors = {{"a", at::zeros({3}, at::kBool)},
                        {std::string(padding + 1, 'x'), at::tensor({1.0f, 2.0f})},
                        {"b", at::tensor({3.0})}};
    const std::string bytes = SerializeSafetensors(contents);
    uint64_t header_size;
    std::memcpy(&header_size, bytes.data(), sizeof(header_size));
    EXPECT_EQ((header_size + 8) % 64, 0);
    double first;
    std::memcpy(&first, bytes.data() + 8 + header_size, sizeof(first));
    EXPECT_EQ(first, 3.0);
    const auto read = ParseSafetensors(bytes);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->tensors.front().first, "b");
    EXPECT_EQ(read->tensors.back().first, "a");
  }
}

TEST(SafetensorsTest, WritesStridedTensorsByTheirValues) {
  const at::Tensor strided = at::arange(6).view({2, 3}).t();
  Safetensors contents;
  contents.tensors = {{"t", strided}};
  const auto read = ParseSafetensors(SerializeSafetensors(contents));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_TRUE(at::equal(read->Find("t"), strided));
}

TEST(SafetensorsTest, ErrorsNameThePath) {
  const std::string missing = testing::TempDir() + "/missing.safetensors";
  const absl::Status not_found = ReadSafetensors(missing).status();
  EXPECT_TRUE(absl::IsNotFound(not_found));
  EXPECT_THAT(std::string(not_found.message()), HasSubstr(missing));

  const std::string cut = testing::TempDir() + "/cut.safetensors";
  ASSERT_TRUE(WriteFile(cut, ReadFile("nn/testdata/python.safetensors")->substr(0, 1170)).ok());
  EXPECT_THAT(std::string(ReadSafetensors(cut).status().message()),
              AllOf(HasSubstr(cut + ":"), HasSubstr("may be truncated")));
  EXPECT_TRUE(absl::IsNotFound(WriteSafetensors(testing::TempDir() + "/no/folder", {})));
}

TEST(SafetensorsTest, RefusesBadHeaders) {
  EXPECT_THAT(ErrorOf(""), HasSubstr("only 0 bytes"));
  EXPECT_THAT(ErrorOf("1234567"), HasSubstr("only 7 bytes"));
  EXPECT_THAT(ErrorOf(std::string(8, '\xff')), HasSubstr("announces a header of 18446744073709551615 bytes and has 0"));
  EXPECT_THAT(ErrorOf(FileOf("{}").substr(0, 9)), HasSubstr("announces a header of 2 bytes and has 1"));
  EXPECT_THAT(ErrorOf(FileOf("")), HasSubstr("not a JSON object"));
  EXPECT_THAT(ErrorOf(FileOf("[]")), HasSubstr("not a JSON object"));
  EXPECT_THAT(ErrorOf(FileOf(" {}")), HasSubstr("not a JSON object"));
  EXPECT_THAT(ErrorOf(FileOf("{\"a\"")), HasSubstr("not valid JSON"));
  EXPECT_THAT(ErrorOf(FileOf("{\"\xff\":{}}")), HasSubstr("not valid JSON"));
  EXPECT_THAT(ErrorOf(FileOf("{\"w\":" + std::string(1'000'000, '[') + std::string(1'000'000, ']') + "}")),
              HasSubstr("nested"));
  EXPECT_THAT(ErrorOf(FileOf("{\"__metadata__\":[]}")), HasSubstr("__metadata__"));
  EXPECT_THAT(ErrorOf(FileOf("{\"__metadata__\":{\"k\":1}}")), HasSubstr("'k'"));
  EXPECT_THAT(ErrorOf(FileOf("{}", "x")), HasSubstr("1 bytes after the last tensor"));
}

TEST(SafetensorsTest, RefusesDuplicateNames) {
  const std::string entry = R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  EXPECT_THAT(ErrorOf(FileOf("{\"w\":" + entry + ",\"w\":" + entry + "}", "01234567")), HasSubstr("has 'w' twice"));
  EXPECT_THAT(EntryError(R"({"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]})"),
              HasSubstr("has 'shape' twice"));
  // The same word in two objects is no duplicate.
  EXPECT_TRUE(ParseSafetensors(FileOf("{\"dtype\":" + entry + "}", "01234567")).ok());
}

TEST(SafetensorsTest, RefusesBadEntries) {
  EXPECT_THAT(EntryError("7"), HasSubstr("tensor 'w'"));
  EXPECT_THAT(EntryError(R"({"shape":[2],"data_offsets":[0,8]})"), HasSubstr("no dtype"));
  EXPECT_THAT(EntryError(R"({"dtype":32,"shape":[2],"data_offsets":[0,8]})"), HasSubstr("no dtype"));
  EXPECT_THAT(EntryError(R"({"dtype":"F4","shape":[2],"data_offsets":[0,8]})"),
              AllOf(HasSubstr("unknown dtype 'F4'"), HasSubstr("F64 F32 F16 BF16 I64 I32 I16 I8 U8 BOOL")));
  for (const char* shape : {"2", "[-2]", "[2.0]", "[1e1]", "[\"2\"]", "[null]", "[9223372036854775808]",
                            "[18446744073709551618]", "[99999999999999999999999]"}) {
    EXPECT_THAT(EntryError(absl::StrCat(R"({"dtype":"F32","shape":)", shape, R"(,"data_offsets":[0,8]})")),
                HasSubstr("tensor 'w' has no shape"))
        << shape;
  }
  for (const char* offsets : {"8", "[8]", "[0,8,8]", "[8,0]", "[-1,7]", "[0,8.0]", "[0,18446744073709551615]"}) {
    EXPECT_THAT(EntryError(absl::StrCat(R"({"dtype":"F32","shape":[2],"data_offsets":)", offsets, "}")),
                HasSubstr("tensor 'w' has no data_offsets"))
        << offsets;
  }
}

TEST(SafetensorsTest, RefusesSizesThatDoNotMatch) {
  EXPECT_THAT(EntryError(R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})"),
              HasSubstr("takes 8 bytes, but its shape [3] of F32 needs 12"));
  EXPECT_THAT(EntryError(R"({"dtype":"F32","shape":[3],"data_offsets":[0,12]})"),
              HasSubstr("ends at byte 12 of the 8 that the file has"));
  // 2^32 · 2^32 · 4 and 2^62 · 4 are 0 in 64 bits.
  for (const char* shape : {"[4294967296,4294967296]", "[4611686018427387904]", "[4611686018427387904,0,8]"}) {
    EXPECT_THAT(EntryError(absl::StrCat(R"({"dtype":"F32","shape":)", shape, R"(,"data_offsets":[0,0]})")),
                HasSubstr("too large"))
        << shape;
  }
}

TEST(SafetensorsTest, RefusesGapsAndOverlaps) {
  const auto two = [](const std::string& first, const std::string& second) {
    return FileOf(absl::StrCat(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)", first,
                               R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)", second, "}}"),
                  "0123456789");
  };
  EXPECT_THAT(ErrorOf(two("[0,4]", "[3,7]")), HasSubstr("'b' begins at byte 3, inside that of another"));
  EXPECT_THAT(ErrorOf(two("[0,4]", "[0,4]")), HasSubstr("'b' begins at byte 0, inside that of another"));
  EXPECT_THAT(ErrorOf(two("[6,10]", "[0,4]")), HasSubstr("'a' begins at byte 6, after a gap from byte 4"));
  EXPECT_THAT(ErrorOf(two("[4,8]", "[0,4]")), HasSubstr("2 bytes after the last tensor"));
  EXPECT_TRUE(ParseSafetensors(FileOf(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},)"
                                      R"("b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}   )",
                                      "ba"))
                  .ok());
}

TEST(SafetensorsTest, OddBytesOfABoolAreTrue) {
  const auto read = ParseSafetensors(
      FileOf(R"({"m":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}})", std::string("\x02\x00", 2)));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_TRUE(at::equal(read->Find("m").to(at::kByte), at::tensor({1, 0}).to(at::kByte)));
}

TEST(SafetensorsTest, SurvivesAnyFlippedByteAndAnyCut) {
  const std::string whole = *ReadFile("nn/testdata/python.safetensors");
  std::mt19937 random(1);
  for (size_t i = 0; i < whole.size(); ++i) {
    EXPECT_FALSE(ParseSafetensors(std::string_view(whole).substr(0, i)).ok()) << i;
    std::string flipped = whole;
    flipped[i] = static_cast<char>(flipped[i] ^ (1 << random() % 8));
    const auto parsed = ParseSafetensors(flipped);
    EXPECT_TRUE(parsed.ok() || !parsed.status().message().empty());
  }
}

TEST(LoadByNameTest, LoadsAllOrNone) {
  const Safetensors into{.tensors = {{"a", at::zeros({2})}, {"b", at::zeros({3}, at::kLong)}}};
  Safetensors from{.tensors = {{"b", at::full({3}, 2)}, {"a", at::ones({2}, at::kDouble)}}};
  ASSERT_TRUE(LoadByName(from, into).ok());
  EXPECT_TRUE(at::equal(into.Find("a"), at::ones({2})));
  EXPECT_TRUE(at::equal(into.Find("b"), at::full({3}, 2, at::kLong)));

  from.tensors = {{"a", at::zeros({2})}, {"b", at::zeros({4})}, {"c", at::zeros({1})}};
  const absl::Status status = LoadByName(from, into);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(status.message(), "b has shape [4] instead of [3], c has no counterpart");
  EXPECT_EQ(LoadByName({}, into).message(), "a is missing, b is missing");
  EXPECT_TRUE(at::equal(into.Find("a"), at::ones({2})));
}

TEST(LoadByNameTest, TakesMemoryThatNobodyElseHolds) {
  at::Tensor own = at::zeros({3}).requires_grad_(true), own_shared = at::zeros({3}), own_viewed = at::zeros({2, 3});
  const at::Tensor view = own_viewed[1], shared = at::ones({3});
  Safetensors from{.tensors = {{"own", at::ones({3})}, {"shared", shared}, {"viewed", at::ones({2, 3})}}};
  const void* const memory = from.tensors[0].second.const_data_ptr();
  ASSERT_TRUE(
      LoadByName(std::move(from), {.tensors = {{"own", own}, {"shared", own_shared}, {"viewed", own_viewed}}}).ok());
  EXPECT_EQ(own.const_data_ptr(), memory);
  EXPECT_TRUE(own.requires_grad());
  EXPECT_NE(own_shared.const_data_ptr(), shared.const_data_ptr());
  EXPECT_TRUE(at::equal(own_shared, shared));
  EXPECT_TRUE(at::equal(view, at::ones({3})));
}

TEST(SafetensorsTest, BytesMayComeInPieces) {
  Safetensors contents{.metadata = {{"format", "pt"}, {"note", "line\nbreak"}}};
  for (const auto& [name, tensor] : PythonTensors()) contents.tensors.emplace_back(name, tensor);
  const std::string bytes = SerializeSafetensors(contents);
  const SafetensorsLayout layout = LayOutSafetensors(contents);
  std::string joined = layout.header;
  for (const at::Tensor& tensor : layout.data) {
    joined.append(static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes());
  }
  EXPECT_EQ(joined, bytes);

  for (const size_t readable : {bytes.size(), size_t{4}, size_t{500}, bytes.size() - 1}) {
    size_t at = 0;
    const auto read = ReadSafetensors(bytes.size(), [&](absl::Span<char> into) -> absl::Status {
      if (at + into.size() > readable) return absl::UnavailableError("the disk is gone");
      std::memcpy(into.data(), bytes.data() + at, into.size());
      at += into.size();
      return absl::OkStatus();
    });
    if (readable == bytes.size()) {
      ASSERT_TRUE(read.ok()) << read.status();
      ExpectPythonTensors(*read);
    } else {
      EXPECT_EQ(read.status(), absl::UnavailableError("the disk is gone"));
    }
  }
}

}  // namespace
}  // namespace graticule
