//! The codes of the errors of clusters.

moorfast_engine::error_codes! {
    /// The API server does not answer.
    CLUSTER_UNREACHABLE = "M0401";
    /// The API server does not accept the credentials.
    CREDENTIALS_REFUSED = "M0402";
    /// The user may not do this.
    FORBIDDEN = "M0403";
    /// Another field manager owns a field.
    FIELD_CONFLICT = "M0404";
    /// The certificate of the API server does not fit the kubeconfig.
    CERTIFICATE_NOT_TRUSTED = "M0405";
}
