"""The targets of a plugin: one folder, five files, one macro."""

def graticule_plugin(
        name,
        deps = [],
        proto_deps = [],
        srcs = None,
        hdrs = None,
        data = [],
        test_deps = [],
        test_data = [],
        test_size = "small",
        visibility = None):
    """Declares NAME (the plugin, registered wherever it is linked), NAME_cc_proto and NAME_test.

    Args:
      name: the folder's name; its files are NAME.proto, NAME.h, NAME.cc, NAME_test.cc.
      deps: what NAME.cc needs besides its proto and the registry.
      proto_deps: what NAME.proto imports, as proto_library targets; each needs its `_cc_proto` twin in deps.
      srcs: sources, where they are more than NAME.cc.
      hdrs: headers, where they are more than NAME.h.
      data: files that the plugin reads at run time.
      test_deps: what NAME_test.cc needs besides the plugin and GoogleTest.
      test_data: files that NAME_test.cc reads.
      test_size: Bazel's size of NAME_test.
      visibility: who may link the plugin; by default the aggregates of the tree.
    """
    visibility = visibility or [str(Label("//plugin:aggregates"))]
    native.proto_library(
        name = name + "_proto",
        srcs = [name + ".proto"],
        visibility = visibility,
        deps = proto_deps,
    )
    native.cc_proto_library(
        name = name + "_cc_proto",
        visibility = visibility,
        deps = [name + "_proto"],
    )
    native.cc_library(
        name = name,
        srcs = srcs or [name + ".cc"],
        hdrs = hdrs or [name + ".h"],
        data = data,
        visibility = visibility,
        deps = [":" + name + "_cc_proto", str(Label("//plugin:registry")), str(Label("//plugin:status"))] + deps,
        # Nothing names the plugin, so only this keeps the linker from dropping it.
        alwayslink = True,
    )
    native.cc_test(
        name = name + "_test",
        size = test_size,
        srcs = [name + "_test.cc"],
        data = test_data,
        deps = [
            ":" + name,
            str(Label("//third_party/gtest:gtest_main")),
        ] + test_deps,
    )

def plugin_collection(name, plugins, visibility = ["//visibility:public"]):
    """A library that links every plugin of a list.

    Args:
      name: `all`, by custom.
      plugins: the PLUGINS list: labels of graticule_plugin targets.
      visibility: who may link them all.
    """
    native.cc_library(
        name = name,
        visibility = visibility,
        deps = plugins,
    )
