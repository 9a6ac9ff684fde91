"""The targets of a plugin: one folder, five files, one macro.

Labels name @graticule, so that they mean the same in another repository, which must know Graticule by this name.
"""

def _proto_comments_impl(ctx):
    proto = ctx.attr.proto[ProtoInfo]

    # A descriptor set of our own: proto_library's has comments only under a flag, which another repository may not set.
    descriptors = ctx.actions.declare_file(ctx.label.name + ".binpb")
    arguments = ctx.actions.args()
    arguments.add("--include_imports")
    arguments.add("--include_source_info")
    arguments.add_all(proto.transitive_proto_path, format_each = "--proto_path=%s")
    arguments.add(descriptors, format = "--descriptor_set_out=%s")
    arguments.add_all(proto.direct_sources)
    ctx.actions.run(
        executable = ctx.executable._protoc,
        arguments = [arguments],
        inputs = proto.transitive_sources,
        outputs = [descriptors],
        mnemonic = "ProtoComments",
    )
    source = ctx.actions.declare_file(ctx.label.name + ".cc")
    ctx.actions.run(
        executable = ctx.executable._embed_comments,
        arguments = [descriptors.path, source.path],
        inputs = [descriptors],
        outputs = [source],
        mnemonic = "EmbedComments",
    )
    return [DefaultInfo(files = depset([source]))]

_proto_comments = rule(
    implementation = _proto_comments_impl,
    doc = "Writes a .cc that registers the comments of a proto_library and of its imports (plugin/comments.h).",
    attrs = {
        "proto": attr.label(mandatory = True, providers = [ProtoInfo]),
        "_protoc": attr.label(
            cfg = "exec",
            default = "@com_google_protobuf//:protoc",
            executable = True,
        ),
        "_embed_comments": attr.label(
            cfg = "exec",
            default = "//plugin:embed_comments",
            executable = True,
        ),
    },
)

def documented_proto_library(name, srcs, deps = [], visibility = None):
    """Declares NAME_proto, NAME_cc_proto and NAME_comments, which makes their comments and those of what they
    import known at run time.

    Args:
      name: what the three are called before their endings.
      srcs: the .proto files.
      deps: what it imports, as proto_library targets.
      visibility: who may use them.
    """
    native.proto_library(
        name = name + "_proto",
        srcs = srcs,
        visibility = visibility,
        deps = deps,
    )
    native.cc_proto_library(
        name = name + "_cc_proto",
        visibility = visibility,
        deps = [name + "_proto"],
    )
    _proto_comments(
        name = name + "_comments_source",
        proto = name + "_proto",
        visibility = ["//visibility:private"],
    )
    native.cc_library(
        name = name + "_comments",
        srcs = [name + "_comments_source"],
        visibility = visibility,
        deps = ["@graticule//plugin:comments"],
        alwayslink = True,
    )

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
    """Declares NAME (the plugin, registered wherever it is linked), NAME_proto, NAME_cc_proto and NAME_test.

    Args:
      name: the folder's name; its files are NAME.proto, NAME.h, NAME.cc, NAME_test.cc.
      deps: what NAME.cc needs besides its proto and the registry.
      proto_deps: what NAME.proto imports, as proto_library targets; each needs its `_cc_proto` twin in deps.
      srcs: sources, where they are more than NAME.cc.
      hdrs: headers, where they are more than NAME.h.
      data: files that the plugin reads at run time.
      test_deps: what NAME_test.cc needs besides the plugin, its proto, the registry and GoogleTest.
      test_data: files that NAME_test.cc reads.
      test_size: Bazel's size of NAME_test.
      visibility: who may link the plugin; by default the aggregates of the tree.
    """
    visibility = visibility or ["@graticule//plugin:aggregates"]
    documented_proto_library(
        name = name,
        srcs = [name + ".proto"],
        visibility = visibility,
        deps = proto_deps,
    )
    native.cc_library(
        name = name,
        srcs = srcs or [name + ".cc"],
        hdrs = hdrs or [name + ".h"],
        data = data,
        visibility = visibility,
        deps = [
            ":" + name + "_cc_proto",
            ":" + name + "_comments",
            "@graticule//plugin:registry",
            "@graticule//plugin:status",
        ] + deps,
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
            ":" + name + "_cc_proto",
            "@graticule//plugin:registry",
            "@graticule//plugin:status",
            "@graticule//third_party/gtest:gtest_main",
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
