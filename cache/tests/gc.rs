//! Pruning against a set model, beside others who use the store, and when it is killed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "tests")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use lap_cache::digest::Digest;
use lap_cache::gc::{Limits, Rule, Unnamed};
use lap_cache::layer::LayerInfo;
use lap_cache::records::Records;
use lap_cache::snapshot::Snapshot;
use lap_cache::store::Store;
use lap_solver::digest::Key;
use lap_solver::graph::{Metadata, Op, Vertex};
use lap_solver::key::KeyInputs;
use oci_spec::image::{Descriptor, MediaType};
use proptest::prelude::*;
use support::{Scratch, ready};

const EVERYTHING: Rule = Rule {
    all: true,
    filters: Vec::new(),
    unused_for: Duration::ZERO,
    reserved_space: 0,
    max_used_space: 0,
    min_free_space: 0,
};

fn layer(store: &Store, text: &str, size: usize) -> LayerInfo {
    let workspace = store.workspace().unwrap();
    std::fs::write(workspace.upper().join("f"), text.repeat(size / text.len().max(1) + 1)).unwrap();
    store.commit(workspace, &[], false).unwrap().unwrap()
}

fn record(store: &Store, name: &str, layers: &[LayerInfo]) -> Key {
    let inputs = KeyInputs { op: Op::Merge, inputs: vec![Key::of("test", name)], secrets: BTreeMap::new() };
    let metadata = Metadata { name: name.into(), ..Metadata::default() };
    let vertex = Vertex { op: Op::Merge, inputs: vec![], definition: Key::of("test", name), metadata };
    let snapshot = Snapshot { layers: layers.iter().map(Into::into).collect() };
    Records::new(store.clone()).record(&inputs.key(), &inputs, &vertex, snapshot).unwrap();
    inputs.key()
}

/// An image of these layers; without a name where there is none.
fn image(store: &Store, layers: &[LayerInfo], name: Option<&str>) -> Descriptor {
    let ids: Vec<Digest> = layers.iter().map(|layer| layer.diff_id).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ids},
    });
    let config = serde_json::to_vec(&config).unwrap();
    let config_digest = store.content().put(&config).unwrap();
    let of_config = serde_json::json!({
        "mediaType": MediaType::ImageConfig.to_string(), "digest": config_digest, "size": config.len(),
    });
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MediaType::ImageManifest.to_string(), "config": of_config, "layers": [],
    });
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let digest = store.content().put(&manifest).unwrap();
    let digest = digest.to_string().parse::<oci_spec::image::Digest>().unwrap();
    let descriptor = Descriptor::new(MediaType::ImageManifest, manifest.len() as u64, digest);
    match name {
        Some(name) => drop(store.name_point(&name.parse().unwrap(), &descriptor).unwrap()),
        None => store.keep(&descriptor).unwrap(),
    }
    descriptor
}

fn there(store: &Store) -> BTreeSet<Digest> {
    store.layers().unwrap().into_iter().collect()
}

/// What a random store is made of: stacks of layers by number, and what leads to each stack.
#[derive(Debug, Clone)]
struct World {
    stacks: Vec<(Vec<u8>, Reason)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Reason {
    Nothing,
    Record,
    Name,
    Unnamed,
    Container,
    Claim,
}

fn worlds() -> impl Strategy<Value = World> {
    use Reason::{Claim, Container, Name, Nothing, Record, Unnamed};
    let reason =
        prop_oneof![Just(Nothing), Just(Record), Just(Record), Just(Name), Just(Unnamed), Just(Container), Just(Claim)];
    let stack = (prop::collection::vec(0u8..12, 1..5), reason);
    prop::collection::vec(stack, 1..8).prop_map(|stacks| World { stacks })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Exactly what names, containers and claims reach stays; records that lead to something that is gone go too.
    #[test]
    fn a_prune_of_everything_leaves_what_the_set_model_leaves(world in worlds(), keeps_unnamed in any::<bool>()) {
        if !ready(&[]) {
            return Ok(());
        }
        let scratch = Scratch::new();
        let store = scratch.store("store");
        let user = scratch.store("store");
        let lease = user.lease().unwrap();
        let mut made: BTreeMap<u8, LayerInfo> = BTreeMap::new();
        let mut stays = BTreeSet::new();
        for (at, (numbers, reason)) in world.stacks.iter().enumerate() {
            let layers: Vec<LayerInfo> = numbers
                .iter()
                .map(|number| made.entry(*number).or_insert_with(|| layer(&store, &format!("layer {number}"), 10)).clone())
                .collect();
            let name = format!("stack{at}");
            match reason {
                Reason::Nothing => {}
                Reason::Record => drop(record(&store, &name, &layers)),
                Reason::Name => drop(image(&store, &layers, Some(&name))),
                Reason::Unnamed => drop(image(&store, &layers, None)),
                Reason::Container => {
                    let dir = store.root().join("containers").join(&name);
                    std::fs::create_dir_all(&dir).unwrap();
                    let ids: Vec<Digest> = layers.iter().map(|layer| layer.diff_id).collect();
                    std::fs::write(dir.join("config.json"), serde_json::to_vec(&ids).unwrap()).unwrap();
                }
                Reason::Claim => assert!(layers.iter().all(|layer| user.layer(&layer.diff_id).unwrap().is_some())),
            }
            let kept = match reason {
                Reason::Nothing | Reason::Record => false,
                // Two stacks of the same layers are one image, which may have a name elsewhere.
                Reason::Unnamed => keeps_unnamed,
                Reason::Name | Reason::Container | Reason::Claim => true,
            };
            if kept {
                stays.extend(layers.iter().map(|layer| layer.diff_id));
            }
        }
        let unnamed = if keeps_unnamed { Unnamed::Kept } else { Unnamed::Cache };
        store.prune(&[EVERYTHING], None, unnamed).unwrap();
        prop_assert_eq!(there(&store), stays.clone());
        for record in Records::new(store.clone()).all().unwrap() {
            prop_assert!(record.snapshot.diff_ids().iter().all(|id| stays.contains(id)), "a record without its layers");
        }
        for entry in store.names().unwrap() {
            prop_assert!(store.content().has(&entry.digest).unwrap().is_some(), "an entry without its manifest");
        }
        drop(lease);
        store.prune(&[EVERYTHING], None, unnamed).unwrap();
        let claimed: BTreeSet<u8> =
            world.stacks.iter().filter(|(_, why)| *why == Reason::Claim).flat_map(|(numbers, _)| numbers.clone()).collect();
        let after = there(&store);
        prop_assert!(after.is_subset(&stays));
        for number in claimed {
            let rooted = world.stacks.iter().any(|(numbers, why)| {
                numbers.contains(&number)
                    && (matches!(why, Reason::Name | Reason::Container) || (*why == Reason::Unnamed && keeps_unnamed))
            });
            prop_assert_eq!(after.contains(&made[&number].diff_id), rooted, "a claim ends with its lease");
        }
    }
}

#[test]
fn a_cap_holds_and_the_least_recently_used_goes_first() {
    if !ready(&[]) {
        return;
    }
    let scratch = Scratch::new();
    let store = scratch.store("store");
    let layers: Vec<LayerInfo> = (0..6).map(|n| layer(&store, &format!("layer {n}"), 100_000)).collect();
    // A sync says in the layers' files that it has covered them: before the files get the times that count here.
    store.sync().unwrap();
    let old = std::time::SystemTime::now() - Duration::from_secs(100_000);
    for (at, layer) in layers.iter().enumerate() {
        let key = record(&store, &format!("step {at}"), std::slice::from_ref(layer));
        let hex = key.to_hex();
        let path = store.root().join(format!("records/{}/{hex}.json", &hex[..2]));
        let time = old + Duration::from_secs(at as u64 * 1000);
        std::fs::File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
        let stamp = store.layer_dir(&layer.diff_id).join("layer.json");
        std::fs::File::options().append(true).open(stamp).unwrap().set_modified(time).unwrap();
    }
    image(&store, &layers[..1], Some("kept"));
    let cap = Limits { reserved_space: 0, max_used_space: 350_000, min_free_space: 0 };
    let pruned = store.prune(&cap.rules(), None, Unnamed::Cache).unwrap();
    let left = there(&store);
    assert!(left.contains(&layers[0].diff_id), "an image has it");
    assert!(!left.contains(&layers[1].diff_id) && !left.contains(&layers[2].diff_id), "the oldest go");
    assert!(left.contains(&layers[5].diff_id) && left.contains(&layers[4].diff_id), "the newest stay");
    assert!(pruned.bytes > 0);
    let used: u64 = store.usage().unwrap().iter().filter(|part| !part.shared).map(|part| part.size).sum();
    assert!(used <= 350_000, "{used}");
    assert_eq!(store.prune(&cap.rules(), None, Unnamed::Cache).unwrap().parts, [], "nothing more to do");
}

/// Builders that find or make layers while others prune everything all the time: nobody loses what he has found.
#[test]
fn what_somebody_uses_stays_while_others_prune() {
    if !ready(&[]) {
        return;
    }
    let scratch = Scratch::new();
    drop(scratch.store("store"));
    let (ended, hits) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let builders: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    for round in 0..40usize {
                        // Each round is a command of its own: a store, a lease.
                        let store = scratch.store("store");
                        let lease = store.lease().unwrap();
                        let records = Records::new(store.clone());
                        let mut stack = Vec::new();
                        for step in 0..4 {
                            let name = format!("step {step} of {}", round % 5);
                            let key = KeyInputs {
                                op: Op::Merge,
                                inputs: vec![Key::of("test", &name)],
                                secrets: BTreeMap::new(),
                            }
                            .key();
                            match records.lookup(&key, |_| false).unwrap() {
                                Some(found) => {
                                    hits.fetch_add(1, Ordering::Relaxed);
                                    stack = found.layers;
                                }
                                None => {
                                    let new = layer(&store, &name, 100);
                                    stack.push((&new).into());
                                    let layers: Vec<LayerInfo> = stack
                                        .iter()
                                        .map(|layer| store.layer(&layer.diff_id).unwrap().expect("a layer in use"))
                                        .collect();
                                    record(&store, &name, &layers);
                                }
                            }
                            for layer in &stack {
                                let there = store.layer_dir(&layer.diff_id).join("fs/f").exists();
                                assert!(there, "a layer in use is gone");
                            }
                        }
                        drop(lease);
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                scratch.store("store").prune(&[EVERYTHING], None, Unnamed::Kept).unwrap();
            }
        });
        let results: Vec<_> = builders.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        ended.store(true, Ordering::Relaxed);
        assert!(results.into_iter().all(|result| result.is_ok()));
    });
    assert!(hits.load(Ordering::Relaxed) > 0, "builders find what others made");
}
