//! The tier beside a map: after any operations, restarts and deaths, both say the same.

use std::collections::BTreeMap;

use bytes::Bytes;
use eyot_cache::disk::{CHUNK, Disk, Reader};
use proptest::prelude::*;

use crate::tool::{PLENTY, body, bytes, id, open, remains, store};

#[derive(Clone, Debug)]
enum Act {
    /// Begins an object and leaves it.
    Begin(u64, usize),
    Clear,
    /// The process dies: what it left is what the next one finds.
    Die,
    /// Begins to read an object, to read on later.
    Hold(u64),
    Remeta(u64, u64, usize),
    Remove(u64),
    RemovePrimary(u64),
    Restart,
    Store(u64, u64, usize, usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let own = 0..8_u64;
    let length = prop_oneof![Just(0), 1..5000_usize, CHUNK - 2..CHUNK + 2, Just(3 * CHUNK + 5)];
    let meta = prop_oneof![0..600_usize, Just(20_000)];
    let act = prop_oneof![
        2 => (own.clone(), length.clone()).prop_map(|(own, length)| Act::Begin(own, length)),
        1 => Just(Act::Clear),
        2 => Just(Act::Die),
        4 => own.clone().prop_map(Act::Hold),
        6 => (own.clone(), any::<u64>(), meta.clone()).prop_map(|(own, seed, meta)| Act::Remeta(own, seed, meta)),
        2 => own.clone().prop_map(Act::Remove),
        1 => (0..2_u64).prop_map(Act::RemovePrimary),
        2 => Just(Act::Restart),
        12 => (own, any::<u64>(), meta, length).prop_map(|(own, seed, meta, length)| Act::Store(own, seed, meta, length)),
    ];
    prop::collection::vec(act, 1..25)
}

/// What there should be: meta and body by id. The primary id is the id modulo 2.
type Model = BTreeMap<u64, (Bytes, Bytes)>;

async fn check(disk: &Disk, model: &Model) {
    for primary in 0..2 {
        let mut found = BTreeMap::new();
        for reader in disk.find(&id(primary)).await {
            assert_eq!(reader.primary(), id(primary));
            let body = Bytes::from(body(&reader).await.expect("not damaged"));
            found.insert(reader.id(), (reader.meta().clone(), body));
        }
        let expect = model.iter().filter(|(own, _)| *own % 2 == primary);
        let expect: BTreeMap<_, _> = expect.map(|(own, object)| (id(*own), object.clone())).collect();
        assert!(found == expect, "{:?} {:?}", found.keys(), expect.keys());
    }
    let stats = disk.stats();
    assert_eq!((stats.objects, stats.damaged, stats.write_errors), (model.len(), 0, 0));
}

async fn play(acts: Vec<Act>) {
    let mut folder = tempfile::tempdir().expect("a folder");
    let mut disk = open(folder.path(), PLENTY).await;
    let mut model = Model::new();
    let mut held: Vec<(Reader, Bytes, Bytes)> = Vec::new();
    for act in acts {
        match act {
            Act::Begin(own, length) => {
                let mut writer = disk.begin_write(id(own % 2), id(own), b"begun").expect("a writer");
                assert!(writer.push(bytes(1, length)));
            }
            Act::Clear => {
                assert!(disk.clear().await);
                model.clear();
            }
            Act::Die => {
                folder = remains(folder.path());
                disk = open(folder.path(), PLENTY).await;
            }
            Act::Hold(own) => {
                if let (Some((meta, body)), Some(reader)) = (model.get(&own), disk.read(&id(own)).await) {
                    held.push((reader, meta.clone(), body.clone()));
                }
            }
            Act::Remeta(own, seed, length) => {
                let meta = bytes(seed, length);
                assert_eq!(disk.remeta(id(own), meta.clone()).await, model.contains_key(&own));
                model.entry(own).and_modify(|object| object.0 = meta);
            }
            Act::Remove(own) => {
                assert!(disk.remove(&id(own)).await);
                model.remove(&own);
            }
            Act::RemovePrimary(primary) => {
                assert!(disk.remove_primary(&id(primary)).await);
                model.retain(|own, _| own % 2 != primary);
            }
            Act::Restart => {
                disk.close().await;
                disk = open(folder.path(), PLENTY).await;
            }
            Act::Store(own, seed, meta, length) => {
                let (meta, body) = (bytes(seed, meta), bytes(seed ^ 1, length));
                assert!(store(&disk, own % 2, own, &meta, &body, 1 + body.len() / 3).await);
                model.insert(own, (meta, body));
            }
        }
        check(&disk, &model).await;
    }
    for (reader, meta, expect) in held {
        assert_eq!(reader.meta(), &meta);
        assert!(body(&reader).await.expect("what is held stays") == expect);
    }
    drop(disk);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, ..ProptestConfig::default() })]
    #[test]
    fn the_tier_is_a_map_through_any_operations_restarts_and_deaths(acts in acts()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(play(acts));
    }
}
