// Turns metrics into the one line that a person follows.
#ifndef GRATICULE_TRAINER_PROGRESS_H_
#define GRATICULE_TRAINER_PROGRESS_H_

#include <cstdint>
#include <map>
#include <string>

#include "c10/core/Device.h"

namespace graticule {

struct Progress {
  int64_t step = 0, total_steps = 0;
  double epoch = 0;
  int epochs = 0;
  // Latest values by name: "train/loss", "train/NAME/loss", "train/NAME/accuracy", "val/top1", "lr", "grad_norm",
  // "loss_scale", "skipped_steps".
  std::map<std::string, double> values;
  double images_per_second = 0;
  double data_wait = 0;  // share of the time, 0 to 1
  int64_t memory = 0;    // bytes, see PeakMemory
  double seconds_left = 0;
};

// "step 120/1,400 · epoch 3.4/40 · loss 0.3123 · apl 1.21 (48.0 %) · top-1 97.22 % · lr 1.0e-03 · grad 2.35 · 9,120
// img/s · data 2 % · 0.4 GB · 0:12 left". Where it is wider than `columns`, it goes without what is least needed; 0: no
// bound.
std::string FormatProgress(const Progress& progress, int columns = 0);

// "1,234,567".
std::string WithThousands(int64_t number);
// "0:07", "12:30", "1:02:03".
std::string FormatSeconds(double seconds);
// Greatest resident memory of this process so far, in bytes.
int64_t PeakMemory();
// The same on the CPU, else the most that this process has reserved on the device.
int64_t PeakMemory(c10::Device device);

}  // namespace graticule

#endif  // GRATICULE_TRAINER_PROGRESS_H_
