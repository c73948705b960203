//! What the disk tier takes of a machine: `cargo bench -p eyot-cache --bench disk [-- <folder>]`, with the folder on the
//! file system to measure. CPU is that of the whole process, the kernel's part included; reads are of what the page cache
//! has, but for those that say so. The figures stand in `docs/decisions/0027-objects-as-files.md`.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use eyot_cache::disk::{CHUNK, Disk, Id, Options};
use rustix::time::{ClockId, clock_gettime};

/// How many small objects there are, and how many bytes they have.
const SMALL: u64 = 50_000;
const SMALL_BYTES: usize = 2000;
/// The same of large ones.
const LARGE: u64 = 8;
const LARGE_BYTES: usize = 128 << 20;
const META_BYTES: usize = 500;

fn id(number: u64) -> Id {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut id = [0; 16];
    id[..8].copy_from_slice(&mixed.to_le_bytes());
    id[8..].copy_from_slice(&number.to_le_bytes());
    id
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Prints what each of `count` things took, and the rate of `bytes`.
struct Row(Instant, Duration);

impl Row {
    fn begin() -> Self {
        Self(Instant::now(), cpu())
    }

    #[expect(clippy::cast_precision_loss, reason = "a figure to read")]
    fn end(self, what: &str, count: u64, bytes: u64) {
        let (wall, cpu) = (self.0.elapsed().as_secs_f64(), (cpu() - self.1).as_secs_f64());
        let (count, gib) = (count as f64, bytes as f64 / f64::from(1 << 30));
        println!(
            "{what:44} {:9.1} us {:9.1} us CPU each {:8.2} GiB/s {:6.2} s CPU a GiB",
            wall * 1e6 / count,
            cpu * 1e6 / count,
            gib / wall,
            cpu / gib,
        );
    }
}

async fn write(disk: &Disk, number: u64, body: &Bytes) -> bool {
    let meta = Bytes::from_static(&[b'm'; META_BYTES]);
    loop {
        let Some(mut writer) = disk.begin_write(id(number), id(number), &meta) else {
            tokio::task::yield_now().await;
            continue;
        };
        let mut rest = body.clone();
        while !rest.is_empty() {
            writer.ready().await;
            writer.push(rest.split_to(CHUNK.min(rest.len())));
        }
        return writer.finish(meta).await;
    }
}

async fn read(disk: &Disk, number: u64) -> u64 {
    let mut bytes = 0;
    for reader in disk.find(&id(number)).await {
        for chunk in 0..reader.chunks() {
            bytes += reader.chunk(chunk).await.map_or(0, |chunk| chunk.len() as u64);
        }
    }
    bytes
}

async fn write_all(disk: &Disk, numbers: std::ops::Range<u64>, body: &Bytes) {
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let (disk, body, numbers) = (disk.clone(), body.clone(), numbers.clone());
            tokio::spawn(async move {
                for number in numbers.skip(task).step_by(8) {
                    assert!(write(&disk, number, &body).await);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("written");
    }
}

async fn read_all(disk: &Disk, numbers: std::ops::Range<u64>) -> u64 {
    let mut bytes = 0;
    for number in numbers {
        bytes += read(disk, number).await;
    }
    bytes
}

/// Reads that are not answered from memory: the page cache lets go of what is clean.
fn forget() -> bool {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

#[tokio::main]
async fn main() {
    let folder =
        std::env::args().nth(1).filter(|word| !word.starts_with('-')).map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(folder).expect("a folder");
    let open =
        || Disk::open(folder.path().to_path_buf(), Options { object_bytes_max: 1 << 40, ..Options::new(64 << 30) });
    let disk = open().await.expect("opened");
    let (small, large) = (Bytes::from(vec![b's'; SMALL_BYTES]), Bytes::from(vec![b'l'; LARGE_BYTES]));

    let row = Row::begin();
    write_all(&disk, 0..SMALL, &small).await;
    row.end("write 2 KB", SMALL, SMALL * SMALL_BYTES as u64);
    let row = Row::begin();
    let bytes = read_all(&disk, 0..SMALL).await;
    row.end("read 2 KB", SMALL, bytes);
    let row = Row::begin();
    for number in SMALL..2 * SMALL {
        assert!(disk.find(&id(number)).await.is_empty());
    }
    row.end("find nothing", SMALL, 1 << 30);
    let row = Row::begin();
    for number in 0..SMALL / 10 {
        assert!(disk.remeta(id(number), Bytes::from_static(&[b'n'; META_BYTES])).await);
    }
    row.end("another meta", SMALL / 10, 1 << 30);

    let numbers = 10 * SMALL..10 * SMALL + LARGE;
    let row = Row::begin();
    write_all(&disk, numbers.clone(), &large).await;
    row.end("write 128 MiB", LARGE, LARGE * LARGE_BYTES as u64);
    let row = Row::begin();
    let bytes = read_all(&disk, numbers.clone()).await;
    row.end("read 128 MiB", LARGE, bytes);
    if forget() {
        let row = Row::begin();
        let bytes = read_all(&disk, 0..2000).await;
        row.end("read 2 KB from the device", 2000, bytes);
        let row = Row::begin();
        let bytes = read_all(&disk, numbers).await;
        row.end("read 128 MiB from the device", LARGE, bytes);
    }

    disk.close().await;
    let cold = forget();
    let row = Row::begin();
    let disk = open().await.expect("opened");
    while disk.stats().recovering {
        tokio::task::yield_now().await;
    }
    row.end(if cold { "recover an object, from the device" } else { "recover an object" }, SMALL + LARGE, 1 << 30);
    let row = Row::begin();
    assert!(disk.clear().await);
    row.end("clear", 1, 1 << 30);
    println!("{} bytes of memory in all, {:?}", resident(), disk.stats());
}
