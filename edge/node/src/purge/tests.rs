//! What a node does with purges: a parent's, an operator's, a function's.

use eyot_cache::purges::{Born, Verdict};

use super::*;

fn purger(folder: Option<PathBuf>) -> Arc<Purger> {
    let purger = Purger::new(None, folder, Arc::new(Telemetry::new()), Arc::default());
    assert!(purger.take_up().is_ok());
    Arc::new(purger)
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn judge(purger: &Purger, app: &str, born: Born, url: &str, key: &str) -> Verdict {
    let url = Hash::url(app, &url.parse().expect("a URL"));
    purger.purges.judge(app, born, url, &[Hash::key(app, key)], now_ms())
}

fn told(n: u64, purges: &str, missed: bool) -> Told {
    let purges = serde_json::from_str(purges).expect("purges");
    Told { purges, log: format!("{:032x}", 7), n, missed, more: false }
}

const URL: &str = "https://shop.example.com/a?b=1";

#[test]
fn what_a_parent_tells_is_judged_by_its_kind_and_is_known_after_a_restart_with_how_far_it_went() {
    // What is told, and what becomes of `URL` with the key `k` of two apps.
    for (purges, missed, shop, other) in [
        (r#"[{"n":5,"app":"shop","kind":"key","value":"k"}]"#, false, Verdict::Gone, Verdict::Fresh),
        (r#"[{"n":5,"app":"shop","kind":"key","value":"k","soft":true}]"#, false, Verdict::Stale, Verdict::Fresh),
        (r#"[{"n":5,"app":"shop","kind":"key","value":"l"}]"#, false, Verdict::Fresh, Verdict::Fresh),
        (
            r#"[{"n":5,"app":"shop","kind":"url","value":"HTTPS://SHOP.example.com:443/x/../%61?b=1"}]"#,
            false,
            Verdict::Gone,
            Verdict::Fresh,
        ),
        (
            r#"[{"n":5,"app":"shop","kind":"url","value":"https://shop.example.com/a"}]"#,
            false,
            Verdict::Fresh,
            Verdict::Fresh,
        ),
        (r#"[{"n":5,"app":"shop","kind":"url","value":"https://127.1/"}]"#, false, Verdict::Fresh, Verdict::Fresh),
        (r#"[{"n":5,"app":"shop","kind":"app"}]"#, false, Verdict::Gone, Verdict::Fresh),
        (r#"[{"n":5,"app":"shop","kind":"app","missed":true}]"#, false, Verdict::Doubted, Verdict::Fresh),
        ("[]", true, Verdict::Doubted, Verdict::Doubted),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let before = purger(Some(folder.path().to_owned()));
        let born = before.purges.now(now_ms());
        assert_eq!(before.since(), None);
        before.told(&told(5, purges, missed)).expect("a disk");
        before.purges.let_go();
        let after = purger(Some(folder.path().to_owned()));
        for purger in [&before, &after] {
            let verdicts = (judge(purger, "shop", born, URL, "k"), judge(purger, "other", born, URL, "k"));
            assert_eq!(verdicts, (shop, other), "{purges}");
            assert_eq!(purger.since(), Some(Since { log: format!("{:032x}", 7), n: 5 }));
        }
    }
}

#[tokio::test]
async fn what_a_function_purges_holds_here_also_when_no_parent_hears_of_it_which_it_is_told() {
    let purger = purger(None);
    let born = purger.purges.now(now_ms());
    let request = |value: &str| PurgeRequest { kind: Kind::Key, value: value.to_owned(), soft: false };
    let sent = purger.everywhere(&name("shop"), request("k")).await;
    assert!(matches!(sent, Err(Unsent::Parent(_))), "{sent:?}");
    assert_eq!(judge(&purger, "shop", born, URL, "k"), Verdict::Gone);
    assert_eq!(judge(&purger, "other", born, URL, "k"), Verdict::Fresh);
    let bad = PurgeRequest { kind: Kind::Url, ..request("https://127.1/") };
    assert!(matches!(purger.everywhere(&name("shop"), bad).await, Err(Unsent::NoUrl(_))));
}

#[tokio::test(start_paused = true)]
async fn functions_of_an_app_purge_a_hundred_times_at_once_and_then_ten_times_a_second() {
    let purger = purger(None);
    let taken = |app: &str, most: usize| (0..most).take_while(|_| purger.has_room(&name(app))).count();
    assert_eq!(taken("shop", 1_000), 100);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!((taken("shop", 1_000), taken("other", 1_000)), (10, 100));
}

#[test]
fn a_purge_that_was_this_nodes_own_is_not_done_again_when_its_parent_tells_it() {
    let purger = purger(None);
    purger.own().insert(5);
    let born = purger.purges.now(now_ms());
    let line = r#"[{"n":5,"app":"shop","kind":"key","value":"k"}]"#;
    purger.told(&told(5, line, false)).expect("no disk");
    assert_eq!(judge(&purger, "shop", born, URL, "k"), Verdict::Fresh);
    purger.told(&told(6, &line.replace('5', "6"), false)).expect("no disk");
    assert_eq!(judge(&purger, "shop", born, URL, "k"), Verdict::Gone);
}
