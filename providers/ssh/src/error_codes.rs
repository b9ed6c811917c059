//! The codes of the errors of connections to nodes.

moorfast_engine::error_codes! {
    /// The node does not answer.
    CONNECTION_FAILED = "M0301";
    /// The node refuses the login.
    LOGIN_REFUSED = "M0302";
    /// The host key of the node is not known yet.
    HOST_KEY_UNKNOWN = "M0303";
    /// The host key of the node is another one than before.
    HOST_KEY_CHANGED = "M0304";
    /// The login user cannot become root.
    NO_ROOT = "M0305";
}
