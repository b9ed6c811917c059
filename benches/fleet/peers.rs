//! Other programs that do the same work as moorfast in the last row of the table, where they are installed.

use std::fmt::Write;
use std::process::{Command, Stdio};

use crate::support::folder::Folder;
use crate::support::testbed::{Node, Testbed};
use crate::table::{Table, time};

/// The directory of the files on a node.
pub const DIRECTORY: &str = "/srv/bench";

/// Measures how the peers plan `files` unchanged files on nodes. Ansible needs Python on a node, which those of the testbed do not have.
pub fn look(table: &mut Table, folder: &Folder, testbed: &Testbed, nodes: &[Node], files: usize) {
    let (identity, known_hosts) =
        (testbed.facts.ssh.identity_file.display(), testbed.facts.state.join("ssh/known_hosts"));
    let mut inventory = String::from("nodes = [\n");
    for node in nodes {
        let _ = writeln!(
            inventory,
            "('{}', {{'ssh_user': 'root', 'ssh_key': '{identity}', 'ssh_known_hosts_file': '{}'}}),",
            node.address,
            known_hosts.display()
        );
    }
    folder.write("peers/inventory.py", &(inventory + "]\n"));
    pyinfra(table, folder, "inventory.py", DIRECTORY, files);
}

/// Measures how the peers plan `files` unchanged files on this machine.
pub fn look_here(table: &mut Table, folder: &Folder, directory: &str, files: usize) {
    pyinfra(table, folder, "@local", directory, files);
    let playbook = format!(
        "- hosts: localhost\n  gather_facts: false\n  tasks:\n\
         \x20   - ansible.builtin.file: {{path: {directory}, state: directory}}\n\
         \x20   - ansible.builtin.copy: {{content: \"This is file {{{{ item }}}}.\\n\", dest: \"{directory}/f{{{{ item }}}}\"}}\n\
         \x20     loop: \"{{{{ range({files}) | list }}}}\"\n"
    );
    folder.write("peers/playbook.yml", &playbook);
    // Any other interpreter of this machine may lack what Ansible needs.
    let interpreter = "ansible_python_interpreter={{ ansible_playbook_python }}";
    let local = ["-c", "local", "-i", "localhost,", "-e", interpreter, "playbook.yml"];
    measure(table, "ansible-playbook --check", folder, &local);
}

fn pyinfra(table: &mut Table, folder: &Folder, inventory: &str, directory: &str, files: usize) {
    let deploy = format!(
        "from io import StringIO\nfrom pyinfra.operations import files\nfiles.directory(path='{directory}')\n\
         for i in range({files}):\n    files.put(src=StringIO(f'This is file {{i}}.\\n'), dest=f'{directory}/f{{i}}')\n"
    );
    folder.write("peers/deploy.py", &deploy);
    measure(table, "pyinfra --dry", folder, &[inventory, "deploy.py"]);
}

/// Measures how the peers plan `objects` unchanged objects of the cluster.
pub fn look_at_objects(table: &mut Table, folder: &Folder, testbed: &Testbed, objects: usize) {
    let kubeconfig = testbed.facts.control_plane.kubeconfig.display().to_string();
    let object = |i| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c{i}, namespace: bench}}\ndata: {{a: \"{i}\"}}\n---\n"
        )
    };
    folder.write("peers/objects.yaml", &(0..objects).map(object).collect::<String>());
    measure(table, "kubectl diff", folder, &["--kubeconfig", &kubeconfig, "--server-side", "-f", "objects.yaml"]);
    let resources = format!(
        "terraform {{\n  required_providers {{\n    kubernetes = {{ source = \"hashicorp/kubernetes\" }}\n  }}\n}}\n\
         provider \"kubernetes\" {{\n  config_path = \"{kubeconfig}\"\n}}\n\
         resource \"kubernetes_config_map_v1\" \"c\" {{\n  for_each = toset([for i in range({objects}) : tostring(i)])\n  \
         metadata {{\n    name = \"t${{each.key}}\"\n    namespace = \"bench\"\n  }}\n  data = {{ a = each.key }}\n}}\n"
    );
    folder.write("peers/main.tf", &resources);
    // The provider comes from a registry or from a mirror on this machine.
    if run("terraform init", folder, &["-input=false"]) && run("terraform apply", folder, &["-auto-approve"]) {
        measure(table, "terraform plan", folder, &["-detailed-exitcode"]);
        run("terraform destroy", folder, &["-auto-approve"]);
    }
}

/// Measures a program with the arguments, once, and adds it to the last row. It is left out if it fails.
fn measure(table: &mut Table, program: &'static str, folder: &Folder, arguments: &[&str]) {
    let mut succeeded = false;
    let took = time(|| succeeded = run(program, folder, arguments));
    if succeeded {
        table.add_peer(program, took);
    }
}

/// Runs a program in the folder of the peers. Returns whether it is installed and succeeded.
fn run(program: &str, folder: &Folder, arguments: &[&str]) -> bool {
    let mut words = program.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).args(arguments).current_dir(folder.path("peers"));
    match command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Ok(status) if status.success() => true,
        result => {
            eprintln!(
                "    {program}: not measured ({})",
                result.map_or_else(|e| e.to_string(), |status| status.to_string())
            );
            false
        }
    }
}
