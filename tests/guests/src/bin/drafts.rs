//! Asks for its configuration, and logs, by the names that these interfaces had in earlier drafts.

wit_bindgen::generate!({
    inline: "
        package guests:drafts;
        world drafts {
            import wasi:config/runtime@0.2.0-draft;
            import wasi:config/store@0.2.0-draft-2024-09-27;
            import wasi:logging/logging;
        }

        package wasi:config@0.2.0-draft {
            interface runtime {
                variant config-error { upstream(string), io(string) }
                get: func(key: string) -> result<option<string>, config-error>;
                get-all: func() -> result<list<tuple<string, string>>, config-error>;
            }
        }

        package wasi:config@0.2.0-draft-2024-09-27 {
            interface store {
                variant error { upstream(string), io(string) }
                get: func(key: string) -> result<option<string>, error>;
                get-all: func() -> result<list<tuple<string, string>>, error>;
            }
        }

        package wasi:logging {
            interface logging {
                enum level { trace, debug, info, warn, error, critical }
                log: func(level: level, context: string, message: string);
            }
        }
    ",
    world: "guests:drafts/drafts",
    generate_all,
});

use wasi::config0_2_0_draft::runtime;
use wasi::config0_2_0_draft_2024_09_27::store;
use wasi::logging::logging;

guests::guest!(|_request, out| {
    logging::log(logging::Level::Critical, "drafts", "it works");
    let lines = format!("{:?}\n{:?}\n", runtime::get("mode"), store::get_all());
    guests::answer(out, 200, &[], lines.as_bytes());
});
