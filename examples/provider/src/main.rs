//! moorfast with the provider `local` beside its own ones.

fn main() -> std::process::ExitCode {
    moorfast::run(&[moorfast::ssh, moorfast::kubernetes, moorfast_local::local])
}
