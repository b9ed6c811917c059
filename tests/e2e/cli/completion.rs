//! Completion: what the scripts of the shells ask for, and a real bash.

use std::process::{Command, Stdio};

use crate::support::folder::{BINARY, Folder, Run};

const MANIFEST: &str = r#"
[nodes.gpu01]
transport = "local"

[nodes.gpu02]
transport = "local"

[resource.ssh_file.motd]
on      = "all"
path    = "/etc/motd"
content = "hello"

[data.ssh_facts.all]
on = "all"

[outputs.greeting]
value = "hello"
"#;

/// Asks for the candidates of the last word, as the script of fish does, and returns them without their descriptions.
fn candidates(folder: &Folder, words: &[&str]) -> Vec<String> {
    let mut command = folder.command(&[&["--", "moorfast"], words].concat());
    let run = Run::of(command.env("MOORFAST_COMPLETE", "fish").output().unwrap());
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{words:?}: {run}");
    run.stdout.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
}

#[test]
fn names_of_the_manifest_are_candidates() {
    let folder = Folder::new(MANIFEST);
    let cases: [(&[&str], &[&str]); 12] = [
        (&["pla"], &["plan"]),
        (&["plan", "--target", "ssh"], &["ssh_file.motd"]),
        (&["plan", "--target=ssh"], &["--target=ssh_file.motd"]),
        (&["plan", "-target", "ssh"], &["ssh_file.motd"]),
        (&["plan", "-target=ssh"], &["-target=ssh_file.motd"]),
        (&["plan", "-targ"], &["-target"]),
        (&["plan", "--target", "ssh_file.motd["], &["ssh_file.motd[\"gpu01\"]", "ssh_file.motd[\"gpu02\"]"]),
        (&["plan", "--target", "'ssh_file.motd[\"gpu02"], &["ssh_file.motd[\"gpu02\"]"]),
        (&["node", "trust", "gpu01", "gpu"], &["gpu01", "gpu02"]),
        (&["plan", "--replace-node", "gpu02"], &["gpu02"]),
        (&["output", ""], &["greeting"]),
        (&["explain", "data.ssh"], &["data.ssh_facts", "data.ssh_facts.all"]),
    ];
    for (words, expected) in cases {
        let found = candidates(&folder, words);
        let found: Vec<_> =
            found.iter().filter(|word| !word.starts_with('-') || words.iter().any(|w| w.starts_with('-'))).collect();
        assert_eq!(found, expected, "{words:?}");
    }
    assert!(!folder.path(".moorfast").exists(), "completion created the state");
}

#[test]
fn environments_and_modules_are_candidates() {
    let folder = Folder::new(MANIFEST);
    folder.write("more.toml", "[environments.prod]\n\n[environments.staging]\n\n[module.site]\nsource = \"./site\"\n");
    folder.write("site/main.toml", "[resource.ssh_file.page]\non = \"gpu01\"\npath = \"/srv/a\"\ncontent = \"a\"\n");
    let cases: [(&[&str], &[&str]); 5] = [
        (&["plan", "--env", "st"], &["staging"]),
        (&["plan", "-env=pr"], &["-env=prod"]),
        (&["plan", "--target", "module."], &["module.site", "module.site.ssh_file.page"]),
        (
            &["--env", "prod", "plan", "--target", "module.site.ssh_file.page["],
            &["module.site.ssh_file.page[\"gpu01\"]"],
        ),
        (&["explain", "stag"], &["staging"]),
    ];
    for (words, expected) in cases {
        assert_eq!(candidates(&folder, words), expected, "{words:?}");
    }
}

#[test]
fn a_manifest_that_is_missing_or_not_valid_has_no_candidates_and_no_errors() {
    for manifest in ["[resource", "[resource.ssh_file.a]\non = \"nowhere\"\n", "[variables.a]\n[nodes.'${var.a}']\n"] {
        let folder = Folder::new(manifest);
        candidates(&folder, &["plan", "--target", "ssh_file.a["]);
        candidates(&folder, &["node", "show", ""]);
    }
    assert!(candidates(&Folder::empty(), &["plan", "--target", ""]).iter().all(|word| word.starts_with('-')));
    assert!(
        candidates(&Folder::empty(), &["-C", "/nowhere", "plan", "--target", ""])
            .iter()
            .all(|word| word.starts_with('-'))
    );
    // The options of the completed command line count.
    let folder = Folder::empty();
    folder.write("site/main.toml", MANIFEST);
    assert_eq!(candidates(&folder, &["-C", "site", "plan", "--target", "ssh"]), ["ssh_file.motd"]);
    assert_eq!(candidates(&folder, &["plan", "-manifest", "site", "-target", "ssh"]), ["ssh_file.motd"]);
}

/// Completes a command line in a real bash and returns the candidates.
fn in_bash(folder: &Folder, line: &[&str]) -> String {
    let path = std::path::Path::new(BINARY).parent().unwrap().display().to_string();
    let last = line.last().unwrap().to_string();
    // What readline does: it splits words at `=` too, and calls the function with the command, the word and the word before it.
    let script = format!(
        "PATH={path}:$PATH; source <(moorfast completions bash); COMP_WORDS=({}); COMP_CWORD={}; COMP_TYPE=9; \
         _clap_complete_moorfast moorfast '{last}' x; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        line.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
        line.len() - 1,
    );
    let output =
        Command::new("bash").args(["-euc", &script]).current_dir(folder.path("")).stdin(Stdio::null()).output();
    let run = Run::of(output.unwrap());
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run}");
    run.stdout
}

#[test]
fn bash_completes_options_and_names() {
    let folder = Folder::new(MANIFEST);
    assert_eq!(in_bash(&folder, &["moorfast", "plan", "--target", "ssh_f"]), "ssh_file.motd\n");
    assert_eq!(in_bash(&folder, &["moorfast", "plan", "-target", "=", "ssh_f"]), "ssh_file.motd\n");
    assert_eq!(in_bash(&folder, &["moorfast", "plan", "-detailed"]), "-detailed-exitcode\n");
    let instances = in_bash(&folder, &["moorfast", "plan", "--target", "ssh_file.motd["]);
    assert_eq!(instances.lines().next(), Some(r#"ssh_file.motd\[\"gpu01\"\]"#));
}

#[test]
fn each_script_calls_moorfast() {
    let folder = Folder::empty();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        folder.expect(0, &["completions", shell]).says("MOORFAST_COMPLETE").says("moorfast");
    }
}
