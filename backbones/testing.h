// What the tests of the backbones share.
#ifndef GRATICULE_BACKBONES_TESTING_H_
#define GRATICULE_BACKBONES_TESTING_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "ATen/core/Tensor.h"
#include "backbones/backbone.h"
#include "google/protobuf/message.h"
#include "nn/macs.h"
#include "nn/module.h"
#include "nn/position_delivery.h"
#include "nn/safetensors.h"
#include "nn/testing.h"
#include "nn/token_map.h"

namespace graticule {

// ---- Building -------------------------------------------------------------------------------------------------------

BackboneContext Context(Size2d image_size, bool class_token,
                        const PositionDelivery& delivery = Preset(PositionDelivery::VIT));
std::unique_ptr<Backbone> Build(const google::protobuf::Message& config, const BackboneContext& context);

// Of a config that it can't be built from: messages by field path, and the paths alone.
std::map<std::string, std::string> Errors(const google::protobuf::Message& config, const BackboneContext& context);
std::set<std::string> ErrorPaths(const google::protobuf::Message& config, const BackboneContext& context);

struct DeliveryCase {
  std::string name;
  bool class_token;
  PositionDelivery delivery;
};
// Every row and ablation of the papers, for models of four layers.
std::vector<DeliveryCase> DeliveryCases();

// ---- Passes ---------------------------------------------------------------------------------------------------------

// What tokens in fp32 may differ by from a plain model's in double. Mistakes show as 1e-2 and more; norms of few
// channels enlarge the rounding of those that are nearly equal to some 1e-4.
constexpr double kRounding = 5e-4;

// [B,3,H,W], normal.
at::Tensor RandomImages(int64_t batch, Size2d size);
// Multiply-adds of the pass of an image; the backbone comes from a MetaScope.
MacCount CountMacs(Backbone& backbone, Size2d image_size);
// The gradient of each trained parameter is finite and not zero; the others have none.
void ExpectGradients(Backbone& backbone, const at::Tensor& images);
// Two passes over the same images differ in train mode, and are the same in evaluation mode.
void ExpectRandomInTrainModeOnly(Backbone& backbone, const at::Tensor& images);
// With activation checkpointing and without, tokens, gradients and buffers of a pass in train mode are the same bit for
// bit, in fp32 and under autocast to bfloat16 and half precision; `make` makes the same model each time. Returns how
// many checkpointed layers there were in a pass.
int64_t ExpectCheckpointingChangesNothing(const std::function<std::unique_ptr<Backbone>()>& make,
                                          const at::Tensor& images);

// ---- Other codes' models --------------------------------------------------------------------------------------------

// backbones/BACKBONE/testdata/NAME.safetensors.
Safetensors Fixture(const std::string& backbone, const std::string& name);

struct ParityOptions {
  // Train mode: then the buffers after the pass are compared too, with `after/NAME`.
  bool training = false;
  // Whose names the fixture has, among the backbone's Layouts(); empty: the backbone's own.
  std::string layout;
  // Pooled by SeqPool, whose weights are in the fixture, and not as the contract says.
  bool seq_pool = false;
  // What a gradient may differ by in addition, in units of the largest entry of all: for gradients that are zero but
  // for rounding.
  double rounding = 0;
};
// Another code's model and this one, with the same weights: `images`, `tokens` and `logits` of the fixture, and
// `grad/NAME`, the gradients of the mean of the squared logits (tools/parity). The classifier gets the class token or,
// where the contract asks for none, the mean of the tokens.
void ExpectParity(const Safetensors& fixture, const google::protobuf::Message& config, const BackboneContext& context,
                  const ParityOptions& options = {});

// ---- The equations --------------------------------------------------------------------------------------------------

// The parts of a transformer written out plainly, in double: a test writes its model out with them. Tokens are
// [...,T,D], names those of the module's weights.
class PlainModel {
 public:
  // `epsilon`: of the norms.
  PlainModel(const Module& module, double epsilon);

 protected:
  bool Has(const std::string& name) const { return weights_.contains(name); }
  const at::Tensor& W(const std::string& name) const { return weights_.at(name); }

  // `x`, plus `position` where that is defined.
  static at::Tensor Sum(const at::Tensor& x, const at::Tensor& position);
  static at::Tensor Gelu(const at::Tensor& x);
  at::Tensor Norm(const at::Tensor& x, const std::string& name) const;
  // x·Wᵀ + b, with b where there is one; W may be the kernel of a 1×1 convolution.
  at::Tensor Affine(const at::Tensor& x, const std::string& name) const;

  // [B,3,H,W] to [B,N,D].
  at::Tensor Patches(const at::Tensor& images, const std::string& name, int64_t patch_size) const;
  // [B,N,D] behind the class token of this name, where there is one.
  at::Tensor WithClassToken(const at::Tensor& x, const std::string& name) const;

  struct Attention {
    int64_t heads;
    at::Tensor bias = {};      // of the logits, [T,T] or [heads,T,T]
    bool interleaved = false;  // the heads' first channels come out first, then their second ones
  };
  // proj(softmax(q·kᵀ / √d + bias)·v); name.qkv and name.proj.
  at::Tensor SelfAttention(const at::Tensor& x, const std::string& name, const Attention& attention) const;
  // x' = x + attn(norm1(x) + position); x' + fc2(GELU(fc1(norm2(x')))); name.attn and so on.
  at::Tensor Block(const at::Tensor& x, const std::string& name, const at::Tensor& position,
                   const Attention& attention) const;

  struct Positions {
    at::Tensor at_input;                // these are undefined where nothing is added
    std::vector<at::Tensor> at_layers;  // to the attention's normed input
    at::Tensor at_last_norm;
  };
  // Where pos_0, which may be undefined, goes in a model of `depth` layers of one width. `first_layer`: whether layer 0
  // takes part where the delivery doesn't say.
  Positions Deliver(const at::Tensor& pos_0, const PositionDelivery& delivery, int depth,
                    bool first_layer = false) const;

 private:
  std::map<std::string, at::Tensor> weights_;
  double epsilon_;
};

}  // namespace graticule

#endif  // GRATICULE_BACKBONES_TESTING_H_
