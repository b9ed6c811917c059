//! Fetching modules from git, by the `git` program.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use moorfast_engine::manifest::{
    GitSource, LOCK_FILE, LockFile, LockedModule, Manifest, fetched_folder, modules_folder, tree_digest,
};
use moorfast_programs::{Kept, Limits, RunError};

use crate::atomic;
use crate::error::Error;

/// The limits of one `git` process.
const LIMITS: Limits = Limits { time: Duration::from_secs(300), output: 64 << 20, errors: Kept::Start(16 << 10) };

/// The maximum size of a repository as it is fetched, and of its files, in bytes.
const REPOSITORY: u64 = 1 << 30;

/// Runs git with a limit of the size of each file that it writes, in blocks of 512 bytes. A larger file is an error of git.
const LIMITED_GIT: &str = r#"trap '' XFSZ; ulimit -f "$1" && shift && exec git "$@""#;

/// What became of a repository.
pub enum Fetched {
    /// Its files are there already.
    Present,
    /// It was fetched at this commit.
    New(String),
}

/// Fetches the repositories that the manifest at `path` in the folder `root` needs, and pins them in the lock file. With `upgrade`, branches and tags are
/// looked up again.
///
/// # Errors
/// If a repository cannot be fetched, or is not the one that the lock file pins.
pub async fn fetch(path: &Path, root: &Path, upgrade: bool) -> Result<BTreeMap<GitSource, Fetched>, Error> {
    let mut lock = match LockFile::read(root) {
        Err(_) if upgrade => LockFile::default(),
        read => read.map_err(|message| Error::Usage { message, help: None, code: None })?,
    };
    let before = lock.clone();
    let mut done: BTreeMap<GitSource, Fetched> = BTreeMap::new();
    // A fetched module can call modules of further repositories.
    loop {
        let needed = Manifest::repositories(path).map_err(|error| Error::Usage {
            message: error.summary,
            help: error.help,
            code: error.code,
        })?;
        let open = needed.iter().find(|(source, _)| !done.contains_key(source));
        let Some((source, is_fetched)) = open else {
            let names: Vec<_> = needed.keys().map(ToString::to_string).collect();
            lock.modules.retain(|name, _| names.contains(name));
            break;
        };
        if *is_fetched && !upgrade {
            done.insert(source.clone(), Fetched::Present);
            continue;
        }
        let name = source.to_string();
        let pinned = lock.modules.get(&name).filter(|_| !upgrade);
        let locked = fetch_one(root, source, pinned).await?;
        done.insert(source.clone(), Fetched::New(locked.commit.clone()));
        lock.modules.insert(name, locked);
        write(root, &lock)?;
    }
    if lock != before {
        write(root, &lock)?;
    }
    Ok(done)
}

fn write(root: &Path, lock: &LockFile) -> Result<(), Error> {
    let path = root.join(LOCK_FILE);
    let text = lock.text().map_err(|message| Error::Usage { message, help: None, code: None })?;
    atomic::write(&path, 0o644, text.as_bytes()).map_err(Error::file("write", &path))
}

/// Fetches a repository, and moves its files to their folder if they are the pinned ones.
async fn fetch_one(root: &Path, source: &GitSource, pinned: Option<&LockedModule>) -> Result<LockedModule, Error> {
    let modules = modules_folder(root);
    fs::create_dir_all(&modules).map_err(Error::file("create the folder", &modules))?;
    let work = tempfile::tempdir_in(&modules).map_err(Error::file("create a folder in", &modules))?;
    let folder = work.path().join("tree");
    fs::create_dir(&folder).map_err(Error::file("create the folder", &folder))?;
    git(&folder, &["init", "--quiet", "--template="]).await?;
    let reference = source.reference.as_deref().unwrap_or("HEAD");
    let get = |revision: String| {
        let folder = folder.clone();
        async move { git(&folder, &["fetch", "--quiet", "--depth=1", "--no-tags", "--", &source.url, &revision]).await }
    };
    match pinned {
        // Not every server gives a commit by its ID.
        Some(pinned) => match get(pinned.commit.clone()).await {
            Ok(_) => {}
            Err(_) => _ = get(reference.to_owned()).await?,
        },
        None => _ = get(reference.to_owned()).await?,
    }
    let commit = git(&folder, &["rev-parse", "FETCH_HEAD^{commit}"]).await?.trim().to_owned();
    let upgrade = "if this is expected, run `moorfast init --upgrade` and commit the lock file";
    if let Some(pinned) = pinned.filter(|pinned| pinned.commit != commit) {
        let message = format!("{source} is commit {commit} now, but {LOCK_FILE} pins {}", pinned.commit);
        return Err(Error::usage(message, upgrade));
    }
    check_size(source, &git(&folder, &["ls-tree", "-r", "-l", &commit]).await?)?;
    git(&folder, &["checkout", "--quiet", "--detach", &commit]).await?;
    fs::remove_dir_all(folder.join(".git")).map_err(Error::file("remove", &folder))?;
    let digest = tree_digest(&folder).map_err(Error::file("read", &folder))?.as_str().to_owned();
    if let Some(pinned) = pinned.filter(|pinned| pinned.digest != digest) {
        let message = format!("the files of {source} have the digest {digest}, but {LOCK_FILE} pins {}", pinned.digest);
        return Err(Error::usage(message, upgrade));
    }
    let place = fetched_folder(root, &digest);
    if place.exists() {
        fs::remove_dir_all(&place).map_err(Error::file("remove", &place))?;
    }
    fs::rename(&folder, &place).map_err(Error::file("write", &place))?;
    Ok(LockedModule { commit, digest })
}

/// Checks the size of the files that `git ls-tree -l` lists. The same object can be at many paths, so the size of the repository does not limit them.
fn check_size(source: &GitSource, files: &str) -> Result<(), Error> {
    let sizes = files.lines().filter_map(|line| line.split_whitespace().nth(3)?.parse::<u64>().ok());
    let size = sizes.fold(0, u64::saturating_add);
    match size > REPOSITORY {
        true => {
            Err(Error::usage(format!("the files of {source} are larger than {}", limit()), "use a smaller repository"))
        }
        false => Ok(()),
    }
}

fn limit() -> String {
    format!("{} GiB", REPOSITORY >> 30)
}

/// Runs `git` in `folder` and returns its output. It asks nothing, and runs no hooks, filters or other programs of the repository.
async fn git(folder: &Path, arguments: &[&str]) -> Result<String, Error> {
    git_within(folder, arguments, &LIMITS).await
}

async fn git_within(folder: &Path, arguments: &[&str], limits: &Limits) -> Result<String, Error> {
    let mut command = moorfast_programs::command("sh");
    command.args(["-c", LIMITED_GIT, "sh", &(REPOSITORY / 512).to_string()]);
    // The objects come in one file, to which the limit applies.
    command.args(["-c", "transfer.unpackLimit=1"]);
    command.args(["-c", "core.hooksPath=/dev/null", "-c", "core.autocrlf=false", "-c", "core.fsmonitor=false"]);
    command.args(arguments).current_dir(folder);
    command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_LFS_SKIP_SMUDGE", "1");
    command.env("GIT_ALLOW_PROTOCOL", "file:git:http:https:ssh");
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(name);
    }
    if std::env::var_os("GIT_SSH_COMMAND").is_none() {
        command.env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes");
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let help = "modules from git need the `git` program, and access to the repository without a password prompt";
    let failed = |reason: String| Error::usage(format!("git {} failed: {reason}", arguments[0]), help);
    let output = moorfast_programs::run(&mut command, b"", limits).await.map_err(|error| match error {
        RunError::TimedOut => failed(format!("no answer within {} seconds", limits.time.as_secs())),
        RunError::TooMuchOutput => failed(format!("it printed more than {} MiB", limits.output >> 20)),
        RunError::NotStarted(error) | RunError::Failed(error) => failed(error.to_string()),
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    match errors.contains("File too large") {
        true => Err(failed(format!("the repository is larger than {}", limit()))),
        false => Err(failed(errors.trim().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_git_that_never_ends_is_killed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("git://{}/repo", listener.local_addr().unwrap());
        let folder = tempfile::tempdir().unwrap();
        git(folder.path(), &["init", "--quiet"]).await.unwrap();
        let limits = Limits { time: Duration::from_secs(3), ..LIMITS };
        // The kernel accepts the connection, and nothing answers the request.
        let error = git_within(folder.path(), &["fetch", "--", &url], &limits).await.err().unwrap();
        assert_eq!(error.to_string(), "git fetch failed: no answer within 3 seconds");
        let mut request = Vec::new();
        // Ends only if no process of git is left.
        listener.accept().unwrap().0.read_to_end(&mut request).unwrap();
        assert!(String::from_utf8_lossy(&request).contains("git-upload-pack /repo"), "{request:?}");
    }
}
