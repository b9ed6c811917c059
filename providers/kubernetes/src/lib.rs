//! The Kubernetes provider: objects, bootstrap tokens, nodes and certificates of a cluster.
