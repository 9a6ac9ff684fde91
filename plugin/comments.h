// The comments of the .proto files that a binary was built from; generated descriptors do not carry them.
#ifndef GRATICULE_PLUGIN_COMMENTS_H_
#define GRATICULE_PLUGIN_COMMENTS_H_

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

namespace graticule {

// The comment on a message, field, enum or enum value, by its full name ("graticule.Vit.depth"), with the file's line
// breaks and without its slashes. Empty where there is none.
std::string CommentOf(std::string_view full_name);

namespace internal {

// A constant of the files that //plugin:embed_comments writes.
class FileComments {
 public:
  explicit FileComments(std::initializer_list<std::pair<std::string_view, std::string_view>> comments);
};

}  // namespace internal
}  // namespace graticule

#endif  // GRATICULE_PLUGIN_COMMENTS_H_
