#include "backbones/checks.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "nn/position_delivery.h"
#include "nn/position_encoding.h"

namespace graticule {

bool CheckPositive(FieldErrors& errors, std::string_view field, double value) {
  if (value > 0) return true;
  errors.Add(field, absl::StrCat("must be positive, found ", value));
  return false;
}

bool CheckAtLeastZero(FieldErrors& errors, std::string_view field, double value) {
  if (value >= 0) return true;
  errors.Add(field, absl::StrCat("must be 0 or more, found ", value));
  return false;
}

bool CheckCount(FieldErrors& errors, std::string_view field, int64_t count, int64_t most) {
  if (count >= 1 && count <= most) return true;
  errors.Add(field, count < 1 ? absl::StrCat("must be positive, found ", count)
                              : absl::StrCat("must be ", most, " at most, found ", count));
  return false;
}

bool CheckRate(FieldErrors& errors, std::string_view field, double value) {
  if (value >= 0 && value < 1) return true;
  errors.Add(field, absl::StrCat("must be a rate from 0 up to, but not including, 1, found ", value));
  return false;
}

bool CheckHeads(FieldErrors& errors, std::string_view field, int64_t heads, int64_t width) {
  if (!CheckPositive(errors, field, heads)) return false;
  if (width <= 0 || width % heads == 0) return true;
  errors.Add(field, absl::StrCat(heads, " heads don't divide a width of ", width));
  return false;
}

bool CheckMlpRatio(FieldErrors& errors, std::string_view field, double ratio, int64_t width) {
  if (!CheckPositive(errors, field, ratio)) return false;
  if (width <= 0 || (ratio * width >= 1 && ratio * width <= 16 * kMostWidth)) return true;
  errors.Add(field, ratio * width < 1 ? absl::StrCat("leaves a hidden layer of no width, found ", ratio)
                                      : absl::StrCat("is too large, found ", ratio));
  return false;
}

bool CheckTiles(FieldErrors& errors, std::string_view field, std::string_view what, int64_t multiple, Size2d image) {
  if (image.height > 0 && image.width > 0 && image.height % multiple == 0 && image.width % multiple == 0) return true;
  const auto nearest = [&](int64_t size) {
    const int64_t below = size / multiple * multiple;
    return below > 0 && size % multiple == 0 ? absl::StrCat(size)
           : below <= 0                      ? absl::StrCat(multiple)
                                             : absl::StrCat(below, " or ", below + multiple);
  };
  errors.Add(field, absl::StrCat(std::string(what), " don't tile images of ", image.height, "×", image.width,
                                 " (height×width); the nearest sizes that they tile are height ", nearest(image.height),
                                 " and width ", nearest(image.width)));
  return false;
}

bool CheckPatchSize(FieldErrors& errors, int64_t patch_size, Size2d image) {
  return CheckPositive(errors, "patch_size", patch_size) &&
         CheckTiles(errors, "patch_size", absl::StrCat("patches of ", patch_size), patch_size, image);
}

bool CheckPositionWidth(FieldErrors& errors, PositionEncoding::Kind kind, int64_t width) {
  const int64_t multiple = WidthMultiple(kind);
  if (width < 1 || width > kMostWidth || width % multiple == 0) return true;
  errors.Add("position", absl::StrCat(PositionEncoding::Kind_Name(kind), " needs an embed_dim that is a multiple of ",
                                      multiple, ", found ", width));
  return false;
}

bool CheckPrefixTokens(FieldErrors& errors, const TokenContract& contract, PrefixTokens most) {
  if (contract.class_token && most == PrefixTokens::kNone) {
    errors.Add("", "has no class token, which the pooling asks for; choose a pooling of the patch tokens");
    return false;
  }
  if (contract.distillation_token && most != PrefixTokens::kDistillationToken) {
    errors.Add("", "has no distillation token, which the pooling asks for");
    return false;
  }
  return true;
}

bool CheckDelivery(FieldErrors& errors, const TokenContract& contract, int64_t depth, bool has_position) {
  const absl::Status fits = CheckPositionDelivery(contract.delivery, depth, has_position);
  errors.Add(has_position ? "depth" : "position", fits);
  return fits.ok();
}

}  // namespace graticule
