// The version of this program, as checkpoints and logs state it.
#ifndef GRATICULE_PLUGIN_VERSION_H_
#define GRATICULE_PLUGIN_VERSION_H_

namespace graticule {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace graticule

#endif  // GRATICULE_PLUGIN_VERSION_H_
