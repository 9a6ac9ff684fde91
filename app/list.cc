#include "app/list.h"

#include <algorithm>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "google/protobuf/any.pb.h"
#include "google/protobuf/descriptor.h"
#include "plugin/comments.h"
#include "plugin/kind.pb.h"
#include "plugin/registry.h"
#include "trainer/experiment.pb.h"

namespace graticule {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::DescriptorPool;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;

constexpr int kColumns = 100;

// A field as a user sees it.
struct Row {
  std::string path;  // "epochs", "stages[].width"
  std::string type;  // "int32", "list of float", "pooling plugin"
  std::string comment;
  std::vector<std::string> values;  // of an enum: "NAME: comment"
};

std::string OneLine(const std::string& comment) { return absl::StrReplaceAll(comment, {{"\n", " "}}); }

// The kind of plugin that a field holds; empty for other fields.
std::string KindOf(const FieldDescriptor& field) { return field.options().GetExtension(kind); }

// Of a field whose own fields are for users; null for a scalar or a plugin.
const Descriptor* SubMessage(const FieldDescriptor& field) {
  const Descriptor* type = field.message_type();
  return type == google::protobuf::Any::descriptor() ? nullptr : type;
}

std::string TypeOf(const FieldDescriptor& field) {
  std::string type = field.type_name();
  if (field.message_type() == google::protobuf::Any::descriptor()) {
    type = KindOf(field).empty() ? "any message" : absl::StrCat(KindOf(field), " plugin");
  }
  return field.is_repeated() ? absl::StrCat("list of ", type) : type;
}

std::vector<std::string> ValuesOf(const EnumDescriptor& type) {
  std::vector<std::string> values;
  for (int i = 0; i < type.value_count(); ++i) {
    const std::string& name = type.value(i)->name();
    if (absl::EndsWith(name, "_UNSPECIFIED")) continue;
    const std::string comment = OneLine(CommentOf(type.value(i)->full_name()));
    values.push_back(comment.empty() ? name : absl::StrCat(name, ": ", comment));
  }
  return values;
}

// The fields of a message, and behind each message those of its own; `inside` are the types around it, for types that
// hold themselves.
void AddRows(const Descriptor& message, const std::string& prefix, std::vector<const Descriptor*> inside,
             std::vector<Row>* rows) {
  inside.push_back(&message);
  for (int i = 0; i < message.field_count(); ++i) {
    const FieldDescriptor& field = *message.field(i);
    Row row{prefix + field.name(), TypeOf(field), OneLine(CommentOf(field.full_name())), {}};
    if (field.enum_type() != nullptr) row.values = ValuesOf(*field.enum_type());
    rows->push_back(row);
    const Descriptor* type = SubMessage(field);
    if (type != nullptr && std::find(inside.begin(), inside.end(), type) == inside.end()) {
      AddRows(*type, absl::StrCat(row.path, field.is_repeated() ? "[]." : "."), inside, rows);
    }
  }
}

std::vector<Row> RowsOf(const Descriptor& message) {
  std::vector<Row> rows;
  AddRows(message, "", {}, &rows);
  return rows;
}

// What stands around a plugin of this kind in an experiment, "objectives { objective { " for an objective; empty for a
// kind that the experiment has no place for.
std::string SlotOf(const std::string& plugin_kind, const Descriptor& message) {
  for (int i = 0; i < message.field_count(); ++i) {
    const FieldDescriptor& field = *message.field(i);
    if (KindOf(field) == plugin_kind) return absl::StrCat(field.name(), " { ");
    if (SubMessage(field) == nullptr) continue;
    const std::string inner = SlotOf(plugin_kind, *SubMessage(field));
    if (!inner.empty()) return absl::StrCat(field.name(), " { ", inner);
  }
  return "";
}

std::string ExampleOf(const PluginInfo& info) {
  const std::string slot = SlotOf(info.kind, *Experiment::descriptor());
  const std::string body = info.example.empty() ? "{}" : absl::StrCat("{ ", info.example, " }");
  std::string example = absl::StrCat(slot, "[type.googleapis.com/", info.name, "] ", body);
  for (const char character : slot) {
    if (character == '{') example += " }";
  }
  return example;
}

const Descriptor& ConfigOf(const PluginInfo& info) {
  return *DescriptorPool::generated_pool()->FindMessageTypeByName(info.name);
}

// ---- Plain text
// -------------------------------------------------------------------------------------------------------

// Words up to the last column, beginning at column `indent` where the cursor is already; `hang` indents further lines.
void PrintWrapped(std::ostream& output, const std::string& text, int indent, int hang) {
  int column = indent;
  bool is_start = true;
  const std::vector<std::string> words = absl::StrSplit(text, ' ', absl::SkipEmpty());
  for (const std::string& word : words) {
    const int width = word.size();
    if (!is_start && column + 1 + width > kColumns) {
      output << "\n" << std::string(hang, ' ');
      column = hang;
      is_start = true;
    }
    output << (is_start ? "" : " ") << word;
    column += width + (is_start ? 0 : 1);
    is_start = false;
  }
  output << "\n";
}

std::string Padded(const std::string& text, size_t width) {
  return text + std::string(width - std::min(width, text.size()), ' ');
}

void PrintRows(std::ostream& output, const std::vector<Row>& rows) {
  size_t path_width = 0, type_width = 0;
  for (const Row& row : rows) {
    path_width = std::max(path_width, row.path.size());
    type_width = std::max(type_width, row.type.size());
  }
  const int comment_column = 4 + path_width + 2 + type_width + 2;
  for (const Row& row : rows) {
    output << "    " << Padded(row.path, path_width) << "  " << Padded(row.type, type_width);
    if (!row.comment.empty()) {
      output << "  ";
      PrintWrapped(output, row.comment, comment_column, comment_column);
    } else {
      output << "\n";
    }
    for (const std::string& value : row.values) {
      output << std::string(comment_column + 2, ' ');
      PrintWrapped(output, value, comment_column + 2, comment_column + 4);
    }
  }
}

void PrintText(std::ostream& output) {
  std::string last_kind;
  for (const PluginInfo& info : RegisteredPlugins()) {
    if (info.kind != last_kind) {
      const std::string title = absl::AsciiStrToUpper(info.kind);
      output << (last_kind.empty() ? "" : "\n") << title << "\n" << std::string(title.size(), '=') << "\n";
      last_kind = info.kind;
    }
    output << "\n" << info.name << ": ";
    PrintWrapped(output, info.summary, info.name.size() + 2, 4);
    PrintRows(output, RowsOf(ConfigOf(info)));
    output << "    Example:\n      ";
    PrintWrapped(output, ExampleOf(info), 6, 8);
  }
}

// ---- Markdown
// ---------------------------------------------------------------------------------------------------------

std::string Cell(const std::string& text) {
  return absl::StrReplaceAll(text, {{"|", "\\|"}, {"<", "&lt;"}, {"_", "\\_"}, {"*", "\\*"}});
}

void PrintTable(std::ostream& output, const std::vector<Row>& rows) {
  if (rows.empty()) {
    output << "It has no fields.\n";
    return;
  }
  output << "| field | type | meaning |\n| --- | --- | --- |\n";
  for (const Row& row : rows) {
    output << "| `" << row.path << "` | " << row.type << " | " << Cell(row.comment);
    for (const std::string& value : row.values) output << "<br>" << Cell(value);
    output << " |\n";
  }
}

// The fields of the experiment: its own, then a section for each message in it.
void PrintExperimentFields(std::ostream& output) {
  const Descriptor& experiment = *Experiment::descriptor();
  std::vector<Row> rows;
  for (const Row& row : RowsOf(experiment)) {
    if (!absl::StrContains(row.path, '.')) rows.push_back(row);
  }
  output << "## The experiment\n\n" << CommentOf(experiment.full_name()) << "\n\n";
  PrintTable(output, rows);
  for (int i = 0; i < experiment.field_count(); ++i) {
    const FieldDescriptor& field = *experiment.field(i);
    if (SubMessage(field) == nullptr) continue;
    output << "\n### `" << field.name() << "`\n\n" << CommentOf(field.full_name()) << "\n\n";
    PrintTable(output, RowsOf(*SubMessage(field)));
  }
}

void PrintMarkdown(std::ostream& output) {
  output << "# Reference of the experiment's fields\n\n"
            "`graticule list --markdown` writes this page from the comments in the .proto files. The names are the "
            "paths that "
            "`--set` takes; `[]` stands for the index of an element.\n\n";
  PrintExperimentFields(output);
  std::string last_kind;
  for (const PluginInfo& info : RegisteredPlugins()) {
    if (info.kind != last_kind) output << "\n## Plugins: " << info.kind << "\n";
    last_kind = info.kind;
    const std::string comment = CommentOf(info.name);
    output << "\n### `" << info.name << "`\n\n" << info.summary << ".\n\n";
    if (!comment.empty()) output << comment << "\n\n";
    PrintTable(output, RowsOf(ConfigOf(info)));
    output << "\n```textproto\n" << ExampleOf(info) << "\n```\n";
  }
}

}  // namespace

void PrintPlugins(std::ostream& output, bool markdown) { markdown ? PrintMarkdown(output) : PrintText(output); }

}  // namespace graticule
