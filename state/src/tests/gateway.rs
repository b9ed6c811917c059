//! Answers that do not come from the server that stores the state, but from a gateway before it.
//!
//! Nothing of them is the state. In particular, a 404 of a gateway does not mean that there is no state: an apply would create everything again.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use crate::kubernetes::Cluster;
use crate::remote::objects::Bucket;
use crate::remote::{RequestError, Version};
use crate::s3::Folder;
use crate::{Kubernetes, S3};

const PAGE: &str = "<!doctype html><title>SSO</title><h1>Log in</h1>";
const NO_KEY: &str =
    "<?xml version=\"1.0\"?>\n<Error><Code>NoSuchKey</Code><Message>It does not exist.</Message></Error>";
const NO_BUCKET: &str = "<Error><Code>NoSuchBucket</Code><Message>The bucket does not exist.</Message></Error>";

/// Returns an answer with a body.
fn answer(head: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into()
}

/// Starts a server that gives every request this answer. With `endless`, zeros follow it until the client closes the connection.
fn server(answer: Vec<u8>, endless: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            thread::spawn(move || serve(stream, &answer, endless));
        }
    });
    url
}

fn serve(mut stream: TcpStream, answer: &[u8], endless: bool) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let (mut line, mut length) = (String::new(), 0);
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let header = line.to_ascii_lowercase();
            length = header.strip_prefix("content-length:").map_or(length, |value| value.trim().parse().unwrap());
        }
        reader.read_exact(&mut vec![0; length]).unwrap();
        if stream.write_all(answer).is_err() {
            return;
        }
        while endless && stream.write_all(&[b'0'; 1 << 16]).is_ok() {}
    }
}

async fn s3(answer: Vec<u8>, endless: bool) -> Folder {
    let config = S3 {
        bucket: "states".into(),
        prefix: "any".into(),
        region: Some("us-east-1".into()),
        endpoint: Some(server(answer, endless)),
        environment: None,
    };
    Folder::connect(config).await.unwrap().0
}

async fn cluster(answer: Vec<u8>) -> Cluster {
    let url = server(answer, false);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "clusters: [{{name: a, cluster: {{server: {url}}}}}]\nusers: [{{name: a, user: {{token: t}}}}]\n\
        contexts: [{{name: a, context: {{cluster: a, user: a}}}}]\ncurrent-context: a\n"
    );
    file.write_all(text.as_bytes()).unwrap();
    let config = Kubernetes {
        name: "any".into(),
        namespace: Some("default".into()),
        kubeconfig: Some(file.path().into()),
        context: None,
        environment: None,
    };
    Cluster::connect(config).await.unwrap().0
}

/// Checks that no request of `bucket` is believed, and that reading reports `expected`.
async fn not_believed(name: &str, bucket: &impl Bucket, expected: &str) {
    // A conflict is fine: it only leads to a read.
    let written = bucket.set_head(Some(&Version::from("1")), Vec::new()).await;
    assert!(matches!(written, Err(RequestError::NoAnswer(_) | RequestError::Conflict)), "{name}: {written:?}");
    for error in [bucket.delete("shard").await, bucket.list().await.map(drop)] {
        assert!(matches!(error, Err(RequestError::NoAnswer(_))), "{name}: {error:?}");
    }
    let Err(RequestError::NoAnswer(text)) = bucket.head().await else { panic!("{name}") };
    assert!(text.contains(expected), "{name}: {text}");
}

#[tokio::test]
async fn s3_is_not_a_gateway() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let location = format!("http://{}", elsewhere.local_addr().unwrap());
    let page = |status: &str| answer(&format!("{status}\r\ncontent-type: text/html; charset=utf-8"), PAGE);
    let redirect = answer(&format!("302 Found\r\nlocation: {location}/login?token=secret"), "");
    let cases = [
        ("a page", page("200 OK"), "a web page (200 OK)"),
        ("a page that is an error", page("404 Not Found"), "a web page (404 Not Found)"),
        ("a page of a proxy", page("403 Forbidden"), "a web page (403 Forbidden)"),
        ("another 404", answer("404 Not Found\r\ncontent-type: text/plain", "no route"), "404"),
        ("an empty 404", answer("404 Not Found", ""), "404"),
        ("a redirect", redirect, &*format!("redirects to {location} (302 Found)")),
    ];
    for (name, answer, expected) in cases {
        not_believed(name, &s3(answer, false).await, expected).await;
    }
    assert!(elsewhere.accept().is_err(), "the redirect is not followed");
    let without_type = s3(answer("200 OK", PAGE), false).await;
    let Err(RequestError::NoAnswer(text)) = without_type.head().await else { panic!() };
    assert!(text.contains("web page"), "{text}");
}

#[tokio::test]
async fn a_missing_object_is_missing_and_a_missing_bucket_is_an_error() {
    let missing = s3(answer("404 Not Found\r\ncontent-type: application/xml", NO_KEY), false).await;
    assert!(matches!(missing.head().await, Ok(None)));
    missing.delete("shard").await.unwrap();
    let replaced = missing.set_head(Some(&Version::from("1")), Vec::new()).await;
    assert!(matches!(replaced, Err(RequestError::Conflict)), "{replaced:?}");
    let bucket = s3(answer("404 Not Found\r\ncontent-type: application/xml", NO_BUCKET), false).await;
    let Err(RequestError::Refused(text)) = bucket.head().await else { panic!() };
    assert!(text.contains("NoSuchBucket"), "{text}");
}

#[tokio::test]
async fn an_answer_of_s3_without_end_is_not_read_to_its_end() {
    let endless = |head: &str| s3(format!("HTTP/1.1 {head}\r\n\r\n").into(), true);
    let huge = "200 OK\r\netag: \"1\"\r\ncontent-length: 1000000000000\r\nlast-modified: Mon, 30 Nov 2026 00:00:00 GMT";
    let Err(RequestError::Corrupt(text)) = endless(huge).await.head().await else { panic!() };
    assert_eq!(text, "the object any/head is larger than 8 MiB");
    let Err(RequestError::NoAnswer(text)) = endless("200 OK").await.list().await else { panic!() };
    assert!(text.contains("the answer is larger than 8 MiB"), "{text}");
    let Err(RequestError::NoAnswer(text)) = endless("500 Error").await.head().await else { panic!() };
    assert!(text.contains("the answer is larger than 65536 bytes"), "{text}");
}

#[tokio::test]
async fn a_cluster_is_not_a_gateway() {
    let page = |status: &str| answer(&format!("{status}\r\ncontent-type: text/html"), PAGE);
    let other = answer("404 Not Found\r\ncontent-type: application/json", r#"{"error": "no route"}"#);
    let cases = [
        ("a page", page("200 OK"), "not from an API server"),
        ("a page that is an error", page("404 Not Found"), "not from an API server"),
        ("another 404", other, "not from an API server"),
        ("a redirect", answer("302 Found\r\nlocation: http://127.0.0.1:1/login", ""), "not from an API server"),
    ];
    for (name, answer, expected) in cases {
        not_believed(name, &cluster(answer).await, expected).await;
    }
    let status = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"secrets \"any\" not found","reason":"NotFound","code":404}"#;
    let missing = cluster(answer("404 Not Found\r\ncontent-type: application/json", status)).await;
    assert!(matches!(missing.head().await, Ok(None)));
    missing.delete("shard").await.unwrap();
}
