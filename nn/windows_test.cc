#include "nn/windows.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ATen/ops/linear.h"
#include "ATen/ops/randn.h"
#include "ATen/ops/zeros.h"
#include "c10/core/GradMode.h"
#include "gtest/gtest.h"
#include "nn/attention.h"
#include "nn/macs.h"
#include "nn/module.h"
#include "nn/relative_position_bias.h"
#include "nn/testing.h"

namespace graticule {
namespace {

struct Case {
  Size2d map, window, shift;
};

// Tiled and padded, with and without shift, along one axis and along both.
std::vector<Case> Cases() {
  return {{{4, 6}, {2, 3}, {0, 0}}, {{4, 6}, {2, 3}, {1, 1}}, {{5, 7}, {3, 4}, {0, 0}},
          {{5, 7}, {3, 4}, {1, 2}}, {{3, 6}, {3, 3}, {0, 1}}, {{4, 4}, {4, 4}, {0, 0}}};
}

TEST(WindowsTest, JoinAndUnshiftUndoSplitAndShift) {
  for (const Case& c : Cases()) {
    const Windows windows(c.map, c.window, c.shift);
    const at::Tensor x = at::randn({2, c.map.height, c.map.width, 6});
    const at::Tensor split = windows.Split(windows.Shift(x).unflatten(-1, {2, 3}));
    EXPECT_EQ(split.sizes().slice(1), (at::IntArrayRef{2, c.window.area(), 3}));
    EXPECT_TRUE(windows.Unshift(windows.Join(split)).equal(x));
  }
}

// Attention within windows, one pair of tokens after the other.
at::Tensor Slow(const Case& c, const at::Tensor& x, int64_t heads, const std::map<std::string, at::Tensor>& weights) {
  const int64_t batch = x.size(0), width = x.size(3), size = width / heads;
  const at::Tensor qkv = at::linear(x, weights.at("qkv.weight"), weights.at("qkv.bias"));
  const auto rounded_up = [](int64_t n, int64_t of) { return (n + of - 1) / of * of; };
  const int64_t rows = rounded_up(c.map.height, c.window.height), columns = rounded_up(c.map.width, c.window.width);
  // A cell of the padded map, in the order after the roll, and where it comes from.
  const auto source = [&](int64_t b, int64_t row, int64_t column) {
    if (row >= c.map.height || column >= c.map.width) return weights.at("qkv.bias");
    return qkv[b][(row + c.shift.height) % c.map.height][(column + c.shift.width) % c.map.width];
  };
  const auto piece = [&](int64_t row, int64_t column) {
    return std::pair(row >= rows - c.shift.height, column >= columns - c.shift.width);
  };
  at::Tensor y = at::zeros(x.sizes());
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t row = 0; row < c.map.height; ++row) {
      for (int64_t column = 0; column < c.map.width; ++column) {
        const int64_t top = row / c.window.height * c.window.height;
        const int64_t left = column / c.window.width * c.window.width;
        const at::Tensor query = source(b, row, column);
        for (int64_t head = 0; head < heads; ++head) {
          double sum = 0;
          at::Tensor value = at::zeros({size});
          for (int64_t r = top; r < top + c.window.height; ++r) {
            for (int64_t s = left; s < left + c.window.width; ++s) {
              if (piece(r, s) != piece(row, column)) continue;
              const at::Tensor key = source(b, r, s);
              const int64_t offset =
                  (row - r + c.window.height - 1) * (2 * c.window.width - 1) + column - s + c.window.width - 1;
              const double dot =
                  query.narrow(0, head * size, size).dot(key.narrow(0, width + head * size, size)).item<double>();
              double logit = dot / std::sqrt(size);
              if (weights.contains("relative_position_bias_table")) {
                logit += weights.at("relative_position_bias_table")[offset][head].item<double>();
              }
              sum += std::exp(logit);
              value.add_(key.narrow(0, 2 * width + head * size, size), std::exp(logit));
            }
          }
          y[b][(row + c.shift.height) % c.map.height][(column + c.shift.width) % c.map.width]
              .narrow(0, head * size, size)
              .copy_(value.div(sum));
        }
      }
    }
  }
  return at::linear(y, weights.at("proj.weight"), weights.at("proj.bias"));
}

std::unique_ptr<Attention> Make(const Case& c, bool relative_bias) {
  auto attention = std::make_unique<Attention>(
      AttentionOptions{.width = 6, .heads = 2, .windows = Windows(c.map, c.window, c.shift)},
      relative_bias ? std::make_unique<RelativePositionBias>(c.window, 2) : nullptr);
  Randomize(*attention, 0.7);
  return attention;
}

TEST(WindowsTest, AttentionIsAmongTheTokensOfAWindow) {
  c10::NoGradGuard no_grad;
  for (const Case& c : Cases()) {
    for (const bool relative_bias : {false, true}) {
      const auto attention = Make(c, relative_bias);
      const at::Tensor x = at::randn({2, c.map.height, c.map.width, 6});
      const at::Tensor difference = attention->Forward(x).sub(Slow(c, x, 2, ByName(*attention)));
      EXPECT_LT(difference.abs().max().item<double>(), 1e-5);
    }
  }
}

TEST(WindowsTest, GradientsReachTheTokensAndEveryWeight) {
  for (const Case& c : Cases()) {
    const auto attention = Make(c, true);
    const at::Tensor x = at::randn({2, c.map.height, c.map.width, 6}).requires_grad_(true);
    const at::Tensor y = attention->Forward(x);
    y.mul(at::randn(y.sizes())).sum().backward();
    EXPECT_GT(x.grad().abs().min().item<double>(), 0);
    for (const NamedParameter& parameter : attention->Parameters()) {
      EXPECT_GT(parameter.tensor.grad().abs().max().item<double>(), 0) << parameter.name;
    }
  }
}

// Two products of T×d and d×T for each window, on the CPU and by shapes.
TEST(WindowsTest, CountsTheProductsOfAllWindows) {
  const Case c = {{5, 7}, {3, 4}, {1, 2}};  // 2×2 windows of 12 tokens
  const auto count = [&](const at::Tensor& x) {
    const auto attention = Make(c, true);
    const MacCount macs = CountMacs(attention->Parameters(), [&] { attention->Forward(x); });
    EXPECT_EQ(macs.total, 4 * 12 * (18 * 6) + 2 * 4 * 12 * 12 * 6 + 35 * 6 * 6);
  };
  count(at::randn({1, 5, 7, 6}));
  MetaScope meta;
  count(at::randn({1, 5, 7, 6}, at::TensorOptions().device(at::kMeta)));
}

}  // namespace
}  // namespace graticule
