// The names that other programs give to the weights of our models.
#ifndef GRATICULE_NN_WEIGHT_LAYOUT_H_
#define GRATICULE_NN_WEIGHT_LAYOUT_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "ATen/core/Tensor.h"

namespace graticule {

// How one code names the weights of a model. The tensors are the same, but for those that the model's Adapt reshapes.
struct WeightLayout {
  std::string name;  // the code: "microsoft/Swin-Transformer"
  // The name there of the tensor that the model calls `ours` ("blocks.0.norm1.weight", the classifier and the pooling
  // included); an empty string where that code has none.
  std::function<std::string(const std::string& ours)> name_there;
  // The tensor as it is there, where it has another shape (which Backbone::Adapt undoes).
  std::function<at::Tensor(const std::string& ours, const at::Tensor& tensor)> tensor_there =
      [](const std::string&, const at::Tensor& tensor) { return tensor; };
  // Whether a tensor of the file needs no counterpart, because the model makes it itself (an index, a mask).
  std::function<bool(const std::string& theirs)> is_derived = [](const std::string&) { return false; };
  // Why a checkpoint of these names is another function than this model's, where it is: it can't be loaded then.
  std::string refusal;
};

// A model of timm's: timm.create_model(architecture, **arguments) takes these weights.
struct TimmModel {
  using Value = std::variant<bool, int64_t, double, std::string, std::vector<int64_t>>;
  std::string architecture;
  std::map<std::string, Value> arguments;       // all but num_classes and the image size
  std::string first_conv = "patch_embed.proj";  // the module that sees the images' channels
};

}  // namespace graticule

#endif  // GRATICULE_NN_WEIGHT_LAYOUT_H_
