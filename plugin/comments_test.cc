#include "plugin/comments.h"

#include "gtest/gtest.h"

namespace graticule {
namespace {

TEST(CommentsTest, StandByFullName) {
  EXPECT_EQ(CommentOf("graticule.comments_test.Outer"), "A plate.\n\"Second\" line, with a \\ in it.");
  EXPECT_EQ(CommentOf("graticule.comments_test.Outer.depth"), "The depth. Default 12.");
  EXPECT_EQ(CommentOf("graticule.comments_test.Outer.after"), "Behind the field.");
  EXPECT_EQ(CommentOf("graticule.comments_test.Outer.Inner"), "An inner message.");
  EXPECT_EQ(CommentOf("graticule.comments_test.Outer.Inner.width"), "Its width.");
  EXPECT_EQ(CommentOf("graticule.comments_test.Outer.Choice"), "A choice.");
  EXPECT_EQ(CommentOf("graticule.comments_test.Outer.NONE"), "None of them.");
  EXPECT_EQ(CommentOf("graticule.comments_test.Top"), "At the top.");
  EXPECT_EQ(CommentOf("graticule.comments_test.ZERO"), "Zero.");
}

TEST(CommentsTest, AreEmptyWhereNothingIsSaid) {
  EXPECT_EQ(CommentOf("graticule.comments_test.Outer.bare"), "");
  EXPECT_EQ(CommentOf("graticule.comments_test.Nowhere"), "");
}

}  // namespace
}  // namespace graticule
