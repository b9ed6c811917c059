//! Options that name a file to write: links are followed, and FIFOs and devices are written to.

use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::PathBuf;
use std::process::Command;

use crate::cli::manifests::PAIR;
use crate::support::folder::Folder;

fn applied() -> Folder {
    let folder = Folder::new(PAIR);
    folder.expect(0, &["apply", "-auto-approve"]);
    folder
}

/// Every command that writes a file, without the name of the file.
const WRITES: [&[&str]; 3] = [&["plan", "-out"], &["drift", "-metrics"], &["state", "backup"]];

#[test]
fn links_are_followed() {
    let folder = applied();
    for arguments in WRITES {
        let (link, real) = (folder.path("link"), folder.path("real"));
        symlink("real", &link).unwrap();
        folder.expect(0, &[arguments, &["link"]].concat());
        assert!(link.is_symlink() && !fs::read(&real).unwrap().is_empty(), "{arguments:?}");
        fs::remove_file(link).unwrap();
        fs::remove_file(real).unwrap();
    }
}

#[test]
fn fifos_and_devices_are_written_to_and_not_replaced() {
    let folder = applied();
    let fifo = folder.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for arguments in WRITES {
        let reader = std::thread::spawn({
            let fifo: PathBuf = fifo.clone();
            move || fs::read_to_string(fifo).unwrap()
        });
        folder.expect(0, &[arguments, &["fifo"]].concat());
        let text = reader.join().unwrap();
        assert!(text.len() > 100 && fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo(), "{arguments:?} {text}");
        folder.expect(0, &[arguments, &["/dev/null"]].concat());
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    }
    let out = folder.expect(0, &["plan", "-q", "-out", "/dev/stderr"]);
    assert!(out.stderr.contains("\"moorfast_plan\""), "{}", out.stderr);
}

#[test]
fn fmt_follows_links() {
    let folder = Folder::empty();
    folder.write("real.toml", "[locals]\na    =     1\n");
    symlink("real.toml", folder.path("link.toml")).unwrap();
    folder.expect(0, &["fmt", "link.toml"]);
    assert!(folder.path("link.toml").is_symlink());
    assert!(!folder.read("real.toml").contains("    "), "{}", folder.read("real.toml"));
}

#[test]
fn docs_creates_no_folder() {
    let folder = Folder::empty();
    folder.expect(1, &["docs"]);
    folder.expect(1, &["docs", "plan"]).complains("there is no folder plan");
    assert!(folder.names().is_empty(), "{:?}", folder.names());
}

#[test]
fn keys_of_terraform_get_a_hint() {
    let node = "[nodes.here]\ntransport = \"local\"\n";
    let resource = "[resource.ssh_exec.x]\non = \"here\"\nscript = \"true\"\n";
    let cases = [
        (format!("{node}{resource}count = 2\n"), "use `for_each` for one instance per element"),
        (format!("{node}{resource}[terraform]\nx = 1\n"), "set the location of the state in `[backend.TYPE]`"),
        (format!("{node}{resource}[output.x]\nvalue = 1\n"), "write outputs as `[outputs.NAME]`"),
    ];
    for (manifest, hint) in cases {
        Folder::new(&manifest).expect(1, &["validate"]).complains(hint);
    }
}

#[test]
fn init_adds_the_state_to_a_gitignore_that_exists() {
    let ignored = |before: &str| {
        let folder = Folder::empty();
        folder.write(".gitignore", before);
        folder.expect(0, &["init"]);
        folder.read(".gitignore")
    };
    let added = ignored("target/\n*.log");
    assert!(added.starts_with("target/\n*.log\n") && added.ends_with("\n.moorfast/\n"), "{added}");
    assert!(ignored("").ends_with("\n.moorfast/\n"));
    for known in [".moorfast/\n", "/.moorfast\n", "a\n  .moorfast  \nb\n", "**/.moorfast/"] {
        assert_eq!(ignored(known), known);
    }
    assert!(ignored("# .moorfast/\n").contains("\n.moorfast/\n"));
}
