//! `moorfast import`

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::time::Duration;

use moorfast_engine::model::{NodeName, Pattern};
use moorfast_engine::provider::Existing;

use crate::completer::{Names, completer};
use crate::error::Error;
use crate::exit::Exit;
use crate::generated::{Generated, generate};
use crate::inputs::Inputs;
use crate::invocation::Invocation;
use crate::planning::{Run, parse_duration};
use crate::render::progress::ProgressFormat;

const EXAMPLES: &str = r#"Examples:
  moorfast import ssh_file.motd                        record all existing objects of a resource
  moorfast import 'ssh_file.motd["gpu01"]'             record one
  moorfast import --generate ssh_file=/etc/motd        print the manifest of a file on all nodes
  moorfast import --generate --all-under /etc/kubernetes --unit kubelet.service
  moorfast import --generate --kind Deployment --kind Service --namespace shop"#;

/// Import existing objects.
///
/// Reads the existing object of an address of the manifest and records it in the state. Does not change the object.
/// Objects that match the manifest exactly need no import: an apply records them.
///
/// With --generate, reads existing objects that are not in the manifest, and prints the blocks that describe them. Contents are written into files in the folder
/// `files` beside the manifest; no file is overwritten. What several nodes have in common is written once. Contents that may be secret are left out.
/// Changes neither the objects nor the state.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Import {
    /// The address of an instance; a resource without a key selects all of its instances that are not in the state. With --generate: types and keys of objects
    #[arg(value_name = "ADDRESS|TYPE=KEY", required_unless_present = "generate", add = completer(Names::Addresses))]
    objects: Vec<String>,
    /// Print the manifest of existing objects
    #[arg(long)]
    generate: bool,
    /// With --generate: read this node (can be repeated) [default: all nodes]
    #[arg(long, value_name = "NODE", requires = "generate", add = completer(Names::Nodes))]
    node: Vec<String>,
    /// With --generate: the files, directories and links at a path and below it (can be repeated)
    #[arg(long, value_name = "PATH", requires = "generate")]
    all_under: Vec<String>,
    /// With --generate: a systemd unit (can be repeated)
    #[arg(long, value_name = "NAME", requires = "generate")]
    unit: Vec<String>,
    /// With --generate: the objects of a kind, `Deployment` or `apps/v1/Deployment` (can be repeated)
    #[arg(long, value_name = "KIND", requires = "generate")]
    kind: Vec<String>,
    /// With --kind: the namespace of the objects
    #[arg(long, value_name = "NAMESPACE", requires = "kind", default_value = "default")]
    namespace: String,
    /// Maximum time to wait for the state lock
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_duration)]
    lock_timeout: Duration,
    #[command(flatten)]
    inputs: Inputs,
}

impl Import {
    pub(super) async fn run(self, invocation: &Invocation) -> Result<Exit, Error> {
        if self.generate {
            return self.generated(invocation).await;
        }
        let address: Pattern = match self.objects.as_slice() {
            [address] => address.parse().map_err(|invalid| Error::Usage {
                message: format!("{invalid}"),
                help: None,
                code: None,
            })?,
            _ => {
                return Err(Error::usage(
                    "import records one address at a time",
                    "run the command once for each address",
                ));
            }
        };
        let workspace = invocation.checked_workspace(&self.inputs)?;
        let store = invocation.store().await?;
        let run = Run::new(invocation, &workspace, ProgressFormat::Text);
        let lock = run.lock(&store, "import", self.lock_timeout).await?;
        let (snapshot, key, events) = (store.snapshot().await?, store.seal_key(), run.progress.events());
        let imported = workspace.import(&address, &snapshot, key, &lock, &events, &run.interrupt).await;
        run.progress.flush().await;
        let imported = imported.map_err(|failure| run.error(failure))?;
        lock.release().await?;
        let lines: String = imported.iter().map(|address| format!("Imported {address}.\n")).collect();
        invocation.ui.out(format!("{lines}Run `moorfast plan` to see how the objects differ from the manifest.\n"))?;
        Ok(Exit::Success)
    }

    /// Prints the manifest of existing objects.
    async fn generated(&self, invocation: &Invocation) -> Result<Exit, Error> {
        let wanted = self.wanted()?;
        let workspace = invocation.checked_workspace(&self.inputs)?;
        let run = Run::new(invocation, &workspace, ProgressFormat::Text);
        let nodes: Vec<_> = self.node.iter().cloned().map(NodeName).collect();
        let described = workspace.describe(&nodes, &wanted, &run.interrupt).await;
        run.progress.flush().await;
        let described = described.map_err(|failure| run.error(failure))?;
        let error = |diagnostics| Error::Manifest { sources: workspace.manifest.sources.clone(), diagnostics };
        let inventory = workspace.inventory().map_err(error)?;
        let message = |message| Error::Usage { message, help: None, code: None };
        let generated = generate(&described, &inventory).map_err(message)?;
        write_files(invocation, &generated)?;
        for left_out in &generated.left_out {
            invocation.ui.warn(format!("left out: {left_out}"));
        }
        if generated.text.is_empty() {
            return Err(Error::usage("found no object that can be described", "check the keys and the nodes"));
        }
        invocation.ui.data(generated.text)?;
        Ok(Exit::Success)
    }

    /// Returns the objects to describe.
    fn wanted(&self) -> Result<Vec<Existing>, Error> {
        let object = |resource_type: &str, key: &str| Existing::Object {
            resource_type: resource_type.to_owned(),
            key: key.to_owned(),
        };
        let mut wanted = Vec::new();
        for word in &self.objects {
            let (resource_type, key) = word.split_once('=').ok_or_else(|| {
                Error::usage(format!("`{word}` names no existing object"), "write TYPE=KEY, such as ssh_file=/etc/motd")
            })?;
            wanted.push(object(resource_type, key));
        }
        wanted.extend(self.all_under.iter().cloned().map(Existing::Under));
        wanted.extend(self.unit.iter().map(|name| object("ssh_systemd_unit", name)));
        let namespace = &self.namespace;
        let of_kind = |kind: &String| Existing::Kind { kind: kind.clone(), namespace: namespace.clone() };
        wanted.extend(self.kind.iter().map(of_kind));
        if wanted.is_empty() {
            return Err(Error::usage(
                "--generate needs objects",
                "write TYPE=KEY, such as ssh_file=/etc/motd, or use --all-under, --unit or --kind",
            ));
        }
        Ok(wanted)
    }
}

/// Writes the contents beside the manifest. A file with the same content is kept.
///
/// # Errors
/// If a file exists with another content. Nothing is written then.
fn write_files(invocation: &Invocation, generated: &Generated) -> Result<(), Error> {
    let root = invocation.root();
    let mut missing = Vec::new();
    for (path, content) in &generated.files {
        let path = root.join(path);
        match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => missing.push((path, content)),
            Err(error) => return Err(Error::file("read", path)(error)),
            Ok(known) if known == content.as_bytes() => {}
            Ok(_) => {
                return Err(Error::usage(
                    format!("cannot write {}: the file exists with another content", path.display()),
                    "move it away; import never overwrites a file",
                ));
            }
        }
    }
    for (path, content) in missing {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(Error::file("create the folder", folder))?;
        }
        let written = File::create_new(&path).and_then(|mut file| file.write_all(content.as_bytes()));
        written.map_err(Error::file("write", &path))?;
    }
    Ok(())
}
