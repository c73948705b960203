//! Does what the lines of its request's body say, with what a node gives beside WASI's own interfaces, and answers a line
//! for each: `open shop`, `set cart 7`, `swap 8`, `config mode`, `secret key`, `rate 10 60000 user`.

use std::fmt::Debug;

wit_bindgen::generate!({
    path: "../../functions/wit",
    inline: "
        package guests:given;
        world given {
            include wasi:keyvalue/imports@0.2.0-draft2;
            include wasi:config/imports@0.2.0-rc.1;
            include wasi:logging/imports@0.1.0-draft;
            include eyot:edge/imports@0.1.0;
        }
    ",
    world: "guests:given/given",
    generate_all,
});

use eyot::edge::{budget, cache, client, here, objects, rate_limit, secrets};
use wasi::keyvalue::{atomics, batch, store};
use wasi::logging::logging;

/// What was opened so far.
#[derive(Default)]
struct Hands {
    buckets: Vec<store::Bucket>,
    cas: Vec<atomics::Cas>,
    objects: Vec<objects::Object>,
    slots: Vec<objects::Slot>,
    writers: Vec<objects::Writer>,
}

guests::guest!(|request: wasip2::http::types::IncomingRequest, out| {
    let mut body = Vec::new();
    guests::copy(request.consume().expect("taken once"), |piece| body.extend_from_slice(piece));
    let (mut hands, mut lines) = (Hands::default(), String::new());
    for line in String::from_utf8(body).expect("text").lines() {
        let words: Vec<_> = line.split(' ').collect();
        lines.push_str(&hands.obey(words[0], &words[1..]));
        lines.push('\n');
    }
    guests::answer(out, 200, &[], lines.as_bytes());
});

/// What came of it, as a line.
fn told<T: Debug, E: Debug>(result: Result<T, E>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("failed: {error:?}"),
    }
}

fn text(bytes: Vec<u8>) -> String {
    if bytes.len() > 64 { format!("{} bytes", bytes.len()) } else { String::from_utf8(bytes).expect("text") }
}

fn many(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// `12*4` is a value of four times `12`, other words are themselves.
fn value(word: &str) -> Vec<u8> {
    match word.split_once('*') {
        Some((text, count)) => text.repeat(count.parse().expect("a count")).into_bytes(),
        None => word.as_bytes().to_vec(),
    }
}

fn number<T: std::str::FromStr<Err: Debug>>(word: &str) -> T {
    word.parse().expect("a number")
}

impl Hands {
    fn bucket(&self) -> &store::Bucket {
        self.buckets.last().expect("a store is open")
    }

    fn obey(&mut self, verb: &str, words: &[&str]) -> String {
        match verb {
            "open" => told(store::open(words[0]).map(|bucket| self.buckets.push(bucket))),
            "close" => told::<_, ()>(Ok(self.buckets.clear())),
            "get" => told(self.bucket().get(words[0]).map(|value| value.map(text))),
            "set" => told(self.bucket().set(words[0], &value(words[1]))),
            "delete" => told(self.bucket().delete(words[0])),
            "exists" => told(self.bucket().exists(words[0])),
            "keys" => {
                let page = self.bucket().list_keys(words.first().copied());
                told(page.map(|page| (page.keys, page.cursor)))
            }
            "increment" => told(atomics::increment(self.bucket(), words[0], number(words[1]))),
            "cas" => told(atomics::Cas::new(self.bucket(), words[0]).map(|cas| self.cas.push(cas))),
            "current" => told(self.cas.last().expect("a handle").current().map(|value| value.map(text))),
            "swap" => match atomics::swap(self.cas.pop().expect("a handle"), &value(words[0])) {
                Ok(()) => "swapped".to_owned(),
                Err(atomics::CasError::CasFailed(cas)) => {
                    self.cas.push(cas);
                    "changed meanwhile".to_owned()
                }
                Err(atomics::CasError::StoreError(error)) => format!("failed: {error:?}"),
            },
            "get-many" => {
                let found = batch::get_many(self.bucket(), &many(words));
                told(found.map(|found| found.into_iter().map(|it| it.map(|(key, value)| (key, text(value)))).collect::<Vec<_>>()))
            }
            "set-many" => {
                let pairs: Vec<_> = words.iter().filter_map(|word| word.split_once('=')).collect();
                let pairs: Vec<_> = pairs.iter().map(|(key, word)| ((*key).to_owned(), value(word))).collect();
                told(batch::set_many(self.bucket(), &pairs))
            }
            "delete-many" => told(batch::delete_many(self.bucket(), &many(words))),
            "config" => told(wasi::config::store::get(words[0])),
            "configs" => told(wasi::config::store::get_all()),
            "log" => told::<_, ()>(Ok(logging::log(level(words[0]), words[1], &words[2..].join(" ")))),
            "find" | "lookup" | "insert" | "write" | "finish" | "rest" | "give-up" | "forget" | "nap" | "take-out" => self.keep(verb, words),
            _ => edge(verb, words),
        }
    }

    /// Objects by names of its own: `lookup a` may give it the slot, and `insert 60000 0 metadata key`, `write text` and `finish`
    /// count only then.
    fn keep(&mut self, verb: &str, words: &[&str]) -> String {
        match verb {
            "find" => told(objects::find(words[0]).map(|found| found.map(|it| self.read(it))).map_err(|it| it.name())),
            "lookup" => {
                let found = objects::lookup(words[0]).map(|objects::Found { object, slot }| {
                    let has_slot = slot.is_some();
                    self.slots.extend(slot);
                    (object.map(|it| self.read(it)), has_slot)
                });
                told(found.map_err(|it| it.name()))
            }
            "insert" => {
                let keeping = objects::Keeping {
                    fresh_ms: number(words[0]),
                    stale_ms: number(words[1]),
                    metadata: words.get(2).map_or(Vec::new(), |word| value(word)),
                    keys: many(words.get(3..).unwrap_or_default()).into_iter().filter(|key| !key.starts_with("length=")).collect(),
                    length: words.iter().find_map(|word| word.strip_prefix("length=")).map(number),
                };
                let Some(slot) = self.slots.pop() else { return "no slot".to_owned() };
                told(objects::Slot::insert(slot, &keeping).map(|it| self.writers.push(it)).map_err(|it| it.name()))
            }
            "write" => match self.writers.last() {
                Some(writer) => told(writer.write(&value(words[0])).map_err(|it| it.name())),
                None => "no writer".to_owned(),
            },
            "finish" => match self.writers.pop() {
                Some(writer) => told(objects::Writer::finish(writer).map_err(|it| it.name())),
                None => "no writer".to_owned(),
            },
            "nap" if self.slots.is_empty() && self.writers.is_empty() => "no slot".to_owned(),
            "nap" => told::<_, ()>(Ok(guests::sleep_ms(number(words[0])))),
            "forget" => {
                self.slots.drain(..).for_each(std::mem::forget);
                self.writers.drain(..).for_each(std::mem::forget);
                "forgotten".to_owned()
            }
            "give-up" => told::<_, ()>(Ok((self.slots.clear(), self.writers.clear()))),
            "rest" => told::<_, ()>(Ok(self.objects.last().map(rest))),
            _ => told(objects::purge(words[0], words.contains(&"soft")).map_err(|it| it.name())),
        }
    }

    /// Its metadata, its length and its text.
    fn read(&mut self, object: objects::Object) -> String {
        let (metadata, length, left) = (text(object.metadata()), object.length(), object.left_ms());
        assert!(object.age_ms() < 3_600_000 && left < 3_600_000, "its times are of this test");
        let told = format!("{metadata} {length:?} {} {}", if left > 0 { "fresh" } else { "stale" }, rest(&object));
        self.objects.push(object);
        told
    }
}

/// What is still to be read of it.
fn rest(object: &objects::Object) -> String {
    let mut all = Vec::new();
    loop {
        match object.read(1000) {
            Ok(bytes) if bytes.is_empty() => return text(all),
            Ok(bytes) => all.extend(bytes),
            Err(error) => return format!("{} after {} bytes", error.name(), all.len()),
        }
    }
}

fn edge(verb: &str, words: &[&str]) -> String {
    match verb {
        "client" => format!("{:?}", client::current()),
        "geo" => format!("{:?}", client::geo()),
        "caller" => format!("{:?}", here::called_by()),
        "here" => format!("{:?}", here::current()),
        "left" => {
            let left = budget::left();
            format!("{} {} {} {}", left.cpu_us, left.subrequests, left.memory_bytes, left.wall_ms)
        }
        "spin" => {
            let sum = (0..number::<u64>(words[0])).fold(0, |sum: u64, count| std::hint::black_box(sum.wrapping_add(count)));
            guests::sleep_ms(1);
            format!("{}", sum > 0)
        }
        "secret" => told(secrets::get(words[0]).map(text).map_err(|error| error.name())),
        "rate" => {
            let cost = words.get(3).map_or(1, |cost| number(cost));
            let taken = rate_limit::take(words[2], number(words[0]), number(words[1]), cost);
            told(taken.map(|it| (it.allowed, it.remaining, it.reset_ms)).map_err(|error| error.name()))
        }
        "keys-of" => told(cache::add_keys(&many(words)).map_err(|error| error.name())),
        "keep" => told(cache::keep(number(words[0])).map_err(|error| error.name())),
        "purge" => {
            let what = match words[0] {
                "app" => cache::Target::App,
                "key" => cache::Target::Key(words[1].to_owned()),
                _ => cache::Target::Url(words[1].to_owned()),
            };
            told(cache::purge(&what, words.contains(&"soft")).map_err(|error| error.name()))
        }
        _ => panic!("{verb} is nothing it does"),
    }
}

fn level(word: &str) -> logging::Level {
    match word {
        "trace" => logging::Level::Trace,
        "debug" => logging::Level::Debug,
        "info" => logging::Level::Info,
        "warn" => logging::Level::Warn,
        "error" => logging::Level::Error,
        _ => logging::Level::Critical,
    }
}
