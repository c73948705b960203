//! The servers of one upstream as a node sees them: how each stands, how much is under way, and what is left of retries.

use eyot_bundle::release::upstream::{Balance, Health as Probes, Passive, Upstream};

use super::balance::{self, Candidate};
use super::breaker::Breaker;
use super::budget::Budget;
use super::health::{Health, Outcome, Standing};

/// The servers of an upstream.
#[derive(Clone, Debug)]
pub struct Servers {
    balance: Balance,
    passive: Passive,
    probes: Option<Probes>,
    slow_start_ms: u64,
    servers: Vec<Server>,
    /// The purses of turns.
    turns: Vec<i64>,
    breaker: Option<Breaker>,
    budget: Budget,
    /// Counts the choices.
    choices: u64,
}

#[derive(Clone, Debug)]
struct Server {
    origin: String,
    seed: u64,
    weight: u64,
    health: Health,
    under_way: u32,
    chosen_at: u64,
}

/// What a choice depends on.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Now.
    pub now_ms: u64,
    /// A random number.
    pub random: u64,
    /// What the request hashes to: [`super::key`].
    pub key: u64,
    /// The servers it was tried at before.
    pub tried: &'a [usize],
}

/// A server that was chosen: one more is under way at it, until [`Servers::ended`] takes this back.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "what is under way must end"]
pub struct Chosen {
    /// Its place among the servers of the release.
    pub server: usize,
    /// Whether it shows a breaker how things are.
    is_trial: bool,
}

/// Why no server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// Probes found all of them down.
    Down,
    /// Too many tries failed of late; ask again in so many milliseconds.
    Open(u64),
    /// All that may be asked were tried.
    Tried,
}

impl Servers {
    /// The servers of `upstream`, all taken for healthy.
    pub fn new(upstream: &Upstream, now_ms: u64) -> Self {
        let weight = |at: usize| u64::from(upstream.weights.get(at).copied().unwrap_or(1));
        let server = |(at, origin): (usize, &String)| Server {
            seed: balance::key(origin.as_bytes()),
            origin: origin.clone(),
            weight: weight(at),
            health: Health::new(None),
            under_way: 0,
            chosen_at: 0,
        };
        Self {
            balance: upstream.balance,
            passive: upstream.passive,
            probes: upstream.health.clone(),
            slow_start_ms: upstream.slow_start_ms,
            servers: upstream.servers.iter().enumerate().map(server).collect(),
            turns: vec![0; upstream.servers.len()],
            breaker: upstream.breaker.map(Breaker::new),
            budget: Budget::new(upstream.retries.budget_percent, now_ms),
            choices: 0,
        }
    }

    /// Takes over what `before` knew: of servers that both have, and of retries. What is new starts slowly.
    pub fn inherit(&mut self, before: &Self, now_ms: u64) {
        for server in &mut self.servers {
            let known = before.servers.iter().find(|known| known.origin == server.origin);
            server.health = known.map_or_else(|| Health::new(Some(now_ms)), |known| known.health.clone());
            if self.probes.is_none() || self.probes != before.probes {
                server.health.unprobed();
            }
        }
        self.budget = before.budget.clone().with_percent_of(&self.budget);
    }

    /// A request begins.
    pub fn begins(&mut self) {
        self.budget.earn();
    }

    /// Whether one more try is within the budget; it is drawn.
    pub fn retries(&mut self, now_ms: u64) -> bool {
        self.budget.draw(now_ms)
    }

    /// Chooses a server.
    ///
    /// # Errors
    /// Why there is none.
    pub fn choose(&mut self, ask: &Ask<'_>) -> Result<Chosen, Unavailable> {
        let candidates = self.candidates(ask)?;
        let is_trial = self.breaker.as_mut().map_or(Ok(false), |it| it.admit(ask.now_ms)).map_err(Unavailable::Open)?;
        let server = match self.balance {
            Balance::Failover => candidates.iter().map(|it| it.server).min(),
            Balance::Hash => balance::hashed(&candidates, ask.key),
            Balance::LeastRequests => balance::least_requests(&candidates, ask.random),
            Balance::Weighted => balance::weighted(&candidates, &mut self.turns),
        };
        let server = server.ok_or(Unavailable::Tried)?;
        self.choices += 1;
        self.servers[server].chosen_at = self.choices;
        self.servers[server].under_way += 1;
        Ok(Chosen { server, is_trial })
    }

    /// Those that may be asked: the best that are not tried yet. Where requests have taken out all that probes let, they
    /// are asked all the same: what requests met is a guess, and a guess does not end an upstream.
    fn candidates(&self, ask: &Ask<'_>) -> Result<Vec<Candidate>, Unavailable> {
        let standing = |server: &Server| server.health.standing(ask.now_ms, server.under_way);
        let best = self.servers.iter().map(standing).min().unwrap_or(Standing::Down);
        if best == Standing::Down {
            return Err(Unavailable::Down);
        }
        let most = best.max(Standing::Shaken);
        let open = self.servers.iter().enumerate().map(|(at, server)| (at, server, standing(server)));
        let open: Vec<_> = open.filter(|(at, _, it)| *it <= most && !ask.tried.contains(at)).collect();
        let best = open.iter().map(|(_, _, standing)| *standing).min().ok_or(Unavailable::Tried)?;
        let candidate = |(at, server, _): &(usize, &Server, Standing)| Candidate {
            server: *at,
            weight: server.weight * server.health.ramp(ask.now_ms, self.slow_start_ms),
            under_way: server.under_way,
            chosen_at: server.chosen_at,
            seed: server.seed,
        };
        Ok(open.iter().filter(|(_, _, standing)| *standing == best).map(candidate).collect())
    }

    /// What was under way at a chosen server has ended.
    #[expect(clippy::needless_pass_by_value, reason = "it ends once")]
    pub fn ended(&mut self, chosen: Chosen, now_ms: u64, outcome: Outcome) {
        if let Some(breaker) = &mut self.breaker {
            breaker.ended(now_ms, chosen.is_trial, outcome.failed());
        }
        if let Some(server) = self.servers.get_mut(chosen.server) {
            server.under_way = server.under_way.saturating_sub(1);
            server.health.ended(self.passive, now_ms, outcome);
        }
    }

    /// A probe of a server has ended.
    pub fn probed(&mut self, server: usize, now_ms: u64, is_good: bool) {
        if let (Some(server), Some(probes)) = (self.servers.get_mut(server), &self.probes) {
            server.health.probed(probes, now_ms, is_good);
        }
    }

    /// Each server and whether it is healthy.
    pub fn healthy(&self) -> impl Iterator<Item = (&str, bool)> {
        self.servers.iter().map(|server| (server.origin.as_str(), server.health.is_healthy()))
    }
}

#[cfg(test)]
mod tests;
