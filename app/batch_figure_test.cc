#include "app/batch_figure.h"

#include <optional>
#include <string>

#include "ATen/ops/randint.h"
#include "ATen/ops/tensor.h"
#include "ATen/ops/zeros_like.h"
#include "absl/strings/str_cat.h"
#include "data/draw.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

const std::vector<std::string> kClasses = {"cat", "dog"};

Batch MakeBatch(int64_t images, Size2d size) {
  Batch batch;
  batch.images = at::randint(0, 256, {images, size.height, size.width, 3}, at::kByte).permute({0, 3, 1, 2});
  batch.labels = at::randint(0, 2, {images}, at::kLong);
  return batch;
}

// Whether `picture` shows the image, enlarged by `factor`, with its corner at (top, left).
bool Shows(const Image& picture, const at::Tensor& image, int64_t factor, int64_t top, int64_t left) {
  const at::Tensor planes = image.contiguous();
  const uint8_t* pixels = planes.const_data_ptr<uint8_t>();
  for (int64_t y = 0; y < image.size(1) * factor; ++y) {
    for (int64_t x = 0; x < image.size(2) * factor; ++x) {
      for (int64_t c = 0; c < 3; ++c) {
        if (picture.pixels[3 * ((top + y) * picture.width + left + x) + c] !=
            pixels[(c * image.size(1) + y / factor) * image.size(2) + x / factor]) {
          return false;
        }
      }
    }
  }
  return true;
}

// Different pixels of two pictures of one size, in a box.
int64_t Differences(const Image& a, const Image& b, const Box& box) {
  EXPECT_EQ(a.size(), b.size());
  int64_t count = 0;
  for (int64_t y = box.top; y < box.top + box.size.height; ++y) {
    for (int64_t x = box.left; x < box.left + box.size.width; ++x) {
      const int64_t at = 3 * (y * a.width + x);
      count += !std::equal(&a.pixels[at], &a.pixels[at] + 3, &b.pixels[at]);
    }
  }
  return count;
}

TEST(BatchFigureTest, ShowsEveryImageInRasterOrder) {
  // 8×8 pixels are enlarged by 28 to 224. Between cells are 8 pixels, below each a line of 24.
  const Batch batch = MakeBatch(3, {8, 8});
  const Image picture = DrawBatch(batch, 16, kClasses, std::nullopt);
  EXPECT_EQ(picture.size(), (Size2d{8 + 2 * (224 + 24 + 8), 8 + 2 * (224 + 8)}));
  EXPECT_TRUE(Shows(picture, batch.images[0], 28, 8, 8));
  EXPECT_TRUE(Shows(picture, batch.images[1], 28, 8, 8 + 232));
  EXPECT_TRUE(Shows(picture, batch.images[2], 28, 8 + 256, 8));
  EXPECT_FALSE(Shows(picture, batch.images[1], 28, 8, 8));
}

TEST(BatchFigureTest, ShowsSomeOfALargeBatchOfLargeImages) {
  const Batch batch = MakeBatch(5, {300, 260});
  const Image picture = DrawBatch(batch, 1, kClasses, std::nullopt);
  EXPECT_EQ(picture.size(), (Size2d{8 + 300 + 24 + 8, 8 + 260 + 8}));
  EXPECT_TRUE(Shows(picture, batch.images[0], 1, 8, 8));
}

TEST(BatchFigureTest, WritesTheClassUnderTheImage) {
  Batch batch = MakeBatch(1, {8, 8});
  batch.labels.fill_(0);
  const Image cat = DrawBatch(batch, 1, kClasses, std::nullopt);
  const Image named_dog = DrawBatch(batch, 1, {"dog", "cat"}, std::nullopt);
  batch.labels.fill_(1);
  const Image dog = DrawBatch(batch, 1, kClasses, std::nullopt);
  const Box label{8 + 224, 8, {24, 224}};
  EXPECT_GT(Differences(cat, dog, label), 50);
  EXPECT_EQ(Differences(cat, dog, {0, 0, cat.size()}), Differences(cat, dog, label));
  EXPECT_EQ(named_dog, dog);
}

TEST(BatchFigureTest, WritesTheSharesOfMixedImages) {
  Batch batch = MakeBatch(2, {8, 8});
  batch.soft_labels = at::tensor({0.3f, 0.7f, 1.0f, 0.0f}).view({2, 2});
  const Image mixed = DrawBatch(batch, 16, kClasses, std::nullopt);
  // A line more, under all images alike; empty where one class has it all.
  EXPECT_EQ(mixed.size(), (Size2d{8 + 224 + 2 * 24 + 8, 8 + 2 * 232}));
  // The greater share comes first, so swapping names and shares changes nothing.
  batch.soft_labels = at::tensor({0.7f, 0.3f, 0.0f, 1.0f}).view({2, 2});
  EXPECT_EQ(DrawBatch(batch, 16, {"dog", "cat"}, std::nullopt), mixed);
  batch.soft_labels = at::tensor({0.6f, 0.4f, 0.0f, 1.0f}).view({2, 2});
  EXPECT_GT(Differences(DrawBatch(batch, 16, {"dog", "cat"}, std::nullopt), mixed, {8 + 224, 8, {48, 224}}), 10);
}

TEST(BatchFigureTest, NumbersThePatchesOfTheFirstImage) {
  const Batch batch = MakeBatch(4, {8, 8});
  const Image picture = DrawBatch(batch, 4, kClasses, Size2d{2, 4});
  // The panel, 480×480, is nearly as high as the two rows of cells.
  EXPECT_EQ(picture.size(), (Size2d{8 + 2 * 256, 8 + 488 + 2 * 232}));
  EXPECT_TRUE(Shows(picture, batch.images[3], 28, 8 + 256, 8 + 488 + 232));
  Batch black = batch;
  black.images = at::zeros_like(batch.images);
  const Image grid = DrawBatch(black, 4, kClasses, Size2d{2, 4});
  const auto is_bright = [&](int64_t y, int64_t x) { return grid.pixels[3 * ((8 + y) * grid.width + 8 + x)] > 200; };
  // Patches are 240 high and 120 wide; their number is in the upper left corner.
  EXPECT_TRUE(is_bright(200, 120) && is_bright(200, 240) && is_bright(200, 360) && is_bright(240, 50));
  EXPECT_FALSE(is_bright(200, 121) || is_bright(200, 60) || is_bright(120, 50));
  for (int64_t i = 0; i < 8; ++i) {
    Canvas number({14, 12}, kBlack);
    number.Write(absl::StrCat(i), 0, 0, 2, kWhite);
    for (int64_t y = 0; y < 14; ++y) {
      for (int64_t x = 0; x < 12; ++x) {
        const bool inked = number.image().pixels[3 * (y * 12 + x)] > 0;
        ASSERT_EQ(is_bright(i / 4 * 240 + 3 + y, i % 4 * 120 + 3 + x), inked) << i;
      }
    }
  }
}

TEST(BatchFigureTest, AGridTooFineForNumbersOfEachPatchHasSome) {
  const Batch batch = MakeBatch(1, {256, 256});
  const Image picture = DrawBatch(batch, 1, kClasses, Size2d{256, 256});
  EXPECT_EQ(picture.height, 8 + 6 * 256 + 24 + 8);
}

}  // namespace
}  // namespace graticule
