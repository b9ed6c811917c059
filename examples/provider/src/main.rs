//! moorfast with the provider `example` beside its own ones.

fn main() -> std::process::ExitCode {
    moorfast::run(&[moorfast::ssh, moorfast::kubernetes, moorfast_example::example])
}
