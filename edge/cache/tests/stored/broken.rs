//! A disk that is damaged, full or gone costs hits and nothing else.

use std::path::Path;

use eyot_cache::disk::{CHUNK, Options};

use crate::tool::{DAY, NOW_MS, Up, bytes, files, node, node_with};

const MEMORY: u64 = 64 << 20;

/// Turns a bit of the only object in the place where `needle` stands, which is of its body.
fn damage(folder: &Path, needle: &[u8]) {
    let all = files(&folder.join("disk/objects"));
    assert_eq!(all.len(), 1);
    let mut file = std::fs::read(&all[0]).expect("a file");
    let at = file.windows(needle.len()).position(|window| window == needle).expect("it is there");
    file[at] ^= 1;
    std::fs::write(&all[0], file).expect("written");
}

#[tokio::test]
async fn a_small_body_with_a_wrong_bit_anywhere_is_not_found() {
    for at in [0, 500, CHUNK + 5, 199_990] {
        let folder = tempfile::tempdir().expect("a folder");
        let up = Up::new(DAY, &bytes(1, 200_000));
        let first = node(folder.path(), MEMORY).await;
        assert!(first.get(&up, "/").await.is(&up.body));
        first.until(|stats| stats.objects == 1).await;
        first.close().await;
        damage(folder.path(), &up.body[at..at + 10]);
        let second = node(folder.path(), MEMORY).await;
        assert!(second.get(&up, "/").await.is(&up.body));
        assert_eq!((up.asked(), second.disk.stats().damaged), (2, 1), "{at}");
    }
}

#[tokio::test]
async fn a_large_body_with_a_wrong_bit_ends_with_an_error_behind_right_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let up = Up::new(DAY, &bytes(1, 3_000_000));
    let first = node(folder.path(), 1 << 20).await;
    assert!(first.get(&up, "/").await.is(&up.body));
    first.until(|stats| stats.objects == 1).await;
    first.close().await;
    damage(folder.path(), &up.body[10 * CHUNK + 100..10 * CHUNK + 110]);
    let second = node(folder.path(), 1 << 20).await;
    let before = second.get_of("shop", &up, "/", &[("range", "bytes=0-655359")]).await;
    assert!(before.is(&up.body[..10 * CHUNK]), "what is before it is right");
    let got = second.get(&up, "/").await;
    assert_eq!(got.end, Err(eyot_plan::fault::Code::InternalError));
    assert!(got.body == up.body[..10 * CHUNK] && up.asked() == 1);
    assert!(second.get(&up, "/").await.is(&up.body));
    assert_eq!((up.asked(), second.disk.stats().damaged), (2, 1));
}

#[tokio::test]
async fn a_file_whose_meta_is_of_another_body_is_not_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let up = Up::new(DAY, &bytes(1, 1000));
    let first = node(folder.path(), MEMORY).await;
    assert!(first.get(&up, "/").await.is(&up.body));
    first.until(|stats| stats.objects == 1).await;
    first.close().await;
    // The same meta beside another body, under the same names.
    let second = node(folder.path(), MEMORY).await;
    let key = {
        let uri: http::Uri = "https://a.test/".parse().expect("a URI");
        let (environment, class) = ("production", eyot_plan::cache::key::Class::Route);
        let place = eyot_plan::cache::key::Place { app: "shop", environment, class, maker: "" };
        eyot_plan::cache::key::id(&eyot_plan::cache::key::bytes(&place, &uri, &Default::default(), &Default::default()))
    };
    let primary = key.to_be_bytes();
    let reader = second.disk.find(&primary).await.pop().expect("an object");
    let meta = reader.meta().clone();
    let mut writer = second.disk.begin_write(primary, reader.id(), &meta).expect("a writer");
    assert!(writer.push(bytes(2, 1000)));
    assert!(writer.finish(meta).await);
    assert!(second.get(&up, "/").await.is(&up.body));
    assert_eq!(up.asked(), 2);
}

#[tokio::test]
async fn a_disk_that_takes_nothing_or_is_closed_only_costs_hits() {
    let folder = tempfile::tempdir().expect("a folder");
    let tiny = Options { object_bytes_max: 10, ..Options::new(1 << 20) };
    let first = node_with(folder.path(), 1 << 20, tiny, NOW_MS).await;
    for length in [20, 300_000] {
        let up = Up::new(DAY, &bytes(1, length));
        let path = format!("/{length}");
        for round in 1..4 {
            assert!(first.get(&up, &path).await.is(&up.body));
            assert_eq!(up.asked(), if length == 20 { 1 } else { round });
        }
    }
    assert_eq!(first.disk.stats().objects, 0);
    first.disk.close().await;
    let up = Up::new(DAY, &bytes(1, 1000));
    for _ in 0..2 {
        assert!(first.get(&up, "/").await.is(&up.body));
    }
    assert_eq!(up.asked(), 1);
}
