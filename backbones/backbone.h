// The interface of the backbones: images in, tokens that know their place out.
#ifndef GRATICULE_BACKBONES_BACKBONE_H_
#define GRATICULE_BACKBONES_BACKBONE_H_

#include <cstdint>

#include "ATen/core/Tensor.h"
#include "nn/module.h"
#include "nn/token_map.h"

namespace graticule {

struct BackboneContext {
  Size2d image_size;       // in pixels
  int64_t channels = 3;    // of the images
  TokenContract contract;  // what the pooling asks for
};

class Backbone : public Module {
 public:
  static constexpr char kKind[] = "backbone";
  using Context = BackboneContext;

  // images [B,3,H,W], normalised, of the context's size.
  virtual TokenMap Forward(const at::Tensor& images) = 0;

  // D of the tokens that come out.
  virtual int64_t width() const = 0;
  // h×w of the patch tokens that come out.
  virtual Size2d grid() const = 0;
  virtual int64_t prefix_tokens() const = 0;

  // Makes tensors of a checkpoint fit this model where the difference is one of geometry: position tables of another
  // grid are interpolated. Called for each tensor whose shape differs; returns an undefined tensor where it can't help.
  virtual at::Tensor Adapt(const std::string& name, const at::Tensor& loaded) const { return at::Tensor(); }
};

}  // namespace graticule

#endif  // GRATICULE_BACKBONES_BACKBONE_H_
