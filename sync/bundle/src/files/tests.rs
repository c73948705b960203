//! Tests of packed folders.

use proptest::prelude::*;

use super::*;

type Files = BTreeMap<String, BTreeMap<Encoding, Vec<u8>>>;
type Written<'a> = (&'a str, &'a [(Encoding, &'a [u8])]);
type Change<'a> = (&'a str, &'a dyn Fn(&mut Vec<u8>));

fn folder(files: &[Written<'_>]) -> Files {
    let variants = |variants: &[(Encoding, &[u8])]| variants.iter().map(|(at, bytes)| (*at, bytes.to_vec())).collect();
    files.iter().map(|(path, all)| ((*path).to_owned(), variants(all))).collect()
}

fn index(tar: &[u8]) -> Result<Index, Error> {
    Index::read(tar.len() as u64, |at| {
        let at = usize::try_from(at).expect("small");
        Ok(tar[at..at + BLOCK_BYTES].try_into().expect("a block"))
    })
}

fn unpacked(tar: &[u8]) -> Files {
    let index = index(tar).expect("a good archive");
    let place = |at: u64| usize::try_from(at).expect("small");
    let bytes = |it: &Variant| tar[place(it.offset)..place(it.offset + it.size)].to_vec();
    let file =
        |(path, all): (&str, &[Variant])| (path.to_owned(), all.iter().map(|it| (it.encoding, bytes(it))).collect());
    index.files().map(file).collect()
}

fn example() -> Files {
    let long = format!("{}/{}/x.js", "d".repeat(90), "e".repeat(90));
    folder(&[
        ("index.html", &[(Encoding::Identity, b"<html>"), (Encoding::Br, b"b"), (Encoding::Gzip, b"gz")]),
        ("a b/\u{e9}.txt", &[(Encoding::Identity, &[7; 1024])]),
        ("empty", &[(Encoding::Identity, b"")]),
        (&long, &[(Encoding::Identity, b"1"), (Encoding::Zstd, b"2")]),
    ])
}

#[test]
fn what_was_packed_is_found_and_the_same_folder_makes_the_same_bytes() {
    let tar = pack(&example()).expect("packed");
    assert_eq!(tar.len() % BLOCK_BYTES, 0);
    assert_eq!(unpacked(&tar), example());
    assert_eq!(tar, pack(&example()).expect("packed"));
    let variants =
        index(&tar).expect("good").get("index.html").expect("there").iter().map(|it| it.encoding).collect::<Vec<_>>();
    assert_eq!(variants, [Encoding::Br, Encoding::Gzip, Encoding::Identity]);
}

#[test]
fn any_tool_reads_it() {
    let folder = std::env::temp_dir().join(format!("eyot-tar-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("files.tar"), pack(&example()).expect("packed")).expect("written");
    let listed = std::process::Command::new("tar")
        .args(["-tf", "files.tar", "--quoting-style=literal"])
        .current_dir(&folder)
        .output();
    std::fs::remove_dir_all(&folder).expect("removed");
    let Ok(listed) = listed else { return };
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let lines = String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines.len(), 7);
    assert!(
        lines.contains(&"br/index.html".to_owned()) && lines.contains(&"identity/a b/\u{e9}.txt".to_owned()),
        "{lines:?}"
    );
}

#[test]
fn what_cannot_be_shipped_is_refused_by_its_name() {
    let plain: &[(Encoding, &[u8])] = &[(Encoding::Identity, b"x")];
    let (long, segment) = ("a/".repeat(120) + "b", "s".repeat(101));
    for bad in ["", "/a", "a//b", "../a", "a/..", "./a", "a\\b", "a\0", "a\nb", &long, &segment] {
        assert!(pack(&folder(&[(bad, plain)])).is_err(), "{bad}");
    }
    let only = pack(&folder(&[("a", &[(Encoding::Br, b"x")])])).map_err(|error| error.to_string());
    assert_eq!(only, Err("`a` is not there as it is".to_owned()));
    assert!(pack(&Files::new()).is_err());
    let many: Files =
        (0..=COUNT_MAX).map(|at| (at.to_string(), BTreeMap::from([(Encoding::Identity, Vec::new())]))).collect();
    assert!(pack(&many).is_err_and(|error| error.to_string().contains("20001 files")));
}

#[test]
fn only_what_is_packed_here_is_read() {
    let good = pack(&example()).expect("packed");
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut tar = good.clone();
        change(&mut tar);
        index(&tar)
    };
    let table: [Change<'_>; 8] = [
        ("a symlink", &|tar| tar[156] = b'2'),
        ("a folder", &|tar| tar[156] = b'5'),
        ("an owner", &|tar| tar[114] = b'1'),
        ("a time", &|tar| tar[146] = b'1'),
        ("another sum", &|tar| tar[150] ^= 1),
        ("a name that was changed", &|tar| tar[0] = b'x'),
        ("a size beyond its end", &|tar| tar[124] = b'7'),
        ("no end", &|tar| tar.truncate(tar.len() - 2 * BLOCK_BYTES)),
    ];
    for (what, change) in table {
        assert!(changed(change).is_err(), "{what}");
    }
    let mut again = good[..good.len() - 2 * BLOCK_BYTES].to_vec();
    again.extend_from_slice(&good);
    assert!(index(&again).is_err(), "twice the same");
    assert!(index(&[0; 1024]).is_err(), "nothing");
    assert!(index(b"").is_err());
}

proptest! {
    #[test]
    fn no_bytes_are_read_beyond_their_end(
        at in 0usize..4096, byte in any::<u8>(), cut in 0usize..4096,
    ) {
        let mut tar = pack(&example()).expect("packed");
        let at = at % tar.len();
        tar[at] = byte;
        tar.truncate(tar.len() - cut % tar.len());
        if let Ok(index) = index(&tar) {
            for (_, variants) in index.files() {
                prop_assert!(variants.iter().all(|it| it.offset + it.size <= tar.len() as u64));
            }
        }
    }
}
