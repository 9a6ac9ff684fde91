// What differs between the spec that a run was trained by and the one that it shall go on with.
#ifndef GRATICULE_TRAINER_SPEC_CHANGES_H_
#define GRATICULE_TRAINER_SPEC_CHANGES_H_

#include <string>
#include <vector>

#include "trainer/experiment.pb.h"

namespace graticule {

// The fields that differ, through plugins: "trainer.learning_rate was 0.001 and is 0.002". Those are left out that say
// nothing of what is learnt: what is logged, measured and saved, when and where, and how fast.
std::vector<std::string> SpecChanges(const Experiment& before, const Experiment& now);

}  // namespace graticule

#endif  // GRATICULE_TRAINER_SPEC_CHANGES_H_
