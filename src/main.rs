//! The `moorfast` binary.

fn main() -> std::process::ExitCode {
    moorfast::run(&[moorfast::ssh, moorfast::kubernetes, moorfast::local, moorfast::pki])
}
