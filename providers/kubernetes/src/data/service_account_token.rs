//! The data source `kubernetes_service_account_token`: a token of a ServiceAccount.

use async_trait::async_trait;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value};
use moorfast_engine::provider::{Class, DataRequest, Declaration, ProviderError, TargetKind};

use crate::attributes::optional;
use crate::cluster::Cluster;
use crate::data::{Data, check_trusted};

/// The data source `kubernetes_service_account_token`.
pub(crate) struct ServiceAccountToken;

#[async_trait]
impl Data for ServiceAccountToken {
    fn declaration(&self) -> Declaration {
        let schema = Schema::new(
            "A new token of a ServiceAccount, from the TokenRequest API. Every read returns another token: use it for probes and checks, not for the content of files.",
            [
                Attribute::required("name", Kind::String, "Name of the ServiceAccount."),
                Attribute::optional("namespace", Kind::String, "Namespace of the ServiceAccount.").or("default"),
                Attribute::optional(
                    "audiences",
                    Kind::list(Kind::String),
                    "Audiences of the token. Default: the API server.",
                ),
                Attribute::optional("ttl", Kind::Duration, "Lifetime of the token, at least 10 minutes.").or("10m"),
                Attribute::computed("token", Kind::String, "Token.").secret(),
                Attribute::computed("expires_at", Kind::String, "Expiry time (RFC 3339)."),
            ],
        );
        Declaration { name: "kubernetes_service_account_token", target_kind: TargetKind::Provider, schema }
    }

    async fn read(&self, cluster: &Cluster, request: &DataRequest) -> Result<Attributes, ProviderError> {
        check_trusted(cluster, "token")?;
        let arguments = &request.arguments;
        let (name, namespace) =
            (arguments.text("name").unwrap_or_default(), arguments.text("namespace").unwrap_or("default"));
        let ttl = arguments.duration("ttl").and_then(|ttl| i64::try_from(ttl.as_secs()).ok());
        let spec = TokenRequestSpec {
            audiences: arguments.texts("audiences"),
            expiration_seconds: ttl,
            ..TokenRequestSpec::default()
        };
        let api: Api<ServiceAccount> = Api::namespaced(cluster.client().await?, namespace);
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let made = api.create_token_request(name, &PostParams::default(), &request).await;
        let made =
            made.map_err(|e| cluster.explain(e, &format!("request a token of ServiceAccount/{namespace}/{name}")))?;
        let status = made.status.ok_or_else(|| {
            ProviderError::new(
                Class::Failed,
                format!("the API server returned no token of ServiceAccount/{namespace}/{name}"),
            )
        })?;
        let mut attributes = arguments.clone();
        attributes.insert("token".to_owned(), Value::from(status.token).sensitive());
        attributes.insert("expires_at".to_owned(), optional(Some(status.expiration_timestamp.0.to_string())));
        Ok(attributes)
    }
}
