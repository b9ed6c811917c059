//! The example keeps the laws of a provider.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use moorfast_conformance::{Case, check};
use moorfast_engine::provider::Provider;
use moorfast_example::provider;

#[tokio::test]
async fn an_example_file_keeps_the_laws() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out/kubeconfig");
    let manifest = |path: &str, content: &str, mode: &str| {
        format!("[resource.example_file.kubeconfig]\npath = {path:?}\ncontent = {content:?}\nmode = {mode:?}\n")
    };
    let file = |content, mode| manifest(&path.display().to_string(), content, mode);
    let case = Case::new(file("token: first-secret", "0600"))
        .update(file("token: second-secret", "0600"))
        .update(file("token: second-secret", "0640"))
        .reject(manifest("out/", "x", "0600"), "path")
        .reject(manifest("out/x", "x", "rw"), "mode")
        .secret("first-secret")
        .secret("second-secret")
        .snapshot({
            let path = path.clone();
            move || snapshot(&path)
        })
        .disturb({
            let path = path.clone();
            move || fs::write(&path, "token: changed by hand").unwrap()
        });
    let providers: [Arc<dyn Provider>; 1] = [Arc::new(provider())];
    check(&providers, &case).await.unwrap();
    assert!(!path.parent().unwrap().exists(), "the folder that was created for the file is removed with it");
}

/// Returns content and mode of a file.
fn snapshot(path: &Path) -> String {
    let mode = fs::metadata(path).map(|metadata| metadata.permissions().mode());
    format!("{mode:?} {:?}", fs::read_to_string(path).ok())
}
