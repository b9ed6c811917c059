//! `moorfast node`

mod check;

use std::sync::Arc;

use moorfast_engine::manifest::Inventory;
use moorfast_engine::model::{Address, Decoded, Node as InventoryNode, Recorded, Sources, Transport};
use moorfast_engine::provider::HostKeys;

use crate::completer::{Names, completer};
use crate::error::Error;
use crate::exit::Exit;
use crate::inputs::Inputs;
use crate::invocation::Invocation;
use crate::render::nodes::{ListedNode, nodes_json};
use crate::render::text::{Line, Style, Text, styled};

const EXAMPLES: &str = r#"Examples:
  moorfast node check                      check the access to all nodes and clusters
  moorfast node trust gpu01                accept the host key of a new machine
  moorfast node list                       list the nodes of the inventory"#;

/// Manage the nodes of the inventory and their host keys.
///
/// Manages the nodes of the inventory and their host keys. moorfast connects to a node only if its host key is known: pinned by
/// `host_key` in the manifest, or trusted with `moorfast node trust`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Node {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the nodes with their addresses, roles, places in the manifest and known host keys
    List {
        /// Print the nodes as JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        inputs: Inputs,
    },
    /// Show a node: its address, its roles, and the identity of its machine as of the last apply
    Show {
        /// The node
        #[arg(value_name = "NAME", add = completer(Names::Nodes))]
        name: String,
        #[command(flatten)]
        inputs: Inputs,
    },
    Check(check::Check),
    /// Trust the host keys that a node presents now; compare the fingerprints first
    Trust {
        /// The nodes
        #[arg(value_name = "NAME", required = true, add = completer(Names::Nodes))]
        names: Vec<String>,
        #[command(flatten)]
        inputs: Inputs,
    },
    /// Remove the trusted host keys of a node
    Forget {
        /// The nodes
        #[arg(value_name = "NAME", required = true, add = completer(Names::Nodes))]
        names: Vec<String>,
        #[command(flatten)]
        inputs: Inputs,
    },
}

impl Node {
    pub(super) async fn run(self, invocation: &Invocation) -> Result<Exit, Error> {
        let (Command::List { inputs, .. }
        | Command::Show { inputs, .. }
        | Command::Check(check::Check { inputs, .. })
        | Command::Trust { inputs, .. }
        | Command::Forget { inputs, .. }) = &self.command;
        let workspace = invocation.workspace(inputs)?;
        invocation.read_static_data(&workspace).await?;
        let wrong = |diagnostics| Error::Manifest { sources: workspace.manifest.sources.clone(), diagnostics };
        let inventory = workspace.inventory().map_err(wrong)?;
        let mut nodes: Vec<_> = inventory.iter().cloned().collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        match &self.command {
            Command::List { json, .. } => {
                let listed = listed(invocation, &workspace.manifest.sources, &inventory, nodes)?;
                match json {
                    true => invocation.ui.json(format!("{:#}\n", nodes_json(&listed))),
                    false => list(invocation, &listed),
                }
            }
            Command::Check(check) => {
                named(&nodes, &check.names)?;
                return check.run(invocation, &workspace).await;
            }
            Command::Show { name, .. } => show(invocation, &named(&nodes, std::slice::from_ref(name))?[0]).await,
            Command::Forget { names, .. } => forget(invocation, named(&nodes, names)?),
            Command::Trust { names, .. } => {
                let (provider, host_keys) = host_keys(invocation)?;
                let config = workspace.provider_configuration(provider).map_err(wrong)?;
                let (root, data_dir) = (&workspace.manifest.root, invocation.state_dir());
                for node in named(&nodes, names)? {
                    let keys = host_keys.trust(&node, &config, root, &data_dir).await.map_err(Error::Provider)?;
                    invocation.ui.out(trusted_keys(&node, &keys))?;
                }
                Ok(())
            }
        }?;
        Ok(Exit::Success)
    }
}

/// Returns the host keys that a provider of this binary keeps, with the name of the provider.
fn host_keys(invocation: &Invocation) -> Result<(&'static str, &dyn HostKeys), Error> {
    let found = invocation.providers.iter().find_map(|provider| Some((provider.name(), provider.host_keys()?)));
    let missing = || {
        let summary = "no provider of this binary connects to nodes by host keys";
        Error::usage(summary, "use a binary with the provider `ssh`; `moorfast version` lists the providers")
    };
    found.ok_or_else(missing)
}

fn named(nodes: &[Arc<InventoryNode>], names: &[String]) -> Result<Vec<Arc<InventoryNode>>, Error> {
    let find = |name: &String| {
        let known = || nodes.iter().map(|node| node.name.to_string()).collect::<Vec<_>>().join(", ");
        let found = nodes.iter().find(|node| node.name.0 == *name).cloned();
        found.ok_or_else(|| {
            Error::usage(format!("the inventory has no node `{name}`"), format!("its nodes are: {}", known()))
        })
    };
    names.iter().map(find).collect()
}

/// Returns the nodes as `node list` shows them.
fn listed(
    invocation: &Invocation,
    sources: &Sources,
    inventory: &Inventory,
    nodes: Vec<Arc<InventoryNode>>,
) -> Result<Vec<ListedNode>, Error> {
    let (_, host_keys) = host_keys(invocation)?;
    let listed = |node: Arc<InventoryNode>| {
        let known_keys = host_keys.known(&node, &invocation.state_dir()).map_err(Error::Provider)?;
        let origin = inventory.origin(&node.name).cloned();
        let place = origin.as_ref().and_then(|origin| sources.locate(origin.span));
        let place = place.map(|(file, line, _)| (file.path.display().to_string(), line));
        Ok(ListedNode { node, known_keys, origin, place })
    };
    nodes.into_iter().map(listed).collect()
}

fn list(invocation: &Invocation, nodes: &[ListedNode]) -> Result<(), Error> {
    let rows = nodes.iter().map(|listed| {
        let node = &listed.node;
        [node.name.to_string(), destination(node), node.roles.join(", "), listed.definition()]
    });
    let rows: Vec<_> = rows.collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (name, place, roles, definition) = (width(0), width(1), width(2), width(3));
    let mut lines = Vec::new();
    for (ListedNode { node, known_keys, .. }, row) in nodes.iter().zip(&rows) {
        let keys = match (node.transport, known_keys.as_slice()) {
            (Transport::Local, _) => Line::default(),
            (_, []) => styled(Style::Warning, format!("unknown host key: moorfast node trust {}", node.name)),
            (_, keys) => keys.join(" ").into(),
        };
        let [n, p, r, d] = row;
        let columns = format!("{n:name$}  {p:place$}  {r:roles$}  {d:definition$}  ");
        lines.push(match keys.is_empty() {
            true => columns.trim_end().into(),
            false => Line::from(columns) + keys,
        });
    }
    invocation.ui.out(lines)
}

async fn show(invocation: &Invocation, node: &InventoryNode) -> Result<(), Error> {
    let keys = host_keys(invocation)?.1.known(node, &invocation.state_dir()).map_err(Error::Provider)?;
    let mut rows =
        vec![("address", destination(node)), ("roles", node.roles.join(", ")), ("trusted keys", keys.join(" "))];
    if let Some(store) = invocation.existing_store().await? {
        let state = store.snapshot().await?;
        let Decoded { records, machines, .. } = Decoded::of(&state);
        if let Some(machine) = machines.get(&node.name).cloned() {
            rows.push(("last address", machine.address));
            rows.push(("host keys", machine.host_keys.join(" ")));
            rows.push(("machine-id", machine.machine_id.unwrap_or_default()));
            rows.push(("boot-id", machine.boot_id.unwrap_or_default()));
        }
        let here: Vec<_> = state.records.values().filter(|r| r.target == node.name.0).collect();
        rows.push(("resources", here.len().to_string()));
        let of_machine = records.iter().filter(|(address, _)| address.key.as_deref() == Some(node.name.0.as_str()));
        let uid = |(address, record): &(Address, Recorded)| {
            Some(("uid", format!("{} ({address})", record.attributes.get("uid")?.as_str()?)))
        };
        rows.extend(of_machine.filter_map(uid));
    }
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let shown = rows.iter().filter(|(_, value)| !value.is_empty());
    let lines = shown.map(|(name, value)| Line::from(format!("  {name:width$}  {value}")));
    invocation.ui.out(Text::from(styled(Style::Bold, &node.name)) + lines.collect::<Text>())
}

fn destination(node: &InventoryNode) -> String {
    let user = node.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
    let port = node.port.map(|port| format!(":{port}")).unwrap_or_default();
    match node.transport {
        Transport::Local => "this machine".to_owned(),
        Transport::Ssh => format!("{user}{}{port}", node.address),
    }
}

fn trusted_keys(node: &InventoryNode, keys: &[String]) -> Text {
    let name = styled(Style::Bold, &node.name);
    let lines = keys.iter().map(|key| Line::from(format!("  {key}")));
    let heading = match keys.is_empty() {
        true => name + " is this machine and needs no host key.",
        false => Line::from("Trusted these host keys of ") + name + ":",
    };
    let comparison =
        "Compare them with those on its console: for key in /etc/ssh/ssh_host_*.pub; do ssh-keygen -lf $key; done";
    let comparison = if keys.is_empty() { Text::default() } else { Line::from(comparison).into() };
    Text::from(heading) + lines.collect::<Text>() + comparison
}

fn forget(invocation: &Invocation, nodes: Vec<Arc<InventoryNode>>) -> Result<(), Error> {
    let (_, host_keys) = host_keys(invocation)?;
    for node in nodes {
        let name = styled(Style::Bold, &node.name);
        let forgotten = host_keys.forget(&node, &invocation.state_dir()).map_err(Error::Provider)?;
        invocation.ui.out(match forgotten {
            true => Line::from("Removed the host keys of ") + name + ".",
            false => name + " had no trusted host key.",
        })?;
    }
    Ok(())
}
