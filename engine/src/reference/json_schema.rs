//! The JSON Schema of manifests, with which editors complete and check them.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::manifest::{KEY_STORE, ProbeKind};
use crate::model::schema::duration_pattern;
use crate::model::{Attribute, Kind, Schema};
use crate::provider::{Declaration, Provider, ResourceType, TargetKind};

/// The schemas of all blocks that providers and backends define.
#[derive(Clone, Debug, Default)]
pub struct BlockSchemas {
    /// The types of `[resource.TYPE.NAME]`.
    pub resource_types: Vec<Declaration>,
    /// The types of `[data.TYPE.NAME]`.
    pub data_sources: Vec<Declaration>,
    /// The schemas of `[providers.NAME]`, by name.
    pub providers: Vec<(&'static str, Schema)>,
    /// The schemas of `[backend.TYPE]`, by type.
    pub backends: Vec<(&'static str, Schema)>,
}

impl BlockSchemas {
    /// Collects the schemas of these providers and backends.
    pub fn new(providers: &[&dyn Provider], backends: Vec<(&'static str, Schema)>) -> Self {
        Self {
            resource_types: providers.iter().flat_map(|provider| declarations(&provider.resource_types())).collect(),
            data_sources: providers.iter().flat_map(|provider| declarations(&provider.data_sources())).collect(),
            providers: providers.iter().map(|provider| (provider.name(), provider.config_schema())).collect(),
            backends,
        }
    }
}

fn declarations(types: &[Arc<dyn ResourceType>]) -> Vec<Declaration> {
    types.iter().map(|resource_type| resource_type.declaration().clone()).collect()
}

/// Returns the JSON Schema (draft 2020-12) of a manifest. Each value can be a string with an expression instead.
pub fn json_schema(schemas: &BlockSchemas) -> Value {
    let types = |list: &[Declaration], data: bool| -> Map<String, Value> {
        let block = |kind: &Declaration| {
            let block = block(&kind.schema, meta_arguments(data));
            map_of(if kind.target_kind == TargetKind::Node { requiring(block, "on") } else { block })
        };
        list.iter().map(|kind| (kind.name.to_owned(), block(kind))).collect()
    };
    let blocks = |list: &[(&'static str, Schema)], make: fn(&Schema) -> Value| -> Map<String, Value> {
        list.iter().map(|(name, schema)| ((*name).to_owned(), make(schema))).collect()
    };
    let resources = types(&schemas.resource_types, false);
    let data_sources = types(&schemas.data_sources, true);
    let providers = blocks(&schemas.providers, provider_block);
    let backends = blocks(&schemas.backends, |schema| block(schema, Map::new()));
    let environments = environment(&schemas.backends);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "moorfast manifest",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "variables": map_of(variable()),
            "locals": { "type": "object", "description": "Named values, available as `local.NAME`." },
            "nodes": map_of(node()),
            "providers": object(providers),
            "backend": object(backends),
            "keystore": block(&KEY_STORE, Map::new()),
            "environments": environments,
            "resource": object(resources),
            "data": object(data_sources),
            "check": map_of(check()),
            "policy": map_of(policy()),
            "rollout": map_of(rollout()),
            "outputs": map_of(output()),
            "module": map_of(module()),
            "moved": array(closed(json!({ "from": address(), "to": address() }), &["from", "to"])),
            "import": array(closed(json!({ "to": address() }), &["to"])),
            "removed": array(closed(json!({ "from": address(), "destroy": { "type": "boolean", "default": true } }), &["from"])),
        },
        "$defs": {
            "expression": {
                "description": "A string with an expression: `${…}` or `%{…}`.",
                "type": "string",
                "pattern": "[$%]\\{",
            },
            "condition": closed(
                json!({
                    "condition": or_expression(json!({ "type": "boolean" })),
                    "error_message": { "type": "string" },
                }),
                &["condition", "error_message"],
            ),
        },
    })
}

fn object(properties: Map<String, Value>) -> Value {
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

fn closed(properties: Value, required: &[&str]) -> Value {
    json!({ "type": "object", "additionalProperties": false, "properties": properties, "required": required })
}

fn map_of(inner: Value) -> Value {
    json!({ "type": "object", "additionalProperties": inner })
}

fn array(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

fn texts(doc: &str) -> Value {
    json!({ "description": doc, "type": "array", "items": { "type": "string" } })
}

fn address() -> Value {
    json!({ "type": "string", "examples": ["ssh_file.motd", "ssh_file.motd[\"gpu01\"]"] })
}

fn described(doc: &str, schema: Value) -> Value {
    match schema {
        Value::Object(mut members) => {
            members.insert("description".to_owned(), json!(doc));
            Value::Object(members)
        }
        other => other,
    }
}

/// Returns a schema that also accepts a string with an expression.
fn or_expression(schema: Value) -> Value {
    json!({ "anyOf": [schema, { "$ref": "#/$defs/expression" }] })
}

/// Returns a block with the attributes of a schema and the properties `more`.
fn block(schema: &Schema, more: Map<String, Value>) -> Value {
    let mut block = attributes(&schema.attributes);
    if let Some(properties) = block.get_mut("properties").and_then(Value::as_object_mut) {
        properties.extend(more);
    }
    described(schema.doc, block)
}

/// Returns a block in which the property `name` is required too.
fn requiring(mut block: Value, name: &str) -> Value {
    if let Some(members) = block.as_object_mut() {
        let required = members.entry("required").or_insert_with(|| json!([]));
        required.as_array_mut().into_iter().for_each(|names| names.push(json!(name)));
    }
    block
}

/// Returns the block of a provider. It can contain instances, which are tables with the same attributes.
fn provider_block(config: &Schema) -> Value {
    let order = described(
        "Resources that start the API to which the provider connects. All its resources depend on them.",
        array(address()),
    );
    let mut own = block(config, Map::from_iter([("depends_on".to_owned(), order)]));
    let instance = own.clone();
    if let Some(members) = own.as_object_mut() {
        members.insert("additionalProperties".to_owned(), instance);
        // The required attributes can be in the instances only.
        members.remove("required");
    }
    own
}

fn attributes(attributes: &[Attribute]) -> Value {
    let writable = || attributes.iter().filter(|attribute| attribute.optional);
    let properties: Map<String, Value> = writable().map(|a| (a.name.to_owned(), attribute(a))).collect();
    let required: Vec<&str> =
        writable().filter(|attribute| attribute.required).map(|attribute| attribute.name).collect();
    let mut block = object(properties);
    if let Some(members) = block.as_object_mut()
        && !required.is_empty()
    {
        members.insert("required".to_owned(), json!(required));
    }
    block
}

fn attribute(attribute: &Attribute) -> Value {
    let mut schema = described(attribute.doc, kind(&attribute.kind));
    let default = attribute.default.as_ref().filter(|_| !attribute.sensitive).and_then(crate::model::Value::to_json);
    if let (Some(members), Some(default)) = (schema.as_object_mut(), default) {
        members.insert("default".to_owned(), default);
    }
    schema
}

fn kind(kind: &Kind) -> Value {
    match kind {
        Kind::Any => json!({}),
        Kind::Bool => or_expression(json!({ "type": "boolean" })),
        Kind::Integer => or_expression(json!({ "type": "integer" })),
        Kind::Number => or_expression(json!({ "type": "number" })),
        Kind::String => json!({ "type": ["string", "number", "boolean"] }),
        Kind::OneOf(words) => or_expression(json!({ "enum": words })),
        Kind::Duration => or_expression(json!({ "type": "string", "pattern": duration_pattern() })),
        Kind::Mode => or_expression(json!({ "type": "string", "pattern": "^[0-7]{3,5}$" })),
        Kind::List(inner) => or_expression(array(self::kind(inner))),
        Kind::Map(inner) => or_expression(map_of(self::kind(inner))),
        Kind::Object(inner) => or_expression(attributes(inner)),
    }
}

/// Returns the arguments of every resource or data source.
fn meta_arguments(data: bool) -> Map<String, Value> {
    let addresses = |doc: &str| described(doc, array(address()));
    let conditions = |doc: &str| {
        let one = json!({ "$ref": "#/$defs/condition" });
        described(doc, json!({ "anyOf": [one, array(one.clone())] }))
    };
    let timeouts: Map<String, Value> = ["create", "read", "update", "delete"]
        .into_iter()
        .map(|operation| (operation.to_owned(), kind(&Kind::Duration)))
        .collect();
    let lifecycle = closed(
        json!({
            "prevent_destroy": { "description": "Refuse a plan that would destroy the resource.", "type": "boolean" },
            "ignore_changes": texts("Attributes whose differences are ignored: paths such as `content`, `manifest.spec.replicas` or `manifest.metadata.labels[\"a.b/c\"]`; `[\"all\"]` for all."),
            "create_before_destroy": { "description": "Create the new object of a replacement before the old one is destroyed.", "type": "boolean" },
            "replace_triggered_by": addresses("Resources whose changes force a replacement."),
        }),
        &[],
    );
    let mut arguments = vec![
        ("on", on()),
        ("for_each", for_each()),
        ("depends_on", addresses("Resources on which it depends.")),
        ("provider", json!({ "description": "Provider instance: `NAME` or `NAME.ALIAS`.", "type": "string" })),
        ("precondition", conditions("Conditions that must be true before the resource is planned.")),
        ("postcondition", conditions("Conditions that must be true after the apply; `self` is the resource.")),
        ("timeouts", described("Timeouts of the operations.", object(timeouts))),
    ];
    if !data {
        arguments.push(("restart_on", addresses("Resources whose changes cause a restart.")));
        arguments.push(("lifecycle", described("Rules for changes, replacement and destruction.", lifecycle)));
    }
    arguments.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect()
}

fn on() -> Value {
    let role = closed(
        json!({
            "role": { "type": "string" },
            "roles": described("Roles; a node needs any of them.", or_expression(json!({ "type": "array", "items": { "type": "string" } }))),
            "allow_empty": described("Whether roles that no node has are permitted.", or_expression(json!({ "type": "boolean" }))),
        }),
        &[],
    );
    let doc = "Nodes: `{ role = \"worker\" }`, a name, a list of names or `\"all\"`. One instance is created for each node, with the node as `node`.";
    json!({ "description": doc, "anyOf": [role, { "type": "string" }, { "type": "array", "items": { "type": "string" } }] })
}

fn for_each() -> Value {
    let doc = "A list of strings or a map. One instance is created for each member, with the member as `each.key` and `each.value`.";
    json!({ "description": doc, "anyOf": [{ "type": "object" }, { "type": "array", "items": { "type": ["string", "number"] } }, { "$ref": "#/$defs/expression" }] })
}

fn variable() -> Value {
    let one = json!({ "$ref": "#/$defs/condition" });
    closed(
        json!({
            "type": { "description": "`string`, `number`, `bool`, `any`, `list(T)`, `set(T)`, `map(T)` or `object({ name = T, other = optional(T, default) })`.", "type": "string" },
            "default": { "description": "Value if the variable is not set." },
            "description": { "type": "string" },
            "sensitive": { "description": "Whether the value is never shown or stored.", "type": "boolean" },
            "validation": { "anyOf": [one, array(one.clone())] },
        }),
        &[],
    )
}

fn node() -> Value {
    let texts = |doc: &str| json!({ "description": doc, "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] });
    let elements = "A list of strings, a map, or a list of maps. One node is created for each element, with the element as `each.key` and `each.value`.";
    closed(
        json!({
            "for_each": { "description": elements, "anyOf": [{ "type": "object" }, { "type": "array", "items": { "type": ["string", "object"] } }, { "$ref": "#/$defs/expression" }] },
            "name": { "description": "With `for_each`: the name of the node of an element. Default: `each.key`.", "type": "string" },
            "address": { "description": "Host name or IP address. Default: the name of the node.", "type": "string" },
            "user": { "description": "Login user.", "type": "string" },
            "port": or_expression(json!({ "type": "integer", "minimum": 1, "maximum": 65535 })),
            "identity_file": { "description": "Private key file.", "type": "string" },
            "jump": texts("Jump hosts, in order."),
            "host_key": texts("Pinned host keys: `SHA256:…` or a line of a public key."),
            "transport": or_expression(json!({ "enum": ["ssh", "local"] })),
            "sudo": or_expression(json!({ "type": "boolean" })),
            "roles": texts("Roles for selection with `on`."),
            "vars": { "description": "Custom values, available as `node.vars.NAME`.", "anyOf": [{ "type": "object" }, { "$ref": "#/$defs/expression" }] },
        }),
        &[],
    )
}

/// Returns `[environments.NAME]`. The settings of a backend are those of all types, because the schema cannot relate them to `[backend.TYPE]`.
fn environment(backends: &[(&'static str, Schema)]) -> Value {
    let settings = backends.iter().flat_map(|(_, schema)| &schema.attributes);
    let settings: Map<String, Value> = settings.map(|setting| (setting.name.to_owned(), attribute(setting))).collect();
    let block = closed(
        json!({
            "variables": { "description": "Values of variables.", "type": "object" },
            "var_files": texts("TOML files with values of variables, relative to the folder of the manifest."),
            "backend": described("Settings that replace those of `[backend.TYPE]`.", object(settings)),
        }),
        &[],
    );
    json!({
        "description": "The environments. Each has a state of its own.",
        "type": "object",
        "patternProperties": { "^[a-z][a-z0-9-]*$": block },
        "additionalProperties": false,
    })
}

fn check() -> Value {
    let one = json!({ "$ref": "#/$defs/condition" });
    closed(
        json!({
            "on": on(),
            "for_each": for_each(),
            "depends_on": array(address()),
            "from": described("Nodes from which the probe is sent, as in `on`. Default: this machine.", on()),
            "http": block(ProbeKind::Http.schema(), Map::new()),
            "tcp": block(ProbeKind::Tcp.schema(), Map::new()),
            "dns": block(ProbeKind::Dns.schema(), Map::new()),
            "ping": block(ProbeKind::Ping.schema(), Map::new()),
            "assert": { "anyOf": [one, array(one.clone())] },
        }),
        &[],
    )
}

fn module() -> Value {
    let addresses = described("Resources on which all resources of the module depend.", array(address()));
    closed(
        json!({
            "source": { "description": "Folder of the module, relative to the folder of this file, or a folder of a git repository: `git::URL//FOLDER?ref=TAG`.", "type": "string", "examples": ["./modules/web", "git::https://git.example.com/modules.git//web?ref=v1.0.0"] },
            "inputs": { "description": "Values of the variables of the module.", "type": "object" },
            "for_each": for_each(),
            "depends_on": addresses,
            "providers": { "description": "Provider instance of the caller for each provider of the module.", "type": "object", "additionalProperties": { "type": "string" } },
        }),
        &["source"],
    )
}

fn policy() -> Value {
    closed(
        json!({
            "condition": or_expression(json!({ "type": "boolean" })),
            "message": { "description": "Message if the condition is false.", "type": "string" },
            "severity": { "description": "Whether a violation prevents the apply (`deny`) or is only reported (`warn`).", "enum": ["deny", "warn"], "default": "deny" },
        }),
        &["condition", "message"],
    )
}

fn rollout() -> Value {
    let duration = |doc: &str, default: &str| json!({ "description": doc, "type": "string", "default": default });
    closed(
        json!({
            "roles": texts("Nodes with any of these roles."),
            "nodes": texts("Names of nodes."),
            "resources": described("Resources to which the rollout is limited. Default: all resources on the nodes.", array(address())),
            "max_unavailable": {
                "description": "Maximum number or percentage of nodes that are changed at the same time.",
                "anyOf": [{ "type": "integer", "minimum": 1 }, { "type": "string", "pattern": "^([1-9][0-9]?|100)%$" }],
                "default": 1,
            },
            "pause": duration("Pause after each node.", "0s"),
            "gates": texts("Health gates that must be healthy before the next node starts: resources and checks (`check.NAME`)."),
            "timeout": duration("Timeout of each health gate.", "5m"),
            "after": texts("Rollouts (`rollout.NAME`) that must be complete before the first node of this one starts."),
            "drain": described(
                "Moves the workloads of a node away before the node is changed, and puts it back into service after its health gates.",
                closed(
                    json!({
                        "resource": described("The resource that represents the nodes in their cluster: `kubernetes_node.NAME`.", address()),
                        "resources": described("Resources whose changes need a drained node. Default: all resources on the node.", array(address())),
                        "timeout": duration("Timeout of the drain of each node.", "10m"),
                        "grace_period": { "description": "Time that each pod gets to stop. Default: as the pod declares.", "type": "string" },
                        "force": { "description": "Whether to evict pods that no controller starts again.", "type": "boolean", "default": false },
                        "delete_emptydir_data": { "description": "Whether to evict pods with data in an emptyDir volume.", "type": "boolean", "default": false },
                    }),
                    &["resource"],
                ),
            ),
        }),
        &[],
    )
}

fn output() -> Value {
    closed(json!({ "value": {}, "description": { "type": "string" }, "sensitive": { "type": "boolean" } }), &["value"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_becomes_a_schema_with_expressions() {
        let attributes = [
            Attribute::required("path", Kind::String, "Where it is."),
            Attribute::optional("enabled", Kind::Bool, "Is it?").or(true),
            Attribute::optional("ports", Kind::list(Kind::Integer), "Ports."),
            Attribute::optional(
                "target",
                Kind::Object(vec![Attribute::required("name", Kind::String, "A name.")]),
                "A target.",
            ),
            Attribute::computed("size", Kind::Integer, "Bytes."),
        ];
        let kind = Declaration {
            name: "test_file",
            target_kind: TargetKind::Node,
            schema: Schema::new("A file.", attributes),
        };
        let config = Schema::new("Tests.", [Attribute::required("url", Kind::String, "Where.")]);
        let schemas = BlockSchemas {
            resource_types: vec![kind.clone()],
            data_sources: vec![kind],
            providers: vec![("test", config.clone())],
            backends: vec![("file", config)],
        };
        let mut schema = json_schema(&schemas);
        let resource = &mut schema["properties"]["resource"]["properties"]["test_file"]["additionalProperties"];
        assert!(resource["properties"].get("lifecycle").is_some());
        if let Some(properties) = resource["properties"].as_object_mut() {
            properties.retain(|name, _| ["path", "enabled", "ports", "target", "size"].contains(&name.as_str()));
        }
        insta::assert_json_snapshot!(resource);
        insta::assert_json_snapshot!(schema["properties"]["providers"]);
    }
}
