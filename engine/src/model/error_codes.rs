//! The codes of the errors of manifests and plans.

crate::error_codes! {
    /// A file is not valid TOML.
    INVALID_TOML = "M0101";
    /// A text between `${` and `}` is not a valid expression.
    INVALID_EXPRESSION = "M0102";
    /// No provider has a resource type or a data source of this name.
    UNKNOWN_TYPE = "M0103";
    /// The schema of a block does not declare an attribute.
    UNKNOWN_ATTRIBUTE = "M0104";
    /// A block does not set a required attribute.
    MISSING_ATTRIBUTE = "M0105";
    /// The value of an attribute has the wrong type.
    INVALID_VALUE = "M0106";
    /// An expression refers to something that the manifest does not declare.
    UNKNOWN_REFERENCE = "M0107";
    /// An expression calls a function that does not exist.
    UNKNOWN_FUNCTION = "M0108";
    /// The inventory has no node of this name.
    UNKNOWN_NODE = "M0109";
    /// A resource of a node does not select nodes.
    MISSING_ON = "M0110";
    /// No node has a role, so a selection matches nothing.
    UNKNOWN_ROLE = "M0111";
    /// The keys of `for_each` are known only after the apply.
    UNKNOWN_FOR_EACH = "M0112";
    /// Values, resources or modules depend on themselves.
    CYCLE = "M0113";
    /// A variable has neither a value nor a default.
    MISSING_VARIABLE = "M0114";
    /// A value is given for a variable that the manifest does not declare.
    UNKNOWN_VARIABLE = "M0115";
    /// Two instances manage the same object.
    SAME_OBJECT = "M0116";
    /// A block is defined twice.
    DUPLICATE = "M0117";
    /// The folder has no manifest.
    NO_MANIFEST = "M0118";
    /// The plan would destroy an object with `prevent_destroy`.
    DESTROY_PREVENTED = "M0201";
    /// A policy denies the plan.
    POLICY_DENIED = "M0202";
    /// An address on the command line is neither in the manifest nor in the state.
    UNKNOWN_ADDRESS = "M0203";
}
