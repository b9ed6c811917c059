//! The HTML page of a plan in a real browser, and the Markdown that fits a comment.

use std::fs;
use std::process::{Command, Stdio};

use crate::cli::manifests::PAIR;
use crate::support::folder::Folder;

/// Saves a plan that destroys, changes and creates objects.
fn planned() -> Folder {
    let folder = Folder::new(PAIR);
    folder.expect(0, &["apply", "-auto-approve", "-var=greeting=good world"]);
    let (kept, rest) = PAIR.split_once("[resource.ssh_file.secret]").unwrap();
    let outputs = &rest[rest.find("[outputs.path]").unwrap()..];
    let new = "[resource.ssh_link.latest]\non = \"here\"\npath = \"${ssh_directory.out.path}/latest\"\ntarget = \"<b>&greeting\"\n\n";
    folder.write("main.toml", &format!("{kept}{new}{outputs}"));
    folder.expect(0, &["plan", "-out=saved", "-var=greeting=good everybody"]);
    folder
}

/// A script that runs in the loaded page. It writes its findings into the DOM, which the browser prints.
const VISIT: &str = include_str!("pages/visit.js");

fn browser() -> Option<&'static str> {
    let found = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| {
        let mut command = Command::new(name);
        command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
    });
    if found.is_none() {
        eprintln!("SKIPPED: there is no Chromium, so the page was not tested in a browser (apt-get install chromium)");
    }
    found
}

/// Opens the page `name` in a browser with these further options, and returns the findings of the script.
fn visit(browser: &str, folder: &Folder, name: &str, options: &[&str]) -> serde_json::Value {
    let profile = tempfile::tempdir().unwrap();
    let quiet = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
                 --disable-component-update --disable-sync --dump-dom --virtual-time-budget=5000";
    let output = Command::new(browser)
        .args(quiet.split_whitespace())
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(options)
        .arg(format!("file://{}", folder.path(name).display()))
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&output.stdout).into_owned();
    let steps = dom.split_once("STEPS").and_then(|(_, rest)| rest.split_once("END"));
    let (steps, _) = steps.unwrap_or_else(|| panic!("{dom}\n{}", String::from_utf8_lossy(&output.stderr)));
    serde_json::from_str(&steps.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">")).unwrap()
}

#[test]
fn the_page_can_be_searched_and_filtered_in_a_browser() {
    let folder = planned();
    let page = folder.expect(0, &["show", "saved", "--html"]).stdout;
    folder.write("page.html", &page.replace("</body>", &format!("<script>{VISIT}</script></body>")));
    let Some(browser) = browser() else { return };
    let steps = visit(browser, &folder, "page.html", &[]);
    let all = serde_json::json!([
        ["all", ["ssh_file.secret[\"here\"]", "ssh_file.greeting[\"here\"]", "ssh_link.latest[\"here\"]"]],
        ["search", ["ssh_file.greeting[\"here\"]"], "1 of 3"],
        ["destroy", ["ssh_file.secret[\"here\"]"]],
        ["cleared", 3],
        ["opened", true],
        ["marks", ["world", "everybody"]],
        ["boxes", 4, true],
        ["dark", "rgb(255, 255, 255)"],
        // The background of a line has no gap when the block is scrolled.
        ["whole lines", true],
    ]);
    assert_eq!(steps, all);
    let narrow = visit(browser, &folder, "page.html", &["--window-size=400,800"]);
    assert_eq!(narrow[8], serde_json::json!(["whole lines", true]));
    let dark = visit(browser, &folder, "page.html", &["--blink-settings=preferredColorScheme=0"]);
    assert_eq!(dark[7], serde_json::json!(["dark", "rgb(13, 17, 23)"]));
}

#[test]
fn the_graph_is_a_self_contained_picture() {
    let folder = planned();
    let svg = folder.expect(0, &["graph", "--svg"]).stdout;
    assert!(svg.starts_with("<svg xmlns=") && svg.contains(">greeting<") && svg.contains("prefers-color-scheme"));
    folder.expect(1, &["graph", "--svg", "--mermaid"]).complains("cannot be used with");
}

#[test]
fn the_markdown_is_cut_to_the_limit() {
    let folder = planned();
    let whole = folder.expect(0, &["show", "saved", "--markdown"]).stdout;
    assert!(
        whole.starts_with("<!-- moorfast:plan site=")
            && whole.contains("\n### Plan: 1 to add, 1 to change, 1 to destroy."),
        "{whole}"
    );
    let long: String = (0..5_000).map(|i| format!("line {i}\\n")).collect();
    let main = fs::read_to_string(folder.path("main.toml")).unwrap();
    let files: String = (0..40)
        .map(|i| {
            format!("[resource.ssh_file.long{i}]\non = \"here\"\npath = \"/nowhere/{i}\"\ncontent = \"{long}{i}\"\n\n")
        })
        .collect();
    folder.write("main.toml", &(files + &main));
    folder.expect(0, &["plan", "-out=saved"]);
    let limit = 4_000;
    let cut = folder.expect(0, &["show", "saved", "--markdown", "--limit", "4000"]).stdout;
    assert!(cut.chars().count() <= limit && cut.contains("**Cut to 4000 characters:**"), "{cut}");
    assert!(cut.contains("will be destroyed"), "destroyed objects are not cut: {cut}");
    folder.expect(1, &["show", "saved", "--markdown", "--limit", "10"]).complains("10 is not in 1000..");
    folder.expect(1, &["show", "saved", "--markdown", "--html"]).complains("cannot be used with");
    folder.expect(1, &["show", "--html"]).complains("FILE");
}
