//! `drift --webhook` with a real server.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value as Json;

use crate::cli::manifests::{NB, PAIR, TWO};
use crate::support::folder::Folder;

/// A server that answers with given statuses, one after the other, and repeats the last one. It keeps the requests.
struct Server {
    url: String,
    requests: Receiver<Request>,
}

#[derive(Debug)]
struct Request {
    line: String,
    headers: Vec<String>,
    body: String,
}

impl Server {
    fn start(answers: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook/t0ken-in-the-url", listener.local_addr().unwrap());
        let (sender, requests) = channel();
        let answers = answers.to_vec();
        std::thread::spawn(move || {
            for (i, stream) in listener.incoming().enumerate() {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut lines = reader.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty());
                let line = lines.next().unwrap_or_default();
                let headers: Vec<String> = lines.map(|line| line.to_lowercase()).collect();
                let length = headers.iter().find_map(|header| header.strip_prefix("content-length: ")?.parse().ok());
                let mut body = vec![0; length.unwrap_or(0)];
                reader.read_exact(&mut body).unwrap();
                let answer = answers[i.min(answers.len() - 1)];
                write!(stream, "HTTP/1.1 {answer} Said\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
                let _ = sender.send(Request { line, headers, body: String::from_utf8(body).unwrap() });
            }
        });
        Self { url, requests }
    }

    /// Returns the next request.
    fn request(&self) -> Request {
        self.requests.recv_timeout(Duration::from_secs(20)).expect("a request arrives")
    }

    fn has_no_request(&self) {
        assert!(self.requests.try_recv().is_err(), "an unexpected request arrived");
    }
}

fn applied() -> Folder {
    let folder = Folder::new(PAIR);
    folder.expect(0, &["apply", "-auto-approve"]);
    folder
}

const DRIFT: [&str; 3] = ["drift", "--webhook", "hooks/chat.toml"];
const NEWS: [&str; 4] = ["drift", "--webhook", "hooks/chat.toml", "--since-last"];

#[test]
fn drift_is_posted_and_so_is_its_end() {
    let (folder, server) = (applied(), Server::start(&[204]));
    // The URL is a secret, and is in no argument.
    folder.write("url", &format!("{}\n", server.url));
    folder.write("hooks/chat.toml", "url = '${trimspace(file(\"url\"))}'\n");
    folder.expect(0, &DRIFT);
    server.has_no_request();

    folder.write("out/greeting", "somebody was here\n");
    folder.expect(2, &DRIFT);
    let request = server.request();
    assert_eq!(request.line, "POST /hook/t0ken-in-the-url HTTP/1.1");
    assert!(request.headers.contains(&"content-type: application/json".to_owned()), "{request:?}");
    let report: Json = serde_json::from_str(&request.body).unwrap();
    assert_eq!((&report["status"], &report["exit_code"]), (&"drift".into(), &2.into()));
    assert_eq!(report["resource_drift"][0]["address"], "ssh_file.greeting[\"here\"]");
    assert_eq!(report["resource_drift"][0]["changed"], serde_json::json!(["content", "sha256", "size"]));
    assert!(report["text"].as_str().unwrap().ends_with(": 1 object drifted: ssh_file.greeting[\"here\"]"), "{report}");
    assert!(!request.body.contains("somebody"), "no values leave the machine");

    folder.expect(0, &["apply", "-auto-approve"]);
    folder.expect(0, &DRIFT);
    let report: Json = serde_json::from_str(&server.request().body).unwrap();
    assert_eq!((&report["status"], &report["recovered"]), (&"in_sync".into(), &true.into()));
    folder.expect(0, &DRIFT);
    server.has_no_request();
}

#[test]
fn recovery_is_reported_only_if_all_objects_were_read() {
    let (folder, server) = (Folder::new(TWO), Server::start(&[200]));
    folder.expect(0, &["apply", "-auto-approve"]);
    folder.write("hooks/chat.toml", &format!("url = \"{}\"\n", server.url));
    let pin = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    folder.write(
        "main.toml",
        &TWO.replace(NB, &format!("[nodes.nb]\naddress = \"127.0.0.1\"\nport = 1\nhost_key = \"{pin}\"")),
    );
    folder.expect(5, &DRIFT);
    let report: Json = serde_json::from_str(&server.request().body).unwrap();
    assert_eq!(report["status"], "unreachable");
    folder.expect(0, &[&DRIFT[..], &["--target", "ssh_file.a[\"na\"]"]].concat());
    server.has_no_request();
    // Another cause: the node is not in the inventory any more.
    folder.write("main.toml", &TWO.replace(NB, ""));
    folder.expect(1, &DRIFT);
    let report: Json = serde_json::from_str(&server.request().body).unwrap();
    assert_eq!((&report["status"], &report["recovered"]), (&"error".into(), &false.into()));
    folder.write("main.toml", TWO);
    folder.expect(0, &DRIFT);
    let report: Json = serde_json::from_str(&server.request().body).unwrap();
    assert_eq!(report["recovered"], true);
}

#[test]
fn drift_without_webhook_does_not_hide_a_recovery_from_it() {
    let (folder, server) = (applied(), Server::start(&[200]));
    folder.write("hooks/chat.toml", &format!("url = \"{}\"\n", server.url));
    for command in [&DRIFT[..], &NEWS] {
        folder.write("out/greeting", "somebody was here\n");
        folder.expect(2, command);
        server.request();
        folder.expect(0, &["apply", "-auto-approve"]);
        folder.expect(0, &["drift"]).says("In sync.");
        folder.expect(0, command);
        let report: Json = serde_json::from_str(&server.request().body).unwrap();
        assert_eq!(report["recovered"], true);
        folder.expect(0, command);
        server.has_no_request();
        // The end of a drift that was not posted is not posted either.
        folder.write("out/greeting", "somebody was here\n");
        folder.expect(2, &["drift"]);
        folder.expect(0, &["apply", "-auto-approve"]);
        folder.expect(0, command);
        server.has_no_request();
    }
}

#[test]
fn the_body_is_a_template_and_secrets_come_from_variables() {
    let (folder, server) = (applied(), Server::start(&[200]));
    let hook = format!(
        "url          = \"{}\"\nbearer_token = \"${{var.password}}\"\nheaders      = {{ X-Team = \"infra\" }}\nbody         = '${{templatefile(\"chat.tpl\", self)}}'\n",
        server.url
    );
    folder.write("hooks/chat.toml", &hook);
    folder.write(
        "chat.tpl",
        "{\"text\": ${jsonencode(\"${length(resource_drift)} on ${join(\", \", [for d in resource_drift : d.target])}, now ${resource_drift[0].change.after.content}\")}}",
    );
    folder.write("out/greeting", "somebody was here\n");
    folder.expect(2, &DRIFT);
    let request = server.request();
    assert_eq!(request.body, r#"{"text": "1 on here, now somebody was here\n"}"#);
    for header in ["authorization: bearer s3cr3t-of-the-test", "x-team: infra"] {
        assert!(request.headers.iter().any(|h| h == header), "{header} in {request:?}");
    }
}

#[test]
fn since_last_posts_only_new_drift() {
    let (folder, server) = (applied(), Server::start(&[200]));
    folder.write("hooks/chat.toml", &format!("url = \"{}\"\n", server.url));
    folder.write("out/greeting", "somebody was here\n");
    folder.expect(2, &NEWS);
    server.request();
    folder.expect(0, &NEWS);
    server.has_no_request();
    fs::remove_file(folder.path("out/secret")).unwrap();
    folder.expect(2, &NEWS);
    let report: Json = serde_json::from_str(&server.request().body).unwrap();
    assert_eq!(report["resource_drift"].as_array().unwrap().len(), 1, "{report}");
}

#[test]
fn a_failed_request_is_repeated() {
    let (folder, server) = (applied(), Server::start(&[503, 503, 200]));
    folder.write("hooks/chat.toml", &format!("url = \"{}\"\n", server.url));
    folder.write("out/greeting", "somebody was here\n");
    let run = folder.expect(2, &["drift", "--webhook", "hooks/chat.toml", "--metrics", "m"]);
    assert!(!run.stderr.contains("webhook"), "{}", run.stderr);
    for _ in 0..3 {
        server.request();
    }
    assert!(folder.read("m").lines().any(|l| l.starts_with("moorfast_drift_webhook_failed{") && l.ends_with(" 0")));
}

#[test]
fn a_failed_webhook_keeps_the_drift_new() {
    let (folder, down) = (applied(), Server::start(&[500]));
    let hook = |server: &Server| format!("url = \"{}\"\nretry_for = \"0s\"\n", server.url);
    folder.write("hooks/chat.toml", &hook(&down));
    folder.write("out/greeting", "somebody was here\n");
    let news = ["drift", "--webhook", "hooks/chat.toml", "--since-last", "--metrics", "m"];
    let run = folder.expect(2, &news);
    run.says("ssh_file.greeting").complains("warning: the webhook was not sent: ").complains(" answered 500");
    assert!(!run.stderr.contains("t0ken"), "the URL is a secret: {}", run.stderr);
    assert!(folder.read("m").lines().any(|l| l.starts_with("moorfast_drift_webhook_failed{") && l.ends_with(" 1")));
    // The drift is still new.
    let up = Server::start(&[200]);
    folder.write("hooks/chat.toml", &hook(&up));
    folder.expect(2, &news);
    up.request();

    // Only the post of the recovery fails.
    folder.expect(0, &["apply", "-auto-approve"]);
    folder.write("hooks/chat.toml", &hook(&down));
    folder.expect(1, &news).says("In sync.");
    folder.write("hooks/chat.toml", &hook(&up));
    folder.expect(0, &news);
    let report: Json = serde_json::from_str(&up.request().body).unwrap();
    assert_eq!(report["recovered"], true);
}

#[test]
fn an_invalid_webhook_fails_before_anything_is_read() {
    let folder = applied();
    folder.expect(1, &DRIFT).complains("cannot read hooks/chat.toml");
    folder.write("hooks/chat.toml", "uri = \"http://127.0.0.1:1\"\n");
    folder.expect(1, &DRIFT).complains("unknown attribute `uri` of the webhook").complains("did you mean `url`?");
    folder.write("hooks/chat.toml", "url = \"http://127.0.0.1:1\nbody = 1");
    folder.expect(1, &DRIFT).complains("this is not valid TOML");
    // The same if the message can never be built.
    folder.write("typo.tpl", "${nothing}");
    for (wrong, why) in [
        ("url = '${var.nope}'", "variable `nope`"),
        ("url = 'http://127.0.0.1:1'\nbody = '${self.recovered ? var.nope : 1}'", "variable `nope`"),
        ("url = '${file(\"missing\")}'", "missing"),
        ("url = '${ssh_directory.out[\"here\"].path}'", "known only during an apply"),
        ("url = 'http://127.0.0.1:1'\ntimeout = 'soon'", "timeout"),
        ("url = 'http://127.0.0.1:1'\nbody = '${self.nothing}'", "this value has no attribute `nothing`"),
        ("url = 'http://127.0.0.1:1'\nbody = '${templatefile(\"missing.tpl\", self)}'", "missing.tpl"),
        ("url = 'http://127.0.0.1:1'\nbody = '${templatefile(\"typo.tpl\", self)}'", "nothing"),
    ] {
        folder.write("hooks/chat.toml", wrong);
        let run = folder.expect(1, &DRIFT);
        assert!(run.stdout.is_empty() && run.complains(why).stderr.contains("error: "), "{}", run.stderr);
    }
    // An error that depends on the drift is a warning, and the drift is reported.
    folder.write("hooks/chat.toml", "url = \"http://127.0.0.1:1\"\nbody = \"${self.resource_drift[7].address}\"\n");
    folder.expect(0, &DRIFT);
    folder.write("out/greeting", "somebody was here\n");
    folder.expect(2, &DRIFT).says("ssh_file.greeting").complains("warning: ").complains("resource_drift[7]");
}
