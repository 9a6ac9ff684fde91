#include "nn/torch_file.h"

#include <zip.h>

#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ATen/ops/equal.h"
#include "ATen/ops/full_like.h"
#include "ATen/ops/ones.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nn/safetensors.h"
#include "nn/weights_file.h"
#include "plugin/file.h"

namespace graticule {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kFolder[] = "nn/testdata/";

std::string Bytes(const std::string& name) { return *ReadFile(kFolder + name); }

// A little-endian number.
std::string Number(uint64_t number, int width) { return std::string(reinterpret_cast<const char*>(&number), width); }

// Pickle opcodes, written by hand.
std::string Text(std::string_view text) { return "X" + Number(text.size(), 4) + std::string(text); }
std::string Int(int64_t number) { return "\x8a\x08" + Number(number, 8); }
std::string Global(const std::string& module, const std::string& name) { return "c" + module + "\n" + name + "\n"; }
std::string Tuple(const std::vector<std::string>& items) {
  std::string pickle = "(";
  for (const std::string& item : items) pickle += item;
  return pickle + "t";
}
std::string Ints(const std::vector<int64_t>& numbers) {
  std::vector<std::string> items;
  for (const int64_t number : numbers) items.push_back(Int(number));
  return Tuple(items);
}
std::string Dict(const std::vector<std::pair<std::string, std::string>>& items) {
  std::string pickle = "}(";
  for (const auto& [key, value] : items) pickle += Text(key) + value;
  return pickle + "u";
}
std::string Pickle(const std::string& value) { return "\x80\x02" + value + "."; }
std::string Storage(const std::string& type, const std::string& key, int64_t elements) {
  return Tuple({Text("storage"), Global("torch", type), Text(key), Text("cpu"), Int(elements)}) + "Q";
}
std::string TensorOf(const std::string& storage, int64_t offset, const std::vector<int64_t>& sizes,
                     const std::vector<int64_t>& strides) {
  return Global("torch._utils", "_rebuild_tensor_v2") +
         Tuple(
             {storage, Int(offset), Ints(sizes), Ints(strides), "\x89", Global("collections", "OrderedDict") + ")R"}) +
         "R";
}

struct Entry {
  std::string name, data;
  bool compressed = false;
};

std::string Zip(const std::vector<Entry>& entries) {
  zip_error_t error;
  zip_source_t* source = zip_source_buffer_create(nullptr, 0, 0, &error);
  zip_source_keep(source);
  zip_t* zip = zip_open_from_source(source, ZIP_TRUNCATE, &error);
  for (const Entry& entry : entries) {
    const auto index = zip_file_add(zip, entry.name.c_str(),
                                    zip_source_buffer(zip, entry.data.data(), entry.data.size(), 0), ZIP_FL_ENC_UTF_8);
    zip_set_file_compression(zip, index, entry.compressed ? ZIP_CM_DEFLATE : ZIP_CM_STORE, 0);
  }
  EXPECT_EQ(zip_close(zip), 0);
  zip_stat_t stat;
  zip_source_stat(source, &stat);
  std::string bytes(stat.size, '\0');
  zip_source_open(source);
  EXPECT_EQ(zip_source_read(source, bytes.data(), bytes.size()), static_cast<zip_int64_t>(bytes.size()));
  zip_source_close(source);
  zip_source_free(source);
  return bytes;
}

// A file whose storage "0" is eight bytes.
std::string File(const std::string& value) {
  return Zip({{"archive/data.pkl", Pickle(value)}, {"archive/data/0", "01234567"}, {"archive/version", "3\n"}});
}

std::string LegacyFile(const std::string& value, const std::string& keys, const std::string& data) {
  return "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03." +
         Pickle(Dict({{"protocol_version", "M\xe9\x03"}, {"little_endian", "\x88"}})) + Pickle(value) + Pickle(keys) +
         data;
}

std::string ErrorOf(const std::string& bytes) {
  const auto parsed = ParseTorchFile(bytes, false);
  EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << parsed.status();
  return std::string(parsed.status().message());
}

// The error for a state dict of one tensor "w".
std::string TensorError(const std::string& storage, int64_t offset, const std::vector<int64_t>& sizes,
                        const std::vector<int64_t>& strides) {
  return ErrorOf(File(Dict({{"w", TensorOf(storage, offset, sizes, strides)}})));
}

void ExpectFixture(const absl::StatusOr<Safetensors>& read) {
  ASSERT_TRUE(read.ok()) << read.status();
  const auto expected = ReadSafetensors(std::string(kFolder) + "torch_state_dict.safetensors");
  ASSERT_TRUE(expected.ok()) << expected.status();
  EXPECT_EQ(read->tensors.size(), expected->tensors.size());
  for (const auto& [name, tensor] : expected->tensors) {
    const at::Tensor found = read->Find(name);
    ASSERT_TRUE(found.defined()) << name;
    EXPECT_EQ(found.scalar_type(), tensor.scalar_type()) << name;
    EXPECT_EQ(found.sizes(), tensor.sizes()) << name;
    EXPECT_TRUE(found.is_contiguous()) << name;
    EXPECT_FALSE(found.requires_grad()) << name;
    EXPECT_TRUE(at::equal(found, tensor)) << name;
  }
}

TEST(TorchFileTest, ReadsWhatPythonWrites) {
  for (const char* name : {"torch_state_dict.pth", "torch_state_dict_v4.pth", "torch_legacy.pth"}) {
    SCOPED_TRACE(name);
    const auto read = ParseTorchFile(Bytes(name), false);
    ExpectFixture(read);
    EXPECT_EQ(read->metadata.count(kStateDictKey), 0);
    EXPECT_EQ(read->tensors.front().first, "float64");  // in the file's order
  }
}

TEST(TorchFileTest, ReadsModelOrEmaOfATrainingCheckpoint) {
  const auto model = ParseTorchFile(Bytes("torch_checkpoint.pth"), false);
  ExpectFixture(model);
  EXPECT_EQ(model->metadata.at(kStateDictKey), "model");
  const auto ema = ParseTorchFile(Bytes("torch_checkpoint.pth"), true);
  ASSERT_TRUE(ema.ok()) << ema.status();
  EXPECT_EQ(ema->metadata.at(kStateDictKey), "model_ema");
  ASSERT_EQ(ema->tensors.size(), 1);
  EXPECT_TRUE(at::equal(ema->Find("float32"), at::ones({2, 3})));
}

TEST(TorchFileTest, FindsTheStateDict) {
  const std::string tensor = TensorOf(Storage("FloatStorage", "0", 2), 0, {2}, {1});
  const auto taken = [](const std::string& value, bool ema) {
    const auto read = ParseTorchFile(File(value), ema);
    EXPECT_TRUE(read.ok()) << read.status();
    const auto key = read->metadata.find(kStateDictKey);
    return key == read->metadata.end() ? "whole" : key->second;
  };
  for (const char* key : {"model", "state_dict", "model_state", "module", "model_ema", "state_dict_ema"}) {
    for (const bool ema : {false, true}) {
      EXPECT_EQ(taken(Dict({{"arch", Text("vit")}, {key, Dict({{"w", tensor}})}}), ema), key);
    }
  }
  const std::string both =
      Dict({{"state_dict_ema", Dict({{"w", tensor}})}, {"model", Text("vit")}, {"state_dict", Dict({{"w", tensor}})}});
  EXPECT_EQ(taken(both, false), "state_dict");
  EXPECT_EQ(taken(both, true), "state_dict_ema");
  EXPECT_EQ(taken(Dict({{"epoch", Int(3)}, {"w", tensor}}), true), "whole");

  EXPECT_THAT(ErrorOf(File(Dict({{"student", Dict({{"w", tensor}})}, {"model", Text("vit")}}))),
              AllOf(HasSubstr("no state dict"), HasSubstr("model_ema; it has 'student', 'model'")));
  EXPECT_THAT(ErrorOf(File("]")), HasSubstr("holds no state dict"));
  EXPECT_THAT(ErrorOf(File("}")), HasSubstr("no state dict"));
  EXPECT_THAT(ErrorOf(File(Dict({{"w", tensor}, {"w", tensor}}))), HasSubstr("'w' twice"));
  EXPECT_THAT(ErrorOf(File(Dict({{"__metadata__", tensor}}))), HasSubstr("'__metadata__'"));
}

TEST(TorchFileTest, TheBytesDecideTheFormat) {
  ExpectFixture(ReadWeightsFile(std::string(kFolder) + "torch_legacy.pth", false));
  ExpectFixture(ReadWeightsFile(std::string(kFolder) + "torch_checkpoint.pth", false));
  ExpectFixture(ReadWeightsFile(std::string(kFolder) + "torch_state_dict.safetensors", false));
  EXPECT_EQ(ReadWeightsFile(std::string(kFolder) + "torch_checkpoint.pth", true)->tensors.size(), 1);

  // A header of 0x280 bytes begins like a pickle.
  std::string header = "{}";
  header.resize(0x280, ' ');
  const std::string path = testing::TempDir() + "/header.pth";
  ASSERT_TRUE(WriteFile(path, Number(header.size(), 8) + header).ok());
  EXPECT_TRUE(ReadWeightsFile(path, false).ok());
  ASSERT_TRUE(WriteFile(path, Pickle("}")).ok());
  EXPECT_THAT(std::string(ReadWeightsFile(path, false).status().message()),
              AllOf(HasSubstr("header.pth': "), HasSubstr("not a file of torch.save")));
}

TEST(TorchFileTest, RefusesCodeAndNamesIt) {
  // What an attacker writes: os.system("touch FILE") by each way to call.
  const std::string mark = testing::TempDir() + "/was_run";
  const std::string command = Text("touch " + mark);
  const std::pair<std::string, const char*> programs[] = {
      {Global("os", "system") + Tuple({command}) + "R", "'os.system'"},
      {Global("posix", "system") + Tuple({command}) + "R", "'posix.system'"},
      {Text("posix") + Text("system") + "\x93" + command + "\x85R", "'posix.system'"},
      {Global("builtins", "eval") + Tuple({Text("1")}) + "R", "'builtins.eval'"},
      {Global("__builtin__", "getattr") + ")R", "'__builtin__.getattr'"},
      {Global("torch", "load") + ")R", "'torch.load'"},
      {Global("torch.storage", "_load_from_bytes") + ")R", "'torch.storage._load_from_bytes'"},
      {Global("timm.models.vision_transformer", "VisionTransformer") + ")\x81}b", "VisionTransformer'"},
      {Global("nt\x1b[2J", "system") + ")R", "'nt\\x1b[2J.system'"},
      {"(" + command + "ios\nsystem\n", "INST"},
      {"(" + Global("argparse", "Namespace") + command + "o", "OBJ"},
      {"\x82\x01", "EXT"},
      {"\x83\x01\x01", "EXT"},
      {"\x84\x01\x01\x01\x01", "EXT"},
  };
  for (const auto& [program, name] : programs) {
    // The weights before it do not matter.
    const std::string value = Dict({{"w", TensorOf(Storage("FloatStorage", "0", 2), 0, {2}, {1})}, {"args", program}});
    for (const std::string& file : {File(value), LegacyFile(value, "]", "")}) {
      EXPECT_THAT(ErrorOf(file),
                  AllOf(HasSubstr(name), HasSubstr("would run code"), HasSubstr("refused"), HasSubstr("torch.save(")));
    }
  }
  EXPECT_FALSE(ReadFile(mark).ok());
  // Known names are no functions here either.
  EXPECT_THAT(ErrorOf(File(Global("torch", "FloatStorage") + Tuple({Int(int64_t{1} << 60)}) + "R")),
              HasSubstr("calls FloatStorage"));
  EXPECT_THAT(ErrorOf(File(Text("os") + ")R")), HasSubstr("calls something else than a known global"));
}

TEST(TorchFileTest, RefusesBrokenPickles) {
  EXPECT_THAT(ErrorOf(Zip({{"a/data.pkl", ""}})), HasSubstr("truncated"));
  EXPECT_THAT(ErrorOf(Zip({{"a/data.pkl", "\x80\x02}"}})), HasSubstr("truncated"));
  EXPECT_THAT(ErrorOf(Zip({{"a/data.pkl", "\x80\x09}."}})), HasSubstr("protocol 9"));
  EXPECT_THAT(ErrorOf(File("")), HasSubstr("other than one value"));
  EXPECT_THAT(ErrorOf(File("}(")), HasSubstr("other than one value"));
  EXPECT_THAT(ErrorOf(File("I1\n")), HasSubstr("0x49"));
  EXPECT_THAT(ErrorOf(File("cos")), HasSubstr("has no end"));
  EXPECT_THAT(ErrorOf(File("t")), HasSubstr("from a mark where there is none"));
  EXPECT_THAT(ErrorOf(File("(a")), HasSubstr("takes a value where there is none"));
  EXPECT_THAT(ErrorOf(File(")NNs")), HasSubstr("no such collection"));
  EXPECT_THAT(ErrorOf(File("}(Nu")), HasSubstr("no value"));
  EXPECT_THAT(ErrorOf(File("h\x05")), HasSubstr("recalls value 5"));
  EXPECT_THAT(ErrorOf(File("NN\x93")), HasSubstr("by other than text"));
  EXPECT_THAT(ErrorOf(File("N}b")), HasSubstr("that has none"));
  EXPECT_THAT(ErrorOf(File(Text("0") + "Q")), HasSubstr("something else than the storage"));
  EXPECT_THAT(ErrorOf(File(Tuple({Text("module"), "N"}) + "Q")), HasSubstr("something else than the storage"));
  for (const std::string& size : {"X" + Number(0xffffffff, 4), "\x8d" + Number(~0ull, 8),
                                  "\x8b" + Number(0xffffffff, 4), "\x8e" + Number(1ull << 62, 8)}) {
    EXPECT_THAT(ErrorOf(File(size)), HasSubstr("may be truncated"));
  }
}

TEST(TorchFileTest, SurvivesBombs) {
  constexpr int kDepth = 3'000'000;
  // Tuples in tuples, and lists that hold themselves.
  EXPECT_THAT(ErrorOf(File(")" + std::string(kDepth, '\x85'))), HasSubstr("holds no state dict"));
  EXPECT_THAT(ErrorOf(File(std::string("]\x94h\0a", 5))), HasSubstr("holds no state dict"));
  EXPECT_THAT(ErrorOf(File(std::string(kDepth, '('))), HasSubstr("other than one value"));
  EXPECT_THAT(ErrorOf(File(std::string(5'000'000, ']'))), HasSubstr("more than 4000000 values"));
  std::string memo = "]";
  for (int i = 0; i < 4'100'000; ++i) memo += "\x94";
  EXPECT_THAT(ErrorOf(File(memo)), HasSubstr("remembers more than"));
  // Each list holds the one before it ten times: 10^100 values for whoever walks them.
  std::string laughs = "(]\x94";
  for (char i = 0; i < 100; ++i) {
    laughs += "](";
    for (int j = 0; j < 10; ++j) laughs += std::string("h") + i;
    laughs += "e\x94";
  }
  EXPECT_THAT(ErrorOf(File(Dict({{"state_dict", laughs + "t"}}))), HasSubstr("it has 'state_dict'"));
  // A subclass of a subclass of …
  const std::string subclass = Global("torch._tensor", "_rebuild_from_type_v2");
  EXPECT_THAT(ErrorOf(File(subclass + Tuple({subclass, "N", Tuple({subclass, "N", ")"})}) + "R")),
              HasSubstr("a class of its own"));
}

TEST(TorchFileTest, RefusesTensorsBeyondTheirStorage) {
  const std::string storage = Storage("FloatStorage", "0", 2);
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  EXPECT_THAT(TensorError(storage, 0, {3}, {1}),
              HasSubstr("tensor 'w': of shape [3] reaches to element 3 of a storage of 2"));
  EXPECT_THAT(TensorError(storage, 1, {2}, {1}), HasSubstr("reaches to element 3"));
  EXPECT_THAT(TensorError(storage, 2, {}, {}), HasSubstr("reaches to element 3"));
  EXPECT_THAT(TensorError(storage, 0, {2, 2}, {0, 2}), HasSubstr("reaches to element 3"));
  EXPECT_THAT(TensorError(storage, -1, {1}, {1}), HasSubstr("too large"));
  EXPECT_THAT(TensorError(storage, kMax, {1}, {1}), HasSubstr("too large"));
  EXPECT_THAT(TensorError(storage, 0, {-1}, {1}), HasSubstr("shape of other than whole numbers"));
  EXPECT_THAT(TensorError(storage, 1, {2}, {-1}), HasSubstr("stride of other than whole numbers"));
  EXPECT_THAT(TensorError(storage, 0, {2}, {kMax}), HasSubstr("too large"));
  EXPECT_THAT(TensorError(storage, 0, {3}, {kMax}), HasSubstr("too large"));
  EXPECT_THAT(TensorError(storage, 0, {kMax}, {0}), HasSubstr("too large"));
  EXPECT_THAT(TensorError(storage, 0, {int64_t{1} << 62}, {0}), HasSubstr("too large"));
  EXPECT_THAT(TensorError(storage, 0, {int64_t{1} << 32, int64_t{1} << 32}, {0, 0}), HasSubstr("too large"));
  EXPECT_THAT(TensorError(storage, 0, {int64_t{1} << 62, 0, 8}, {0, 0, 0}), HasSubstr("too large"));
  EXPECT_THAT(TensorError(storage, 0, {int64_t{1} << 40}, {0}), HasSubstr("far larger than the file"));
  EXPECT_THAT(TensorError(storage, 0, {2}, {1, 1}), HasSubstr("2 strides"));
  EXPECT_THAT(TensorError(storage, 0, std::vector<int64_t>(65, 1), std::vector<int64_t>(65, 1)),
              HasSubstr("65 dimensions"));
  // Many that are each within the bound.
  std::vector<std::pair<std::string, std::string>> tensors;
  for (int i = 0; i < 100; ++i) tensors.emplace_back(absl::StrCat(i), TensorOf(storage, 0, {1 << 20}, {0}));
  EXPECT_THAT(ErrorOf(File(Dict(tensors))), HasSubstr("tensor '4'"));
}

TEST(TorchFileTest, RefusesStoragesThatAreNotThere) {
  const auto error = [](const std::string& type, const std::string& key, int64_t elements) {
    return TensorError(Storage(type, key, elements), 0, {1}, {1});
  };
  EXPECT_THAT(error("FloatStorage", "1", 2), HasSubstr("tensor 'w': its zip has no 'archive/data/1'"));
  EXPECT_THAT(error("FloatStorage", "../data.pkl", 2), HasSubstr("has no 'archive/data/../data.pkl'"));
  EXPECT_THAT(error("FloatStorage", "0", 3), HasSubstr("'archive/data/0' has 8 bytes, not those of its 3 elements"));
  EXPECT_THAT(error("DoubleStorage", "0", 2), HasSubstr("has 8 bytes"));
  // 2^62 · 4 + 8 is 8 in 64 bits.
  EXPECT_THAT(error("FloatStorage", "0", (int64_t{1} << 62) + 2), HasSubstr("has 8 bytes"));
  EXPECT_THAT(error("FloatStorage", "0", -2), HasSubstr("has -2 elements"));
  EXPECT_THAT(error("ComplexFloatStorage", "0", 1), HasSubstr("tensor 'w': is of another type"));
  EXPECT_THAT(ErrorOf(File(Dict({{"a", TensorOf(Storage("FloatStorage", "0", 2), 0, {1}, {1})},
                                 {"b", TensorOf(Storage("IntStorage", "0", 2), 0, {1}, {1})}}))),
              HasSubstr("otherwise than before"));
  EXPECT_THAT(ErrorOf(File(Dict({{"w", Global("torch._utils", "_rebuild_tensor_v2") + Tuple({"N", "N"}) + "R"}}))),
              HasSubstr("too few arguments"));
  EXPECT_THAT(
      ErrorOf(File(Dict({{"w", Global("torch._utils", "_rebuild_tensor_v2") + Tuple({"N", "N", "N", "N"}) + "R"}}))),
      HasSubstr("wrong arguments"));
}

TEST(TorchFileTest, OddBytesOfABoolAreTrue) {
  const auto read = ParseTorchFile(File(Dict({{"m", TensorOf(Storage("BoolStorage", "0", 8), 0, {8}, {1})}})), false);
  ASSERT_TRUE(read.ok()) << read.status();
  const at::Tensor bytes = read->Find("m").to(at::kByte);
  EXPECT_TRUE(at::equal(bytes, at::full_like(bytes, 1)));
}

TEST(TorchFileTest, RefusesOddArchives) {
  const std::string pickle = Pickle(Dict({{"w", TensorOf(Storage("FloatStorage", "0", 2), 0, {2}, {1})}}));
  const Entry data = {"a/data/0", "01234567"};
  ASSERT_TRUE(ParseTorchFile(Zip({{"a/data.pkl", pickle}, data}), false).ok());
  ASSERT_TRUE(ParseTorchFile(Zip({{"a/data.pkl", pickle}, data, {"a/byteorder", "little"}}), false).ok());
  EXPECT_THAT(ErrorOf(Zip({{"a/data.pkl", pickle}, data, {"a/byteorder", "big"}})), HasSubstr("byte order is 'big'"));
  EXPECT_THAT(ErrorOf(Zip({{"a/data.pkl", pickle}, data, {"b/data.pkl", pickle}})), HasSubstr("two data.pkl"));
  EXPECT_THAT(ErrorOf(Zip({{"a/b/data.pkl", pickle}, data})), HasSubstr("torch.save did not write"));
  EXPECT_THAT(ErrorOf(Bytes("torch_script.pt")), HasSubstr("TorchScript"));
  EXPECT_THAT(ErrorOf("PK\x03\x04 and so on"), HasSubstr("damaged or truncated zip"));
  // A thousandfold in the zip.
  EXPECT_THAT(ErrorOf(Zip({{"a/data.pkl", pickle}, {"a/data/0", std::string(1 << 20, '0'), true}})),
              HasSubstr("'a/data/0' is compressed"));
  EXPECT_THAT(ErrorOf(Zip({{"a/data.pkl", pickle + std::string(1 << 20, ' '), true}, data})),
              HasSubstr("'a/data.pkl' is compressed"));

  // Two entries of one name: libzip writes none, so the second gets its name afterwards.
  std::string twice = Zip({{"a/data.pkl", pickle}, data, {"a/data/1", "76543210"}});
  for (size_t at = twice.find("a/data/1"); at != std::string::npos; at = twice.find("a/data/1")) twice[at + 7] = '0';
  EXPECT_THAT(ErrorOf(twice), HasSubstr("'a/data/0' twice"));
  std::string changed = Zip({{"a/data.pkl", pickle}, data});
  changed[changed.find("01234567")] ^= 1;
  EXPECT_THAT(ErrorOf(changed), AllOf(HasSubstr("'a/data/0'"), HasSubstr("CRC")));
}

TEST(TorchFileTest, RefusesOddLegacyFiles) {
  const std::string tensor = Dict({{"w", TensorOf(Storage("FloatStorage", "7", 2), 0, {2}, {1})}});
  const std::string keys = "]" + Text("7") + "a";
  const std::string data = Number(2, 8) + "01234567";
  ASSERT_TRUE(ParseTorchFile(LegacyFile(tensor, keys, data), false).ok());
  EXPECT_THAT(ErrorOf(LegacyFile(tensor, "]", "")), HasSubstr("storage '7' is missing"));
  EXPECT_THAT(ErrorOf(LegacyFile(tensor, keys + Text("8") + "a", data)), HasSubstr("does not describe"));
  EXPECT_THAT(ErrorOf(LegacyFile(tensor, keys + Text("7") + "a", data + data)), HasSubstr("'7' twice"));
  EXPECT_THAT(ErrorOf(LegacyFile(tensor, "}", data)), HasSubstr("no list of storages"));
  EXPECT_THAT(ErrorOf(LegacyFile(tensor, keys, data.substr(0, 7))), HasSubstr("ends before storage '7'"));
  EXPECT_THAT(ErrorOf(LegacyFile(tensor, keys, data.substr(0, 15))), HasSubstr("ends in storage '7'"));
  EXPECT_THAT(ErrorOf(LegacyFile(tensor, keys, Number(3, 8) + "0123456789ab")), HasSubstr("3 elements instead of 2"));
  std::string big_endian = LegacyFile(tensor, keys, data);
  big_endian[big_endian.find("little_endian") + 13] = '\x89';
  EXPECT_THAT(ErrorOf(big_endian), HasSubstr("byte order"));
}

TEST(TorchFileTest, SurvivesAnyFlippedByteAndAnyCut) {
  std::mt19937 random(1);
  for (const char* name : {"torch_checkpoint.pth", "torch_legacy.pth"}) {
    const std::string whole = Bytes(name);
    for (size_t i = 0; i < whole.size(); ++i) {
      EXPECT_FALSE(ParseTorchFile(std::string_view(whole).substr(0, i), false).ok()) << i;
      std::string flipped = whole;
      flipped[i] = static_cast<char>(flipped[i] ^ (1 << random() % 8));
      const auto parsed = ParseTorchFile(flipped, false);
      EXPECT_TRUE(parsed.ok() || !parsed.status().message().empty());
    }
  }
}

}  // namespace
}  // namespace graticule
