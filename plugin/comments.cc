#include "plugin/comments.h"

#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <utility>

namespace graticule {
namespace {

// Written before main() only, so it needs no lock.
std::map<std::string, std::string, std::less<>>& Comments() {
  static auto* comments = new std::map<std::string, std::string, std::less<>>;
  return *comments;
}

}  // namespace

namespace internal {

FileComments::FileComments(std::initializer_list<std::pair<std::string_view, std::string_view>> comments) {
  for (const auto& [name, comment] : comments) Comments().emplace(name, comment);
}

}  // namespace internal

std::string CommentOf(std::string_view full_name) {
  const auto found = Comments().find(full_name);
  return found == Comments().end() ? "" : found->second;
}

}  // namespace graticule
