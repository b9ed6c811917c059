# The few commands a contributor needs. `just` lists them.

default:
    @just --list

# A first look: plan and apply examples/quickstart
try:
    ./try

# All tests; as root with the testbed of real nodes
test *ARGS:
    ./test {{ARGS}}

# Format, lint and document, as CI does
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

# Build target/dist: a static binary with completions, man pages, licences, SBOM and checksums as .tar.gz and .deb, and the files of the container image
dist *ARGS:
    packaging/dist {{ARGS}}

# Write the generated pages anew: docs/cli.md, exit-codes.md, functions.md, types.md, errors.md, providers/, resources/, data/ and errors/
docs:
    cargo run --quiet -- docs docs

# Build the book from docs/ into target/book; needs mdbook
book:
    packaging/book

# Look at changed snapshots and accept them one by one
snapshots:
    cargo insta test --review

# Mutate the planner, graph, executor and journal (.cargo/mutants.toml); takes hours. `just mutants -F Graph::order` tries one function
mutants *ARGS:
    cargo mutants --workspace {{ARGS}}
