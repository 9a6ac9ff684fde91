// What the absolute and the relative positional label share (Zhang and Gong, PositionalLabel).
#ifndef GRATICULE_LABELS_POSITIONAL_LABEL_H_
#define GRATICULE_LABELS_POSITIONAL_LABEL_H_

#include "nn/weight_layout.h"

namespace graticule {

// Of the heads' weights at the start: the paper's. Fresh heads start close to the uniform cross-entropy with it.
constexpr double kPositionalLabelStd = 0.01;

// The names of the paper's code for fc1, fc2 and head.
WeightLayout PositionalLabelLayout();

}  // namespace graticule

#endif  // GRATICULE_LABELS_POSITIONAL_LABEL_H_
