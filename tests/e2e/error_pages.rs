//! The pages of the error codes: the example of each page produces its code.

use std::path::Path;

use crate::support::folder::Folder;
use crate::support::testbed::Testbed;

/// A page, with the manifest and the commands of its example.
struct Page {
    code: String,
    manifest: String,
    commands: String,
}

impl Page {
    /// Reads all pages, in the order of their codes.
    fn all() -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors");
        let mut paths: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let block = |fence: &str| text.split_once(fence).map(|(_, rest)| rest.split("```").next().unwrap().to_owned());
        let code = path.file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(text.starts_with(&format!("# {code}: ")), "the title of {code}");
        assert!(text.contains("\n## Remedy\n"), "{code} has a remedy");
        let commands = block("```sh\n").unwrap_or_else(|| panic!("{code} has an example"));
        Self { code, manifest: block("```toml\n").unwrap_or_default(), commands }
    }

    /// Whether the example needs a node or a cluster.
    fn needs_testbed(&self) -> bool {
        ["10.0.0.11", "kubeconfig"].iter().any(|text| self.manifest.contains(text))
    }

    /// Runs the example in a folder, after `preparation`. Returns its output if it does not fail with the code.
    fn mismatch(&self, folder: &Folder, preparation: &str) -> Option<String> {
        let run = folder.shell(&format!("{preparation}\n{}", self.commands));
        let has_code = run.code != 0 && run.stderr.contains(&format!("error[{}]: ", self.code));
        (!has_code).then(|| format!("{}: {run}", self.code))
    }
}

#[test]
fn every_example_on_this_machine_produces_its_code() {
    let pages = Page::all().into_iter().filter(|page| !page.needs_testbed());
    let mismatches = pages.filter_map(|page| {
        let folder = match page.manifest.as_str() {
            "" => Folder::empty(),
            manifest => Folder::new(manifest),
        };
        page.mismatch(&folder, "")
    });
    let mismatches: String = mismatches.collect();
    assert!(mismatches.is_empty(), "{mismatches}");
}

#[test]
fn every_example_with_a_node_or_a_cluster_produces_its_code() {
    let Some(testbed) = Testbed::up("errors", 1) else { return };
    let (node, control_plane) = (&testbed.facts.nodes[0], &testbed.facts.control_plane);
    let address =
        format!("address = \"{}\"\nidentity_file = \"{}\"", node.address, testbed.facts.ssh.identity_file.display());
    let kubectl = control_plane.binaries["kubectl"].parent().unwrap().display();
    let kubeconfig = control_plane.kubeconfig.display();
    let preparation = format!("export PATH={kubectl}:$PATH KUBECONFIG={kubeconfig}");
    let pages = Page::all().into_iter().filter(Page::needs_testbed);
    let mismatches = pages.filter_map(|page| {
        let aligned = page.manifest.replace("address  =", "address =");
        let folder = Folder::new(&aligned.replace("address = \"10.0.0.11\"", &address));
        folder.write("admin.kubeconfig", &std::fs::read_to_string(&control_plane.kubeconfig).unwrap());
        page.mismatch(&folder, &preparation)
    });
    let mismatches: String = mismatches.collect();
    assert!(mismatches.is_empty(), "{mismatches}");
}

#[test]
fn a_code_is_explained_and_is_part_of_the_json() {
    let folder = Folder::new("[resource.ssh_fiel.motd]\npath = \"/tmp/motd\"\n");
    folder.expect(0, &["explain", "m0103"]).says("M0103: unknown type").says("Remedy");
    folder.expect(1, &["explain", "M9999"]).complains("`moorfast explain errors` lists");
    let run = folder.expect(1, &["validate", "--json"]);
    let result: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(result["diagnostics"][0]["code"], "M0103", "{result:#}");
    folder.expect(1, &["plan"]).complains("`moorfast explain M0103` explains this error.");
    let run = folder.expect(1, &["plan", "--json"]);
    let result: serde_json::Value = serde_json::from_str(&run.stderr).unwrap();
    assert_eq!(result["diagnostics"][0]["code"], "M0103", "{result:#}");
}
