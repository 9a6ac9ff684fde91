#include "data/datasets/files.h"

#include <algorithm>
#include <string>
#include <vector>

#include "data/datasets/test_folder.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace graticule {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::IsEmpty;

TEST(FilesTest, FoldersAreListedAsLinksLead) {
  const TestFolder folder;
  folder.Write("b/1.jpg");
  folder.Write("a");
  folder.Write(".hidden/1.jpg");
  folder.Link("b", "link to b");
  folder.Link("a", "link to a");
  folder.Link("nowhere", "dangling");
  folder.Pipe("pipe");
  const auto names = ListFolder(folder.path());
  ASSERT_TRUE(names.ok()) << names.status();
  EXPECT_THAT(names->folders, ElementsAre("b", "link to b"));
  EXPECT_THAT(names->files, ElementsAre("a", "dangling", "link to a", "pipe"));
}

TEST(FilesTest, ImagesAreSortedByTheirWholePath) {
  const TestFolder folder;
  for (const char* name : {"a/2.jpg", "a.jpg", "a-b/1.jpg", "B.jpg"}) folder.Write(name);
  std::vector<std::string> passed_over;
  const auto images = ListImages(folder.path(), passed_over);
  ASSERT_TRUE(images.ok()) << images.status();
  EXPECT_THAT(*images, ElementsAre(folder.path("B.jpg"), folder.path("a-b/1.jpg"), folder.path("a.jpg"),
                                   folder.path("a/2.jpg")));
  EXPECT_THAT(passed_over, IsEmpty());
}

TEST(FilesTest, NoLinkBringsInTheFoldersAbove) {
  const TestFolder folder;
  folder.Write("train/a/1.jpg");
  folder.Write("train/b/2.jpg");
  folder.Link("..", "train/b/to train");
  folder.Link("../..", "train/b/to all");
  folder.Link("/", "train/b/to the root");
  for (const char* name : {"train/b", "train/b/", "train/b/.", "train/a/../b"}) {
    std::vector<std::string> passed_over;
    const auto images = ListImages(folder.path(name), passed_over);
    ASSERT_TRUE(images.ok()) << images.status();
    EXPECT_THAT(*images, ElementsAre(EndsWith("/2.jpg"))) << name;
    EXPECT_EQ(passed_over.size(), 3);
  }
}

TEST(FilesTest, ListsMayNameFilesInFoldersBelow) {
  const TestFolder folder;
  folder.Write("x/a b.jpg");
  folder.Write("y/c.jpg");
  std::vector<std::string> passed_over;
  for (const std::string& path : {folder.path(), folder.path() + "/"}) {
    passed_over.clear();
    const auto found = FindListed({{"list:1", "x/a b.jpg"}}, path, passed_over);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_THAT(*found, ElementsAre(folder.path("x/a b.jpg")));
    EXPECT_THAT(passed_over, ElementsAre(EndsWith("y/c.jpg: in no list of labels")));
  }
}

TEST(FilesTest, LinesWithoutWhiteSpace) {
  const TestFolder folder;
  folder.Write("list", "\n a b \r\n\n\tc");
  const auto lines = ReadLines(folder.path("list"));
  ASSERT_TRUE(lines.ok()) << lines.status();
  ASSERT_EQ(lines->size(), 2);
  EXPECT_EQ((*lines)[0].text, "a b");
  EXPECT_EQ((*lines)[0].where, folder.path("list") + ":2");
  EXPECT_EQ((*lines)[1].text, "c");
  EXPECT_EQ((*lines)[1].where, folder.path("list") + ":4");
}

TEST(FilesTest, ListsThatArePipesDoNotWait) {
  const TestFolder folder;
  folder.Pipe("list");
  EXPECT_THAT(std::string(ReadLines(folder.path("list")).status().message()),
              EndsWith("list': not a file but a folder, a pipe or a device"));
}

TEST(FilesTest, DrawsAreOfSeedAndLabel) {
  const std::vector<bool> drawn = DrawFiles(600, 100, 0, 7);
  EXPECT_EQ(std::count(drawn.begin(), drawn.end(), true), 100);
  EXPECT_EQ(DrawFiles(600, 100, 0, 7), drawn);
  EXPECT_NE(DrawFiles(600, 100, 1, 7), drawn);
  EXPECT_NE(DrawFiles(600, 100, 0, 8), drawn);
  // More of them are drawn beside the same.
  const std::vector<bool> more = DrawFiles(600, 200, 0, 7);
  for (size_t i = 0; i < drawn.size(); ++i) EXPECT_LE(drawn[i], more[i]);
}

TEST(FilesTest, Wnids) {
  EXPECT_TRUE(IsWnid("n01440764"));
  for (const char* name : {"n0144076", "n014407640", "N01440764", "n0144076x", "01440764n", ""})
    EXPECT_FALSE(IsWnid(name));
}

}  // namespace
}  // namespace graticule
