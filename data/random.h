// Counter-based randomness: each draw is a function of its key alone, so neither threads, ranks nor restarts change it.
#ifndef GRATICULE_DATA_RANDOM_H_
#define GRATICULE_DATA_RANDOM_H_

#include <cstdint>
#include <initializer_list>

namespace graticule {

// A 64-bit hash of the key's words, in order (SplitMix64's finaliser, chained).
uint64_t HashKey(std::initializer_list<uint64_t> key);

// The draws of one key, for example (seed, epoch, sample index). A C++ UniformRandomBitGenerator.
class Draws {
 public:
  using result_type = uint64_t;
  explicit Draws(std::initializer_list<uint64_t> key) : state_(HashKey(key)) {}

  static constexpr uint64_t min() { return 0; }
  static constexpr uint64_t max() { return ~uint64_t{0}; }
  uint64_t operator()();

  // In [0, 1).
  double Uniform();
  // In [low, high).
  double Uniform(double low, double high) { return low + (high - low) * Uniform(); }
  // In 0 … n-1, n > 0.
  int64_t Below(int64_t n);
  bool Bernoulli(double probability) { return Uniform() < probability; }
  // Of mean 0 and deviation 1.
  double Normal();
  // Beta(alpha, beta), both from 1e-3 to 1e3.
  double Beta(double alpha, double beta);

 private:
  uint64_t state_;
};

// A permutation of 0 … size-1 that is a function of the key alone and can be asked at any position at once: a Feistel
// network with cycle walking. O(1) memory.
class Permutation {
 public:
  Permutation(int64_t size, std::initializer_list<uint64_t> key);
  int64_t operator()(int64_t position) const;

 private:
  uint64_t size_;
  int half_bits_;
  uint64_t keys_[6];
};

}  // namespace graticule

#endif  // GRATICULE_DATA_RANDOM_H_
