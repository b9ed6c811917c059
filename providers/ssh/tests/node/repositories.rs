//! Package repositories: the file, the key, and what the package manager finds in them.

use super::*;

const APT: &str = "ssh_apt_repository";
const DNF: &str = "ssh_dnf_repository";

/// Shell that makes a signed repository in /srv/signed, and prints its key in text form.
const SIGNED: &str = r#"
apt-get update -q; apt-get install -y -q gpg gpg-agent; rm -rf /srv/signed; mkdir -p /srv/signed; cd /srv/signed
export GNUPGHOME=/srv/signed/.gnupg; mkdir -m 0700 $GNUPGHOME
for who in one two; do gpg --batch --quiet --passphrase '' --quick-generate-key $who@example.org ed25519 sign never; done
mkdir -p build/DEBIAN; printf 'Package: mf-signed\nVersion: 1.0\nArchitecture: all\nMaintainer: A <a@example.com>\nDescription: A test\n' > build/DEBIAN/control
dpkg-deb -b build mf-signed.deb; rm -r build
{ dpkg-deb -f mf-signed.deb; printf 'Filename: ./mf-signed.deb\nSize: %s\nSHA256: %s\n\n' "$(stat -c %s mf-signed.deb)" "$(sha256sum < mf-signed.deb | cut -d ' ' -f 1)"; } > Packages
printf 'Origin: test\nSHA256:\n %s %s Packages\n' "$(sha256sum < Packages | cut -d ' ' -f 1)" "$(stat -c %s Packages)" > Release
gpg --batch --quiet -u one@example.org --clearsign -o InRelease Release
for who in one two; do gpg --armor --export $who@example.org > $who.asc; gpg --export $who@example.org > $who.gpg; done
chmod 0755 /srv/signed; gpgconf --kill all
"#;

const STATE: &str = "ls -A /etc/apt/keyrings /etc/apt/sources.list.d /etc/apt; cat /etc/apt/sources.list.d/*; apt-cache policy mf-signed hello | grep -E '^[a-z]|Candidate'";

const CLEAN: &str = "rm -rf /srv/signed /etc/apt/sources.list.d/signed.* /etc/apt/keyrings/*signed* /etc/yum.repos.d/signed.repo /etc/pki/rpm-gpg/*signed*; apt-get -q update";

fn signed(more: serde_json::Value) -> moorfast_engine::model::Attributes {
    let mut all = json!({ "name": "signed", "uris": ["file:/srv/signed"], "suites": ["./"] });
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    attributes(all)
}

#[tokio::test]
async fn apt_reads_a_repository_with_its_key_before_it_is_written() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.sh(CLEAN);
    let before = testbed.sh(STATE);
    testbed.sh(SIGNED);
    let key = |name: &str| testbed.sh(&format!("cat /srv/signed/{name}.asc")) + "\n";
    let candidate = || testbed.sh("apt-cache policy mf-signed | grep Candidate");
    let (one, two) = (key("one"), key("two"));
    assert!(one.starts_with("-----BEGIN PGP"), "{one}");

    // A wrong key, a repository that does not exist: nothing is written.
    let error = world.apply(APT, signed(json!({ "key": two }))).await.unwrap_err();
    assert_eq!(error.class, Class::Failed);
    assert!(error.summary.ends_with("apt cannot read the repository"), "{error}");
    assert!(error.detail.iter().any(|line| line.contains("NO_PUBKEY")), "{:?}", error.detail);
    let missing = attributes(json!({ "name": "signed", "uris": ["file:/srv/none"], "suites": ["./"], "key": one }));
    world.apply(APT, missing).await.unwrap_err();
    assert_eq!(testbed.sh(STATE), before);

    let planned = world.plan(APT, signed(json!({ "key": one }))).await.unwrap();
    assert_eq!(
        planned.planned["content"],
        Value::from(
            "# Written by moorfast.\nTypes: deb\nURIs: file:/srv/signed\nSuites: ./\nSigned-By: /etc/apt/keyrings/moorfast-signed.asc\n"
        )
    );
    world.apply(APT, signed(json!({ "key": one }))).await.unwrap();
    assert_eq!(candidate(), "Candidate: 1.0");
    assert_eq!(testbed.sh("apt-cache policy hello | grep -c Candidate"), "1", "the lists of other repositories stay");
    world.apply("ssh_package", attributes(json!({ "names": ["mf-signed"] }))).await.unwrap();
    world.destroy("ssh_package").await.unwrap();

    // The key in binary form, and what others change.
    let binary = testbed.sh("base64 -w 0 /srv/signed/one.gpg");
    world.apply(APT, signed(json!({ "key_base64": binary }))).await.unwrap();
    assert_eq!(testbed.sh("ls /etc/apt/keyrings"), "moorfast-signed.gpg");
    std::fs::write(testbed.dir.path().join("one.asc"), &one).unwrap();
    let desired = || signed(json!({ "key_source": "one.asc" }));
    world.apply(APT, desired()).await.unwrap();
    for change in [
        "echo x >> /etc/apt/sources.list.d/signed.sources",
        "rm /etc/apt/keyrings/moorfast-signed.asc",
        "echo x > /etc/apt/keyrings/moorfast-signed.asc",
    ] {
        testbed.sh(change);
        assert_eq!(world.plan(APT, desired()).await.unwrap().action, ProposedAction::Update, "{change}");
        world.apply(APT, desired()).await.unwrap();
    }
    testbed.sh("rm /etc/apt/sources.list.d/signed.sources");
    assert!(world.read(APT, None).await.unwrap().is_none());
    world.apply(APT, desired()).await.unwrap();
    world.clear_records();
    world.import(APT, desired()).await;
    assert_eq!(world.plan(APT, desired()).await.unwrap().action, ProposedAction::NoOp);
    world.destroy(APT).await.unwrap();
    world.destroy(APT).await.unwrap();
    assert_eq!(testbed.sh("apt-cache policy mf-signed"), "");

    // Without a signature.
    testbed.sh("rm /srv/signed/InRelease /var/lib/apt/lists/*signed*");
    world.apply(APT, signed(json!({ "trusted": true, "options": { "By-Hash": "no" } }))).await.unwrap();
    assert!(testbed.sh("cat /etc/apt/sources.list.d/signed.sources").ends_with("Trusted: yes\nBy-Hash: no"));
    world.destroy(APT).await.unwrap();
    testbed.sh(CLEAN);
    assert_eq!(testbed.sh(STATE), before);
}

#[tokio::test]
async fn dnf_reads_a_repository_before_it_is_written() {
    let Some(testbed) = Testbed::find().await else { return };
    let world = testbed.world().await;
    testbed.sh(CLEAN);
    testbed.sh(SIGNED);
    testbed.sh("apt-get install -y -q dnf createrepo-c; mkdir -p /srv/signed/rpm; createrepo_c -q /srv/signed/rpm");
    let state = "find /etc/yum.repos.d /etc/pki/rpm-gpg -type f; cat /etc/yum.repos.d/*";
    let before = testbed.sh(state);
    let key = testbed.sh("cat /srv/signed/one.asc") + "\n";
    let desired = |path: &str| {
        attributes(
            json!({ "name": "signed", "baseurl": [format!("file:///srv/signed/{path}")], "key": key, "options": { "priority": "10" } }),
        )
    };
    let error = world.apply(DNF, desired("none")).await.unwrap_err();
    assert!(error.summary.ends_with("dnf cannot read the repository"), "{error}");
    assert_eq!(testbed.sh(state), before);

    world.apply(DNF, desired("rpm")).await.unwrap();
    assert_eq!(
        testbed.sh("cat /etc/yum.repos.d/signed.repo; dnf -q repolist | grep -c signed"),
        "# Written by moorfast.\n[signed]\nname=signed\nbaseurl=file:///srv/signed/rpm\nenabled=1\ngpgcheck=1\ngpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-moorfast-signed\npriority=10\n1"
    );
    testbed.sh("sed -i s/gpgcheck=1/gpgcheck=0/ /etc/yum.repos.d/signed.repo");
    let drift = world.read(DNF, None).await.unwrap().unwrap().attributes;
    assert!(drift["content"].as_str().unwrap().contains("gpgcheck=0"));
    world.apply(DNF, desired("rpm")).await.unwrap();
    world.destroy(DNF).await.unwrap();
    testbed.sh(CLEAN);
    assert_eq!(testbed.sh(state), before);
}
