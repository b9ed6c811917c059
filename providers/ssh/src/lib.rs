//! The SSH provider: files, packages, units and users of a node.
