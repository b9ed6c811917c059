//! Images in a real containerd.

use std::path::PathBuf;

use super::*;

const IMAGE: &str = "ssh_container_image";

/// Shell that writes an image archive to `$1`, as `docker save` does. `$2` and further ones are the names of its images.
const ARCHIVE: &str = r#"
set -e
folder=$(mktemp -d); archive=$1; shift; cd "$folder"
echo "$archive" > file; tar cf layer.tar file
printf '{"architecture":"%s","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
  "$(dpkg --print-architecture)" "$(sha256sum < layer.tar | cut -d ' ' -f 1)" > config.json
names=$(printf '"%s",' "$@")
printf '[{"Config":"config.json","RepoTags":[%s],"Layers":["layer.tar"]}]' "${names%,}" > manifest.json
tar cf "$archive" manifest.json config.json layer.tar
rm -r "$folder"
"#;

const NAME: &str = "registry.example/app/web:1";
const OTHER: &str = "registry.example/app/side:1";

/// Shell that prints the images, each with the start of its digest.
const IMAGES: &str =
    "ctr -n k8s.io images list | while read -r A _ D _; do echo \"${A%%:[0-9a-f][0-9a-f][0-9a-f]*} $D\"; done | sed 1d";

fn archive(testbed: &Testbed, file: &str, names: &[&str]) -> PathBuf {
    let path = testbed.dir.path().join(file);
    let status = Command::new("sh").args(["-c", ARCHIVE, "sh"]).arg(&path).args(names).status().unwrap();
    assert!(status.success());
    path
}

const PURGE: &str =
    "apt-get -y -q -o DPkg::Lock::Timeout=300 purge containerd runc; rm -rf /var/lib/containerd /run/containerd";

/// Containerd on the node, which is removed when this is dropped.
struct Containerd<'a>(&'a Testbed);

impl Drop for Containerd<'_> {
    fn drop(&mut self) {
        self.0.sh(PURGE);
    }
}

#[tokio::test]
async fn an_image_is_imported_kept_current_and_removed() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    let (first, second) = (archive(&testbed, "first.tar", &[NAME, OTHER]), archive(&testbed, "second.tar", &[NAME]));
    let image = |name: &str, source: &PathBuf| attributes(json!({ "name": name, "source": source }));
    let digest =
        || testbed.sh(&format!("ctr -n k8s.io images list 'name=={NAME}' | sed 1d | {{ read -r A B C D; echo $C; }}"));

    // Another test may have installed containerd on this node.
    testbed.sh(PURGE);

    // Without containerd there is no image, and an apply says what is missing.
    assert_eq!(world.plan(IMAGE, image(NAME, &first)).await.unwrap().action, ProposedAction::Create);
    let error = world.apply_failing(IMAGE, image(NAME, &first)).await;
    assert!(error.summary.ends_with(": ctr is not installed"), "{}", error.summary);
    assert_eq!(error.help.as_deref(), Some("install containerd with ssh_package"));
    world.clear_records();
    testbed.sh("apt-get -q update; apt-get -y -q -o DPkg::Lock::Timeout=300 install --no-install-recommends containerd; systemctl start containerd");
    let _containerd = Containerd(&testbed);

    let applied = world.apply(IMAGE, image(NAME, &first)).await.unwrap();
    assert_eq!(applied.attributes["digest"], Value::from(digest()));
    let applied = digest();
    assert!(applied.starts_with("sha256:"), "{applied}");
    assert_eq!(world.plan(IMAGE, image(NAME, &first)).await.unwrap().action, ProposedAction::NoOp);
    assert_eq!(testbed.sh("ls -A /var/tmp | grep moorfast"), "");

    // Another archive of the same name is an update, and so is an image that others imported in its place.
    assert_eq!(world.plan(IMAGE, image(NAME, &second)).await.unwrap().action, ProposedAction::Update);
    world.apply(IMAGE, image(NAME, &second)).await.unwrap();
    assert_ne!(digest(), applied);
    let current = digest();
    testbed.sh(&format!("ctr -n k8s.io images remove {NAME}; ctr -n k8s.io images tag {OTHER} {NAME}"));
    assert_eq!(world.plan(IMAGE, image(NAME, &second)).await.unwrap().action, ProposedAction::Update);
    world.apply(IMAGE, image(NAME, &second)).await.unwrap();
    assert_eq!(digest(), current);
    testbed.sh(&format!("ctr -n k8s.io images remove {NAME}"));
    assert_eq!(world.plan(IMAGE, image(NAME, &second)).await.unwrap().action, ProposedAction::Create);
    world.apply(IMAGE, image(NAME, &second)).await.unwrap();

    // The archive has another image: nothing is imported, and the error names what the archive has.
    let before = testbed.sh(IMAGES);
    let error = world.apply_failing(IMAGE, image("registry.example/app/web:2", &first)).await;
    assert!(error.summary.ends_with(": the archive has no image registry.example/app/web:2"), "{}", error.summary);
    assert_eq!(error.help.as_deref(), Some(&*format!("its images are {OTHER} {NAME}")));
    assert_eq!(testbed.sh(IMAGES), before);

    world.clear_records();
    world.import(IMAGE, image(NAME, &second)).await;
    world.destroy(IMAGE).await.unwrap();
    assert_eq!(digest(), current, "an image that moorfast did not import is kept");

    testbed.sh("ctr -n k8s.io images remove $(ctr -n k8s.io images list -q)");
    world.apply(IMAGE, image(NAME, &second)).await.unwrap();
    world.destroy(IMAGE).await.unwrap();
    assert_eq!(testbed.sh("ctr -n k8s.io images list -q"), "", "neither the name nor the ID is left");
}
