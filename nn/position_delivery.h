// How the position reaches the layers: ViT, LaPE (ICCV 2023), PVG and MPVG (arXiv 2502.02919) and their ablations, for
// every backbone.
//
// With LN_l the norm before layer l's attention, LN the last norm, and LN'_l, LN' norms of the delivery's own:
//
//   ViT    x_0 = tokens + pos_0
//
//   LaPE   x_0 = tokens; the attention of layer l gets LN_l(x_l) + pos_l with pos_l = LN'_l(pos_{l-1}), where layer 0
//          gets LN'_0(pos_0)
//
//   PVG    x_0 = tokens + pos_0; layers as in LaPE, but from layer 1 on
//
//   MPVG   PVG, and y = LN(x) + LN'(pos_0)
//
// The sum goes into the attention's input only: never into the MLP's, never onto the residual stream.
#ifndef GRATICULE_NN_POSITION_DELIVERY_H_
#define GRATICULE_NN_POSITION_DELIVERY_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "ATen/core/Tensor.h"
#include "absl/status/status.h"
#include "nn/layers.h"
#include "nn/module.h"
#include "nn/position_delivery.pb.h"

namespace graticule {

// `given` with the fields that it lacks taken from its preset, or from `preset` where it names none. first_layer stays
// absent where neither says: the backbone decides.
PositionDelivery ResolvePositionDelivery(const PositionDelivery& given, PositionDelivery::Preset preset);

// All contradictions of a resolved delivery, each with its field path.
absl::Status CheckPositionDelivery(const PositionDelivery& delivery);

// What a backbone of `depth` layers, with or without a position encoding, can't do of it; an error without field path.
absl::Status CheckPositionDelivery(const PositionDelivery& delivery, int64_t depth, bool has_position);

// first_layer is true where it is absent: for backbones that the papers give a norm for layer 0.
PositionDelivery WithFirstLayerByDefault(PositionDelivery delivery);

class DeliveredPosition;

// The LN' of a backbone. Parameters pos_norms.L.{weight,bias} of layer L, and last_pos_norm.{weight,bias}; the backbone
// registers it under an empty name, so that they stand at its top level.
class PositionDeliveryNorms : public Module {
 public:
  // `delivery`: resolved and checked. Layer l works at widths[l], the last norm at `last_width`; `epsilon` as the
  // model's own norms.
  PositionDeliveryNorms(const PositionDelivery& delivery, const std::vector<int64_t>& widths, int64_t last_width,
                        double epsilon);
  // `depth` layers and the last norm, all at `width`.
  PositionDeliveryNorms(const PositionDelivery& delivery, int64_t depth, int64_t width, double epsilon)
      : PositionDeliveryNorms(delivery, std::vector<int64_t>(depth, width), width, epsilon) {}

  // Starts the delivery of a forward pass. `position`: pos_0 [1,T,D] ([B,T,D] of selected patches), undefined where
  // there is none: nothing is delivered then.
  DeliveredPosition Deliver(const at::Tensor& position) const;
  std::string TypeName() const override { return "PositionDeliveryNorms"; }
  std::map<std::string, int64_t> LayerMembers() const override;

 private:
  friend class DeliveredPosition;

  bool add_to_input_;
  bool hierarchical_;
  int64_t last_layer_;             // k of the pos_k that meets the last norm; -1: none
  std::vector<LayerNorm*> norms_;  // by layer; null where the layer is given none
  LayerNorm* last_norm_ = nullptr;
};

// The position on its way through one forward pass: each pos_l is computed once, at batch size 1.
class DeliveredPosition {
 public:
  // x_0: `tokens` [B,...,T,D], with pos_0 where the delivery adds it to the input.
  at::Tensor AddAtInput(const at::Tensor& tokens) const;
  // pos_l [1,T,D] for layer `layer`'s attention, undefined where it gets none. Layers ask in order, each once.
  at::Tensor AtLayer(int64_t layer);
  // y: `normed` [B,...,T,D], the tokens after the last norm, with LN'(pos_k) where the delivery has one. After all
  // layers.
  at::Tensor AddAtLastNorm(const at::Tensor& normed) const;
  // Takes the position along where the tokens change shape between stages (patch merging): all layers from here on get
  // the mapped one.
  void Map(const std::function<at::Tensor(const at::Tensor&)>& map);

 private:
  friend class PositionDeliveryNorms;
  DeliveredPosition(const PositionDeliveryNorms& norms, const at::Tensor& position)
      : norms_(norms), origin_(position), current_(position), last_(position) {}

  const PositionDeliveryNorms& norms_;
  at::Tensor origin_;   // pos_0
  at::Tensor current_;  // pos_{l-1}
  at::Tensor last_;     // pos_k, once layer k has passed
  int64_t next_layer_ = 0;
};

}  // namespace graticule

#endif  // GRATICULE_NN_POSITION_DELIVERY_H_
