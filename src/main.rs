//! The `moorfast` binary.

fn main() -> std::process::ExitCode {
    moorfast::main()
}
