// Writes a .cc that registers the comments of .proto files (plugin/comments.h); plugin.bzl runs it:
//   embed_comments DESCRIPTOR_SET OUTPUT.cc
// The set comes from protoc --include_imports --include_source_info.
#include <fstream>
#include <iostream>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "google/protobuf/descriptor.pb.h"

namespace {

using google::protobuf::DescriptorProto;
using google::protobuf::EnumDescriptorProto;
using google::protobuf::FileDescriptorProto;
using google::protobuf::FileDescriptorSet;
using google::protobuf::SourceCodeInfo;

std::string Join(const std::string& scope, const std::string& name) {
  return scope.empty() ? name : absl::StrCat(scope, ".", name);
}

// The full name of what a location's path leads to ({4, 0, 2, 1} is field 1 of message 0); empty for what has none,
// such as a field's number or an import.
std::string FullName(const FileDescriptorProto& file, const SourceCodeInfo::Location& location) {
  const auto& path = location.path();
  std::string scope = file.package();
  const DescriptorProto* message = nullptr;
  for (int i = 0; i + 1 < path.size(); i += 2) {
    const int tag = path[i], index = path[i + 1];
    const int left = path.size() - i - 2;
    const bool is_message = message == nullptr ? tag == FileDescriptorProto::kMessageTypeFieldNumber
                                               : tag == DescriptorProto::kNestedTypeFieldNumber;
    const bool is_enum = message == nullptr ? tag == FileDescriptorProto::kEnumTypeFieldNumber
                                            : tag == DescriptorProto::kEnumTypeFieldNumber;
    if (is_message) {
      message = message == nullptr ? &file.message_type(index) : &message->nested_type(index);
      scope = Join(scope, message->name());
      if (left == 0) return scope;
    } else if (is_enum) {
      const EnumDescriptorProto& type = message == nullptr ? file.enum_type(index) : message->enum_type(index);
      if (left == 0) return Join(scope, type.name());
      // Values are named beside their enum, not in it.
      const bool is_value = left == 2 && path[i + 2] == EnumDescriptorProto::kValueFieldNumber;
      return is_value ? Join(scope, type.value(path[i + 3]).name()) : "";
    } else {
      const bool is_field = message != nullptr && tag == DescriptorProto::kFieldFieldNumber && left == 0;
      return is_field ? Join(scope, message->field(index).name()) : "";
    }
  }
  return "";
}

// " First line.\n Second.\n" without the space after the slashes and the last line break.
std::string Tidy(std::string comment) {
  absl::StripTrailingAsciiWhitespace(&comment);
  absl::StrReplaceAll({{"\n ", "\n"}}, &comment);
  return std::string(absl::StripPrefix(comment, " "));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: embed_comments DESCRIPTOR_SET OUTPUT.cc\n";
    return 2;
  }
  std::ifstream input(argv[1], std::ios::binary);
  FileDescriptorSet files;
  if (!files.ParseFromIstream(&input)) {
    std::cerr << argv[1] << " is not a descriptor set\n";
    return 1;
  }
  std::ofstream output(argv[2]);
  output << "#include \"plugin/comments.h\"\n\nnamespace {\n\nconst graticule::internal::FileComments kComments{\n";
  for (const FileDescriptorProto& file : files.file()) {
    if (absl::StartsWith(file.name(), "google/protobuf/")) continue;
    for (const SourceCodeInfo::Location& location : file.source_code_info().location()) {
      const std::string comment = Tidy(location.leading_comments() + location.trailing_comments());
      const std::string name = FullName(file, location);
      if (name.empty() || comment.empty()) continue;
      output << "    {\"" << name << "\", \"" << absl::CEscape(comment) << "\"},\n";
    }
  }
  output << "};\n\n}  // namespace\n";
  if (!output.flush()) {
    std::cerr << "cannot write " << argv[2] << "\n";
    return 1;
  }
  return 0;
}
