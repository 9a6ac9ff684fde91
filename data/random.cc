#include "data/random.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>

#include "plugin/logging.h"

namespace graticule {
namespace {

// SplitMix64 (Steele, Lea and Flood 2014): the increment, 2^64 over the golden ratio, and the finaliser.
constexpr uint64_t kIncrement = 0x9e3779b97f4a7c15;

// Of a Permutation.
constexpr int kMinHalfBits = 4;

uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

// The logarithm of a Gamma(alpha) variable, which of a small alpha is often less than any double: Marsaglia and Tsang
// 2000, below 1 by Gamma(alpha) = Gamma(alpha + 1) U^(1 / alpha).
double LogOfGamma(double alpha, Draws& draws) {
  double boost = 0;
  if (alpha < 1) {
    boost = std::log(1 - draws.Uniform()) / alpha;
    alpha += 1;
  }
  const double d = alpha - 1.0 / 3;
  while (true) {
    const double x = draws.Normal();
    const double v = std::pow(1 + x / std::sqrt(9 * d), 3);
    const double u = 1 - draws.Uniform();
    if (v > 0 && std::log(u) < x * x / 2 + d * (1 - v + std::log(v))) return std::log(d * v) + boost;
  }
}

}  // namespace

uint64_t HashKey(std::initializer_list<uint64_t> key) {
  uint64_t hash = key.size();
  for (const uint64_t word : key) hash = Mix((hash ^ word) + kIncrement);
  return hash;
}

uint64_t Draws::operator()() { return Mix(state_ += kIncrement); }

double Draws::Uniform() { return static_cast<double>((*this)() >> 11) * 0x1p-53; }

int64_t Draws::Below(int64_t n) {
  CHECK_GT(n, 0);
  // The high word of a 64×64 bit product; its bias is below n / 2^64.
  return static_cast<int64_t>((static_cast<unsigned __int128>((*this)()) * static_cast<uint64_t>(n)) >> 64);
}

double Draws::Normal() {
  // Box and Muller 1958.
  const double radius = std::sqrt(-2 * std::log(1 - Uniform()));
  return radius * std::cos(2 * std::numbers::pi * Uniform());
}

double Draws::Beta(double alpha, double beta) {
  CHECK(alpha >= 1e-3 && alpha <= 1e3 && beta >= 1e-3 && beta <= 1e3) << alpha << ", " << beta;
  const double a = LogOfGamma(alpha, *this);
  const double b = LogOfGamma(beta, *this);
  return 1 / (1 + std::exp(b - a));
}

Permutation::Permutation(int64_t size, std::initializer_list<uint64_t> key) : size_(size) {
  CHECK_GE(size, 0);
  // The least even number of bits that holds every position: less than 4·size values, so a walk takes under 4 steps on
  // average. Halves of one or two bits would mix badly, so small sizes walk further.
  const int bits = size > 1 ? std::bit_width(size_ - 1) : 0;
  half_bits_ = std::max(kMinHalfBits, (bits + 1) / 2);
  Draws draws(key);
  for (uint64_t& round_key : keys_) round_key = draws();
}

int64_t Permutation::operator()(int64_t position) const {
  CHECK_GE(position, 0);
  CHECK_LT(position, size_);
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t value = position;
  do {
    uint64_t left = value >> half_bits_, right = value & mask;
    for (const uint64_t round_key : keys_) {
      const uint64_t mixed = left ^ (Mix(right + round_key) & mask);
      left = right;
      right = mixed;
    }
    value = (left << half_bits_) | right;
  } while (value >= size_);
  return static_cast<int64_t>(value);
}

}  // namespace graticule
