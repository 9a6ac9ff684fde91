// What `graticule list` prints.
#ifndef GRATICULE_APP_LIST_H_
#define GRATICULE_APP_LIST_H_

#include <ostream>

namespace graticule {

// Every plugin of the binary by kind: summary, config fields with their comments, example. Plain text for a terminal of
// 100 columns; or Markdown, which begins with the fields of the experiment (docs/reference.md).
void PrintPlugins(std::ostream& output, bool markdown);

}  // namespace graticule

#endif  // GRATICULE_APP_LIST_H_
