//! The `moorfast` binary.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    moorfast::run(&[moorfast::ssh, moorfast::kubernetes, moorfast::local, moorfast::pki, moorfast::etcd])
}
