// A folder of files on disk that a test of a data set lays out.
#ifndef GRATICULE_DATA_DATASETS_TEST_FOLDER_H_
#define GRATICULE_DATA_DATASETS_TEST_FOLDER_H_

#include <filesystem>
#include <string>
#include <vector>

#include "data/datasets/dataset.h"
#include "google/protobuf/message.h"

namespace graticule {

// Named after the running test, with a space and letters beyond ASCII in its path; empty at first.
class TestFolder {
 public:
  TestFolder();

  std::string path(const std::string& name = "") const {
    return name.empty() ? root_.string() : (root_ / name).string();
  }
  // A file of this text, by default its own name; folders above it are made.
  void Write(const std::string& name, const std::string& text) const;
  void Write(const std::string& name) const { Write(name, name); }
  void Link(const std::string& target, const std::string& name) const;
  void Pipe(const std::string& name) const;

  // "LABEL:NAME" of each sample, in order, names as in Write; reads them, and expects that each holds its own name.
  std::vector<std::string> Samples(const Dataset& dataset) const;
  // What the data set passed over, without the folder's path.
  std::vector<std::string> PassedOver(const Dataset& dataset) const;

 private:
  std::filesystem::path root_;
};

// "FIELD: MESSAGE" of a config's only mistake.
std::string OpeningError(const google::protobuf::Message& config, Split split);

}  // namespace graticule

#endif  // GRATICULE_DATA_DATASETS_TEST_FOLDER_H_
