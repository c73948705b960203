//! How large a test run is: `EYOT_TESTS=quick` (the default) or `full`. A test never disappears and always asserts the
//! same; only the numbers of this table change.

use std::sync::OnceLock;

/// The numbers of one run.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "each binary of tests reads the numbers that are its own")]
pub(crate) struct Size {
    /// Calls at once of one app.
    pub crowd: usize,
    /// The large body that goes both ways, in bytes.
    pub body_bytes: usize,
    /// Where the node is killed in a pull.
    pub kill_points: usize,
    /// The ledger is cut off at each so manieth byte.
    pub ledger_cut_bytes: usize,
    /// Bits of the ledger that are flipped, one at a time.
    pub ledger_flips: usize,
    /// Requests while a release is published.
    pub publish_requests: usize,
    /// Calls of a neighbour beside each hostile guest.
    pub neighbour_calls: usize,
    /// Upgrades in a row.
    pub upgrades: usize,
    /// Reloads in a row under a real systemd; with 0 no machine is booted for it.
    pub reloads: usize,
    /// Browsers that open a page; with 0 none is fetched.
    pub browsers: usize,
    /// What an attack sends that is a matter of bytes.
    pub attack_bytes: usize,
    /// How often an attack of number is repeated, on a connection after the other.
    pub attack_rounds: usize,
    /// Connections at once that ask for nothing, or whose handshake goes no further.
    pub idle_connections: usize,
    /// First datagrams of handshakes that nothing follows.
    pub initials: usize,
    /// How often a node is killed while it keeps answers on disk.
    pub cache_kills: usize,
    /// Messages of a queue.
    pub messages: usize,
    /// Keys that are written to a store while its node is killed.
    pub writes: usize,
    /// Clients of each kind that are too slow.
    pub slow_clients: usize,
    /// Templates of `eyot new` that are built, in the order of what that takes.
    pub templates: usize,
    /// Seeds of the cache's simulation.
    pub simulations: u64,
    /// The seed of what is drawn by chance.
    pub seed: u64,
}

/// The numbers of this run; printed once.
pub(crate) fn size() -> Size {
    static SIZE: OnceLock<Size> = OnceLock::new();
    *SIZE.get_or_init(|| {
        let name = std::env::var("EYOT_TESTS").unwrap_or_else(|_| "quick".to_owned());
        let seed = seed();
        let size = match name.as_str() {
            "quick" => Size {
                crowd: 100,
                body_bytes: 8 << 20,
                kill_points: 12,
                ledger_cut_bytes: 7,
                ledger_flips: 1_000,
                publish_requests: 300,
                neighbour_calls: 20,
                upgrades: 2,
                reloads: 0,
                browsers: 0,
                attack_bytes: 16 << 20,
                attack_rounds: 2,
                idle_connections: 500,
                initials: 1_200,
                cache_kills: 3,
                messages: 500,
                writes: 30_000,
                slow_clients: 2,
                templates: 2,
                simulations: 2_000,
                seed,
            },
            "full" => Size {
                crowd: 200,
                body_bytes: 100 << 20,
                kill_points: 120,
                ledger_cut_bytes: 1,
                ledger_flips: 20_000,
                publish_requests: 5_000,
                neighbour_calls: 200,
                upgrades: 10,
                reloads: 5,
                browsers: 1,
                attack_bytes: 300 << 20,
                attack_rounds: 50,
                idle_connections: 5_000,
                initials: 8_000,
                cache_kills: 30,
                messages: 10_000,
                writes: 1_000_000,
                slow_clients: 16,
                templates: 5,
                simulations: 50_000,
                seed,
            },
            other => panic!("EYOT_TESTS is `{other}`; it is `quick` or `full`"),
        };
        println!("EYOT_TESTS={name}: {size:?}");
        size
    })
}

/// The commit's hash as a number, so that a run can be repeated; 1 outside a checkout.
fn seed() -> u64 {
    let head = std::process::Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    let text = head.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    u64::from_str_radix(&text, 16).unwrap_or(1)
}
