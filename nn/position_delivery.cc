#include "nn/position_delivery.h"

#include <memory>

#include "absl/strings/str_cat.h"
#include "plugin/logging.h"
#include "plugin/status.h"

namespace graticule {
namespace {

bool HasLayers(const PositionDelivery& delivery) {
  return delivery.layers() == PositionDelivery::HIERARCHICAL || delivery.layers() == PositionDelivery::FLAT;
}

bool AddsToInput(const PositionDelivery& delivery) { return !delivery.has_add_to_input() || delivery.add_to_input(); }

}  // namespace

PositionDelivery ResolvePositionDelivery(const PositionDelivery& given, PositionDelivery::Preset preset) {
  if (given.preset() != PositionDelivery::PRESET_UNSPECIFIED) preset = given.preset();
  PositionDelivery resolved;
  resolved.set_add_to_input(preset != PositionDelivery::LAPE);
  resolved.set_layers(preset == PositionDelivery::VIT ? PositionDelivery::NONE : PositionDelivery::HIERARCHICAL);
  if (preset == PositionDelivery::LAPE) resolved.set_first_layer(true);
  if (preset == PositionDelivery::MPVG) resolved.set_last(0);
  resolved.MergeFrom(given);
  resolved.clear_preset();
  return resolved;
}

absl::Status CheckPositionDelivery(const PositionDelivery& delivery) {
  FieldErrors errors;
  if (delivery.has_last() && delivery.last() < 0) {
    errors.Add("last", absl::StrCat("must be the number of a layer, from 0, found ", delivery.last()));
  }
  if (!HasLayers(delivery)) {
    if (delivery.last() > 0) {
      errors.Add("last", absl::StrCat("is ", delivery.last(), ", but `layers` is NONE, so that there is no pos_",
                                      delivery.last(), "; allowed are 0, or layers HIERARCHICAL or FLAT"));
    }
    if (delivery.first_layer()) {
      errors.Add("first_layer", "is true, but `layers` is NONE; allowed with HIERARCHICAL and FLAT");
    }
    if (!AddsToInput(delivery) && !delivery.has_last()) {
      errors.Add("add_to_input", "is false, but `layers` is NONE and `last` absent, so that the position goes nowhere");
    }
  }
  return errors.ToStatus();
}

absl::Status CheckPositionDelivery(const PositionDelivery& delivery, int64_t depth, bool has_position) {
  if (!has_position && (HasLayers(delivery) || delivery.has_last() || !AddsToInput(delivery))) {
    return absl::InvalidArgumentError(
        "the pooling delivers the position to the layers or the last norm, and there is no position; allowed is a "
        "position encoding, or a pooling with the delivery VIT");
  }
  if (delivery.last() > 0 && delivery.last() >= depth) {
    return absl::InvalidArgumentError(absl::StrCat("the pooling's delivery takes pos_", delivery.last(),
                                                   " to the last norm, but the layers are 0 to ", depth - 1));
  }
  return absl::OkStatus();
}

PositionDelivery WithFirstLayerByDefault(PositionDelivery delivery) {
  if (!delivery.has_first_layer()) delivery.set_first_layer(true);
  return delivery;
}

PositionDeliveryNorms::PositionDeliveryNorms(const PositionDelivery& delivery, const std::vector<int64_t>& widths,
                                             int64_t last_width, double epsilon)
    : add_to_input_(AddsToInput(delivery)),
      hierarchical_(delivery.layers() == PositionDelivery::HIERARCHICAL),
      last_layer_(delivery.has_last() ? delivery.last() : -1),
      norms_(widths.size(), nullptr) {
  if (HasLayers(delivery)) {
    for (size_t layer = delivery.first_layer() ? 0 : 1; layer < widths.size(); ++layer) {
      norms_[layer] =
          RegisterModule(absl::StrCat("pos_norms.", layer), std::make_unique<LayerNorm>(widths[layer], epsilon));
    }
  }
  if (delivery.has_last()) {
    last_norm_ = RegisterModule("last_pos_norm", std::make_unique<LayerNorm>(last_width, epsilon));
  }
}

std::map<std::string, int64_t> PositionDeliveryNorms::LayerMembers() const {
  std::map<std::string, int64_t> members;
  for (size_t layer = 0; layer < norms_.size(); ++layer) {
    if (norms_[layer] != nullptr) members[absl::StrCat("pos_norms.", layer)] = layer;
  }
  return members;
}

DeliveredPosition PositionDeliveryNorms::Deliver(const at::Tensor& position) const {
  return DeliveredPosition(*this, position);
}

at::Tensor DeliveredPosition::AddAtInput(const at::Tensor& tokens) const {
  return norms_.add_to_input_ && origin_.defined() ? tokens.add(origin_) : tokens;
}

at::Tensor DeliveredPosition::AtLayer(int64_t layer) {
  CHECK_EQ(layer, next_layer_++) << "layers must ask in order";
  const LayerNorm* norm = norms_.norms_[layer];
  if (norm == nullptr || !origin_.defined()) return at::Tensor();
  current_ = norm->Forward(norms_.hierarchical_ ? current_ : origin_);
  if (layer > 0 && layer == norms_.last_layer_) last_ = current_;
  return current_;
}

at::Tensor DeliveredPosition::AddAtLastNorm(const at::Tensor& normed) const {
  CHECK_EQ(next_layer_, static_cast<int64_t>(norms_.norms_.size())) << "the last norm comes after all layers";
  return norms_.last_norm_ == nullptr || !last_.defined() ? normed : normed.add(norms_.last_norm_->Forward(last_));
}

void DeliveredPosition::Map(const std::function<at::Tensor(const at::Tensor&)>& map) {
  if (!origin_.defined()) return;
  // Maps each distinct tensor once.
  const at::Tensor origin = map(origin_);
  const at::Tensor current = current_.is_same(origin_) ? origin : map(current_);
  last_ = last_.is_same(origin_) ? origin : last_.is_same(current_) ? current : map(last_);
  origin_ = origin;
  current_ = current;
}

}  // namespace graticule
