//! Modules: their resources on a node, targets, moves, JSON, git sources with a lock file, and untrusted plans.

use std::fs;

use crate::support::folder::Folder;

const SITE: &str = r#"
[variables.name]
type = "string"

[variables.root]
type = "string"

[resource.ssh_file.page]
on      = { role = "web" }
path    = "${var.root}/${var.name}"
content = '${templatefile("page.tmpl", { name = var.name })}'

[outputs.path]
value = "${var.root}/${var.name}"
"#;

const NODE: &str = "[nodes.here]\ntransport = \"local\"\nroles = [\"web\"]\n";

fn call(source: &str) -> String {
    format!(
        "{NODE}\n[module.site]\nsource = \"{source}\"\nfor_each = [\"a\", \"b\"]\n\
         inputs = {{ name = \"${{each.key}}\", root = \"${{path.root}}\" }}\n\n\
         [outputs.paths]\nvalue = '${{values(module.site)[*].path}}'\n"
    )
}

fn write_site(folder: &Folder, place: &str) {
    fs::create_dir_all(folder.path(place)).unwrap();
    folder.write(&format!("{place}/main.toml"), SITE);
    folder.write(&format!("{place}/page.tmpl"), "Hello ${name}\n");
}

#[test]
fn the_resources_of_a_module_are_planned_applied_moved_and_destroyed() {
    let folder = Folder::new(&call("./modules/site"));
    write_site(&folder, "modules/site");
    let title = "module.site.ssh_file.page will be created for 2 instances: a/here, b/here";
    folder.expect(0, &["plan", "--out", "p"]).says(title);
    let plan: serde_json::Value = serde_json::from_str(&folder.expect(0, &["show", "--json", "p"]).stdout).unwrap();
    assert_eq!(plan["resource_changes"][0]["module_address"], "module.site[\"a\"]");
    // The plan is stale after a change in a file of the module.
    folder.edit("modules/site/page.tmpl", "Hello", "Hi");
    folder.expect(4, &["apply", "p"]).complains("modules/site/page.tmpl");
    folder.expect(0, &["apply", "--auto-approve"]);
    // The same change in several instances of the module is one entry.
    folder.edit("modules/site/main.toml", "content = '", "mode = \"0600\"\ncontent = '");
    let title = "module.site.ssh_file.page will be updated in place for 2 instances: a/here, b/here";
    folder.expect(0, &["plan", "--out", "p"]).says(title);
    let name = "module.site.ssh_file.page";
    let markdown = folder.expect(0, &["show", "--markdown", "p"]).stdout;
    let html = folder.expect(0, &["show", "--html", "p"]).stdout;
    for page in [markdown, html] {
        assert!(page.contains(name) && page.contains("for 2 instances: a/here, b/here"), "{page}");
    }
    folder.edit("modules/site/main.toml", "mode = \"0600\"\n", "");
    assert_eq!(folder.read("b"), "Hi b\n");
    folder.expect(0, &["plan", "--detailed-exitcode"]);
    folder.expect(0, &["state", "list", "module.site[\"b\"]"]).says("module.site[\"b\"].ssh_file.page[\"here\"]");
    folder.expect(0, &["graph"]).says("module.site[\\\"a\\\"].ssh_file.page");
    folder.expect(1, &["plan", "--target", "module.sit"]).complains("did you mean `module.site`?");

    let manifest = call("./modules/site").replace("module.site", "module.page");
    folder.write("main.toml", &(manifest + "[[moved]]\nfrom = \"module.site\"\nto = \"module.page\"\n"));
    folder.expect(0, &["plan"]).says("0 to add, 0 to change, 0 to destroy, 2 moved");
    folder.expect(0, &["apply", "--auto-approve"]);
    for command in [["state", "rm"], ["state", "show"]] {
        let missing = folder.expect(1, &[&command[..], &["module.pge"]].concat());
        missing.complains("the state has no resource `module.pge`").complains("did you mean `module.page`?");
    }
    folder.expect(1, &["state", "mv", "module.page", "module.web[\"a\"]"]).complains("names no key");
    folder.expect(0, &["state", "mv", "module.page[\"a\"]", "module.page[\"c\"]"]);
    folder.expect(0, &["state", "mv", "module.page[\"c\"]", "module.page[\"a\"]"]);
    folder.expect(0, &["destroy", "--auto-approve", "--target", "module.page[\"a\"]"]);
    assert!(!folder.path("a").exists() && folder.path("b").exists());
    folder.expect(0, &["state", "rm", "module.page"]);
    assert!(folder.path("b").exists());
}

#[test]
fn an_error_in_a_module_names_its_file_and_the_call() {
    let folder = Folder::new(&call("./modules/site"));
    write_site(&folder, "modules/site");
    folder.edit("modules/site/main.toml", "path    = \"${var.root}", "path    = \"${var.rot}");
    let run = folder.expect(1, &["validate"]);
    run.complains("modules/site/main.toml").complains("in module.site, called at main.toml:");
    let json: serde_json::Value = serde_json::from_str(&folder.expect(1, &["validate", "--json"]).stdout).unwrap();
    assert_eq!(json["diagnostics"][0]["calls"][0]["label"], "module.site");
}

/// Makes a repository with the module in `repo/modules/site` and the tag `v1`. Returns the source.
fn repository(folder: &Folder) -> String {
    write_site(folder, "repo/modules/site");
    commit(folder, "v1");
    format!("git::file://{}//modules/site?ref=v1", folder.path("repo").display())
}

fn commit(folder: &Folder, tag: &str) {
    let run = folder.shell(&format!(
        "cd repo && git init --quiet . && git add . && \
         git -c user.name=t -c user.email=t@example.org commit --quiet --message x && git tag --force {tag}"
    ));
    assert_eq!(run.code, 0, "{run:?}");
}

#[test]
fn a_module_from_git_is_fetched_by_init_and_pinned() {
    let folder = Folder::empty();
    let source = repository(&folder);
    folder.write("main.toml", &call(&source));
    let lost = folder.expect(1, &["validate"]);
    lost.complains("is not in moorfast.lock.toml").complains("moorfast init").complains("main.toml");
    folder.expect(0, &["init"]).says("Fetched git::file://");
    let lock = folder.read("moorfast.lock.toml");
    assert!(lock.contains("commit = ") && lock.contains("digest = \"blake3:"), "{lock}");
    // Everything else works without the repository.
    fs::rename(folder.path("repo"), folder.path("away")).unwrap();
    folder.expect(0, &["apply", "--auto-approve"]);
    assert_eq!(folder.read("a"), "Hello a\n");
    folder.expect(0, &["plan", "--detailed-exitcode"]);
    folder.expect(0, &["init"]).says("is fetched already");
    fs::rename(folder.path("away"), folder.path("repo")).unwrap();

    // Somebody changes the fetched files.
    let fetched = folder.shell("echo .moorfast/modules/*/modules/site/page.tmpl").stdout.trim().to_owned();
    folder.edit(&fetched, "Hello", "Bad");
    folder.expect(1, &["plan"]).complains("differ from moorfast.lock.toml").complains("moorfast init");
    fs::remove_dir_all(folder.path(".moorfast/modules")).unwrap();
    folder.expect(1, &["plan"]).complains("is not fetched");
    folder.expect(0, &["init"]).says("Fetched");
    assert_eq!(folder.read("moorfast.lock.toml"), lock);
    folder.expect(0, &["plan", "--detailed-exitcode"]);

    // The tag moves. Only --upgrade follows it.
    folder.edit("repo/modules/site/page.tmpl", "Hello", "Welcome");
    commit(&folder, "v1");
    folder.expect(0, &["plan", "--detailed-exitcode"]);
    folder.expect(0, &["init", "--upgrade"]).says("Fetched");
    assert_ne!(folder.read("moorfast.lock.toml"), lock);
    folder.expect(0, &["apply", "--auto-approve"]);
    assert_eq!(folder.read("a"), "Welcome a\n");
}

#[test]
fn a_git_or_a_repository_without_end_is_refused() {
    let folder = Folder::empty();
    folder.write("main.toml", &call("git::file:///nowhere//site"));
    folder.write_program("bin/git", "#!/bin/sh\nexec yes\n");
    let path = format!("{}:{}", folder.path("bin").display(), std::env::var("PATH").unwrap());
    let run = folder.start_in(&["init"], &[("PATH", &path)]).end();
    assert_eq!(run.code, 1, "{run}");
    run.complains("git init failed: it printed more than 64 MiB");

    // Four objects are 1,000 files of 2 MiB.
    let made = folder.shell(
        "git init --quiet repo && cd repo && object=$(head -c 2097152 /dev/zero | git hash-object -w --stdin) && kind='100644 blob' && \
         for level in 1 2 3; do \
             object=$(for i in 0 1 2 3 4 5 6 7 8 9; do printf '%s %s\\tf%s\\n' \"$kind\" $object $i; done | git mktree) && kind='040000 tree'; \
         done && git update-ref HEAD $(git -c user.name=t -c user.email=t@example.org commit-tree -m x $object)",
    );
    assert_eq!(made.code, 0, "{made}");
    folder.write("main.toml", &call(&format!("git::file://{}//f0", folder.path("repo").display())));
    folder.expect(1, &["init"]).complains("are larger than 1 GiB");
}

#[test]
fn a_git_source_that_runs_a_command_is_refused() {
    let folder = Folder::empty();
    for source in ["git::ext::sh -c touch% ran", "git::--upload-pack=touch", "git::file:///x?ref=--upload-pack=touch"] {
        folder.write("main.toml", &call(source));
        folder.expect(1, &["validate"]).complains("the URL of the git source is not valid");
        folder.run(&["init"]);
        assert!(!folder.path("ran").exists());
    }
    folder.write("main.toml", &call("git::file:///nowhere/repo?ref=v1"));
    folder.expect(1, &["init"]).complains("git fetch failed");
    assert!(!folder.path("moorfast.lock.toml").exists());
}

#[test]
fn an_untrusted_plan_uses_no_module_outside_of_the_folder() {
    let outside = Folder::empty();
    write_site(&outside, "site");
    let folder = Folder::empty();
    let up = format!("../{}/site", outside.path("").file_name().unwrap().to_string_lossy());
    folder.write("main.toml", &call(&up));
    folder.expect(0, &["validate"]);
    folder.expect(1, &["plan", "--untrusted"]).complains("uses only modules in the folder of the manifest");
    // A module inside of it reads its own files and those of the manifest, and no others.
    folder.write("main.toml", &call("./m"));
    write_site(&folder, "m");
    folder.edit("m/main.toml", "page.tmpl", "../../../etc/passwd");
    folder.expect(1, &["plan", "--untrusted"]).complains("reads only files in the folder of the manifest");
}

/// A chart, a command or a server that a module reads: the error is in the file of the module, and names the call.
#[test]
fn data_that_a_module_cannot_read_is_an_error_in_its_file() {
    let folder = Folder::new("[module.data]\nsource = \"m\"\ninputs = { name = \"none\" }\n");
    let module = "[variables.name]\ntype = \"string\"\n\n[data.local_command.list]\ncommand = [\"ls\", \"/${var.name}/of/these\"]\n";
    folder.write("m/main.toml", module);
    let failed = folder.expect(1, &["plan"]);
    failed.complains("m/main.toml:5:").complains("module.data.data.local_command.list");
    failed.complains("in module.data, called at main.toml:1").complains("/none/of/these");
}
