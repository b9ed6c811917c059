//! The in-memory provider of the other tests keeps the laws of a provider, so that what they find is a fault of the engine.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use std::sync::Arc;

use moorfast_conformance::{Case, check};
use moorfast_engine::provider::Provider;
use support::Memory;

fn item(value: &str, material: &str) -> String {
    format!(
        "[resource.mem_item.one]\nkey = \"one\"\nvalue = \"{value}\"\nmaterial = \"{material}\"\n\n\
         [resource.mem_item.two]\nkey = \"two\"\nvalue = '${{sensitive(\"hidden-{value}\")}}'\n"
    )
}

#[tokio::test]
async fn the_provider_in_memory_keeps_the_laws() {
    let memory = Memory::default();
    let (world, disturbed) = (memory.clone(), memory.clone());
    let case = Case::new(item("first", "wood"))
        .update(item("second", "wood"))
        .update(item("second", "stone"))
        .reject("[resource.mem_item.one]\nkey = \"one/\"\n", "key")
        .secret("hidden-first")
        .secret("hidden-second")
        .snapshot(move || format!("{:?}", world.world().items))
        .disturb(move || _ = disturbed.world().items.insert("one".to_owned(), "changed by hand".to_owned()));
    let providers: [Arc<dyn Provider>; 1] = [Arc::new(memory)];
    check(&providers, &case).await.unwrap();
}
