//! `data.local_http`: the answer of a server as data, redirects, retries and bad answers.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::support::folder::{Folder, Run};

const SECRET: &str = "correct-horse-battery-staple";

/// A server that gives each path its answers, one after the other; the last one repeats.
struct Server {
    address: SocketAddr,
    /// The path and the header `x-token` of each request.
    requests: Arc<Mutex<Vec<(String, String)>>>,
}

impl Server {
    fn start(answers: &[(&str, Vec<String>)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        let mut answers: BTreeMap<String, Vec<String>> =
            answers.iter().map(|(path, answers)| ((*path).to_owned(), answers.clone())).collect();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                let Some(first) = lines.next() else { continue };
                let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
                let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                let token = headers.iter().find_map(|line| line.strip_prefix("x-token: ")).unwrap_or_default();
                seen.lock().unwrap().push((path.clone(), token.to_owned()));
                let Some(answers) = answers.get_mut(&path) else { continue };
                let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
                let _ended = stream.write_all(answer.as_bytes());
                if answer.contains("endless") {
                    let chunk = [b'y'; 64 << 10];
                    while stream.write_all(&chunk).is_ok() {}
                }
            }
        });
        Self { address, requests }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn requests(&self) -> Vec<(String, String)> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn redirect(to: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
}

fn manifest(url: &str, arguments: &str) -> String {
    let variable = format!("[variables.token]\ntype = \"string\"\nsensitive = true\ndefault = \"{SECRET}\"\n");
    let data = format!("[data.local_http.d]\nurl = \"{url}\"\n{arguments}\n");
    format!("{data}{variable}[outputs.result]\nvalue = \"${{data.local_http.d.result}}\"\nsensitive = true\n")
}

/// Plans with the data source, which must fail with this text.
#[track_caller]
fn refused(url: &str, arguments: &str, says: &str) -> Run {
    let run = Folder::new(&manifest(url, arguments)).expect(1, &["plan"]);
    run.complains(says).complains("main.toml:");
    assert!(!run.stderr.contains(SECRET), "{run}");
    run
}

const TOKEN: &str = "headers = { X-Token = \"${var.token}\" }";

#[test]
fn an_answer_is_data_and_a_token_reaches_only_its_server() {
    let other = Server::start(&[("/hosts", vec![answer("200 OK", "[\"n1\"]")])]);
    let server = Server::start(&[
        ("/hosts", vec![redirect("/elsewhere")]),
        ("/elsewhere", vec![redirect(&other.url("/hosts"))]),
        ("/flaky", vec![answer("503 Service Unavailable", SECRET), answer("200 OK", "{}")]),
    ]);
    let sensitive = format!("{TOKEN}\nformat = \"json\"\nsha256 = \"9c4f0d4ba5a7a7d4c1d5d1e0\"");
    refused(&server.url("/hosts"), &sensitive, "`sha256` must have 64 hexadecimal digits");
    let folder = Folder::new(&manifest(&server.url("/hosts"), &format!("{TOKEN}\nformat = \"json\"")));
    folder.expect(0, &["apply", "--auto-approve"]);
    let with = |path: &str, token: &str| (path.to_owned(), token.to_owned());
    assert_eq!(server.requests(), [with("/hosts", SECRET), with("/elsewhere", SECRET)]);
    assert_eq!(other.requests(), [with("/hosts", "")]);
    for file in folder.files().iter().filter(|file| !file.ends_with("main.toml")) {
        assert!(!String::from_utf8_lossy(&std::fs::read(file).unwrap()).contains(SECRET), "{}", file.display());
    }
    Folder::new(&manifest(&server.url("/flaky"), "format = \"json\"")).expect(0, &["plan"]);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_bad_answer_names_its_cause() {
    let server = Server::start(&[
        ("/none", vec![answer("404 Not Found", SECRET)]),
        ("/denied", vec![answer("403 Forbidden", SECRET)]),
        ("/down", vec![answer("500 Internal Server Error", SECRET)]),
        ("/loop", vec![redirect("/loop")]),
        ("/ftp", vec![redirect("ftp://127.0.0.1/")]),
        ("/text", vec![answer("200 OK", &format!("{{\"a\": \"{SECRET}\",\n x}}"))]),
        ("/endless", vec!["HTTP/1.1 200 OK\r\nX-Kind: endless\r\n\r\n".to_owned()]),
        ("/cut", vec!["HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncut".to_owned()]),
    ]);
    let url = |path| server.url(path);
    refused(&url("/none"), "", "answered 404 Not Found");
    assert_eq!(server.requests().len(), 1, "not retried");
    refused(&url("/denied"), "", "check the credentials in `headers`");
    refused(&url("/down"), "retries = 1", "answered 500 Internal Server Error");
    assert_eq!(server.requests().iter().filter(|(path, _)| path == "/down").count(), 2);
    refused(&url("/loop"), "", "redirects more than 5 times");
    refused(&url("/ftp"), "", "redirects without the URL of a server");
    let json = "format = \"json\"\nsensitive = true";
    refused(&url("/text"), json, "(line 2, column 2): it is not valid JSON");
    let digest = "0".repeat(64);
    refused(&url("/text"), &format!("sha256 = \"{digest}\""), &format!("instead of {digest}"));
    refused(
        &url("/text"),
        &format!("sha256 = \"{digest}\"\nsensitive = true"),
        "has another SHA-256 digest than `sha256`",
    );
    refused(&url("/endless"), "", "is larger than 16 MiB");
    refused(&url("/cut"), "retries = 0", "no answer from");
    refused("http://127.0.0.1:1/", "retries = 0", "no answer from http://127.0.0.1:1/");
    refused(
        &format!("http://127.0.0.1:1/{SECRET}").replace(SECRET, "${var.token}"),
        "retries = 0",
        "no answer from (sensitive)",
    );
    refused("ftp://127.0.0.1/", "", "`url` must be an `http` or `https` URL");
    refused(&url("/none"), "ca = \"no certificate\"", "`ca` does not contain a PEM certificate");
    refused(&url("/none"), "retries = 11", "`retries` must be a number from 0 to 10");
    let run = Folder::new(&manifest(&url("/none"), "")).expect(1, &["plan", "--untrusted"]);
    run.complains("`data.local_http.d` is not allowed: `plan --untrusted` sends no request of the manifest");
}

/// A TLS server with a certificate for `name`, which gives every request the same answer.
struct TlsServer {
    address: SocketAddr,
    /// The certificate authority, in PEM.
    ca: String,
}

impl TlsServer {
    fn start(name: rcgen::SanType, answer: String) -> Self {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "The authority of a test");
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let ca = params.self_signed(&ca_key).unwrap().pem();
        let issuer = rcgen::Issuer::new(params, ca_key);
        let mut params = rcgen::CertificateParams::default();
        params.subject_alt_names = vec![name];
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap().der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = Arc::new(config.with_single_cert(vec![certificate], key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let connection = ServerConnection::new(config.clone()).unwrap();
                let mut stream = StreamOwned::new(connection, stream.unwrap());
                // A client that does not trust the certificate ends the handshake.
                let head =
                    BufReader::new(&mut stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
                if head.count() > 0 {
                    let _ended = stream.write_all(answer.as_bytes());
                    stream.conn.send_close_notify();
                    let _ended = stream.flush();
                }
            }
        });
        Self { address, ca }
    }
}

#[test]
fn a_certificate_authority_of_the_manifest_is_trusted_instead_of_those_of_the_system() {
    let address = rcgen::SanType::IpAddress([127, 0, 0, 1].into());
    let server = TlsServer::start(address, answer("200 OK", "{\"mtu\": 9000}"));
    let other_name =
        TlsServer::start(rcgen::SanType::DnsName("example.org".try_into().unwrap()), answer("200 OK", "{}"));
    let ca = |server: &TlsServer| format!("retries = 0\nformat = \"json\"\nca = \"\"\"\n{}\"\"\"", server.ca);
    let url = |server: &TlsServer| format!("https://{}/", server.address);
    let folder = Folder::new(&manifest(&url(&server), &ca(&server)));
    folder.edit(
        "main.toml",
        "value = \"${data.local_http.d.result}\"\nsensitive = true",
        "value = \"${data.local_http.d.result.mtu}\"",
    );
    folder.expect(0, &["plan"]).says("9000");
    refused(&url(&server), "retries = 0", "no answer from");
    refused(&url(&server), &ca(&other_name), "no answer from");
    refused(&url(&other_name), &ca(&other_name), "no answer from");
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let held: Vec<_> = listener.incoming().collect();
        held.into_iter().for_each(|stream| _ = stream.unwrap().read(&mut [0]));
    });
    let run = refused(&url, "retries = 0\ntimeout = \"1s\"", "no answer from");
    assert!(run.took.as_secs() < 30, "{run}");
}
