// Reads every sample of a data set and says what is wrong with which.
#ifndef GRATICULE_DATA_CHECK_CHECK_H_
#define GRATICULE_DATA_CHECK_CHECK_H_

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/datasets/dataset.h"
#include "data/decode/decode.h"

namespace graticule {

enum class Problem {
  // Samples that training skips, or should.
  kUnreadable,  // the data set can't give it
  kEmpty,       // no bytes, or an image without pixels
  kNotAnImage,  // of a format that is decoded
  kTruncated,   // ends too early
  kBroken,      // damaged in another way, or too large
  kWrongLabel,  // is none of the classes, or not there
  kTwoClasses,  // holds the same as a sample of another class
  // Samples that training uses.
  kKeptTruncated,  // ends too early; what decoded of it counts, as DecodeOptions::keep_truncated asks
  kDuplicate,      // holds the same as an earlier sample of its class
  kInBothSplits,   // holds the same as a training sample of its class
};

// Whether the data should be mended: all but the last three.
bool IsError(Problem problem);
// One word for a table, such as "truncated".
std::string ProblemName(Problem problem);

struct SampleProblem {
  int64_t sample;  // index in its data set
  Problem problem;
  std::string reason;  // of the first six and kKeptTruncated
  int64_t twin = -1;   // of the others: the sample that holds the same

  bool operator==(const SampleProblem&) const = default;
};

// Half of the SHA-256 of what a sample holds: of the bytes of its file, or of the pixels where it has none.
using Fingerprint = std::array<uint64_t, 2>;

struct SamplesReport {
  std::vector<SampleProblem> problems;  // in order of the samples
  // By sample; a label of -1 marks one that can't be trained on, whose fingerprint says nothing.
  std::vector<Fingerprint> fingerprints;
  std::vector<int64_t> labels;
};

// Reads and decodes each sample as training does, on so many threads. `progress` is called from the calling thread some
// times a second with the number of samples done. Takes 32 bytes of memory a sample, and what its problems take.
SamplesReport CheckSamples(const Dataset& dataset, const DecodeOptions& options, int threads,
                           const std::function<void(int64_t)>& progress);

// The samples of `val` that hold the same as one of `train`, which is their twin: kInBothSplits, or kTwoClasses.
std::vector<SampleProblem> CompareSplits(const SamplesReport& train, const SamplesReport& val);

}  // namespace graticule

#endif  // GRATICULE_DATA_CHECK_CHECK_H_
