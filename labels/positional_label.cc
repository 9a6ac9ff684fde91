#include "labels/positional_label.h"

#include <string>

namespace graticule {

WeightLayout PositionalLabelLayout() {
  return {.name = "zhangzhemin/PositionalLabel", .name_there = [](const std::string& ours) {
            return ours.starts_with("head.") ? "head_coordinate." + ours.substr(5) : "To2D." + ours;
          }};
}

}  // namespace graticule
