// The one header for LOG, CHECK and VLOG. LibTorch's headers are compiled with C10_USE_GLOG, so that theirs are these
// too.
#ifndef GRATICULE_PLUGIN_LOGGING_H_
#define GRATICULE_PLUGIN_LOGGING_H_

#include <glog/logging.h>

#endif  // GRATICULE_PLUGIN_LOGGING_H_
