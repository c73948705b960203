//! The engine `redis`: Redis or Valkey. A value is a hash of the value and its revision; beside the values of a store stand
//! an index of its keys, one of their ends, and the counter of its revisions. What writes is a script, which runs whole.
//!
//! All names of a store begin with those of app and store behind their lengths, in braces, so that a cluster keeps them
//! together and no app can name another's.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo as _, RedisError, Script};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::ask::{Ask, Bound, Current, Given, PAGE_KEYS, Page, Said, Write};
use crate::error::Error;
use crate::stores::OpenError;

/// How long a connection may take to be made.
const CONNECTED_WITHIN: Duration = Duration::from_secs(2);
/// How long a server may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// After a connection failed, the next one is tried no sooner.
const RETRY_AFTER: Duration = Duration::from_millis(250);
/// What is under way at once.
const AT_ONCE_MAX: usize = 1_024;
/// Values that are read at once.
const GET_AT_ONCE: usize = 16;

/// The Redis or Valkey that the operator runs.
#[derive(Clone)]
pub struct Redis {
    /// Its URL: `redis://host:6379/0`, or `rediss://…` for TLS.
    pub url: String,
    /// The password of the user that the URL names, or of the default one.
    pub password: Option<String>,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A URL may hold a password.
        f.debug_struct("Redis").finish_non_exhaustive()
    }
}

/// The server.
pub(crate) struct Server {
    client: Client,
    connection: Mutex<Connection>,
    write: Script,
    swap: Script,
    increment: Script,
    page: Script,
}

/// One connection, which all share.
enum Connection {
    /// None since then.
    Failed(Instant),
    Never,
    There(MultiplexedConnection),
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

impl Server {
    pub(crate) fn new(redis: &Redis) -> Result<Self, OpenError> {
        let refuse = |_| OpenError("the URL of Redis is none: `redis://host:6379` or `rediss://…`".to_owned());
        let mut info = redis.url.as_str().into_connection_info().map_err(refuse)?;
        if let Some(password) = &redis.password {
            let settings = info.redis_settings().clone().set_password(password);
            info = info.set_redis_settings(settings);
        }
        let script = |body: &str| Script::new(&[include_str!("redis/prelude.lua"), body].concat());
        Ok(Self {
            client: Client::open(info).map_err(refuse)?,
            connection: Mutex::new(Connection::Never),
            write: script(include_str!("redis/write.lua")),
            swap: script(include_str!("redis/swap.lua")),
            increment: script(include_str!("redis/increment.lua")),
            page: script(include_str!("redis/page.lua")),
        })
    }

    pub(crate) async fn ask(&self, bound: &Bound, ask: Ask) -> Result<Said, Error> {
        let mut connection = self.connection().await?;
        match answer(self, &mut connection, bound, ask).await {
            Ok(said) => said,
            Err(error) => {
                tracing::warn!(%error, "Redis");
                if error.is_unrecoverable_error() || error.is_timeout() {
                    // The next one who asks makes another.
                    *self.connection.lock().await = Connection::Never;
                }
                Err(Error::unavailable("Redis is away, or does not do what it was asked"))
            }
        }
    }

    async fn connection(&self) -> Result<MultiplexedConnection, Error> {
        let mut connection = self.connection.lock().await;
        match &*connection {
            Connection::There(there) => return Ok(there.clone()),
            Connection::Failed(when) if when.elapsed() < RETRY_AFTER => {
                return Err(Error::unavailable("Redis is away"));
            }
            Connection::Failed(_) | Connection::Never => {}
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECTED_WITHIN))
            .set_response_timeout(Some(ANSWER_WITHIN))
            .set_concurrency_limit(AT_ONCE_MAX);
        match self.client.get_multiplexed_async_connection_with_config(&config).await {
            Ok(there) => {
                *connection = Connection::There(there.clone());
                Ok(there)
            }
            Err(error) => {
                tracing::warn!(%error, "Redis cannot be connected to");
                *connection = Connection::Failed(Instant::now());
                Err(Error::unavailable("Redis is away"))
            }
        }
    }
}

/// What everything of a store begins with.
fn prefix(bound: &Bound) -> String {
    let (app, store) = (bound.app.as_str(), bound.store.as_str());
    format!("eyot:{{{}:{app}:{}:{store}}}", app.len(), store.len())
}

async fn answer(
    server: &Server,
    connection: &mut MultiplexedConnection,
    bound: &Bound,
    ask: Ask,
) -> Result<Result<Said, Error>, RedisError> {
    let mut call = Call { connection, bound, prefix: prefix(bound) };
    match ask {
        Ask::Current(key) => call.current(&key).await.map(|current| Ok(Said::Current(current))),
        Ask::Exists(key) => call.exists(&key).await.map(|exists| Ok(Said::Exists(exists))),
        Ask::Get(keys) => call.get(&keys).await,
        Ask::Increment { key, delta } => {
            let said = call.run(&server.increment, &[&key], &[key.as_bytes(), delta.to_string().as_bytes()]).await?;
            Ok(summed(&said, bound))
        }
        Ask::Keys { cursor } => call.page(&server.page, cursor.as_deref()).await.map(|page| Ok(Said::Keys(page))),
        Ask::Swap { key, revision, value } => {
            let arguments = [key.as_bytes(), revision.to_string().as_bytes(), &value[..]].map(<[u8]>::to_vec);
            let arguments = arguments.each_ref().map(Vec::as_slice);
            Ok(done(&call.run(&server.swap, &[&key], &arguments).await?, bound).map(Said::Swapped))
        }
        Ask::Write(writes) => {
            let keys: Vec<_> = writes.iter().map(|write| write.key.as_str()).collect();
            let arguments: Vec<_> = writes.iter().flat_map(arguments).collect();
            Ok(done(&call.run(&server.write, &keys, &arguments).await?, bound).map(|_| Said::Done))
        }
    }
}

/// A key, what is done with it, and the value.
fn arguments(write: &Write) -> [&[u8]; 3] {
    match &write.value {
        Some(value) => [write.key.as_bytes(), b"set", value],
        None => [write.key.as_bytes(), b"delete", b""],
    }
}

/// Whether a script did what it was asked.
fn done(said: &[Bytes], bound: &Bound) -> Result<bool, Error> {
    match said.first().map(|word| &word[..]) {
        Some(b"done") => Ok(true),
        Some(b"other") => Ok(false),
        Some(b"full") => Err(Error::too_many_keys(bound.spec.keys_max)),
        _ => Err(Error::unavailable("Redis spoke of something else")),
    }
}

fn summed(said: &[Bytes], bound: &Bound) -> Result<Said, Error> {
    let text = said.get(1).map(|text| String::from_utf8_lossy(text)).unwrap_or_default();
    match said.first().map(|word| &word[..]) {
        Some(b"wrong") if text.contains("overflow") => Err(Error::overflow()),
        Some(b"wrong") => Err(Error::no_number()),
        _ => done(said, bound).and_then(|_| text.parse().map(Said::Sum).map_err(|_| Error::no_number())),
    }
}

/// One ask on its way.
struct Call<'a> {
    connection: &'a mut MultiplexedConnection,
    bound: &'a Bound,
    prefix: String,
}

impl Call<'_> {
    /// Where the value of a key is.
    fn at(&self, key: &str) -> String {
        format!("{}:v:{key}", self.prefix)
    }

    async fn current(&mut self, key: &str) -> Result<Current, RedisError> {
        let mut command = redis::cmd("HMGET");
        let at = self.at(key);
        let found: (Option<Bytes>, Option<u64>) =
            command.arg(at).arg("v").arg("r").query_async(self.connection).await?;
        Ok(match found {
            (Some(value), Some(revision)) => Current { value: Some(value), revision },
            _ => Current::default(),
        })
    }

    async fn exists(&mut self, key: &str) -> Result<bool, RedisError> {
        let at = self.at(key);
        redis::cmd("EXISTS").arg(at).query_async(self.connection).await
    }

    async fn get(&mut self, keys: &[String]) -> Result<Result<Said, Error>, RedisError> {
        let mut given = Given::default();
        // As many at once as there may be bytes of them.
        for keys in keys.chunks(GET_AT_ONCE) {
            let mut pipe = redis::pipe();
            for key in keys {
                pipe.cmd("HGET").arg(self.at(key)).arg("v");
            }
            let values: Vec<Option<Bytes>> = pipe.query_async(self.connection).await?;
            if let Some(error) = values.into_iter().find_map(|value| given.add(value).err()) {
                return Ok(Err(error));
            }
        }
        Ok(Ok(given.said()))
    }

    async fn page(&mut self, script: &Script, cursor: Option<&str>) -> Result<Page, RedisError> {
        let first = cursor.map_or_else(|| "-".to_owned(), |cursor| format!("({cursor}"));
        let (values, count) = (self.at(""), PAGE_KEYS.to_string());
        let said = self.run(script, &[], &[values.as_bytes(), first.as_bytes(), count.as_bytes()]).await?;
        let text = |word: &Bytes| String::from_utf8_lossy(word).into_owned();
        let mut said = said.iter().map(text);
        let (found, last) = (said.next().unwrap_or_default(), said.next().unwrap_or_default());
        let cursor = (found == count).then_some(last);
        Ok(Page { keys: said.collect(), cursor })
    }

    /// Runs a script over these keys.
    async fn run(&mut self, script: &Script, keys: &[&str], arguments: &[&[u8]]) -> Result<Vec<Bytes>, RedisError> {
        let mut call = script.prepare_invoke();
        for part in ["i", "e", "r"] {
            call.key(format!("{}:{part}", self.prefix));
        }
        for key in keys {
            call.key(self.at(key));
        }
        call.arg(self.bound.spec.keys_max).arg(self.bound.spec.ttl_ms.unwrap_or(0));
        for argument in arguments {
            call.arg(*argument);
        }
        call.invoke_async(self.connection).await
    }
}
