// `graticule check` on data that is sound and on data that is not; `graticule show --batch`.
#include <filesystem>
#include <string>
#include <vector>

#include "data/decode/decode.h"
#include "data/decode/test_files.h"
#include "data/image.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/program.h"
#include "trainer/parts.h"
#include "trainer/spec.h"

namespace graticule {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// A JPEG file of 24×32 pixels, another one for each number.
std::string Jpeg(int number) {
  Image image{24, 32, Pixels(3 * 24 * 32)};
  for (int i = 0; i < 3 * 24 * 32; ++i) image.pixels[i] = static_cast<uint8_t>(5 * number + i * i / 99);
  return JpegFile(image);
}

class DataTest : public testing::Test {
 protected:
  // Two classes of eight images, of which four each for validation.
  DataTest() {
    int number = 0;
    for (const char* split : {"train", "val"}) {
      for (const char* name : {"cat", "dog"}) {
        fs::create_directories(images_ + "/" + split + "/" + name);
        for (int i = 0; i < (std::string(split) == "train" ? 8 : 4); ++i) {
          WriteText(images_ + "/" + split + "/" + name + "/" + std::to_string(i) + ".jpg", Jpeg(number++));
        }
      }
    }
  }

  // TinySpec, on the images.
  std::string WriteSpec(std::string extra_data = "") {
    std::string text = TinySpec();
    const size_t begin = text.find("  dataset {");
    const size_t end = text.find("  image_size: 16");
    text.replace(
        begin, end - begin,
        "  dataset { [type.googleapis.com/graticule.ImageFolder] { path: \"" + images_ + "\" } }\n" + extra_data);
    WriteText(folder_ + "/spec.textproto", text);
    return folder_ + "/spec.textproto";
  }

  const std::string folder_ = FreshFolder("work");
  const std::string images_ = folder_ + "/images";
};

TEST_F(DataTest, SoundDataHasNoMistakes) {
  const ProgramResult result = RunProgram({"check", WriteSpec()});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, AllOf(HasSubstr("train: 16 images in 2 classes, 0 with errors\n"),
                                HasSubstr("val: 8 images in 2 classes, 0 with errors\n"), HasSubstr("img/s"),
                                HasSubstr("spec.textproto: no mistakes\n")));
  EXPECT_EQ(result.err, "");
}

TEST_F(DataTest, EveryBrokenOrMislabelledImageIsNamed) {
  const std::string cat = images_ + "/train/cat/", dog = images_ + "/train/dog/", val = images_ + "/val/";
  WriteText(cat + "0.jpg", Jpeg(0).substr(0, Jpeg(0).size() / 2));
  WriteText(cat + "1.jpg", "");
  WriteText(dog + "2.jpg", "no image, but a note, with a comma");
  WriteText(cat + "copy.jpg", Jpeg(3));             // of cat/3.jpg
  WriteText(dog + "copy.jpg", Jpeg(3));             // the same in another class
  WriteText(val + "cat/known.jpg", Jpeg(2));        // of train/cat/2.jpg
  WriteText(val + "dog/mislabelled.jpg", Jpeg(4));  // of train/cat/4.jpg
  const std::string report = folder_ + "/report.csv";
  const ProgramResult result = RunProgram({"check", WriteSpec(), "--report=" + report});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.LastError(), HasSubstr("broken or mislabelled: 5,"));
  EXPECT_THAT(result.out, Not(HasSubstr("no mistakes")));
  EXPECT_THAT(result.out, HasSubstr("(1)\n  train " + cat + "0.jpg: "));
  EXPECT_THAT(result.out, HasSubstr("empty (1)\n  train " + cat + "1.jpg: "));
  EXPECT_THAT(result.out, HasSubstr("(1)\n  train " + dog + "2.jpg: "));
  EXPECT_THAT(result.out, HasSubstr("train " + dog + "copy.jpg: is of class dog, the same as train " + cat +
                                    "3.jpg of class cat\n"));
  EXPECT_THAT(result.out, HasSubstr("val " + val + "dog/mislabelled.jpg: is of class dog, the same as train " + cat +
                                    "4.jpg of class cat\n"));
  EXPECT_THAT(result.out, HasSubstr("(1)\n  train " + cat + "copy.jpg: the same as train " + cat + "3.jpg\n"));
  EXPECT_THAT(result.out, HasSubstr("(1)\n  val " + val + "cat/known.jpg: the same as train " + cat + "2.jpg\n"));
  EXPECT_THAT(result.out, AllOf(HasSubstr("train: 18 images in 2 classes, 4 with errors\n"),
                                HasSubstr("val: 10 images in 2 classes, 1 with errors\n")));

  const std::string csv = ReadText(report);
  EXPECT_THAT(csv, testing::StartsWith("split,sample,problem,detail\ntrain," + cat + "0.jpg,truncated,"));
  for (const std::string& line :
       {"train," + cat + "1.jpg,empty,", "train," + dog + "2.jpg,not_an_image,", "train," + cat + "copy.jpg,duplicate,",
        "train," + dog + "copy.jpg,two_classes,\"is of class dog, the same as",
        "val," + val + "cat/known.jpg,in_both_splits,", "val," + val + "dog/mislabelled.jpg,two_classes,"}) {
    EXPECT_THAT(csv, HasSubstr("\n" + line));
  }
}

TEST_F(DataTest, ATruncatedImageMayBeKept) {
  WriteText(images_ + "/val/cat/0.jpg", Jpeg(16).substr(0, Jpeg(16).size() / 2));
  EXPECT_EQ(RunProgram({"check", WriteSpec()}).exit_code, 1);
  const ProgramResult kept = RunProgram({"check", WriteSpec("decoding { truncated: KEEP }\n")});
  EXPECT_EQ(kept.exit_code, 0) << kept.err;
  EXPECT_THAT(kept.out, AllOf(HasSubstr("(1)\n  val " + images_ + "/val/cat/0.jpg: "), HasSubstr("no mistakes")));
}

TEST_F(DataTest, OfManyTheFirstAreNamedAndTheReportHasAll) {
  for (int i = 0; i < 25; ++i) WriteText(images_ + "/train/dog/x" + std::to_string(100 + i) + ".jpg", "");
  const std::string report = folder_ + "/report.csv";
  const ProgramResult result = RunProgram({"check", WriteSpec(), "--report", report});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.out, AllOf(HasSubstr("empty (25)\n"), HasSubstr("/dog/x109.jpg"), Not(HasSubstr("/dog/x110.jpg")),
                                HasSubstr("\n  and 15 more; --report=FILE lists all\n")));
  EXPECT_THAT(ReadText(report), HasSubstr("/dog/x124.jpg"));
}

TEST_F(DataTest, TheSpecAloneIsCheckedWithoutReading) {
  WriteText(images_ + "/train/cat/0.jpg", "");
  EXPECT_EQ(RunProgram({"check", WriteSpec(), "--spec-only"}).exit_code, 0);
  const ProgramResult mistake = RunProgram({"check", WriteSpec(), "--set", "backbone.num_heads=3"});
  EXPECT_EQ(mistake.exit_code, 2);
  EXPECT_THAT(mistake.out, Not(HasSubstr("0.jpg")));
  EXPECT_EQ(RunProgram({"check", WriteSpec(), "--spec-only", "--report=x.csv"}).exit_code, 2);
  const ProgramResult nowhere = RunProgram({"check", WriteSpec(), "--report=" + folder_ + "/none/x.csv"});
  EXPECT_EQ(nowhere.exit_code, 2);
  EXPECT_THAT(nowhere.LastError(), HasSubstr("there is no folder " + folder_ + "/none"));
}

// The batch that training begins with.
Batch FirstBatch(const std::string& spec_path) {
  const auto spec = Spec::Load(spec_path);
  EXPECT_TRUE(spec.ok()) << spec.status();
  const auto data = BuildData(spec->experiment());
  EXPECT_TRUE(data.ok()) << data.status();
  const std::unique_ptr<Loader> loader = data->TrainLoader(spec->experiment());
  loader->Start(0);
  return **loader->Next();
}

TEST_F(DataTest, ShowDrawsTheImagesThatTrainingSees) {
  const std::string spec = WriteSpec(), png = folder_ + "/batch.png";
  const ProgramResult result = RunProgram({"show", spec, "--batch=" + png, "--images=3"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.LastError(), HasSubstr(png));
  const auto picture = DecodeImage(ReadText(png));
  ASSERT_TRUE(picture.ok()) << picture.status();
  // Images of 16×16, enlarged by 14, in two columns; on their left a panel, enlarged by 30.
  EXPECT_EQ(picture->size(), (Size2d{8 + 2 * 256, 8 + 488 + 2 * 232}));
  const Batch batch = FirstBatch(spec);
  for (int64_t i = 0; i < 3; ++i) {
    for (int64_t y = 0; y < 16; ++y) {
      for (int64_t x = 0; x < 16; ++x) {
        for (int64_t c = 0; c < 3; ++c) {
          const int64_t row = 8 + i / 2 * 256 + 14 * y + 7, column = 8 + 488 + i % 2 * 232 + 14 * x + 7;
          ASSERT_EQ(picture->pixels[3 * (row * picture->width + column) + c], batch.images[i][c][y][x].item<uint8_t>());
        }
      }
    }
  }
}

TEST_F(DataTest, ShowSaysWhyItCannotDraw) {
  const std::string spec = WriteSpec();
  const auto fails = [&](int exit_code, const std::string& argument, const std::string& reason) {
    const ProgramResult result = RunProgram({"show", spec, argument});
    EXPECT_EQ(result.exit_code, exit_code) << argument;
    EXPECT_THAT(result.LastError(), HasSubstr(reason));
  };
  fails(2, "--batch=" + folder_ + "/batch.jpg", "must end in .png");
  fails(2, "--batch=" + folder_ + "/none/batch.png", "there is no folder " + folder_ + "/none");
  fs::create_directory(folder_ + "/folder.png");
  fails(1, "--batch=" + folder_ + "/folder.png", "folder.png");
  fs::remove_all(images_);
  fails(2, "--batch=" + folder_ + "/batch.png", images_ + "/train");
  EXPECT_FALSE(fs::exists(folder_ + "/batch.png"));
}

}  // namespace
}  // namespace graticule
