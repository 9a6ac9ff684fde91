#include "data/datasets/web_dataset/web_dataset.h"

#include <archive.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "data/datasets/web_dataset/test_tar.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plugin/testing.h"

namespace graticule {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Bytes of a length and content of their own.
std::string Bytes(int seed) {
  std::string bytes(1 + seed * 379 % 2000, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(seed * 31 + i * i);
  return bytes;
}

// Samples 0 … n-1: KEY.jpg of Bytes(i), KEY.cls of i % 10.
std::vector<TarMember> Samples(int n, int first = 0) {
  std::vector<TarMember> members;
  for (int i = first; i < first + n; ++i) {
    const std::string key = absl::StrFormat("%06d", i);
    members.push_back({key + ".jpg", Bytes(i)});
    members.push_back({key + ".cls", absl::StrCat(i % 10)});
  }
  return members;
}

std::string BytesOf(const Sample& sample) { return std::string(std::get<EncodedImage>(sample.image).bytes); }

class WebDatasetTest : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::path(::testing::TempDir()) / ::testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(root_);
    fs::create_directories(root_);
    config_.add_train((root_ / "train-*.tar").string());
    config_.set_num_classes(10);
  }

  std::string Path(const std::string& name) { return (root_ / name).string(); }
  void WriteTrain(const std::vector<TarMember>& members) { WriteTar(Path("train-0.tar"), members); }

  std::unique_ptr<Dataset> Open() { return BuildPlugin<Dataset>(config_); }
  std::map<std::string, std::string> ErrorsOf(Split split = Split::kTrain) {
    return Errors(Registry<Dataset>::Create(config_, DatasetContext{split}).status());
  }

  // Of each sample.
  static std::vector<absl::StatusCode> Codes(const Dataset& dataset) {
    std::vector<absl::StatusCode> codes;
    for (int64_t i = 0; i < dataset.size(); ++i) codes.push_back(dataset.Read(i).status().code());
    return codes;
  }

  // KEY=LABEL of the good samples, KEY: REASON of the others, without the shard's path.
  std::vector<std::string> Describe(const Dataset& dataset) {
    std::vector<std::string> all;
    for (int64_t i = 0; i < dataset.size(); ++i) {
      const auto sample = dataset.Read(i);
      const std::string name = dataset.SampleName(i);
      all.push_back(absl::StrCat(
          name.substr(name.rfind(".tar:") + 5),
          sample.ok() ? absl::StrCat("=", sample->label) : absl::StrCat(": ", std::string(sample.status().message()))));
    }
    return all;
  }

  fs::path root_;
  WebDataset config_;
};

TEST_F(WebDatasetTest, ReadsShardAfterShard) {
  WriteTar(Path("train-0.tar"), Samples(3));
  WriteTar(Path("train-1.tar"), Samples(20, 3));
  WriteTar(Path("train-2.tar"), {});
  WriteTar(Path("train-3.tar"), Samples(1, 23));
  const auto dataset = Open();
  ASSERT_EQ(dataset->size(), 24);
  for (int i = 0; i < 24; ++i) {
    const auto sample = dataset->Read(i);
    ASSERT_TRUE(sample.ok()) << sample.status();
    EXPECT_EQ(BytesOf(*sample), Bytes(i));
    EXPECT_EQ(sample->label, i % 10);
  }
  EXPECT_EQ(dataset->SampleName(3), Path("train-1.tar:000003"));
  EXPECT_EQ(dataset->SampleName(22), Path("train-1.tar:000022"));
  EXPECT_EQ(dataset->SampleName(23), Path("train-3.tar:000023"));
  EXPECT_THAT(dataset->Runs(), ElementsAre(3, 20, 1));
  EXPECT_THAT(dataset->PassedOver(), IsEmpty());
  EXPECT_EQ(dataset->class_names().size(), 10u);
  EXPECT_EQ(dataset->class_names()[9], "9");
}

TEST_F(WebDatasetTest, EveryFormatOfTarAndNamesOfAnyLength) {
  for (const int format : {ARCHIVE_FORMAT_TAR_USTAR, ARCHIVE_FORMAT_TAR_PAX_INTERCHANGE,
                           ARCHIVE_FORMAT_TAR_PAX_RESTRICTED, ARCHIVE_FORMAT_TAR_GNUTAR}) {
    std::vector<std::string> keys = {"short", "a/folder.with/dots/key"};
    if (format != ARCHIVE_FORMAT_TAR_USTAR) {
      keys.push_back(std::string(150, 'x'));
      keys.push_back(std::string(200, 'y') + "/" + std::string(300, 'z'));
      keys.push_back("schl\xc3\xbcssel");
    }
    std::vector<TarMember> members;
    for (size_t i = 0; i < keys.size(); ++i) {
      members.push_back({keys[i] + ".png", Bytes(i)});
      members.push_back({keys[i] + ".cls", absl::StrCat(i)});
    }
    WriteTar(Path("train-0.tar"), members, format);
    const auto dataset = Open();
    ASSERT_EQ(dataset->size(), keys.size()) << format;
    for (size_t i = 0; i < keys.size(); ++i) {
      const auto sample = dataset->Read(i);
      ASSERT_TRUE(sample.ok()) << sample.status();
      EXPECT_EQ(BytesOf(*sample), Bytes(i)) << format;
      EXPECT_EQ(sample->label, i);
      EXPECT_EQ(dataset->SampleName(i), Path("train-0.tar:") + keys[i]);
    }
  }
}

TEST_F(WebDatasetTest, MembersInAnyOrderAndOfOtherKinds) {
  WriteTrain({{"folder/"},
              {"folder/a.cls", "1\n"},
              {"folder/b.JPEG", "b"},
              {"folder/a.json", "{}"},
              {"folder/a.webp", "a"},
              {"c.seg.png", "no image of c"},
              {"c.jpg", "c"},
              {"c.cls", " 3 "},
              {"folder/b.cls", "2"}});
  const auto dataset = Open();
  EXPECT_THAT(Describe(*dataset), ElementsAre("folder/a=1", "folder/b=2", "c=3"));
  EXPECT_EQ(BytesOf(*dataset->Read(1)), "b");
  EXPECT_EQ(BytesOf(*dataset->Read(2)), "c");
  EXPECT_THAT(dataset->PassedOver(), IsEmpty());
}

TEST_F(WebDatasetTest, LabelsThatAreNoneAreBrokenSamples) {
  std::vector<TarMember> members;
  for (const std::string& label : std::vector<std::string>{"9", "10", "-1", "", "cat", "1 2", "1e0",
                                                           "99999999999999999999", "3" + std::string(40, ' ') + "1"}) {
    const std::string key = absl::StrCat("k", members.size() / 2);
    members.push_back({key + ".jpg", "x"});
    members.push_back({key + ".cls", label});
  }
  WriteTrain(members);
  EXPECT_THAT(Describe(*Open()), ElementsAre("k0=9",                                                     //
                                             "k1: its label must be a number from 0 to 9, found '10'",   //
                                             "k2: its label must be a number from 0 to 9, found '-1'",   //
                                             "k3: its label must be a number from 0 to 9, found ''",     //
                                             "k4: its label must be a number from 0 to 9, found 'cat'",  //
                                             "k5: its label must be a number from 0 to 9, found '1 2'",  //
                                             "k6: its label must be a number from 0 to 9, found '1e0'",  //
                                             "k7: its label must be a number from 0 to 9, found "
                                             "'99999999999999999999'",
                                             "k8: its label must be a number from 0 to 9, found "
                                             "'3                               '"));
}

TEST_F(WebDatasetTest, IncompleteAndDoubledSamplesAreBroken) {
  WriteTrain({{"a.jpg", "x"},
              {"b.cls", "1"},
              {"c.jpg", "x"},
              {"c.cls", "1"},
              {"c.png", "x"},
              {"d.jpg", "x"},
              {"d.cls", "1"},
              {"e.cls", "1"},
              {"e.jpg", "", "d.jpg"},
              {"d.cls", "2"},
              {"f.jpg", "x"},
              {"f.cls", "6"}});
  EXPECT_THAT(Describe(*Open()), ElementsAre("a: has no label (.cls)",                      //
                                             "b: has no image (.jpg, .jpeg, .png, .webp)",  //
                                             "c: has two images: .jpg, .png",               //
                                             "d: has two labels: .cls, .cls",               //
                                             "e: e.jpg is a link or another thing without data", "f=6"));
}

TEST_F(WebDatasetTest, OtherMembersArePassedOver) {
  std::vector<TarMember> members = Samples(1);
  members.push_back({"README", "x"});
  members.push_back({"a/.hidden.jpg", "x"});
  members.push_back({"caption.txt", "x"});
  WriteTrain(members);
  const auto dataset = Open();
  EXPECT_EQ(dataset->size(), 1);
  EXPECT_THAT(dataset->PassedOver(), ElementsAre(Path("train-0.tar:README: has no name with an extension"),
                                                 Path("train-0.tar:a/.hidden.jpg: has no name with an extension"),
                                                 Path("train-0.tar:caption.txt: is neither an image nor a label "
                                                      "(.cls)")));
  for (int i = 0; i < 200; ++i) members.push_back({absl::StrCat(i), "x"});
  WriteTrain(members);
  EXPECT_EQ(Open()->PassedOver().size(), 101u);
  EXPECT_THAT(Open()->PassedOver().back(), EndsWith("train-0.tar: 103 more members"));
}

TEST_F(WebDatasetTest, ErrorsTellLabelsFromCutsAndFromWhatCannotBeRead) {
  WriteTrain({{"a.jpg", "x"},
              {"a.cls", "10"},
              {"b.jpg", "x"},
              {"c.cls", "1"},
              {"d.jpg", "x"},
              {"d.cls", "1"},
              {"e.jpg", Bytes(5)},
              {"e.cls", "1"}});
  using enum absl::StatusCode;
  EXPECT_THAT(Codes(*Open()), ElementsAre(kInvalidArgument, kInvalidArgument, kDataLoss, kOk, kOk));
  const int64_t size = fs::file_size(Path("train-0.tar"));
  for (const int64_t cut : {1024 + 512, 1024 + 1024, 1024 + 512 + 1024 + 1}) {  // after, in e.cls; in e.jpg
    fs::resize_file(Path("train-0.tar"), size - cut);
    EXPECT_THAT(Codes(*Open()), ElementsAre(kInvalidArgument, kInvalidArgument, kDataLoss, kOk, kOutOfRange)) << cut;
  }
}

// Damaged headers may say anything.
TEST_F(WebDatasetTest, AMemberThatIsTooLarge) {
  const int64_t size = (int64_t{256} << 20) + 1;
  WriteTrain({{"a.jpg", ""}, {"a.cls", "1"}, {"b.jpg", "x"}, {"b.cls", "1"}});
  std::string tar((std::istreambuf_iterator<char>(*std::make_unique<std::ifstream>(Path("train-0.tar")))), {});
  // The size and the sum of the header's bytes, the sum's own as spaces.
  tar.replace(124, 11, absl::StrFormat("%011o", size));
  tar.replace(148, 8, "        ");
  int sum = 0;
  for (int i = 0; i < 512; ++i) sum += static_cast<uint8_t>(tar[i]);
  tar.replace(148, 7, absl::StrFormat("%06o", sum) + '\0');
  std::ofstream file(Path("train-0.tar"), std::ios::binary);
  file << tar.substr(0, 512);
  file.seekp(512 + (size + 511) / 512 * 512);
  file << tar.substr(512);
  file.close();
  EXPECT_THAT(Describe(*Open()), ElementsAre("a: a.jpg has 268435457 bytes; 268435456 are allowed", "b=1"));
}

// Wherever it is cut: the whole samples before count and are as they were, and what is lost shows.
TEST_F(WebDatasetTest, ACutShard) {
  const int n = 4;
  WriteTrain(Samples(n));
  const std::string path = Path("train-0.tar");
  std::ifstream file(path, std::ios::binary);
  const std::string whole((std::istreambuf_iterator<char>(file)), {});
  size_t end = 0;  // of the last member, padded
  for (int i = 0; i < n; ++i) end += 512 + (Bytes(i).size() + 511) / 512 * 512 + 512 + 512;
  for (size_t size = 0; size <= end + 1024; size += 64) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << whole.substr(0, size);
    const auto dataset = Registry<Dataset>::Create(config_, DatasetContext{});
    if (!dataset.ok()) {
      EXPECT_LT(size, 512 + 512 + 512 + 512) << dataset.status();  // in the first sample
      EXPECT_THAT(Errors(dataset.status())["train"], HasSubstr("train-0.tar")) << size;
      continue;
    }
    int good = 0, broken = 0;
    for (int64_t i = 0; i < (*dataset)->size(); ++i) {
      const auto sample = (*dataset)->Read(i);
      if (!sample.ok()) {
        ++broken;
        EXPECT_THAT(std::string(sample.status().message()), testing::AnyOf(HasSubstr("cut"), HasSubstr("no label")));
        continue;
      }
      EXPECT_EQ(i, good++);
      EXPECT_EQ(BytesOf(*sample), Bytes(i)) << size;
      EXPECT_EQ(sample->label, i);
    }
    // One block of zeros is enough of an end mark.
    EXPECT_EQ(broken > 0, size < end + 512 || size % 512 != 0) << size;
    EXPECT_LE(broken, 1) << size;
    if (size >= end) EXPECT_EQ(good, n) << size;
  }
}

// What a disk that was full, or lost pages, leaves.
TEST_F(WebDatasetTest, ZerosInPlaceOfSamples) {
  const std::string path = Path("train-0.tar");
  const auto overwrite = [&](int64_t begin, int64_t end) {
    std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(begin);
    file << std::string(end - begin, '\0');
  };
  std::vector<int64_t> begins = {0};  // of the samples, and the end
  for (int i = 0; i < 40; ++i) begins.push_back(begins.back() + 512 + (Bytes(i).size() + 511) / 512 * 512 + 1024);

  WriteTrain(Samples(40));
  overwrite(begins[10], begins[40]);
  auto described = Describe(*Open());
  ASSERT_EQ(described.size(), 11);
  EXPECT_EQ(described[9], "000009=9");
  EXPECT_EQ(described[10], absl::StrCat("(end): the shard is cut or damaged: it has ", fs::file_size(path) - begins[10],
                                        " bytes of zeros from byte ", begins[10], " on"));

  WriteTrain(Samples(40));
  overwrite(begins[10], begins[20]);
  described = Describe(*Open());
  ASSERT_EQ(described.size(), 31);
  EXPECT_EQ(described[9], "000009=9");
  EXPECT_EQ(described[10], "000020=0");
  EXPECT_EQ(described[30], absl::StrCat("(end): the shard is cut or damaged: it has ", begins[20] - begins[10],
                                        " bytes of zeros from byte ", begins[10], " on"));

  WriteTrain(Samples(40));
  overwrite(0, begins[40]);
  EXPECT_THAT(ErrorsOf()["train"], HasSubstr("(end): the shard is cut or damaged"));
}

// As tar fills them, by its --blocking-factor.
TEST_F(WebDatasetTest, RecordsOfOtherSizes) {
  for (const int64_t record : {512, 10240, 65536, 1 << 20}) {
    for (const auto& [name, first] : {std::pair("a.tar", 0), std::pair("b.tar", 2)}) {
      WriteTar(Path(name), Samples(2, first));
      fs::resize_file(Path(name), (fs::file_size(Path(name)) + record - 1) / record * record);
    }
    std::ofstream(Path("train-0.tar"), std::ios::binary)
        << std::ifstream(Path("a.tar")).rdbuf() << std::ifstream(Path("b.tar")).rdbuf();
    EXPECT_THAT(Describe(*Open()), ElementsAre("000000=0", "000001=1", "000002=2", "000003=3")) << record;
  }
}

TEST_F(WebDatasetTest, ADamagedHeader) {
  WriteTrain(Samples(5));
  std::fstream file(Path("train-0.tar"), std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(4 * 512 + 512 + 512);  // of the second sample's label
  file << std::string(512, 'x');
  file.close();
  const auto described = Describe(*Open());
  ASSERT_EQ(described.size(), 2u);
  EXPECT_EQ(described[0], "000000=0");
  EXPECT_THAT(described[1], HasSubstr("the shard is cut or damaged: Damaged tar archive"));
}

TEST_F(WebDatasetTest, JoinedShardsCountWhole) {
  WriteTar(Path("a.tar"), Samples(2));
  WriteTar(Path("b.tar"), Samples(2, 2));
  std::ofstream(Path("train-0.tar"), std::ios::binary)
      << std::ifstream(Path("a.tar")).rdbuf() << std::ifstream(Path("b.tar")).rdbuf();
  EXPECT_THAT(Describe(*Open()), ElementsAre("000000=0", "000001=1", "000002=2", "000003=3"));
}

TEST_F(WebDatasetTest, FilesThatAreNoShards) {
  const auto error = [&] { return ErrorsOf()["train"]; };
  std::ofstream(Path("train-0.tar")) << "";
  EXPECT_THAT(error(), EndsWith("train-0.tar: is empty"));
  std::ofstream(Path("train-0.tar")) << std::string(3000, 'x');
  EXPECT_THAT(error(), HasSubstr("train-0.tar: is no tar file: "));
  for (const int filter : {ARCHIVE_FILTER_GZIP, ARCHIVE_FILTER_ZSTD, ARCHIVE_FILTER_XZ}) {
    WriteTar(Path("train-0.tar"), Samples(2), ARCHIVE_FORMAT_TAR_USTAR, filter);
    EXPECT_THAT(error(), HasSubstr("; samples can't be read at random from it: uncompress it"));
  }
  fs::remove(root_ / "train-0.tar");
  fs::create_directory(root_ / "train-0.tar");
  EXPECT_THAT(error(), EndsWith("train-0.tar: is a folder or another thing than a file"));
  fs::remove(root_ / "train-0.tar");
  ASSERT_EQ(mkfifo(Path("train-0.tar").c_str(), 0600), 0);
  EXPECT_THAT(error(), EndsWith("train-0.tar: is a folder or another thing than a file"));
  fs::remove(root_ / "train-0.tar");
  config_.set_train(0, Path("train-{0..1}.tar"));
  WriteTrain(Samples(1));
  EXPECT_THAT(error(), HasSubstr("train-1.tar': No such file"));
}

TEST_F(WebDatasetTest, ShardsWithoutAnythingToUse) {
  WriteTrain({});
  EXPECT_THAT(ErrorsOf()["train"], HasSubstr("no samples (an image and a label, KEY.jpg and KEY.cls) in "));
  WriteTrain({{"a.txt", "x"}});
  EXPECT_THAT(ErrorsOf()["train"], HasSubstr("no samples (an image and a label, KEY.jpg and KEY.cls) in "));
  WriteTrain({{"a.jpg", "x"}});
  EXPECT_THAT(ErrorsOf()["train"], HasSubstr("no sample of the shards can be used; the first is " +
                                             Path("train-0.tar:a: has no label (.cls)")));
}

TEST_F(WebDatasetTest, ShardsThatChangeAfterOpening) {
  WriteTar(Path("train-0.tar"), Samples(3));
  WriteTar(Path("train-1.tar"), Samples(3, 3));
  WriteTar(Path("train-2.tar"), Samples(3, 6));
  const auto dataset = Open();
  ASSERT_TRUE(dataset->Read(4).ok());
  fs::remove(root_ / "train-0.tar");
  EXPECT_THAT(std::string(dataset->Read(0).status().message()), HasSubstr("train-0.tar': No such file"));
  // One that is open.
  fs::resize_file(root_ / "train-1.tar", 600);
  EXPECT_THAT(std::string(dataset->Read(4).status().message()), HasSubstr("the shard has changed since it was opened"));
  // Other content of the same size.
  WriteTar(Path("train-2.tar"), Samples(3, 6));
  fs::last_write_time(root_ / "train-2.tar", fs::last_write_time(root_ / "train-2.tar") + std::chrono::hours(1));
  EXPECT_THAT(std::string(dataset->Read(8).status().message()), HasSubstr("the shard has changed since it was opened"));
}

TEST_F(WebDatasetTest, MoreShardsThanStayOpenAndManyThreads) {
  for (int shard = 0; shard < 100; ++shard) {
    WriteTar(Path(absl::StrFormat("train-%03d.tar", shard)), Samples(2, 2 * shard));
  }
  const auto dataset = Open();
  ASSERT_EQ(dataset->size(), 200);
  std::vector<int> good(4);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int64_t i = 0; i < 1000; ++i) {
        const int64_t index = (i * 37 + t * 11) % 200;
        const auto sample = dataset->Read(index);
        good[t] += sample.ok() && BytesOf(*sample) == Bytes(index) && sample->label == index % 10;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(good, ElementsAre(1000, 1000, 1000, 1000));
}

TEST_F(WebDatasetTest, ThreadsThatMeetOpenAShardOnce) {
  for (int shard = 0; shard < 50; ++shard) WriteTar(Path(absl::StrFormat("train-%02d.tar", shard)), Samples(1));
  const auto dataset = Open();
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int64_t i = 0; i < 50; ++i) EXPECT_TRUE(dataset->Read(i).ok());
    });
  }
  for (std::thread& thread : threads) thread.join();
  int open = 0;
  for (const fs::directory_entry& descriptor : fs::directory_iterator("/proc/self/fd")) {
    std::error_code error;
    open += fs::read_symlink(descriptor, error).string().ends_with(".tar");
  }
  EXPECT_EQ(open, 50);
}

TEST_F(WebDatasetTest, ClassNames) {
  WriteTrain(Samples(2));
  std::ofstream(Path("names.txt")) << "cat\ncrane\ncrane\n";
  config_.set_class_names(Path("names.txt"));
  EXPECT_THAT(ErrorsOf()["num_classes"], HasSubstr("is 10, but " + Path("names.txt") + " has 3 names"));
  config_.clear_num_classes();
  EXPECT_THAT(Open()->class_names(), ElementsAre("cat", "crane", "crane"));
  config_.set_class_names(Path("none.txt"));
  EXPECT_THAT(ErrorsOf()["class_names"], HasSubstr("none.txt"));
}

TEST_F(WebDatasetTest, BadConfigs) {
  WebDataset config;
  const auto errors = Errors(Registry<Dataset>::Create(config, DatasetContext{}).status());
  EXPECT_THAT(errors.at("train"), HasSubstr("is required"));
  EXPECT_THAT(errors.at("num_classes"), HasSubstr("is required, or class_names"));
  EXPECT_THAT(ErrorsOf(Split::kVal)["val"], HasSubstr("is required"));
  EXPECT_THAT(ErrorsOf()["train[0]"], HasSubstr("no file is called"));
  WriteTrain(Samples(1));
  config_.add_train(Path("train-{0..}.tar"));
  config_.add_train(Path("train-0.tar"));
  config_.set_num_classes(-1);
  EXPECT_THAT(ErrorsOf()["train[1]"], HasSubstr("is neither a rising range"));
  EXPECT_THAT(ErrorsOf()["train[2]"], HasSubstr("train-0.tar is named twice"));
  EXPECT_THAT(ErrorsOf()["num_classes"], HasSubstr("must be positive, found -1"));
}

}  // namespace
}  // namespace graticule
