//! Invalid responses, which do not come from a Kubernetes API server.

#![allow(clippy::unwrap_used, reason = "a test panics to fail")]

mod harness;

use std::sync::{Arc, Mutex};

use moorfast_engine::model::Attributes;
use moorfast_engine::provider::{Class, OperationAction};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use harness::{Instance, attributes, connect};

/// A response: HTTP status, headers, body.
type Response = (u16, String, String);

/// Starts a server that responds to a few requests like an API server, unless `misbehaves` returns another response.
async fn server(
    misbehaves: impl Fn(&str) -> Option<Response> + Send + Sync + 'static,
) -> (Instance, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (misbehaves, log) = (Arc::new(misbehaves), asked.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, misbehaves.clone(), log.clone()));
        }
    });
    let kubeconfig = json!({ "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{ "name": "c", "cluster": { "server": url } }], "contexts": [{ "name": "c", "context": { "cluster": "c" } }] });
    let connection = connect(json!({ "kubeconfig_content": kubeconfig.to_string() })).await;
    (Instance::on(connection, "kubernetes_object"), asked)
}

async fn serve(
    stream: TcpStream,
    misbehaves: Arc<impl Fn(&str) -> Option<Response>>,
    log: Arc<Mutex<Vec<String>>>,
) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let (mut request, mut length) = (String::new(), 0);
    stream.read_line(&mut request).await.ok()?;
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await.ok()?;
        if header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut vec![0; length]).await.ok()?;
    let mut words = request.split(' ');
    let asked = format!("{} {}", words.next()?, words.next()?);
    let (status, headers, body) = misbehaves(&asked).unwrap_or_else(|| default_response(&asked));
    log.lock().unwrap().push(asked);
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await.ok()?;
    stream.shutdown().await.ok()
}

fn response(status: u16, body: Json) -> Response {
    (status, "Content-Type: application/json\r\n".to_owned(), body.to_string())
}

fn page(status: u16) -> Response {
    (status, "Content-Type: text/html\r\n".to_owned(), "<html>please log in</html>".to_owned())
}

fn default_response(asked: &str) -> Response {
    let discovery = |items: Json| {
        let (kind, version) = ("APIGroupDiscoveryList", "apidiscovery.k8s.io/v2");
        response(200, json!({ "kind": kind, "apiVersion": version, "metadata": {}, "items": items }))
    };
    let resource = json!({ "resource": "configmaps", "scope": "Namespaced", "singularResource": "configmap", "verbs": ["get", "list", "patch"],
        "responseKind": { "group": "", "version": "v1", "kind": "ConfigMap" } });
    match asked {
        "GET /api" => {
            discovery(json!([{ "metadata": {}, "versions": [{ "version": "v1", "resources": [resource] }] }]))
        }
        "GET /apis" => {
            discovery(json!([{ "metadata": { "name": "apps" }, "versions": [{ "version": "v1", "resources": [] }] }]))
        }
        _ if asked.starts_with("PATCH ") => response(201, config_map()),
        _ => response(
            404,
            json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "NotFound",
            "message": "not found", "code": 404, "details": { "name": "a", "kind": "configmaps" } }),
        ),
    }
}

fn config_map() -> Json {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a", "namespace": "default" }, "data": { "k": "v" } })
}

fn desired() -> Attributes {
    attributes(
        json!({ "manifest": { "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" }, "data": { "k": "v" } }, "wait": false }),
    )
}

fn asks_to_wait(status: u16) -> Response {
    let (status, headers, body) = response(
        status,
        json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "too many requests", "code": status }),
    );
    (status, headers + "Retry-After: 3600\r\n", body)
}

#[tokio::test]
async fn a_pause_that_is_too_long_is_an_error_at_once() {
    for status in [429, 503] {
        let (instance, requests) =
            server(move |asked| asked.contains("/configmaps/a").then(|| asks_to_wait(status))).await;
        let read = instance.read(Some(&desired())).await.unwrap_err();
        let applied = instance.operate(OperationAction::Create(desired()), None).await.unwrap_err();
        for error in [read, applied] {
            assert_eq!(error.class, Class::Unreachable);
            let expected = "is not available: too many requests; it asks to wait 3600 s";
            assert!(error.summary.ends_with(expected), "{}", error.summary);
        }
        let of_object = requests.lock().unwrap().iter().filter(|asked| asked.contains("/configmaps/a")).count();
        assert_eq!(of_object, 2, "{requests:?}");
    }
}

/// The status of an object is known at the end of a wait, even if the API server refuses to send events.
#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_a_read_if_the_watch_fails() {
    let waiting = |data: Json| {
        let mut object = config_map();
        object["data"] = data;
        object["metadata"]["resourceVersion"] = json!("7");
        object
    };
    let list = json!({ "kind": "ConfigMapList", "apiVersion": "v1", "metadata": { "resourceVersion": "7" }, "items": [waiting(json!({ "k": "v" }))] });
    for (at_the_end, expected) in [
        (json!({ "k": "v", "ready": "yes" }), None),
        (
            json!({ "k": "v", "ready": "no" }),
            Some("ConfigMap/default/a did not become ready in time: $.data.ready is no"),
        ),
    ] {
        let (list, object) = (list.clone(), waiting(at_the_end));
        let applied = std::sync::atomic::AtomicBool::new(false);
        let (instance, _) = server(move |asked| {
            let was_applied = applied.load(std::sync::atomic::Ordering::Relaxed);
            applied.fetch_or(asked.starts_with("PATCH"), std::sync::atomic::Ordering::Relaxed);
            match asked {
                _ if asked.contains("watch=true") => Some(response(500, json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "no events", "code": 500 }))),
                _ if asked.contains("/configmaps?") => Some(response(200, list.clone())),
                _ if was_applied && asked.starts_with("GET ") && asked.contains("/configmaps/a") => Some(response(200, object.clone())),
                _ => None,
            }
        })
        .await;
        let mut desired = desired();
        desired.insert("wait".to_owned(), json!({ "jsonpath": "{.data.ready}=yes" }).into());
        let result = instance.operate(OperationAction::Create(desired), None).await;
        assert_eq!(result.err().map(|error| error.summary).as_deref(), expected);
    }
}

#[tokio::test]
async fn responses_of_an_api_server_are_accepted() {
    let (instance, requests) = server(|_| None).await;
    assert_eq!(instance.read(Some(&desired())).await, Ok(None));
    instance.operate(OperationAction::Create(desired()), None).await.unwrap();
    assert!(requests.lock().unwrap().iter().any(|request| request.starts_with("PATCH")), "{requests:?}");
}

/// An invalid response says nothing about the object: the cluster counts as unreachable, and the object neither as deleted nor as applied.
#[tokio::test]
async fn an_invalid_response_counts_as_unreachable() {
    let other = |body: Json| move || response(200, body.clone());
    let banana = || other(json!({ "kind": "Banana", "apiVersion": "v9" }));
    let empty_list = json!({ "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": [] });
    let mut foreign = config_map();
    foreign["metadata"]["name"] = json!("b");
    let redirect = || (302, "Location: https://sso.example.org/login?x=secret\r\n".to_owned(), String::new());
    type Misbehaviour = Box<dyn Fn() -> Response + Send + Sync>;
    let cases: Vec<(&str, Misbehaviour, &str)> = vec![
        ("/api", Box::new(|| page(200)), "a page of type text/html (HTTP 200)"),
        ("/api", Box::new(|| page(404)), "a page of type text/html (HTTP 404)"),
        ("/api", Box::new(banana()), "a Banana of v9"),
        ("/api", Box::new(other(empty_list)), "APIGroupDiscoveryList without content"),
        ("/configmaps/a", Box::new(|| page(200)), "a page of type text/html (HTTP 200)"),
        ("/configmaps/a", Box::new(|| page(404)), "a page of type text/html (HTTP 404)"),
        ("/configmaps/a", Box::new(redirect), "a redirect to https://sso.example.org/login"),
        (
            "/configmaps/a",
            Box::new(|| (200, "Content-Type: application/json\r\n".to_owned(), String::new())),
            "an empty body",
        ),
        ("/configmaps/a", Box::new(banana()), "a Banana of v9"),
        ("/configmaps/a", Box::new(other(foreign)), "a ConfigMap of v1 default b"),
        ("/configmaps/a", Box::new(other(json!({ "kind": "Status", "apiVersion": "v1" }))), "a Status of v1"),
        (
            "/configmaps/a",
            Box::new(|| (404, "Content-Type: text/plain\r\n".to_owned(), "404 page not found\n".to_owned())),
            "HTTP 404 without the name",
        ),
    ];
    for (path, misbehaviour, expected) in cases {
        let (instance, _) = server(move |asked| asked.split('?').next()?.ends_with(path).then(&misbehaviour)).await;
        let read = instance.read(Some(&desired())).await.unwrap_err();
        let applied = instance.operate(OperationAction::Create(desired()), None).await.unwrap_err();
        for error in [read, applied] {
            assert_eq!(error.class, Class::Unreachable, "{path} {expected}: {error:?}");
            assert!(error.summary.contains(expected), "{path}: {}", error.summary);
            assert!(!format!("{error:?}").contains("secret") && !format!("{error:?}").contains("log in"), "{error:?}");
        }
    }
}
