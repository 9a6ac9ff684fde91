// The names that other programs give to the weights of our models.
#ifndef GRATICULE_NN_WEIGHT_LAYOUT_H_
#define GRATICULE_NN_WEIGHT_LAYOUT_H_

#include <functional>
#include <string>

namespace graticule {

// How one code names the weights of a model; the tensors themselves are the same.
struct WeightLayout {
  std::string name;  // the code: "microsoft/Swin-Transformer"
  // The name there of the tensor that the model calls `ours` ("blocks.0.norm1.weight", the classifier and the pooling
  // included); an empty string where that code has none.
  std::function<std::string(const std::string& ours)> name_there;
  // Whether a tensor of the file needs no counterpart, because the model makes it itself (an index, a mask).
  std::function<bool(const std::string& theirs)> is_derived = [](const std::string&) { return false; };
};

}  // namespace graticule

#endif  // GRATICULE_NN_WEIGHT_LAYOUT_H_
